//! `repair snapshots`: for each snapshot of which something is lost, one beside it that is whole,
//! with what is lost cut out. The index is repaired first, so that nothing counts as lost that is
//! only not listed. The hurt snapshot stays: whoever gets back what it lacks has it whole again.

use std::collections::BTreeSet;

use crate::Result;
use crate::format::snapshot::{Root, Snapshot, Unread};
use crate::hash::SnapshotId;
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::session::{Session, Writer};
use crate::repo::snapshots::{SnapshotInfo, newest};
use crate::repo::writer::{BlobWriter, WriterOptions, with_writer};
use crate::repo::{BlobReader, Repository};
use crate::tree::view;

use super::super::check::{self, CheckOptions, CheckReport, Severity};
use super::rebuild::{Lost, Rebuild};
use super::{Cut, RepairIndexOptions, RepairIndexReport, check_features, index};

/// Lost paths that a snapshot names one by one.
const UNREAD_NAMED: usize = 1000;

/// How to repair snapshots.
#[derive(Debug, Clone, Default)]
pub struct RepairSnapshotsOptions {
    /// Who repairs, for the leases.
    pub writer: Writer,
    /// How to find out what is lost.
    pub check: CheckOptions,
    /// How to write.
    pub store: WriterOptions,
}

/// A snapshot of which something is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// It.
    pub hurt: SnapshotId,
    /// The whole one beside it. `None`: what it lacked could be made anew, and it is whole itself.
    pub whole: Option<SnapshotId>,
    /// The whole one was there already, by an earlier repair.
    pub is_old: bool,
    /// What was cut out.
    pub cut: Cut,
}

/// What a repair of snapshots did.
#[derive(Debug, Clone, Default)]
pub struct RepairSnapshotsReport {
    /// What was done to the index before.
    pub index: RepairIndexReport,
    /// What the check found.
    pub check: CheckReport,
    /// Hurt snapshots, oldest first.
    pub repaired: Vec<Repaired>,
    /// Snapshots that cannot be read at all: nothing can be had of them.
    pub lost: Vec<SnapshotId>,
}

/// Writes a whole snapshot beside each one that is hurt.
pub fn snapshots(
    repository: &Repository,
    options: &RepairSnapshotsOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RepairSnapshotsReport> {
    check_features(repository)?;
    let (writer, threads) = (options.writer.clone(), options.check.threads);
    let index_options = RepairIndexOptions { writer, threads, all: false };
    let index = index(repository, &index_options, monitor, interrupt)?;
    let (check, told) = check::check_and_tell(repository, &options.check, monitor, interrupt)?;
    let losses = check.findings.iter().filter(|finding| finding.severity == Severity::Loss);
    let hurt: BTreeSet<SnapshotId> =
        losses.flat_map(|finding| &finding.snapshots).copied().collect();
    let mut report = RepairSnapshotsReport { index, check, ..RepairSnapshotsReport::default() };
    if hurt.is_empty() {
        return Ok(report);
    }
    monitor.phase(Phase::Repairing);
    let ((all, notes), lost) = (repository.snapshots_with_notes()?, Lost::new(told.lost));
    report.lost = notes.lost().map(|(id, _)| id).filter(|id| hurt.contains(id)).collect();
    for info in all.iter().filter(|info| hurt.contains(&info.id)) {
        let one = One { repository, options, lost: &lost, all: &all, monitor, interrupt, info };
        report.repaired.push(one.run()?);
    }
    Ok(report)
}

/// One snapshot and what it takes to repair it.
struct One<'a> {
    repository: &'a Repository,
    options: &'a RepairSnapshotsOptions,
    lost: &'a Lost,
    /// All snapshots, oldest first.
    all: &'a [SnapshotInfo],
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    info: &'a SnapshotInfo,
}

impl One<'_> {
    fn run(&self) -> Result<Repaired> {
        let session = Session::begin(self.repository, self.options.writer.clone())?;
        let result = with_writer(self.repository, session.index(), self.options.store, |writer| {
            self.in_session(&session, writer)
        });
        if result.is_err() {
            // Nobody should wait for this session. If even that fails, a gc will find out.
            let _ = session.end("failed");
        }
        result
    }

    fn in_session(&self, session: &Session<'_>, writer: &BlobWriter<'_>) -> Result<Repaired> {
        let reader = BlobReader::new(self.repository, session.index());
        let mut roots = Vec::with_capacity(self.info.record.roots.len());
        let mut cut = Cut::default();
        for root in &self.info.record.roots {
            let rebuild = Rebuild::new(&reader, writer, self.lost, self.interrupt);
            let (made, of_root) = rebuild.run(&view::root_id(root)?)?;
            for (path, reason) in of_root.paths {
                let path = view::absolute(&root.path, b"", &path);
                let shown = String::from_utf8_lossy(&path);
                self.monitor.problem(&format!("{}:{shown}", self.info.id.short()), &reason);
                cut.paths.push((path, reason));
            }
            cut.files += of_root.files;
            cut.entries += of_root.entries;
            roots.push(Root {
                path: root.path.clone(),
                tree: made.tree.as_bytes().to_vec(),
                totals: made.totals.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
                sum: Some(made.sum),
                ancestors: root.ancestors.clone(),
            });
        }
        writer.flush()?;
        let same = |other: &[Root]| {
            let ids = |root: &Root| (root.path.clone(), root.tree.clone());
            other.iter().map(ids).eq(roots.iter().map(ids))
        };
        let hurt = self.info.id;
        if same(&self.info.record.roots) {
            session.end("nothing to commit")?;
            return Ok(Repaired { hurt, whole: None, is_old: false, cut });
        }
        let is_copy =
            |s: &&SnapshotInfo| s.record.parent == hurt.as_bytes() && same(&s.record.roots);
        if let Some(earlier) = self.all.iter().find(is_copy) {
            session.end("nothing to commit")?;
            return Ok(Repaired { hurt, whole: Some(earlier.id), is_old: true, cut });
        }
        // What was read before this session began may have been forgotten, and no mark left of it.
        let heads = newest(&self.repository.still_visible(self.all)?);
        let whole = Some(session.commit(writer, &self.record(roots, heads, &cut))?);
        Ok(Repaired { hurt, whole, is_old: false, cut })
    }

    fn record(&self, roots: Vec<Root>, heads: Vec<Vec<u8>>, cut: &Cut) -> Snapshot {
        let SnapshotInfo { id, record } = self.info;
        let note = format!(
            "repaired from {}: {} files and {} entries lost",
            id.short(),
            cut.files,
            cut.entries
        );
        let description = match record.description.as_str() {
            "" => note,
            text => format!("{text} ({note})"),
        };
        let mut unread = record.unread.clone();
        let named = cut
            .paths
            .iter()
            .map(|(path, reason)| Unread { path: path.clone(), reason: reason.clone() });
        unread.extend(named);
        unread.truncate(UNREAD_NAMED);
        Snapshot {
            // Just behind the hurt one, so that `latest` means this one.
            time: record.time.saturating_add(1),
            description,
            roots,
            parent: id.as_bytes().to_vec(),
            heads,
            unread,
            // It is not what was copied, but less.
            origin: None,
            ..record.clone()
        }
    }
}
