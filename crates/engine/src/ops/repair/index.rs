//! `repair index`: reads the directories of packs that no index segment lists and writes segments
//! of them. A segment that is damaged is superseded by the last of these: else no backup could
//! load the index. Order of calls: lease; LIST `index/`, LIST `packs/`, so that every pack that a
//! listed segment can name is listed; segments; end.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use prost::Message;

use crate::format::index::{IndexedPack, Segment};
use crate::hash::ObjectId;
use crate::monitor::{Interrupt, Monitor, Phase, Progress};
use crate::repo::index::listing::PackListing;
use crate::repo::index::segment::ReadSegment;
use crate::repo::session::Writer;
use crate::repo::writer::put_segment;
use crate::repo::{Index, Repository};
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::super::check::fault_text;
use super::check_features;

/// Bytes of a segment above which another one is begun.
const FULL: usize = 16 << 20;

/// How often the index is listed again because a gc merged away what was listed.
const TRIES: usize = 3;

/// How to repair the index.
#[derive(Debug, Clone, Default)]
pub struct RepairIndexOptions {
    /// Who repairs, for the lease.
    pub writer: Writer,
    /// Read the directories of all packs, and believe no segment. The old segments stay in force
    /// unless every pack could be read.
    pub all: bool,
    /// Threads; 0 means as many as the storage makes worthwhile.
    pub threads: usize,
}

/// What a repair of the index did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairIndexReport {
    /// Packs present.
    pub packs: u64,
    /// Packs that were read and listed.
    pub listed: u64,
    /// Blobs in them.
    pub blobs: u64,
    /// Segments written.
    pub segments: u64,
    /// Segments that count no more: damaged ones, with [`all`](RepairIndexOptions::all) all.
    pub superseded: Vec<ObjectId>,
    /// Packs whose directory cannot be read, and why.
    pub unreadable: Vec<(ObjectId, String)>,
}

/// What is being gathered.
#[derive(Default)]
struct Gathered {
    packs: Vec<IndexedPack>,
    bytes: usize,
    report: RepairIndexReport,
}

/// Lists the packs that the index lacks.
pub fn index(
    repository: &Repository,
    options: &RepairIndexOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RepairIndexReport> {
    check_features(repository)?;
    monitor.phase(Phase::Repairing);
    let id = repository.put_lease(&options.writer)?;
    let result = in_session(repository, options, monitor, interrupt);
    let reason = if result.is_ok() { "index repaired" } else { "failed" };
    // A lease that stays open costs the next gc a little time and nothing else.
    let _ = repository.put_mark(&ObjectName::session_end(id), reason);
    result
}

fn in_session(
    repository: &Repository,
    options: &RepairIndexOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RepairIndexReport> {
    let lack = what_is_lacking(repository, options.all)?;
    let gathered = Mutex::new(Gathered::default());
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            if interrupt.is_raised() {
                return Err(Error::Interrupted);
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((id, size)) = lack.packs.get(number) else { return Ok(()) };
            let read = repository.read_directory(*id, *size);
            let full = add(&gathered, *id, read)?;
            if !full.is_empty() {
                put(repository, &gathered, full, &[])?;
            }
            monitor.progress(&Progress { files: number as u64, ..Progress::default() }, b"");
        }
    };
    let useful = match options.threads {
        0 => repository.storage().concurrency(),
        threads => threads,
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..useful.clamp(1, 16)).map(|_| scope.spawn(work)).collect();
        let died = |_| Error::Worker("a reader of packs".into());
        handles.into_iter().try_for_each(|handle| handle.join().map_err(died)?)
    })?;
    let mut rest = {
        let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut gathered.packs)
    };
    let supersedes = match options.all && is_incomplete(&gathered) {
        true => Vec::new(),
        false => lack.replaced,
    };
    rest.sort_by(|a, b| a.id.cmp(&b.id));
    if !rest.is_empty() || !supersedes.is_empty() {
        put(repository, &gathered, rest, &supersedes)?;
    }
    let mut report = gathered.into_inner().unwrap_or_else(PoisonError::into_inner).report;
    report.packs = lack.present;
    report.superseded = supersedes;
    report.unreadable.sort();
    for (id, what) in &report.unreadable {
        monitor.problem(ObjectName::pack(*id).as_str(), what);
    }
    Ok(report)
}

/// What the index lacks.
struct Lack {
    /// Packs that are present.
    present: u64,
    /// Those to be listed.
    packs: Vec<(ObjectId, u64)>,
    /// Segments to be superseded.
    replaced: Vec<ObjectId>,
}

fn what_is_lacking(repository: &Repository, all: bool) -> Result<Lack> {
    let mut tries = 1;
    loop {
        let mut segments = Vec::new();
        repository.storage().list(Folder::Index, &mut |info| {
            segments.extend(ObjectId::from_hex(info.name.base()).ok().map(|id| (id, info.size)));
        })?;
        segments.sort_unstable();
        let packs = PackListing::of(repository)?;
        let (mut replaced, mut gone, mut superseded) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut accept = |id, segment: Result<ReadSegment>| match segment {
            Ok(segment) => {
                superseded.extend(segment.supersedes.iter().copied());
                let is_sound = segment.problems.is_empty()
                    && segment.packs.iter().all(|pack| pack.check(repository).is_ok());
                if is_sound && !all {
                    return Ok(Some(segment));
                }
                replaced.push(id);
                Ok(None)
            }
            Err(Error::Storage(e)) if e.is_not_found() => {
                gone.push(id);
                Ok(None)
            }
            // What cannot be read now may be read later: only what was read and is wrong counts.
            Err(Error::Damaged { .. }) => {
                replaced.push(id);
                Ok(None)
            }
            Err(error) => Err(error),
        };
        let (_, orphans) = Index::from_storage(repository, segments, &packs, &mut accept)?;
        if gone.iter().any(|id| !superseded.contains(id)) && tries < TRIES {
            tries += 1;
            continue;
        }
        replaced.retain(|id| all || !superseded.contains(id));
        return Ok(Lack { present: packs.len() as u64, packs: orphans, replaced });
    }
}

/// Takes what was read of a pack; what is enough for a segment.
fn add(
    gathered: &Mutex<Gathered>,
    id: ObjectId,
    read: Result<IndexedPack>,
) -> Result<Vec<IndexedPack>> {
    let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
    match read {
        Ok(pack) => {
            gathered.bytes += pack.encoded_len();
            gathered.packs.push(pack);
        }
        // A gc deleted it since the listing.
        Err(Error::Storage(e)) if e.is_not_found() => {}
        Err(error) => gathered.report.unreadable.push((id, fault_text(error)?)),
    }
    if gathered.bytes < FULL {
        return Ok(Vec::new());
    }
    gathered.bytes = 0;
    Ok(std::mem::take(&mut gathered.packs))
}

fn is_incomplete(gathered: &Mutex<Gathered>) -> bool {
    !gathered.lock().unwrap_or_else(PoisonError::into_inner).report.unreadable.is_empty()
}

fn put(
    repository: &Repository,
    gathered: &Mutex<Gathered>,
    packs: Vec<IndexedPack>,
    supersedes: &[ObjectId],
) -> Result<()> {
    let supersedes = supersedes.iter().map(|id| id.as_bytes().to_vec()).collect();
    let segment = Segment { supersedes, packs };
    put_segment(repository, &segment)?;
    let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
    let directories = segment.packs.iter().filter_map(|pack| pack.directory.as_ref());
    gathered.report.blobs += directories.map(|directory| directory.len() as u64).sum::<u64>();
    gathered.report.listed += segment.packs.len() as u64;
    gathered.report.segments += 1;
    Ok(())
}
