//! Storages, sources and destinations that send and receive no faster than they are told to. All
//! threads share one budget for each direction. What is sent is paid for before, what is received
//! where its size is known, else after it; uploads are cut into pieces, so that bytes flow
//! steadily.

mod destination;
mod source;
mod storage;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub use self::destination::LimitDestination;
pub use self::source::LimitSource;
pub use self::storage::LimitStorage;
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
    /// To the place.
    pub upload: Option<u64>,
    /// From the place.
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

/// Both directions of a place.
struct Budget {
    upload: Option<Direction>,
    download: Option<Direction>,
    clock: Arc<dyn Clock>,
}

impl Budget {
    fn new(limits: Limits, clock: Arc<dyn Clock>) -> Arc<Self> {
        let upload = limits.upload.map(Direction::new);
        let download = limits.download.map(Direction::new);
        Arc::new(Self { upload, download, clock })
    }

    /// Waits until so many bytes may go.
    fn send(&self, bytes: usize) {
        self.wait(self.upload.as_ref(), bytes);
    }

    /// Waits until so many bytes may come, or until those that came are paid for.
    fn receive(&self, bytes: usize) {
        self.wait(self.download.as_ref(), bytes);
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

fn system_clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that moves when somebody sleeps, and only then.
    #[derive(Default)]
    pub(super) struct StillClock(Mutex<Duration>);

    impl Clock for StillClock {
        fn now(&self) -> Duration {
            *locked(&self.0)
        }

        fn sleep(&self, duration: Duration) {
            *locked(&self.0) += duration;
        }
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
