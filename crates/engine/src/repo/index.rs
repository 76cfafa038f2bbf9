//! The index in memory: where every blob lies, sorted by id. Built from the index segments, and
//! added to while a session writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use prost::Message;

use crate::crypto::{BlobKind, ObjectKind};
use crate::format::envelope::HEADER_LEN;
use crate::format::index::{IndexedPack, Segment};
use crate::hash::{BlobId, ObjectId, Sha256};
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::Repository;

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
    /// Number of the pack in [`Index::packs`].
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

#[derive(Debug, Default)]
struct Fresh {
    packs: Vec<PackInfo>,
    blobs: HashMap<BlobId, Place>,
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<PackInfo>,
    blobs: Vec<(BlobId, Place)>,
    fresh: RwLock<Fresh>,
    segments: Vec<ObjectId>,
}

/// Names and sizes of the objects in a folder, names without the folder.
pub(crate) fn listing(repository: &Repository, folder: Folder) -> Result<BTreeMap<String, u64>> {
    let mut objects = BTreeMap::new();
    repository.storage().list(folder, &mut |info| {
        objects.insert(info.name.base().to_owned(), info.size);
    })?;
    Ok(objects)
}

impl Index {
    /// Loads every segment. Lists `index/`, then `packs/`; `condemned` was listed before.
    /// A segment that went between listing and reading was merged into a newer one by a gc: then
    /// everything is listed again.
    pub fn load(repository: &Repository, condemned: &BTreeSet<ObjectId>) -> Result<Self> {
        for _ in 0..2 {
            match Self::load_once(repository, condemned) {
                Err(Error::Storage(e)) if e.is_not_found() => {}
                other => return other,
            }
        }
        Self::load_once(repository, condemned)
    }

    fn load_once(repository: &Repository, condemned: &BTreeSet<ObjectId>) -> Result<Self> {
        let names = listing(repository, Folder::Index)?;
        let packs = listing(repository, Folder::Packs)?;
        let ids: Vec<ObjectId> =
            names.keys().filter_map(|name| ObjectId::from_hex(name).ok()).collect();
        let mut segments = Vec::with_capacity(ids.len());
        for (id, segment) in ids.iter().zip(load_segments(repository, &ids, true)?) {
            segments.push((*id, segment?));
        }
        let present = |pack: &IndexedPack| {
            pack.object_id().is_some_and(|id| {
                packs.get(&id.to_string()) == Some(&pack.size) && !condemned.contains(&id)
            })
        };
        Self::from_segments(segments, present)
    }

    /// As much of the index as can be read, and what is wrong with the rest: for restoring from a
    /// repository with damaged segments. Never for writing or gc, which would take what they do
    /// not see for absent.
    pub fn load_readable(repository: &Repository) -> Result<(Self, Vec<Error>)> {
        let ids: Vec<ObjectId> = listing(repository, Folder::Index)?
            .keys()
            .filter_map(|name| ObjectId::from_hex(name).ok())
            .collect();
        let packs = listing(repository, Folder::Packs)?;
        let (mut segments, mut problems) = (Vec::new(), Vec::new());
        for (id, segment) in ids.iter().zip(load_segments(repository, &ids, true)?) {
            match segment {
                Ok(segment) => segments.push((*id, segment)),
                Err(problem) => problems.push(problem),
            }
        }
        let present = |pack: &IndexedPack| {
            pack.object_id().is_some_and(|id| packs.get(&id.to_string()) == Some(&pack.size))
        };
        Ok((Self::from_segments(segments, present)?, problems))
    }

    /// An index of these segments; `usable` tells which packs count.
    pub fn from_segments(
        segments: Vec<(ObjectId, Segment)>,
        usable: impl Fn(&IndexedPack) -> bool,
    ) -> Result<Self> {
        let mut index = Self::default();
        let superseded: BTreeSet<Vec<u8>> =
            segments.iter().flat_map(|(_, s)| s.supersedes.iter().cloned()).collect();
        let mut known = BTreeSet::new();
        for (id, segment) in segments {
            index.segments.push(id);
            if superseded.contains(&id.as_bytes()[..]) {
                continue;
            }
            for pack in segment.packs {
                // The same pack may stand in several segments.
                if !known.insert(pack.id.clone()) {
                    continue;
                }
                let name = ObjectName::index(id);
                let usable = usable(&pack);
                let (info, lines) =
                    read_pack(&pack, usable).map_err(|what| Error::damaged(&name, what))?;
                let number = index.packs.len() as u32;
                index.packs.push(info);
                index.blobs.extend(
                    lines.into_iter().map(|(id, place)| (id, Place { pack: number, ..place })),
                );
            }
        }
        index.blobs.sort_unstable_by_key(|(id, place)| (*id, place.pack));
        Ok(index)
    }

    /// The usable place of a blob that is whole.
    pub fn find(&self, id: &BlobId) -> Option<Place> {
        self.find_where(id, |pack, place| pack.usable && !place.hollow)
    }

    /// A place of a blob, be its pack present or not: for reading, where trying costs nothing.
    pub fn find_any(&self, id: &BlobId) -> Option<Place> {
        self.find(id)
            .or_else(|| self.find_where(id, |pack, _| pack.usable))
            .or_else(|| self.find_where(id, |_, _| true))
    }

    /// Every place of a blob, those in usable packs first, and of these the whole ones.
    pub fn places(&self, id: &BlobId) -> Vec<Place> {
        let start = self.blobs.partition_point(|(other, _)| other < id);
        let stored = self.blobs.get(start..).unwrap_or_default().iter();
        let mut places: Vec<Place> =
            stored.take_while(|(other, _)| other == id).map(|(_, place)| *place).collect();
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        places.extend(fresh.blobs.get(id));
        drop(fresh);
        places.sort_by_key(|place| {
            let lost = self.packs.get(place.pack as usize).is_some_and(|p| !p.usable);
            (lost, place.hollow)
        });
        places
    }

    fn find_where(&self, id: &BlobId, fits: impl Fn(&PackInfo, &Place) -> bool) -> Option<Place> {
        let start = self.blobs.partition_point(|(other, _)| other < id);
        let stored = self
            .blobs
            .get(start..)
            .unwrap_or_default()
            .iter()
            .take_while(|(other, _)| other == id)
            .map(|(_, place)| *place)
            .find(|place| {
                self.packs.get(place.pack as usize).is_some_and(|pack| fits(pack, place))
            });
        stored.or_else(|| {
            let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
            fresh.blobs.get(id).copied()
        })
    }

    /// The pack of this number.
    pub fn pack(&self, number: u32) -> Option<PackInfo> {
        let number = number as usize;
        if let Some(pack) = self.packs.get(number) {
            return Some(pack.clone());
        }
        let fresh = self.fresh.read().unwrap_or_else(PoisonError::into_inner);
        fresh.packs.get(number - self.packs.len()).cloned()
    }

    /// Adds a pack that was just stored.
    pub(crate) fn add(&self, pack: &IndexedPack) -> Result<()> {
        let (info, lines) =
            read_pack(pack, true).map_err(|what| Error::damaged("new pack", what))?;
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        let number = (self.packs.len() + fresh.packs.len()) as u32;
        fresh.packs.push(info);
        for (id, place) in lines {
            fresh.blobs.insert(id, Place { pack: number, ..place });
        }
        Ok(())
    }

    /// Packs known when the index was loaded.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// Blobs known when the index was loaded, sorted by id; one may stand in several packs.
    pub fn blobs(&self) -> &[(BlobId, Place)] {
        &self.blobs
    }

    /// Segments it was loaded from, superseded ones included.
    pub fn segments(&self) -> &[ObjectId] {
        &self.segments
    }
}

type PackLines = (PackInfo, Vec<(BlobId, Place)>);

fn read_pack(pack: &IndexedPack, usable: bool) -> std::result::Result<PackLines, String> {
    let id = pack.object_id().ok_or("a pack's name is not 32 bytes long")?;
    let header = <[u8; HEADER_LEN]>::try_from(&pack.header[..])
        .map_err(|_| format!("the header of pack {id} has the wrong length"))?;
    let directory = pack.directory.as_ref().ok_or(format!("pack {id} has no directory"))?;
    let lines = directory.lines(pack.size).map_err(|what| format!("pack {id}: {what}"))?;
    let lines = lines.into_iter().map(|line| {
        let place = Place {
            pack: 0,
            ordinal: line.ordinal,
            offset: line.offset,
            sealed: line.sealed,
            plain: line.plain,
            members: line.members,
            hollow: line.hollow,
            kind: line.kind,
        };
        (line.id, place)
    });
    Ok((PackInfo { id, size: pack.size, header, usable }, lines.collect()))
}

/// Reads segments, several at once: each of them, or what is wrong with it. `cached`: through the
/// cache if there is one.
pub(crate) fn load_segments(
    repository: &Repository,
    ids: &[ObjectId],
    cached: bool,
) -> Result<Vec<Result<Segment>>> {
    let threads = repository.storage().concurrency().clamp(1, ids.len().max(1));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let Some(id) = ids.get(i) else { return done };
            done.push((i, load_segment(repository, id, cached)));
        }
    };
    let mut segments = BTreeMap::new();
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for handle in handles {
            segments.extend(handle.join().map_err(|_| Error::Worker("index reader".into()))?);
        }
        Ok::<(), Error>(())
    })?;
    Ok(segments.into_values().collect())
}

fn load_segment(repository: &Repository, id: &ObjectId, cached: bool) -> Result<Segment> {
    let name = ObjectName::index(*id);
    let cached =
        repository.cache().filter(|_| cached).map(|dir| dir.join("index").join(id.to_string()));
    if let Some(path) = &cached
        && let Ok(bytes) = std::fs::read(path)
        && let Ok(message) = open_segment(repository, &name, bytes)
        && let Ok(segment) = Segment::decode(&message[..])
    {
        return Ok(segment);
    }
    let fetch = || -> Result<(Vec<u8>, Vec<u8>)> {
        let bytes = repository.storage().get(&name)?;
        // It would open under any segment's name, so that one could stand in for another, and
        // what the other one lists would be missing without a word.
        if Sha256::of(&bytes) != *id {
            return Err(Error::damaged(&name, "its SHA-256 is not its name"));
        }
        Ok((open_segment(repository, &name, bytes.clone())?, bytes))
    };
    let (message, bytes) = match fetch() {
        Err(Error::Damaged { .. }) => fetch()?,
        other => other?,
    };
    let segment = Segment::decode(&message[..]).map_err(|e| Error::damaged(&name, e))?;
    if let Some(path) = &cached {
        store_in_cache(path, &bytes);
    }
    Ok(segment)
}

fn open_segment(repository: &Repository, name: &ObjectName, bytes: Vec<u8>) -> Result<Vec<u8>> {
    // A segment's name is the hash of its bytes, so the name cannot be part of what is sealed.
    crate::format::envelope::open(
        repository.keys(),
        repository.id(),
        ObjectKind::Index,
        "index",
        bytes,
    )
    .map_err(|e| match e {
        Error::Damaged { what, .. } => Error::damaged(name, what),
        other => other,
    })
}

/// Puts a copy into the cache. Failing to is no problem: the cache is disposable.
pub(crate) fn store_in_cache(path: &std::path::Path, bytes: &[u8]) {
    let Some(parent) = path.parent() else { return };
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let _ = std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
}
