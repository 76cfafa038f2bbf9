//! Several reads at once: with storage that is far away, the time of a command is the number of
//! answers that it waits for one after the other.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::storage::Storage;
use crate::{Error, Result};

use super::Repository;
use super::notes::is_of_one_object;

/// A storage that wants more requests at once than this is over a network.
const NEAR: usize = 4;

/// Whether an answer of the storage takes no time to speak of.
pub(super) fn is_near(storage: &dyn Storage) -> bool {
    storage.concurrency() <= NEAR
}

impl Repository {
    /// Whether an answer of its storage takes no time to speak of.
    pub(crate) fn is_near(&self) -> bool {
        is_near(&*self.storage)
    }

    /// What `read` makes of each item, in their order; as many at once as serve the storage well.
    /// The first error ends it.
    pub(crate) fn each_of<T: Sync, R: Send>(
        &self,
        items: &[T],
        read: impl Fn(&T) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, R)>> {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(item) = items.get(at) else { return Ok(done) };
                let read = read(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed));
                done.push((at, read?));
            }
        };
        let threads = self.storage.concurrency().min(items.len());
        let mut done = match threads {
            0 | 1 => work()?,
            _ => std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                let mut all = Vec::with_capacity(items.len());
                for handle in handles {
                    all.extend(handle.join().map_err(died)??);
                }
                Ok::<_, Error>(all)
            })?,
        };
        done.sort_unstable_by_key(|(at, _)| *at);
        Ok(done.into_iter().map(|(_, read)| read).collect())
    }

    /// Reads items of these sizes (bytes), as many at once as serve the storage well, and gives them
    /// to `take` one by one in their order. What is read and not taken yet is at most `most` bytes,
    /// or one item; each counts for `least` bytes at least, for a storage may list sizes that are
    /// not so. The first error ends it.
    pub(super) fn each_in_order<T: Sync, R: Send>(
        &self,
        items: &[(T, u64)],
        (most, least): (u64, u64),
        read: impl Fn(&T) -> Result<R> + Sync,
        mut take: impl FnMut(&T, R) -> Result<()>,
    ) -> Result<()> {
        let window = Window::default();
        let work = || {
            let ended = End { window: &window };
            while let Some((at, (item, _))) = window.next(items, most, least) {
                let read = read(item);
                window.change(|inner| inner.read.insert(at, read));
            }
            // It ends the others only if this one died.
            std::mem::forget(ended);
        };
        std::thread::scope(|scope| {
            let ended = End { window: &window };
            let threads = self.storage.concurrency().min(items.len());
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let taken = items.iter().enumerate().try_for_each(|(at, (item, size))| {
                let read = window.wait(|inner| match inner.read.remove(&at) {
                    None if inner.ended => Some(Err(died(Box::new(())))),
                    read => read,
                });
                take(item, read?)?;
                window.change(|inner| inner.bytes = inner.bytes.saturating_sub((*size).max(least)));
                Ok(())
            });
            drop(ended);
            // All of them: the scope would panic for one that died and was not asked.
            let joined: Vec<_> = handles.into_iter().map(|handle| handle.join()).collect();
            joined.into_iter().try_for_each(|joined| joined.map_err(died))?;
            taken
        })
    }

    /// The same for objects that were listed: what was read of each, or what is wrong with it alone.
    /// One that is gone since the listing is left out.
    pub(super) fn each_listed<T: Copy + Send + Sync, R: Send>(
        &self,
        listed: &[T],
        read: impl Fn(T) -> Result<R> + Sync,
    ) -> Result<Vec<(T, Result<R>)>> {
        let read = self.each_of(listed, |of| match read(*of) {
            Err(Error::Storage(e)) if e.is_not_found() => Ok(None),
            Err(error) if !is_of_one_object(&error) => Err(error),
            read => Ok(Some((*of, read))),
        })?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Does both, at once where the storage serves several requests at once.
    pub(crate) fn both<A, B: Send>(
        &self,
        one: impl FnOnce() -> Result<A>,
        other: impl FnOnce() -> Result<B> + Send,
    ) -> Result<(A, B)> {
        if self.storage.concurrency() < 2 {
            return Ok((one()?, other()?));
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(other);
            let one = one();
            let other = other.join().map_err(died)?;
            Ok((one?, other?))
        })
    }
}

/// What is read and not taken yet.
struct Window<R> {
    inner: Mutex<Inner<R>>,
    changed: Condvar,
}

struct Inner<R> {
    /// The item to be read next.
    next: usize,
    /// Of all that was begun and is not taken.
    bytes: u64,
    read: HashMap<usize, Result<R>>,
    /// Nobody takes or reads any more.
    ended: bool,
}

impl<R> Default for Window<R> {
    fn default() -> Self {
        let inner = Inner { next: 0, bytes: 0, read: HashMap::new(), ended: false };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }
}

impl<R> Window<R> {
    fn change<T>(&self, change: impl FnOnce(&mut Inner<R>) -> T) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut inner);
        self.changed.notify_all();
        changed
    }

    /// Waits until `ready` has something.
    fn wait<T>(&self, mut ready: impl FnMut(&mut Inner<R>) -> Option<T>) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(ready) = ready(&mut inner) {
                return ready;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next item to read, and its place, as soon as there is room for it.
    fn next<'a, T>(
        &self,
        items: &'a [(T, u64)],
        most: u64,
        least: u64,
    ) -> Option<(usize, &'a (T, u64))> {
        self.wait(|inner| {
            let Some(item) = items.get(inner.next).filter(|_| !inner.ended) else {
                return Some(None);
            };
            let after = inner.bytes.saturating_add(item.1.max(least));
            if inner.bytes > 0 && after > most {
                return None;
            }
            inner.bytes = after;
            inner.next += 1;
            Some(Some((inner.next - 1, item)))
        })
    }
}

/// Ends the reading when it goes away.
struct End<'a, R> {
    window: &'a Window<R>,
}

impl<R> Drop for End<'_, R> {
    fn drop(&mut self) {
        self.window.change(|inner| inner.ended = true);
    }
}

fn died(_: Box<dyn std::any::Any + Send>) -> Error {
    Error::Worker("a reading thread".into())
}
