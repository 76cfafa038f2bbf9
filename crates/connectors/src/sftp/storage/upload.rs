//! An object that is written while it is made. Its bytes go to a temporary file in segments,
//! several on their way at once over all connections: what one SSH channel has on its way is
//! bounded. A segment is kept until it is acknowledged, and written again over another connection
//! if one breaks; a late copy of it writes the same bytes to the same place.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_engine::storage::{Folder, ObjectName, StorageResult, Upload};
use tokio::sync::OnceCell;
use tokio::task::{JoinError, JoinSet};

use super::place::{Fresh, fresh_name, is_refused_sync, remove_all};
use super::problem::Trouble;
use super::{SftpStorage, parent};
use crate::locked;
use crate::sftp::client::{Attributes, ClientErrorKind, ClientResult, File, OpenFlags};
use crate::sftp::pool::{Lease, Pool, Retry, SftpError};

/// Bytes in a segment.
const SEGMENT: usize = 1 << 20;
/// Segments on their way at once.
const ON_THEIR_WAY: usize = 8;
/// How long a dropped upload waits for its temporary file to be removed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A temporary file, open on some connections.
struct Temporary {
    path: Vec<u8>,
    files: Mutex<HashMap<u64, Arc<OnceCell<File>>>>,
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
        locked(&self.files).remove(&lease.connection());
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
                    return Ok(SftpUpload {
                        storage: self,
                        temporary: Arc::new(Temporary { path, files }),
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

    /// Waits for all segments, forces the file to disk, and confirms its size.
    async fn complete(&mut self) -> Result<(), Trouble> {
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
            let (synced, found) = tokio::join!(sync, file.attributes());
            match synced {
                Err(error) if is_refused_sync(&error) => {
                    storage.no_sync.store(true, Ordering::Relaxed);
                }
                synced => synced?,
            }
            Ok(found?.size)
        });
        match size.await? {
            Some(size) if size == self.sent => Ok(()),
            Some(size) => {
                Err(Trouble::io(format!("{size} of {} bytes arrived at the server", self.sent)))
            }
            None => Err(Trouble::io("the server does not tell the file's size".into())),
        }
    }

    async fn end(&mut self, name: &ObjectName) -> Result<(), Trouble> {
        let (fresh_name, storage) = (name.as_str(), self.storage);
        let (complete, taken) = tokio::join!(self.complete(), storage.is_taken(fresh_name));
        complete?;
        if taken? {
            return Err(Trouble::exists());
        }
        locked(&self.temporary.files).clear();
        let fresh = Fresh { name: fresh_name, size: self.sent, bytes: None };
        self.storage.place(&self.temporary.path, &fresh).await?;
        let temporaries = vec![self.temporary.path.clone()];
        self.storage.clear(&Ok(()), temporaries, parent(fresh_name)).await?;
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
