//! How often a password may be tried: a few times at once, then at growing distances, for each
//! address and for all of them together.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// How long `address` has to wait before its next try; `None`: not at all.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |key: Option<IpAddr>, free: u32| {
            let failures = failures.get(&key)?;
            let over = failures.count.checked_sub(free)?;
            let wait = WAIT.saturating_mul(1 << over.min(16)).min(MOST);
            wait.checked_sub(now.saturating_duration_since(failures.last))
        };
        of(Some(address), FREE.0).max(of(None, FREE.1)).filter(|wait| !wait.is_zero())
    }

    /// A try of `address` failed.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGET);
        let known = failures.len() < ADDRESSES || failures.contains_key(&Some(address));
        for key in [None, Some(address)].into_iter().take(if known { 2 } else { 1 }) {
            let entry = failures.entry(key).or_insert(Failures { count: 0, last: now });
            *entry = Failures { count: entry.count.saturating_add(1), last: now };
        }
    }

    /// A try of `address` was right.
    pub(crate) fn passed(&self, address: IpAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Some(address));
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
            assert_eq!(limiter.wait(one, now), None);
            limiter.failed(one, now);
        }
        assert_eq!(limiter.wait(one, now), Some(WAIT));
        assert_eq!(limiter.wait(two, now), None);
        assert_eq!(limiter.wait(one, now + WAIT), None);
        limiter.failed(one, now);
        assert_eq!(limiter.wait(one, now), Some(WAIT * 2));
        limiter.passed(one);
        assert_eq!(limiter.wait(one, now), None);
        // Many addresses are no way around it.
        for n in 0..60 {
            limiter.failed(IpAddr::from(Ipv4Addr::new(10, 0, 1, n)), now);
        }
        assert!(limiter.wait(IpAddr::from([10, 0, 2, 1]), now).is_some());
    }
}
