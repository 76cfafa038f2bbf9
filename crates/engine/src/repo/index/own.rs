//! What this run stores. New packs are in a hash table until a segment that lists them is
//! written; many such lines are settled in a table, so that the memory of a first backup does not
//! grow with it. A pack keeps its number.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use crate::format::index::{IndexedPack, Segment};
use crate::hash::{BlobId, ObjectId};
use crate::{Error, Result};

use super::build::{Batch, NotMerged, merge};
use super::listing::State;
use super::load::remove_files;
use super::segment::{ReadPack, ReadSegment};
use super::table::Table;
use super::{Index, Mount, PackInfo, PackLines, Place, mount_of};

/// The packs of this run. Their numbers rise in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The first ones, in tables.
    pub(super) settled: Vec<Mount>,
    /// Number of the first of `packs`.
    first: u32,
    packs: Vec<PackInfo>,
    blobs: HashMap<BlobId, Place>,
    /// Segments that list the first of `packs`, in the same order.
    written: Vec<ReadSegment>,
}

impl Own {
    pub(super) fn starting_at(first: u32) -> Self {
        Self { first, ..Self::default() }
    }

    pub(super) fn visit(
        &self,
        id: &BlobId,
        each: &mut dyn FnMut(Place, State) -> bool,
    ) -> Result<()> {
        for mount in &self.settled {
            if mount.visit(id, each)? {
                return Ok(());
            }
        }
        if let Some(place) = self.blobs.get(id) {
            each(*place, State::Usable);
        }
        Ok(())
    }

    pub(super) fn pack(&self, number: u32) -> Result<Option<PackInfo>> {
        match mount_of(&self.settled, number) {
            Some(mount) => mount.pack(number),
            None => {
                let at = number.checked_sub(self.first);
                Ok(at.and_then(|at| self.packs.get(at as usize)).cloned())
            }
        }
    }

    /// About how many lines a pack has.
    pub(super) fn lines_of(&self, number: u32) -> Result<usize> {
        match mount_of(&self.settled, number) {
            Some(mount) => mount.lines_of(number),
            None => Ok(self.blobs.len() / self.packs.len().max(1)),
        }
    }

    /// The number that the next pack gets.
    pub(super) fn end(&self) -> u32 {
        self.first.saturating_add(self.packs.len() as u32)
    }

    /// Adds the lines of packs that are not settled.
    pub(super) fn fill(&self, group: &mut [PackLines]) {
        let packs = self.written.iter().flat_map(|segment| &segment.packs);
        for (number, pack) in (self.first..).zip(packs) {
            if let Ok(at) = group.binary_search_by_key(&number, |pack| pack.number)
                && let Some(to) = group.get_mut(at)
            {
                let lines = pack.lines.iter().map(|line| (line.id, Place::of(line, number)));
                to.lines.extend(lines);
            }
        }
    }

    /// `table` holds all that was written.
    fn settle(&mut self, table: Arc<Table>) -> Result<()> {
        let written = std::mem::take(&mut self.written).into_iter().flat_map(|s| s.packs);
        let count = table.packs();
        let settled = self.packs.drain(..self.packs.len().min(count as usize));
        if !written.map(|pack| pack.id).eq(settled.map(|pack| pack.id)) {
            return Err(Error::Worker("packs and segments are out of step".into()));
        }
        let states = vec![State::Usable; count as usize].into();
        self.settled.push(Mount { base: self.first, table, states });
        self.first += count;
        self.blobs.retain(|_, place| place.pack >= self.first);
        Ok(())
    }

    pub(super) fn memory_used(&self) -> usize {
        let written: usize =
            self.written.iter().flat_map(|s| &s.packs).map(|p| p.lines.capacity() * 64 + 128).sum();
        self.blobs.capacity() * size_of::<(BlobId, Place, u8)>()
            + self.packs.capacity() * size_of::<PackInfo>()
            + written
    }
}

impl Index {
    pub(super) fn own(&self) -> RwLockReadGuard<'_, Own> {
        self.own.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_mut(&self) -> RwLockWriteGuard<'_, Own> {
        self.own.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pack that was just stored.
    pub(crate) fn add(&self, pack: &IndexedPack) -> Result<()> {
        let pack = ReadPack::new(pack).map_err(|what| Error::damaged("new pack", what))?;
        let mut own = self.own_mut();
        let number = own.end();
        let ReadPack { id, size, header, lines } = pack;
        own.packs.push(PackInfo { id, size, header, usable: true });
        own.blobs.extend(lines.iter().map(|line| (line.id, Place::of(line, number))));
        Ok(())
    }

    /// Takes note that a segment was stored. Its packs are those that were added first of all that
    /// are in no segment yet, in the same order.
    pub(crate) fn segment_written(&self, id: ObjectId, segment: &Segment) -> Result<()> {
        let mut own = self.own_mut();
        own.written.push(ReadSegment::new(id, segment));
        let packs = own.written.iter().flat_map(|segment| &segment.packs);
        if packs.map(|pack| pack.lines.len()).sum::<usize>() < self.store.limits.settled {
            return Ok(());
        }
        let mut batch = Batch::default();
        for segment in &own.written {
            batch.add(segment, true);
        }
        drop(own);
        let table = Arc::new(batch.finish(&self.store)?);
        self.own_mut().settle(table)?;
        self.merge_settled()
    }

    /// Merges the last two tables as long as they are about alike, so that there are few.
    fn merge_settled(&self) -> Result<()> {
        loop {
            let (before, last) = match &self.own().settled[..] {
                [.., before, last] if before.table.lines() <= last.table.lines() => {
                    (before.clone(), last.clone())
                }
                _ => return Ok(()),
            };
            let tables = [before.table, last.table];
            let table = match merge(&self.store, &tables, &|_| true, &|_| true) {
                Ok(table) => Arc::new(table),
                Err(NotMerged::Output) => return Ok(()),
                Err(NotMerged::Input(error)) => return Err(error),
            };
            let states = before.states.iter().chain(&*last.states).copied().collect();
            let mut own = self.own_mut();
            let kept = own.settled.len().saturating_sub(2);
            own.settled.truncate(kept);
            own.settled.push(Mount { base: before.base, table, states });
            drop(own);
            remove_files(&tables);
        }
    }
}
