//! Opening places: one function each for what holds a repository, what is backed up, and where a
//! restore goes. Connectors are plugged in here and nowhere else.

use std::sync::Arc;

use holdfast_connectors::layers::limit::{LimitDestination, LimitSource, LimitStorage, Limits};
use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_connectors::local::storage::LocalStorage;
use holdfast_connectors::s3::destination::S3Destination;
use holdfast_connectors::s3::storage::S3Storage;
use holdfast_connectors::sftp::destination::SftpDestination;
use holdfast_connectors::sftp::storage::SftpStorage;
use holdfast_engine::destination::Destination;
use holdfast_engine::ops::backup::RootSource;
use holdfast_engine::storage::Storage;

use crate::access::Access;
use crate::location::absolute;
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};
use crate::{roots, s3, sftp};

/// What holds a repository's objects at `place`, with its limits. Nothing is read or written
/// yet.
pub fn open_storage(place: &Resolved, access: &Access) -> Result<Arc<dyn Storage>, Problem> {
    let storage: Arc<dyn Storage> = match &place.place {
        Place::Local(path) => Arc::new(LocalStorage::new(absolute(path))),
        Place::Sftp(at) => Arc::new(SftpStorage::new(sftp::pool(at, &place.options, access)?)),
        Place::S3(at) => Arc::new(S3Storage::new(s3::client(at, &place.options)?)),
        Place::Stream => return Err(place.refused("repository")),
    };
    let limits = limits(place);
    Ok(if limits.is_none() { storage } else { Arc::new(LimitStorage::new(storage, limits)) })
}

fn limits(place: &Resolved) -> Limits {
    Limits {
        upload: place.options.number("limit_upload"),
        download: place.options.number("limit_download"),
    }
}

/// What is backed up, beside the places themselves.
#[derive(Debug)]
pub struct SourceContext<'a> {
    /// What to leave out.
    pub options: &'a LocalSourceOptions,
    /// The repository, which is never backed up into itself.
    pub repository: Option<&'a Resolved>,
    /// How to get there.
    pub access: &'a Access,
}

/// A root to back up, and whose it is.
#[derive(Debug)]
pub struct OpenedSource {
    /// The root, with its path in the snapshot.
    pub root: RootSource,
    /// What kind of origin it is: "local", "sftp", "s3".
    pub kind: &'static str,
    /// The host that the snapshot names; `None` for this machine.
    pub host: Option<String>,
    /// What is worth saying about how the place was understood.
    pub note: Option<String>,
}

/// What is backed up at `place`, over a network with its limits. Local places go through
/// [`roots::plan`], which sees all of them at once.
pub fn open_source(place: &Resolved, context: &SourceContext<'_>) -> Result<OpenedSource, Problem> {
    let opened = match &place.place {
        Place::Sftp(at) => sftp::source(at, place, context)?,
        Place::S3(at) => s3::source(at, place, context)?,
        Place::Local(_) | Place::Stream => return open_local(place, context),
    };
    Ok(with_limits(opened, limits(place)))
}

fn open_local(place: &Resolved, context: &SourceContext<'_>) -> Result<OpenedSource, Problem> {
    let path = absolute(place.local("source")?);
    let root = roots::local_root(&path, &path, context.options)?;
    Ok(OpenedSource { root, kind: "local", host: None, note: None })
}

fn with_limits(mut opened: OpenedSource, limits: Limits) -> OpenedSource {
    if limits.download.is_some() {
        opened.root.source = Arc::new(LimitSource::new(opened.root.source, limits));
    }
    opened
}

/// Where a restore to `place` goes, over a network with its limits. Nothing is written yet.
pub fn open_destination(
    place: &Resolved,
    options: LocalDestinationOptions,
    access: &Access,
) -> Result<Box<dyn Destination>, Problem> {
    let remote: Box<dyn Destination> = match &place.place {
        Place::Sftp(at) => Box::new(SftpDestination::new(sftp::pool(at, &place.options, access)?)),
        Place::S3(at) => Box::new(S3Destination::new(s3::client(at, &place.options)?)),
        Place::Local(_) | Place::Stream => {
            let path = absolute(place.local("destination")?);
            return Ok(Box::new(LocalDestination::new(path, options)));
        }
    };
    let limits = limits(place);
    Ok(match limits.is_none() {
        true => remote,
        false => Box::new(LimitDestination::new(remote, limits)),
    })
}
