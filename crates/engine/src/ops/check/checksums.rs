//! Checksums of packs by the storage itself: a pack's name is the SHA-256 of its bytes, so a server
//! can verify a pack without sending it. What it cannot verify is read instead, and so is what it
//! finds wrong: reading tells which blobs are hit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Result;
use crate::monitor::Progress;
use crate::storage::ObjectName;

use super::Context;
use super::data::Chosen;

/// Packs in one question: some hundred MiB, so that an interruption does not wait long.
const BATCH: usize = 16;

/// Questions at once. It is the server's disk that works.
const THREADS: usize = 4;

/// Packs by their numbers in the index.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    /// Their checksums are their names.
    pub(super) right: HashSet<u32>,
    /// Theirs are not.
    pub(super) wrong: HashSet<u32>,
}

/// Asks the storage for the checksums of packs.
pub(super) fn ask(context: &Context<'_>, chosen: &[Chosen]) -> Result<Hashed> {
    let hashed = Mutex::new((Hashed::default(), 0));
    let failure = Mutex::new(None);
    let batches: Vec<&[Chosen]> = chosen.chunks(BATCH).collect();
    let total = chosen.iter().map(|pack| pack.size).sum();
    let next = AtomicUsize::new(0);
    let stop = || next.store(usize::MAX / 2, Ordering::Relaxed);
    let one = |batch: &[Chosen]| -> Result<bool> {
        context.stop_if_asked()?;
        let names: Vec<_> = batch.iter().map(|pack| ObjectName::pack(pack.id)).collect();
        let Some(told) = context.repository.storage().sha256(&names)? else { return Ok(false) };
        let mut hashed = hashed.lock().unwrap_or_else(PoisonError::into_inner);
        for (pack, told) in batch.iter().zip(told) {
            match told {
                Some(id) if id == pack.id => {
                    hashed.1 += pack.size;
                    hashed.0.right.insert(pack.number)
                }
                Some(_) => hashed.0.wrong.insert(pack.number),
                None => continue,
            };
        }
        let progress = Progress { bytes: hashed.1, total_bytes: Some(total), ..Default::default() };
        context.monitor.progress(&progress, b"");
        Ok(true)
    };
    let work = || {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            match one(batch) {
                Ok(true) => {}
                Ok(false) => stop(),
                Err(error) => {
                    stop();
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    // The first alone finds out whether the storage can do it.
    if let Some(first) = batches.first() {
        next.store(1, Ordering::Relaxed);
        if !one(first)? {
            context.monitor.note("the storage computes no checksums: packs are read instead");
            return Ok(Hashed::default());
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(batches.len()) {
            scope.spawn(work);
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(hashed.into_inner().unwrap_or_else(PoisonError::into_inner).0),
    }
}
