//! Packs that are complete and not durable yet. They are counted, so that a flush can wait for them
//! however many threads finish them.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::format::index::IndexedPack;
use crate::parity::Encoder;
use crate::storage::Upload;

use super::lock;

type Count = Arc<(Mutex<u64>, Condvar)>;

/// A pack to finish; it counts until it is dropped.
pub(super) struct Finish<'s> {
    pub(super) upload: Box<dyn Upload + 's>,
    pub(super) pack: Box<IndexedPack>,
    pub(super) parity: Option<Encoder>,
    _counted: Counted,
}

struct Counted(Count);

impl Counted {
    fn new(count: &Count) -> Self {
        *lock(&count.0) += 1;
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.0.0) -= 1;
        self.0.1.notify_all();
    }
}

/// Packs of one kind on their way to those who finish them.
pub(super) struct Finishing<'s> {
    queue: Sender<Finish<'s>>,
    count: Count,
}

impl<'s> Finishing<'s> {
    /// With room for `waiting` packs beside those that are being finished.
    pub(super) fn new(waiting: usize) -> (Self, Receiver<Finish<'s>>) {
        let (queue, finish) = bounded(waiting);
        (Self { queue, count: Arc::default() }, finish)
    }

    /// Passes a pack on. `false` if nobody is there any more.
    pub(super) fn send(
        &self,
        upload: Box<dyn Upload + 's>,
        pack: IndexedPack,
        parity: Option<Encoder>,
    ) -> bool {
        let _counted = Counted::new(&self.count);
        self.queue.send(Finish { upload, pack: Box::new(pack), parity, _counted }).is_ok()
    }

    /// Waits until all are durable, or failed.
    pub(super) fn wait(&self) {
        let (open, changed) = &*self.count;
        let mut open = lock(open);
        while *open > 0 {
            open = changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
