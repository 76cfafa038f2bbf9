//! Second step of a check: every tree node, totals node, chunk list and attribute blob that the
//! snapshots reach opens, is in order, and refers only to what the index knows. Shared nodes are
//! visited once: what was seen is remembered as 16-byte hashes of a node and what is expected of
//! it. Several threads take jobs from one stack, so that what lies together is read together.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::crypto::BlobKind;
use crate::format::tree::Child;
use crate::hash::BlobId;
use crate::monitor::Progress;
use crate::repo::index::Place;
use crate::repo::snapshots::SnapshotInfo;
use crate::storage::ObjectName;
use crate::tree::work::work_off;
use crate::{Error, Result};

use super::{Context, Severity, blob_name, fault_text};

mod lists;
mod nodes;
mod orphans;

/// A tree key: parent path and name.
type Key = (Vec<u8>, Vec<u8>);

/// What a walk saw.
pub(super) struct Walked {
    pub(super) nodes: u64,
    pub(super) entries: u64,
    /// One bit a pack that something referred to.
    pub(super) used: Vec<AtomicU64>,
}

/// A blob of structure to look at, and what those that refer to it say of it.
enum Job {
    Tree(Subtree),
    List { id: BlobId, level: Option<u32>, length: u64 },
    Attributes(BlobId),
}

/// A node of a tree ([`BlobKind::Node`]) or totals tree.
#[derive(Clone)]
struct Subtree {
    kind: BlobKind,
    id: BlobId,
    level: Option<u32>,
    /// Its first key.
    low: Option<Arc<Key>>,
    /// The first key after it.
    high: Option<Arc<Key>>,
    entries: Option<u64>,
}

struct Walk<'a> {
    context: &'a Context<'a>,
    seen: Mutex<HashSet<[u8; 16]>>,
    nodes: AtomicU64,
    entries: AtomicU64,
    used: Vec<AtomicU64>,
    adopted: OnceLock<()>,
}

pub(super) fn check(context: &Context<'_>, snapshots: &[SnapshotInfo]) -> Result<Walked> {
    let walk = Walk {
        context,
        seen: Mutex::default(),
        nodes: AtomicU64::new(0),
        entries: AtomicU64::new(0),
        used: (0..context.index.loaded_end().div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
        adopted: OnceLock::new(),
    };
    let mut jobs = Vec::new();
    for root in snapshots.iter().flat_map(|s| &s.record.roots) {
        for (kind, id) in [(BlobKind::Node, &root.tree), (BlobKind::Totals, &root.totals)] {
            // Ids of wrong length were reported with the snapshot.
            let Some(id) = BlobId::from_slice(id) else { continue };
            let any = Subtree { kind, id, level: None, low: None, high: None, entries: None };
            jobs.push(Job::Tree(any));
        }
    }
    // The newest snapshot is taken first: what lies together in its trees is read together.
    work_off(context.threads, jobs, |job, more| {
        context.stop_if_asked()?;
        walk.look_at(job, more)
    })?;
    let Walk { nodes, entries, used, .. } = walk;
    Ok(Walked { nodes: nodes.into_inner(), entries: entries.into_inner(), used })
}

impl Walk<'_> {
    fn look_at(&self, job: Job, more: &mut Vec<Job>) -> Result<()> {
        if !self.is_new(&job) {
            return Ok(());
        }
        let nodes = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
        if nodes.is_multiple_of(256) {
            let files = self.entries.load(Ordering::Relaxed);
            self.context.monitor.progress(&Progress { files, ..Progress::default() }, b"");
        }
        match job {
            Job::Tree(subtree) => self.subtree(&subtree, more),
            Job::List { id, level, length } => self.list(&id, level, length, more),
            Job::Attributes(id) => self.attributes(&id),
        }
    }

    /// Whether this was not looked at yet with these expectations.
    fn is_new(&self, job: &Job) -> bool {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        };
        let number = |n: Option<u64>| {
            n.map_or([0xff; 9], |n| {
                let mut bytes = [0; 9];
                bytes.split_at_mut(8).0.copy_from_slice(&n.to_le_bytes());
                bytes
            })
        };
        match job {
            Job::Tree(subtree) => {
                add(&[subtree.kind as u8]);
                add(subtree.id.as_bytes());
                add(&number(subtree.level.map(u64::from)));
                add(&number(subtree.entries));
                for key in [&subtree.low, &subtree.high].into_iter().flatten() {
                    add(&key.0);
                    add(&key.1);
                }
            }
            Job::List { id, level, length } => {
                add(&[BlobKind::ChunkList as u8]);
                add(id.as_bytes());
                add(&number(level.map(u64::from)));
                add(&number(Some(*length)));
            }
            Job::Attributes(id) => {
                add(&[BlobKind::Attributes as u8]);
                add(id.as_bytes());
            }
        }
        let hash = hasher.finalize().as_bytes().first_chunk::<16>().copied().unwrap_or_default();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }

    /// The place of a blob that something refers to; `None` if there is a finding.
    fn locate(&self, kind: BlobKind, id: &BlobId) -> Result<Option<Place>> {
        let context = self.context;
        // A bundle may be there without some of its members: the reader of it sees to that.
        let place = context.index.find_any(id)?;
        let is_there = |pack| context.index.is_usable(pack) || context.ledger.is_healed(pack);
        let Some(place) = place.filter(|place| is_there(place.pack)) else {
            // Its pack is missing, which is a finding already.
            if place.is_some() {
                return Ok(None);
            }
            if self.adopt_orphans()? {
                return self.locate(kind, id);
            }
            if context.index.find(id)?.is_some() {
                return self.locate(kind, id);
            }
            let what = "snapshots refer to it, and no pack in the index holds it";
            let handle = context.ledger.add(blob_name(kind, id), what, Severity::Damage);
            context.ledger.bad_blob(*id, handle);
            return Ok(None);
        };
        if let Some(word) = self.used.get(place.pack as usize / 64) {
            word.fetch_or(1 << (place.pack % 64), Ordering::Relaxed);
        }
        if place.pack >= context.index.loaded_end()
            && let Some(pack) = context.index.pack(place.pack)?
        {
            let what = "no index segment that can be read lists it, and snapshots need it: \
                        `repair index` puts that right";
            let handle = context.ledger.add(ObjectName::pack(pack.id), what, Severity::Damage);
            context.ledger.bad_pack(place.pack, handle);
        }
        if place.kind != kind {
            let what = format!("the index says that it is a {}", place.kind.name());
            self.bad_blob(kind, id, what);
            return Ok(None);
        }
        Ok(Some(place))
    }

    /// A finding about a blob whatever pack it lies in.
    fn bad_blob(&self, kind: BlobKind, id: &BlobId, what: impl Into<String>) {
        let handle = self.context.ledger.add(blob_name(kind, id), what, Severity::Damage);
        self.context.ledger.bad_blob(*id, handle);
    }

    /// Reads a blob of structure; `None` if there is a finding.
    fn fetch(&self, kind: BlobKind, id: &BlobId) -> Result<Option<Vec<u8>>> {
        let Some(place) = self.locate(kind, id)? else { return Ok(None) };
        match self.context.reader.read(kind, id) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => self.bad_read(&place, error).map(|()| None),
        }
    }

    /// A finding about the pack that a blob could not be read from.
    fn bad_read(&self, place: &Place, error: Error) -> Result<()> {
        let what = fault_text(error)?;
        let pack = self.context.index.pack(place.pack)?.map(|pack| pack.id);
        let name = ObjectName::pack(pack.unwrap_or_default());
        let handle = self.context.ledger.add(name, what, Severity::Damage);
        self.context.ledger.bad_place(place.pack, place.ordinal, handle);
        Ok(())
    }
}

/// Turns children of an inner node into what is expected of each; an error if they are not in
/// order.
fn subtrees(
    above: &Subtree,
    level: u32,
    children: Vec<Child>,
    compare: impl Fn(&Key, &Key) -> std::cmp::Ordering,
) -> std::result::Result<Vec<Subtree>, String> {
    let below = level.checked_sub(1).ok_or("its level is wrong")?;
    let mut subtrees: Vec<Subtree> = Vec::with_capacity(children.len());
    for child in children {
        let id = BlobId::from_slice(&child.id).ok_or("a child has no id")?;
        let low = Arc::new((child.parent, child.name));
        if let Some(before) = subtrees.last_mut() {
            if before.low.as_ref().is_some_and(|before| compare(before, &low).is_ge()) {
                return Err("its children are not in order".into());
            }
            before.high = Some(low.clone());
        }
        let (kind, level, entries) = (above.kind, Some(below), Some(child.entries));
        subtrees.push(Subtree { kind, id, level, low: Some(low), high: None, entries });
    }
    if let Some(last) = subtrees.last_mut() {
        last.high = above.high.clone();
    }
    Ok(subtrees)
}
