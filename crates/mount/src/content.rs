//! What an open file holds, from any byte on, wherever it lies; and what to read ahead of whoever
//! reads it in order.

use std::sync::{Mutex, PoisonError};

use holdfast_engine::meta::Extent;
use holdfast_engine::tree::{ChunkRef, Content, Entry};
use holdfast_engine::{Error, Result};

use crate::ahead::{Ahead, Wish};
use crate::library::{Library, Piece};

/// What is read ahead of the first read, in bytes; doubled by each that goes on from there.
const FIRST_WINDOW: u64 = 1 << 20;

/// Reads of one reader arrive in a different order than they were made: so far apart, in bytes.
const DISORDER: u64 = 1 << 20;

/// An open file.
#[derive(Debug)]
pub(crate) struct OpenFile {
    /// What to call it where it cannot be read.
    pub(crate) name: String,
    entry: Entry,
    /// Where each chunk begins in what is stored.
    starts: Vec<u64>,
    /// Where what is stored of each extent begins.
    extent_starts: Vec<u64>,
    streak: Mutex<Streak>,
}

/// How somebody reads on.
#[derive(Debug, Default, Clone, Copy)]
struct Streak {
    /// Where the next read begins if it goes on.
    expected: u64,
    window: u64,
    /// Up to where was asked for.
    asked: u64,
}

/// Where each of some lengths begins if they follow one another.
fn starts(lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sum = 0_u64;
    lengths
        .map(|length| {
            let start = sum;
            sum = sum.saturating_add(length);
            start
        })
        .collect()
}

fn slice(bytes: &[u8], from: u64, length: usize) -> &[u8] {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let rest = bytes.get(from..).unwrap_or_default();
    rest.get(..length).unwrap_or(rest)
}

impl OpenFile {
    pub(crate) fn new(name: String, entry: Entry) -> Self {
        let starts = match &entry.content {
            Content::Chunks(chunks) => self::starts(chunks.iter().map(|c| u64::from(c.length))),
            _ => Vec::new(),
        };
        let extent_starts = self::starts(entry.extents.iter().map(|extent| extent.length));
        Self { name, entry, starts, extent_starts, streak: Mutex::default() }
    }

    fn size(&self) -> u64 {
        self.entry.metadata.size
    }

    /// Up to `length` bytes from `offset`; fewer at the end alone.
    pub(crate) fn read(&self, library: &Library, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length as u64).min(self.size());
        let mut bytes =
            Vec::with_capacity(usize::try_from(end.saturating_sub(offset)).unwrap_or(0));
        let extents = &self.entry.extents;
        let mut at = offset;
        let mut number = extents.partition_point(|e| e.offset.saturating_add(e.length) <= at);
        while at < end {
            let filled = bytes.len();
            let until = if extents.is_empty() {
                self.append(library, at, end - at, &mut bytes)?;
                end
            } else {
                match extents.get(number) {
                    Some(extent) if extent.offset <= at => {
                        let until = end.min(extent.offset.saturating_add(extent.length));
                        self.append(library, self.stored_at(at), until - at, &mut bytes)?;
                        number += 1;
                        until
                    }
                    hole => hole.map_or(end, |next| end.min(next.offset)),
                }
            };
            // What is a hole reads as zeros.
            bytes.resize(filled + usize::try_from(until - at).unwrap_or(0), 0);
            at = until;
        }
        Ok(bytes)
    }

    /// Where the byte `at` of the file, or the first one after it that is stored, is in what is
    /// stored.
    fn stored_at(&self, at: u64) -> u64 {
        if self.entry.extents.is_empty() {
            return at;
        }
        let number = self.entry.extents.partition_point(|e| e.offset <= at).saturating_sub(1);
        match (self.entry.extents.get(number), self.extent_starts.get(number)) {
            (Some(Extent { offset, length }), Some(start)) => {
                start.saturating_add(at.saturating_sub(*offset).min(*length))
            }
            _ => at,
        }
    }

    /// Adds `length` stored bytes from `at`, all of them.
    fn append(&self, library: &Library, at: u64, length: u64, into: &mut Vec<u8>) -> Result<()> {
        let (mut at, mut left) = (at, usize::try_from(length).unwrap_or(usize::MAX));
        while left > 0 {
            let before = into.len();
            match &self.entry.content {
                Content::None => {}
                Content::Inline(bytes) => into.extend_from_slice(slice(bytes, at, left)),
                Content::Member { bundle, number, .. } => {
                    let bundle = library.bundle(bundle, *number)?;
                    into.extend_from_slice(slice(bundle.member(*number)?, at, left));
                }
                Content::Chunks(_) | Content::List(_) => {
                    if let Some((chunk, start)) = self.chunk_at(library, at)? {
                        let piece = library.chunk(&chunk.id)?;
                        match &*piece {
                            Piece::Chunk(bytes) if bytes.len() == chunk.length as usize => {
                                into.extend_from_slice(slice(bytes, at - start, left));
                            }
                            _ => return Err(self.damaged("a chunk is not as long as it should be")),
                        }
                    }
                }
            }
            let read = into.len() - before;
            if read == 0 {
                return Err(match self.entry.error.as_str() {
                    "" => self.damaged("it is shorter than its entry says"),
                    why => {
                        Error::Usage(format!("it could not be read when it was backed up: {why}"))
                    }
                });
            }
            at += read as u64;
            left -= read;
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Error {
        Error::damaged(format!("content of {}", self.name), what)
    }

    /// The chunk that holds a stored byte, and where it begins.
    fn chunk_at(&self, library: &Library, at: u64) -> Result<Option<(ChunkRef, u64)>> {
        match &self.entry.content {
            Content::List(root) => library.listed_chunk(root, at),
            Content::Chunks(chunks) => {
                let number = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
                Ok(chunks.get(number).zip(self.starts.get(number)).and_then(|(chunk, start)| {
                    let is_in = at - start < u64::from(chunk.length);
                    is_in.then_some((*chunk, *start))
                }))
            }
            _ => Ok(None),
        }
    }

    /// Notes that the bytes up to `end` were read from `offset` on, and asks for what comes next if
    /// somebody reads the file in order.
    pub(crate) fn read_on(&self, library: &Library, ahead: &Ahead, offset: u64, end: u64) {
        if !matches!(self.entry.content, Content::Chunks(_) | Content::List(_)) {
            return;
        }
        let Some((from, until)) = self.next_window(ahead.window(library), offset, end) else {
            return;
        };
        let (mut at, until) = (self.stored_at(from), self.stored_at(until));
        while at < until {
            // What cannot be read is told to whoever comes to it.
            let Ok(Some((chunk, start))) = self.chunk_at(library, at) else { break };
            ahead.ask(library, Wish::Chunk(chunk.id));
            at = start + u64::from(chunk.length).max(1);
        }
    }

    fn next_window(&self, longest: u64, offset: u64, end: u64) -> Option<(u64, u64)> {
        let mut streak = self.streak.lock().unwrap_or_else(PoisonError::into_inner);
        if offset.abs_diff(streak.expected) > DISORDER {
            *streak = Streak { expected: end, window: 0, asked: end };
            return None;
        }
        streak.expected = streak.expected.max(end);
        let from = streak.asked.max(streak.expected);
        let until =
            streak.expected.saturating_add(streak.window.max(FIRST_WINDOW)).min(self.size());
        // Half a window at a time: a little work for many reads.
        if until <= from || until < self.size() && until - from < streak.window / 2 {
            return None;
        }
        streak.window = (streak.window * 2).clamp(FIRST_WINDOW, longest.max(FIRST_WINDOW));
        streak.asked = until;
        Some((from, until))
    }

    /// The next byte from `offset` that is data, or that is in a hole. `None` after the end, and if
    /// no data comes.
    pub(crate) fn seek(&self, offset: u64, wants_data: bool) -> Option<u64> {
        if offset >= self.size() {
            return None;
        }
        let extents = &self.entry.extents;
        if extents.is_empty() {
            return Some(if wants_data { offset } else { self.size() });
        }
        let mut at = offset;
        let first = extents.partition_point(|e| e.offset.saturating_add(e.length) <= offset);
        for extent in extents.get(first..).unwrap_or_default() {
            let is_data = extent.offset <= at;
            if wants_data {
                return Some(at.max(extent.offset));
            }
            if !is_data {
                break;
            }
            at = extent.offset.saturating_add(extent.length);
        }
        (!wants_data).then_some(at.min(self.size()))
    }
}

#[cfg(test)]
mod tests {
    use holdfast_engine::hash::BlobId;
    use holdfast_engine::meta::Metadata;

    use super::*;

    fn file(size: u64, extents: &[(u64, u64)]) -> OpenFile {
        let extents =
            extents.iter().map(|(offset, length)| Extent { offset: *offset, length: *length });
        let metadata = Metadata { size, ..Metadata::default() };
        let content = Content::List(BlobId::default());
        let entry = Entry { metadata, content, extents: extents.collect(), ..Entry::default() };
        OpenFile::new("f".into(), entry)
    }

    #[test]
    fn holes_and_data_are_found() {
        let sparse = file(100, &[(10, 10), (20, 5), (50, 10)]);
        let both = |at| (sparse.seek(at, true), sparse.seek(at, false));
        assert_eq!(both(0), (Some(10), Some(0)));
        assert_eq!(both(12), (Some(12), Some(25)));
        assert_eq!(both(30), (Some(50), Some(30)));
        assert_eq!(both(59), (Some(59), Some(60)));
        assert_eq!(both(60), (None, Some(60)));
        assert_eq!(both(100), (None, None));
        let whole = file(100, &[]);
        assert_eq!((whole.seek(5, true), whole.seek(5, false)), (Some(5), Some(100)));
        // 0 … 10 is a hole, and what is stored begins behind it.
        let stored = [0, 10, 15, 24, 40, 50, 55, 90].map(|at| sparse.stored_at(at));
        assert_eq!(stored, [0, 0, 5, 14, 15, 15, 20, 25]);
    }

    #[test]
    fn windows_grow_while_somebody_reads_on_and_end_when_he_jumps() {
        const M: u64 = 1 << 20;
        let file = file(1 << 40, &[]);
        let mut asked = 0;
        let mut at = 0;
        while at < 100 * M {
            if let Some((from, until)) = file.next_window(16 * M, at, at + M / 8) {
                assert_eq!(from, asked.max(at + M / 8), "no gap, nothing twice");
                assert!(until - at <= 17 * M, "{from} {until}");
                asked = until;
            }
            at += M / 8;
        }
        assert!(asked - at >= 7 * M, "half a window is always ahead: {}", asked - at);
        assert_eq!(file.next_window(16 * M, 1 << 39, (1 << 39) + 1), None);
        assert_eq!(file.next_window(16 * M, 5, 6), None);
    }
}
