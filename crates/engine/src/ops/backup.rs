//! `backup`: from sources to a new snapshot.

use std::sync::Arc;
use std::time::Duration;

use crate::format::snapshot::{Stats, Sum, Unread};
use crate::hash::SnapshotId;
use crate::meta::Metadata;
use crate::monitor::{Interrupt, Monitor};
use crate::repo::Repository;
use crate::repo::writer::WriterOptions;
use crate::source::Source;
use crate::{Error, Result};

/// A root to back up.
#[derive(Debug, Clone)]
pub struct RootSource {
    /// Absolute path at the origin.
    pub path: Vec<u8>,
    /// What reads it.
    pub source: Arc<dyn Source>,
    /// Names and metadata of the directories above it, from the topmost down.
    pub ancestors: Vec<(Vec<u8>, Metadata)>,
    /// Content of unknown size (standard input): read to its end.
    pub stream: bool,
}

/// Which snapshot to compare with.
#[derive(Debug, Clone, Copy, Default)]
pub enum Parent {
    /// The newest of the same host, kind and places.
    #[default]
    Automatic,
    /// None: read everything.
    None,
    /// This one.
    Snapshot(SnapshotId),
}

/// How to back up.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Roots; they must not overlap.
    pub roots: Vec<RootSource>,
    /// Host the data is from.
    pub host: String,
    /// User who runs it.
    pub user: String,
    /// Kind of source: "local", "sftp", "s3", "stdin".
    pub kind: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Description.
    pub description: String,
    /// Program and version.
    pub program: String,
    /// Process number, for the lease.
    pub process: u32,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// Exclude rules in force, for the record.
    pub excludes: Vec<String>,
    /// What to compare with.
    pub parent: Parent,
    /// Find out what would be stored, and store nothing.
    pub dry_run: bool,
    /// Make no snapshot if it would be equal to the parent.
    pub skip_if_unchanged: bool,
    /// How to write.
    pub writer: WriterOptions,
    /// How often to leave a partial snapshot.
    pub checkpoint: Duration,
}

/// What a backup did.
#[derive(Debug, Clone, Default)]
pub struct BackupReport {
    /// The snapshot; `None` for a dry run, or where nothing had changed and none was wanted.
    pub snapshot: Option<SnapshotId>,
    /// It is partial: the run was interrupted.
    pub partial: bool,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was done.
    pub stats: Stats,
    /// What the snapshot holds.
    pub sum: Sum,
    /// What could not be read (the first thousand).
    pub unread: Vec<Unread>,
    /// How much could not be read in all.
    pub errors: u64,
}

/// Backs up.
pub fn backup(
    _repository: &Repository,
    _options: &BackupOptions,
    _monitor: &dyn Monitor,
    _interrupt: &Interrupt,
) -> Result<BackupReport> {
    Err(Error::Usage("not built yet".into()))
}
