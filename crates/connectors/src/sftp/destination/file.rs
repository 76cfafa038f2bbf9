//! A file being restored in parts: under a temporary name until it is finished, written over
//! several connections. What a broken connection did not confirm is written again over another. What
//! it did confirm is lost if the server lost power: so that is read back before the file gets its
//! name.

use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use holdfast_engine::destination::{
    Attributes as EngineAttributes, DestinationFile, DestinationResult, Unset,
};

use super::Inner;
use super::attributes::{Target, Wanted, set};
use super::place::{new_file, temporary};
use super::problem::Problem;
use crate::locked;
use crate::network::Patience;
use crate::sftp::client::{Attributes, ClientError, ClientResult, File, OpenFlags};
use crate::sftp::pool::{Lease, Pool, Retry, SftpError};

/// A file is written over one connection for each of this many bytes it has.
const STRIPE: u64 = 8 << 20;

/// Parts that are read back by one open file, and at once.
const READ_BACK: (usize, usize) = (64, 8);

/// How long to try to remove what is left of a file that is given up.
const LAST_TRY: Duration = Duration::from_secs(10);

/// A file that has no name of its own yet.
pub(super) struct SftpFile {
    inner: Arc<Inner>,
    /// Relative, for messages.
    path: Vec<u8>,
    at: Vec<u8>,
    temporary: Vec<u8>,
    replace: bool,
    size: u64,
    /// Connections to use.
    stripes: usize,
    handles: Mutex<Vec<Arc<Handle>>>,
    /// The file is so long by what was written.
    end: AtomicU64,
    written: Mutex<Vec<Written>>,
    /// How many connections broke that had it open.
    breaks: AtomicUsize,
    is_placed: bool,
}

/// A part that a connection has confirmed.
#[derive(Debug, Clone, Copy)]
struct Written {
    offset: u64,
    length: usize,
    connection: u64,
    checksum: u64,
}

/// Tells what was written from holes and leftovers; nobody forges it.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// The file, opened on one connection. It counts as one call there.
struct Handle {
    lease: Lease,
    file: File,
    writes: AtomicUsize,
}

/// A handle while it is written to.
struct Turn {
    handle: Arc<Handle>,
    /// Lets the pool know how busy the connection is.
    _lease: Option<Lease>,
}

impl Turn {
    fn new(handle: &Arc<Handle>, lease: Option<Lease>) -> Self {
        handle.writes.fetch_add(1, Ordering::Relaxed);
        Self { handle: handle.clone(), _lease: lease }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.handle.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SftpFile {
    /// Makes the temporary file for `path`, which is `at` on the server.
    pub(super) async fn create(
        inner: &Arc<Inner>,
        path: &[u8],
        at: Vec<u8>,
        size: u64,
        replace: bool,
    ) -> Result<Self, Problem> {
        let mut patience = inner.pool.patience();
        let mut litter = Vec::new();
        let (temporary, handle) = loop {
            let name = temporary(&at)?;
            let lease = inner.pool.lease(&mut patience).await?;
            let (flags, permissions) = new_file();
            match lease.client().open(&name, flags, &permissions).await {
                Ok(file) => break (name, Handle { lease, file, writes: AtomicUsize::new(0) }),
                Err(error) if error.is_disconnect() => {
                    inner.pool.discard(&lease);
                    litter.push(name);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) => {
                    inner.discard_names(&litter).await;
                    return Err(error.into());
                }
            }
        };
        inner.discard_names(&litter).await;
        let most = inner.pool.options().connections.max(1);
        let stripes = usize::try_from(size / STRIPE).unwrap_or(usize::MAX).clamp(1, most);
        Ok(Self {
            inner: inner.clone(),
            path: path.to_vec(),
            at,
            temporary,
            replace,
            size,
            stripes,
            handles: Mutex::new(vec![Arc::new(handle)]),
            end: AtomicU64::new(0),
            written: Mutex::default(),
            breaks: AtomicUsize::new(0),
            is_placed: false,
        })
    }

    /// A handle to write to.
    async fn turn(&self, patience: &mut Patience) -> Result<Turn, SftpError> {
        {
            let mut handles = locked(&self.handles);
            let open = handles.len();
            handles.retain(|handle| !handle.lease.client().is_dead());
            self.breaks.fetch_add(open - handles.len(), Ordering::Relaxed);
            if handles.len() >= self.stripes {
                let least = handles.iter().min_by_key(|h| h.writes.load(Ordering::Relaxed));
                if let Some(handle) = least {
                    return Ok(Turn::new(handle, None));
                }
            }
        }
        loop {
            let lease = self.inner.pool.lease(patience).await?;
            let is_its = |h: &&Arc<Handle>| std::ptr::eq(h.lease.client(), lease.client());
            let there = locked(&self.handles).iter().find(is_its).cloned();
            if let Some(handle) = there {
                return Ok(Turn::new(&handle, Some(lease)));
            }
            let none = Attributes::default();
            match lease.client().open(&self.temporary, OpenFlags::WRITE, &none).await {
                Ok(file) => {
                    let handle = Arc::new(Handle { lease, file, writes: AtomicUsize::new(0) });
                    locked(&self.handles).push(handle.clone());
                    return Ok(Turn::new(&handle, None));
                }
                Err(error) if error.is_disconnect() => {
                    self.inner.pool.discard(&lease);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Does `work` with a handle, again with another one if the connection breaks.
    async fn with_handle<T>(
        &self,
        work: impl AsyncFn(&Handle) -> ClientResult<T>,
    ) -> Result<T, SftpError> {
        let mut patience = self.inner.pool.patience();
        loop {
            let turn = self.turn(&mut patience).await?;
            match work(&turn.handle).await {
                Err(error) if error.is_disconnect() => {
                    self.discard(&turn.handle);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                other => return Ok(other?),
            }
        }
    }

    /// Gives up a connection that broke.
    fn discard(&self, broken: &Arc<Handle>) {
        self.breaks.fetch_add(1, Ordering::Relaxed);
        self.inner.pool.discard(&broken.lease);
        locked(&self.handles).retain(|handle| !Arc::ptr_eq(handle, broken));
    }

    /// Asks on all connections but `own` whether they are still there: one may have broken while
    /// nothing was on its way.
    async fn look_for_breaks(&self, own: &Handle) {
        let mut others = locked(&self.handles).clone();
        others.retain(|other| !std::ptr::eq(other.as_ref(), own));
        let asked = join_all(others.iter().map(|other| other.file.attributes())).await;
        for (other, _) in others.iter().zip(asked).filter(|(_, answer)| answer.is_err()) {
            self.discard(other);
        }
    }

    async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Problem> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.size {
            return Err(Problem::senseless("a write beyond the size of the file"));
        }
        let write = async |handle: &Handle| -> ClientResult<u64> {
            handle.file.write_at(offset, bytes).await?;
            Ok(handle.lease.connection())
        };
        let connection = self.with_handle(write).await?;
        let (length, checksum) = (bytes.len(), checksum(bytes));
        locked(&self.written).push(Written { offset, length, connection, checksum });
        self.end.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }

    /// Compares what connections had confirmed that are gone with what the server has now.
    async fn read_back(&self) -> Result<(), Problem> {
        let there: Vec<u64> = {
            let handles = locked(&self.handles);
            let there = handles.iter().filter(|handle| !handle.lease.client().is_dead());
            there.map(|handle| handle.lease.connection()).collect()
        };
        let mut doubtful: Vec<Written> = {
            let written = locked(&self.written);
            written.iter().filter(|part| !there.contains(&part.connection)).copied().collect()
        };
        doubtful.sort_unstable_by_key(|part| part.offset);
        for some in doubtful.chunks(READ_BACK.0) {
            let same = self.inner.pool.run(Retry::Yes, async |client| {
                let none = Attributes::default();
                let file = &client.open(&self.temporary, OpenFlags::READ, &none).await?;
                stream::iter(some)
                    .map(|part| async move {
                        let bytes = file.read_range(part.offset, part.length).await?;
                        Ok::<_, ClientError>(checksum(&bytes) == part.checksum)
                    })
                    .buffer_unordered(READ_BACK.1)
                    .try_all(std::future::ready)
                    .await
            });
            if !same.await? {
                return Err(Problem::senseless(
                    "the connection broke, and what the server had confirmed before is not there \
                     any more (it may have lost power): run the restore again",
                ));
            }
        }
        Ok(())
    }

    async fn complete(&self, wanted: &Wanted) -> Result<Unset, Problem> {
        // Extended, it reads as zeros from here on, and they take no room where there are holes.
        let is_short = self.end.load(Ordering::Relaxed) < self.size;
        let to_size = Attributes { size: Some(self.size), ..Attributes::default() };
        let end = async |handle: &Handle| -> ClientResult<_> {
            if is_short {
                handle.file.set_attributes(&to_size).await?;
            }
            let learnt = &self.inner.learnt;
            let (unset, found, ()) = tokio::join!(
                set(Target::File(&handle.file), learnt, wanted, None),
                handle.file.attributes(),
                self.look_for_breaks(handle),
            );
            Ok((unset?, found?))
        };
        let (unset, found) = loop {
            // Before its attributes: they may forbid to read it.
            self.read_back().await?;
            let before = self.breaks.load(Ordering::Relaxed);
            let ended = self.with_handle(&end).await?;
            if self.breaks.load(Ordering::Relaxed) == before {
                break ended;
            }
        };
        if found.size.is_some_and(|size| size != self.size) {
            return Err(Problem::senseless("the server did not keep all that was written"));
        }
        // Some systems tell only now that they could not store it all.
        let handles = std::mem::take(&mut *locked(&self.handles));
        for handle in handles.into_iter().filter_map(Arc::into_inner) {
            match handle.file.close().await {
                // The server closes it by itself.
                Err(error) if error.is_disconnect() => {}
                answer => answer?,
            }
        }
        Ok(unset)
    }
}

impl DestinationFile for SftpFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DestinationResult<()> {
        self.inner.call("write", &self.path, self.write(offset, bytes))
    }

    fn finish(mut self: Box<Self>, attributes: EngineAttributes<'_>) -> DestinationResult<Unset> {
        let wanted = Wanted::new(attributes);
        let work = async {
            let unset = self.complete(&wanted).await?;
            self.inner.place(&self.temporary, &self.at, self.replace).await?;
            Ok(unset)
        };
        let finished = self.inner.call("create", &self.path, work);
        self.is_placed = finished.is_ok();
        finished
    }
}

impl Drop for SftpFile {
    fn drop(&mut self) {
        // Handles go with their file, and where nobody answers nobody is waited for.
        locked(&self.handles).clear();
        if self.is_placed || self.inner.lost.load(Ordering::Relaxed) {
            return;
        }
        let pool = self.inner.pool.clone();
        let name = std::mem::take(&mut self.temporary);
        let remove = async move {
            let _ = tokio::time::timeout(LAST_TRY, remove(&pool, &name)).await;
        };
        let runtime = self.inner.pool.runtime();
        if tokio::runtime::Handle::try_current().is_ok() {
            runtime.spawn(remove);
        } else {
            runtime.block_on(remove);
        }
    }
}

/// Removes what a file that was given up has left.
async fn remove(pool: &Pool, name: &[u8]) -> Result<(), SftpError> {
    let mut patience = pool.patience();
    loop {
        let lease = pool.lease(&mut patience).await?;
        match lease.client().remove(name).await {
            Err(error) if error.is_disconnect() => {
                pool.discard(&lease);
                if !patience.pause().await {
                    return Err(error.into());
                }
            }
            answer => return Ok(answer?),
        }
    }
}
