//! `find`: entries by name, size, time, type or content over many snapshots. Each distinct tree
//! node is read once; what is found is attributed to every snapshot that reaches it
//! ([`crate::tree::distinct`]). [`like`] finds out what a local file would be stored as.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::hash::SnapshotId;
use crate::meta::{Kind, Metadata};
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::compare_paths;
use crate::tree::distinct::{Run, Tree, Walk, read_distinct};
use crate::tree::entry::Entry;
use crate::tree::read::PathEntry;
use crate::tree::same::ContentId;
use crate::tree::view::{absolute, normalize, part_of, root_id};
use crate::{Error, Result};

mod like;

pub use like::{LikeError, content_ids};

/// Versions found after which a search stops: each takes memory, some 200 bytes and its path.
pub const MOST_VERSIONS: usize = 1 << 20;

/// Says whether an absolute path is wanted.
pub type PathTest = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What to find: entries that pass all of it.
#[derive(Clone, Default)]
pub struct FindOptions {
    /// Only at and below this absolute path.
    pub below: Option<Vec<u8>>,
    /// Only paths that pass.
    pub path: Option<PathTest>,
    /// Only these types; all if there are none.
    pub kinds: Vec<Kind>,
    /// Only regular files of more bytes than this.
    pub larger: Option<u64>,
    /// Only regular files of fewer bytes than this.
    pub smaller: Option<u64>,
    /// Only what was modified after this time, nanoseconds since the epoch.
    pub newer: Option<i64>,
    /// Only what was modified at this time or before, nanoseconds since the epoch.
    pub older: Option<i64>,
    /// Only regular files with one of these contents.
    pub content: Option<Vec<ContentId>>,
    /// Threads that read; 0 for as many as serve.
    pub threads: usize,
    /// Versions after which to stop with an error; 0 for [`MOST_VERSIONS`].
    pub most: usize,
}

impl fmt::Debug for FindOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FindOptions")
            .field("below", &self.below.as_deref().map(String::from_utf8_lossy))
            .field("path", &self.path.is_some())
            .field("kinds", &self.kinds)
            .field("larger", &self.larger)
            .field("smaller", &self.smaller)
            .field("newer", &self.newer)
            .field("older", &self.older)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl FindOptions {
    /// Whether an entry passes all that can be told without its path.
    fn admits(&self, entry: &Entry, content: Option<ContentId>) -> bool {
        let m = &entry.metadata;
        let is_file = m.kind == Kind::File;
        let time = m.mtime.total_nanos();
        (self.kinds.is_empty() || self.kinds.contains(&m.kind))
            && self.larger.is_none_or(|size| is_file && m.size > size)
            && self.smaller.is_none_or(|size| is_file && m.size < size)
            && self.newer.is_none_or(|newer| time > newer)
            && self.older.is_none_or(|older| time <= older)
            && self.content.as_ref().is_none_or(|ids| content.is_some_and(|id| ids.contains(&id)))
    }
}

/// Snapshots of one origin (host, kind and places), one after the other in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotRun {
    /// The oldest.
    pub first: SnapshotId,
    /// The newest.
    pub last: SnapshotId,
    /// How many there are, these two among them.
    pub count: u64,
}

/// What stood at a path: entries of the same type, size, modification time and content.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundVersion {
    /// What is known of it, as of one of its snapshots.
    pub metadata: Metadata,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// The content of a regular file that could be read.
    pub content: Option<ContentId>,
    /// The snapshots that hold it.
    pub snapshots: Vec<SnapshotRun>,
}

/// A path at which something was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Its versions that pass, the one whose first snapshot is the oldest first.
    pub versions: Vec<FoundVersion>,
}

/// What a search did.
#[derive(Debug, Clone, Default)]
pub struct FindReport {
    /// What was found, in the order of trees.
    pub found: Vec<Found>,
    /// Snapshots that were searched.
    pub snapshots: u64,
    /// Distinct tree nodes that were read.
    pub nodes: u64,
    /// Nodes that are damaged or missing (each is told to the monitor): something may be missed.
    pub unread: u64,
}

/// Searches `snapshots`, oldest first. Directories above their places are not searched.
///
/// # Errors
/// [`Error::Usage`] if more than [`FindOptions::most`] versions are found.
pub fn find(
    reader: &BlobReader<'_>,
    snapshots: &[SnapshotInfo],
    options: &FindOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<FindReport> {
    let below = options.below.as_deref().map(normalize);
    let forest = Forest::new(snapshots, below.as_deref())?;
    let finder = Finder {
        reader,
        options,
        monitor,
        interrupt,
        roots: &forest.roots,
        table: Mutex::default(),
        seen: AtomicU64::new(0),
        unread: AtomicU64::new(0),
    };
    let walk = Walk {
        within: &forest.within,
        threads: options.threads,
        leaf: &|context, entries| finder.leaf(context, entries),
        lost: &|context, error| finder.lost(context, &error),
    };
    let distinct = read_distinct(reader, &forest.trees, &walk)?;
    let nodes = distinct.nodes();
    let unread = finder.unread.into_inner();
    let table = finder.table.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut runs: Vec<Vec<Run>> = Vec::new();
    runs.resize_with(table.versions.len(), Vec::new);
    distinct.attribute(&mut |version, more| {
        if let Some(runs) = runs.get_mut(version as usize) {
            runs.extend_from_slice(more);
        }
    })?;
    reader.healed_notes().iter().for_each(|note| monitor.note(note));
    let found = forest.group(snapshots, table.versions, runs);
    Ok(FindReport { found, snapshots: snapshots.len() as u64, nodes, unread })
}

/// The trees of the snapshots, numbered so that snapshots of one origin are neighbours.
#[derive(Default)]
struct Forest {
    trees: Vec<Tree>,
    /// Path of the root of each context, and the part of it that is wanted.
    roots: Vec<Vec<u8>>,
    within: Vec<Vec<u8>>,
    /// Which snapshot has a number; a number that none has parts origins.
    numbers: Vec<Option<usize>>,
}

impl Forest {
    fn new(snapshots: &[SnapshotInfo], below: Option<&[u8]>) -> Result<Self> {
        let origin = |at: usize| {
            let record = snapshots.get(at).map(|snapshot| &snapshot.record);
            record.map(|r| (&r.host, &r.kind, r.roots.iter().map(|root| &root.path).collect()))
        };
        let mut order: Vec<usize> = (0..snapshots.len()).collect();
        order.sort_by_cached_key(|at| origin(*at).map(|(h, k, r): (_, _, Vec<_>)| (h, k, r)));
        let mut forest = Self::default();
        let mut contexts: HashMap<&[u8], Option<u32>> = HashMap::new();
        let mut last = None;
        for at in order {
            let Some(snapshot) = snapshots.get(at) else { continue };
            let own = origin(at);
            if last.is_some() && last != own {
                forest.numbers.push(None);
            }
            last = own;
            let number = forest.numbers.len() as u32;
            forest.numbers.push(Some(at));
            for root in &snapshot.record.roots {
                let context = *contexts.entry(&root.path).or_insert_with(|| {
                    let within = part_of(&root.path, below)?;
                    forest.roots.push(root.path.clone());
                    forest.within.push(within);
                    Some(forest.roots.len() as u32 - 1)
                });
                if let Some(context) = context {
                    forest.trees.push(Tree { root: root_id(root)?, context, number });
                }
            }
        }
        Ok(forest)
    }

    /// Versions by path, with their snapshots.
    fn group(
        &self,
        snapshots: &[SnapshotInfo],
        versions: Vec<Version>,
        runs: Vec<Vec<Run>>,
    ) -> Vec<Found> {
        let mut all: Vec<_> = versions
            .into_iter()
            .zip(runs)
            .map(|(version, mut runs)| {
                Run::merge(&mut runs);
                // Oldest first: numbers are by origin.
                let oldest = runs.iter().filter_map(|run| self.snapshot(run.first)).min();
                (version, oldest, runs)
            })
            .collect();
        all.sort_by(|(a, first, _), (b, other, _)| {
            compare_paths(&a.path, &b.path).then(first.cmp(other))
        });
        let mut found: Vec<Found> = Vec::new();
        for (version, _, runs) in all {
            let Version { path, metadata, target, content } = version;
            let runs = runs.iter().filter_map(|run| {
                let id = |number| Some(snapshots.get(self.snapshot(number)?)?.id);
                let count = u64::from(run.last - run.first) + 1;
                Some(SnapshotRun { first: id(run.first)?, last: id(run.last)?, count })
            });
            let version = FoundVersion { metadata, target, content, snapshots: runs.collect() };
            match found.last_mut() {
                Some(last) if last.path == path => last.versions.push(version),
                _ => found.push(Found { path, versions: vec![version] }),
            }
        }
        found
    }

    fn snapshot(&self, number: u32) -> Option<usize> {
        self.numbers.get(number as usize).copied().flatten()
    }
}

/// What passed, with its path.
#[derive(Debug)]
struct Version {
    path: Vec<u8>,
    metadata: Metadata,
    target: Vec<u8>,
    content: Option<ContentId>,
}

/// Everything that passed, each version once: the leaves around one that changed are written anew
/// with it.
#[derive(Debug, Default)]
struct Table {
    versions: Vec<Version>,
    numbers: HashMap<[u8; 16], u32>,
}

struct Finder<'a> {
    reader: &'a BlobReader<'a>,
    options: &'a FindOptions,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    roots: &'a [Vec<u8>],
    table: Mutex<Table>,
    seen: AtomicU64,
    unread: AtomicU64,
}

impl Finder<'_> {
    /// The numbers of the versions in a leaf that pass.
    fn leaf(&self, context: u32, entries: Vec<PathEntry>) -> Result<Vec<u32>> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let before = self.seen.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let files = before + entries.len() as u64;
        let root = self.roots.get(context as usize).map_or(&[][..], Vec::as_slice);
        if before >> 14 != files >> 14 {
            self.monitor.progress(&Progress { files, ..Progress::default() }, root);
        }
        let keys = self.reader.repository().keys();
        let mut found = Vec::new();
        for PathEntry { parent, entry } in entries {
            let content = match self.options.content {
                Some(_) => ContentId::of(keys, &entry),
                None => None,
            };
            if !self.options.admits(&entry, content) {
                continue;
            }
            let path = absolute(root, &parent, &entry.name);
            if self.options.path.as_ref().is_some_and(|test| !test(&path)) {
                continue;
            }
            let content = content.or_else(|| ContentId::of(keys, &entry));
            let Entry { metadata, target, .. } = entry;
            found.push(self.number(Version { path, metadata, target, content })?);
        }
        Ok(found)
    }

    fn number(&self, version: Version) -> Result<u32> {
        let Metadata { kind, size, mtime, .. } = version.metadata;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&version.path).update(&[0, kind as u8]);
        hasher.update(&size.to_le_bytes()).update(&mtime.seconds.to_le_bytes());
        hasher.update(&mtime.nanos.to_le_bytes());
        hasher.update(version.content.as_ref().map_or(&[], ContentId::as_bytes));
        hasher.update(&version.target);
        let hash = hasher.finalize();
        let key = hash.as_bytes().first_chunk::<16>().copied().unwrap_or_default();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let next = table.versions.len();
        let number = *table.numbers.entry(key).or_insert(next as u32);
        if number as usize == next {
            let most = if self.options.most > 0 { self.options.most } else { MOST_VERSIONS };
            if next >= most {
                return Err(Error::Usage(format!(
                    "more than {most} versions of files fit; ask for less at once: a name, a path, \
                     fewer snapshots"
                )));
            }
            table.versions.push(version);
        }
        Ok(number)
    }

    fn lost(&self, context: u32, error: &Error) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        let root = self.roots.get(context as usize).map_or(&[][..], Vec::as_slice);
        self.monitor.problem(&String::from_utf8_lossy(root), &error.to_string());
    }
}
