//! A file of several chunks while it is written: opened by the first thread that has a part of
//! it, finished by the last.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::destination::{Destination, DestinationFile};
use crate::tree::Entry;
use crate::{Error, Result};

use super::super::entries::Todo;
use super::super::walk::Item;

/// A file being written.
pub(super) struct OpenFile {
    pub(super) todo: Todo,
    /// Parts still to come, and one more while it is being planned.
    left: AtomicU64,
    failed: AtomicBool,
    file: RwLock<Option<Box<dyn DestinationFile>>>,
    /// Where each extent of a sparse file starts in the content.
    starts: Vec<u64>,
}

impl OpenFile {
    pub(super) fn new(todo: Todo, entry: &Entry) -> Self {
        let starts = entry.extents.iter().scan(0_u64, |end, extent| {
            let start = *end;
            *end = end.saturating_add(extent.length);
            Some(start)
        });
        Self {
            todo,
            left: AtomicU64::new(1),
            failed: AtomicBool::new(false),
            file: RwLock::new(None),
            starts: starts.collect(),
        }
    }

    pub(super) fn expect_one_more(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the part that is done now was the last.
    pub(super) fn is_last(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The file will not be restored. True for the first who finds that out.
    pub(super) fn give_up(&self) -> bool {
        let first = !self.failed.swap(true, Ordering::AcqRel);
        if first {
            // Dropped now and not at the end of the batch, it leaves room for others.
            drop(self.file.write().unwrap_or_else(PoisonError::into_inner).take());
        }
        first
    }

    /// Takes the file out, to finish it. `None` if it failed.
    pub(super) fn close(&self) -> Option<Box<dyn DestinationFile>> {
        let file = self.file.write().unwrap_or_else(PoisonError::into_inner).take();
        file.filter(|_| !self.failed.load(Ordering::Acquire))
    }

    /// Writes bytes that lie at `at` in the content.
    pub(super) fn write(
        &self,
        destination: &dyn Destination,
        path: &[u8],
        item: &Item,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        loop {
            if self.failed.load(Ordering::Acquire) {
                return Ok(());
            }
            let open = self.file.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(file) = &*open {
                return self.write_to(&**file, &item.entry, at, bytes);
            }
            drop(open);
            let mut open = self.file.write().unwrap_or_else(PoisonError::into_inner);
            if open.is_none() && !self.failed.load(Ordering::Acquire) {
                let size = item.entry.metadata.size;
                *open = Some(destination.create_file(path, size, self.todo.replace)?);
            }
        }
    }

    fn write_to(
        &self,
        file: &dyn DestinationFile,
        entry: &Entry,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        if entry.extents.is_empty() {
            return Ok(file.write_at(at, bytes)?);
        }
        let (mut at, mut rest) = (at, bytes);
        let mut number = self.starts.partition_point(|start| *start <= at).saturating_sub(1);
        while !rest.is_empty() {
            let extent = entry.extents.get(number).zip(self.starts.get(number));
            let Some((extent, start)) = extent else {
                return Err(Error::damaged("entry", "its content is longer than its extents"));
            };
            let within = at.saturating_sub(*start);
            let room = extent.length.saturating_sub(within);
            let length = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at(length);
            if !now.is_empty() {
                file.write_at(extent.offset.saturating_add(within), now)?;
            }
            at += length as u64;
            rest = later;
            number += 1;
        }
        Ok(())
    }
}
