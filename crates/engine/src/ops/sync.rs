//! `sync`: copies the snapshots that another repository lacks. Each is stored by the machinery of a
//! backup whose source is the snapshot: cut, bundled and identified with the keys of the target, so
//! that it shares what the target holds, whoever stored it. One after the other is committed;
//! what the copy of the snapshot before refers to is not read again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::error::chain_text;
use crate::format::snapshot::{Origin, Root};
use crate::hash::{BlobId, SnapshotId};
use crate::monitor::{Interrupt, Monitor};
use crate::repo::session::Writer;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::writer::WriterOptions;
use crate::repo::{BlobReader, Index, Repository};
use crate::source::SourceError;
use crate::{Error, Result};

use super::backup::{
    self, BackupOptions, BackupReport, Copied, CopiedRoot, ParentTree, RecordedRoot, Trust,
};

/// Partial copies of one snapshot that are gone on with.
const PARTIALS: usize = 2;

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    /// Host that copies, for the lease.
    pub host: String,
    /// Process number, for the lease.
    pub process: u32,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// How often what was done so far is kept as a partial snapshot; `None`: only when the run is
    /// interrupted.
    pub partial_every: Option<Duration>,
    /// How often the lease is renewed, so that a gc neither waits for this run nor takes it for
    /// dead; `None`: never.
    pub renew_every: Option<Duration>,
    /// How to write.
    pub writer: WriterOptions,
}

/// A snapshot that was copied, or begun to be.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The snapshot.
    pub from: SnapshotId,
    /// What was done; the snapshot in it is the copy.
    pub report: BackupReport,
}

/// A snapshot that could not be copied, because of damage in the repository it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The snapshot.
    pub from: SnapshotId,
    /// What is damaged, and which path needs it.
    pub reason: String,
}

/// What a sync did.
#[derive(Debug, Clone, Default)]
pub struct SyncReport {
    /// Snapshots that were copied; the last one may be partial.
    pub copied: Vec<Copy>,
    /// Snapshots that were not, and why.
    pub failed: Vec<Failed>,
    /// The run was interrupted.
    pub interrupted: bool,
}

/// What both sides hold.
#[derive(Debug)]
pub struct Sync<'a> {
    from: &'a Repository,
    to: &'a Repository,
    /// Complete snapshots of the one, oldest first.
    theirs: Vec<SnapshotInfo>,
    /// All snapshots of the other, oldest first.
    held: Vec<SnapshotInfo>,
    problems: Vec<(String, String)>,
}

/// Who a snapshot is, wherever it lies.
fn identity(repository: &Repository, snapshot: &SnapshotInfo) -> Origin {
    snapshot.record.origin.clone().unwrap_or_else(|| Origin {
        repository: repository.id().as_bytes().to_vec(),
        snapshot: snapshot.id.as_bytes().to_vec(),
    })
}

impl<'a> Sync<'a> {
    /// Compares what two repositories hold. They must be two: the files of one, copied, are still
    /// that one.
    pub fn between(from: &'a Repository, to: &'a Repository) -> Result<Self> {
        if from.id() == to.id() {
            let (from, to) = (from.location(), to.location());
            return Err(Error::Usage(format!(
                "{from} and {to} are one repository, or copies of one's files: there is nothing to \
                 sync between them"
            )));
        }
        let (mut theirs, notes) = from.snapshots_with_notes()?;
        theirs.retain(|snapshot| !snapshot.record.partial);
        // What cannot be read over there does not count as there: it is copied once more.
        let (held, held_notes) = to.snapshots_with_notes()?;
        let mut problems = Vec::new();
        for (repository, notes) in [(from, &notes), (to, &held_notes)] {
            let lost = notes.lost().map(|(_, problem)| chain_text(problem));
            problems.extend(lost.map(|text| (repository.location(), text)));
        }
        Ok(Self { from, to, theirs, held, problems })
    }

    /// Snapshots of either side that cannot be read: the location, and what is wrong. They are no
    /// candidates, and do not count as there.
    pub fn problems(&self) -> &[(String, String)] {
        &self.problems
    }

    /// The snapshots that can be copied, oldest first: interrupted runs are not among them.
    pub fn candidates(&self) -> &[SnapshotInfo] {
        &self.theirs
    }

    /// Those of `chosen` that the target lacks, oldest first.
    pub fn missing(&self, chosen: &BTreeSet<SnapshotId>) -> Vec<SnapshotInfo> {
        let copies = self.copies();
        let is_missing = |snapshot: &&SnapshotInfo| {
            chosen.contains(&snapshot.id) && !copies.contains_key(&identity(self.from, snapshot))
        };
        self.theirs.iter().filter(is_missing).cloned().collect()
    }

    /// What the target holds, complete, by what it is.
    fn copies(&self) -> BTreeMap<Origin, &SnapshotInfo> {
        let complete = self.held.iter().filter(|snapshot| !snapshot.record.partial);
        complete.map(|snapshot| (identity(self.to, snapshot), snapshot)).collect()
    }

    /// Copies `missing` snapshots, oldest first. `index` is that of the repository they are in;
    /// `copied` is told of each as it is done. A snapshot of which something is damaged is not
    /// copied, and the next one is gone on with.
    pub fn run(
        &mut self,
        index: &Index,
        missing: &[SnapshotInfo],
        options: &SyncOptions,
        monitor: &dyn Monitor,
        interrupt: &Interrupt,
        copied: &mut dyn FnMut(&SnapshotInfo, &BackupReport),
    ) -> Result<SyncReport> {
        let reader = BlobReader::new(self.from, index);
        let mut report = SyncReport::default();
        for snapshot in missing {
            if interrupt.is_raised() {
                report.interrupted = true;
                break;
            }
            match self.one(&reader, snapshot, options, monitor, interrupt) {
                Ok(done) => {
                    copied(snapshot, &done);
                    report.interrupted = done.partial;
                    report.copied.push(Copy { from: snapshot.id, report: done });
                }
                Err(error) => {
                    let reason = damage_of(error)?;
                    monitor.problem(&format!("snapshot {}", snapshot.id.short()), &reason);
                    report.failed.push(Failed { from: snapshot.id, reason });
                }
            }
            if report.interrupted {
                break;
            }
        }
        reader.healed_notes().iter().for_each(|note| monitor.note(note));
        Ok(report)
    }

    fn one(
        &mut self,
        reader: &BlobReader<'_>,
        snapshot: &SnapshotInfo,
        options: &SyncOptions,
        monitor: &dyn Monitor,
        interrupt: &Interrupt,
    ) -> Result<BackupReport> {
        let origin = identity(self.from, snapshot);
        let mut parent = None;
        let mut roots = Vec::with_capacity(snapshot.record.roots.len());
        for root in &snapshot.record.roots {
            let mut parents = self.partial_copies(&origin, root);
            let before = self.before(snapshot, root);
            if let Some((_, copy)) = before {
                parent = parent.or(Some(copy.id));
                parents.extend(parent_tree(copy, root, Trust::Recorded));
            } else {
                let mut complete = self.held.iter().rev().filter(|s| !s.record.partial);
                parents.extend(complete.find_map(|s| parent_tree(s, root, Trust::None)));
            }
            let before = before.and_then(|(theirs, _)| tree_at(theirs, &root.path));
            roots.push(CopiedRoot { source: RecordedRoot::new(reader, root, before)?, parents });
        }
        // Tags and description are those that the list of snapshots shows.
        let mut record = snapshot.record.clone();
        record.origin = Some(origin);
        let backup_options = BackupOptions {
            host: record.host.clone(),
            kind: record.kind.clone(),
            partial_every: options.partial_every,
            renew_every: options.renew_every,
            writer: options.writer,
            ..BackupOptions::default()
        };
        let writer = Writer {
            host: options.host.clone(),
            process: options.process,
            verb: "sync".into(),
            time: options.time,
        };
        let copied = Copied { record, roots, parent };
        let (to, held) = (self.to, &self.held);
        let report = backup::copy(to, held, &copied, &backup_options, writer, monitor, interrupt)?;
        if let Some(id) = report.snapshot {
            self.held.push(SnapshotInfo { id, record: to.snapshot(id)? });
            self.held.sort_by_key(|snapshot| (snapshot.record.time, snapshot.id));
        }
        Ok(report)
    }

    /// What earlier runs copied of this snapshot before they were interrupted, those first that got
    /// furthest: all of them carry the time of the snapshot.
    fn partial_copies(&self, origin: &Origin, root: &Root) -> Vec<ParentTree> {
        let is_one = |s: &&SnapshotInfo| s.record.partial && identity(self.to, s) == *origin;
        let mut copies: Vec<_> = self.held.iter().filter(is_one).collect();
        copies.sort_by_key(|s| Reverse(s.record.sum().entries()));
        let trees = copies.into_iter().filter_map(|s| parent_tree(s, root, Trust::Always));
        trees.take(PARTIALS).collect()
    }

    /// The snapshot of the same origin with this root that comes closest before this one, else after
    /// it, of those that both sides hold; and its copy.
    fn before(
        &self,
        snapshot: &SnapshotInfo,
        root: &Root,
    ) -> Option<(&SnapshotInfo, &SnapshotInfo)> {
        let (copies, record) = (self.copies(), &snapshot.record);
        let mut pairs = self.theirs.iter().filter_map(|info| {
            let is_akin = info.record.host == record.host && info.record.kind == record.kind;
            let copy = copies.get(&identity(self.from, info)).filter(|_| is_akin)?;
            tree_at(info, &root.path).and(tree_at(copy, &root.path))?;
            Some((info, *copy))
        });
        let mut best = pairs.next()?;
        // Oldest first: the last one that is not newer than this.
        for pair in pairs {
            if pair.0.record.time <= record.time {
                best = pair;
            }
        }
        Some(best)
    }
}

fn tree_at(snapshot: &SnapshotInfo, path: &[u8]) -> Option<BlobId> {
    let root = snapshot.record.roots.iter().find(|root| root.path == path)?;
    BlobId::from_slice(&root.tree)
}

fn parent_tree(snapshot: &SnapshotInfo, root: &Root, trust: Trust) -> Option<ParentTree> {
    let tree = tree_at(snapshot, &root.path)?;
    Some(ParentTree { root: tree, trust, time: snapshot.record.time })
}

/// What is damaged in the repository that is read, or lies where its medium fails, with the path
/// that needs it. Any other error concerns the run and stays one; of what is read, the cause
/// itself.
fn damage_of(error: Error) -> Result<String> {
    let Error::Source(error) = error else { return Err(error) };
    let text = chain_text(&error);
    let SourceError { kind, operation, path, source } = error;
    match source.map(|cause| cause.downcast::<Error>()) {
        Some(Ok(cause)) if cause.is_local() => Ok(text),
        Some(Ok(cause)) => Err(*cause),
        Some(Err(cause)) => Err(SourceError { kind, operation, path, source: Some(cause) }.into()),
        None => Err(SourceError { kind, operation, path, source: None }.into()),
    }
}
