//! A tree, or a single file, of the local file system as a source. Everything is reached name by
//! name from the handle of its directory: paths may be longer than the kernel takes, and no link
//! put in a directory's place is followed.

mod directory;
mod list;
mod read;
mod walk;

use std::fmt;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult, WalkBatch,
};
use rustix::fs::{CWD, Statx};
use rustix::io::Errno;

use self::directory::{Directory, Handles};
use self::list::Lister;
use super::metadata::{Owners, device, is_sparse, stat_at};
use super::xattrs::{self, Of};
use crate::empty_batch;
use crate::filter::{BadRule, Filter};

/// Directories held open at once.
const OPEN_DIRECTORIES: usize = 256;
/// Entries in a batch.
const BATCH: usize = 1024;

/// What to walk and what to leave out.
#[derive(Debug, Clone, Default)]
pub struct LocalSourceOptions {
    /// Gitignore lines, relative to the root. The root itself is never left out.
    pub excludes: Vec<String>,
    /// Regular files of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Directories with a valid `CACHEDIR.TAG` stay, but all they hold is left out.
    pub exclude_caches: bool,
    /// Directories on another file system than the root stay, but all they hold is left out.
    pub one_file_system: bool,
    /// What is always left out wherever it turns up: the repository, the cache. Told by device
    /// and inode, so no other path or mount leads into them.
    pub never: Vec<PathBuf>,
    /// Threads that list ahead of the walk; 0 for as many as there are cores (two to eight).
    pub threads: usize,
}

/// A directory tree, a single file or a single symbolic link.
pub struct LocalSource {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    options: LocalSourceOptions,
    filter: Filter,
    owners: Owners,
    handles: Arc<Handles>,
    /// File systems that have no extended attributes at all.
    without_xattrs: RwLock<Vec<u64>>,
}

impl fmt::Debug for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalSource({})", self.inner.root.display())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("root", &self.root).finish_non_exhaustive()
    }
}

impl LocalSource {
    /// The source at `root`. A root that is a symbolic link is backed up as a link, unless it
    /// ends in a slash.
    pub fn new(root: impl Into<PathBuf>, options: LocalSourceOptions) -> Result<Self, BadRule> {
        let root = root.into();
        let filter = Filter::new(&options.excludes, options.exclude_larger_than)?;
        let handles = Handles::new(&root, OPEN_DIRECTORIES);
        let inner = Inner {
            root,
            options,
            filter,
            owners: Owners::default(),
            handles,
            without_xattrs: RwLock::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Metadata of what stands at any path, itself and not where it leads: for the directories
    /// above the root.
    pub fn metadata_of(&self, path: &Path) -> SourceResult<Metadata> {
        let stat = stat_at(CWD, path)
            .map_err(|e| self.inner.error("stat", &path.display().to_string(), e))?;
        Ok(self.inner.owners.metadata(&stat))
    }
}

impl Inner {
    fn error(&self, operation: &'static str, path: &str, errno: Errno) -> SourceError {
        let mut error = SourceError::from_io(operation, path, errno.into());
        match errno {
            // Another kind of file stands where the walk saw a directory or a file.
            Errno::NOTDIR | Errno::LOOP => error.kind = SourceErrorKind::Changed,
            Errno::STALE => error.kind = SourceErrorKind::NotFound,
            _ => {}
        }
        error
    }

    /// The path of an entry for people.
    fn shown(&self, directory: &[u8], name: &[u8]) -> String {
        let mut path = self.root.display().to_string();
        for part in [directory, name] {
            if !part.is_empty() {
                if !path.ends_with('/') {
                    path.push('/');
                }
                path.push_str(&String::from_utf8_lossy(part));
            }
        }
        path
    }

    fn handle(&self, directory: &SourceDirectory) -> Arc<Directory> {
        let ours = directory.handle.as_ref().and_then(|h| Arc::clone(h).downcast().ok());
        ours.unwrap_or_else(|| self.handles.at(&directory.path))
    }

    fn has_no_xattrs(&self, device: u64) -> bool {
        self.without_xattrs.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }

    fn remember_no_xattrs(&self, device: u64) {
        let mut without = self.without_xattrs.write().unwrap_or_else(PoisonError::into_inner);
        if !without.contains(&device) {
            without.push(device);
        }
    }

    fn stat_root(&self) -> Result<Statx, Errno> {
        stat_at(CWD, self.root.as_path())
    }

    /// What must never be read. One that does not exist cannot be met either.
    fn never(&self) -> Vec<(u64, u64)> {
        let identity = |path: &PathBuf| {
            let stat = rustix::fs::open(path, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .and_then(super::metadata::stat_of);
            stat.ok().map(|stat| (device(&stat), stat.stx_ino))
        };
        self.options.never.iter().filter_map(identity).collect()
    }

    fn threads(&self) -> usize {
        match self.options.threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8),
            threads => threads,
        }
    }
}

impl Source for LocalSource {
    fn location(&self) -> String {
        self.inner.root.display().to_string()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        let inner = &self.inner;
        let location = self.location();
        let stat = inner.stat_root().map_err(|e| inner.error("list", &location, e))?;
        let metadata = inner.owners.metadata(&stat);
        let is_directory = metadata.kind == Kind::Directory;
        let handle = is_directory.then(|| inner.handles.root());
        let root = Arc::new(SourceDirectory { path: Vec::new(), handle: handle.map(|h| h as _) });
        let never = inner.never();
        if never.contains(&(device(&stat), stat.stx_ino)) {
            let why = std::io::Error::other("this is where the backup itself is kept");
            return Err(SourceError::from_io("list", location, why));
        }
        let mut first = empty_batch(&root);
        first.entries.push(SourceEntry {
            name: Vec::new(),
            metadata,
            device: device(&stat),
            sparse: is_sparse(&stat),
        });
        if !is_directory {
            let _ = sink(first);
            return Ok(());
        }
        let only_device = inner.options.one_file_system.then(|| device(&stat));
        let lister = Lister { source: inner, only_device, never, piece: BATCH };
        walk::walk(&lister, inner.threads(), root, first, sink)
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        let inner = &self.inner;
        let fail = |operation| {
            move |e| inner.error(operation, &inner.shown(&directory.path, &entry.name), e)
        };
        let is_root = entry.name.is_empty();
        let handle = if is_root {
            None
        } else {
            Some(inner.handle(directory).fd().map_err(fail("read attributes of"))?)
        };
        let mut details = Details::default();
        if entry.metadata.kind == Kind::Symlink {
            let target = match &handle {
                Some(fd) => rustix::fs::readlinkat(fd, entry.name.as_slice(), Vec::new()),
                None => rustix::fs::readlink(inner.root.as_path(), Vec::new()),
            };
            details.target = target
                .map_err(|e| match e {
                    // No longer a link.
                    Errno::INVAL => fail("read")(Errno::LOOP),
                    e => fail("read")(e),
                })?
                .into_bytes();
        }
        if inner.has_no_xattrs(entry.device) {
            return Ok(details);
        }
        let path = match &handle {
            Some(fd) => xattrs::path_in(fd.as_fd(), &entry.name),
            None => std::os::unix::ffi::OsStrExt::as_bytes(inner.root.as_os_str()).to_vec(),
        };
        match Of::Path(&path).read() {
            Ok(xattrs) => details.xattrs = xattrs,
            Err(Errno::NOTSUP) => inner.remember_no_xattrs(entry.device),
            Err(e) => return Err(fail("read attributes of")(e)),
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
        self.inner.read_small(directory, entry, limit, into)
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile>> {
        Ok(Box::new(self.inner.open_file(directory, entry)?))
    }
}
