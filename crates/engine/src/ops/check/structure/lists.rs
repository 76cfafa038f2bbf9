//! Chunk lists of big files, and extended attributes out of line.

use prost::Message;

use crate::Result;
use crate::crypto::BlobKind;
use crate::format::tree::{AttributeList, ChunkList};
use crate::hash::BlobId;

use super::{Job, Walk};

/// A list's length where none is expected.
pub(super) const ANY: u64 = u64::MAX;

impl Walk<'_> {
    pub(super) fn list(
        &self,
        id: &BlobId,
        level: Option<u32>,
        length: u64,
        more: &mut Vec<Job>,
    ) -> Result<()> {
        let kind = BlobKind::ChunkList;
        let Some(bytes) = self.fetch(kind, id)? else { return Ok(()) };
        let list = match check(&bytes, level, length) {
            Ok(list) => list,
            Err(what) => {
                self.bad_blob(kind, id, what);
                return Ok(());
            }
        };
        for (child, length) in list.ids.chunks_exact(32).zip(list.lengths) {
            let child = BlobId::from_slice(child).unwrap_or_default();
            if list.level > 0 {
                more.push(Job::List { id: child, level: Some(list.level - 1), length });
            } else if let Some(place) = self.locate(BlobKind::Chunk, &child)?
                && u64::from(place.plain) != length
            {
                self.bad_blob(kind, id, "a chunk is not as long as the index says");
            }
        }
        Ok(())
    }

    pub(super) fn attributes(&self, id: &BlobId) -> Result<()> {
        let kind = BlobKind::Attributes;
        let Some(bytes) = self.fetch(kind, id)? else { return Ok(()) };
        if let Err(error) = AttributeList::decode(&bytes[..]) {
            self.bad_blob(kind, id, error.to_string());
        }
        Ok(())
    }
}

fn check(
    bytes: &[u8],
    level: Option<u32>,
    length: u64,
) -> std::result::Result<ChunkList, &'static str> {
    let list = ChunkList::decode(bytes).map_err(|_| "it is no chunk list")?;
    if level.is_some_and(|level| level != list.level) || list.level > 16 {
        return Err("its level is wrong");
    }
    if list.ids.len() != 32 * list.lengths.len() {
        return Err("its columns differ in length");
    }
    let sum = list.lengths.iter().try_fold(0_u64, |sum, length| sum.checked_add(*length));
    if sum.is_none() || length != ANY && sum != Some(length) {
        return Err("its chunks are not as long as what refers to it says");
    }
    Ok(list)
}
