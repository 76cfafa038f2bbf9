//! Tree nodes as stored: entries of a source root sorted by (parent path, name), cut into nodes
//! (docs/format.md, "Trees"). The comfortable types, and what is done with them, are in
//! `crate::tree`.

use prost::Message;

/// A node of a tree: a leaf (level 0) holds entries, an inner node holds children.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// Height above the leaves.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Leaf: directories whose entries follow, in order.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<Group>,
    /// Leaf: owners that entries refer to.
    #[prost(message, repeated, tag = "3")]
    pub owners: Vec<OwnerRecord>,
    /// Leaf: bundles that entries refer to, 32 bytes each.
    #[prost(bytes = "vec", tag = "4")]
    pub bundles: Vec<u8>,
    /// Leaf: entries.
    #[prost(message, repeated, tag = "5")]
    pub entries: Vec<Entry>,
    /// Inner node: children in order.
    #[prost(message, repeated, tag = "6")]
    pub children: Vec<Child>,
}

/// A run of entries with the same parent.
#[derive(Clone, PartialEq, Message)]
pub struct Group {
    /// Path of the parent relative to the root, names joined by `/`.
    #[prost(bytes = "vec", tag = "1")]
    pub parent: Vec<u8>,
    /// How many of the node's entries belong to it.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}

/// An owner.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct OwnerRecord {
    /// User number.
    #[prost(uint32, tag = "1")]
    pub uid: u32,
    /// Group number.
    #[prost(uint32, tag = "2")]
    pub gid: u32,
    /// User name.
    #[prost(string, tag = "3")]
    pub user: String,
    /// Group name.
    #[prost(string, tag = "4")]
    pub group: String,
}

/// An extended attribute.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct XattrRecord {
    /// Full name.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Value.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Extended attributes out of line.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AttributeList {
    /// The attributes, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub xattrs: Vec<XattrRecord>,
}

/// An entry. Absent fields are zero or empty.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// Name; empty for the root itself.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// Kind times 4096 plus the twelve permission bits.
    #[prost(uint32, tag = "2")]
    pub kind_mode: u32,
    /// Number in the node's table of owners.
    #[prost(uint32, tag = "3")]
    pub owner: u32,
    /// Size in bytes.
    #[prost(uint64, tag = "4")]
    pub size: u64,
    /// Modification time, seconds since the epoch.
    #[prost(sint64, tag = "5")]
    pub mtime: i64,
    /// Its nanoseconds.
    #[prost(fixed32, tag = "6")]
    pub mtime_nanos: u32,
    /// Inode change time minus modification time, in nanoseconds.
    #[prost(sint64, optional, tag = "7")]
    pub ctime_delta: Option<i64>,
    /// Inode number minus that of the entry before in the node.
    #[prost(sint64, tag = "8")]
    pub inode_delta: i64,
    /// Hard links, if more than one.
    #[prost(uint32, tag = "9")]
    pub links: u32,
    /// Path, relative to the root, of the first entry with the same inode.
    #[prost(bytes = "vec", tag = "10")]
    pub hard_link: Vec<u8>,
    /// Content inside the entry.
    #[prost(bytes = "vec", tag = "11")]
    pub inline: Vec<u8>,
    /// 1 + number in the node's table of bundles.
    #[prost(uint32, tag = "12")]
    pub bundle: u32,
    /// Member number in the bundle.
    #[prost(uint32, tag = "13")]
    pub member: u32,
    /// Hash of the member (16 bytes).
    #[prost(bytes = "vec", tag = "14")]
    pub member_hash: Vec<u8>,
    /// Chunks, 32 bytes each.
    #[prost(bytes = "vec", tag = "15")]
    pub chunks: Vec<u8>,
    /// Their lengths.
    #[prost(uint32, repeated, tag = "16")]
    pub chunk_lengths: Vec<u32>,
    /// Root of a long chunk list (32 bytes), instead of chunks.
    #[prost(bytes = "vec", tag = "17")]
    pub chunk_list: Vec<u8>,
    /// Target of a symbolic link.
    #[prost(bytes = "vec", tag = "18")]
    pub target: Vec<u8>,
    /// Device number: major, then minor, plus one each; 0 if it is no device.
    #[prost(uint32, tag = "19")]
    pub device_major: u32,
    /// Minor number plus one.
    #[prost(uint32, tag = "20")]
    pub device_minor: u32,
    /// Extended attributes, sorted by name.
    #[prost(message, repeated, tag = "21")]
    pub xattrs: Vec<XattrRecord>,
    /// Extended attributes out of line (32 bytes).
    #[prost(bytes = "vec", tag = "22")]
    pub xattrs_blob: Vec<u8>,
    /// Data extents of a sparse file: gap before and length of each.
    #[prost(uint64, repeated, tag = "23")]
    pub extents: Vec<u64>,
    /// Why the content could not be read, if it could not; or that it changed while it was read.
    #[prost(string, tag = "24")]
    pub error: String,
}

/// A child of an inner node.
#[derive(Clone, PartialEq, Message)]
pub struct Child {
    /// Parent path of the child's first key.
    #[prost(bytes = "vec", tag = "1")]
    pub parent: Vec<u8>,
    /// Name of the child's first key.
    #[prost(bytes = "vec", tag = "2")]
    pub name: Vec<u8>,
    /// The child (32 bytes).
    #[prost(bytes = "vec", tag = "3")]
    pub id: Vec<u8>,
    /// Entries below it.
    #[prost(uint64, tag = "4")]
    pub entries: u64,
}

/// A node of a long chunk list: chunks (level 0) or nodes below, with the bytes each covers.
#[derive(Clone, PartialEq, Message)]
pub struct ChunkList {
    /// Height above the chunks.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// 32 bytes each.
    #[prost(bytes = "vec", tag = "2")]
    pub ids: Vec<u8>,
    /// Bytes of content that each covers.
    #[prost(uint64, repeated, tag = "3")]
    pub lengths: Vec<u64>,
}

/// A node of a totals tree: sorted by (parent, name), parents in post-order (a directory comes
/// after everything below it), since a directory's totals are known only then.
#[derive(Clone, PartialEq, Message)]
pub struct TotalsNode {
    /// Height above the leaves.
    #[prost(uint32, tag = "1")]
    pub level: u32,
    /// Leaf: runs of lines with the same parent.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<Group>,
    /// Leaf: lines, one for each child directory.
    #[prost(message, repeated, tag = "3")]
    pub lines: Vec<TotalsLine>,
    /// Inner node: children in order.
    #[prost(message, repeated, tag = "4")]
    pub children: Vec<Child>,
}

/// Totals of one directory.
#[derive(Clone, PartialEq, Message)]
pub struct TotalsLine {
    /// Its name in its parent.
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    /// What lies below it.
    #[prost(message, optional, tag = "2")]
    pub sum: Option<super::snapshot::Sum>,
    /// Why it could not be listed, if it could not.
    #[prost(string, tag = "3")]
    pub error: String,
}
