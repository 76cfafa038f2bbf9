//! `dup`: regular files with the same content, told by what they refer to: no content is read.
//! The trees are gone through twice, so that memory is taken for 16 bytes a file and then for what
//! there is more than one of.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::monitor::{Interrupt, Monitor, NoMonitor, Progress};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::compare_paths;
use crate::tree::distinct::{Tree, Walk, read_distinct};
use crate::tree::read::PathEntry;
use crate::tree::same::ContentId;
use crate::tree::view::{absolute, normalize, part_of, root_id};
use crate::{Error, Result};

/// Where to look.
#[derive(Debug, Clone)]
pub struct DupOptions {
    /// Only at and below this absolute path.
    pub below: Option<Vec<u8>>,
    /// Only files of at least this many bytes. Empty files are all alike; 1 leaves them out.
    pub at_least: u64,
    /// Threads that read; 0 for as many as serve.
    pub threads: usize,
}

impl Default for DupOptions {
    fn default() -> Self {
        Self { below: None, at_least: 1, threads: 0 }
    }
}

/// Files with the same content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DupGroup {
    /// Bytes of each of them.
    pub size: u64,
    /// Their absolute paths, two or more, in the order of trees.
    pub paths: Vec<Vec<u8>>,
}

impl DupGroup {
    /// Bytes that all but one of them take at the origin (a repository holds them once). Holes
    /// count.
    pub fn wasted(&self) -> u64 {
        self.size.saturating_mul(self.paths.len().saturating_sub(1) as u64)
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct DupReport {
    /// Groups, the one that wastes most first.
    pub groups: Vec<DupGroup>,
    /// Distinct files looked at: paths with different contents. Hard links to a file that was met
    /// already are not among them.
    pub files: u64,
    /// Nodes that are damaged or missing (each is told to the monitor): something may be missed.
    pub unread: u64,
}

impl DupReport {
    /// [`DupGroup::wasted`] of all groups.
    pub fn wasted(&self) -> u64 {
        self.groups.iter().fold(0, |sum, group| sum.saturating_add(group.wasted()))
    }
}

/// Finds files with the same content in `snapshots`. A path that holds the same content in several
/// of them is one file, whatever their hosts.
pub fn dup(
    reader: &BlobReader<'_>,
    snapshots: &[SnapshotInfo],
    options: &DupOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<DupReport> {
    let search = Search::new(reader, snapshots, options, monitor, interrupt)?;
    let pairs = Mutex::new(Vec::new());
    let unread = search.walk(&|file| {
        lock(&pairs).push((short(file.content.as_bytes()), short(&file.path)));
    })?;
    let mut pairs = pairs.into_inner().unwrap_or_else(PoisonError::into_inner);
    // A leaf that was written anew repeats what the one before held.
    pairs.sort_unstable();
    pairs.dedup();
    let files = pairs.len() as u64;
    let repeated: Vec<u64> = pairs
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| same.len() > 1)
        .filter_map(|same| same.first().map(|(content, _)| *content))
        .collect();
    drop(pairs);
    if repeated.is_empty() {
        return Ok(DupReport { groups: Vec::new(), files, unread });
    }
    let found: Mutex<HashMap<ContentId, DupGroup>> = Mutex::default();
    let quiet = Search { monitor: &NoMonitor, ..search };
    quiet.walk(&|file| {
        if repeated.binary_search(&short(file.content.as_bytes())).is_ok() {
            let mut found = lock(&found);
            let group = found.entry(file.content);
            let group = group.or_insert(DupGroup { size: file.size, paths: Vec::new() });
            group.paths.push(file.path);
        }
    })?;
    let mut groups: Vec<DupGroup> =
        found.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    for group in &mut groups {
        group.paths.sort_unstable_by(|a, b| compare_paths(a, b));
        group.paths.dedup();
    }
    // What had only half of its hash in common goes here.
    groups.retain(|group| group.paths.len() > 1);
    groups.sort_by(|a, b| b.wasted().cmp(&a.wasted()).then_with(|| a.paths.cmp(&b.paths)));
    Ok(DupReport { groups, files, unread })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Enough of a hash to tell which files need a closer look.
fn short(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A regular file.
struct File {
    path: Vec<u8>,
    size: u64,
    content: ContentId,
}

struct Search<'a> {
    reader: &'a BlobReader<'a>,
    options: &'a DupOptions,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    trees: Vec<Tree>,
    /// Path of the root of each context, and the part of it that is wanted.
    roots: Vec<Vec<u8>>,
    within: Vec<Vec<u8>>,
}

impl<'a> Search<'a> {
    fn new(
        reader: &'a BlobReader<'a>,
        snapshots: &[SnapshotInfo],
        options: &'a DupOptions,
        monitor: &'a dyn Monitor,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let below = options.below.as_deref().map(normalize);
        let (trees, roots, within) = Default::default();
        let mut search = Self { reader, options, monitor, interrupt, trees, roots, within };
        for root in snapshots.iter().flat_map(|snapshot| &snapshot.record.roots) {
            let Some(within) = part_of(&root.path, below.as_deref()) else { continue };
            let known = search.roots.iter().position(|path| *path == root.path);
            let context = known.unwrap_or_else(|| {
                search.roots.push(root.path.clone());
                search.within.push(within);
                search.roots.len() - 1
            });
            search.trees.push(Tree { root: root_id(root)?, context: context as u32, number: 0 });
        }
        Ok(search)
    }

    /// Calls `each` for the files in every distinct leaf; how many nodes could not be read.
    fn walk(&self, each: &(dyn Fn(File) + Sync)) -> Result<u64> {
        let (seen, unread) = (AtomicU64::new(0), AtomicU64::new(0));
        let root = |context: u32| self.roots.get(context as usize).map_or(&[][..], Vec::as_slice);
        let leaf = |context: u32, entries: Vec<PathEntry>| {
            if self.interrupt.is_raised() {
                return Err(Error::Interrupted);
            }
            let root = root(context);
            let before = seen.fetch_add(entries.len() as u64, Ordering::Relaxed);
            let files = before + entries.len() as u64;
            if before >> 14 != files >> 14 {
                self.monitor.progress(&Progress { files, ..Progress::default() }, root);
            }
            for PathEntry { parent, entry } in entries {
                // Another name of the same file takes no space.
                if !entry.hard_link.is_empty() || entry.metadata.size < self.options.at_least {
                    continue;
                }
                if let Some(content) = ContentId::of(self.reader.repository().keys(), &entry) {
                    let path = absolute(root, &parent, &entry.name);
                    each(File { path, size: entry.metadata.size, content });
                }
            }
            Ok(Vec::new())
        };
        let lost = |context: u32, error: Error| {
            unread.fetch_add(1, Ordering::Relaxed);
            self.monitor.problem(&String::from_utf8_lossy(root(context)), &error.to_string());
        };
        let threads = self.options.threads;
        let walk = Walk { within: &self.within, threads, leaf: &leaf, lost: &lost };
        read_distinct(self.reader, &self.trees, &walk)?;
        Ok(unread.into_inner())
    }
}
