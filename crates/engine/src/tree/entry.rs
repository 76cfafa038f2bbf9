//! Entries as the engine works with them, and their translation to and from stored records.

use std::sync::Arc;

use crate::format::pack::MAX_BLOB;
use crate::format::tree as stored;
use crate::hash::{BlobId, MemberHash};
use crate::meta::{Extent, Kind, Metadata, Owner, Time, Xattr};

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The blob.
    pub id: BlobId,
    /// Its length in bytes.
    pub length: u32,
}

/// Where the content of a regular file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// There is none: not a regular file, an empty one, or one that could not be read.
    #[default]
    None,
    /// In the entry itself.
    Inline(Vec<u8>),
    /// A member of a bundle.
    Member {
        /// The bundle.
        bundle: BlobId,
        /// Number in it.
        number: u32,
        /// Keyed hash of the content.
        hash: MemberHash,
    },
    /// Chunks, in order.
    Chunks(Vec<ChunkRef>),
    /// Root of a chunk list, for files of very many chunks.
    List(BlobId),
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Name; empty for the root itself.
    pub name: Vec<u8>,
    /// What `lstat` said.
    pub metadata: Metadata,
    /// Where the content is.
    pub content: Content,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Path relative to the root of the first entry with the same inode; empty if this is it.
    pub hard_link: Vec<u8>,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Extended attributes out of line, instead.
    pub xattrs_blob: Option<BlobId>,
    /// Data extents of a sparse file, in order; empty if it has no holes. Content is what lies
    /// in them, one after the other.
    pub extents: Vec<Extent>,
    /// Why the content could not be read, or that it changed while it was read.
    pub error: String,
}

/// Tables of a node that its entries refer to, while it is being filled.
#[derive(Debug, Default, Clone)]
pub(super) struct Tables {
    pub(super) owners: Vec<Arc<Owner>>,
    pub(super) bundles: Vec<BlobId>,
    last_inode: u64,
}

impl Tables {
    fn owner(&mut self, owner: &Arc<Owner>) -> u32 {
        let found = self.owners.iter().rposition(|o| Arc::ptr_eq(o, owner) || o == owner);
        found.unwrap_or_else(|| {
            self.owners.push(owner.clone());
            self.owners.len() - 1
        }) as u32
    }

    fn bundle(&mut self, id: &BlobId) -> u32 {
        let found = self.bundles.iter().rposition(|b| b == id);
        found.unwrap_or_else(|| {
            self.bundles.push(*id);
            self.bundles.len() - 1
        }) as u32
    }

    /// The record of an entry in the node that these tables belong to.
    pub(super) fn encode(&mut self, entry: Entry) -> stored::Entry {
        let Entry { name, metadata, content, target, hard_link, xattrs, .. } = entry;
        let mtime = metadata.mtime;
        let mut record = stored::Entry {
            name,
            kind_mode: (metadata.kind as u32) << 12 | metadata.mode & 0o7777,
            owner: self.owner(&metadata.owner),
            size: metadata.size,
            mtime: mtime.seconds,
            mtime_nanos: mtime.nanos,
            ctime_delta: metadata.ctime.map(|c| c.total_nanos().wrapping_sub(mtime.total_nanos())),
            inode_delta: metadata.inode.wrapping_sub(self.last_inode) as i64,
            links: if metadata.links > 1 { metadata.links } else { 0 },
            hard_link,
            target,
            xattrs: encode_xattrs(xattrs),
            xattrs_blob: entry.xattrs_blob.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            extents: encode_extents(&entry.extents),
            error: entry.error,
            ..stored::Entry::default()
        };
        self.last_inode = metadata.inode;
        if let Some((major, minor)) = metadata.device {
            record.device_major = major.saturating_add(1);
            record.device_minor = minor.saturating_add(1);
        }
        match content {
            Content::None => {}
            Content::Inline(bytes) => record.inline = bytes,
            Content::Member { bundle, number, hash } => {
                record.bundle = self.bundle(&bundle) + 1;
                record.member = number;
                record.member_hash = hash.as_bytes().to_vec();
            }
            Content::Chunks(chunks) => {
                record.chunks.reserve(32 * chunks.len());
                for chunk in &chunks {
                    record.chunks.extend_from_slice(chunk.id.as_bytes());
                    record.chunk_lengths.push(chunk.length);
                }
            }
            Content::List(id) => record.chunk_list = id.as_bytes().to_vec(),
        }
        record
    }
}

pub(crate) fn encode_xattrs(xattrs: Vec<Xattr>) -> Vec<stored::XattrRecord> {
    let record = |x: Xattr| stored::XattrRecord { name: x.name, value: x.value };
    xattrs.into_iter().map(record).collect()
}

pub(crate) fn decode_xattrs(records: Vec<stored::XattrRecord>) -> Vec<Xattr> {
    records.into_iter().map(|x| Xattr { name: x.name, value: x.value }).collect()
}

/// An owner as stored.
pub(crate) fn encode_owner(owner: &Owner) -> stored::OwnerRecord {
    let Owner { uid, gid, user, group } = owner.clone();
    stored::OwnerRecord { uid, gid, user, group }
}

/// An owner as read.
pub(crate) fn decode_owner(record: stored::OwnerRecord) -> Arc<Owner> {
    let stored::OwnerRecord { uid, gid, user, group } = record;
    Arc::new(Owner { uid, gid, user, group })
}

/// The record of an entry that stands alone, with its owner.
pub fn encode_alone(entry: Entry) -> (stored::Entry, stored::OwnerRecord) {
    let owner = encode_owner(&entry.metadata.owner);
    (Tables::default().encode(entry), owner)
}

/// The entry of [`encode_alone`].
pub fn decode_alone(record: stored::Entry, owner: stored::OwnerRecord) -> Result<Entry, String> {
    decode(record, &[decode_owner(owner)], &[], &mut 0)
}

fn encode_extents(extents: &[Extent]) -> Vec<u64> {
    let mut end = 0_u64;
    let mut numbers = Vec::with_capacity(2 * extents.len());
    for extent in extents {
        numbers.push(extent.offset.wrapping_sub(end));
        numbers.push(extent.length);
        end = extent.offset.wrapping_add(extent.length);
    }
    numbers
}

fn decode_extents(numbers: &[u64], size: u64) -> Option<Vec<Extent>> {
    let mut end = 0_u64;
    let mut extents = Vec::with_capacity(numbers.len() / 2);
    for pair in numbers.chunks(2) {
        let [gap, length] = *pair else { return None };
        let offset = end.checked_add(gap)?;
        end = offset.checked_add(length)?;
        if end > size {
            return None;
        }
        extents.push(Extent { offset, length });
    }
    Some(extents)
}

/// The entry of a record. `last_inode` runs along the node's entries.
pub(super) fn decode(
    record: stored::Entry,
    owners: &[Arc<Owner>],
    bundles: &[BlobId],
    last_inode: &mut u64,
) -> Result<Entry, String> {
    let content = decode_content(&record, bundles)?;
    let name_is_valid = !record.name.iter().any(|c| matches!(c, b'/' | 0))
        && !matches!(&record.name[..], b"." | b"..");
    if !name_is_valid {
        return Err("an entry's name is not a file name".into());
    }
    let kind = Kind::from_number(record.kind_mode >> 12).ok_or("an entry is of no known kind")?;
    if record.mtime_nanos >= 1_000_000_000 {
        return Err("an entry's time is no time".into());
    }
    let mtime = Time { seconds: record.mtime, nanos: record.mtime_nanos };
    let inode = last_inode.wrapping_add(record.inode_delta as u64);
    *last_inode = inode;
    let owner = owners.get(record.owner as usize).ok_or("an entry's owner is not in the table")?;
    let xattrs_blob = match record.xattrs_blob.len() {
        0 => None,
        _ => Some(BlobId::from_slice(&record.xattrs_blob).ok_or("an attribute id is too short")?),
    };
    let extents =
        decode_extents(&record.extents, record.size).ok_or("an entry's extents make no sense")?;
    Ok(Entry {
        name: record.name,
        metadata: Metadata {
            kind,
            mode: record.kind_mode & 0o7777,
            owner: owner.clone(),
            size: record.size,
            mtime,
            ctime: record
                .ctime_delta
                .map(|delta| Time::from_total_nanos(mtime.total_nanos().wrapping_add(delta))),
            inode,
            links: record.links.max(1),
            device: match (record.device_major, record.device_minor) {
                (0, _) | (_, 0) => None,
                (major, minor) => Some((major - 1, minor - 1)),
            },
        },
        content,
        target: record.target,
        hard_link: record.hard_link,
        xattrs: decode_xattrs(record.xattrs),
        xattrs_blob,
        extents,
        error: record.error,
    })
}

fn decode_content(record: &stored::Entry, bundles: &[BlobId]) -> Result<Content, String> {
    if !record.inline.is_empty() {
        return Ok(Content::Inline(record.inline.clone()));
    }
    if record.bundle > 0 {
        let bundle = bundles.get(record.bundle as usize - 1).ok_or("no such bundle in the node")?;
        let hash =
            MemberHash::from_slice(&record.member_hash).ok_or("a member hash is too short")?;
        return Ok(Content::Member { bundle: *bundle, number: record.member, hash });
    }
    if !record.chunk_list.is_empty() {
        let id = BlobId::from_slice(&record.chunk_list).ok_or("a chunk list id is too short")?;
        return Ok(Content::List(id));
    }
    if record.chunks.is_empty() {
        return Ok(Content::None);
    }
    if record.chunks.len() != 32 * record.chunk_lengths.len() {
        return Err("a chunk list does not fit its lengths".into());
    }
    let chunks = record.chunks.chunks_exact(32).zip(&record.chunk_lengths);
    let chunks = chunks.map(|(id, length)| {
        let id = BlobId::from_slice(id).unwrap_or_default();
        if *length == 0 || *length > MAX_BLOB {
            return Err("a chunk has an impossible length");
        }
        Ok(ChunkRef { id, length: *length })
    });
    Ok(Content::Chunks(chunks.collect::<Result<_, _>>()?))
}
