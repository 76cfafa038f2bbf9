//! Index segments: which packs hold which blobs, and where (docs/format.md, "Index").

use prost::Message;

use super::pack::Directory;
use crate::hash::ObjectId;

/// A pack as the index knows it.
#[derive(Clone, PartialEq, Message)]
pub struct IndexedPack {
    /// SHA-256 of the pack: its name.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// Its size in bytes. An entry counts only if the listing shows this size.
    #[prost(uint64, tag = "2")]
    pub size: u64,
    /// Its 80-byte header, so that a range of it can be opened without reading its start.
    #[prost(bytes = "vec", tag = "3")]
    pub header: Vec<u8>,
    /// Its directory.
    #[prost(message, optional, tag = "4")]
    pub directory: Option<Directory>,
}

impl IndexedPack {
    /// Its name, if that is one.
    pub fn object_id(&self) -> Option<ObjectId> {
        ObjectId::from_slice(&self.id)
    }
}

/// An index segment.
#[derive(Clone, PartialEq, Message)]
pub struct Segment {
    /// Names of the segments that this one replaces.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub supersedes: Vec<Vec<u8>>,
    /// Packs.
    #[prost(message, repeated, tag = "2")]
    pub packs: Vec<IndexedPack>,
}
