//! What Holdfast's tests are made of; no product code depends on it.
//!
//! Storages in memory, storages that fail and storages that write down what is asked of them
//! ([`memory`], [`fault`], [`record`]), trees in memory and on disk ([`memtree`], [`tree`]), an
//! independent comparison of trees ([`compare`]), byte mutation for decoders ([`mutate`]), seeds and
//! clocks ([`clock`]): all functions of their seeds. And a TCP proxy that delays and cuts
//! ([`proxy`]), a real OpenSSH server with all that belongs to it ([`sshd`]), and a real S3 server
//! ([`s3`]).

pub mod clock;
pub mod compare;
pub mod fault;
pub mod memory;
pub mod memtree;
pub mod mutate;
pub mod proxy;
pub mod record;
pub mod s3;
pub mod sshd;
pub mod tree;

pub use clock::{TestClock, rng};
pub use compare::{CompareOptions, Listing, assert_same_tree, compare_trees};
pub use fault::{Fault, FaultStorage, Operation, Rates};
pub use memory::MemoryStorage;
pub use memtree::{MemoryDestination, MemorySource, MemoryTree, Trouble};
pub use mutate::{Budget, Mutator, fuzz_for};
pub use proxy::{Direction, Proxy};
pub use record::RecordStorage;
pub use s3::{S3Fault, S3Object, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions};
pub use sshd::{Agent, HostKeyKind, KeyKind, Sshd, SshdOptions};
pub use tree::{TreeFixture, TreeOptions};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks although another thread panicked: that panic fails the test already, and a second one
/// would only hide its message.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path as a person can read it, whatever its bytes.
pub(crate) fn show(path: &[u8]) -> String {
    if path.is_empty() { "(root)".into() } else { path.escape_ascii().to_string() }
}
