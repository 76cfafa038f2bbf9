//! What forgetting some snapshots would make free: the stored bytes of blobs that they refer to and
//! no other snapshot does. Memory holds one bit for each blob of the index, which is found by the
//! blob's pack and its place in it.

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{ChunkList, Node, TotalsNode};
use crate::hash::BlobId;
use crate::monitor::{Interrupt, Monitor, Phase, Progress};
use crate::repo::BlobReader;
use crate::{Error, Result};

/// What would become free. Bundles that others still need in part, and packs that stay because
/// little in them is free, make it a little more or less in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes as stored.
    pub bytes: u64,
    /// Blobs.
    pub blobs: u64,
}

/// What only the snapshots `going` refer to, and none of those `staying`. Reads the structure of
/// all their trees, each node once.
pub fn freed<'a>(
    reader: &BlobReader<'_>,
    staying: impl Iterator<Item = &'a Snapshot>,
    going: impl Iterator<Item = &'a Snapshot>,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<Freed> {
    monitor.phase(Phase::Planning);
    let marks = Marks::new(reader)?;
    let mut walk = Walk { reader, monitor, interrupt, marks, new: Freed::default(), nodes: 0 };
    walk.snapshots(staying)?;
    walk.new = Freed::default();
    walk.snapshots(going)?;
    Ok(walk.new)
}

/// A bit for each place of the index.
struct Marks {
    /// Where the bits of each pack begin.
    bases: Vec<u64>,
    bits: Vec<u64>,
}

impl Marks {
    fn new(reader: &BlobReader<'_>) -> Result<Self> {
        let (index, mut end) = (reader.index(), 0_u64);
        let mut bases = Vec::with_capacity(index.loaded_end() as usize);
        for pack in 0..index.loaded_end() {
            bases.push(end);
            end += index.lines_of(pack)? as u64;
        }
        let words = usize::try_from(end.div_ceil(64)).unwrap_or(usize::MAX);
        Ok(Self { bases, bits: vec![0; words] })
    }

    /// Sets the bit of a place. Whether it was not set.
    fn set(&mut self, pack: u32, ordinal: u32) -> bool {
        let Some(base) = self.bases.get(pack as usize) else { return false };
        let at = base + u64::from(ordinal);
        let word = usize::try_from(at / 64).ok().and_then(|word| self.bits.get_mut(word));
        word.is_some_and(|word| {
            let was = *word;
            *word |= 1 << (at % 64);
            was != *word
        })
    }
}

struct Walk<'a> {
    reader: &'a BlobReader<'a>,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    marks: Marks,
    /// What was marked since this was reset.
    new: Freed,
    nodes: u64,
}

type Todo = Vec<(BlobKind, BlobId)>;

impl Walk<'_> {
    fn snapshots<'s>(&mut self, snapshots: impl Iterator<Item = &'s Snapshot>) -> Result<()> {
        for root in snapshots.flat_map(|snapshot| &snapshot.roots) {
            let mut todo = Todo::new();
            self.mark(BlobKind::Node, &root.tree, &mut todo)?;
            if !root.totals.is_empty() {
                self.mark(BlobKind::Totals, &root.totals, &mut todo)?;
            }
            while let Some((kind, id)) = todo.pop() {
                self.look_into(kind, &id, &mut todo)?;
            }
        }
        Ok(())
    }

    /// Marks a blob; what lies below it is still to do if it is new.
    fn mark(&mut self, kind: BlobKind, id: &[u8], todo: &mut Todo) -> Result<()> {
        let id = BlobId::from_slice(id)
            .ok_or_else(|| Error::damaged("a tree", "it refers to what is no blob"))?;
        // Damaged or lost ones are found out by whoever has to read them.
        let Some(place) = self.reader.index().find_any(&id)? else {
            return Err(Error::MissingBlob { id: id.to_string() });
        };
        if !self.marks.set(place.pack, place.ordinal) {
            return Ok(());
        }
        self.new.blobs += 1;
        self.new.bytes += u64::from(place.sealed);
        if matches!(kind, BlobKind::Node | BlobKind::Totals | BlobKind::ChunkList) {
            todo.push((kind, id));
        }
        Ok(())
    }

    fn look_into(&mut self, kind: BlobKind, id: &BlobId, todo: &mut Todo) -> Result<()> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        self.nodes += 1;
        if self.nodes.is_multiple_of(256) {
            let progress = Progress { files: self.nodes, ..Progress::default() };
            self.monitor.progress(&progress, b"");
        }
        let bytes = self.reader.read(kind, id)?;
        let damaged = |e| Error::damaged(format!("{} {}", kind.name(), id.short()), e);
        match kind {
            BlobKind::Totals => {
                let node = TotalsNode::decode(&bytes[..]).map_err(damaged)?;
                // The first child comes last, to be taken first: what lies together is read so.
                for child in node.children.iter().rev() {
                    self.mark(kind, &child.id, todo)?;
                }
            }
            BlobKind::ChunkList => {
                let list = ChunkList::decode(&bytes[..]).map_err(damaged)?;
                let below = if list.level > 0 { kind } else { BlobKind::Chunk };
                for id in list.ids.chunks(32).rev() {
                    self.mark(below, id, todo)?;
                }
            }
            _ => {
                let node = Node::decode(&bytes[..]).map_err(damaged)?;
                self.node(&node, todo)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, todo: &mut Todo) -> Result<()> {
        for child in node.children.iter().rev() {
            self.mark(BlobKind::Node, &child.id, todo)?;
        }
        for bundle in node.bundles.chunks(32) {
            self.mark(BlobKind::Bundle, bundle, todo)?;
        }
        for entry in &node.entries {
            for chunk in entry.chunks.chunks(32) {
                self.mark(BlobKind::Chunk, chunk, todo)?;
            }
            if !entry.chunk_list.is_empty() {
                self.mark(BlobKind::ChunkList, &entry.chunk_list, todo)?;
            }
            if !entry.xattrs_blob.is_empty() {
                self.mark(BlobKind::Attributes, &entry.xattrs_blob, todo)?;
            }
        }
        Ok(())
    }
}
