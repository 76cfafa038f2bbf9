//! Reading ahead: threads that bring into the cache what is going to be asked for.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use holdfast_engine::hash::BlobId;
use holdfast_engine::tree::Content;

use crate::library::Library;
use crate::pages::Cursor;

/// Bytes that one thread should have to do at a time.
const SHARE: u64 = 4 << 20;

/// Wishes that may wait; more are dropped, since who comes to a place reads it himself.
const WAITING: usize = 256;

/// Bundles that are read ahead of files read in order.
const BUNDLES: usize = 2;

/// What is going to be needed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wish {
    Chunk(BlobId),
    /// A bundle, and a member it should have.
    Bundle(BlobId, u32),
}

/// The threads.
#[derive(Debug)]
pub(crate) struct Ahead {
    wishes: Option<Sender<Wish>>,
    /// The same wishes, to be emptied at the end.
    waiting: Receiver<Wish>,
    threads: Vec<JoinHandle<()>>,
    /// The bundle of the small file that was opened last, and whether what follows was asked for.
    bundle: Mutex<Option<(BlobId, bool)>>,
}

impl Ahead {
    /// As many threads as serve the storage well.
    pub(crate) fn start(library: &Arc<Library>) -> std::io::Result<Self> {
        let (wishes, waiting) = crossbeam_channel::bounded(WAITING);
        let mut ahead = Self {
            wishes: Some(wishes),
            waiting: waiting.clone(),
            threads: Vec::new(),
            bundle: Mutex::default(),
        };
        for number in 0..library.concurrency().clamp(2, 16) {
            let (library, waiting) = (library.clone(), waiting.clone());
            let thread = std::thread::Builder::new().name(format!("ahead-{number}"));
            ahead.threads.push(thread.spawn(move || {
                for wish in waiting {
                    // What fails here is tried again, and told, where it is needed.
                    let _ = match wish {
                        Wish::Chunk(id) => library.chunk(&id).map(drop),
                        Wish::Bundle(id, number) => library.bundle(&id, number).map(drop),
                    };
                }
            })?);
        }
        Ok(ahead)
    }

    /// How far ahead of one reader, in bytes: work for all threads, in a part of the cache.
    pub(crate) fn window(&self, library: &Library) -> u64 {
        (SHARE * self.threads.len() as u64).min(library.pieces.room() as u64 / 4)
    }

    /// Asks for something that is not there yet.
    pub(crate) fn ask(&self, library: &Library, wish: Wish) {
        let (Wish::Chunk(id) | Wish::Bundle(id, _)) = wish;
        if let Some(wishes) = &self.wishes
            && !library.pieces.has(&id)
        {
            let _ = wishes.try_send(wish);
        }
    }

    /// Notes that a small file is opened. If that is the second one of its bundle, or its bundle is
    /// there already, a tree is being read in order: the bundles that come next are asked for.
    pub(crate) fn opened(&self, library: &Library, cursor: &Cursor) {
        let Some(Content::Member { bundle, .. }) = cursor.entry().map(|e| &e.entry.content) else {
            return;
        };
        {
            let mut last = self.bundle.lock().unwrap_or_else(PoisonError::into_inner);
            let is_same = last.is_some_and(|(id, _)| id == *bundle);
            if is_same && last.is_some_and(|(_, has_asked)| has_asked) {
                return;
            }
            let goes_on = is_same || library.pieces.has(bundle);
            *last = Some((*bundle, goes_on));
            if !goes_on {
                return;
            }
        }
        let mut last = *bundle;
        let mut found = 0;
        for next in cursor.rest() {
            if let Content::Member { bundle, number, .. } = &next.entry.content
                && *bundle != last
            {
                self.ask(library, Wish::Bundle(*bundle, *number));
                last = *bundle;
                found += 1;
                if found == BUNDLES {
                    break;
                }
            }
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.wishes = None;
        // Nobody needs what was only wished for.
        while self.waiting.try_recv().is_ok() {}
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
