//! Snapshots: listing, selecting, forgetting by id. What is said of them is what their notes made
//! of it ([`super::notes`]).

use std::borrow::Borrow;
use std::collections::BTreeSet;

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::snapshot::Snapshot;
use crate::hash::SnapshotId;
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::notes::Notes;
use super::{Index, Repository};

/// A snapshot and its id.
#[derive(Debug, Clone)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// What it records.
    pub record: Snapshot,
}

impl SnapshotInfo {
    /// The newest snapshots that its writer had seen.
    pub(crate) fn heads(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.record.heads.iter().filter_map(|id| SnapshotId::from_slice(id))
    }
}

/// How many of the newest snapshots a new one names, so that their loss shows.
const HEADS: usize = 8;

/// What a new snapshot calls its heads, of `snapshots`, oldest first.
pub(crate) fn newest<S: Borrow<SnapshotInfo>>(snapshots: &[S]) -> Vec<Vec<u8>> {
    let newest = snapshots.iter().rev().take(HEADS);
    newest.map(|snapshot| snapshot.borrow().id.as_bytes().to_vec()).collect()
}

/// Which snapshots to consider.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those with all of these tags.
    pub tags: Vec<String>,
    /// Only those of this host.
    pub host: Option<String>,
    /// Only those that hold this absolute path.
    pub path: Option<Vec<u8>>,
    /// Only those begun at this time or before, nanoseconds since the epoch.
    pub until: Option<i64>,
    /// Also interrupted runs.
    pub partial: bool,
}

impl Filter {
    /// Whether a snapshot passes.
    pub fn admits(&self, snapshot: &Snapshot) -> bool {
        (self.partial || !snapshot.partial)
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.host.as_ref().is_none_or(|host| snapshot.host == *host)
            && self.until.is_none_or(|until| snapshot.time <= until)
            && self
                .path
                .as_ref()
                .is_none_or(|path| snapshot.roots.iter().any(|root| is_within(path, &root.path)))
    }
}

/// Whether `path` is `root` or lies below it.
pub fn is_within(path: &[u8], root: &[u8]) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/") || root.ends_with(b"/"))
}

/// Snapshots, oldest first, and the notes that went into them.
pub type SnapshotsWithNotes = (Vec<SnapshotInfo>, Notes);

/// Snapshots that cannot be read, and why.
pub(crate) type LostSnapshots = Vec<(SnapshotId, Error)>;

/// Snapshots as they were committed, oldest first, and those that cannot be read.
pub(crate) type ReadSnapshots = (Vec<SnapshotInfo>, LostSnapshots);

impl Repository {
    /// All committed snapshots, oldest first, interrupted runs included; an error if one of them
    /// cannot be read. A snapshot whose session was shut out for good is not one. Tags, description
    /// and pin are those that were said last.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let (snapshots, notes) = self.snapshots_with_notes()?;
        all_of((snapshots, notes.lost))
    }

    /// [`snapshots`](Self::snapshots), as far as they can be read, and the notes that went into
    /// them, which also tell of those that cannot.
    pub fn snapshots_with_notes(&self) -> Result<SnapshotsWithNotes> {
        self.with_notes(&self.snapshot_ids()?.0, Self::read_visible)
    }

    /// [`snapshots_with_notes`](Self::snapshots_with_notes), and what
    /// [`Index::load_readable`] finds, which is loaded meanwhile. Its listing begins when the
    /// snapshots have been listed: so it has what those need that were committed just now.
    pub fn snapshots_and_index(&self) -> Result<(SnapshotsWithNotes, (Index, Vec<Error>))> {
        let listed = self.listed_snapshots()?;
        let snapshots = || self.with_notes(&self.without_fenced(listed)?.0, Self::read_visible);
        self.both(snapshots, || Index::load_readable(self))
    }

    /// Snapshots that are there though their sessions were shut out for good: they are none for
    /// readers, and go only when they are forgotten by their ids. Of those that cannot be read
    /// nothing but the id is told: gc stops at them, so they must be found, too.
    pub fn shut_out_snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let (mut found, notes) = self.with_notes(&self.snapshot_ids()?.1, Self::read_shut_out)?;
        found.extend(notes.lost().map(|(id, _)| SnapshotInfo { id, record: Snapshot::default() }));
        Ok(found)
    }

    /// [`snapshots`](Self::snapshots) as they were committed, without what was said of them later;
    /// and apart from them those that cannot be read.
    pub(crate) fn committed_snapshots(&self) -> Result<ReadSnapshots> {
        self.read_visible(&self.snapshot_ids()?.0)
    }

    /// Visible snapshots, and apart from them those whose sessions were shut out for good, all as
    /// they were committed. An error if one cannot be read: nobody knows what it needs.
    pub(crate) fn all_snapshots(&self) -> Result<(Vec<SnapshotInfo>, Vec<SnapshotInfo>)> {
        let (visible, fenced) = self.snapshot_ids()?;
        Ok((all_of(self.read_visible(&visible)?)?, all_of(self.read_shut_out(&fenced)?)?))
    }

    /// Ids of visible snapshots, and of those that were shut out.
    fn snapshot_ids(&self) -> Result<(BTreeSet<SnapshotId>, BTreeSet<SnapshotId>)> {
        self.without_fenced(self.listed_snapshots()?)
    }

    /// The first step of that: what is listed, shut out or not.
    fn listed_snapshots(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut ids = BTreeSet::new();
        self.storage.list(Folder::Snapshots, &mut |info| {
            ids.extend(SnapshotId::from_hex(info.name.base()));
        })?;
        Ok(ids)
    }

    /// The second: those that are visible, and the others.
    fn without_fenced(
        &self,
        listed: BTreeSet<SnapshotId>,
    ) -> Result<(BTreeSet<SnapshotId>, BTreeSet<SnapshotId>)> {
        let fenced = self.confirmed_fences()?;
        Ok(listed.into_iter().partition(|id| !fenced.contains(id)))
    }

    /// Those of `snapshots` that are visible now.
    pub(crate) fn still_visible<'a>(
        &self,
        snapshots: &'a [SnapshotInfo],
    ) -> Result<Vec<&'a SnapshotInfo>> {
        let visible = self.snapshot_ids()?.0;
        Ok(snapshots.iter().filter(|snapshot| visible.contains(&snapshot.id)).collect())
    }

    fn with_notes(
        &self,
        ids: &BTreeSet<SnapshotId>,
        read: impl FnOnce(&Self, &BTreeSet<SnapshotId>) -> Result<ReadSnapshots>,
    ) -> Result<SnapshotsWithNotes> {
        let mut notes = self.notes(ids)?;
        let (mut snapshots, lost) = read(self, ids)?;
        for snapshot in &mut snapshots {
            notes.apply(snapshot.id, &mut snapshot.record);
        }
        notes.lost = lost;
        Ok((snapshots, notes))
    }

    /// Reads the snapshots that are visible, all of them.
    fn read_visible(&self, ids: &BTreeSet<SnapshotId>) -> Result<ReadSnapshots> {
        let ids: Vec<SnapshotId> = ids.iter().copied().collect();
        let (folder, kind) = (Folder::Snapshots, ObjectKind::Snapshot);
        Ok(sorted(self.each_small(folder, kind, &ids, ObjectName::snapshot)?))
    }

    /// Reads the others, of which there are few: they are not kept in the cache.
    fn read_shut_out(&self, ids: &BTreeSet<SnapshotId>) -> Result<ReadSnapshots> {
        let ids: Vec<SnapshotId> = ids.iter().copied().collect();
        Ok(sorted(self.each_listed(&ids, |id| self.snapshot(id))?))
    }

    /// Sessions that were shut out for good.
    pub(crate) fn confirmed_fences(&self) -> Result<BTreeSet<SnapshotId>> {
        let mut fenced = BTreeSet::new();
        self.storage.list(Folder::Fences, &mut |info| {
            if let Some(id) = info.name.base().strip_suffix(".confirmed") {
                fenced.extend(SnapshotId::from_hex(id));
            }
        })?;
        Ok(fenced)
    }

    /// Reads one snapshot as it was committed.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let name = ObjectName::snapshot(id);
        let message = self.get_sealed(ObjectKind::Snapshot, &name)?;
        Snapshot::decode(&message[..]).map_err(|e| Error::damaged(name, e))
    }

    /// The snapshot that `selector` means among those that `filter` admits: an id or the start
    /// of one, `latest`, or `latest~N` for the Nth before it.
    pub fn select(&self, selector: &str, filter: &Filter) -> Result<SnapshotInfo> {
        select(self.snapshots()?, selector, filter)
    }

    /// Removes a snapshot and those of its notes that are in `notes`. One that carries a fence is
    /// shut out for good first, so that its writer can never think it committed. One that is gone
    /// already is as good.
    pub fn forget(&self, id: SnapshotId, notes: &Notes) -> Result<()> {
        let exists = |name: &ObjectName| match self.storage.stat(name) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(Error::from(e)),
        };
        if exists(&ObjectName::fence(id))? && !exists(&ObjectName::fence_confirmed(id))? {
            self.put_mark(&ObjectName::fence_confirmed(id), "forgotten")?;
        }
        self.unsee(id);
        self.delete_if_there(&ObjectName::snapshot(id))?;
        // From here on its absence is what was wanted, and `check` need not wonder. Not before: who
        // may not delete must not be able to say so.
        self.put_mark(&ObjectName::session_forgotten(id), "forgotten")?;
        notes.names(id).iter().try_for_each(|name| self.delete_if_there(name))
    }

    fn delete_if_there(&self, name: &ObjectName) -> Result<()> {
        match self.storage.delete(name) {
            Err(e) if e.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Snapshots by time, and those that cannot be read.
fn sorted(read: Vec<(SnapshotId, Result<Snapshot>)>) -> ReadSnapshots {
    let (mut snapshots, mut lost) = (Vec::with_capacity(read.len()), LostSnapshots::new());
    for (id, read) in read {
        match read {
            Ok(record) => snapshots.push(SnapshotInfo { id, record }),
            Err(error) => lost.push((id, error)),
        }
    }
    snapshots.sort_by_key(|s| (s.record.time, s.id));
    (snapshots, lost)
}

/// The snapshots, if all could be read.
fn all_of((snapshots, lost): ReadSnapshots) -> Result<Vec<SnapshotInfo>> {
    lost.into_iter().next().map_or(Ok(snapshots), |(_, error)| Err(error))
}

/// What [`Repository::select`] does, on a list at hand (oldest first).
pub fn select(
    snapshots: Vec<SnapshotInfo>,
    selector: &str,
    filter: &Filter,
) -> Result<SnapshotInfo> {
    let none = || Error::NoSuchSnapshot { selector: selector.into() };
    if let Some(rest) = selector.strip_prefix("latest") {
        let back: usize = match rest.strip_prefix('~') {
            None if rest.is_empty() => 0,
            Some("") => 1,
            Some(number) => number.parse().map_err(|_| none())?,
            None => return Err(none()),
        };
        return snapshots
            .into_iter()
            .rev()
            .filter(|s| filter.admits(&s.record))
            .nth(back)
            .ok_or_else(none);
    }
    let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    if selector.is_empty() || !selector.bytes().all(is_hex) {
        return Err(none());
    }
    // An id is an answer by itself: filters and the partial flag do not apply.
    let mut fitting: Vec<_> =
        snapshots.into_iter().filter(|s| s.id.to_string().starts_with(selector)).collect();
    if fitting.len() > 1 {
        return Err(Error::AmbiguousSnapshot {
            prefix: selector.into(),
            matches: fitting.iter().map(|s| s.id).collect(),
        });
    }
    fitting.pop().ok_or_else(none)
}
