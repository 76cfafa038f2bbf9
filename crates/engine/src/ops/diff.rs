//! `diff`: what differs between two snapshots, or between a snapshot and what is there now.
//!
//! Two snapshots ([`diff`], [`trees`]): both trees are walked in step, and a node that stands in
//! both is skipped unread, so that the work is in proportion to what changed.
//! Snapshot and source ([`diff_live`], [`live`]): the source is walked, and content counts as
//! changed when size or modification time do, unless it is asked to be read.

use crate::meta::Kind;
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::entry::Entry;
use crate::tree::read::PathEntry;
use crate::tree::view::{absolute, normalize, part_of, root_id};
use crate::{Error, Result};

mod live;
mod trees;

pub use live::{LiveOptions, LiveRoot, diff_live};

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is only in the second.
    Added,
    /// It is only in the first.
    Removed,
    /// It is in both and differs.
    Modified {
        /// In its content: bytes of a file, its holes, a link's target.
        content: bool,
        /// In its metadata: permissions, owner, modification time, attributes, device numbers.
        metadata: bool,
        /// In its type.
        kind: bool,
    },
}

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Absolute path.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ChangeKind,
    /// The entry in the first.
    pub before: Option<Entry>,
    /// The entry in the second. Of a live one, no content is known, and its extended attributes
    /// and link target only if they were compared.
    pub after: Option<Entry>,
}

/// How to compare two snapshots.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// Only at and below this absolute path; `None` means everything.
    pub path: Option<Vec<u8>>,
}

/// Differences in all. Sizes are those of regular files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiffTotals {
    /// Entries only in the second.
    pub added: u64,
    /// Entries only in the first.
    pub removed: u64,
    /// Entries in both whose content or type differs.
    pub changed: u64,
    /// Entries in both that differ in metadata alone.
    pub touched: u64,
    /// Bytes of files added, and of changed ones after the change.
    pub bytes_added: u64,
    /// Bytes of files removed, and of changed ones before the change.
    pub bytes_removed: u64,
    /// Entries of the first of which nobody can tell whether they are still there, because their
    /// directory could not be listed, or whether they are the same, because they could not be
    /// read. Live sources only.
    pub unknown: u64,
}

/// Receives changes, in the order of the trees, root by root.
pub type Each<'a> = &'a mut dyn FnMut(Change) -> Result<()>;

/// Compares two snapshots. Roots belong together if they have the same path. Inode numbers,
/// change times and link counts alone make no difference: a copy has others.
pub fn diff(
    reader: &BlobReader<'_>,
    before: &SnapshotInfo,
    after: &SnapshotInfo,
    options: &DiffOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
    each: Each<'_>,
) -> Result<DiffTotals> {
    let mut output = Output::new(monitor, interrupt, each);
    let path = options.path.as_deref().map(normalize);
    let mut paths: Vec<&[u8]> =
        before.record.roots.iter().chain(&after.record.roots).map(|root| &root.path[..]).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut met = path.is_none();
    for root in paths {
        let Some(within) = part_of(root, path.as_deref()) else { continue };
        met = true;
        output.root = root.to_vec();
        let tree = |snapshot: &SnapshotInfo| {
            let found = snapshot.record.roots.iter().find(|other| other.path == root);
            found.map(root_id).transpose()
        };
        trees::diff(reader, [tree(before)?, tree(after)?], &within, &mut output)?;
    }
    match path {
        Some(path) if !met => Err(Error::NoSuchPath {
            snapshot: format!("{} or {}", before.id.short(), after.id.short()),
            path: String::from_utf8_lossy(&path).into_owned(),
        }),
        _ => Ok(output.totals),
    }
}

/// Counts changes and passes them on.
struct Output<'a> {
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    each: Each<'a>,
    totals: DiffTotals,
    root: Vec<u8>,
    seen: u64,
}

impl<'a> Output<'a> {
    fn new(monitor: &'a dyn Monitor, interrupt: &'a Interrupt, each: Each<'a>) -> Self {
        let (totals, root) = Default::default();
        Self { monitor, interrupt, each, totals, root, seen: 0 }
    }

    /// Called for every entry looked at.
    fn step(&mut self, path: &[u8]) -> Result<()> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        self.seen += 1;
        if self.seen.is_multiple_of(4096) {
            let progress = Progress { files: self.seen, ..Progress::default() };
            self.monitor.progress(&progress, path);
        }
        Ok(())
    }

    fn only(&mut self, found: PathEntry, is_after: bool) -> Result<()> {
        let bytes = size(&found.entry);
        let path = absolute(&self.root, &found.parent, &found.entry.name);
        self.step(&path)?;
        let (kind, before, after) = if is_after {
            self.totals.added += 1;
            self.totals.bytes_added += bytes;
            (ChangeKind::Added, None, Some(found.entry))
        } else {
            self.totals.removed += 1;
            self.totals.bytes_removed += bytes;
            (ChangeKind::Removed, Some(found.entry), None)
        };
        (self.each)(Change { path, kind, before, after })
    }

    /// `content` says whether the content of two files of one kind differs.
    fn both(&mut self, before: PathEntry, after: PathEntry, content: bool) -> Result<()> {
        let kind = before.entry.metadata.kind != after.entry.metadata.kind;
        let metadata = before.entry.metadata_differs(&after.entry);
        let content = content && !kind;
        self.step(&before.entry.name)?;
        if !(content || metadata || kind) {
            return Ok(());
        }
        if content || kind {
            self.totals.changed += 1;
            self.totals.bytes_removed += size(&before.entry);
            self.totals.bytes_added += size(&after.entry);
        } else {
            self.totals.touched += 1;
        }
        let path = absolute(&self.root, &before.parent, &before.entry.name);
        let kind = ChangeKind::Modified { content, metadata, kind };
        (self.each)(Change { path, kind, before: Some(before.entry), after: Some(after.entry) })
    }
}

fn size(entry: &Entry) -> u64 {
    if entry.metadata.kind == Kind::File { entry.metadata.size } else { 0 }
}
