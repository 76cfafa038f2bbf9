//! Marking: from the snapshots through all nodes that were not seen yet down to what they refer
//! to. Reads structure only; content is looked up, never read, but for bundles that lack members
//! where it matters which. What cannot be found or read stops the gc.

use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::{ChunkList, Node, TotalsNode};
use crate::hash::BlobId;
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::index::inventory::Spot;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::entry::{Content, Entry};
use crate::tree::read::leaf_entries;
use crate::tree::work::work_off;
use crate::{Error, Result};

use super::marks::Marks;

/// A blob of structure to look into.
struct Job {
    kind: BlobKind,
    id: BlobId,
}

/// Marks what snapshots need.
pub(super) struct Marker<'a> {
    pub(super) marks: &'a Marks<'a>,
    pub(super) reader: &'a BlobReader<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) interrupt: &'a Interrupt,
    pub(super) threads: usize,
    /// Whether bundles that lack members are read, to see whether they have those needed.
    pub(super) is_strict: bool,
}

impl Marker<'_> {
    /// Marks all that `snapshots` need. An error if any of it is missing or cannot be read.
    pub(super) fn mark(&self, snapshots: &[&SnapshotInfo]) -> Result<()> {
        let mut jobs = Vec::new();
        for root in snapshots.iter().flat_map(|s| &s.record.roots) {
            for (kind, id) in [(BlobKind::Node, &root.tree), (BlobKind::Totals, &root.totals)] {
                match BlobId::from_slice(id) {
                    Some(id) => jobs.push(Job { kind, id }),
                    None if id.is_empty() && kind == BlobKind::Totals => {}
                    None => return Err(Error::damaged("snapshot", "a root has no tree")),
                }
            }
        }
        let (nodes, entries) = (AtomicU64::new(0), AtomicU64::new(0));
        work_off(self.threads, jobs, |job, more| {
            if self.interrupt.is_raised() {
                return Err(Error::Interrupted);
            }
            if nodes.fetch_add(1, Ordering::Relaxed).is_multiple_of(256) {
                let files = entries.load(Ordering::Relaxed);
                self.monitor.progress(&Progress { files, ..Progress::default() }, b"");
            }
            entries.fetch_add(self.look_into(&job, more)?, Ordering::Relaxed);
            Ok(())
        })
    }

    /// Looks into a blob that was not seen yet; how many entries it has.
    fn look_into(&self, job: &Job, more: &mut Vec<Job>) -> Result<u64> {
        let (id, mut spots) = (&job.id, Vec::new());
        if !self.blob(job.kind, id, &mut spots)? {
            return Ok(0);
        }
        let bad = |e: prost::DecodeError| Error::damaged(format!("{} {id}", job.kind.name()), e);
        let child = |id: &[u8]| {
            BlobId::from_slice(id).ok_or_else(|| Error::damaged("tree node", "a child has no id"))
        };
        match job.kind {
            BlobKind::Node => {
                let node = Node::decode(&self.reader.read(job.kind, id)?[..]).map_err(bad)?;
                if node.level == 0 {
                    return self.leaf(id, node, more, &mut spots);
                }
                for below in &node.children {
                    more.push(Job { kind: BlobKind::Node, id: child(&below.id)? });
                }
            }
            BlobKind::Totals => {
                let node = TotalsNode::decode(&self.reader.read(job.kind, id)?[..]).map_err(bad)?;
                for below in &node.children {
                    more.push(Job { kind: BlobKind::Totals, id: child(&below.id)? });
                }
            }
            BlobKind::ChunkList => {
                let list = ChunkList::decode(&self.reader.read(job.kind, id)?[..]).map_err(bad)?;
                if !list.ids.len().is_multiple_of(32) {
                    return Err(Error::damaged(format!("chunk list {id}"), "it is cut short"));
                }
                for below in list.ids.chunks_exact(32).filter_map(BlobId::from_slice) {
                    if list.level > 0 {
                        more.push(Job { kind: BlobKind::ChunkList, id: below });
                    } else {
                        self.blob(BlobKind::Chunk, &below, &mut spots)?;
                    }
                }
            }
            BlobKind::Attributes | BlobKind::Chunk | BlobKind::Bundle => {}
        }
        Ok(0)
    }

    fn leaf(
        &self,
        id: &BlobId,
        node: Node,
        more: &mut Vec<Job>,
        spots: &mut Vec<Spot>,
    ) -> Result<u64> {
        let mut last = None;
        let found = leaf_entries(id, node)?;
        for found in &found {
            let entry = &found.entry;
            if let Some(id) = entry.xattrs_blob {
                more.push(Job { kind: BlobKind::Attributes, id });
            }
            match &entry.content {
                Content::None | Content::Inline(_) => {}
                Content::Chunks(chunks) => {
                    last = None;
                    for chunk in chunks {
                        self.blob(BlobKind::Chunk, &chunk.id, spots)?;
                    }
                }
                Content::List(id) => more.push(Job { kind: BlobKind::ChunkList, id: *id }),
                Content::Member { bundle, number, .. } => {
                    // Files that lie together in the tree lie together in bundles.
                    if last != Some(*bundle) {
                        self.blob(BlobKind::Bundle, bundle, spots)?;
                        last = Some(*bundle);
                    }
                    self.member(bundle, *number, entry, spots)?;
                }
            }
        }
        Ok(found.len() as u64)
    }

    /// Marks a blob. `spots` are its copies then. Whether it was not marked before.
    fn blob(&self, kind: BlobKind, id: &BlobId, spots: &mut Vec<Spot>) -> Result<bool> {
        self.marks.index().spots(id, spots)?;
        let Some(first) = spots.first() else {
            return Err(Error::MissingBlob { id: id.to_string() });
        };
        if first.place.kind != kind {
            let (says, not) = (first.place.kind.name(), kind.name());
            return Err(Error::damaged("index", format!("blob {id} is a {says}, not a {not}")));
        }
        Ok(self.marks.mark(spots))
    }

    fn member(&self, bundle: &BlobId, number: u32, entry: &Entry, spots: &[Spot]) -> Result<()> {
        let missing = || Error::MissingBlob { id: format!("{bundle} member {number}") };
        if spots.first().is_none_or(|first| number >= first.place.members) {
            return Err(missing());
        }
        if self.is_strict && spots.iter().all(|spot| spot.place.hollow) {
            self.reader.bundle(bundle, number)?;
        }
        self.marks.mark_member(spots, number, entry.metadata.size);
        Ok(())
    }
}
