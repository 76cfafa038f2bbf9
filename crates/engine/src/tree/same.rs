//! Whether two entries are the same, in what they hold and in what is known of them; and the
//! content of a file as a short id, for looking it up among many.

use std::fmt;

use crate::crypto::Keys;
use crate::hash::MemberHash;
use crate::meta::Kind;

use super::entry::{Content, Entry};

impl Entry {
    /// Whether permissions, owner, modification time, device numbers or extended attributes
    /// differ. Inode numbers, change times and link counts make no difference: a copy has others.
    pub fn metadata_differs(&self, other: &Self) -> bool {
        let (a, b) = (&self.metadata, &other.metadata);
        (a.mode, &a.owner, a.mtime, a.device) != (b.mode, &b.owner, b.mtime, b.device)
            || self.xattrs != other.xattrs
            || self.xattrs_blob != other.xattrs_blob
    }

    /// Whether the bytes of a file, its holes or a link's target differ. The same bytes are stored
    /// under the same ids; a small file may have moved to another bundle, and is told by its hash.
    pub fn content_differs(&self, other: &Self) -> bool {
        let same = match (&self.content, &other.content) {
            (Content::Member { hash, .. }, Content::Member { hash: other, .. }) => hash == other,
            (one, other) => one == other,
        };
        !same
            || self.metadata.size != other.metadata.size
            || self.extents != other.extents
            || self.target != other.target
    }
}

/// The content of a regular file, holes included, in 16 bytes. Files of one repository with the
/// same id hold the same bytes. Those with the same bytes have the same id, but for rare cases: one
/// was stored with its holes and the other was not, or a small one came as a stream or changed
/// while it was read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId([u8; 16]);

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentId(…)")
    }
}

impl ContentId {
    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of what an entry holds. `None`: it is no regular file, or could not be read at the
    /// backup.
    pub fn of(keys: &Keys, entry: &Entry) -> Option<Self> {
        let Entry { metadata, content, extents, error, .. } = entry;
        let unread = *content == Content::None && metadata.size > 0 && !error.is_empty();
        if metadata.kind != Kind::File || unread {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&metadata.size.to_le_bytes());
        let mut small = |hash: MemberHash| {
            hasher.update(b"s").update(hash.as_bytes());
        };
        match content {
            Content::None => {}
            Content::Inline(bytes) => small(keys.member_hash(bytes)),
            Content::Member { hash, .. } => small(*hash),
            Content::Chunks(chunks) => {
                hasher.update(b"c");
                for chunk in chunks {
                    hasher.update(chunk.id.as_bytes());
                }
            }
            Content::List(id) => drop(hasher.update(b"l").update(id.as_bytes())),
        }
        for extent in extents {
            hasher.update(b"e").update(&extent.offset.to_le_bytes());
            hasher.update(&extent.length.to_le_bytes());
        }
        hasher.finalize().as_bytes().first_chunk::<16>().copied().map(Self)
    }
}
