//! The index: where every blob lies. It is a few sorted tables (see [`table`]), in files of the
//! cache or in memory, and what this run has stored since they were made. What it holds in memory
//! is an eight-byte prefix for each 72 blobs and a byte for each pack.
//!
//! Loading is in [`load`], which tables are made and merged in [`build`], where they are kept in
//! [`store`], what this run adds in [`own`].

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};

use crate::crypto::{BlobKind, Keys, RootKey};
use crate::format::envelope::HEADER_LEN;
use crate::format::index::Segment;
use crate::format::pack::Line;
use crate::hash::{BlobId, ObjectId, RepositoryId};
use crate::{Error, Result};

mod build;
pub(crate) mod inventory;
pub(crate) mod listing;
mod load;
mod own;
mod page;
pub(crate) mod segment;
mod store;
mod table;
#[cfg(test)]
mod tests;

use build::{Batch, Merge};
use listing::{PackListing, State, states};
use own::Own;
use segment::ReadSegment;
use store::Store;
use table::Table;

/// The repository of an index that is not one's.
const ZERO: RepositoryId = RepositoryId::new([0; 32]);

/// A pack that the index knows.
#[derive(Debug, Clone)]
pub struct PackInfo {
    /// Its name.
    pub id: ObjectId,
    /// Its size in bytes.
    pub size: u64,
    /// Its header.
    pub header: [u8; HEADER_LEN],
    /// Whether it was in the listing at this size and is not condemned: only then do its blobs
    /// count as stored.
    pub usable: bool,
}

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the pack: see [`Index::pack`].
    pub pack: u32,
    /// Place in the pack: its nonce.
    pub ordinal: u32,
    /// Where it starts in the pack.
    pub offset: u32,
    /// Length as stored.
    pub sealed: u32,
    /// Length of the plain bytes.
    pub plain: u32,
    /// Members, for a bundle.
    pub members: u32,
    /// A bundle some of whose members gc dropped: not as good as stored.
    pub hollow: bool,
    /// Kind.
    pub kind: BlobKind,
}

impl Place {
    /// The place that a line of a pack's directory tells.
    pub(crate) fn of(line: &Line, pack: u32) -> Self {
        let Line { kind, ordinal, offset, sealed, plain, members, hollow, .. } = *line;
        Self { pack, ordinal, offset, sealed, plain, members, hollow, kind }
    }
}

/// A pack and all that the index says it holds, by ordinal.
#[derive(Debug, Clone)]
pub struct PackLines {
    /// Its number.
    pub number: u32,
    /// The pack.
    pub pack: PackInfo,
    /// Its blobs.
    pub lines: Vec<(BlobId, Place)>,
}

/// A table and what its packs are; their numbers in the index begin at `base`.
#[derive(Debug, Clone)]
struct Mount {
    base: u32,
    table: Arc<Table>,
    states: Arc<[State]>,
}

impl Mount {
    fn state(&self, number: u32) -> State {
        self.states.get(number as usize).copied().unwrap_or(State::Dead)
    }

    fn pack(&self, number: u32) -> Result<Option<PackInfo>> {
        let local = number.wrapping_sub(self.base);
        let usable = self.state(local) == State::Usable;
        let info = |(row, header): (table::PackRow, _)| PackInfo {
            id: row.id,
            size: row.size,
            header,
            usable,
        };
        Ok(self.table.pack(local)?.map(info))
    }

    fn lines_of(&self, number: u32) -> Result<usize> {
        let pack = self.table.pack(number.wrapping_sub(self.base))?;
        Ok(pack.map_or(0, |(row, _)| row.lines as usize))
    }

    fn visit(&self, id: &BlobId, each: &mut dyn FnMut(Place, State) -> bool) -> Result<bool> {
        self.table.visit(id, &mut |place| match self.state(place.pack) {
            State::Dead => false,
            state => each(Place { pack: self.base.wrapping_add(place.pack), ..place }, state),
        })
    }
}

/// The mount that holds the pack of this number, if one does.
fn mount_of(mounts: &[Mount], number: u32) -> Option<&Mount> {
    let at = mounts.partition_point(|mount| mount.base <= number).checked_sub(1)?;
    mounts.get(at).filter(|mount| number - mount.base < mount.table.packs())
}

/// The index. Shared between threads. Lookups read the cache, and fail with
/// [`Error::DamagedCache`] if that was damaged since it was opened.
#[derive(Debug)]
pub struct Index {
    store: Store,
    /// Tables that it was loaded from.
    loaded: Vec<Mount>,
    /// Packs in them have numbers below this.
    loaded_end: u32,
    /// Packs and lines in them, without dead ones.
    counts: (u64, u64),
    /// What this run stores.
    own: RwLock<Own>,
}

impl Index {
    fn new(
        store: Store,
        tables: Vec<Arc<Table>>,
        states: Vec<Vec<State>>,
        counts: (u64, u64),
    ) -> Result<Self> {
        let mut loaded = Vec::with_capacity(tables.len());
        let mut base = 0_u32;
        for (table, states) in tables.into_iter().zip(states) {
            let next = base.checked_add(table.packs());
            loaded.push(Mount { base, table, states: states.into() });
            base = next.ok_or_else(|| Error::Usage("more packs than can be counted".into()))?;
        }
        let own = RwLock::new(Own::starting_at(base));
        Ok(Self { store, loaded, loaded_end: base, counts, own })
    }

    /// An index in memory of these segments; packs count if they are `present` at their size.
    pub fn from_segments(
        segments: &[(ObjectId, Segment)],
        present: Vec<(ObjectId, u64)>,
    ) -> Result<Self> {
        let keys = Arc::new(Keys::derive(&RootKey::new([0; 32])));
        let store = Store::memory(keys, ZERO);
        let segments: Vec<_> =
            segments.iter().map(|(id, segment)| ReadSegment::new(*id, segment)).collect();
        let superseded: BTreeSet<_> = segments.iter().flat_map(|s| s.supersedes.clone()).collect();
        let mut batch = Batch::default();
        for segment in segments {
            let segment = segment.whole()?;
            batch.add(&segment, !superseded.contains(&segment.id));
        }
        let tables = [Arc::new(batch.finish(&store)?)];
        let (packs, condemned) = (PackListing::new(present), BTreeSet::new());
        let found = states(&tables, &|_| true, &packs, &condemned)?;
        Self::new(store, tables.into(), found.states, found.counts)
    }

    /// An index of a table as it is in memory, whose packs all count: for fuzzing.
    pub(crate) fn from_table(bytes: Vec<u8>) -> Result<Self> {
        let store = Store::memory(Arc::new(Keys::derive(&RootKey::new([0; 32]))), ZERO);
        let table = Arc::new(Table::open_memory(bytes, &ZERO, Arc::default())?);
        let states = vec![State::Usable; table.packs() as usize];
        let counts = (u64::from(table.packs()), table.lines());
        Self::new(store, vec![table], vec![states], counts)
    }

    /// What [`from_table`](Self::from_table) takes, if this is an index of one segment in memory.
    pub(crate) fn table_bytes(&self) -> Option<&[u8]> {
        self.loaded.first().and_then(|mount| mount.table.backing().bytes())
    }

    /// Calls `each` with every place of a blob and what its pack is, until it returns true.
    fn visit(&self, id: &BlobId, each: &mut dyn FnMut(Place, State) -> bool) -> Result<()> {
        for mount in &self.loaded {
            if mount.visit(id, each)? {
                return Ok(());
            }
        }
        self.own().visit(id, each)
    }

    /// The usable place of a blob that is whole.
    pub fn find(&self, id: &BlobId) -> Result<Option<Place>> {
        self.find_in(id, &|_| true)
    }

    /// The same, in a pack whose number is `wanted`.
    pub(crate) fn find_in(
        &self,
        id: &BlobId,
        wanted: &dyn Fn(u32) -> bool,
    ) -> Result<Option<Place>> {
        let mut found = None;
        self.visit(id, &mut |place, state| {
            let fits = state == State::Usable && !place.hollow && wanted(place.pack);
            found = fits.then_some(place);
            fits
        })?;
        Ok(found)
    }

    /// A place of a blob, be its pack present or not: for reading, where trying costs nothing.
    pub fn find_any(&self, id: &BlobId) -> Result<Option<Place>> {
        let mut best: Option<((bool, bool), Place)> = None;
        self.visit(id, &mut |place, state| {
            let rank = (state == State::Lost, place.hollow);
            if best.is_none_or(|(other, _)| rank < other) {
                best = Some((rank, place));
            }
            rank == (false, false)
        })?;
        Ok(best.map(|(_, place)| place))
    }

    /// Every place of a blob, those in usable packs first, and of these the whole ones.
    pub fn places(&self, id: &BlobId) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        self.visit(id, &mut |place, state| {
            places.push(((state == State::Lost, place.hollow), place));
            false
        })?;
        places.sort_by_key(|(rank, _)| *rank);
        Ok(places.into_iter().map(|(_, place)| place).collect())
    }

    /// The pack of this number.
    pub fn pack(&self, number: u32) -> Result<Option<PackInfo>> {
        match mount_of(&self.loaded, number) {
            Some(mount) => mount.pack(number),
            None => self.own().pack(number),
        }
    }

    /// Whether the blobs of the pack of this number count as stored.
    pub fn is_usable(&self, number: u32) -> bool {
        match mount_of(&self.loaded, number) {
            Some(mount) => mount.state(number - mount.base) == State::Usable,
            None => self.own().end() > number,
        }
    }

    /// Packs that were known when the index was loaded have numbers below this.
    pub fn loaded_end(&self) -> u32 {
        self.loaded_end
    }

    /// All packs, those that this run has added included, have numbers below this.
    pub fn end(&self) -> u32 {
        self.own().end()
    }

    /// How many packs were known when the index was loaded.
    pub fn pack_count(&self) -> u64 {
        self.counts.0
    }

    /// How many lines they have: a blob in two packs has two.
    pub fn blob_count(&self) -> u64 {
        self.counts.1
    }

    /// Calls `each` with every pack known when the index was loaded: its number, name and size.
    pub fn each_pack(&self, each: &mut dyn FnMut(u32, ObjectId, u64) -> Result<()>) -> Result<()> {
        for mount in &self.loaded {
            mount.table.each_pack(|number, row| match mount.state(number) {
                State::Dead => Ok(()),
                _ => each(mount.base + number, row.id, row.size),
            })?;
        }
        Ok(())
    }

    /// Calls `each` with every blob known when the index was loaded, in the order of their ids;
    /// with one in several packs once for each.
    pub fn each_blob(&self, each: &mut dyn FnMut(BlobId, Place) -> Result<()>) -> Result<()> {
        let tables: Vec<_> = self.loaded.iter().map(|mount| mount.table.clone()).collect();
        let mut merge = Merge::new(&tables);
        let wanted = |table: usize, pack| {
            self.loaded.get(table).is_some_and(|mount| mount.state(pack) != State::Dead)
        };
        while let Some((table, id, place)) = merge.next(&wanted)? {
            let base = self.loaded.get(table).map_or(0, |mount| mount.base);
            each(id, Place { pack: base + place.pack, ..place })?;
        }
        Ok(())
    }

    /// Calls `each` with the `wanted` packs (their numbers, rising) and all their lines: as many
    /// packs at once as have about `most` lines together. Each call costs a pass over the tables.
    pub fn packs_with_lines(
        &self,
        wanted: &[u32],
        most: usize,
        each: &mut dyn FnMut(Vec<PackLines>) -> Result<()>,
    ) -> Result<()> {
        let (mut group, mut lines) = (Vec::new(), 0);
        for number in wanted {
            let Some(pack) = self.pack(*number)? else { continue };
            lines += self.lines_of(*number)?;
            group.push(PackLines { number: *number, pack, lines: Vec::new() });
            if lines >= most {
                self.fill(&mut group)?;
                each(std::mem::take(&mut group))?;
                lines = 0;
            }
        }
        self.fill(&mut group)?;
        if group.is_empty() { Ok(()) } else { each(group) }
    }

    /// How many lines a pack has that was known when the index was loaded; about how many, if this
    /// run stored it.
    pub(crate) fn lines_of(&self, number: u32) -> Result<usize> {
        match mount_of(&self.loaded, number) {
            Some(mount) => mount.lines_of(number),
            None => self.own().lines_of(number),
        }
    }

    fn fill(&self, group: &mut [PackLines]) -> Result<()> {
        let own = self.own();
        own.fill(group);
        let mounts: Vec<Mount> = self.loaded.iter().chain(&own.settled).cloned().collect();
        drop(own);
        for mount in mounts {
            let end = mount.base.saturating_add(mount.table.packs());
            let from = group.partition_point(|pack| pack.number < mount.base);
            let to = group.partition_point(|pack| pack.number < end);
            let Some(here) = group.get_mut(from..to).filter(|here| !here.is_empty()) else {
                continue;
            };
            let numbers: Vec<u32> = here.iter().map(|pack| pack.number - mount.base).collect();
            let (first, last) = (numbers.first().copied(), numbers.last().copied());
            let wanted = |pack| {
                Some(pack) >= first && Some(pack) <= last && numbers.binary_search(&pack).is_ok()
            };
            let mut lines = mount.table.lines_in_order();
            while let Some((id, place)) = lines.next(wanted)? {
                let at = numbers.binary_search(&place.pack).unwrap_or(usize::MAX);
                if let Some(pack) = here.get_mut(at) {
                    pack.lines.push((id, Place { pack: pack.number, ..place }));
                }
            }
        }
        for pack in group {
            pack.lines.sort_unstable_by_key(|(_, place)| place.ordinal);
        }
        Ok(())
    }

    /// About how many bytes of memory it takes.
    pub fn memory_used(&self) -> usize {
        let mounts = |mounts: &[Mount]| -> usize {
            mounts.iter().map(|m| m.table.memory_used() + m.states.len()).sum()
        };
        let own = self.own();
        self.store.memory_used() + mounts(&self.loaded) + mounts(&own.settled) + own.memory_used()
    }
}
