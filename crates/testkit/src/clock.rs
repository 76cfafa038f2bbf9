//! Seeds and clocks: random numbers that are the same in every run, and a clock that stands
//! still until a test moves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use holdfast_engine::meta::Time;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Where every [`TestClock`] starts: 2026-01-01 00:00:00 UTC.
pub const START: Time = Time { seconds: 1_767_225_600, nanos: 0 };

/// Random numbers that depend on the seed alone.
pub fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A seed for one part of a test, so that parts do not share a stream and one of them can change
/// without changing the others. (SplitMix64 over seed and part.)
pub fn sub_seed(seed: u64, part: u64) -> u64 {
    let mut z = seed ^ part.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `length` random bytes. They do not compress.
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    use rand::RngCore;
    let mut bytes = vec![0; length];
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

/// `length` bytes of text-like lines, which compress well and repeat in part.
pub fn text_bytes(seed: u64, length: usize) -> Vec<u8> {
    use rand::Rng;
    const WORDS: [&[u8]; 12] = [
        b"hold", b"fast", b"the", b"a", b"keeps", b"what", b"was", b"lost", b"and", b"found",
        b"rope", b"harbour",
    ];
    let mut rng = rng(seed);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(WORDS[rng.random_range(0..WORDS.len())]);
        bytes.push(if rng.random_ratio(1, 9) { b'\n' } else { b' ' });
    }
    bytes.truncate(length);
    bytes
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Debug, Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl Default for TestClock {
    fn default() -> Self {
        Self::new()
    }
}

impl TestClock {
    /// A clock standing at [`START`].
    pub fn new() -> Self {
        Self::at(START)
    }

    /// A clock standing at `time`.
    pub fn at(time: Time) -> Self {
        Self(Arc::new(AtomicI64::new(time.total_nanos())))
    }

    /// The time it shows.
    pub fn now(&self) -> Time {
        Time::from_total_nanos(self.0.load(Ordering::SeqCst))
    }

    /// Moves it by whole seconds, backwards if negative.
    pub fn advance(&self, seconds: i64) {
        self.0.fetch_add(seconds.saturating_mul(1_000_000_000), Ordering::SeqCst);
    }

    /// Moves it by one microsecond and returns the new time: no two ticks are equal.
    pub fn tick(&self) -> Time {
        Time::from_total_nanos(self.0.fetch_add(1_000, Ordering::SeqCst) + 1_000)
    }

    /// Sets it.
    pub fn set(&self, time: Time) {
        self.0.store(time.total_nanos(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_decide_everything() {
        assert_eq!(random_bytes(1, 100), random_bytes(1, 100));
        assert_ne!(random_bytes(1, 100), random_bytes(2, 100));
        assert_eq!(text_bytes(5, 1000).len(), 1000);
        assert_ne!(sub_seed(1, 0), sub_seed(0, 1));
    }

    #[test]
    fn clocks_move_when_told() {
        let clock = TestClock::new();
        let other = clock.clone();
        assert_eq!(other.now(), START);
        clock.advance(-3);
        assert_eq!(other.now().seconds, START.seconds - 3);
        assert!(clock.tick() < clock.tick());
    }
}
