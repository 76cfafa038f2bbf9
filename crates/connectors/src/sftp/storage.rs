//! A repository on an SFTP server, in the same layout as a local one: either way leads to the same
//! objects. The engine's threads call and wait; below, requests of all of them share a few
//! connections, and what fails because one breaks is done again.
//!
//! Objects are written in [`place`] and [`upload`], read in [`read`], listed in [`list`]; open files
//! are kept in [`handles`], errors told apart in [`problem`]. [`directories`] makes the directories,
//! [`space`] asks for what is free; [`checksums`] asks a shell.

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdfast_engine::hash::ObjectId;
use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload};

use tokio::sync::OnceCell;

use self::handles::Handles;
use self::problem::Trouble;
use self::space::Space;
use super::pool::{Pool, SftpError};

mod checksums;
mod directories;
mod handles;
mod list;
mod place;
mod problem;
mod read;
mod space;
mod upload;

/// Requests on directories at once.
const AT_ONCE: usize = 64;

/// A storage in a directory of an SFTP server. Objects are readable by the owner alone (0600,
/// 0700). Not to be used on a thread of the pool's runtime.
pub struct SftpStorage {
    pool: Pool,
    handles: Handles,
    space: Space,
    /// The file system has no hard links.
    no_links: AtomicBool,
    /// The server refuses to force files to disk, though it said it could.
    no_sync: AtomicBool,
    /// The server has forced a directory to disk.
    syncs_directories: AtomicBool,
    /// The command that computes checksums, if there is one, once that is known.
    command: OnceCell<Option<&'static str>>,
}

impl fmt::Debug for SftpStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SftpStorage({})", self.pool.location())
    }
}

impl SftpStorage {
    /// The storage at the place of `pool`. Nothing is read or written yet.
    pub fn new(pool: Pool) -> Self {
        Self {
            pool,
            handles: Handles::default(),
            space: Space::default(),
            no_links: AtomicBool::new(false),
            no_sync: AtomicBool::new(false),
            syncs_directories: AtomicBool::new(false),
            command: OnceCell::new(),
        }
    }

    /// The connections that it works on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// An object or folder as a person would write it.
    fn shown(&self, name: &str) -> String {
        match name {
            "" => self.pool.location(),
            name => format!("{}/{name}", self.pool.location()),
        }
    }

    /// The path of an object or folder on the server.
    async fn path(&self, name: &str) -> Result<Vec<u8>, SftpError> {
        let base = self.pool.base().await?;
        let base = base.strip_suffix(b"/").unwrap_or(base);
        Ok(match name {
            "" if base.is_empty() => b"/".to_vec(),
            "" => base.to_vec(),
            name => [base, b"/", name.as_bytes()].concat(),
        })
    }

    /// Waits for an operation on `name` that changes nothing.
    fn wait<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> StorageResult<T> {
        let done = self.pool.block_on(work);
        done.map_err(|trouble| trouble.error(operation, self.shown(name)))
    }

    /// As `wait`, for one that changes something: why it failed is looked into.
    fn wait_change<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> StorageResult<T> {
        self.wait(operation, name, async {
            match work.await {
                Ok(done) => Ok(done),
                Err(trouble) => Err(self.explain(trouble).await),
            }
        })
    }
}

impl Storage for SftpStorage {
    fn location(&self) -> String {
        self.pool.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.wait_change("write", "", self.make_all())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.wait_change("write", name.as_str(), self.store(name.as_str(), bytes))
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let upload = self.wait_change("write", Folder::Packs.name(), self.start_upload())?;
        Ok(Box::new(upload))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.wait("read", name.as_str(), async {
            let path = self.path(name.as_str()).await?;
            self.read_whole(&path).await
        })
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        // Every byte is overwritten, so what is in there already need not be zeroed first.
        into.resize(length, 0);
        let read = self.wait("read", name.as_str(), self.read_range(name, offset, into));
        if read.is_err() {
            into.clear();
        }
        read
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.wait("list", folder.name(), self.list_folder(folder, each))
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.wait("stat", name.as_str(), self.look(name))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.wait_change("delete", name.as_str(), self.remove(name))
    }

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        let name = names.first().map_or("", ObjectName::as_str);
        self.wait("verify", name, self.checksums(names))
    }

    fn concurrency(&self) -> usize {
        16
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        self.wait("delete", "", self.remove_old(age))
    }
}

/// The directory that an object or folder lies in, relative to the storage.
fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}
