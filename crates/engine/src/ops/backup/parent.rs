//! What a backup is compared with: choosing parent snapshots, and running along their trees.
//!
//! A root can have several parents. An interrupted run covers only the start of the tree, so the
//! complete snapshot before it stands behind it. Where this host has no snapshot of a root yet,
//! another host's serves for content alone: its times and inodes mean nothing here, but a file
//! that reads the same keeps its reference.

use std::cmp::Ordering;
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
        Parent::Automatic => snapshots.iter().rev().find(|s| same_places(s, options)).map(|s| s.id),
    }
}

fn same_origin(snapshot: &SnapshotInfo, options: &BackupOptions) -> bool {
    snapshot.record.host == options.host && snapshot.record.kind == options.kind
}

fn same_places(snapshot: &SnapshotInfo, options: &BackupOptions) -> bool {
    let mut ours: Vec<_> = options.roots.iter().map(|r| &r.path[..]).collect();
    ours.sort_unstable();
    let theirs = snapshot.record.roots.iter().map(|r| &r.path[..]);
    same_origin(snapshot, options) && (snapshot.record.partial || theirs.eq(ours))
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
    let mut found = Vec::new();
    for snapshot in snapshots.iter().rev().filter(|s| same_origin(s, options)) {
        found.extend(root_of(snapshot).filter(|_| found.len() < 3));
        if !snapshot.record.partial && !found.is_empty() {
            return found;
        }
    }
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
            let tree = OtherTree { root: id, entries: sum.files + sum.directories + sum.others };
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
