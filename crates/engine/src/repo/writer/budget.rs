//! How many plain bytes may be on their way through a writer at once: what bounds its memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::lock;

/// Bytes that may be on their way at once.
#[derive(Debug)]
pub(super) struct Budget {
    total: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Budget {
    pub(super) fn new(total: usize) -> Self {
        Self { total, free: Mutex::new(total), freed: Condvar::new() }
    }

    /// Waits for room, unless the writer fails meanwhile. Anything fits while nothing else is on its way.
    pub(super) fn acquire(&self, bytes: usize, failed: &AtomicBool) -> bool {
        let bytes = bytes.min(self.total);
        let mut free = lock(&self.free);
        while *free < bytes {
            if failed.load(Ordering::Relaxed) {
                return false;
            }
            let wait = self.freed.wait_timeout(free, Duration::from_millis(100));
            free = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        true
    }

    /// Gives back what was acquired.
    pub(super) fn release(&self, bytes: usize) {
        *lock(&self.free) += bytes.min(self.total);
        self.freed.notify_all();
    }
}
