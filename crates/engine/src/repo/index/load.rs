//! Loading the index: which tables of the cache serve, which segments must be read from the
//! storage, and when tables are merged. The result is always what all present segments say; the
//! cache only saves reading them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use crate::hash::ObjectId;
use crate::repo::Repository;
use crate::storage::Folder;
use crate::{Error, Result};

use super::Index;
use super::build::{Batch, NotMerged, merge};
use super::inventory::Inventory;
use super::listing::{PackListing, states};
use super::segment::{ReadSegment, fetch_message};
use super::store::Store;
use super::table::{SegmentRow, Table};

/// Bytes of segments, as stored, that are read ahead, and for how many each counts at least.
const AHEAD: (u64, u64) = (8 << 20, 64 << 10);

/// Decides what of a segment counts; `None` leaves it out, and the next load reads it again.
type Accept<'a> = &'a mut dyn FnMut(ObjectId, Result<ReadSegment>) -> Result<Option<ReadSegment>>;

impl Index {
    /// Loads the index. Lists `index/`, then `packs/`; `condemned` was listed before.
    /// A segment that went between listing and reading was merged into a newer one by a gc: then
    /// everything is listed again.
    pub fn load(repository: &Repository, condemned: &BTreeSet<ObjectId>) -> Result<Self> {
        Self::load_into(repository, condemned, &|| Store::kept(repository))
    }

    pub(super) fn load_into(
        repository: &Repository,
        condemned: &BTreeSet<ObjectId>,
        store: &dyn Fn() -> Store,
    ) -> Result<Self> {
        again(store, &mut |store| {
            let segments = segments(repository)?;
            let read = || Load::new(repository, store, segments).run_whole();
            // What was listed in `index/` is read while `packs/` is listed.
            let (load, packs) = repository.both(read, || PackListing::of(repository))?;
            Ok(load.mount(&packs, condemned)?.0)
        })
    }

    /// As much of the index as can be read, and what is wrong with the rest: for restoring from a
    /// repository with damaged segments. Never for writing or gc, which would take what they do
    /// not see for absent.
    pub fn load_readable(repository: &Repository) -> Result<(Self, Vec<Error>)> {
        again(&|| Store::kept(repository), &mut |store| {
            let segments = segments(repository)?;
            let mut problems = Vec::new();
            let mut accept = |id, segment: Result<ReadSegment>| match segment {
                Ok(segment) => {
                    let name = crate::storage::ObjectName::index(id);
                    problems.extend(segment.problems.iter().map(|p| Error::damaged(&name, p)));
                    Ok(Some(segment))
                }
                Err(problem) => {
                    problems.push(problem);
                    Ok(None)
                }
            };
            let read = || Load::new(repository, store, segments).run(&mut accept);
            let (load, packs) = repository.both(read, || PackListing::of(repository))?;
            Ok((load.mount(&packs, &BTreeSet::new())?.0, problems))
        })
    }

    /// All that a gc must know of index and packs. Lists `index/`, then `packs/`. A pack counts if
    /// it is present at its size, condemned or not; it is young if it was written after `since`, by
    /// the storage's clock in seconds since the epoch.
    pub(crate) fn inventory(repository: &Repository, since: Option<i64>) -> Result<Inventory> {
        again(&|| Store::kept(repository), &mut |store| {
            let segments = segments(repository)?;
            let read = || Load::new(repository, store, segments).run_whole();
            let list = || {
                let (mut packs, mut young) = (Vec::new(), BTreeSet::new());
                repository.storage().list(Folder::Packs, &mut |info| {
                    if let Ok(id) = ObjectId::from_hex(info.name.base()) {
                        packs.push((id, info.size));
                        if since.is_some_and(|since| info.modified > since) {
                            young.insert(id);
                        }
                    }
                })?;
                Ok((PackListing::new(packs), young))
            };
            let (load, (packs, young)) = repository.both(read, list)?;
            let (segments, superseded) = (load.listed.clone(), load.superseded.clone());
            let (index, orphans) = load.mount(&packs, &BTreeSet::new())?;
            Ok(Inventory { index, segments, superseded, packs, young, orphans })
        })
    }

    /// The index of these segments as the storage has them: what the cache holds is not used.
    /// Also the present packs that no segment which counts names. A pack counts if it is present at its size.
    pub(crate) fn from_storage(
        repository: &Repository,
        segments: Vec<(ObjectId, u64)>,
        packs: &PackListing,
        accept: Accept<'_>,
    ) -> Result<(Self, Vec<(ObjectId, u64)>)> {
        let load = Load::new(repository, Store::scratch(repository), segments);
        load.run(accept)?.mount(packs, &BTreeSet::new())
    }
}

/// Loads through the cache; again if what was listed went, however often gcs do that, unless the same
/// thing is listed and not there three times; and if the cache was damaged.
fn again<T>(store: &dyn Fn() -> Store, once: &mut dyn FnMut(Store) -> Result<T>) -> Result<T> {
    let (mut gone, mut damaged) = (BTreeMap::new(), 0);
    loop {
        // Each damaged file is removed; if there is no end of them, it goes without.
        let store = store();
        match once(if damaged < 3 { store } else { store.in_memory() }) {
            Err(Error::Storage(e)) if e.is_not_found() => {
                let times = gone.entry(e.object.clone()).or_insert(0);
                *times += 1;
                if *times > 2 {
                    return Err(e.into());
                }
            }
            Err(Error::DamagedCache { .. }) if damaged < 3 => damaged += 1,
            other => return other,
        }
    }
}

/// Segments that are there, sorted, with their sizes.
fn segments(repository: &Repository) -> Result<Vec<(ObjectId, u64)>> {
    let mut segments = Vec::new();
    repository.storage().list(Folder::Index, &mut |info| {
        segments.extend(ObjectId::from_hex(info.name.base()).ok().map(|id| (id, info.size)));
    })?;
    segments.sort_unstable();
    Ok(segments)
}

/// A table, and whether it says all that its segments say.
struct Chosen {
    table: Arc<Table>,
    is_whole: bool,
}

/// What is known while loading.
struct Load<'a> {
    repository: &'a Repository,
    store: Store,
    /// Segments that are present, sorted.
    listed: Vec<(ObjectId, u64)>,
    /// Segments that a present one supersedes.
    superseded: BTreeSet<ObjectId>,
    /// Files that were in the folder.
    files: Vec<PathBuf>,
    chosen: Vec<Chosen>,
}

impl<'a> Load<'a> {
    fn new(repository: &'a Repository, store: Store, listed: Vec<(ObjectId, u64)>) -> Self {
        let (superseded, files, chosen) = Default::default();
        Self { repository, store, listed, superseded, files, chosen }
    }

    fn is_listed(&self, id: &ObjectId) -> bool {
        self.listed.binary_search_by_key(id, |(id, _)| *id).is_ok()
    }

    /// Whether what a segment says counts.
    fn is_live(&self, id: &ObjectId) -> bool {
        self.is_listed(id) && !self.superseded.contains(id)
    }

    fn run(mut self, accept: Accept<'_>) -> Result<Self> {
        let known = self.choose();
        let is_wanted = |id: &ObjectId| {
            known.get(id).is_none_or(|lined| !lined && !self.superseded.contains(id))
        };
        let wanted: Vec<_> = self.listed.iter().copied().filter(|(id, _)| is_wanted(id)).collect();
        let read = self.read(&wanted, accept)?;
        self.merge(read)?;
        self.tidy();
        Ok(self)
    }

    /// The same, where every segment that counts must be whole. One that is damaged counts no more
    /// once another one supersedes it: that is how an index is repaired.
    fn run_whole(self) -> Result<Self> {
        let mut damaged = Vec::new();
        let load = self.run(&mut |id, segment| match segment.and_then(ReadSegment::whole) {
            Err(error @ Error::Damaged { .. }) => {
                damaged.push((id, error));
                Ok(None)
            }
            other => other.map(Some),
        })?;
        match damaged.into_iter().find(|(id, _)| !load.superseded.contains(id)) {
            Some((_, error)) => Err(error),
            None => Ok(load),
        }
    }

    /// Takes tables of the cache, the largest first, as long as no two hold the same segment. The
    /// segments that they know, and whether their lines are there.
    fn choose(&mut self) -> HashMap<ObjectId, bool> {
        let mut known: HashMap<ObjectId, bool> = HashMap::new();
        for (path, table) in self.store.tables() {
            self.files.push(path);
            let listed: Vec<SegmentRow> =
                table.segments().iter().copied().filter(|row| self.is_listed(&row.id)).collect();
            let overlaps = |row: &SegmentRow| row.lined && known.get(&row.id) == Some(&true);
            if listed.is_empty() || listed.iter().any(overlaps) {
                continue;
            }
            for row in &listed {
                *known.entry(row.id).or_default() |= row.lined;
            }
            let pairs: Vec<_> = table.supersedes().collect();
            let present = pairs.into_iter().filter(|(by, _)| self.is_listed(by));
            let superseded: Vec<_> = present.map(|(_, id)| id).collect();
            self.superseded.extend(superseded);
            self.chosen.push(Chosen { table, is_whole: true });
        }
        known
    }

    /// Reads segments from the storage: tables of them.
    fn read(&mut self, wanted: &[(ObjectId, u64)], accept: Accept<'_>) -> Result<Vec<Arc<Table>>> {
        let (mut batch, mut read) = (Batch::default(), Vec::new());
        let mut partial = Batch::default();
        let repository = self.repository;
        // They are taken apart by one thread: each of many would keep memory of its own.
        let fetch = |id: &ObjectId| Ok(fetch_message(repository, *id));
        repository.each_in_order(wanted, AHEAD, fetch, |id, message| {
            let segment = message.and_then(|message| ReadSegment::parse(*id, &message));
            let Some(segment) = accept(*id, segment)? else { return Ok(()) };
            self.superseded.extend(segment.supersedes.iter().copied());
            let lined = !self.superseded.contains(id);
            match segment.problems.is_empty() {
                true => batch.add(&segment, lined),
                false => partial.add(&segment, lined),
            }
            if batch.lines() >= self.store.limits.batch {
                read.push(Arc::new(std::mem::take(&mut batch).finish(&self.store)?));
            }
            if read.len() >= self.store.limits.waiting {
                read = self.merge_into_one(std::mem::take(&mut read))?;
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            read.push(Arc::new(batch.finish(&self.store)?));
        }
        if !partial.is_empty() {
            // A file would make the next command think that it knows these segments.
            let table = Arc::new(partial.finish(&self.store.in_memory())?);
            self.chosen.push(Chosen { table, is_whole: false });
        }
        Ok(read)
    }

    /// Merges tables, if that can be done; the old ones' files go.
    fn merge_into_one(&self, tables: Vec<Arc<Table>>) -> Result<Vec<Arc<Table>>> {
        let merged = merge(&self.store, &tables, &|id| self.is_live(id), &|id| self.is_listed(id));
        match merged {
            Ok(table) => {
                remove_files(&tables);
                Ok(vec![Arc::new(table)])
            }
            Err(NotMerged::Output) => Ok(tables),
            Err(NotMerged::Input(error)) => Err(error),
        }
    }

    fn live_lines(&self, table: &Table) -> u64 {
        let live = table.segments().iter().filter(|row| row.lined && self.is_live(&row.id));
        live.map(|row| row.lines).sum()
    }

    /// Merges what was read with the tables that are not much larger, and rewrites tables that
    /// are half dead. So there are few tables, and no line is written often.
    fn merge(&mut self, read: Vec<Arc<Table>>) -> Result<()> {
        let (mut inputs, mut kept) = (Vec::new(), Vec::new());
        let has_new = !read.is_empty();
        let mut total: u64 = read.iter().map(|table| table.lines()).sum();
        let mut rewrite = read.len() > 1;
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.sort_by_key(|chosen| chosen.table.lines());
        for one in chosen {
            let (all, live) = (one.table.lines(), self.live_lines(&one.table));
            let is_near =
                has_new && (all <= total.saturating_mul(2) || all <= self.store.limits.small);
            if !one.is_whole {
                kept.push(one);
            } else if is_near || live < all / 2 {
                total += live;
                rewrite = true;
                inputs.push(one.table);
            } else {
                kept.push(one);
            }
        }
        // Larger and older tables are asked first.
        inputs.reverse();
        inputs.extend(read);
        if rewrite {
            inputs = self.merge_into_one(inputs)?;
        }
        kept.extend(inputs.into_iter().map(|table| Chosen { table, is_whole: true }));
        kept.sort_by_key(|chosen| std::cmp::Reverse(chosen.table.lines()));
        self.chosen = kept;
        Ok(())
    }

    /// Removes the files that are not needed, if the next command will find all it needs.
    fn tidy(&self) {
        let in_use: BTreeSet<_> =
            self.chosen.iter().filter_map(|chosen| chosen.table.backing().path()).collect();
        if !self.store.is_kept() || self.chosen.iter().any(|c| !c.table.backing().is_file()) {
            return;
        }
        for path in self.files.iter().filter(|path| !in_use.contains(path.as_path())) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Makes the index of the chosen tables. Also the present packs that are in none.
    fn mount(
        self,
        packs: &PackListing,
        condemned: &BTreeSet<ObjectId>,
    ) -> Result<(Index, Vec<(ObjectId, u64)>)> {
        let tables: Vec<_> = self.chosen.iter().map(|chosen| chosen.table.clone()).collect();
        let found = states(&tables, &|id| self.is_live(id), packs, condemned)?;
        Ok((Index::new(self.store, tables, found.states, found.counts)?, found.orphans))
    }
}

pub(super) fn remove_files(tables: &[Arc<Table>]) {
    for path in tables.iter().filter_map(|table| table.backing().path()) {
        let _ = std::fs::remove_file(path);
    }
}
