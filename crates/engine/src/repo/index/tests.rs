//! The index against a model: whatever segments, packs and cache there are, it says what the
//! segments that count say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use prost::Message;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::listing::PackListing;
use super::store::{Limits, Store};
use super::*;
use crate::crypto::ObjectKind;
use crate::format::envelope;
use crate::format::index::IndexedPack;
use crate::format::pack::Directory;
use crate::hash::Sha256;
use crate::repo::open::{CreateOptions, OpenOptions, create, open};
use crate::repo::{Repository, random};
use crate::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};

mod ahead;
mod cache;
mod own;
mod table;

/// Objects in memory. Packs are only listed.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) stored: BTreeMap<String, Vec<u8>>,
    pub(super) packs: BTreeMap<ObjectId, u64>,
    /// Segments that were read.
    pub(super) fetched: usize,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Memory(Arc<Mutex<Objects>>);

impl Memory {
    pub(super) fn lock(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().expect("lock")
    }
}

impl Storage for Memory {
    fn location(&self) -> String {
        "memory".into()
    }
    fn prepare(&self) -> StorageResult<()> {
        Ok(())
    }
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.lock().stored.insert(name.to_string(), bytes.to_vec());
        Ok(())
    }
    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        Err(StorageError::new(StorageErrorKind::Unsupported, "write", "pack"))
    }
    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let mut objects = self.lock();
        objects.fetched += usize::from(name.as_str().starts_with("index/"));
        let found = objects.stored.get(name.as_str()).cloned();
        found.ok_or_else(|| StorageError::new(StorageErrorKind::NotFound, "read", name.as_str()))
    }
    fn get_range(&self, _: &ObjectName, _: u64, _: usize, _: &mut Vec<u8>) -> StorageResult<()> {
        Err(StorageError::new(StorageErrorKind::Unsupported, "read", "pack"))
    }
    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let objects = self.lock();
        let in_folder = |name: &&String| name.starts_with(&format!("{}/", folder.name()));
        let stored = objects.stored.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64));
        let packs = objects.packs.iter();
        let packs = packs.map(|(id, size)| (ObjectName::pack(*id).to_string(), *size));
        for (name, size) in stored.chain(packs).filter(|(name, _)| in_folder(&name)) {
            let name = ObjectName::parse(&name).expect("name");
            each(ObjectInfo { name, size, modified: 0 });
        }
        Ok(())
    }
    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        Err(StorageError::new(StorageErrorKind::NotFound, "stat", name.as_str()))
    }
    fn delete(&self, _: &ObjectName) -> StorageResult<()> {
        Ok(())
    }
    fn concurrency(&self) -> usize {
        6
    }
}

/// A line as the model has it: pack, size of the pack, whether that is usable, place.
type ModelLine = (ObjectId, bool, Place);

/// A repository with a cache, and what its segments say.
pub(super) struct World {
    pub(super) memory: Memory,
    pub(super) cache: tempfile::TempDir,
    pub(super) repository: Repository,
    pub(super) limits: Limits,
    segments: BTreeMap<ObjectId, Segment>,
    condemned: BTreeSet<ObjectId>,
    made: u64,
}

pub(super) fn blob(number: u64) -> BlobId {
    BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// A pack of these blobs; its name follows from `salt`.
pub(super) fn pack(salt: u64, blobs: &[u64], hollow: bool) -> IndexedPack {
    let mut directory = Directory::default();
    for (ordinal, number) in (0..).zip(blobs) {
        let kind = BlobKind::ALL[*number as usize % 6];
        let members = if kind == BlobKind::Bundle { 7 } else { 0 };
        directory.push(&blob(*number), kind, 20 + *number as u32 % 50, 99, members);
        if hollow && kind == BlobKind::Bundle {
            directory.hollow.push(ordinal);
        }
    }
    let id = blake3::hash(&salt.to_be_bytes()).as_bytes().to_vec();
    let size = 80 + directory.sealed.iter().map(|n| u64::from(*n)).sum::<u64>() + salt % 9;
    let header = vec![salt as u8; HEADER_LEN];
    IndexedPack { id, size, header, directory: Some(directory) }
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let (memory, cache) = (Memory::default(), tempfile::tempdir().expect("folder"));
        let options =
            CreateOptions { cache: Some(cache.path().into()), ..CreateOptions::default() };
        let repository = create(Arc::new(memory.clone()), options).expect("create");
        let (segments, condemned) = Default::default();
        Self { memory, cache, repository, limits, segments, condemned, made: 0 }
    }

    /// The same repository as another process has it.
    pub(super) fn opened(&self, cache: Option<PathBuf>) -> Repository {
        let options = OpenOptions { cache, ..OpenOptions::default() };
        open(Arc::new(self.memory.clone()), options).expect("open")
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.repository.cache().expect("cache").join("index")
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder()).into_iter().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        files.sort();
        files
    }

    /// Stores a segment; all its packs are present.
    pub(super) fn add(&mut self, packs: Vec<IndexedPack>, supersedes: &[ObjectId]) -> ObjectId {
        for pack in &packs {
            self.memory.lock().packs.insert(pack.object_id().expect("id"), pack.size);
        }
        let supersedes = supersedes.iter().map(|id| id.as_bytes().to_vec()).collect();
        let segment = Segment { supersedes, packs };
        let id = self.plant(&segment.encode_to_vec());
        self.segments.insert(id, segment);
        id
    }

    /// Stores any message as a segment.
    pub(super) fn plant(&self, message: &[u8]) -> ObjectId {
        let (keys, id) = (self.repository.keys(), self.repository.id());
        let salt = random::<32>().expect("random");
        let sealed = envelope::seal(keys, id, ObjectKind::Index, &salt, "index", message);
        let sealed = sealed.expect("seal");
        let id = Sha256::of(&sealed);
        self.memory.lock().stored.insert(ObjectName::index(id).to_string(), sealed);
        id
    }

    fn remove(&mut self, id: &ObjectId) {
        self.segments.remove(id);
        self.memory.lock().stored.remove(ObjectName::index(*id).as_str());
    }

    pub(super) fn store(&self) -> Store {
        let mut store = Store::kept(&self.repository);
        store.limits = self.limits;
        store
    }

    pub(super) fn load(&self) -> Result<Index> {
        Index::load_into(&self.repository, &self.condemned, &|| self.store())
    }

    /// Segments read by a load.
    pub(super) fn fetches(&self) -> usize {
        self.memory.lock().fetched = 0;
        self.load().expect("load");
        self.memory.lock().fetched
    }

    /// Segments that count.
    fn live(&self) -> Vec<ObjectId> {
        let superseded: BTreeSet<_> =
            self.segments.values().flat_map(|s| s.supersedes.iter().cloned()).collect();
        let live = |id: &&ObjectId| !superseded.contains(&id.as_bytes()[..]);
        self.segments.keys().filter(live).copied().collect()
    }

    /// What all segments say.
    fn model(&self) -> BTreeMap<BlobId, Vec<ModelLine>> {
        let (mut lines, mut seen) = (BTreeMap::<_, Vec<_>>::new(), BTreeSet::new());
        for segment in self.live().iter().map(|id| &self.segments[id]) {
            for pack in &segment.packs {
                let id = pack.object_id().expect("id");
                let present = self.memory.lock().packs.get(&id) == Some(&pack.size);
                let usable = present && !self.condemned.contains(&id);
                if seen.insert(id) {
                    let directory = pack.directory.as_ref().expect("directory");
                    for line in directory.lines(pack.size).expect("lines") {
                        let line = (line.id, (id, usable, Place::of(&line, 0)));
                        lines.entry(line.0).or_default().push(line.1);
                    }
                }
            }
        }
        lines
    }

    /// Compares an index with the model, looking up `universe` blobs.
    pub(super) fn compare(&self, index: &Index, universe: u64) {
        let model = self.model();
        let info = |number| index.pack(number).expect("pack").expect("pack");
        let told = |place: Place| {
            let pack = info(place.pack);
            assert_eq!(index.is_usable(place.pack), pack.usable);
            (pack.id, pack.usable, Place { pack: 0, ..place })
        };
        let key = |line: &ModelLine| (line.0, line.2.ordinal);
        for number in 0..universe {
            let id = blob(number);
            let mut expected = model.get(&id).cloned().unwrap_or_default();
            expected.sort_by_key(key);
            let places = index.places(&id).expect("places");
            let ranks: Vec<_> = places.iter().map(|p| (!info(p.pack).usable, p.hollow)).collect();
            assert!(ranks.is_sorted(), "the best ones come first");
            let mut found: Vec<_> = places.iter().map(|place| told(*place)).collect();
            found.sort_by_key(key);
            assert_eq!(found, expected, "blob {number}");
            let good = |line: &ModelLine| line.1 && !line.2.hollow;
            let find = index.find(&id).expect("find").map(told);
            assert_eq!(find.is_some(), expected.iter().any(good), "blob {number}");
            assert!(find.is_none_or(|line| good(&line) && expected.contains(&line)));
            let any = index.find_any(&id).expect("find").map(|p| (!info(p.pack).usable, p.hollow));
            assert_eq!(any, ranks.first().copied());
        }
        let mut all = Vec::new();
        index
            .each_blob(&mut |id, place| {
                all.push((id, told(place)));
                Ok(())
            })
            .expect("blobs");
        assert!(all.is_sorted_by_key(|(id, _)| *id));
        let lines: usize = model.values().map(Vec::len).sum();
        assert_eq!((all.len(), index.blob_count() as usize), (lines, lines));
        let mut packs = BTreeMap::new();
        let mut add = |number, id, _| {
            assert!(packs.insert(number, id).is_none());
            Ok(())
        };
        index.each_pack(&mut add).expect("packs");
        assert_eq!(packs.len() as u64, index.pack_count());
        let wanted: Vec<u32> = packs.keys().copied().filter(|number| number % 3 != 1).collect();
        let mut seen = Vec::new();
        index
            .packs_with_lines(&wanted, 25, &mut |group| {
                for one in group {
                    let here = model.iter().flat_map(|(id, lines)| {
                        let here = lines.iter().filter(|line| line.0 == one.pack.id);
                        here.map(|line| (*id, Place { pack: one.number, ..line.2 }))
                    });
                    let mut here: Vec<_> = here.collect();
                    here.sort_by_key(|(_, place)| place.ordinal);
                    assert_eq!(one.lines, here);
                    seen.push(one.number);
                }
                Ok(())
            })
            .expect("lines");
        assert_eq!(seen, wanted);
    }

    /// Does something at random to what is stored.
    fn change(&mut self, rng: &mut StdRng, universe: u64) {
        let live = self.live();
        self.made += 1;
        match rng.random_range(0..12) {
            0 if live.len() > 1 => {
                let old: Vec<_> = live.choose_multiple(rng, 3).copied().collect();
                let packs = old.iter().flat_map(|id| self.segments[id].packs.clone());
                let packs = packs.filter(|_| rng.random_bool(0.8)).collect();
                self.add(packs, &old);
            }
            1 | 2 => {
                let dead: Vec<_> =
                    self.segments.keys().filter(|id| !live.contains(id)).copied().collect();
                for id in dead.choose_multiple(rng, 2) {
                    self.remove(id);
                }
            }
            3 => {
                // Even one that still counts.
                let all: Vec<_> = self.segments.keys().copied().collect();
                all.choose(rng).inspect(|id| self.remove(id));
            }
            4 => {
                let packs: Vec<_> = self.memory.lock().packs.keys().copied().collect();
                for id in packs.choose_multiple(rng, 2) {
                    match rng.random_range(0..3) {
                        0 => drop(self.memory.lock().packs.remove(id)),
                        1 => drop(self.memory.lock().packs.insert(*id, 5)),
                        _ => drop(self.condemned.insert(*id)),
                    }
                }
            }
            5 => self.condemned.clear(),
            6 if !live.is_empty() => {
                // A pack that another segment names too.
                let of = live.choose(rng).map(|id| self.segments[id].packs.clone());
                self.add(of.unwrap_or_default(), &[]);
            }
            _ => {
                let packs = (0..rng.random_range(0..4)).map(|n| {
                    let count = rng.random_range(1..12);
                    let blobs: BTreeSet<_> =
                        (0..count).map(|_| rng.random_range(0..universe)).collect();
                    let blobs: Vec<_> = blobs.into_iter().collect();
                    pack(self.made * 10 + n, &blobs, rng.random_bool(0.3))
                });
                let packs = packs.collect();
                self.add(packs, &[]);
            }
        }
    }

    /// Does something at random to the cache.
    fn disturb(&self, rng: &mut StdRng) {
        let files = self.files();
        let Some(file) = files.choose(rng) else { return };
        match rng.random_range(0..4) {
            0 => std::fs::remove_file(file).expect("remove"),
            1 => std::fs::remove_dir_all(self.folder()).expect("remove"),
            2 => {
                let mut bytes = std::fs::read(file).expect("read");
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= 1;
                std::fs::write(file, bytes).expect("write");
            }
            _ => {
                let bytes = std::fs::read(file).expect("read");
                let keep = rng.random_range(0..bytes.len());
                std::fs::write(file, &bytes[..keep]).expect("write");
            }
        }
    }
}

#[test]
fn it_says_what_the_segments_say_through_all_changes() {
    let universe = 150;
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let limits = Limits {
            batch: rng.random_range(1..200),
            waiting: rng.random_range(2..5),
            small: rng.random_range(0..30),
            settled: 10,
        };
        let mut world = World::new(limits);
        for _ in 0..40 {
            for _ in 0..rng.random_range(0..5) {
                world.change(&mut rng, universe);
            }
            let index = world.load().expect("load");
            world.compare(&index, universe);
            assert_eq!(world.fetches(), 0, "all is in the cache (seed {seed})");
            if rng.random_bool(0.2) {
                world.disturb(&mut rng);
                // It may have been a line that only a lookup reads.
                let index = world.load().expect("load");
                let all = index.each_blob(&mut |_, _| Ok(()));
                let packs = (0..index.end()).map(|number| index.pack(number).map(drop));
                for error in packs.chain([all]).filter_map(Result::err) {
                    assert!(matches!(error, Error::DamagedCache { removed: true, .. }));
                }
            }
        }
    }
}

#[test]
fn from_storage_and_without_a_cache_it_says_the_same() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut world = World::new(Limits::default());
    for _ in 0..150 {
        world.change(&mut rng, 100);
    }
    world.condemned.clear();
    let without = world.opened(None);
    world.compare(&Index::load(&without, &BTreeSet::new()).expect("load"), 100);
    let listed: Vec<_> = world.segments.keys().map(|id| (*id, 1000)).collect();
    let packs = PackListing::of(&world.repository).expect("list");
    let live = world.live();
    let mut accept = |_, segment: Result<ReadSegment>| segment.map(Some);
    let (index, orphans) =
        Index::from_storage(&world.repository, listed, &packs, &mut accept).expect("load");
    world.compare(&index, 100);
    let named: BTreeSet<_> = live
        .iter()
        .flat_map(|id| world.segments[id].packs.iter().filter_map(IndexedPack::object_id))
        .collect();
    let present = world.memory.lock().packs.clone();
    let expected: Vec<_> = present.into_iter().filter(|(id, _)| !named.contains(id)).collect();
    assert_eq!(orphans, expected);
    assert!(world.files().is_empty(), "a check leaves nothing in the cache");
    let all: Vec<_> = world.segments.iter().map(|(id, s)| (*id, s.clone())).collect();
    let present = world.memory.lock().packs.clone().into_iter().collect();
    world.compare(&Index::from_segments(&all, present).expect("index"), 100);
}
