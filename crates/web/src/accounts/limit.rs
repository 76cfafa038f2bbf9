//! How often a password may be tried: a few times at once, then at growing distances, for each
//! address and for all of them together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdfast_app::text::duration;
use holdfast_app::{Class, Problem};

use super::FORGOTTEN;

/// Tries that cost nothing, of one address and of all.
const FREE: (u32, u32) = (5, 50);
/// The first wait; it doubles.
const WAIT: Duration = Duration::from_secs(2);
/// The longest wait.
const MOST: Duration = Duration::from_secs(300);
/// Failures are forgotten after this time without another.
const FORGET: Duration = Duration::from_secs(3600);
/// Addresses that are remembered; more are one.
const ADDRESSES: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Counts what failed.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<HashMap<Option<IpAddr>, Failures>>);

impl Limiter {
    /// Whether what `address` tries `is_right`, which is asked only if it has not to wait.
    pub(crate) fn attempt(
        &self,
        address: IpAddr,
        is_right: impl FnOnce() -> Result<bool, Problem>,
    ) -> Result<bool, Problem> {
        self.begin(address, Instant::now()).map_err(|wait| {
            let text = format!("too many tries: wait {}", duration(wait));
            Problem::new(Class::SlowDown, text).hint(FORGOTTEN)
        })?;
        let is_right = is_right()?;
        if is_right {
            self.passed(address);
        }
        Ok(is_right)
    }

    /// Counts a try of `address` as one that failed, before that is known: many at once are no way
    /// around the limit. Errors: how long it has to wait instead.
    fn begin(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |key: Option<IpAddr>, free: u32| {
            let failures = failures.get(&key)?;
            let over = failures.count.checked_sub(free)?;
            let wait = WAIT.saturating_mul(1 << over.min(16)).min(MOST);
            wait.checked_sub(now.saturating_duration_since(failures.last))
        };
        let wait = of(Some(address), FREE.0).max(of(None, FREE.1));
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET);
        let known = failures.len() < ADDRESSES || failures.contains_key(&Some(address));
        for key in [None, Some(address)].into_iter().take(if known { 2 } else { 1 }) {
            let entry = failures.entry(key).or_insert(Failures { count: 0, last: now });
            *entry = Failures { count: entry.count.saturating_add(1), last: now };
        }
        Ok(())
    }

    /// A try of `address` was right: what it did wrong before is forgiven, and of all the others
    /// none was this one.
    fn passed(&self, address: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&Some(address));
        failures.entry(None).and_modify(|all| all.count = all.count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_sixth_try_waits_and_each_one_longer() {
        let limiter = Limiter::default();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let now = Instant::now();
        for _ in 0..5 {
            assert_eq!(limiter.begin(one, now), Ok(()));
        }
        assert_eq!(limiter.begin(one, now), Err(WAIT));
        assert_eq!(limiter.begin(two, now), Ok(()));
        let now = now + WAIT;
        assert_eq!(limiter.begin(one, now), Ok(()));
        assert_eq!(limiter.begin(one, now), Err(WAIT * 2));
        limiter.passed(one);
        assert_eq!(limiter.begin(one, now), Ok(()));
        // Many addresses are no way around it.
        let refused = |n| limiter.begin(IpAddr::from(Ipv4Addr::new(10, 0, 1, n)), now).is_err();
        assert_eq!((0..60).filter(|n| refused(*n)).count(), 60 - (50 - 7));
    }

    #[test]
    fn who_is_right_slows_nobody_down() -> Result<(), Problem> {
        let limiter = Limiter::default();
        for n in 0..200 {
            let address = IpAddr::from(Ipv4Addr::new(10, 0, 1, n));
            assert!(limiter.attempt(address, || Ok(true))?, "{n}");
        }
        let one = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..5 {
            assert!(!limiter.attempt(one, || Ok(false))?);
        }
        let asked = std::cell::Cell::new(false);
        let refused = limiter.attempt(one, || Ok(!asked.replace(true)));
        assert_eq!(refused.err().map(|problem| problem.class), Some(Class::SlowDown));
        assert!(!asked.get(), "asked in spite of the limit");
        Ok(())
    }
}
