//! A file's content as one stream of bytes, wherever it lies: in the entry, in a bundle, in
//! chunks or a list of them; the holes of sparse files as zeros. And attributes that are stored
//! beside their entry.

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::AttributeList;
use crate::hash::BlobId;
use crate::meta::{Extent, Xattr};
use crate::repo::BlobReader;
use crate::{Error, Result};

use super::chunks;
use super::entry::{Content, Entry, decode_xattrs};

/// Zeros for holes, handed out as often as needed.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Gives the content of a regular file to `each`, piece by piece and in order; how many bytes
/// that was. An entry whose content could not be read at the backup ([`Entry::error`]) gives what
/// there is; else content of another length than the entry says is damage.
pub fn read_content(
    reader: &BlobReader<'_>,
    entry: &Entry,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let mut placement = Placement::new(entry);
    match &entry.content {
        Content::None => {}
        Content::Inline(bytes) => placement.data(entry, bytes, each)?,
        Content::Member { bundle, number, .. } => {
            placement.data(entry, reader.bundle(bundle, *number)?.member(*number)?, each)?;
        }
        content @ (Content::Chunks(_) | Content::List(_)) => {
            chunks::for_each(reader, content, &mut |chunk| {
                let bytes = reader.read(BlobKind::Chunk, &chunk.id)?;
                if bytes.len() as u64 != u64::from(chunk.length) {
                    let what =
                        format!("chunk {} is not as long as its entry says", chunk.id.short());
                    return Err(damaged(entry, &what));
                }
                placement.data(entry, &bytes, each)
            })?;
        }
    }
    placement.finish(entry, each)
}

/// Reads extended attributes that are stored out of line.
pub fn read_xattrs(reader: &BlobReader<'_>, id: &BlobId) -> Result<Vec<Xattr>> {
    let bytes = reader.read(BlobKind::Attributes, id)?;
    let list = AttributeList::decode(&bytes[..])
        .map_err(|e| Error::damaged(format!("attributes {}", id.short()), e))?;
    Ok(decode_xattrs(list.xattrs))
}

fn damaged(entry: &Entry, what: &str) -> Error {
    Error::damaged(format!("content of {}", entry.name.escape_ascii()), what)
}

/// Where the stored bytes of a file go, which come in order: puts the holes between them.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    /// Number of the extent that comes after the current one.
    next: usize,
    current: Extent,
    given: u64,
}

impl Placement {
    /// At the start of a file.
    pub fn new(entry: &Entry) -> Self {
        let whole = Extent { offset: 0, length: u64::MAX };
        let current = if entry.extents.is_empty() { whole } else { Extent::default() };
        Self { next: 0, current, given: 0 }
    }

    /// Gives the next stored bytes to `each`, and the holes before and between them.
    pub fn data(
        &mut self,
        entry: &Entry,
        mut bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            if self.current.length == 0 {
                let extent = entry.extents.get(self.next);
                let what = "there is more of it than its extents hold";
                self.current = *extent.ok_or_else(|| damaged(entry, what))?;
                self.next += 1;
                self.zeros_to(self.current.offset, each)?;
                continue;
            }
            let fits = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(fits);
            each(now)?;
            self.given += now.len() as u64;
            self.current.length -= now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn zeros_to(&mut self, offset: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        while self.given < offset {
            let length = usize::try_from(offset - self.given).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..length).unwrap_or(&ZEROS);
            each(zeros)?;
            self.given += zeros.len() as u64;
        }
        Ok(())
    }

    /// Gives the last hole, and checks that all was there. Returns the bytes given in all.
    pub fn finish(
        mut self,
        entry: &Entry,
        each: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<u64> {
        let is_sparse = !entry.extents.is_empty();
        let mut left = entry.extents.iter().skip(self.next);
        let missing = is_sparse && (self.current.length > 0 || left.any(|e| e.length > 0));
        if is_sparse && !missing {
            self.zeros_to(entry.metadata.size, each)?;
        }
        if entry.error.is_empty() && (missing || self.given != entry.metadata.size) {
            return Err(damaged(entry, "it is not as long as its entry says"));
        }
        Ok(self.given)
    }
}
