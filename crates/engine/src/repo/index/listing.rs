//! What the storage lists in `packs/`, and what follows for the packs in tables: which of them
//! count, which are lost, and which need not be looked at.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::hash::ObjectId;
use crate::repo::Repository;
use crate::storage::Folder;
use crate::{Error, Result};

use super::table::Table;

/// The packs that are present.
#[derive(Debug, Default)]
pub(crate) struct PackListing {
    /// Sorted by id.
    packs: Vec<(ObjectId, u64)>,
    /// Where in `packs` ids with the same first bits begin: a million packs are looked up at every
    /// start, and a search through all of them misses the processor's cache at each step.
    starts: Vec<u32>,
    bits: u32,
    /// Names that are no pack's.
    pub(crate) strange: Vec<String>,
}

impl PackListing {
    pub(crate) fn of(repository: &Repository) -> Result<Self> {
        let (mut packs, mut strange) = (Vec::new(), Vec::new());
        repository.storage().list(Folder::Packs, &mut |info| match ObjectId::from_hex(
            info.name.base(),
        ) {
            Ok(id) => packs.push((id, info.size)),
            Err(_) => strange.push(info.name.base().to_owned()),
        })?;
        Ok(Self { strange, ..Self::new(packs) })
    }

    pub(crate) fn new(mut packs: Vec<(ObjectId, u64)>) -> Self {
        packs.sort_unstable();
        packs.dedup();
        let bits = packs.len().max(1).ilog2().saturating_sub(4).min(20);
        let mut starts = vec![0_u32; (1 << bits) + 1];
        for (id, _) in &packs {
            if let Some(count) = starts.get_mut(first_bits(id, bits) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        Self { packs, starts, bits, strange: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.packs.len()
    }

    fn position(&self, id: &ObjectId) -> Option<usize> {
        let bits = first_bits(id, self.bits);
        let from = *self.starts.get(bits)? as usize;
        let near = self.packs.get(from..*self.starts.get(bits + 1)? as usize)?;
        near.binary_search_by_key(id, |(id, _)| *id).ok().map(|at| from + at)
    }

    /// A pack's size, if it is there.
    pub(crate) fn size(&self, id: &ObjectId) -> Option<u64> {
        self.packs.get(self.position(id)?).map(|(_, size)| *size)
    }
}

fn first_bits(id: &ObjectId, bits: u32) -> usize {
    let first = id.as_bytes().first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    first.checked_shr(32 - bits).unwrap_or(0) as usize
}

/// What a pack in a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Its blobs count as stored.
    Usable,
    /// Missing, of another size, or condemned.
    Lost,
    /// Not to be looked at: its segment does not count, or it stands somewhere else as well.
    Dead,
}

/// What [`states`] finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of all packs, table by table.
    pub(super) states: Vec<Vec<State>>,
    /// Packs that are not dead, and their lines.
    pub(super) counts: (u64, u64),
    /// Present packs that no segment that counts names.
    pub(super) orphans: Vec<(ObjectId, u64)>,
}

/// The states of all packs.
pub(super) fn states(
    tables: &[Arc<Table>],
    is_live: &dyn Fn(&ObjectId) -> bool,
    listing: &PackListing,
    condemned: &BTreeSet<ObjectId>,
) -> Result<Found> {
    // Of each present pack: whether a segment that counts names it, and whether one was taken for usable.
    let mut named = vec![(false, false); listing.packs.len()];
    let mut lost = HashSet::new();
    let mut found = Found::default();
    for table in tables {
        let live: Vec<bool> =
            table.segments().iter().map(|row| row.lined && is_live(&row.id)).collect();
        let mut own = Vec::with_capacity(table.packs() as usize);
        table.each_pack(|_, row| {
            let position = listing.position(&row.id);
            let size = position.and_then(|at| listing.packs.get(at)).map(|(_, size)| *size);
            let mut unused = (true, false);
            let (is_named, is_taken) =
                position.and_then(|at| named.get_mut(at)).unwrap_or(&mut unused);
            let is_live = live.get(row.segment as usize) == Some(&true);
            *is_named |= is_live;
            let state = if !is_live {
                State::Dead
            } else if size == Some(row.size) && !condemned.contains(&row.id) {
                if std::mem::replace(is_taken, true) { State::Dead } else { State::Usable }
            } else if lost.insert(row.id) {
                State::Lost
            } else {
                State::Dead
            };
            if state != State::Dead {
                found.counts.0 += 1;
                found.counts.1 += u64::from(row.lines);
            }
            own.push(state);
            Ok::<(), Error>(())
        })?;
        found.states.push(own);
    }
    let named = named.into_iter().map(|(is_named, _)| is_named);
    let orphans = listing.packs.iter().zip(named).filter(|(_, is_named)| !is_named);
    found.orphans = orphans.map(|(pack, _)| *pack).collect();
    Ok(found)
}
