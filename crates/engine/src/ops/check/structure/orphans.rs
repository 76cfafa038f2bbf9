//! Packs that no segment lists. They matter only when something is missing: then their
//! directories are read, and if one holds what is missing, the loss is that of an index segment
//! and can be undone, and the check can go on below the nodes in it.

use crate::Result;
use crate::crypto::ObjectKind;
use crate::format::envelope::{HEADER_LEN, Header};
use crate::format::index::IndexedPack;
use crate::format::pack::{TRAILER_LEN, directory_place, open_directory};
use crate::hash::ObjectId;
use crate::storage::ObjectName;

use super::super::fault_text;
use super::Walk;

/// Longest directory that is read: far above any that is written.
const MAX_DIRECTORY: usize = 64 << 20;

impl Walk<'_> {
    /// Adds the orphans to the index in memory, once. Whether that was done just now.
    pub(super) fn adopt_orphans(&self) -> Result<bool> {
        let mut result = Ok(false);
        // Other threads wait here until the directories are in.
        self.adopted.get_or_init(|| result = self.adopt_all().map(|()| true));
        result
    }

    fn adopt_all(&self) -> Result<()> {
        for (id, size) in self.context.orphans {
            self.context.stop_if_asked()?;
            match self.read_orphan(*id, *size) {
                Ok(pack) => self.context.index.add(&pack)?,
                // Not whole, or being written: nothing can rely on it.
                Err(error) => drop(fault_text(error)?),
            }
        }
        Ok(())
    }

    fn read_orphan(&self, id: ObjectId, size: u64) -> Result<IndexedPack> {
        let repository = self.context.repository;
        let name = ObjectName::pack(id);
        let damaged = |what: String| crate::Error::damaged(&name, what);
        let mut header = Vec::new();
        repository.storage().get_range(&name, 0, HEADER_LEN, &mut header)?;
        let kind = Header::parse(&header).map_err(damaged)?.kind;
        if !matches!(kind, ObjectKind::DataPack | ObjectKind::TreePack) {
            return Err(damaged("it is no pack".into()));
        }
        let end = size.saturating_sub(TRAILER_LEN as u64);
        let mut bytes = Vec::new();
        repository.storage().get_range(&name, end, TRAILER_LEN, &mut bytes)?;
        let (offset, length) = directory_place(&bytes, size).map_err(damaged)?;
        if length > MAX_DIRECTORY {
            return Err(damaged("its directory is impossibly long".into()));
        }
        repository.storage().get_range(&name, offset, length, &mut bytes)?;
        let (keys, repository) = (repository.keys(), repository.id());
        let directory = open_directory(keys, repository, kind, &header, bytes).map_err(damaged)?;
        directory.lines(size).map_err(damaged)?;
        Ok(IndexedPack { id: id.as_bytes().to_vec(), size, header, directory: Some(directory) })
    }
}
