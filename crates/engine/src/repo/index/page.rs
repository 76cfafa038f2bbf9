//! Pages: a table of the index is a row of 4096-byte pages, in a file of the cache, each sealed
//! for itself, or in memory. A page that does not open is never used: its file goes, and the
//! caller is told.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::crypto::{ObjectCipher, TAG_LEN};
use crate::{Error, Result};

/// Length of a page.
pub(super) const PAGE: usize = 4096;

/// What a page holds, without its tag.
pub(super) const PAYLOAD: usize = PAGE - TAG_LEN;

/// Opened pages kept, one in each slot: at most 4 MiB.
const SLOTS: usize = 1024;

/// Pages read at once when a section is read from start to end.
const AHEAD: u64 = 16;

/// Where a table's pages are.
#[derive(Debug)]
pub(super) enum Backing {
    /// In a file, sealed. `path` is `None` for one that has no name any more.
    File {
        /// Open for reading.
        file: File,
        /// Opens its pages.
        cipher: ObjectCipher,
        /// Its name.
        path: Option<PathBuf>,
    },
    /// In memory, in the clear.
    Memory(Vec<u8>),
}

impl Backing {
    /// Replaces `into` by `count` pages, opened.
    fn read(&self, first: u64, count: u64, into: &mut Vec<u8>) -> Result<()> {
        let length = usize::try_from(count).unwrap_or(0) * PAGE;
        match self {
            Self::Memory(bytes) => {
                let from = usize::try_from(first).unwrap_or(usize::MAX).saturating_mul(PAGE);
                let pages = bytes.get(from..).and_then(|rest| rest.get(..length));
                into.clear();
                into.extend_from_slice(pages.ok_or_else(|| self.damaged())?);
            }
            Self::File { file, cipher, .. } => {
                into.resize(length, 0);
                file.read_exact_at(into, first * PAGE as u64).map_err(|_| self.damaged())?;
                for (number, page) in (first..).zip(into.chunks_exact_mut(PAGE)) {
                    cipher.open(number, &[], page).map_err(|_| self.damaged())?;
                }
            }
        }
        Ok(())
    }

    /// Removes the file, for it cannot be trusted; the error that says so.
    pub(super) fn damaged(&self) -> Error {
        match self {
            Self::File { path: Some(path), .. } => damaged(path),
            _ => Error::DamagedCache { path: "of this run".into(), removed: true },
        }
    }

    /// Its bytes in memory.
    pub(super) fn memory_used(&self) -> usize {
        match self {
            Self::File { .. } => 0,
            Self::Memory(bytes) => bytes.capacity(),
        }
    }

    /// Its name, if it is a file that has one.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::File { path, .. } => path.as_deref(),
            Self::Memory(_) => None,
        }
    }

    /// Its bytes, if it is in memory.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::File { .. } => None,
            Self::Memory(bytes) => Some(bytes),
        }
    }

    /// Whether it is a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File { .. })
    }
}

/// Removes a damaged file of the cache; the error that says so.
pub(super) fn damaged(path: &Path) -> Error {
    let removed = match std::fs::remove_file(path) {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(()) => true,
    };
    Error::DamagedCache { path: path.display().to_string(), removed }
}

#[derive(Debug, Default)]
struct Slot {
    of: Option<(u64, u64)>,
    bytes: Vec<u8>,
}

/// Opened pages of files, kept for the next lookups. Shared between the tables of an index.
#[derive(Debug)]
pub(super) struct Pages(Vec<Mutex<Slot>>);

impl Default for Pages {
    fn default() -> Self {
        Self((0..SLOTS).map(|_| Mutex::default()).collect())
    }
}

impl Pages {
    /// Looks at a page of the table `tag`: its payload.
    pub(super) fn look<R>(
        &self,
        backing: &Backing,
        tag: u64,
        page: u64,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        if let Backing::Memory(bytes) = backing {
            let from = usize::try_from(page).unwrap_or(usize::MAX).saturating_mul(PAGE);
            let payload = bytes.get(from..).and_then(|rest| rest.get(..PAYLOAD));
            return Ok(look(payload.ok_or_else(|| backing.damaged())?));
        }
        // Tables begin in different slots, and the pages of one lie side by side.
        let slot = tag.wrapping_mul(397).wrapping_add(page) % SLOTS as u64;
        let slot = self.0.get(slot as usize).ok_or_else(|| backing.damaged())?;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.of != Some((tag, page)) {
            slot.of = None;
            backing.read(page, 1, &mut slot.bytes)?;
            slot.of = Some((tag, page));
        }
        Ok(look(slot.bytes.get(..PAYLOAD).unwrap_or_default()))
    }

    /// Bytes that the kept pages take.
    pub(super) fn memory_used(&self) -> usize {
        let bytes = |slot: &Mutex<Slot>| {
            slot.lock().unwrap_or_else(PoisonError::into_inner).bytes.capacity()
        };
        self.0.iter().map(bytes).sum::<usize>() + self.0.len() * size_of::<Mutex<Slot>>()
    }
}

/// Reads records of a section one after the other, several pages at once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Next page to read, and the first after the section.
    next: u64,
    end: u64,
    record: usize,
    left: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next record is.
    at: usize,
}

impl Scan {
    /// Of `count` records of `record` bytes from page `first` on.
    pub(super) fn new(first: u64, record: usize, count: u64) -> Self {
        let pages = count.div_ceil((PAYLOAD / record.max(1)) as u64);
        Self { next: first, end: first + pages, record, left: count, ..Self::default() }
    }

    /// The next record.
    pub(super) fn next<'s>(&'s mut self, backing: &Backing) -> Result<Option<&'s [u8]>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.at % PAGE + self.record > PAYLOAD {
            self.at = self.at.next_multiple_of(PAGE);
        }
        if self.at >= self.buffer.len() {
            let count = AHEAD.min(self.end.saturating_sub(self.next));
            backing.read(self.next, count, &mut self.buffer)?;
            self.next += count;
            self.at = 0;
        }
        let record = self.buffer.get(self.at..self.at + self.record);
        self.at += self.record;
        self.left -= 1;
        record.map(Some).ok_or_else(|| backing.damaged())
    }
}
