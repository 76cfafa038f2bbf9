//! What was read and may be asked for again, least recently used out first, bounded in bytes. What
//! several threads ask for at once is read by one of them while the others wait.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holdfast_engine::Result;

/// A bounded cache.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
    changed: Condvar,
    room: usize,
}

#[derive(Debug)]
struct State<K, V> {
    slots: HashMap<K, Slot<V>>,
    /// By when they were used last.
    order: BTreeMap<u64, K>,
    clock: u64,
    used: usize,
}

#[derive(Debug)]
enum Slot<V> {
    Loading,
    Ready { value: Arc<V>, cost: usize, at: u64 },
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    /// An empty cache for `room` bytes.
    pub(crate) fn new(room: usize) -> Self {
        let state = State { slots: HashMap::new(), order: BTreeMap::new(), clock: 0, used: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new(), room }
    }

    /// How many bytes it may hold.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is there, or about to be.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.lock().slots.contains_key(key)
    }

    /// What is kept under `key`, or what `load` returns together with its size in bytes. A failure
    /// is not kept: the next one who asks tries again.
    pub(crate) fn get(&self, key: K, load: impl FnOnce() -> Result<(V, usize)>) -> Result<Arc<V>> {
        let mut state = self.lock();
        loop {
            match state.touch(&key) {
                Some(Some(value)) => return Ok(value),
                Some(None) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        state.slots.insert(key, Slot::Loading);
        drop(state);
        let mut pending = Pending { cache: self, key: Some(key) };
        let (value, cost) = load()?;
        let value = Arc::new(value);
        pending.key = None;
        self.lock().insert(key, value.clone(), cost, self.room);
        self.changed.notify_all();
        Ok(value)
    }
}

impl<K: Copy + Eq + Hash, V> State<K, V> {
    /// `None`: not there. `Some(None)`: somebody is reading it.
    fn touch(&mut self, key: &K) -> Option<Option<Arc<V>>> {
        let Slot::Ready { value, at, .. } = self.slots.get_mut(key)? else { return Some(None) };
        self.clock += 1;
        self.order.remove(at);
        self.order.insert(self.clock, *key);
        *at = self.clock;
        Some(Some(value.clone()))
    }

    fn insert(&mut self, key: K, value: Arc<V>, cost: usize, room: usize) {
        self.clock += 1;
        self.slots.insert(key, Slot::Ready { value, cost, at: self.clock });
        self.order.insert(self.clock, key);
        self.used += cost;
        while self.used > room
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some(Slot::Ready { cost, .. }) = self.slots.remove(&oldest) {
                self.used -= cost;
            }
        }
    }
}

/// Lets go of a slot that came to nothing, so that nobody waits for it for ever.
struct Pending<'a, K: Copy + Eq + Hash, V> {
    cache: &'a Cache<K, V>,
    key: Option<K>,
}

impl<K: Copy + Eq + Hash, V> Drop for Pending<'_, K, V> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cache.lock().slots.remove(&key);
            self.cache.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn get(cache: &Cache<u32, u32>, key: u32, cost: usize, loads: &AtomicU32) -> u32 {
        let load = || {
            loads.fetch_add(1, Ordering::SeqCst);
            Ok((key * 10, cost))
        };
        cache.get(key, load).map_or(0, |value| *value)
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_room_is_kept() {
        let cache = Cache::new(100);
        let loads = AtomicU32::new(0);
        for key in [1, 2, 1, 3] {
            assert_eq!(get(&cache, key, 40, &loads), key * 10);
        }
        assert_eq!(loads.load(Ordering::SeqCst), 3);
        assert!(cache.has(&1) && !cache.has(&2) && cache.has(&3));
        assert_eq!(cache.lock().used, 80);
        // More than fits is handed out and not kept.
        assert_eq!(get(&cache, 4, 101, &loads), 40);
        let state = cache.lock();
        assert_eq!((state.used, state.slots.len(), state.order.len()), (0, 0, 0));
    }

    #[test]
    fn many_ask_and_one_reads() {
        let cache = Cache::new(100);
        let loads = AtomicU32::new(0);
        let gate = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    gate.wait();
                    assert_eq!(get(&cache, 7, 1, &loads), 70);
                });
            }
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let cache: Cache<u32, u32> = Cache::new(100);
        let failed = cache.get(1, || Err(holdfast_engine::Error::Interrupted));
        assert!(failed.is_err() && !cache.has(&1));
        assert_eq!(get(&cache, 1, 1, &AtomicU32::new(0)), 10);
    }
}
