//! The time that requests are signed with: this machine's, corrected once a server has said that
//! it is wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;

/// Clones are the same clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock {
    /// Seconds that this machine is behind.
    behind: Arc<AtomicI64>,
}

impl Clock {
    /// The server said what time it is, in seconds since the epoch.
    pub(super) fn set(&self, seconds: i64) {
        let here = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let here = i64::try_from(here.as_secs()).unwrap_or(i64::MAX);
        self.behind.store(seconds.saturating_sub(here), Ordering::Relaxed);
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        let behind = self.behind.load(Ordering::Relaxed);
        let by = Duration::from_secs(behind.unsigned_abs());
        let now = SystemTime::now();
        let corrected = if behind < 0 { now.checked_sub(by) } else { now.checked_add(by) };
        corrected.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_server() {
        let clock = Clock::default();
        for seconds in [1_000_000_000, 3_000_000_000] {
            clock.set(seconds);
            let now = clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            assert!(now.abs_diff(seconds as u64) <= 2, "{now}");
        }
    }
}
