//! Last step of a check, only if something cannot be read: which snapshots and paths that hits.
//! Every tree is walked once more; subtrees found whole are remembered and walked once.

use std::collections::{BTreeSet, HashSet};

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::{ChunkList, Node, TotalsNode};
use crate::hash::{BlobId, SnapshotId};
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::entry::{Content, Entry};
use crate::tree::join;
use crate::tree::read::leaf_entries;
use crate::{Error, Result};

use super::findings::{Bad, Handle};
use super::{Context, fault_text};

/// Deeper than any tree.
const MAX_DEPTH: u32 = 40;

struct Trace<'a> {
    context: &'a Context<'a>,
    bad: Bad,
    whole: HashSet<BlobId>,
    /// What is needed and cannot be read.
    lost: HashSet<BlobId>,
    snapshot: SnapshotId,
    root: Vec<u8>,
}

/// Names the snapshots and paths that are hit; returns the blobs that they lack.
pub(super) fn trace(context: &Context<'_>, snapshots: &[SnapshotInfo]) -> Result<HashSet<BlobId>> {
    let bad = context.ledger.bad();
    if bad.is_empty() {
        return Ok(HashSet::new());
    }
    let (whole, lost, snapshot, root) = Default::default();
    let mut trace = Trace { context, bad, whole, lost, snapshot, root };
    for info in snapshots {
        trace.snapshot = info.id;
        for root in &info.record.roots {
            trace.root.clone_from(&root.path);
            if let Some(id) = BlobId::from_slice(&root.tree) {
                trace.node(&id, b"", 0)?;
            }
            if let Some(id) = BlobId::from_slice(&root.totals) {
                trace.totals(&id, 0)?;
            }
        }
    }
    Ok(trace.lost)
}

impl Trace<'_> {
    /// The finding that keeps a blob from being read.
    fn fault(&mut self, id: &BlobId) -> Result<Option<Handle>> {
        let fault = self.bad.fault(self.context.index, id)?;
        if fault.is_some() {
            self.lost.insert(*id);
        }
        Ok(fault)
    }

    fn hit(&self, handle: Handle, path: &[u8]) {
        let path = join(self.root.strip_suffix(b"/").unwrap_or(&self.root), path);
        let path = if path.is_empty() { b"/".to_vec() } else { path };
        // `join` leaves out the slash after an empty root, which is the root of all.
        let path = if path.starts_with(b"/") { path } else { [b"/", &path[..]].concat() };
        self.context.ledger.hit(handle, self.snapshot, Some(path));
    }

    /// Reads a blob of structure. One that cannot be read has its finding already.
    fn read<M: Message + Default>(&self, kind: BlobKind, id: &BlobId) -> Result<Option<M>> {
        let decode = |bytes: Vec<u8>| M::decode(&bytes[..]).map_err(|e| Error::damaged(id, e));
        match self.context.reader.read(kind, id).and_then(decode) {
            Ok(message) => Ok(Some(message)),
            Err(error) => fault_text(error).map(|_| None),
        }
    }

    /// Walks a subtree whose first key is `first`. Whether it is whole.
    fn node(&mut self, id: &BlobId, first: &[u8], depth: u32) -> Result<bool> {
        self.context.stop_if_asked()?;
        if self.whole.contains(id) {
            return Ok(true);
        }
        let fault = self.fault(id)?;
        if let Some(handle) = fault {
            self.hit(handle, first);
        }
        // A crooked node, or one in a pack that no segment lists, may still lead on.
        let Some(node) = self.read::<Node>(BlobKind::Node, id)? else { return Ok(false) };
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let mut whole = fault.is_none();
        if node.level > 0 {
            for child in &node.children {
                let Some(below) = BlobId::from_slice(&child.id) else { continue };
                whole &= self.node(&below, &join(&child.parent, &child.name), depth + 1)?;
            }
        } else {
            for found in leaf_entries(id, node).unwrap_or_default() {
                let handles = self.entry(&found.entry)?;
                whole &= handles.is_empty();
                for handle in handles {
                    self.hit(handle, &found.path());
                }
            }
        }
        if whole {
            self.whole.insert(*id);
        }
        Ok(whole)
    }

    /// What keeps an entry from being restored.
    fn entry(&mut self, entry: &Entry) -> Result<BTreeSet<Handle>> {
        let mut handles = BTreeSet::new();
        if let Some(id) = entry.xattrs_blob {
            handles.extend(self.fault(&id)?);
        }
        match &entry.content {
            Content::None | Content::Inline(_) => {}
            Content::Member { bundle, .. } => handles.extend(self.fault(bundle)?),
            Content::Chunks(chunks) => {
                for chunk in chunks {
                    handles.extend(self.fault(&chunk.id)?);
                }
            }
            Content::List(id) => self.list(id, &mut handles, 0)?,
        }
        Ok(handles)
    }

    fn list(&mut self, id: &BlobId, handles: &mut BTreeSet<Handle>, depth: u32) -> Result<()> {
        self.context.stop_if_asked()?;
        if self.whole.contains(id) || depth > MAX_DEPTH {
            return Ok(());
        }
        if let Some(handle) = self.fault(id)? {
            handles.insert(handle);
            return Ok(());
        }
        let Some(list) = self.read::<ChunkList>(BlobKind::ChunkList, id)? else { return Ok(()) };
        let mut below = BTreeSet::new();
        for child in list.ids.chunks_exact(32).filter_map(BlobId::from_slice) {
            if list.level > 0 {
                self.list(&child, &mut below, depth + 1)?;
            } else {
                below.extend(self.fault(&child)?);
            }
        }
        if below.is_empty() {
            self.whole.insert(*id);
        }
        handles.append(&mut below);
        Ok(())
    }

    fn totals(&mut self, id: &BlobId, depth: u32) -> Result<bool> {
        self.context.stop_if_asked()?;
        if self.whole.contains(id) {
            return Ok(true);
        }
        if let Some(handle) = self.fault(id)? {
            self.hit(handle, b"");
            return Ok(false);
        }
        let read = self.read::<TotalsNode>(BlobKind::Totals, id)?;
        let Some(node) = read else { return Ok(false) };
        let mut whole = depth <= MAX_DEPTH;
        for child in node.children.iter().filter(|_| depth <= MAX_DEPTH) {
            let Some(below) = BlobId::from_slice(&child.id) else { continue };
            whole &= self.totals(&below, depth + 1)?;
        }
        if whole {
            self.whole.insert(*id);
        }
        Ok(whole)
    }
}
