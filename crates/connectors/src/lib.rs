//! Connectors: where repositories live, where files come from, where they are restored to. Each
//! connector has the same rooms (storage, source, destination) and implements the engine's
//! contracts of these names; `layers` wraps any of them in another of the same trait.

pub mod conformance;
pub mod filter;
pub mod layers;
pub mod local;
mod network;
pub mod s3;
pub mod secret;
pub mod sftp;
pub mod stream;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdfast_engine::source::{SourceDirectory, WalkBatch};

/// Longest timeout that may be asked for: what is made of it by adding and multiplying stays within
/// what clocks can tell.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Locks, whatever another thread died of: what these locks guard is whole between statements.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path relative to the root, and a name below it.
fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(path.len() + 1 + name.len());
    if !path.is_empty() {
        joined.extend_from_slice(path);
        joined.push(b'/');
    }
    joined.extend_from_slice(name);
    joined
}

/// A batch of this directory with nothing in it yet.
fn empty_batch(directory: &Arc<SourceDirectory>) -> WalkBatch {
    WalkBatch {
        directory: Arc::clone(directory),
        entries: Vec::new(),
        errors: Vec::new(),
        excluded: 0,
    }
}
