//! An object that is written while it is made. Its bytes go to a temporary file in segments,
//! several on their way at once over all connections: what one SSH channel has on its way is
//! bounded. A segment is kept until it is acknowledged, and written again over another connection
//! if one breaks; a late copy of it writes the same bytes to the same place.
//!
//! What was acknowledged is in the server's memory until the file is forced to disk. A connection
//! that breaks may be a server that lost power, and all of that with it: then the file is read back
//! before it gets its name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use holdfast_engine::hash::{ObjectId, Sha256};
use holdfast_engine::storage::{Folder, ObjectName, StorageResult, Upload};
use tokio::sync::OnceCell;
use tokio::task::{JoinError, JoinSet};

use super::place::{Fresh, Rest, fresh_name, is_refused_sync, remove_all};
use super::problem::Trouble;
use super::{SftpStorage, parent};
use crate::locked;
use crate::sftp::client::{Attributes, ClientErrorKind, ClientResult, File, OpenFlags};
use crate::sftp::pool::{Lease, Pool, Retry, SftpError};

/// Bytes in a segment.
const SEGMENT: usize = 1 << 20;
/// Segments on their way at once.
const ON_THEIR_WAY: usize = 8;
/// Bytes read back at once.
const READ_BACK: usize = 8 << 20;
/// How long a dropped upload waits for its temporary file to be removed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A temporary file, open on some connections.
struct Temporary {
    path: Vec<u8>,
    files: Mutex<HashMap<u64, Arc<OnceCell<File>>>>,
    /// A connection that had it open is gone.
    broke: AtomicBool,
}

impl Temporary {
    /// The file, opened for writing if it is not yet on this connection.
    async fn file<'a>(&self, lease: &Lease, cell: &'a OnceCell<File>) -> ClientResult<&'a File> {
        let open = async || {
            let attributes = Attributes::default();
            lease.client().open(&self.path, OpenFlags::WRITE, &attributes).await
        };
        cell.get_or_try_init(open).await
    }

    fn cell(&self, lease: &Lease) -> Arc<OnceCell<File>> {
        locked(&self.files).entry(lease.connection()).or_default().clone()
    }

    fn forget(&self, lease: &Lease) {
        self.broke.store(true, Ordering::Relaxed);
        locked(&self.files).remove(&lease.connection());
    }

    /// Asks on all connections but that of `own` whether they are still there: one may have broken
    /// while nothing was on its way.
    async fn look_for_breaks(&self, own: &Arc<OnceCell<File>>) {
        let mut cells: Vec<_> = locked(&self.files).values().cloned().collect();
        cells.retain(|cell| !Arc::ptr_eq(cell, own));
        let asked = cells.iter().filter_map(|cell| cell.get()).map(File::attributes);
        if join_all(asked).await.iter().any(Result::is_err) {
            self.broke.store(true, Ordering::Relaxed);
        }
    }

    /// Writes a segment, again while connections break. Returns its buffer.
    async fn write(
        self: Arc<Self>,
        pool: Pool,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SftpError> {
        let mut patience = pool.patience();
        loop {
            let lease = pool.lease(&mut patience).await?;
            let cell = self.cell(&lease);
            let written = match self.file(&lease, &cell).await {
                Ok(file) => file.write_at(offset, &bytes).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(()) => return Ok(bytes),
                Err(error) if error.is_disconnect() => {
                    self.forget(&lease);
                    pool.discard(&lease);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A pack on its way: a temporary file in `packs/`.
pub(super) struct SftpUpload<'a> {
    storage: &'a SftpStorage,
    temporary: Arc<Temporary>,
    tasks: JoinSet<Result<Vec<u8>, SftpError>>,
    /// What is in no segment yet.
    rest: Vec<u8>,
    /// Bytes in segments.
    sent: u64,
    /// A buffer that came back.
    spare: Vec<u8>,
    /// Whether the temporary file is still ours to remove.
    is_ours: bool,
}

impl SftpStorage {
    /// Makes the temporary file.
    pub(super) async fn start_upload(&self) -> Result<SftpUpload<'_>, Trouble> {
        self.take_space(SEGMENT as u64).await?;
        let directory = Folder::Packs.name();
        let (mut left, mut missing) = (Vec::new(), 0);
        let mut patience = self.pool.patience();
        loop {
            let path = self.path(directory).await?;
            let path = [path.as_slice(), b"/", fresh_name()?.as_bytes()].concat();
            let lease = self.pool.lease(&mut patience).await?;
            let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
            let attributes = Attributes::with_permissions(0o600);
            match lease.client().open(&path, flags, &attributes).await {
                Ok(file) => {
                    if !left.is_empty() {
                        self.pool.runtime().spawn(remove_all(self.pool.clone(), left));
                    }
                    let cell = Arc::new(OnceCell::new_with(Some(file)));
                    let files = Mutex::new(HashMap::from([(lease.connection(), cell)]));
                    let broke = AtomicBool::new(false);
                    return Ok(SftpUpload {
                        storage: self,
                        temporary: Arc::new(Temporary { path, files, broke }),
                        tasks: JoinSet::new(),
                        rest: Vec::new(),
                        sent: 0,
                        spare: Vec::new(),
                        is_ours: true,
                    });
                }
                Err(error) if error.is_disconnect() => {
                    self.pool.discard(&lease);
                    left.push(path);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) if error.kind == ClientErrorKind::NotFound && missing < 4 => {
                    missing += 1;
                    self.make_directory(directory).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The SHA-256 of what a file holds, at most `size` bytes.
    async fn read_back(&self, path: &[u8], size: u64) -> Result<ObjectId, SftpError> {
        let mut hash = Sha256::default();
        let mut at = 0;
        while at < size {
            let length = READ_BACK.min(usize::try_from(size - at).unwrap_or(READ_BACK));
            let read = self.pool.run(Retry::Yes, async |client| {
                let file = client.open(path, OpenFlags::READ, &Attributes::default()).await?;
                file.read_range(at, length).await
            });
            let bytes = read.await?;
            if bytes.is_empty() {
                break;
            }
            hash.update(&bytes);
            at += bytes.len() as u64;
        }
        Ok(hash.finish())
    }
}

impl SftpUpload<'_> {
    /// Sends what is there as a segment.
    async fn send(&mut self) -> Result<(), Trouble> {
        while self.tasks.len() >= ON_THEIR_WAY {
            self.arrived().await?;
        }
        let segment = std::mem::replace(&mut self.rest, std::mem::take(&mut self.spare));
        self.rest.clear();
        let length = segment.len() as u64;
        self.storage.take_space(length).await?;
        let pool = &self.storage.pool;
        let task = self.temporary.clone().write(pool.clone(), self.sent, segment);
        self.tasks.spawn_on(task, pool.runtime());
        self.sent += length;
        Ok(())
    }

    /// Waits for one segment.
    async fn arrived(&mut self) -> Result<(), Trouble> {
        match self.tasks.join_next().await {
            Some(Ok(written)) => self.spare = written?,
            Some(Err(error)) => return Err(Trouble::io(worker(&error))),
            None => {}
        }
        Ok(())
    }

    /// Waits for all segments, forces the file to disk, and confirms its size; its content too if
    /// a connection broke.
    async fn complete(&mut self, name: &ObjectName) -> Result<(), Trouble> {
        if !self.rest.is_empty() {
            self.send().await?;
        }
        while !self.tasks.is_empty() {
            self.arrived().await?;
        }
        let (storage, temporary) = (self.storage, &self.temporary);
        let size = storage.pool.run_on(Retry::Yes, async |lease| {
            // Where it was written: a failure to write back is told to those who had it open.
            let cell = temporary.cell(lease);
            let file = temporary.file(lease, &cell).await?;
            let sync = async {
                match storage.syncs(lease.client()) {
                    true => file.sync().await,
                    false => Ok(()),
                }
            };
            let (synced, found, ()) =
                tokio::join!(sync, file.attributes(), temporary.look_for_breaks(&cell));
            match synced {
                Err(error) if is_refused_sync(&error) => {
                    storage.no_sync.store(true, Ordering::Relaxed);
                }
                synced => synced?,
            }
            Ok(found?.size)
        });
        match size.await? {
            Some(size) if size == self.sent => {}
            Some(size) => {
                let what = format!("{size} of {} bytes arrived at the server", self.sent);
                return Err(Trouble::io(what));
            }
            None => return Err(Trouble::io("the server does not tell the file's size".into())),
        }
        if !temporary.broke.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Packs are named after their content.
        let found = storage.read_back(&temporary.path, self.sent).await?;
        match found.to_string() == name.base() {
            true => Ok(()),
            false => Err(Trouble::io(
                "the connection broke, and what the server had confirmed before is not on its \
                 disk (it may have lost power): run it again"
                    .into(),
            )),
        }
    }

    async fn end(&mut self, name: &ObjectName) -> Result<(), Trouble> {
        let (fresh_name, storage) = (name.as_str(), self.storage);
        let ready = async {
            if let Ok(lease) = storage.pool.lease(&mut storage.pool.patience()).await {
                storage.ready(&lease, parent(fresh_name)).await;
            }
        };
        let (complete, taken, ()) =
            tokio::join!(self.complete(name), storage.is_taken(fresh_name), ready);
        complete?;
        if taken? {
            return Err(Trouble::exists());
        }
        locked(&self.temporary.files).clear();
        let fresh = Fresh { name: fresh_name, size: self.sent, bytes: None };
        let named = self.storage.place(&self.temporary.path, &fresh, false).await?;
        let temporaries = vec![self.temporary.path.clone()];
        let rest = Rest { temporaries, ..Rest::default() };
        self.storage.clear(&Ok(named), rest, fresh_name).await?;
        self.is_ours = false;
        Ok(())
    }
}

impl Upload for SftpUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let room = SEGMENT.saturating_sub(self.rest.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() >= SEGMENT {
                let storage = self.storage;
                storage.wait_change("write", Folder::Packs.name(), self.send())?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let storage = self.storage;
        storage.wait_change("write", name.as_str(), self.end(name))
    }
}

impl Drop for SftpUpload<'_> {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        self.tasks.abort_all();
        locked(&self.temporary.files).clear();
        let pool = &self.storage.pool;
        let removal = remove_all(pool.clone(), vec![self.temporary.path.clone()]);
        let removal = pool.runtime().spawn(removal);
        // It goes on beyond that, while the program does.
        if tokio::runtime::Handle::try_current().is_err() {
            let _ = pool.block_on(async { tokio::time::timeout(GOODBYE, removal).await });
        }
    }
}

fn worker(error: &JoinError) -> String {
    format!("a segment was given up: {error}")
}
