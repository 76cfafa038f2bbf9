//! Opening places: one function each for what holds a repository, what is backed up, and where a
//! restore goes. Connectors are plugged in here and nowhere else.

use std::sync::Arc;

use holdfast_connectors::layers::limit::{LimitStorage, Limits};
use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_connectors::local::storage::LocalStorage;
use holdfast_engine::destination::Destination;
use holdfast_engine::ops::backup::RootSource;
use holdfast_engine::storage::Storage;

use crate::access::Access;
use crate::location::absolute;
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};
use crate::roots;

/// What holds a repository's objects at `place`, with its limits. Nothing is read or written
/// yet.
pub fn open_storage(place: &Resolved, _access: &Access) -> Result<Arc<dyn Storage>, Problem> {
    let storage: Arc<dyn Storage> = match &place.place {
        Place::Local(path) => Arc::new(LocalStorage::new(absolute(path))),
        // What is not local is refused, with the reason.
        _ => Arc::new(LocalStorage::new(place.local("repository")?)),
    };
    let limits = Limits {
        upload: place.options.number("limit_upload"),
        download: place.options.number("limit_download"),
    };
    Ok(if limits.is_none() { storage } else { Arc::new(LimitStorage::new(storage, limits)) })
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
}

/// What is backed up at `place`. `options` say what to leave out. Local places go through
/// [`roots::plan`], which sees all of them at once.
pub fn open_source(
    place: &Resolved,
    options: &LocalSourceOptions,
    _access: &Access,
) -> Result<OpenedSource, Problem> {
    let path = absolute(place.local("source")?);
    let root = roots::local_root(&path, &path, options)?;
    Ok(OpenedSource { root, kind: "local", host: None })
}

/// Where a restore to `place` goes. Nothing is written yet.
pub fn open_destination(
    place: &Resolved,
    options: LocalDestinationOptions,
    _access: &Access,
) -> Result<Box<dyn Destination>, Problem> {
    let path = absolute(place.local("destination")?);
    Ok(Box::new(LocalDestination::new(path, options)))
}
