//! Several reads at once: with storage that is far away, the time of a command is the number of
//! answers that it waits for one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};

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

fn died(_: Box<dyn std::any::Any + Send>) -> Error {
    Error::Worker("a reading thread".into())
}
