//! A tree, or a single file, of a server that speaks SFTP as a source. Requests for many entries
//! are under way at once, over all connections of the [`Pool`]; what fails because a connection
//! broke is asked again on another one.
//!
//! SFTP tells kind, mode, size, owner and the modification time in whole seconds, and neither
//! inode nor ctime nor the number of names. It knows paths alone: that no directory on the way was
//! replaced by a link is checked where it can be, not guaranteed as for local files.

mod links;
mod list;
mod metadata;
mod read;
mod root;
mod walk;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallFile, SmallRead, Source, SourceDirectory, SourceEntry, SourceError,
    SourceErrorKind, SourceFile, SourceResult, WalkBatch,
};
use tokio::sync::{OnceCell, Semaphore, watch};

use self::links::Links;
use self::metadata::{Facts, Owners};
use super::client::{Client, ClientErrorKind, ClientResult};
use super::pool::{Lease, Pool, SftpError};
use crate::empty_batch;
use crate::filter::{BadRule, Filter};

/// Small files open at once, over all connections. Servers limit handles, often to a thousand.
const OPEN_FILES: usize = 256;

/// What to walk and what to leave out.
#[derive(Debug, Clone, Default)]
pub struct SftpSourceOptions {
    /// Gitignore lines, relative to the root. The root itself is never left out.
    pub excludes: Vec<String>,
    /// Regular files of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Directories with a valid `CACHEDIR.TAG` stay, but all they hold is left out.
    pub exclude_caches: bool,
    /// Refused: SFTP does not tell file systems apart.
    pub one_file_system: bool,
    /// Absolute paths on the same server that are always left out: the repository.
    pub never: Vec<Vec<u8>>,
}

/// What was asked for cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SftpSourceError {
    /// An exclude rule cannot be understood.
    #[error(transparent)]
    Rule(#[from] BadRule),
    /// The root is not an absolute path.
    #[error("{path:?} is not an absolute path: what it is relative to, only the server knows")]
    RelativePath {
        /// As given.
        path: String,
    },
    /// The walk was to stay on one file system.
    #[error("over SFTP one file system cannot be told from another; exclude the mount points")]
    OneFileSystem,
}

/// A directory tree, a single file or a single symbolic link on a server.
pub struct SftpSource {
    inner: Arc<Inner>,
}

impl fmt::Debug for SftpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SftpSource({})", self.inner.location)
    }
}

#[derive(Debug)]
struct Inner {
    pool: Pool,
    location: String,
    /// As given.
    given: Vec<u8>,
    /// Where it leads to, if it ends in a slash.
    root: OnceCell<Vec<u8>>,
    options: SftpSourceOptions,
    filter: Filter,
    owners: Owners,
    links: Links,
    open_files: Semaphore,
    /// Why no connection can be had any more. All that is under way fails with it: each work would
    /// otherwise find out for itself, one after the other.
    lost: watch::Sender<Option<SftpError>>,
    /// Stands in for times that the server does not tell, so that such files are always read.
    begun: i64,
}

impl SftpSource {
    /// The source at `root`, an absolute path on the pool's server. A root that is a symbolic link
    /// is backed up as a link, unless it ends in a slash. Connects nothing yet.
    pub fn new(
        pool: Pool,
        root: impl Into<Vec<u8>>,
        options: SftpSourceOptions,
    ) -> Result<Self, SftpSourceError> {
        let given = root.into();
        if !given.starts_with(b"/") {
            let path = String::from_utf8_lossy(&given).into_owned();
            return Err(SftpSourceError::RelativePath { path });
        }
        if options.one_file_system {
            return Err(SftpSourceError::OneFileSystem);
        }
        let filter = Filter::new(&options.excludes, options.exclude_larger_than)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let inner = Inner {
            location: location(&pool, &given),
            pool,
            given,
            root: OnceCell::new(),
            options,
            filter,
            owners: Owners::default(),
            links: Links::default(),
            open_files: Semaphore::new(OPEN_FILES),
            lost: watch::Sender::new(None),
            begun: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Metadata of what stands at any absolute path of the server, itself and not where it leads:
    /// for the directories above the root.
    pub fn metadata_of(&self, path: &[u8]) -> SourceResult<Metadata> {
        let inner = &self.inner;
        let facts = inner.pool.block_on(inner.facts_of(path))?;
        Ok(facts.metadata(&inner.owners))
    }

    /// The absolute path of `path` with all links resolved.
    pub fn canonical(&self, path: &[u8]) -> SourceResult<Vec<u8>> {
        self.inner.pool.block_on(self.inner.canonical(path))
    }
}

/// `path` on the pool's server as a person would write it.
fn location(pool: &Pool, path: &[u8]) -> String {
    let whole = pool.location();
    let own = String::from_utf8_lossy(&pool.options().path).into_owned();
    let server = whole.strip_suffix(&own).unwrap_or(&whole).trim_end_matches('/');
    format!("{server}{}", String::from_utf8_lossy(path))
}

impl Inner {
    /// Does `work` with a client, again on another connection if one breaks.
    async fn run<T, F>(&self, work: impl Fn(Client) -> F) -> Result<T, SftpError>
    where
        F: Future<Output = ClientResult<T>>,
    {
        self.lease_for(work).await.map(|(_, done)| done)
    }

    /// As [`Inner::run`], with the connection on which it was done.
    async fn lease_for<T, F>(&self, work: impl Fn(Client) -> F) -> Result<(Lease, T), SftpError>
    where
        F: Future<Output = ClientResult<T>>,
    {
        let attempts = async {
            let mut patience = self.pool.patience();
            loop {
                let lease = self.pool.lease(&mut patience).await?;
                match work(lease.client().clone()).await {
                    Err(error) if error.is_disconnect() => {
                        self.pool.discard(&lease);
                        if !patience.pause().await {
                            return Err(error.into());
                        }
                    }
                    other => return Ok((lease, other?)),
                }
            }
        };
        let mut lost = self.lost.subscribe();
        let gone = async {
            loop {
                let error = lost.borrow_and_update().clone();
                if let Some(error) = error {
                    return error;
                }
                // The sender lives in `self`.
                let _ = lost.changed().await;
            }
        };
        let outcome = tokio::select! {
            outcome = attempts => outcome,
            error = gone => Err(error),
        };
        if let Err(error) = &outcome
            && error.is_disconnect()
        {
            self.lost.send_if_modified(|lost| {
                let is_first = lost.is_none();
                lost.get_or_insert_with(|| error.clone());
                is_first
            });
        }
        outcome
    }

    /// The error as the engine knows it.
    fn error(&self, operation: &'static str, path: &[u8], error: SftpError) -> SourceError {
        let kind = match &error {
            error if error.is_disconnect() => SourceErrorKind::Unreachable,
            error => match error.kind() {
                Some(ClientErrorKind::NotFound) => SourceErrorKind::NotFound,
                Some(ClientErrorKind::PermissionDenied) => SourceErrorKind::PermissionDenied,
                _ => SourceErrorKind::Io,
            },
        };
        let path = String::from_utf8_lossy(path).into_owned();
        SourceError { kind, operation, path, source: Some(Box::new(error)) }
    }

    async fn canonical(&self, path: &[u8]) -> SourceResult<Vec<u8>> {
        let found = self.run(|client| async move { client.realpath(path).await }).await;
        found.map_err(|e| self.error("follow", path, e))
    }

    /// `lstat`, with the names of the owner.
    async fn facts_of(&self, path: &[u8]) -> SourceResult<Facts> {
        let found = self.run(|client| async move {
            let attributes = client.lstat(path).await?;
            self.owners.learn(&client, attributes.owner.as_slice()).await?;
            Ok(attributes)
        });
        let found = found.await.map_err(|e| self.error("stat", path, e))?;
        Facts::of(&found, self.begun).ok_or_else(|| nameless_kind(path))
    }

    /// The absolute path on the server of an entry, or of a directory if `name` is empty. Only
    /// after the root was found.
    fn path(&self, directory: &[u8], name: &[u8]) -> Vec<u8> {
        let mut path = self.root.get().unwrap_or(&self.given).clone();
        for part in [directory, name] {
            if !part.is_empty() {
                if !path.ends_with(b"/") {
                    path.push(b'/');
                }
                path.extend_from_slice(part);
            }
        }
        path
    }
}

impl Source for SftpSource {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        let inner = &self.inner;
        inner.lost.send_replace(None);
        inner.links.clear();
        let root = inner.pool.block_on(inner.find_root())?;
        let directory = Arc::new(SourceDirectory { path: Vec::new(), handle: None });
        let mut first = empty_batch(&directory);
        let metadata = root.facts.metadata(&inner.owners);
        if metadata.kind == Kind::Symlink {
            inner.links.note(inner.path(b"", b""));
        }
        let is_directory = metadata.kind == Kind::Directory;
        let name = Vec::new();
        first.entries.push(SourceEntry { name, metadata, device: 0, sparse: false });
        if !is_directory {
            let _ = sink(first);
            return Ok(());
        }
        walk::walk(Arc::clone(inner), root.never, directory, first, sink)
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        let mut details = Details::default();
        if entry.metadata.kind == Kind::Symlink {
            details.target = self.inner.link_target(&directory.path, &entry.name)?;
        }
        Ok(details)
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let path = self.inner.path(&directory.path, &entry.name);
        let read = self.inner.read_whole(&path, &entry.metadata, limit);
        let (bytes, metadata) = self.inner.pool.block_on(read)?;
        into.extend_from_slice(&bytes);
        Ok(SmallRead { details: Details::default(), metadata })
    }

    fn read_many(
        &self,
        files: &[(&SourceDirectory, &SourceEntry)],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Vec<SourceResult<SmallFile>> {
        read::read_many(&self.inner, files, limit, into)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile>> {
        let path = self.inner.path(&directory.path, &entry.name);
        Ok(Box::new(read::SftpFile::open(&self.inner, path)?))
    }
}

/// It is not what it was when it was listed.
fn became_another(operation: &'static str, path: &[u8]) -> SourceError {
    let path = String::from_utf8_lossy(path).into_owned();
    SourceError { kind: SourceErrorKind::Changed, operation, path, source: None }
}

fn nameless_kind(path: &[u8]) -> SourceError {
    let why = std::io::Error::other("the server does not say what kind of file it is");
    SourceError::from_io("stat", String::from_utf8_lossy(path), why)
}
