//! What a pack says of itself: its directory repeats what the index says, so that an index that is
//! lost can be made anew (docs/format.md, "Packs").

use crate::crypto::ObjectKind;
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::index::IndexedPack;
use crate::format::pack::{TRAILER_LEN, directory_place, open_directory};
use crate::hash::ObjectId;
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::Repository;
use super::index::segment::ReadPack;

/// Longest directory that is read: far above any that is written.
const MAX_DIRECTORY: usize = 64 << 20;

/// Read from the end of a pack at once: most directories fit.
const TAIL: u64 = 64 << 10;

impl Repository {
    /// What an index segment says of a pack of `size` bytes, from the pack itself. Its blobs are
    /// not read.
    pub(crate) fn read_directory(&self, id: ObjectId, size: u64) -> Result<IndexedPack> {
        let name = ObjectName::pack(id);
        let damaged = |what: String| Error::damaged(&name, what);
        if size < (HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(damaged("it is too short for a pack".into()));
        }
        let mut header = Vec::new();
        self.storage.get_range(&name, 0, HEADER_LEN, &mut header)?;
        let kind = Header::parse(&header).map_err(damaged)?.kind;
        if !matches!(kind, ObjectKind::DataPack | ObjectKind::TreePack) {
            return Err(damaged("it is no pack".into()));
        }
        let start = size.saturating_sub(TAIL);
        let mut tail = Vec::new();
        self.storage.get_range(&name, start, (size - start) as usize, &mut tail)?;
        let trailer = tail.len().saturating_sub(TRAILER_LEN);
        let (offset, length) =
            directory_place(tail.get(trailer..).unwrap_or_default(), size).map_err(damaged)?;
        if length > MAX_DIRECTORY {
            return Err(damaged("its directory is impossibly long".into()));
        }
        let sealed = match offset.checked_sub(start).map(|at| at as usize) {
            Some(at) => tail.get(at..at + length).unwrap_or_default().to_vec(),
            None => {
                self.storage.get_range(&name, offset, length, &mut tail)?;
                tail
            }
        };
        let directory =
            open_directory(&self.keys, &self.id, kind, &header, sealed).map_err(damaged)?;
        let pack =
            IndexedPack { id: id.as_bytes().to_vec(), size, header, directory: Some(directory) };
        ReadPack::new(&pack).and_then(|read| read.check(self)).map_err(damaged)?;
        Ok(pack)
    }
}
