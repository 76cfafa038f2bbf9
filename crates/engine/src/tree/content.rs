//! A file's content as one stream of bytes, wherever it lies: in the entry, in a bundle, in
//! chunks or a list of them; the holes of sparse files as zeros.

use crate::crypto::BlobKind;
use crate::meta::Extent;
use crate::repo::BlobReader;
use crate::{Error, Result};

use super::chunks;
use super::entry::{Content, Entry};

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
    let mut stream = Stream::new(entry, each);
    match &entry.content {
        Content::None => {}
        Content::Inline(bytes) => stream.data(bytes)?,
        Content::Member { bundle, number, .. } => {
            stream.data(reader.bundle(bundle, *number)?.member(*number)?)?;
        }
        content @ (Content::Chunks(_) | Content::List(_)) => {
            chunks::for_each(reader, content, &mut |chunk| {
                let bytes = reader.read(BlobKind::Chunk, &chunk.id)?;
                if bytes.len() as u64 != u64::from(chunk.length) {
                    let what =
                        format!("chunk {} is not as long as its entry says", chunk.id.short());
                    return Err(stream.damaged(&what));
                }
                stream.data(&bytes)
            })?;
        }
    }
    stream.finish()
}

struct Stream<'a> {
    entry: &'a Entry,
    each: &'a mut dyn FnMut(&[u8]) -> Result<()>,
    /// Data extents still to come, the next one being filled. Empty for a dense file.
    extents: std::slice::Iter<'a, Extent>,
    current: Extent,
    given: u64,
}

impl<'a> Stream<'a> {
    fn new(entry: &'a Entry, each: &'a mut dyn FnMut(&[u8]) -> Result<()>) -> Self {
        let extents = entry.extents.iter();
        let whole = Extent { offset: 0, length: u64::MAX };
        let current = if entry.extents.is_empty() { whole } else { Extent::default() };
        Self { entry, each, extents, current, given: 0 }
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(format!("content of {}", self.entry.name.escape_ascii()), what)
    }

    /// Places the next bytes of data.
    fn data(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.current.length == 0 {
                self.current = *self
                    .extents
                    .next()
                    .ok_or_else(|| self.damaged("there is more of it than its extents hold"))?;
                self.zeros_to(self.current.offset)?;
                continue;
            }
            let fits = usize::try_from(self.current.length).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(fits);
            (self.each)(now)?;
            self.given += now.len() as u64;
            self.current.length -= now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn zeros_to(&mut self, offset: u64) -> Result<()> {
        while self.given < offset {
            let length = usize::try_from(offset - self.given).unwrap_or(usize::MAX);
            let zeros = ZEROS.get(..length).unwrap_or(&ZEROS);
            (self.each)(zeros)?;
            self.given += zeros.len() as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        let is_sparse = !self.entry.extents.is_empty();
        let missing = is_sparse && (self.current.length > 0 || self.extents.any(|e| e.length > 0));
        if is_sparse && !missing {
            self.zeros_to(self.entry.metadata.size)?;
        }
        if self.entry.error.is_empty() && (missing || self.given != self.entry.metadata.size) {
            return Err(self.damaged("it is not as long as its entry says"));
        }
        Ok(self.given)
    }
}
