//! `history`: what stood at one path over time, snapshot by snapshot. The path is looked up in
//! each tree from the root down, and no node is read twice: whatever leads through a node that
//! was met before ends where that ended.

use std::collections::HashMap;
use std::sync::Arc;

use crate::hash::{BlobId, SnapshotId};
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::entry::Entry;
use crate::tree::read::{leaf_entries, read_node};
use crate::tree::view::{self, Located, root_id};
use crate::tree::{compare_keys, split};
use crate::{Error, Result};

/// What became of a path from one snapshot of a host to the next that covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is there, and was not in the snapshot before, if there was one.
    Appeared,
    /// It differs.
    Modified {
        /// In its content: bytes of a file, its holes, a link's target.
        content: bool,
        /// In its metadata: permissions, owner, modification time, attributes, device numbers.
        metadata: bool,
        /// In its type.
        kind: bool,
    },
    /// It is gone.
    Vanished,
}

/// A run of snapshots of one host between which a path did not change.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// What began it.
    pub event: Event,
    /// What stood there; `None`: nothing.
    pub entry: Option<Arc<Entry>>,
    /// Host of the snapshots.
    pub host: String,
    /// The oldest of them, and when it was begun.
    pub first: (SnapshotId, i64),
    /// The newest of them, and when it was begun.
    pub last: (SnapshotId, i64),
    /// How many there are.
    pub snapshots: u64,
}

/// The history of a path.
#[derive(Debug, Clone, Default)]
pub struct HistoryReport {
    /// In the order in which they began.
    pub periods: Vec<Period>,
    /// Snapshots whose places cover the path.
    pub covering: u64,
    /// Distinct tree nodes that were read.
    pub nodes: u64,
    /// Snapshots in which the path could not be looked up, since structure is damaged (each is
    /// told to the monitor).
    pub unread: u64,
}

/// Follows an absolute path through `snapshots`, oldest first. A snapshot whose places do not
/// cover the path says nothing about it. Hosts have histories of their own.
pub fn history(
    reader: &BlobReader<'_>,
    snapshots: &[SnapshotInfo],
    path: &[u8],
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<HistoryReport> {
    let mut report = HistoryReport::default();
    // What stands at a path below a node, by both.
    let mut lookups: HashMap<Vec<u8>, Lookup<'_>> = HashMap::new();
    // The latest period of each host.
    let mut current: HashMap<&str, usize> = HashMap::new();
    for snapshot in snapshots {
        if interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let record = &snapshot.record;
        let Some(Located::Within { root, path: within }) = view::locate(record, path) else {
            continue;
        };
        report.covering += 1;
        if report.covering.is_multiple_of(256) {
            let progress = Progress { files: report.covering, ..Progress::default() };
            monitor.progress(&progress, path);
        }
        let lookup = lookups.entry(within.clone()).or_insert_with(|| Lookup::new(reader, &within));
        let found = match root_id(root).and_then(|id| lookup.find(id)) {
            Ok(found) => found,
            Err(error) if error.is_local() => {
                report.unread += 1;
                let what = format!("snapshot {}", snapshot.id.short());
                monitor.problem(&what, &error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let last = current.get(&*record.host).copied();
        let before = last.and_then(|at| report.periods.get_mut(at));
        let now = (snapshot.id, record.time);
        let event = match (before.as_ref().and_then(|period| period.entry.as_ref()), &found) {
            // Nothing is there, and nothing was.
            (None, None) if before.is_none() => continue,
            (None, None) => None,
            (None, Some(_)) => Some(Event::Appeared),
            (Some(_), None) => Some(Event::Vanished),
            (Some(old), Some(new)) => modified(old, new),
        };
        match (before, event) {
            (Some(period), None) => {
                period.last = now;
                period.snapshots += 1;
            }
            (_, Some(event)) => {
                current.insert(&record.host, report.periods.len());
                let host = record.host.clone();
                let period =
                    Period { event, entry: found, host, first: now, last: now, snapshots: 1 };
                report.periods.push(period);
            }
            (None, None) => {}
        }
    }
    report.nodes = lookups.values().map(|lookup| lookup.known.len() as u64).sum();
    Ok(report)
}

fn modified(old: &Arc<Entry>, new: &Arc<Entry>) -> Option<Event> {
    if Arc::ptr_eq(old, new) {
        return None;
    }
    let kind = old.metadata.kind != new.metadata.kind;
    let content = !kind && old.content_differs(new);
    let metadata = old.metadata_differs(new);
    (kind || content || metadata).then_some(Event::Modified { content, metadata, kind })
}

/// Looks up one path in many trees.
struct Lookup<'a> {
    reader: &'a BlobReader<'a>,
    parent: Vec<u8>,
    name: Vec<u8>,
    /// What stands at the path below each node that was read.
    known: HashMap<BlobId, Option<Arc<Entry>>>,
}

impl<'a> Lookup<'a> {
    fn new(reader: &'a BlobReader<'a>, path: &[u8]) -> Self {
        let (parent, name) = split(path);
        Self { reader, parent: parent.to_vec(), name: name.to_vec(), known: HashMap::new() }
    }

    /// What stands at the path in the tree with this root.
    fn find(&mut self, root: BlobId) -> Result<Option<Arc<Entry>>> {
        let mut way = Vec::new();
        let (mut next, mut level) = (root, None);
        let found = loop {
            if let Some(found) = self.known.get(&next) {
                break found.clone();
            }
            let id = next;
            let damaged = |what| Error::damaged(format!("tree node {}", id.short()), what);
            let node = read_node(self.reader, &id)?;
            if level.is_some_and(|level| level != node.level) || node.level > 32 {
                return Err(damaged("its level is wrong"));
            }
            way.push(id);
            let key = (&self.parent[..], &self.name[..]);
            if node.level == 0 {
                let entries = leaf_entries(&id, node)?;
                let is =
                    |e: &crate::tree::PathEntry| e.parent[..] == *key.0 && e.entry.name == key.1;
                break entries.into_iter().find(is).map(|found| Arc::new(found.entry));
            }
            level = Some(node.level - 1);
            // The last child that starts at the key or before it.
            let after =
                node.children.partition_point(|c| compare_keys((&c.parent, &c.name), key).is_le());
            let Some(child) = after.checked_sub(1).and_then(|at| node.children.get(at)) else {
                break None;
            };
            next = BlobId::from_slice(&child.id).ok_or_else(|| damaged("a child has no id"))?;
        };
        for id in way {
            self.known.insert(id, found.clone());
        }
        Ok(found)
    }
}
