//! Things as JSON shows them, the same in the events of `--json` (docs/json.md) and in the API of
//! the console. Sizes are bytes, times are RFC 3339, ids are whole.

use holdfast_engine::crypto::BlobKind;
use holdfast_engine::format::snapshot::{self, Root};
use holdfast_engine::hash::to_hex;
use holdfast_engine::meta::Metadata;
use holdfast_engine::ops::diff::{self, ChangeKind, DiffTotals};
use holdfast_engine::ops::find::{FoundVersion, SnapshotRun};
use holdfast_engine::ops::gc::{Amount, GcPlan};
use holdfast_engine::ops::info::{KindInfo, RepositoryInfo};
use holdfast_engine::repo::keyslots::SlotInfo;
use holdfast_engine::repo::sessions::OpenSession;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Serialize;

use crate::config::{Config, Entry as ConfigEntry};
use crate::connection_test::{self, Outcome};
use crate::problem::Problem;
use crate::times::rfc3339;

/// A path: as text, with what is not UTF-8 replaced, and then also as bytes in base 16.
#[derive(Debug, Serialize)]
pub struct Path {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Path {
    /// Of these bytes.
    pub fn new(path: &[u8]) -> Self {
        let path_bytes = std::str::from_utf8(path).is_err().then(|| to_hex(path));
        Self { path: String::from_utf8_lossy(path).into_owned(), path_bytes }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct Snapshot<'a> {
    id: String,
    time: String,
    host: &'a str,
    user: &'a str,
    kind: &'a str,
    tags: &'a [String],
    description: &'a str,
    program: &'a str,
    partial: bool,
    pinned: bool,
    parent: Option<String>,
    origin: Option<Origin>,
    files: u64,
    directories: u64,
    bytes: u64,
    errors: u64,
    roots: Vec<Path>,
}

/// Where a copy was made from.
#[derive(Debug, Serialize)]
struct Origin {
    repository: String,
    snapshot: String,
}

impl From<&snapshot::Origin> for Origin {
    fn from(origin: &snapshot::Origin) -> Self {
        Self { repository: to_hex(&origin.repository), snapshot: to_hex(&origin.snapshot) }
    }
}

impl<'a> From<&'a SnapshotInfo> for Snapshot<'a> {
    fn from(info: &'a SnapshotInfo) -> Self {
        let record = &info.record;
        let sum = record.sum();
        Self {
            id: info.id.to_string(),
            time: rfc3339(record.time),
            host: &record.host,
            user: &record.user,
            kind: &record.kind,
            tags: &record.tags,
            description: &record.description,
            program: &record.program,
            partial: record.partial,
            pinned: record.pinned,
            parent: (!record.parent.is_empty()).then(|| to_hex(&record.parent)),
            origin: record.origin.as_ref().map(Origin::from),
            files: sum.files,
            directories: sum.directories,
            bytes: sum.bytes,
            errors: sum.errors,
            roots: record.roots.iter().map(|root: &Root| Path::new(&root.path)).collect(),
        }
    }
}

/// An entry of a tree.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    #[serde(flatten)]
    path: Path,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    user: &'a str,
    group: &'a str,
    size: u64,
    mtime: String,
    inode: u64,
    links: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
}

impl<'a> Entry<'a> {
    /// What stands at the absolute `path`; `target` is that of a link, `error` why it was not read.
    pub fn new(path: &[u8], m: &'a Metadata, target: &[u8], error: &'a str) -> Self {
        Self {
            path: Path::new(path),
            kind: m.kind.name(),
            mode: mode(m),
            uid: m.owner.uid,
            gid: m.owner.gid,
            user: &m.owner.user,
            group: &m.owner.group,
            size: m.size,
            mtime: rfc3339(m.mtime.total_nanos()),
            inode: m.inode,
            links: m.links.max(1),
            target: (!target.is_empty()).then(|| String::from_utf8_lossy(target).into_owned()),
            error,
        }
    }
}

fn mode(m: &Metadata) -> String {
    format!("{:04o}", m.mode)
}

/// A version of what stands at a path.
#[derive(Debug, Serialize)]
pub struct Version {
    #[serde(flatten)]
    path: Path,
    kind: &'static str,
    mode: String,
    size: u64,
    mtime: String,
    snapshots: u64,
    runs: Vec<Run>,
}

/// Snapshots of one origin, one after the other.
#[derive(Debug, Serialize)]
struct Run {
    first: String,
    last: String,
    count: u64,
}

impl From<&SnapshotRun> for Run {
    fn from(run: &SnapshotRun) -> Self {
        Self { first: run.first.to_string(), last: run.last.to_string(), count: run.count }
    }
}

impl Version {
    /// One of those that were found at `path`.
    pub fn new(path: &[u8], version: &FoundVersion) -> Self {
        let m = &version.metadata;
        Self {
            path: Path::new(path),
            kind: m.kind.name(),
            mode: mode(m),
            size: m.size,
            mtime: rfc3339(m.mtime.total_nanos()),
            snapshots: version.snapshots.iter().map(|run| run.count).sum(),
            runs: version.snapshots.iter().map(Run::from).collect(),
        }
    }
}

/// What differs at a path.
#[derive(Debug, Serialize)]
pub struct Change {
    change: &'static str,
    #[serde(flatten)]
    path: Path,
    content: bool,
    metadata: bool,
    kind: bool,
    size_before: Option<u64>,
    size_after: Option<u64>,
}

impl From<&diff::Change> for Change {
    fn from(change: &diff::Change) -> Self {
        let (name, content, metadata, kind) = match change.kind {
            ChangeKind::Added => ("added", false, false, false),
            ChangeKind::Removed => ("removed", false, false, false),
            ChangeKind::Modified { content, metadata, kind } => {
                ("modified", content, metadata, kind)
            }
        };
        let size = |entry: &Option<holdfast_engine::tree::Entry>| {
            entry.as_ref().map(|entry| entry.metadata.size)
        };
        Self {
            change: name,
            path: Path::new(&change.path),
            content,
            metadata,
            kind,
            size_before: size(&change.before),
            size_after: size(&change.after),
        }
    }
}

/// Differences in all.
#[derive(Debug, Serialize)]
pub struct Differences {
    added: u64,
    removed: u64,
    changed: u64,
    touched: u64,
    unknown: u64,
    bytes_added: u64,
    bytes_removed: u64,
}

impl From<&DiffTotals> for Differences {
    fn from(totals: &DiffTotals) -> Self {
        let DiffTotals { added, removed, changed, touched, bytes_added, bytes_removed, unknown } =
            *totals;
        Self { added, removed, changed, touched, unknown, bytes_added, bytes_removed }
    }
}

/// A repository in numbers.
#[derive(Debug, Serialize)]
pub struct Repository {
    location: String,
    id: String,
    created: String,
    encrypted: bool,
    chunk_min: u32,
    chunk_avg: u32,
    chunk_max: u32,
    snapshots: u64,
    partial: u64,
    packs: u64,
    bytes_packs: u64,
    segments: u64,
    bytes_index: u64,
    blobs: u64,
    bytes_plain: u64,
    files: u64,
    bytes_logical: u64,
    compression: f64,
    deduplication: f64,
    savings: f64,
    kinds: Vec<Kind>,
}

/// Blobs of one kind.
#[derive(Debug, Serialize)]
struct Kind {
    kind: &'static str,
    blobs: u64,
    bytes_plain: u64,
    bytes_stored: u64,
}

impl From<&KindInfo> for Kind {
    fn from(kind: &KindInfo) -> Self {
        Self {
            kind: blob_kind_name(kind.kind),
            blobs: kind.count,
            bytes_plain: kind.plain,
            bytes_stored: kind.stored,
        }
    }
}

impl From<&RepositoryInfo> for Repository {
    fn from(info: &RepositoryInfo) -> Self {
        let [chunk_min, chunk_avg, chunk_max] = info.chunks;
        Self {
            location: info.location.clone(),
            id: info.id.to_string(),
            created: rfc3339(info.created),
            encrypted: info.encrypted,
            chunk_min,
            chunk_avg,
            chunk_max,
            snapshots: info.snapshots,
            partial: info.partial,
            packs: info.packs,
            bytes_packs: info.stored,
            segments: info.segments,
            bytes_index: info.index,
            blobs: info.blobs(),
            bytes_plain: info.plain(),
            files: info.logical.files,
            bytes_logical: info.logical.bytes,
            compression: info.compression(),
            deduplication: info.deduplication(),
            savings: info.savings(),
            kinds: info.kinds.iter().map(Kind::from).collect(),
        }
    }
}

/// What people and JSON call blobs of a kind.
pub fn blob_kind_name(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Chunk => "chunks",
        BlobKind::Bundle => "bundles",
        BlobKind::Node => "tree nodes",
        BlobKind::ChunkList => "chunk lists",
        BlobKind::Totals => "totals",
        BlobKind::Attributes => "attributes",
    }
}

/// A key slot. What opens nothing, damaged or left over, has neither label nor host nor time.
#[derive(Debug, Serialize)]
pub struct Slot<'a> {
    id: String,
    kind: &'a str,
    label: Option<&'a str>,
    host: Option<&'a str>,
    created: Option<String>,
}

impl<'a> From<&'a SlotInfo> for Slot<'a> {
    fn from(slot: &'a SlotInfo) -> Self {
        let label = slot.label.as_ref();
        Self {
            id: slot.id.to_string(),
            kind: slot.kind,
            label: label.map(|label| label.text.as_str()),
            host: label.map(|label| label.host.as_str()),
            created: label.map(|label| rfc3339(label.created)),
        }
    }
}

/// Packs, and their bytes.
#[derive(Debug, Serialize)]
pub struct Count {
    count: u64,
    bytes: u64,
}

impl From<Amount> for Count {
    fn from(amount: Amount) -> Self {
        Self { count: amount.count, bytes: amount.bytes }
    }
}

/// An open session. `silent` is in seconds.
#[derive(Debug, Serialize)]
pub struct Session<'a> {
    id: String,
    host: &'a str,
    process: u32,
    verb: &'a str,
    started: String,
    silent: u64,
}

impl<'a> From<&'a OpenSession> for Session<'a> {
    fn from(session: &'a OpenSession) -> Self {
        Self {
            id: session.id.to_string(),
            host: &session.host,
            process: session.process,
            verb: &session.verb,
            started: rfc3339(session.started),
            silent: session.silent.as_secs(),
        }
    }
}

/// What a gc would do.
#[derive(Debug, Serialize)]
pub struct Planned<'a> {
    packs: Count,
    dead: Count,
    orphans: Count,
    sparse: Count,
    condemned: Count,
    young: Count,
    needed: u64,
    unneeded: u64,
    moved: u64,
    left: u64,
    frees: u64,
    open: Vec<Session<'a>>,
    shut_out: Vec<Session<'a>>,
    fenced: Vec<String>,
}

impl<'a> From<&'a GcPlan> for Planned<'a> {
    fn from(plan: &'a GcPlan) -> Self {
        Self {
            packs: plan.packs.into(),
            dead: plan.dead.into(),
            orphans: plan.orphans.into(),
            sparse: plan.sparse.into(),
            condemned: plan.condemned.into(),
            young: plan.young.into(),
            needed: plan.needed,
            unneeded: plan.unneeded,
            moved: plan.moved,
            left: plan.left,
            frees: plan.frees(),
            open: plan.open.iter().map(Session::from).collect(),
            shut_out: plan.shut_out.iter().map(Session::from).collect(),
            fenced: plan.fenced.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A named location.
#[derive(Debug, Serialize)]
pub struct Location<'a> {
    /// Its name.
    pub name: &'a str,
    /// What people call it.
    pub title: Option<&'a str>,
    /// "local", "sftp" or "s3".
    pub kind: Option<String>,
    /// The location as it is written, with no password.
    pub location: Option<String>,
    /// It stands where no other is named.
    pub default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<serde_json::Map<String, serde_json::Value>>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

impl<'a> Location<'a> {
    /// An entry of `config`; its options `with_options` as text, secrets masked.
    pub fn new(config: &Config, entry: &ConfigEntry<'a>, with_options: bool) -> Self {
        let lines = || {
            let lines = entry.lines().into_iter();
            let lines = lines.filter(|l| !matches!(l.name.as_str(), "title" | "location"));
            lines.map(|line| (line.name, line.text.into())).collect()
        };
        Self {
            name: entry.name(),
            title: entry.title(),
            kind: entry.kind().map(|kind| kind.to_string()),
            location: entry.shown_location(),
            default: config.default_name() == Some(entry.name()),
            options: with_options.then(lines),
            problem: problem_of(entry).map(|problem| problem.message),
        }
    }
}

/// What is wrong with a named location.
pub fn problem_of(entry: &ConfigEntry<'_>) -> Option<Problem> {
    entry.options().err().or_else(|| entry.location().err())
}

/// A step of a connection test.
#[derive(Debug, Serialize)]
pub struct Step {
    /// "resolve", "connect", …
    pub step: &'static str,
    /// "ok", "limited" or "failed".
    pub outcome: &'static str,
    /// What was found; may be empty.
    pub detail: String,
    /// How long it took.
    pub seconds: f64,
}

impl From<connection_test::Step> for Step {
    fn from(step: connection_test::Step) -> Self {
        Self {
            step: step.name,
            outcome: match step.outcome {
                Outcome::Passed => "ok",
                Outcome::Limited => "limited",
                Outcome::Failed => "failed",
            },
            detail: step.detail,
            seconds: step.took.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_given_exactly_as_well() -> serde_json::Result<()> {
        let text = |path: &[u8]| serde_json::to_string(&Path::new(path));
        assert_eq!(text(b"/a")?, "{\"path\":\"/a\"}");
        assert_eq!(text(b"/\xff")?, "{\"path\":\"/\u{fffd}\",\"path_bytes\":\"2fff\"}");
        Ok(())
    }
}
