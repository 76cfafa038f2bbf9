//! A directory of the local file system to restore to. Every path is reached from the handle of
//! its directory, opened without following links, and entries are made under names that were free
//! or by renaming over what is to be replaced: nothing planted in the target is written through.

mod attributes;
mod directory;
mod file;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use holdfast_engine::destination::{
    Attributes, Destination, DestinationError, DestinationErrorKind, DestinationFile,
    DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Xattr};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use self::attributes::{Target, present};
use self::directory::{Directories, Directory};
use self::file::LocalFile;
use super::metadata::{Numbers, Owners, kind, stat_at};
use super::temporary;
use super::xattrs::{self, Of};

/// What temporary names in a restored tree start with.
const TEMPORARY: &str = ".holdfast-tmp-";

/// How to restore.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalDestinationOptions {
    /// Takes owners by number even where their names have other numbers here. Names count only
    /// for root; nobody else can give files away.
    pub numeric_ids: bool,
}

/// A directory to restore to.
pub struct LocalDestination {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    directories: Directories,
    owners: Owners,
    /// `None`: owners are taken by number.
    numbers: Option<Numbers>,
    euid: u32,
    egid: u32,
    /// Until it was refused once.
    may_give_away: AtomicBool,
}

impl fmt::Debug for LocalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalDestination({})", self.inner.path.display())
    }
}

impl LocalDestination {
    /// The destination at `path`. Nothing is made yet.
    pub fn new(path: impl Into<PathBuf>, options: LocalDestinationOptions) -> Self {
        let euid = rustix::process::geteuid();
        let by_name = euid.is_root() && !options.numeric_ids;
        let inner = Inner {
            path: path.into(),
            directories: Directories::default(),
            owners: Owners::default(),
            numbers: by_name.then(Numbers::default),
            euid: euid.as_raw(),
            egid: rustix::process::getegid().as_raw(),
            may_give_away: AtomicBool::new(true),
        };
        Self { inner: Arc::new(inner) }
    }
}

/// The directory and the name of a path; `.` for the destination itself.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => {
            (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default())
        }
        None => (b"", name_of(path)),
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    match path.rsplit(|b| *b == b'/').next() {
        Some(name) if !name.is_empty() => name,
        _ => b".",
    }
}

impl Inner {
    fn error(&self, operation: &'static str, path: &[u8], errno: Errno) -> DestinationError {
        let mut shown = self.path.display().to_string();
        if !path.is_empty() {
            shown.push('/');
            shown.push_str(&String::from_utf8_lossy(path));
        }
        let mut error = DestinationError::from_io(operation, shown, errno.into());
        match errno {
            // Something else stands where a directory, or none, is expected.
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY => {
                error.kind = DestinationErrorKind::AlreadyExists;
            }
            Errno::NOTSUP | Errno::NOSYS => error.kind = DestinationErrorKind::Unsupported,
            _ => {}
        }
        error
    }

    fn root(&self) -> Result<Arc<Directory>, Errno> {
        if let Some(root) = self.directories.root() {
            return Ok(root);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.directories.set_root(rustix::fs::open(&self.path, flags, Mode::empty())?);
        self.directories.root().ok_or(Errno::BADF)
    }

    fn directory(&self, path: &[u8]) -> Result<Arc<Directory>, Errno> {
        let root = self.root()?;
        if path.is_empty() { Ok(root) } else { self.directories.get(&root, path) }
    }

    /// The open directory in which `path` lies, and its name there.
    fn parent<'a>(&self, path: &'a [u8]) -> Result<(Arc<Directory>, &'a [u8]), Errno> {
        // The caller has checked; a mistake there must not lead outside.
        let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
        if !path.is_empty() && !path.split(|b| *b == b'/').all(is_name) {
            return Err(Errno::INVAL);
        }
        let (directory, name) = split(path);
        Ok((self.directory(directory)?, name))
    }

    /// Opens what stands at `path` as a mere path and sets its attributes.
    fn set_node(&self, path: &[u8], attributes: Attributes<'_>) -> Result<Unset, Errno> {
        let (directory, name) = self.parent(path)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let node = rustix::fs::openat(&directory.fd, name, flags, Mode::empty())?;
        let (present, found) = present(node.as_fd())?;
        if found != attributes.metadata.kind {
            return Err(Errno::NOTDIR);
        }
        let target = Target::Node { node: node.as_fd(), directory: directory.fd.as_fd(), name };
        self.set(target, present, attributes)
    }

    /// A small file under its own name, which nobody else has.
    fn write_new(
        &self,
        directory: &Directory,
        name: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<Unset, Errno> {
        let mode = self.first_mode(attributes);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory.fd, name, flags, Mode::from_raw_mode(mode))?;
        let file = file.as_fd();
        let written = temporary::write_all(file, content)
            .and_then(|()| Self::fresh(directory, file, mode))
            .and_then(|present| self.set(Target::File(file), present, attributes));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&directory.fd, name, AtFlags::empty());
        }
        written
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (directory, name) = self.parent(path)?;
        rustix::fs::openat(&directory.fd, name, flags, Mode::empty())
    }
}

impl Destination for LocalDestination {
    fn location(&self) -> String {
        self.inner.path.display().to_string()
    }

    fn prepare(&self) -> DestinationResult<()> {
        let inner = &self.inner;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&inner.path)
            .map_err(|e| DestinationError::from_io("create", self.location(), e))?;
        inner.root().map(drop).map_err(|e| inner.error("create", b"", e))
    }

    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>> {
        let inner = &self.inner;
        let stat = inner.parent(path).and_then(|(at, name)| stat_at(&at.fd, name));
        match stat {
            Ok(stat) => Ok(Some(inner.owners.metadata(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(inner.error("stat", path, e)),
        }
    }

    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>> {
        let fail = |e| self.inner.error("list", path, e);
        let directory = self.inner.open_directory(path).and_then(Dir::new).map_err(fail)?;
        let mut names = Vec::new();
        for entry in directory {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool> {
        let inner = &self.inner;
        let make = || {
            let (at, name) = inner.parent(path)?;
            match rustix::fs::mkdirat(&at.fd, name, Mode::RWXU) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) if kind(&stat_at(&at.fd, name)?) == Kind::Directory => Ok(false),
                Err(e) => Err(e),
            }
        };
        make().map_err(|e| inner.error("create", path, e))
    }

    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let fail = |e| inner.error("create", path, e);
        let (directory, name) = inner.parent(path).map_err(fail)?;
        match inner.write_new(&directory, name, content, attributes) {
            Err(Errno::EXIST) if replace => {}
            answer => return answer.map_err(fail),
        }
        let file = LocalFile::create(inner, directory, path, replace).map_err(fail)?;
        file.write_at(0, content)?;
        Box::new(file).finish(attributes)
    }

    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>> {
        let inner = &self.inner;
        let fail = |e| inner.error("create", path, e);
        let (directory, name) = inner.parent(path).map_err(fail)?;
        // Known better now than after the last gigabyte.
        match stat_at(&directory.fd, name) {
            Err(Errno::NOENT) => {}
            Err(e) => return Err(fail(e)),
            Ok(stat) if kind(&stat) == Kind::Directory => return Err(fail(Errno::ISDIR)),
            Ok(_) if !replace => return Err(fail(Errno::EXIST)),
            Ok(_) => {}
        }
        let file = LocalFile::create(inner, directory, path, replace).map_err(fail)?;
        rustix::fs::ftruncate(&file.file, size).map_err(fail)?;
        Ok(Box::new(file))
    }

    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn std::io::Read + Send>> {
        let inner = &self.inner;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = || {
            let (at, name) = inner.parent(path)?;
            let file = rustix::fs::openat(&at.fd, name, flags, Mode::empty())?;
            let mode = rustix::fs::fstat(&file)?.st_mode;
            match FileType::from_raw_mode(mode) {
                FileType::RegularFile => Ok(std::fs::File::from(file)),
                _ => Err(Errno::ISDIR),
            }
        };
        Ok(Box::new(open().map_err(|e| inner.error("read", path, e))?))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let make = || {
            let (at, name) = inner.parent(path)?;
            rustix::fs::symlinkat(target, &at.fd, name)?;
            inner.set_node(path, attributes)
        };
        make().map_err(|e| inner.error("create", path, e))
    }

    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>> {
        let inner = &self.inner;
        let read = || {
            let (at, name) = inner.parent(path)?;
            Ok(rustix::fs::readlinkat(&at.fd, name, Vec::new())?.into_bytes())
        };
        read().map_err(|e| inner.error("read", path, e))
    }

    fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> DestinationResult<()> {
        let inner = &self.inner;
        let link = || {
            let (from, old) = inner.parent(existing)?;
            let (to, new) = inner.parent(path)?;
            rustix::fs::linkat(&from.fd, old, &to.fd, new, AtFlags::empty())
        };
        link().map_err(|e| {
            let mut error = inner.error("link", path, e);
            // No hard links here, none to this, or no more of them.
            if matches!(e, Errno::PERM | Errno::XDEV | Errno::MLINK) {
                error.kind = DestinationErrorKind::Unsupported;
            }
            error
        })
    }

    fn make_special(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let metadata = attributes.metadata;
        let file_type = match metadata.kind {
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::Socket => FileType::Socket,
            Kind::File | Kind::Directory | Kind::Symlink => {
                return Err(inner.error("create", path, Errno::NOTSUP));
            }
        };
        let (major, minor) = metadata.device.unwrap_or_default();
        let device = rustix::fs::makedev(major, minor);
        let make = || {
            let (at, name) = inner.parent(path)?;
            let mode = Mode::RUSR | Mode::WUSR;
            match rustix::fs::mknodat(&at.fd, name, file_type, mode, device) {
                Err(Errno::PERM) => Err(Errno::NOTSUP),
                answer => answer,
            }
        };
        make()
            .and_then(|()| inner.set_node(path, attributes))
            .map_err(|e| inner.error("create", path, e))
    }

    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let unset = inner.set_node(path, attributes);
        // Files made in there from now on may come out differently.
        inner.directories.forget(path);
        unset.map_err(|e| inner.error("set attributes of", path, e))
    }

    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>> {
        let inner = &self.inner;
        let read = || {
            let (at, name) = inner.parent(path)?;
            match Of::Path(&xattrs::path_in(at.fd.as_fd(), name)).read() {
                Err(Errno::NOTSUP) => Ok(Vec::new()),
                answer => answer,
            }
        };
        read().map_err(|e| inner.error("read attributes of", path, e))
    }

    fn remove(&self, path: &[u8]) -> DestinationResult<()> {
        let inner = &self.inner;
        let remove = || {
            let (at, name) = inner.parent(path)?;
            match rustix::fs::unlinkat(&at.fd, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => rustix::fs::unlinkat(&at.fd, name, AtFlags::REMOVEDIR),
                answer => answer,
            }
        };
        remove().map_err(|e| inner.error("remove", path, e))?;
        inner.directories.forget(path);
        Ok(())
    }

    fn free_space(&self) -> DestinationResult<Option<u64>> {
        let inner = &self.inner;
        let ask = || rustix::fs::fstatvfs(&inner.root()?.fd);
        let stat = ask().map_err(|e| inner.error("stat", b"", e))?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }
}
