//! What an operation tells while it runs: progress, problems, and whether it should stop.
//! The engine never prints; faces implement [`Monitor`].

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// What an operation is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Opening the repository and listing it.
    Opening,
    /// Walking the source and storing what changed.
    Backup,
    /// Reading a snapshot of another repository and storing what is missing.
    Copying,
    /// Waiting for the last packs and writing the snapshot.
    Committing,
    /// Working out what to restore.
    Planning,
    /// Writing files.
    Restore,
    /// Setting attributes of directories, removing what does not belong.
    Finishing,
    /// Writing an archive.
    Archive,
    /// Checking structure.
    CheckStructure,
    /// Reading packs.
    CheckData,
    /// Writing anew what is lost and can be had from elsewhere.
    Repairing,
    /// Finding out what snapshots need.
    Marking,
    /// Copying what is needed out of packs that are mostly not.
    Repacking,
    /// Waiting for other sessions, or for a network file system.
    Waiting,
    /// Deleting what nobody needs.
    Deleting,
}

/// Counters so far. Totals are `None` while they are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files (all kinds of entries) done.
    pub files: u64,
    /// Bytes of content done (read, written or found unchanged).
    pub bytes: u64,
    /// Files in all.
    pub total_files: Option<u64>,
    /// Bytes in all.
    pub total_bytes: Option<u64>,
    /// Bytes sent to the storage.
    pub stored: u64,
}

/// Receives what an operation tells. Methods may be called from several threads and should
/// return quickly.
pub trait Monitor: Send + Sync + fmt::Debug {
    /// A new phase began.
    fn phase(&self, _phase: Phase) {}

    /// The counters moved. Called a few times a second, not for every file.
    fn progress(&self, _progress: &Progress, _current: &[u8]) {}

    /// Something went wrong with one path or object, and the operation goes on.
    fn problem(&self, _what: &str, _message: &str) {}

    /// Something worth saying that is no problem.
    fn note(&self, _message: &str) {}
}

/// A monitor that listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {}

/// Lets another thread (a signal handler) end an operation.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicU8);

impl Interrupt {
    /// Never raised so far.
    pub const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    /// Asks to stop: the first time in good order, the second time at once.
    /// Returns how often it was asked.
    pub fn raise(&self) -> u8 {
        self.0.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    /// Asked to stop, keeping what was done.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Asked to stop at once.
    pub fn is_immediate(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}
