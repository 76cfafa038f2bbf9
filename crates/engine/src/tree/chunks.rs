//! Chunk lists: short ones stand in the entry, long ones in a tree of blobs of their own, so
//! that a node stays small however big a file is.

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::ChunkList;
use crate::hash::BlobId;
use crate::repo::BlobReader;
use crate::{Error, Result};

use super::build::PutNode;
use super::entry::{ChunkRef, Content};

/// Chunks that stand in the entry itself: 32 MiB of file with the default chunker.
const INLINE_CHUNKS: usize = 64;

/// Children of a list node: at least, zero bits of the id that end it then, and at most.
const NODE: (usize, u8, usize) = (256, 10, 4096);

/// Turns the chunks of a file into content, storing a list if they are many.
pub fn store(put: PutNode<'_>, chunks: Vec<ChunkRef>) -> Result<Content> {
    if chunks.is_empty() {
        return Ok(Content::None);
    }
    if chunks.len() <= INLINE_CHUNKS {
        return Ok(Content::Chunks(chunks));
    }
    let mut row: Vec<(BlobId, u64)> =
        chunks.into_iter().map(|c| (c.id, u64::from(c.length))).collect();
    let mut level = 0;
    loop {
        let mut above = Vec::new();
        let mut start = 0;
        for (i, (id, _)) in row.iter().enumerate() {
            // The ids are keyed hashes, so their bits decide as well as a further hash would.
            let bits = u16::from_le_bytes([id.as_bytes()[0], id.as_bytes()[1]]);
            let count = i + 1 - start;
            let ends = count >= NODE.2
                || count >= NODE.0 && bits.trailing_zeros() >= u32::from(NODE.1)
                || i + 1 == row.len();
            if !ends {
                continue;
            }
            let children = row.get(start..=i).unwrap_or_default();
            let list = ChunkList {
                level,
                ids: children.iter().flat_map(|c| *c.0.as_bytes()).collect(),
                lengths: children.iter().map(|c| c.1).collect(),
            };
            let id = put(BlobKind::ChunkList, list.encode_to_vec())?;
            above.push((id, children.iter().map(|c| c.1).sum()));
            start = i + 1;
        }
        if let [(root, _)] = above[..] {
            return Ok(Content::List(root));
        }
        row = above;
        level += 1;
    }
}

/// A part of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A node of its chunk list.
    Node(BlobId),
    /// A chunk.
    Chunk(ChunkRef),
}

/// Calls `each` for the chunks of a file in order.
pub fn for_each(
    reader: &BlobReader<'_>,
    content: &Content,
    each: &mut dyn FnMut(ChunkRef) -> Result<()>,
) -> Result<()> {
    visit(reader, content, &mut |part| match part {
        Part::Chunk(chunk) => each(chunk),
        Part::Node(_) => Ok(()),
    })
}

/// Calls `each` for the chunks of a file in order, and for every node of its list before what
/// lies below it.
pub fn visit(
    reader: &BlobReader<'_>,
    content: &Content,
    each: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    match content {
        Content::Chunks(chunks) => chunks.iter().try_for_each(|chunk| each(Part::Chunk(*chunk))),
        Content::List(root) => walk(reader, root, None, each),
        _ => Ok(()),
    }
}

fn walk(
    reader: &BlobReader<'_>,
    id: &BlobId,
    expected: Option<u32>,
    each: &mut dyn FnMut(Part) -> Result<()>,
) -> Result<()> {
    each(Part::Node(*id))?;
    let list = read_list(reader, id, expected)?;
    for (child, length) in list.children {
        if list.level > 0 {
            walk(reader, &child, Some(list.level - 1), each)?;
        } else {
            each(Part::Chunk(chunk(id, child, length)?))?;
        }
    }
    Ok(())
}

/// A node of a chunk list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Height above the chunks; 0: the children are chunks.
    pub level: u32,
    /// Nodes of the level below, or chunks, in order, each with the bytes it stands for.
    pub children: Vec<(BlobId, u64)>,
}

fn damaged(id: &BlobId, what: &str) -> Error {
    Error::damaged(format!("chunk list {}", id.short()), what)
}

/// The chunk that is a child of the list `id`.
pub fn chunk(id: &BlobId, child: BlobId, length: u64) -> Result<ChunkRef> {
    let length = u32::try_from(length).map_err(|_| damaged(id, "a length is impossible"))?;
    Ok(ChunkRef { id: child, length })
}

/// Reads one node of a chunk list, of the expected level if that is known.
pub fn read_list(reader: &BlobReader<'_>, id: &BlobId, expected: Option<u32>) -> Result<List> {
    let bytes = reader.read(BlobKind::ChunkList, id)?;
    let list = ChunkList::decode(&bytes[..]).map_err(|e| damaged(id, &e.to_string()))?;
    if expected.is_some_and(|level| level != list.level) || list.level > 16 {
        return Err(damaged(id, "its level is wrong"));
    }
    if list.ids.len() != 32 * list.lengths.len() {
        return Err(damaged(id, "its columns differ in length"));
    }
    let ids = list.ids.chunks_exact(32).map(|id| BlobId::from_slice(id).unwrap_or_default());
    Ok(List { level: list.level, children: ids.zip(list.lengths).collect() })
}
