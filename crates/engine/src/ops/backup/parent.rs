//! What a backup is compared with: choosing parent snapshots, and running along their trees.
//!
//! A root can have several parents. An interrupted run covers only the start of the tree, so the
//! complete snapshot before it stands behind it. What a run that came to its end has left on its way
//! is no parent: all of it is in the complete one. Where this host has no snapshot of a root yet,
//! another host's serves for content alone: its times and inodes mean nothing here, but a file
//! that reads the same keeps its reference.

use std::cmp::{Ordering, Reverse};
use std::collections::HashSet;

use crossbeam_channel::{Receiver, bounded};

use crate::format::snapshot::Root;
use crate::hash::{BlobId, SnapshotId};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::{PathEntry, TreeReader, compare_keys};
use crate::{Error, Result};

use super::known::OtherTree;
use super::{BackupOptions, Parent};

/// Interrupted runs whose trees a root is compared with, at most.
const PARTIALS: usize = 2;

/// Trees that are looked into for files of equal content, at most.
const TREES: usize = 16;

/// When the content of a file in a parent's tree is taken for that of the file of the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Never: it is read, and compared.
    None,
    /// If the metadata is equal: the same host's.
    Metadata,
    /// If both were the same to the repository that the files are copied from.
    Recorded,
    /// Always: what an earlier run copied of the same snapshot.
    Always,
}

/// A tree to compare with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParentTree {
    pub(crate) root: BlobId,
    pub(crate) trust: Trust,
    /// When the run began that made it, nanoseconds since the epoch.
    pub(crate) time: i64,
}

/// The snapshot that counts as the parent of the run, oldest snapshots first in `snapshots`.
pub(super) fn choose(snapshots: &[SnapshotInfo], options: &BackupOptions) -> Option<SnapshotId> {
    match options.parent {
        Parent::None => None,
        Parent::Snapshot(id) => Some(id),
        Parent::Automatic => {
            let ours = || snapshots.iter().rev().filter(|s| same_places(s, options));
            let complete = ours().find(|s| !s.record.partial);
            let partials = ours().filter(|s| is_newer_partial(s, complete));
            partials.max_by_key(|s| progress(s)).or(complete).map(|s| s.id)
        }
    }
}

/// Whether an interrupted run left it that began after `complete` had. What a run leaves on its way
/// carries its time.
fn is_newer_partial(snapshot: &SnapshotInfo, complete: Option<&SnapshotInfo>) -> bool {
    let record = &snapshot.record;
    record.partial && complete.is_none_or(|complete| record.time > complete.record.time)
}

/// Of which run a partial snapshot is, and how far that had come.
fn progress(snapshot: &SnapshotInfo) -> (i64, u64) {
    (snapshot.record.time, snapshot.record.sum().entries())
}

fn same_origin(snapshot: &SnapshotInfo, options: &BackupOptions) -> bool {
    snapshot.record.host == options.host && snapshot.record.kind == options.kind
}

fn same_places(snapshot: &SnapshotInfo, options: &BackupOptions) -> bool {
    let mut ours: Vec<_> = options.roots.iter().map(|r| &r.path[..]).collect();
    ours.sort_unstable();
    let mut theirs = snapshot.record.roots.iter().map(|r| &r.path[..]);
    same_origin(snapshot, options)
        && match snapshot.record.partial {
            true => theirs.all(|path| ours.contains(&path)),
            false => theirs.eq(ours),
        }
}

/// The trees to compare a root with, the best first.
pub(super) fn trees(
    snapshots: &[SnapshotInfo],
    options: &BackupOptions,
    path: &[u8],
) -> Vec<ParentTree> {
    let tree = |snapshot: &SnapshotInfo, root: &Root| {
        let id = BlobId::from_slice(&root.tree)?;
        let trust = if same_origin(snapshot, options) { Trust::Metadata } else { Trust::None };
        Some(ParentTree { root: id, trust, time: snapshot.record.time })
    };
    let root_of = |snapshot: &SnapshotInfo| {
        let root = snapshot.record.roots.iter().find(|root| root.path == path)?;
        tree(snapshot, root)
    };
    match options.parent {
        Parent::None => return Vec::new(),
        Parent::Snapshot(id) => {
            return snapshots.iter().filter(|s| s.id == id).filter_map(root_of).collect();
        }
        Parent::Automatic => {}
    }
    let with_root = || {
        let ours = snapshots.iter().rev().filter(|s| same_origin(s, options));
        ours.filter(|s| s.record.roots.iter().any(|root| root.path == path))
    };
    let complete = with_root().find(|s| !s.record.partial);
    let mut partials: Vec<_> = with_root().filter(|s| is_newer_partial(s, complete)).collect();
    // Of each run the one that holds the most.
    partials.sort_by_key(|s| Reverse(progress(s)));
    partials.dedup_by_key(|s| s.record.time);
    partials.truncate(PARTIALS);
    let mut found: Vec<_> = partials.into_iter().chain(complete).filter_map(root_of).collect();
    if found.is_empty() {
        let others = snapshots.iter().rev().filter(|s| !s.record.partial);
        found.extend(others.filter_map(root_of).next());
    }
    found
}

/// The newest complete tree of every origin and place, this run's own first, then the newest: where
/// files of equal content may be under other names.
pub(super) fn all_trees(snapshots: &[SnapshotInfo], options: &BackupOptions) -> Vec<OtherTree> {
    let mut origins = HashSet::new();
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for snapshot in snapshots.iter().rev().filter(|s| !s.record.partial) {
        let record = &snapshot.record;
        for root in &record.roots {
            let Some(id) = BlobId::from_slice(&root.tree) else { continue };
            if !origins.insert((&record.host, &record.kind, &root.path)) {
                continue;
            }
            let sum = root.sum.unwrap_or_default();
            let tree = OtherTree { root: id, entries: sum.entries() };
            if same_origin(snapshot, options) { own.push(tree) } else { others.push(tree) }
        }
    }
    own.append(&mut others);
    own.truncate(TREES);
    own
}

type Leaf = Result<Vec<PathEntry>>;

/// Runs along one parent tree, read ahead by a thread of its own.
#[derive(Debug)]
pub(super) struct Cursor {
    leaves: Receiver<Leaf>,
    leaf: std::vec::IntoIter<PathEntry>,
    next: Option<PathEntry>,
    pub(super) tree: ParentTree,
}

impl Cursor {
    pub(super) fn start<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        reader: &'scope BlobReader<'scope>,
        tree: ParentTree,
    ) -> Self {
        let (send, leaves) = bounded::<Leaf>(4);
        scope.spawn(move || {
            let mut entries = TreeReader::new(reader, tree.root).entries();
            loop {
                let leaf = match entries.next_leaf() {
                    Ok(Some(leaf)) => Ok(leaf),
                    Ok(None) => break,
                    Err(error) => Err(error),
                };
                let last = leaf.is_err();
                if send.send(leaf).is_err() || last {
                    break;
                }
            }
        });
        Self { leaves, leaf: Vec::new().into_iter(), next: None, tree }
    }

    /// The parent's entry with this key, if it has one. Keys must rise from call to call.
    /// A parent that cannot be read ends: what follows is simply read from the source.
    pub(super) fn find(
        &mut self,
        key: (&[u8], &[u8]),
        problem: &mut dyn FnMut(&Error),
    ) -> Option<PathEntry> {
        loop {
            if self.next.is_none() {
                self.next = self.leaf.next();
            }
            match &self.next {
                Some(next) => match compare_keys((&next.parent, &next.entry.name), key) {
                    Ordering::Less => self.next = None,
                    Ordering::Equal => return self.next.take(),
                    Ordering::Greater => return None,
                },
                None => match self.leaves.recv().ok()? {
                    Ok(leaf) => self.leaf = leaf.into_iter(),
                    Err(error) => problem(&error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::{Snapshot, Sum};

    /// Oldest first, as the repository lists them: of one time by their ids, which are random.
    fn snapshot(time: i64, id: u8, path: &str, files: u64, partial: bool) -> SnapshotInfo {
        let sum = Some(Sum { files, ..Sum::default() });
        let root = Root { path: path.into(), tree: vec![id; 32], sum, ..Root::default() };
        let record = Snapshot { time, partial, roots: vec![root], ..Snapshot::default() };
        SnapshotInfo { id: SnapshotId::from_slice(&[id; 16]).expect("id"), record }
    }

    fn compared_with(snapshots: &[SnapshotInfo], path: &str) -> Vec<u8> {
        let trees = trees(snapshots, &BackupOptions::default(), path.as_bytes());
        trees.iter().map(|tree| tree.root.as_bytes()[0]).collect()
    }

    #[test]
    fn the_complete_snapshot_stands_behind_the_furthest_of_interrupted_runs() {
        let complete = snapshot(1, 1, "/a", 90, false);
        let mut all = vec![complete];
        all.extend(
            [(2, 10), (3, 30), (4, 20)].map(|(id, files)| snapshot(2, id, "/a", files, true)),
        );
        assert_eq!(compared_with(&all, "/a"), [3, 1], "of one run one");
        all.extend([5, 6].map(|id| snapshot(3, id, "/a", u64::from(id), true)));
        all.push(snapshot(4, 7, "/a", 1, true));
        assert_eq!(compared_with(&all, "/a"), [7, 6, 1], "of two runs");
    }

    #[test]
    fn what_a_complete_run_left_on_its_way_is_no_parent() {
        // Its id is neither the first nor the last of those of its time.
        let ids = [(1, true), (2, true), (3, false), (4, true), (5, true), (6, true)];
        let all = ids.map(|(id, partial)| snapshot(1, id, "/a", u64::from(id), partial));
        assert_eq!(compared_with(&all, "/a"), [3]);
    }

    #[test]
    fn another_place_hides_no_complete_snapshot() {
        let all = [
            snapshot(1, 1, "/a", 9, false),
            snapshot(2, 2, "/b", 9, false),
            snapshot(3, 3, "/a", 4, true),
        ];
        assert_eq!(compared_with(&all, "/a"), [3, 1]);
        assert_eq!(compared_with(&all, "/b"), [2]);
    }
}
