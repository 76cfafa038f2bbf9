//! A storage that sends and receives no faster than it is told to. All threads share one budget
//! for each direction. A transfer is paid for before it begins where its size is known, else
//! after it; uploads are cut into pieces, so that bytes flow steadily.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload};

use crate::locked;

/// Pieces of an upload take about this long each.
const PIECE: Duration = Duration::from_millis(250);
/// Pieces are no smaller than this.
const PIECE_MIN: usize = 16 << 10;
/// What was not used is kept for this long, so that short pauses cost nothing.
const BURST: Duration = Duration::from_millis(250);

/// Bytes a second in each direction; `None` for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// To the storage.
    pub upload: Option<u64>,
    /// From the storage.
    pub download: Option<u64>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        self.upload.is_none() && self.download.is_none()
    }
}

/// Time as the limits see it.
pub trait Clock: Send + Sync {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration);
}

/// The machine's own clock.
struct SystemClock(Instant);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// How much one direction may still transfer. What is taken too much is a debt: whoever takes it
/// waits until it is paid, and so does everybody after.
struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// When everything that was taken so far is paid for.
    paid: Duration,
}

impl Bucket {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), paid: Duration::ZERO }
    }

    /// Takes `bytes` at the time `now`; how long to wait before they may go.
    fn take(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = self.paid.max(now.saturating_sub(BURST));
        self.paid = from.saturating_add(cost);
        self.paid.saturating_sub(now)
    }
}

/// One direction.
struct Direction {
    bucket: Mutex<Bucket>,
    piece: usize,
}

impl Direction {
    fn new(rate: u64) -> Self {
        let piece = u128::from(rate) * PIECE.as_millis() / 1000;
        let piece = usize::try_from(piece).unwrap_or(usize::MAX).max(PIECE_MIN);
        Self { bucket: Mutex::new(Bucket::new(rate)), piece }
    }
}

/// Limits the bandwidth of another storage.
pub struct LimitStorage {
    inner: Arc<dyn Storage>,
    upload: Option<Direction>,
    download: Option<Direction>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for LimitStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitStorage").field(&self.inner).finish()
    }
}

impl LimitStorage {
    /// Limits what goes to `inner` and comes from it.
    pub fn new(inner: Arc<dyn Storage>, limits: Limits) -> Self {
        Self::with_clock(inner, limits, Arc::new(SystemClock(Instant::now())))
    }

    /// The same by another clock.
    pub fn with_clock(inner: Arc<dyn Storage>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let upload = limits.upload.map(Direction::new);
        let download = limits.download.map(Direction::new);
        Self { inner, upload, download, clock }
    }

    fn wait(&self, direction: Option<&Direction>, bytes: usize) {
        let Some(direction) = direction else { return };
        // The bucket is not held while waiting.
        let wait = locked(&direction.bucket).take(bytes as u64, self.clock.now());
        if !wait.is_zero() {
            self.clock.sleep(wait);
        }
    }
}

impl Storage for LimitStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.inner.prepare()
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.wait(self.upload.as_ref(), bytes.len());
        self.inner.put(name, bytes)
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let inner = self.inner.upload()?;
        Ok(match &self.upload {
            None => inner,
            Some(direction) => Box::new(LimitUpload { storage: self, direction, inner }),
        })
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let bytes = self.inner.get(name)?;
        self.wait(self.download.as_ref(), bytes.len());
        Ok(bytes)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        self.wait(self.download.as_ref(), length);
        self.inner.get_range(name, offset, length, into)
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.inner.list(folder, each)
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.inner.stat(name)
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.inner.delete(name)
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }
}

struct LimitUpload<'a> {
    storage: &'a LimitStorage,
    direction: &'a Direction,
    inner: Box<dyn Upload + 'a>,
}

impl Upload for LimitUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        for piece in bytes.chunks(self.direction.piece) {
            self.storage.wait(Some(self.direction), piece.len());
            self.inner.write(piece)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        self.inner.finish(name)
    }
}
