//! Damaged packs made whole in memory by their parity. What cannot be read is told apart from what
//! reads wrong, and the result counts only if its SHA-256 is the pack's name.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::format::parity::Parity;
use crate::hash::{ObjectId, Sha256};
use crate::parity;
use crate::storage::{ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::Repository;

/// Bytes that are read at once.
const READ: u64 = 4 << 20;

/// Bytes that are given up at once where reading fails: a sector of most media.
const SECTOR: u64 = 4096;

/// Bytes of an object, with zeros where they could not be read, and where that is.
pub(crate) type WithHoles = (Vec<u8>, Vec<Range<u64>>);

/// A pack as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Healed {
    /// Its bytes.
    pub(crate) bytes: Arc<Vec<u8>>,
    /// Pieces that were computed.
    pub(crate) pieces: u64,
}

/// What a reader has healed.
#[derive(Debug, Default)]
pub(super) struct Healing {
    /// The pack healed last.
    last: Option<(ObjectId, Healed)>,
    /// Packs that were tried: how many pieces were computed, or why not.
    tried: BTreeMap<ObjectId, std::result::Result<u64, String>>,
}

impl Healing {
    /// Heals a pack, or says why that cannot be done. Each is tried once, but that one which was
    /// healed is healed again if others were in between.
    pub(super) fn heal(
        &mut self,
        repository: &Repository,
        id: ObjectId,
        size: u64,
    ) -> Result<std::result::Result<Healed, String>> {
        if let Some((last, healed)) = &self.last
            && *last == id
        {
            return Ok(Ok(healed.clone()));
        }
        if let Some(Err(why)) = self.tried.get(&id) {
            return Ok(Err(why.clone()));
        }
        // Two packs at once would take twice the memory.
        self.last = None;
        let healed = repository.heal_pack(id, size)?;
        let outcome = healed.as_ref().map(|healed| healed.pieces).map_err(Clone::clone);
        self.tried.insert(id, outcome);
        self.last = healed.as_ref().ok().map(|healed| (id, healed.clone()));
        Ok(healed)
    }

    /// Packs that were healed, and how many of their pieces were computed.
    pub(super) fn healed(&self) -> Vec<(ObjectId, u64)> {
        let healed =
            self.tried.iter().filter_map(|(id, outcome)| Some((*id, *outcome.as_ref().ok()?)));
        healed.collect()
    }
}

impl Repository {
    /// A pack of `size` bytes with its damage healed by its parity; or why that cannot be done. An
    /// error says nothing of the pack.
    pub(crate) fn heal_pack(
        &self,
        id: ObjectId,
        size: u64,
    ) -> Result<std::result::Result<Healed, String>> {
        let parity = match self.storage.get(&ObjectName::parity(id)) {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(Err("it has no parity".into())),
            Err(e) if is_of_the_object(e.kind) => {
                return Ok(Err("its parity cannot be read".into()));
            }
            Err(e) => return Err(e.into()),
        };
        let parity = match Parity::parse(parity) {
            Ok(parity) if parity.header().size == size => parity,
            Ok(_) => return Ok(Err("its parity is that of another pack".into())),
            Err(what) => return Ok(Err(format!("its parity is damaged: {what}"))),
        };
        let Some((mut pack, holes)) = self.read_with_holes(&ObjectName::pack(id), size)? else {
            return Ok(Err("it is missing".into()));
        };
        let pieces = match parity::heal(&parity, &mut pack, &holes) {
            Ok(pieces) => pieces as u64,
            Err(what) => return Ok(Err(what)),
        };
        if Sha256::of(&pack) != id {
            return Ok(Err("its parity does not belong to it".into()));
        }
        Ok(Ok(Healed { bytes: Arc::new(pack), pieces }))
    }

    /// The first `size` bytes of an object, with zeros where they cannot be read, and where that
    /// is. `None` if it is not there.
    pub(crate) fn read_with_holes(
        &self,
        name: &ObjectName,
        size: u64,
    ) -> Result<Option<WithHoles>> {
        let there = match self.storage.stat(name) {
            Ok(info) => info.size.min(size),
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let (mut bytes, mut holes, mut part) = (vec![0; length], Vec::new(), Vec::new());
        if there < size {
            holes.push(there..size);
        }
        let mut todo: Vec<Range<u64>> =
            (0..there.div_ceil(READ)).map(|n| n * READ..there.min((n + 1) * READ)).rev().collect();
        while let Some(range) = todo.pop() {
            let wanted = (range.end - range.start) as usize;
            match self.storage.get_range(name, range.start, wanted, &mut part) {
                Ok(()) => {
                    let to = bytes.get_mut(range.start as usize..range.end as usize);
                    if let Some(to) = to.filter(|to| to.len() == part.len()) {
                        to.copy_from_slice(&part);
                    }
                }
                Err(e) if e.is_not_found() => return Ok(None),
                Err(e) if !is_of_the_object(e.kind) => return Err(Error::from(e)),
                Err(_) if wanted as u64 <= SECTOR => holes.push(range),
                Err(_) => {
                    // Half of a multiple of the sector, so that no good sector is given up.
                    let half = (wanted as u64).div_ceil(2).next_multiple_of(SECTOR);
                    todo.push(range.start + half..range.end);
                    todo.push(range.start..range.start + half);
                }
            }
        }
        Ok(Some((bytes, holes)))
    }
}

/// Whether a failure is one of a single object and not of the storage.
fn is_of_the_object(kind: StorageErrorKind) -> bool {
    matches!(kind, StorageErrorKind::Io | StorageErrorKind::PermissionDenied)
}
