//! A directory of an SFTP server to restore to.
//!
//! **What is kept**: content, names, permissions, whole seconds of modification times from 1970 to
//! 2106, links; owners by number, where the server allows it. What SFTP cannot carry is told in
//! [`Unset`]: extended attributes and ACLs, fractions of seconds. Devices, FIFOs and sockets cannot
//! be made.
//!
//! **Links are not followed**, as far as SFTP version 3 lets that be: it can neither open a path
//! without following links nor name things relative to an open directory. So every directory below
//! the destination is looked at (`lstat`) from the top before anything is done in it, and
//! remembered; files are made under names that must not exist (`EXCL`) and renamed, which follows
//! no link; attributes are set on open files, or with an extension that follows no link. Whatever
//! stood in the target when the restore began leads nothing outside. Somebody who can write to the
//! target directories on the server **while** the restore runs can still put a link in the place of
//! a directory between the look and the request. Directories that the restore makes are closed to
//! others until they are finished; who restores into directories of others should know them.
//!
//! **Small files** take two round trips in a directory that this run made (open; write, attributes
//! and close together), and a third where a temporary name is needed. Many threads do this at once.
//! **Big files** are written over several connections. When a connection breaks, its work is done
//! again over another one, and requests whose answer was lost are looked after.

mod attributes;
mod entries;
mod file;
mod paths;
mod place;
mod problem;
mod read;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_engine::destination::{
    Attributes, Destination, DestinationErrorKind, DestinationFile, DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Owner, Time, Xattr};

use self::attributes::{Learnt, Wanted};
use self::file::SftpFile;
use self::paths::{Directories, Origin, is_name, kind, split};
use self::problem::{Problem, What};
use self::read::SftpReader;
use super::client::{Attributes as SftpAttributes, ClientErrorKind, FileKind, FileSystem};
use super::pool::{Pool, Retry};

/// Files that are made at the same time: what a round trip of 20 ms and the engine's memory call
/// for, and no more than one connection's 64 requests.
const CONCURRENCY: usize = 20;

/// A directory of a server to restore to. Its methods must not be called on threads of the pool's
/// runtime.
pub struct SftpDestination {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Pool,
    directories: Directories,
    learnt: Learnt,
    /// The server could not be reached any more.
    lost: AtomicBool,
}

impl fmt::Debug for SftpDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SftpDestination({})", self.inner.pool.location())
    }
}

impl SftpDestination {
    /// The destination at the pool's path. Nothing is made or connected yet.
    pub fn new(pool: Pool) -> Self {
        let inner = Inner {
            pool,
            directories: Directories::default(),
            learnt: Learnt::default(),
            lost: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Inner {
    fn call<T>(
        &self,
        operation: &'static str,
        path: &[u8],
        work: impl Future<Output = Result<T, Problem>>,
    ) -> DestinationResult<T> {
        self.pool.block_on(async {
            match work.await {
                Ok(value) => {
                    self.lost.store(false, Ordering::Relaxed);
                    Ok(value)
                }
                Err(problem) => {
                    let problem = self.doubt(path, problem).await;
                    let problem = self.look_for_space(problem).await;
                    Err(self.error(operation, path, problem))
                }
            }
        })
    }

    /// `None` where the server does not tell.
    async fn file_system(&self) -> Result<Option<FileSystem>, Problem> {
        let base = self.pool.base().await?;
        match self.pool.run(Retry::Yes, async |client| client.file_system(base).await).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == Some(ClientErrorKind::Unsupported) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The destination itself: whether it is there. Links on the way to it are followed.
    async fn has_directory(&self, at: &[u8]) -> Result<bool, Problem> {
        match self.pool.run(Retry::Yes, async |client| client.stat(at).await).await {
            Ok(found) if kind(&found)? == FileKind::Directory => Ok(true),
            Ok(_) => Err(Problem::in_the_way("something else than a directory stands there")),
            Err(error) if error.kind() == Some(ClientErrorKind::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn prepare(&self) -> Result<(), Problem> {
        let base = self.at(b"").await?;
        let mut missing = Vec::new();
        let mut at = &base[..];
        while !self.has_directory(at).await? {
            missing.push(at);
            let above = split(at.strip_suffix(b"/").unwrap_or(at)).0;
            at = if above.is_empty() { b"/" } else { above };
            if missing.last() == Some(&at) {
                break;
            }
        }
        for at in missing.into_iter().rev() {
            self.make_directory(at).await?;
        }
        Ok(())
    }

    /// True if it was made, false if a directory was there. `at` is a path on the server.
    async fn make_directory(&self, at: &[u8]) -> Result<bool, Problem> {
        let tried = Cell::new(false);
        let own = SftpAttributes::with_permissions(0o700);
        let made = self.pool.run(Retry::Yes, async |client| {
            let again = tried.replace(true);
            match client.make_directory(at, &own).await {
                Ok(()) => Ok(true),
                Err(error) if error.kind == ClientErrorKind::AlreadyExists => {
                    if client.lstat(at).await?.kind() != Some(FileKind::Directory) {
                        return Err(error);
                    }
                    // An answer was lost: an empty one is as good as new, whoever made it.
                    Ok(again && client.list(at).await?.is_empty())
                }
                Err(error) => Err(error),
            }
        });
        Ok(made.await?)
    }

    async fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
        let at = self.at(path).await?;
        self.directory(path).await?;
        let entries = self.pool.run(Retry::Yes, async |client| client.list(&at).await).await?;
        let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
        if !names.iter().all(|name| is_name(name)) {
            return Err(Problem::senseless("the server lists a name that cannot be one"));
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn engine_kind(kind: FileKind) -> Kind {
    match kind {
        FileKind::File => Kind::File,
        FileKind::Directory => Kind::Directory,
        FileKind::Symlink => Kind::Symlink,
        FileKind::Fifo => Kind::Fifo,
        FileKind::Socket => Kind::Socket,
        FileKind::CharDevice => Kind::CharDevice,
        FileKind::BlockDevice => Kind::BlockDevice,
    }
}

/// What SFTP tells: no names of owners, no inode, no links, no device numbers, whole seconds.
fn metadata(found: &SftpAttributes) -> Result<Metadata, Problem> {
    let kind = engine_kind(kind(found)?);
    let (uid, gid) = found.owner.unwrap_or_default();
    let has_size = matches!(kind, Kind::File | Kind::Symlink);
    Ok(Metadata {
        kind,
        mode: found.permissions.unwrap_or_default() & 0o7777,
        owner: Arc::new(Owner { uid, gid, ..Owner::default() }),
        size: if has_size { found.size.unwrap_or_default() } else { 0 },
        mtime: Time { seconds: found.modified().unwrap_or_default().into(), nanos: 0 },
        ..Metadata::default()
    })
}

impl Destination for SftpDestination {
    fn location(&self) -> String {
        self.inner.pool.location()
    }

    fn prepare(&self) -> DestinationResult<()> {
        self.inner.call("create", b"", self.inner.prepare())
    }

    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>> {
        let inner = &self.inner;
        let look = async {
            let found = match inner.entry(path).await {
                Ok(at) if path.is_empty() => {
                    let stat = inner.pool.run(Retry::Yes, async |client| client.stat(&at).await);
                    stat.await.map(Some).map_err(Problem::from)
                }
                Ok(at) => inner.look_for(&at).await,
                Err(problem) => Err(problem),
            };
            match found {
                Err(problem) if problem.request() == Some(ClientErrorKind::NotFound) => Ok(None),
                found => found?.as_ref().map(metadata).transpose(),
            }
        };
        inner.call("stat", path, look)
    }

    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>> {
        self.inner.call("list", path, self.inner.list(path))
    }

    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool> {
        let inner = &self.inner;
        let make = async {
            let at = inner.at(path).await?;
            if path.is_empty() {
                return match inner.has_directory(&at).await? {
                    true => Ok(false),
                    false => inner.make_directory(&at).await,
                };
            }
            let above = inner.directory(split(path).0).await?;
            // In a directory that was there, it most often is there too.
            if above == Origin::Found
                && let Some(found) = inner.look_for(&at).await?
            {
                if kind(&found)? != FileKind::Directory {
                    return Err(Problem::in_the_way(
                        "something else than a directory stands there",
                    ));
                }
                inner.directories.insert(path, Origin::Found);
                return Ok(false);
            }
            let made = inner.make_directory(&at).await?;
            let origin = if made { Origin::Made } else { Origin::Found };
            inner.directories.insert(path, origin);
            Ok(made)
        };
        inner.call("create", path, make)
    }

    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let wanted = Wanted::new(attributes);
        let write = async {
            let at = inner.at(path).await?;
            let origin = inner.directory(split(path).0).await?;
            inner.write_whole(&at, origin, content, &wanted, replace).await
        };
        inner.call("create", path, write)
    }

    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>> {
        let inner = &self.inner;
        let create = async {
            let at = inner.entry(path).await?;
            // Known better now than after the last gigabyte.
            match inner.look_for(&at).await? {
                Some(found) if !replace || kind(&found)? == FileKind::Directory => {
                    return Err(Problem::in_the_way("something stands there"));
                }
                _ => {}
            }
            SftpFile::create(inner, path, at, size, replace).await
        };
        Ok(Box::new(inner.call("create", path, create)?))
    }

    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn std::io::Read + Send>> {
        let inner = &self.inner;
        let open = async {
            let at = inner.entry(path).await?;
            if kind(&inner.look(&at).await?)? != FileKind::File {
                return Err(Problem::in_the_way("something else than a file stands there"));
            }
            SftpReader::open(inner, path, at).await
        };
        Ok(Box::new(inner.call("read", path, open)?))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset> {
        let wanted = Wanted::new(attributes);
        self.inner.call("create", path, self.inner.make_symlink(path, target, &wanted))
    }

    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>> {
        self.inner.call("read", path, self.inner.link_target(path))
    }

    fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> DestinationResult<()> {
        self.inner.call("link", path, self.inner.make_hard_link(path, existing))
    }

    fn make_special(&self, path: &[u8], _: Attributes<'_>) -> DestinationResult<Unset> {
        let make = async {
            self.inner.entry(path).await?;
            let what = What("SFTP cannot make devices, FIFOs or sockets");
            Err(Problem::Here(DestinationErrorKind::Unsupported, what))
        };
        self.inner.call("create", path, make)
    }

    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let inner = &self.inner;
        inner.call("set attributes of", path, inner.set_attributes(path, attributes))
    }

    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>> {
        let look = async { self.inner.entry(path).await.map(|_| Vec::new()) };
        self.inner.call("read attributes of", path, look)
    }

    fn remove(&self, path: &[u8]) -> DestinationResult<()> {
        self.inner.call("remove", path, self.inner.remove(path))
    }

    fn free_space(&self) -> DestinationResult<Option<u64>> {
        let ask = async { Ok(self.inner.file_system().await?.map(|found| found.available())) };
        self.inner.call("stat", b"", ask)
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn kept_time(&self, time: Time) -> Time {
        attributes::kept_time(time)
    }
}
