//! A repository in a local directory. An object is written under a temporary name beside its
//! place, made durable, renamed without replacing, and its directory made durable. After a failed
//! fsync nobody can know what reached the medium, so the file is given up and never synced again.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::temporary;
use crate::locked;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A storage in a directory. Objects are readable by the owner alone (0600, 0700).
///
/// The directory is held open from the first use on: should a medium be unmounted meanwhile,
/// nothing is written below its empty mount point.
pub struct LocalStorage {
    path: PathBuf,
    root: Mutex<Option<Arc<OwnedFd>>>,
    /// Held while directories are made, so that nobody uses one that is not durable yet.
    making: Mutex<()>,
}

impl fmt::Debug for LocalStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalStorage({})", self.path.display())
    }
}

impl LocalStorage {
    /// The storage at `path`. Nothing is read or written yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), root: Mutex::new(None), making: Mutex::new(()) }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn shown(&self, what: impl fmt::Display) -> String {
        format!("{}/{what}", self.path.display())
    }

    fn error(&self, operation: &'static str, object: &str, errno: Errno) -> StorageError {
        StorageError::from_io(operation, object, errno.into())
    }

    fn failed(
        &self,
        operation: &'static str,
        name: &ObjectName,
    ) -> impl Fn(Errno) -> StorageError + '_ {
        let object = self.shown(name);
        move |errno| self.error(operation, &object, errno)
    }

    fn root(&self, operation: &'static str) -> StorageResult<Arc<OwnedFd>> {
        let mut root = locked(&self.root);
        if let Some(root) = &*root {
            return Ok(Arc::clone(root));
        }
        let opened = rustix::fs::open(&self.path, DIRECTORY, Mode::empty())
            .map_err(|e| self.error(operation, &self.location(), e))?;
        Ok(Arc::clone(root.insert(Arc::new(opened))))
    }

    /// The directory of an object to be written, made if it is not there: copies of a repository
    /// often come without its empty directories.
    fn directory(&self, root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
        drop(locked(&self.making));
        match rustix::fs::openat(root, path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {}
            answer => return answer,
        }
        let _making = locked(&self.making);
        let mut directory = rustix::fs::openat(root, ".", DIRECTORY, Mode::empty())?;
        for part in path.split('/') {
            match rustix::fs::mkdirat(&directory, part, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => sync_directory(&directory)?,
                Err(e) => return Err(e),
            }
            directory = rustix::fs::openat(&directory, part, DIRECTORY, Mode::empty())?;
        }
        Ok(directory)
    }

    /// Moves a finished temporary file to its place and makes that durable.
    fn place(
        &self,
        from: &OwnedFd,
        temporary: &str,
        to: &OwnedFd,
        name: &ObjectName,
    ) -> Result<(), Errno> {
        temporary::rename_fresh(from.as_fd(), temporary, to.as_fd(), name.base().as_bytes())?;
        sync_directory(to)
    }

    fn put_once(&self, root: &OwnedFd, name: &ObjectName, bytes: &[u8]) -> Result<(), Errno> {
        let directory = self.directory(root, parent(name))?;
        let (file, temporary) = temporary::create(directory.as_fd(), temporary::PREFIX)?;
        let answer = temporary::write_all(file.as_fd(), bytes)
            .and_then(|()| rustix::fs::fsync(&file))
            .and_then(|()| self.place(&directory, &temporary, &directory, name));
        if answer.is_err() {
            // Gone already where only the directory's fsync failed.
            let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
        }
        answer
    }

    fn list_directory(
        &self,
        root: &OwnedFd,
        path: &str,
        each: &mut dyn FnMut(ObjectInfo),
    ) -> Result<(), Errno> {
        let directory = match rustix::fs::openat(root, path, DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut full = format!("{path}/");
        let prefix = full.len();
        for (base, _) in names(&directory, ".")? {
            full.truncate(prefix);
            full.push_str(&base);
            let Some(name) = ObjectName::parse(&full) else { continue };
            match stat(&directory, &base) {
                Ok(stat) if is_file(&stat) => each(info(name, &stat)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl Storage for LocalStorage {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn prepare(&self) -> StorageResult<()> {
        let place = self.location();
        let fail = |e: Errno| self.error("write", &place, e);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|e| StorageError::from_io("write", &place, e))?;
        *locked(&self.root) = None;
        let root = self.root("write")?;
        let _making = locked(&self.making);
        let make = |directory: &OwnedFd, name: &str| match rustix::fs::mkdirat(
            directory,
            name,
            Mode::RWXU,
        ) {
            Err(e) if e != Errno::EXIST => Err(fail(e)),
            _ => Ok(()),
        };
        for folder in Folder::ALL {
            make(&root, folder.name())?;
        }
        let packs = rustix::fs::openat(&root, Folder::Packs.name(), DIRECTORY, Mode::empty())
            .map_err(fail)?;
        for shard in 0..=0xff_u8 {
            make(&packs, &format!("{shard:02x}"))?;
        }
        sync_directory(&packs).and_then(|()| sync_directory(&root)).map_err(fail)?;
        // The repository's own name lies in the directory above. That may be unreadable to us,
        // which must not keep us from using what is ours.
        match rustix::fs::openat(&root, "..", DIRECTORY, Mode::empty()) {
            Ok(above) => sync_directory(&above).map_err(fail),
            Err(_) => Ok(()),
        }
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let root = self.root("write")?;
        let mut answer = Ok(());
        // `delete` removes empty folders of records; one may go between our look and our file.
        for _ in 0..4 {
            answer = self.put_once(&root, name, bytes);
            if answer != Err(Errno::NOENT) {
                break;
            }
        }
        answer.map_err(self.failed("write", name))
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let place = self.shown(Folder::Packs.name());
        let fail = |e| self.error("write", &place, e);
        let root = self.root("write")?;
        let directory = self.directory(&root, Folder::Packs.name()).map_err(fail)?;
        let (file, temporary) =
            temporary::create(directory.as_fd(), temporary::PREFIX).map_err(fail)?;
        Ok(Box::new(LocalUpload {
            storage: self,
            root,
            directory,
            file,
            temporary: Some(temporary),
        }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let root = self.root("read")?;
        let file = open(&root, name).map_err(self.failed("read", name))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes)
            .map_err(|e| StorageError::from_io("read", self.shown(name), e))?;
        Ok(bytes)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let root = self.root("read")?;
        // Every byte is overwritten, so what is in there already need not be zeroed first.
        into.resize(length, 0);
        let read =
            open(&root, name).and_then(|file| temporary::pread_full(file.as_fd(), into, offset));
        match read {
            Ok(n) if n == length => Ok(()),
            Ok(n) => {
                into.clear();
                let short = std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("{n} of {length} bytes at {offset}"),
                );
                Err(StorageError::from_io("read", self.shown(name), short))
            }
            Err(errno) => {
                into.clear();
                Err(self.failed("read", name)(errno))
            }
        }
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let place = self.shown(folder.name());
        let fail = |e| self.error("list", &place, e);
        let root = self.root("list")?;
        // The handle outlives the directory; a repository that was removed must not look empty.
        match rustix::fs::fstat(&*root) {
            Ok(stat) if stat.st_nlink == 0 => return Err(fail(Errno::NOENT)),
            Ok(_) => {}
            Err(e) => return Err(fail(e)),
        }
        if !folder.is_nested() {
            return self.list_directory(&root, folder.name(), each).map_err(fail);
        }
        for (name, kind) in names(&root, folder.name()).map_err(fail)? {
            let path = format!("{}/{name}", folder.name());
            if ObjectName::parse(&path).is_none()
                || !matches!(kind, FileType::Directory | FileType::Unknown | FileType::Symlink)
            {
                continue;
            }
            match self.list_directory(&root, &path, each) {
                Err(Errno::NOTDIR) if kind != FileType::Directory => {}
                answer => answer.map_err(fail)?,
            }
        }
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        let root = self.root("stat")?;
        let stat = stat(&root, name.as_str()).map_err(self.failed("stat", name))?;
        if !is_file(&stat) {
            return Err(StorageError::new(StorageErrorKind::NotFound, "stat", self.shown(name)));
        }
        Ok(info(name.clone(), &stat))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        let fail = self.failed("delete", name);
        let root = self.root("delete")?;
        let place = parent(name);
        let directory =
            rustix::fs::openat(&root, place, DIRECTORY, Mode::empty()).map_err(&fail)?;
        rustix::fs::unlinkat(&directory, name.base(), AtFlags::empty()).map_err(&fail)?;
        sync_directory(&directory).map_err(&fail)?;
        let own_folder = [Folder::Notes, Folder::Sessions]
            .iter()
            .any(|f| place.strip_prefix(f.name()).is_some_and(|rest| rest.starts_with('/')));
        if own_folder {
            // Fails while others are in there, which is as it should be.
            let _ = rustix::fs::unlinkat(&root, place, AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    fn concurrency(&self) -> usize {
        4
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        let what = self.location();
        let fail = |e: Errno| self.error("delete", &what, e);
        let root = self.root("delete")?;
        let limit = seconds(SystemTime::now() - age);
        let mut removed = 0;
        let mut folders: Vec<String> = vec![".".into()];
        for folder in Folder::ALL {
            folders.push(folder.name().into());
            if folder.is_nested() {
                for (name, _) in names(&root, folder.name()).map_err(fail)? {
                    folders.push(format!("{}/{name}", folder.name()));
                }
            }
        }
        for folder in folders {
            let directory = match rustix::fs::openat(&root, &folder, DIRECTORY, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(fail(e)),
            };
            for (name, _) in names(&directory, ".").map_err(fail)? {
                if name.starts_with(temporary::PREFIX)
                    && stat(&directory, &name).is_ok_and(|s| s.stx_mtime.tv_sec < limit)
                    && rustix::fs::unlinkat(&directory, &name, AtFlags::empty()).is_ok()
                {
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn settle(&self) -> Duration {
        let kind = self.root("stat").ok().and_then(|root| rustix::fs::fstatfs(&*root).ok());
        kind.map_or(Duration::ZERO, |kind| settle_time(i128::from(kind.f_type)))
    }
}

/// A pack on its way: a temporary file in `packs/`.
struct LocalUpload<'a> {
    storage: &'a LocalStorage,
    root: Arc<OwnedFd>,
    directory: OwnedFd,
    file: OwnedFd,
    /// `None` once the file has its name, or is no longer ours to remove.
    temporary: Option<String>,
}

impl Upload for LocalUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        temporary::write_all(self.file.as_fd(), bytes)
            .map_err(|e| self.storage.error("write", &self.storage.shown(Folder::Packs.name()), e))
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let temporary = self.temporary.clone().unwrap_or_default();
        rustix::fs::fsync(&self.file)
            .and_then(|()| self.storage.directory(&self.root, parent(name)))
            .and_then(|to| self.storage.place(&self.directory, &temporary, &to, name))
            .map_err(self.storage.failed("write", name))?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for LocalUpload<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.directory, temporary, AtFlags::empty());
        }
    }
}

/// The directory an object lies in, relative to the storage.
fn parent(name: &ObjectName) -> &str {
    name.as_str().rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn open(root: &OwnedFd, name: &ObjectName) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(root, name.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes names durable. Some file systems (SMB, FUSE) know no fsync of directories and say so;
/// there the rename is all there is.
fn sync_directory(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(directory) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(()),
        answer => answer,
    }
}

/// Names in a directory with what the directory says of their type. Not UTF-8: not ours.
fn names(at: &OwnedFd, path: &str) -> Result<Vec<(String, FileType)>, Errno> {
    let directory = match rustix::fs::openat(at, path, DIRECTORY, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(names)
}

fn stat(at: &OwnedFd, path: &str) -> Result<rustix::fs::Statx, Errno> {
    let mask = StatxFlags::TYPE | StatxFlags::SIZE | StatxFlags::MTIME;
    rustix::fs::statx(at, path, AtFlags::empty(), mask)
}

fn is_file(stat: &rustix::fs::Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
}

fn info(name: ObjectName, stat: &rustix::fs::Statx) -> ObjectInfo {
    ObjectInfo { name, size: stat.stx_size, modified: stat.stx_mtime.tv_sec }
}

/// How long other clients of a network file system may see an old directory: NFS keeps what it
/// read for at most a minute (`acdirmax`), SMB and the file systems that run as a process for
/// less. Both the one who looks and the one who is looked for may be late, hence twice.
fn settle_time(file_system: i128) -> Duration {
    const NFS: i128 = 0x6969;
    const SMB: [i128; 3] = [0x517b, 0xff53_4d42, 0xfe53_4d42];
    const FUSE: i128 = 0x6573_5546;
    match file_system & 0xffff_ffff {
        NFS => Duration::from_secs(130),
        FUSE => Duration::from_secs(50),
        kind if SMB.contains(&kind) => Duration::from_secs(50),
        _ => Duration::ZERO,
    }
}

fn seconds(time: SystemTime) -> i64 {
    let after = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(after.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_given_time() {
        let zero = Duration::ZERO;
        let [ext4, tmpfs, overlay] = [0xef53, 0x0102_1994, 0x794c_7630].map(settle_time);
        assert_eq!([ext4, tmpfs, overlay], [zero; 3]);
        for network in [0x6969, 0x517b, 0xff53_4d42, -0x00ac_b2be, 0x6573_5546] {
            assert!(settle_time(network) > zero, "{network:x}");
        }
        let here = LocalStorage::new(std::env::temp_dir());
        assert_eq!(here.settle(), zero, "a disk of this machine");
    }
}
