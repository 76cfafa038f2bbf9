//! Reading a big file of another repository from its start to its end: neighbouring chunks are
//! fetched together, and each is opened and checked as every blob is.

use crate::compress::Decompressor;
use crate::crypto::BlobKind;
use crate::meta::{Extent, Metadata};
use crate::repo::index::{PackInfo, Place};
use crate::source::{Details, SourceFile, SourceResult};
use crate::storage::ObjectName;
use crate::tree::{ChunkRef, Content, Entry, chunks};
use crate::{Error, Result};

use super::{RecordedRoot, check_length};

/// What is fetched at once, unless one chunk is longer.
const SPAN: u64 = 4 << 20;

/// A regular file, as a snapshot recorded it.
pub(super) struct RecordedFile<'a> {
    root: &'a RecordedRoot<'a>,
    path: Vec<u8>,
    metadata: Metadata,
    extents: Vec<Extent>,
    chunks: Vec<ChunkRef>,
    /// Number of the chunk in `plain`, and where it begins in the content.
    current: usize,
    start: u64,
    plain: Vec<u8>,
    fetched: Fetched,
    decompressor: Decompressor,
}

/// Sealed chunks that were fetched together.
#[derive(Default)]
struct Fetched {
    pack: Option<PackInfo>,
    /// Number of the first chunk.
    first: usize,
    places: Vec<Place>,
    bytes: Vec<u8>,
}

impl<'a> RecordedFile<'a> {
    pub(super) fn open(root: &'a RecordedRoot<'a>, entry: &Entry) -> Result<Self> {
        let mut file = Self {
            root,
            path: Vec::new(),
            metadata: entry.metadata.clone(),
            extents: entry.extents.clone(),
            chunks: Vec::new(),
            current: 0,
            start: 0,
            plain: Vec::new(),
            fetched: Fetched::default(),
            decompressor: Decompressor::default(),
        };
        let mut length = 0;
        match &entry.content {
            content @ (Content::Chunks(_) | Content::List(_)) => {
                chunks::for_each(root.reader, content, &mut |chunk| {
                    length += u64::from(chunk.length);
                    file.chunks.push(chunk);
                    Ok(())
                })?;
                file.load(0)?;
            }
            _ => {
                root.append(entry, &mut file.plain)?;
                length = file.plain.len() as u64;
            }
        }
        check_length(entry, length)?;
        Ok(file)
    }

    /// The same, with its path relative to the root, for messages.
    pub(super) fn at(mut self, path: Vec<u8>) -> Self {
        self.path = path;
        self
    }

    /// Opens the chunk of this number.
    fn load(&mut self, number: usize) -> Result<()> {
        self.current = number;
        let Some(chunk) = self.chunks.get(number).copied() else { return Ok(()) };
        let is_there = |f: &Fetched| (f.first..f.first + f.places.len()).contains(&number);
        if !is_there(&self.fetched) {
            self.fetch(number)?;
        }
        // What does not open, or could not be fetched, is read once more, from wherever it is.
        if self.open_fetched(number, &chunk).is_none() {
            self.plain = self.root.reader.read(BlobKind::Chunk, &chunk.id)?;
        }
        if self.plain.len() as u64 != u64::from(chunk.length) {
            let what = format!("chunk {} is not as long as its entry says", chunk.id.short());
            return Err(Error::damaged("entry", what));
        }
        Ok(())
    }

    fn open_fetched(&mut self, number: usize, chunk: &ChunkRef) -> Option<()> {
        let Self { fetched, plain, decompressor, root, .. } = self;
        let base = fetched.places.first()?.offset;
        let place = fetched.places.get(number.checked_sub(fetched.first)?)?;
        let at = place.offset.checked_sub(base)? as usize;
        let sealed = fetched.bytes.get_mut(at..at.checked_add(place.sealed as usize)?)?;
        let pack = fetched.pack.as_ref()?;
        let repository = root.reader.repository();
        repository.open_blob(pack, place, &chunk.id, sealed, decompressor, plain).ok().map(drop)
    }

    /// Fetches this chunk and those that lie right behind it.
    fn fetch(&mut self, number: usize) -> Result<()> {
        let index = self.root.reader.index();
        let mut bytes = std::mem::take(&mut self.fetched.bytes);
        bytes.clear();
        self.fetched = Fetched { first: number, bytes, ..Fetched::default() };
        let (mut start, mut end) = (0, 0);
        for chunk in self.chunks.get(number..).unwrap_or_default() {
            let Some(place) = index.find_any(&chunk.id)?.filter(|p| p.kind == BlobKind::Chunk)
            else {
                break;
            };
            let (from, length) = (u64::from(place.offset), u64::from(place.sealed));
            match self.fetched.places.first() {
                None => (start, end) = (from, from),
                Some(first) if first.pack != place.pack || from != end => break,
                Some(_) if end + length - start > SPAN => break,
                Some(_) => {}
            }
            end += length;
            self.fetched.places.push(place);
        }
        let Some(first) = self.fetched.places.first() else { return Ok(()) };
        let Some(pack) = index.pack(first.pack)? else { return Ok(()) };
        let name = ObjectName::pack(pack.id);
        let storage = self.root.reader.repository().storage();
        let length = usize::try_from(end - start).unwrap_or(usize::MAX);
        // If this fails, reading the chunk alone says why.
        if storage.get_range(&name, start, length, &mut self.fetched.bytes).is_ok() {
            self.fetched.pack = Some(pack);
        }
        Ok(())
    }

    /// Where an offset of the file lies in its content.
    fn position(&self, offset: u64) -> u64 {
        if self.extents.is_empty() {
            return offset;
        }
        let before = self.extents.iter().take_while(|extent| extent.offset <= offset);
        before.map(|extent| extent.length.min(offset - extent.offset)).sum()
    }

    fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut position = self.position(offset);
        if position < self.start {
            self.start = 0;
            self.load(0)?;
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = usize::try_from(position - self.start).unwrap_or(usize::MAX);
            let there = self.plain.get(at..).unwrap_or_default();
            if there.is_empty() {
                if self.current + 1 >= self.chunks.len() {
                    break;
                }
                self.start += self.plain.len() as u64;
                self.load(self.current + 1)?;
                continue;
            }
            let length = there.len().min(rest.len());
            let (into, from) = (rest.get_mut(..length), there.get(..length));
            into.unwrap_or_default().copy_from_slice(from.unwrap_or_default());
            filled += length;
            position += length as u64;
        }
        Ok(filled)
    }
}

impl SourceFile for RecordedFile<'_> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        self.read(offset, buffer).map_err(|error| self.root.lost("read", &self.path, error))
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        let mut extents = self.extents.clone();
        // The empty one marks a file that is a hole only.
        extents.retain(|extent| extent.length > 0);
        Ok((!self.extents.is_empty()).then_some(extents))
    }

    fn details(&mut self) -> SourceResult<Details> {
        Ok(Details::default())
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        Ok(self.metadata.clone())
    }
}
