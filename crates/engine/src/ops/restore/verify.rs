//! Comparing a file that is there with the snapshot's content, without reading the repository's
//! data: the hashes in the tree are enough.

use std::io::Read;

use crate::crypto::BlobKind;
use crate::destination::DestinationError;
use crate::meta::{Extent, Kind};
use crate::tree::entry::ChunkRef;
use crate::tree::{Content, Entry, chunks};
use crate::{Error, Result};

use super::state::Run;

/// Whether the file at `path` has the content of `entry`.
pub(super) fn has_content(run: &Run<'_>, entry: &Entry, path: &[u8]) -> Result<bool> {
    if entry.metadata.kind != Kind::File {
        return Ok(true);
    }
    let keys = run.reader.repository().keys();
    let mut file = Extents {
        input: run.destination.open_file(path)?,
        position: 0,
        size: entry.metadata.size,
        extents: &entry.extents,
        sparse: !entry.extents.is_empty() || entry.content == Content::None,
        within: 0,
        path,
    };
    let mut buffer = Vec::new();
    let same = match &entry.content {
        Content::None => true,
        Content::Inline(bytes) => file.read(bytes.len(), &mut buffer)? && buffer == *bytes,
        Content::Member { hash, .. } => {
            let length = match file.sparse {
                true => entry.extents.iter().map(|extent| extent.length).sum(),
                false => entry.metadata.size,
            };
            // Members are small by definition; a size that says else is not believed.
            let length = usize::try_from(length).unwrap_or(usize::MAX).min(64 << 20);
            file.read(length, &mut buffer)? && keys.member_hash(&buffer) == *hash
        }
        content => {
            let mut same = true;
            chunks::for_each(run.reader, content, &mut |ChunkRef { id, length }| {
                if run.is_stopping() {
                    return Err(Error::Interrupted);
                }
                same = same
                    && file.read(length as usize, &mut buffer)?
                    && keys.blob_id(BlobKind::Chunk, &buffer) == id;
                Ok(())
            })?;
            same
        }
    };
    Ok(same && file.at_end()?)
}

/// Reads what lies in a file's extents, and checks that there are zeros between them.
struct Extents<'a> {
    input: Box<dyn Read + Send>,
    position: u64,
    size: u64,
    extents: &'a [Extent],
    sparse: bool,
    /// Bytes taken from the first of `extents`.
    within: u64,
    path: &'a [u8],
}

impl Extents<'_> {
    fn error(&self, error: std::io::Error) -> Error {
        DestinationError::from_io("read", String::from_utf8_lossy(self.path), error).into()
    }

    /// Replaces `buffer` by the next `length` bytes of content. False if they are not there.
    fn read(&mut self, length: usize, buffer: &mut Vec<u8>) -> Result<bool> {
        buffer.clear();
        while buffer.len() < length {
            let mut part = (length - buffer.len()) as u64;
            if self.sparse {
                let Some(extent) = self.extents.first().copied() else { return Ok(false) };
                if self.within == extent.length {
                    self.extents = self.extents.get(1..).unwrap_or_default();
                    self.within = 0;
                    continue;
                }
                if !self.skip_zeros(extent.offset)? {
                    return Ok(false);
                }
                part = part.min(extent.length - self.within);
            }
            let before = buffer.len();
            let read = (&mut self.input).take(part).read_to_end(buffer);
            read.map_err(|e| self.error(e))?;
            let read = (buffer.len() - before) as u64;
            self.position += read;
            self.within += read;
            if read < part {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads on to `position`. False if something else than zeros comes.
    fn skip_zeros(&mut self, position: u64) -> Result<bool> {
        let mut zeros = [0; 8 << 10];
        while self.position < position {
            let most = usize::try_from(position - self.position).unwrap_or(usize::MAX);
            let most = most.min(zeros.len());
            let Some(room) = zeros.get_mut(..most) else { return Ok(false) };
            let read = self.input.read(room).map_err(|e| self.error(e))?;
            if read == 0 || room.iter().take(read).any(|byte| *byte != 0) {
                return Ok(false);
            }
            self.position += read as u64;
        }
        Ok(true)
    }

    /// Whether the file ends where it should.
    fn at_end(&mut self) -> Result<bool> {
        if self.sparse && !self.skip_zeros(self.size)? {
            return Ok(false);
        }
        let mut one = [0];
        Ok(self.input.read(&mut one).map_err(|e| self.error(e))? == 0)
    }
}
