//! `check`: finds out whether everything that was backed up is still there, and says what is hit
//! where it is not. First the objects ([`objects`]) and the structure ([`structure`]), then, if
//! asked for, every byte of the packs ([`data`]); only if something was found, a second walk
//! names the snapshots and files it matters to ([`trace`]). Reads the storage only, never a cache.

use std::collections::{BTreeSet, HashSet};

use crate::crypto::BlobKind;
use crate::format::config::Config;
use crate::hash::{BlobId, ObjectId, SnapshotId};
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{BlobReader, Index, Repository};
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

mod checksums;
mod data;
mod findings;
mod objects;
mod structure;
mod trace;

use findings::Ledger;

/// Findings kept; of more, one last finding tells the number.
pub const MAX_FINDINGS: usize = 1000;

/// Paths kept for each finding.
pub const MAX_PATHS: usize = 100;

/// Orphans named in a report; all are counted.
pub const MAX_ORPHANS: usize = 1000;

/// Whether to read the packs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ReadData {
    /// Only what the structure is made of.
    #[default]
    No,
    /// Every pack.
    All,
    /// Some packs: this fraction (0 to 1) of them, rounded, and at least one. Those come first that
    /// this machine has not read for the longest time, as far as its cache knows.
    Subset {
        /// Fraction of the packs.
        fraction: f64,
        /// Of packs that were read equally long ago, another seed chooses others.
        seed: u64,
    },
}

/// How to check.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// Whether to read the packs.
    pub read_data: ReadData,
    /// Let the storage compute the checksums of the packs to be read, where it can, and read only
    /// those that differ from their names, or that it could not read. Without
    /// [`read_data`](Self::read_data): of all packs.
    pub server_checksums: bool,
    /// Only these snapshots and the packs they need; `None` means everything.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// Threads; 0 means as many as the cores and the storage make worthwhile.
    pub threads: usize,
    /// Now, nanoseconds since the epoch: packs that are read are remembered. 0: they are not.
    pub time: i64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing, and normal in some situations.
    Note,
    /// An object is not as it must be, and nothing that the checked snapshots hold is lost by it.
    Damage,
    /// Something that snapshots hold cannot be read as things stand.
    Loss,
}

/// Something that is wrong, one for each object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object's name, or "tree node …" and the like for a blob that no pack holds.
    pub object: String,
    /// What is wrong with it (the first of its faults).
    pub what: String,
    /// How bad it is.
    pub severity: Severity,
    /// How many faults it has.
    pub faults: u64,
    /// Snapshots that are hit, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Absolute paths that are hit, at most [`MAX_PATHS`]. Where part of a tree is lost, the
    /// first path of that part; where its directories' totals are, the root's path.
    pub paths: Vec<(SnapshotId, Vec<u8>)>,
}

/// What a check saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
    /// Index segments read.
    pub segments: u64,
    /// Packs that the index lists.
    pub packs: u64,
    /// Blobs that the index lists.
    pub blobs: u64,
    /// Tree nodes, chunk lists, totals nodes and attribute blobs read, each once.
    pub nodes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Packs whose checksum, computed by the storage, is their name. They were not read.
    pub packs_hashed: u64,
    /// Packs read whole.
    pub packs_read: u64,
    /// Bytes of packs read whole.
    pub bytes_read: u64,
    /// What was found, worst first; at most [`MAX_FINDINGS`] and one more.
    pub findings: Vec<Finding>,
    /// Objects with a finding, kept or not.
    pub findings_total: u64,
    /// Packs in no index segment, with their sizes: left by an interrupted run, or being written
    /// now. No damage. The first [`MAX_ORPHANS`].
    pub orphans: Vec<(ObjectId, u64)>,
    /// How many such packs there are.
    pub orphans_total: u64,
    /// Packs that snapshots need and no segment lists: `repair index` puts that right.
    pub unlisted: u64,
    /// Packs that should have parity and have none: no damage.
    pub without_parity: u64,
}

/// What a check tells those who mend.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// What the checked snapshots need and cannot be read, whatever pack it lies in.
    pub(super) lost: HashSet<BlobId>,
    /// Packs that are damaged or missing, be their content lost or not.
    pub(super) packs: BTreeSet<ObjectId>,
}

impl CheckReport {
    /// The worst that was found.
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// Objects with a finding that is more than a note. Of more than [`MAX_FINDINGS`] those that
    /// were kept.
    pub fn damaged(&self) -> u64 {
        self.findings.iter().filter(|finding| finding.severity >= Severity::Damage).count() as u64
    }

    /// Whether anything but notes was found.
    pub fn is_damaged(&self) -> bool {
        self.worst() >= Some(Severity::Damage)
    }
}

/// What the steps of a check share.
pub(crate) struct Context<'a> {
    repository: &'a Repository,
    index: &'a Index,
    reader: &'a BlobReader<'a>,
    ledger: &'a Ledger,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    threads: usize,
    /// Packs in no segment.
    orphans: &'a [(ObjectId, u64)],
    /// Packs that have parity.
    parity: &'a BTreeSet<ObjectId>,
}

/// What is said of a damaged pack that costs nothing.
const HEALS: &str = "its parity heals it, and `repair packs` writes it anew";

/// Checks a repository. Damage is not an error but a finding; an error is what kept the check
/// from coming to its end (a storage out of reach, a listing that failed, an interruption).
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<CheckReport> {
    check_and_tell(repository, options, monitor, interrupt).map(|(report, _)| report)
}

/// The same, and what there is to mend.
pub(super) fn check_and_tell(
    repository: &Repository,
    options: &CheckOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<(CheckReport, Told)> {
    if let Some(feature) = Config::unknown_feature(&repository.config().features_check) {
        let what = format!("feature {feature}");
        return Err(Error::NewerFormat { location: repository.location(), what });
    }
    if let ReadData::Subset { fraction, .. } = options.read_data
        && !(0.0..=1.0).contains(&fraction)
    {
        return Err(Error::Usage("the fraction of packs to read must lie between 0 and 1".into()));
    }
    for last in [false, false, true] {
        let mut ledger = Ledger::default();
        let before = segment_names(repository)?;
        let found = check_once(repository, options, monitor, interrupt, &mut ledger)?;
        // A gc at work moves what a reader without a lease is about to look for. Then, and only
        // then, a finding may be no finding: what is there now is looked at anew.
        if last || ledger.is_empty() || segment_names(repository)? == before {
            return Ok(found);
        }
        monitor.note("the index changed during the check, which starts again");
    }
    Err(Error::Worker("check".into()))
}

fn segment_names(repository: &Repository) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    repository.storage().list(Folder::Index, &mut |info| {
        names.insert(info.name.base().to_owned());
    })?;
    Ok(names)
}

fn check_once(
    repository: &Repository,
    options: &CheckOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
    ledger: &mut Ledger,
) -> Result<(CheckReport, Told)> {
    monitor.phase(Phase::CheckStructure);
    let inventory = objects::check(repository, ledger, interrupt)?;
    let snapshots = choose(inventory.snapshots, options.snapshots.as_deref())?;
    let reader = BlobReader::of_index(repository, &inventory.index);
    let context = Context {
        repository,
        index: &inventory.index,
        reader: &reader,
        ledger,
        monitor,
        interrupt,
        threads: threads(repository, options.threads),
        orphans: &inventory.orphans,
        parity: &inventory.parity,
    };
    let walked = structure::check(&context, &snapshots)?;
    let mut report = CheckReport {
        snapshots: snapshots.len() as u64,
        segments: inventory.segments,
        packs: inventory.index.pack_count(),
        blobs: inventory.index.blob_count(),
        nodes: walked.nodes,
        entries: walked.entries,
        without_parity: inventory.without_parity,
        ..CheckReport::default()
    };
    let read_data = match options.read_data {
        ReadData::No if options.server_checksums => ReadData::All,
        other => other,
    };
    if read_data != ReadData::No {
        monitor.phase(Phase::CheckData);
        let only_used = options.snapshots.is_some().then_some(&walked.used);
        let read = data::check(&context, read_data, options, only_used)?;
        report.packs_hashed = read.hashed;
        (report.packs_read, report.bytes_read) = (read.packs, read.bytes);
    }
    for (pack, pieces) in reader.healed() {
        let name = ObjectName::pack(pack);
        if ledger.handle(name.as_str()).is_none() {
            let what = format!("{pieces} of its pieces are damaged; {HEALS}");
            ledger.add(name, what, Severity::Damage);
        }
    }
    let is_needed =
        |(id, _): &(ObjectId, u64)| ledger.handle(ObjectName::pack(*id).as_str()).is_some();
    let (unlisted, orphans): (Vec<_>, Vec<_>) =
        inventory.orphans.iter().copied().partition(is_needed);
    (report.unlisted, report.orphans_total) = (unlisted.len() as u64, orphans.len() as u64);
    let lost = trace::trace(&context, &snapshots)?;
    let packs = ledger.damaged_packs();
    (report.findings, report.findings_total) = ledger.finish(&snapshots);
    report.orphans = orphans;
    report.orphans.truncate(MAX_ORPHANS);
    for finding in &report.findings {
        monitor.problem(&finding.object, &finding.what);
    }
    Ok((report, Told { lost, packs }))
}

fn choose(all: Vec<SnapshotInfo>, wanted: Option<&[SnapshotId]>) -> Result<Vec<SnapshotInfo>> {
    let Some(wanted) = wanted else { return Ok(all) };
    if let Some(missing) = wanted.iter().find(|id| !all.iter().any(|s| s.id == **id)) {
        return Err(Error::NoSuchSnapshot { selector: missing.to_string() });
    }
    Ok(all.into_iter().filter(|s| wanted.contains(&s.id)).collect())
}

fn threads(repository: &Repository, wanted: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let useful = match wanted {
        0 => cores.max(repository.storage().concurrency()),
        wanted => wanted,
    };
    // Each holds a piece of a pack and a blob: sixteen keep within the memory promised.
    useful.clamp(1, 16)
}

impl Context<'_> {
    fn stop_if_asked(&self) -> Result<()> {
        if self.interrupt.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// What to say of an object that could not be read, or the error itself if it says nothing of the
/// object but something of the storage as a whole.
pub(super) fn fault_text(error: Error) -> Result<String> {
    use crate::storage::StorageErrorKind as Kind;
    match error {
        Error::Damaged { what, .. } => Ok(what),
        Error::MissingBlob { .. } => Ok("it is missing".into()),
        Error::Storage(e) if e.is_not_found() => Ok("it is missing".into()),
        Error::Storage(e) if matches!(e.kind, Kind::Io | Kind::PermissionDenied) => {
            Ok(format!("it cannot be read: {}", crate::error::chain_text(&e)))
        }
        other => Err(other),
    }
}

/// How a blob is called in a finding.
fn blob_name(kind: BlobKind, id: &BlobId) -> String {
    format!("{} {id}", kind.name())
}
