//! A storage that sends and receives no faster than it is told to. All threads share one budget
//! for each direction. A transfer is paid for before it begins where its size is known, else
//! after it; uploads are cut into pieces, so that bytes flow steadily.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use holdfast_engine::hash::ObjectId;
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

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        self.inner.sha256(names)
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        self.inner.reap(age)
    }

    fn settle(&self) -> Duration {
        self.inner.settle()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::storage::MemoryStorage;
    use holdfast_engine::hash::RecordId;

    /// A clock that moves when somebody sleeps, and only then.
    #[derive(Default)]
    struct StillClock(Mutex<Duration>);

    impl Clock for StillClock {
        fn now(&self) -> Duration {
            *locked(&self.0)
        }

        fn sleep(&self, duration: Duration) {
            *locked(&self.0) += duration;
        }
    }

    fn limited(upload: Option<u64>, download: Option<u64>) -> (LimitStorage, Arc<StillClock>) {
        let clock = Arc::new(StillClock::default());
        let limits = Limits { upload, download };
        let inner = Arc::new(MemoryStorage::new());
        (LimitStorage::with_clock(inner, limits, clock.clone()), clock)
    }

    fn name(i: u8) -> ObjectName {
        ObjectName::key(RecordId::new([i; 16]))
    }

    #[test]
    fn each_direction_takes_the_time_that_its_rate_says() -> StorageResult<()> {
        let (storage, clock) = limited(Some(1 << 20), Some(2 << 20));
        storage.prepare()?;
        let bytes = vec![7; 3 << 20];
        storage.put(&name(1), &bytes)?;
        assert_eq!(clock.now(), Duration::from_secs(3));
        let mut upload = storage.upload()?;
        upload.write(&bytes)?;
        upload.finish(&name(2))?;
        assert_eq!(clock.now(), Duration::from_secs(6));
        // What was not used of the other direction is not saved up beyond a moment.
        assert_eq!(storage.get(&name(2))?, bytes);
        let mut part = Vec::new();
        storage.get_range(&name(1), 0, 1 << 20, &mut part)?;
        assert_eq!(clock.now(), Duration::from_secs(8) - BURST);
        Ok(())
    }

    #[test]
    fn without_a_limit_nobody_waits() -> StorageResult<()> {
        let (storage, clock) = limited(None, Some(1));
        storage.prepare()?;
        storage.put(&name(1), &[7; 1000])?;
        let mut upload = storage.upload()?;
        upload.write(&[7; 1000])?;
        upload.finish(&name(2))?;
        storage.list(Folder::Keys, &mut |_| {})?;
        assert_eq!(clock.now(), Duration::ZERO);
        Ok(())
    }

    #[test]
    fn uploads_flow_in_pieces() -> StorageResult<()> {
        let (storage, clock) = limited(Some(1 << 20), None);
        storage.prepare()?;
        let pieces = |bytes: usize| bytes.div_ceil(storage.upload.as_ref().map_or(1, |d| d.piece));
        assert_eq!(pieces(1 << 20), 4);
        let mut upload = storage.upload()?;
        upload.write(&vec![0; (1 << 20) + 1])?;
        upload.finish(&name(1))?;
        assert_eq!(storage.stat(&name(1))?.size, (1 << 20) + 1);
        assert!(clock.now() > Duration::from_secs(1));
        Ok(())
    }

    #[test]
    fn threads_share_one_budget() {
        let mut bucket = Bucket::new(1000);
        let second = Duration::from_secs(1);
        // Three at the same moment: each waits for those before it.
        assert_eq!(bucket.take(1000, Duration::ZERO), second);
        assert_eq!(bucket.take(1000, Duration::ZERO), second * 2);
        assert_eq!(bucket.take(500, second), second * 3 / 2);
        // After a pause only the burst is free.
        assert_eq!(bucket.take(250, second * 10), Duration::ZERO);
        assert_eq!(bucket.take(1000, second * 10), second);
        assert_eq!(bucket.take(0, second * 20), Duration::ZERO);
        // No sum is too big.
        assert!(Bucket::new(1).take(u64::MAX, Duration::ZERO) > second);
        assert!(Bucket::new(0).take(1, Duration::ZERO) == second);
    }
}
