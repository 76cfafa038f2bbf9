//! Reading files: threads that take batches of small files and single big ones from a queue.
//! Small files come back as bytes, for the bundles; big ones are cut and stored right here.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use crate::chunker::{Chunker, ScanState};
use crate::compress::FRAME_OVERHEAD;
use crate::crypto::{BlobKind, Keys};
use crate::hash::MemberHash;
use crate::meta::{Extent, Metadata};
use crate::monitor::Interrupt;
use crate::repo::writer::BlobWriter;
use crate::source::{
    Details, SmallFile, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult,
};
use crate::tree::{ChunkRef, Content, chunks};
use crate::{Error, Result};

/// How much of a big file is asked for at once.
const READ: usize = 512 << 10;

/// A sparse file of more extents is read as if it had no holes.
const EXTENTS: usize = 20_000;

/// Something to read: the file, and its number among the entries on their way.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) directory: Arc<SourceDirectory>,
    pub(super) entry: SourceEntry,
}

#[derive(Debug)]
pub(super) enum Job {
    /// Small files, and the number of the batch.
    Small(u64, Vec<Item>),
    /// A big file, or (true) a stream of unknown size.
    Big(Item, bool),
}

/// What was found in a file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) body: Body,
    pub(super) details: Details,
    pub(super) metadata: Metadata,
    pub(super) extents: Vec<Extent>,
    /// It changed while it was read, twice.
    pub(super) changed: bool,
}

#[derive(Debug)]
pub(super) enum Body {
    /// Where the content lies in the batch's buffer, and its hash.
    Bytes(Range<usize>, MemberHash),
    /// Stored already.
    Stored(Content),
}

/// Why there is no content.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file is gone, or the run is being interrupted: as if it had not been listed.
    Gone,
    /// It cannot be read.
    Unreadable(SourceError),
    /// The repository cannot be written, or the source is out of reach: the run is over.
    Fatal(Error),
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        match error.kind {
            SourceErrorKind::NotFound => Self::Gone,
            SourceErrorKind::Unreachable => Self::Fatal(error.into()),
            _ => Self::Unreadable(error),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

pub(super) type Outcome = std::result::Result<File, Failure>;

#[derive(Debug)]
pub(super) enum Done {
    Small { batch: u64, items: Vec<(u64, Outcome)>, bytes: Vec<u8> },
    Big(u64, Outcome),
}

/// What the reading threads share.
pub(super) struct Context<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) keys: &'a Keys,
    pub(super) chunker: &'a Chunker,
    pub(super) writer: &'a BlobWriter<'a>,
    pub(super) interrupt: &'a Interrupt,
    /// Files smaller than this come back as bytes.
    pub(super) small_below: u64,
    pub(super) chunk_max: usize,
    /// Bytes read so far.
    pub(super) read: &'a AtomicU64,
}

impl Context<'_> {
    /// Works until the queue ends.
    pub(super) fn work(&self, jobs: &Receiver<Job>, done: &Sender<Done>) {
        let mut buffer = Vec::new();
        for job in jobs {
            let result = match job {
                Job::Small(batch, items) => {
                    let mut bytes = self.writer.buffer();
                    let items = self.small(&items, &mut bytes, &mut buffer);
                    Done::Small { batch, items, bytes }
                }
                Job::Big(item, stream) => {
                    Done::Big(item.number, self.big(&item, stream, &mut buffer))
                }
            };
            if done.send(result).is_err() {
                break;
            }
        }
    }

    /// Reads a batch of small files; each with its number.
    fn small(
        &self,
        items: &[Item],
        bytes: &mut Vec<u8>,
        buffer: &mut Vec<u8>,
    ) -> Vec<(u64, Outcome)> {
        let files: Vec<_> = items.iter().map(|item| (&*item.directory, &item.entry)).collect();
        let read = self.source.read_many(&files, self.small_below as usize, bytes);
        let files = items.iter().zip(read);
        files.map(|(item, read)| (item.number, self.small_one(item, read, bytes, buffer))).collect()
    }

    fn small_one(
        &self,
        item: &Item,
        read: SourceResult<SmallFile>,
        bytes: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Outcome {
        let read = match read {
            // It has grown out of being small.
            Err(e) if e.kind == SourceErrorKind::Changed => None,
            other => Some(other?),
        };
        let steady = |file: &SmallFile| {
            let metadata = &file.read.metadata;
            same_version(&item.entry.metadata, metadata) && metadata.size == file.range.len() as u64
        };
        let Some(SmallFile { range, read }) = read.filter(steady) else {
            // Once more, with a look before and after.
            return self.big(item, false, buffer);
        };
        self.read.fetch_add(range.len() as u64, Ordering::Relaxed);
        let hash = self.keys.member_hash(bytes.get(range.clone()).unwrap_or_default());
        Ok(File {
            body: Body::Bytes(range, hash),
            details: read.details,
            metadata: read.metadata,
            extents: Vec::new(),
            changed: false,
        })
    }

    fn big(&self, item: &Item, stream: bool, buffer: &mut Vec<u8>) -> Outcome {
        for attempt in 0..2 {
            let mut file = self.source.open(&item.directory, &item.entry)?;
            let before = file.metadata()?;
            let extents = if item.entry.sparse { file.extents()? } else { None };
            // They stand in the entry, which must stay small.
            let extents = extents.filter(|extents| extents.len() <= EXTENTS);
            let (chunks, length) = match self.cut(&mut *file, extents.as_deref(), buffer) {
                // A source that knows versions reads one of them, or nothing.
                Err(Failure::Unreadable(error))
                    if error.kind == SourceErrorKind::Changed && attempt == 0 =>
                {
                    continue;
                }
                cut => cut?,
            };
            let mut metadata = file.metadata()?;
            // The file may have shrunk since its extents were asked for.
            let data_end = match extents.as_ref().map(|extents| extents.last()) {
                Some(Some(last)) => metadata.size.max(last.offset + last.length),
                Some(None) => metadata.size,
                None => length,
            };
            let steady = stream || same_version(&before, &metadata) && metadata.size == data_end;
            if !steady && attempt == 0 {
                continue;
            }
            metadata.size = data_end;
            let put = |kind, plain| self.writer.put_structure(kind, plain);
            return Ok(File {
                body: Body::Stored(chunks::store(&put, chunks)?),
                details: file.details()?,
                metadata,
                // A file that is one hole has one empty extent, to differ from a dense one.
                extents: extents
                    .map(|e| if e.is_empty() { vec![Extent::default()] } else { e })
                    .unwrap_or_default(),
                changed: !steady,
            });
        }
        Err(Failure::Gone)
    }

    /// Reads, cuts and stores a file; its chunks and how many bytes they are.
    fn cut(
        &self,
        file: &mut dyn SourceFile,
        extents: Option<&[Extent]>,
        buffer: &mut Vec<u8>,
    ) -> std::result::Result<(Vec<ChunkRef>, u64), Failure> {
        let whole = [Extent { offset: 0, length: u64::MAX }];
        let mut extents = extents.unwrap_or(&whole).iter();
        let mut extent = extents.next().copied();
        let mut chunks = Vec::new();
        let mut total = 0_u64;
        // The current chunk starts at `start`; bytes up to `end` are there.
        let (mut start, mut end) = (0, 0);
        let mut state = ScanState::default();
        if buffer.is_empty() {
            // Made of zeros at once, it takes memory only as far as files fill it.
            *buffer = vec![0; self.chunk_max + 2 * READ];
        }
        loop {
            if self.interrupt.is_raised() {
                return Err(Failure::Gone);
            }
            let available = buffer.get(start..end).unwrap_or_default();
            if let Some(length) = self.chunker.scan(&mut state, available, extent.is_none()) {
                let chunk = available.get(..length).unwrap_or_default();
                chunks.push(self.store(chunk)?);
                start += length;
                state = ScanState::default();
                continue;
            }
            let Some(now) = &mut extent else { return Ok((chunks, total)) };
            if buffer.len() - end < READ {
                buffer.copy_within(start..end, 0);
                (start, end) = (0, end - start);
            }
            let wanted = READ.min(usize::try_from(now.length).unwrap_or(READ));
            let into = buffer.get_mut(end..end + wanted).unwrap_or_default();
            let read = file.read_at(now.offset, into)?;
            self.read.fetch_add(read as u64, Ordering::Relaxed);
            end += read;
            total += read as u64;
            now.offset += read as u64;
            now.length -= read as u64;
            if now.length == 0 || read < wanted {
                extent = extents.next().copied();
            }
        }
    }

    fn store(&self, chunk: &[u8]) -> Result<ChunkRef> {
        let id = self.keys.blob_id(BlobKind::Chunk, chunk);
        if !self.writer.known_or_claim(&id) {
            let mut plain = self.writer.buffer();
            plain.reserve_exact(chunk.len() + FRAME_OVERHEAD);
            plain.extend_from_slice(chunk);
            self.writer.put(BlobKind::Chunk, id, 0, plain)?;
        }
        Ok(ChunkRef { id, length: chunk.len() as u32 })
    }
}

/// Whether a file is as it was.
fn same_version(a: &Metadata, b: &Metadata) -> bool {
    a.size == b.size && a.mtime == b.mtime && a.ctime == b.ctime
}
