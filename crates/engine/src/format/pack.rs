//! Packs: many sealed blobs in one object, with a sealed directory at the end that repeats what
//! the index says (docs/format.md, "Packs").
//!
//! `header | sealed blobs | sealed directory | zeros | trailer`

use prost::Message;

use crate::crypto::{BlobKind, Keys, ObjectCipher, ObjectKind, TAG_LEN};
use crate::hash::{BlobId, RepositoryId};
use crate::{Error, Result};

use super::envelope::{DIRECTORY_ORDINAL, HEADER_LEN, Header};
use super::padme;

/// Length of the trailer.
pub const TRAILER_LEN: usize = 16;

const TRAILER_MAGIC: [u8; 8] = *b"HFPACK\x00\x01";

/// Longest plain blob that is read: bounds what a damaged or hostile length can make us allocate.
pub const MAX_BLOB: u32 = 160 << 20;

/// What a pack holds, in the order it holds it. Columns of equal length.
#[derive(Clone, PartialEq, Message)]
pub struct Directory {
    /// 32 bytes a blob.
    #[prost(bytes = "vec", tag = "1")]
    pub ids: Vec<u8>,
    /// [`BlobKind`] numbers.
    #[prost(uint32, repeated, tag = "2")]
    pub kinds: Vec<u32>,
    /// Lengths as stored, tags included.
    #[prost(uint32, repeated, tag = "3")]
    pub sealed: Vec<u32>,
    /// Lengths of the plain bytes.
    #[prost(uint32, repeated, tag = "4")]
    pub plain: Vec<u32>,
    /// Members of bundles, 0 for other kinds.
    #[prost(uint32, repeated, tag = "5")]
    pub members: Vec<u32>,
    /// Ordinals of bundles from which gc dropped dead members, rising.
    #[prost(uint32, repeated, tag = "6")]
    pub hollow: Vec<u32>,
}

/// One line of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The blob.
    pub id: BlobId,
    /// Its kind.
    pub kind: BlobKind,
    /// Place in the pack: its ordinal, which is its nonce.
    pub ordinal: u32,
    /// Where it starts.
    pub offset: u32,
    /// Length as stored.
    pub sealed: u32,
    /// Length of the plain bytes.
    pub plain: u32,
    /// Members, for a bundle.
    pub members: u32,
    /// A bundle that lacks some of its members.
    pub hollow: bool,
}

impl Directory {
    /// Adds a blob at the end.
    pub fn push(&mut self, id: &BlobId, kind: BlobKind, sealed: u32, plain: u32, members: u32) {
        self.ids.extend_from_slice(id.as_bytes());
        self.kinds.push(kind as u32);
        self.sealed.push(sealed);
        self.plain.push(plain);
        self.members.push(members);
    }

    /// How many blobs there are.
    pub fn len(&self) -> usize {
        self.sealed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }

    /// The lines, with offsets; an error if the columns do not fit each other or the pack.
    pub fn lines(&self, pack_size: u64) -> std::result::Result<Vec<Line>, String> {
        let count = self.len();
        let fits = self.ids.len() == 32 * count
            && [self.kinds.len(), self.plain.len(), self.members.len()] == [count; 3];
        if !fits {
            return Err("its columns differ in length".into());
        }
        let mut offset = HEADER_LEN as u32;
        let mut lines = Vec::with_capacity(count);
        let columns = self.kinds.iter().zip(&self.sealed).zip(self.plain.iter().zip(&self.members));
        for ((id, ordinal), ((kind, sealed), (plain, members))) in
            self.ids.chunks_exact(32).zip(0..).zip(columns)
        {
            let id = BlobId::from_slice(id).unwrap_or_default();
            let kind = BlobKind::from_number(*kind).ok_or(format!("unknown blob kind {kind}"))?;
            if *plain > MAX_BLOB || *sealed as usize <= TAG_LEN {
                return Err("a blob has an impossible length".into());
            }
            lines.push(Line {
                id,
                kind,
                ordinal,
                offset,
                sealed: *sealed,
                plain: *plain,
                members: *members,
                hollow: self.hollow.binary_search(&ordinal).is_ok(),
            });
            offset = offset.checked_add(*sealed).ok_or("it is longer than 4 GiB")?;
        }
        if u64::from(offset) > pack_size {
            return Err("it describes more than the pack holds".into());
        }
        Ok(lines)
    }
}

/// The end of a pack: sealed directory, padding and trailer, for a pack that is `length` bytes
/// long so far. `min_size` is what the whole pack is padded to at least; 0 means no padding at
/// all, of a repository without secrets.
pub fn finish(
    cipher: &ObjectCipher,
    directory: &Directory,
    length: u64,
    min_size: u32,
) -> Result<Vec<u8>> {
    let mut tail = directory.encode_to_vec();
    cipher.seal(DIRECTORY_ORDINAL, &[], &mut tail).map_err(|e| Error::damaged("pack", e))?;
    let too_long = |_| Error::Usage("a pack would be longer than 4 GiB".into());
    let directory_length = u32::try_from(tail.len()).map_err(too_long)?;
    let bare = length + tail.len() as u64 + TRAILER_LEN as u64;
    let size = if min_size == 0 { bare } else { padme(bare).max(u64::from(min_size)) };
    let padding = u32::try_from(size - bare).map_err(too_long)?;
    tail.resize(tail.len() + padding as usize, 0);
    tail.extend_from_slice(&directory_length.to_le_bytes());
    tail.extend_from_slice(&padding.to_le_bytes());
    tail.extend_from_slice(&TRAILER_MAGIC);
    Ok(tail)
}

/// Where the sealed directory lies, told by the last [`TRAILER_LEN`] bytes of a pack of `size`
/// bytes: offset and length.
pub fn directory_place(trailer: &[u8], size: u64) -> std::result::Result<(u64, usize), String> {
    let (length, rest) = trailer.split_first_chunk::<4>().ok_or("its trailer is too short")?;
    let (padding, magic) = rest.split_first_chunk::<4>().ok_or("its trailer is too short")?;
    if magic != TRAILER_MAGIC {
        return Err("it does not end like a pack".into());
    }
    let length = u32::from_le_bytes(*length);
    let behind = u64::from(length) + u64::from(u32::from_le_bytes(*padding)) + TRAILER_LEN as u64;
    let offset = size.checked_sub(behind).filter(|o| *o >= HEADER_LEN as u64);
    Ok((offset.ok_or("its trailer is wrong")?, length as usize))
}

/// Opens a sealed directory.
pub fn open_directory(
    keys: &Keys,
    repository: &RepositoryId,
    kind: ObjectKind,
    header: &[u8],
    mut sealed: Vec<u8>,
) -> std::result::Result<Directory, String> {
    let cipher = Header::cipher(keys, repository, kind, header)?;
    let plain =
        cipher.open(DIRECTORY_ORDINAL, &[], &mut sealed).map_err(|e| format!("directory: {e}"))?;
    Directory::decode(&*plain).map_err(|e| format!("directory: {e}"))
}
