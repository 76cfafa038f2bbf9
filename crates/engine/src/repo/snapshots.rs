//! Snapshots: listing, selecting, forgetting by id. What is said of them is what their notes made
//! of it ([`super::notes`]).

use std::borrow::Borrow;
use std::collections::BTreeSet;

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::envelope;
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
        self.read_with_notes(self.snapshot_ids()?.0)
    }

    /// [`snapshots_with_notes`](Self::snapshots_with_notes), and what
    /// [`Index::load_readable`] finds, which is loaded meanwhile. Its listing begins when the
    /// snapshots have been listed: so it has what those need that were committed just now.
    pub fn snapshots_and_index(&self) -> Result<(SnapshotsWithNotes, (Index, Vec<Error>))> {
        let listed = self.listed_snapshots()?;
        let snapshots = || self.read_with_notes(self.without_fenced(listed)?.0);
        self.both(snapshots, || Index::load_readable(self))
    }

    /// Snapshots that are there though their sessions were shut out for good: they are none for
    /// readers, and go only when they are forgotten by their ids. Of those that cannot be read
    /// nothing but the id is told: gc stops at them, so they must be found, too.
    pub fn shut_out_snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let (mut found, notes) = self.read_with_notes(self.snapshot_ids()?.1)?;
        found.extend(notes.lost().map(|(id, _)| SnapshotInfo { id, record: Snapshot::default() }));
        Ok(found)
    }

    /// [`snapshots`](Self::snapshots) as they were committed, without what was said of them later;
    /// and apart from them those that cannot be read.
    pub(crate) fn committed_snapshots(&self) -> Result<(Vec<SnapshotInfo>, LostSnapshots)> {
        self.read_snapshots(&self.snapshot_ids()?.0)
    }

    /// Visible snapshots, and apart from them those whose sessions were shut out for good, all as
    /// they were committed. An error if one cannot be read: nobody knows what it needs.
    pub(crate) fn all_snapshots(&self) -> Result<(Vec<SnapshotInfo>, Vec<SnapshotInfo>)> {
        let (visible, fenced) = self.snapshot_ids()?;
        let read = |ids| self.read_snapshots(ids).and_then(all_of);
        Ok((read(&visible)?, read(&fenced)?))
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

    fn read_with_notes(&self, ids: BTreeSet<SnapshotId>) -> Result<SnapshotsWithNotes> {
        let mut notes = self.notes(&ids)?;
        let (mut snapshots, lost) = self.read_snapshots(&ids)?;
        for snapshot in &mut snapshots {
            notes.apply(snapshot.id, &mut snapshot.record);
        }
        notes.lost = lost;
        Ok((snapshots, notes))
    }

    fn read_snapshots(
        &self,
        ids: &BTreeSet<SnapshotId>,
    ) -> Result<(Vec<SnapshotInfo>, LostSnapshots)> {
        let (mut snapshots, mut lost) = (Vec::with_capacity(ids.len()), LostSnapshots::new());
        let ids: Vec<SnapshotId> = ids.iter().copied().collect();
        for (id, read) in self.each_listed(&ids, |id| self.snapshot(id))? {
            match read {
                Ok(record) => snapshots.push(SnapshotInfo { id, record }),
                Err(error) => lost.push((id, error)),
            }
        }
        snapshots.sort_by_key(|s| (s.record.time, s.id));
        Ok((snapshots, lost))
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

    /// Reads one snapshot as it was committed, through the cache if there is one.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        self.get_cached(ObjectKind::Snapshot, &ObjectName::snapshot(id))
    }

    /// Reads a small object, through the cache if there is one: they are written once.
    pub(super) fn get_cached<M: Message + Default>(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
    ) -> Result<M> {
        let path = self.cache().map(|dir| dir.join(name.as_str()));
        let open = |bytes| {
            let message = envelope::open(&self.keys, &self.id, kind, name.as_str(), bytes)?;
            M::decode(&message[..]).map_err(|e| Error::damaged(name, e))
        };
        if let Some(path) = &path
            && let Ok(bytes) = std::fs::read(path)
            && let Ok(message) = open(bytes)
        {
            return Ok(message);
        }
        let bytes = self.storage.get(name)?;
        let message = match open(bytes.clone()) {
            Err(Error::Damaged { .. }) => return open(self.storage.get(name)?),
            other => other?,
        };
        if let Some(path) = &path {
            store_in_cache(path, &bytes);
        }
        Ok(message)
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
        let names = notes.names(id);
        names.iter().try_for_each(|name| self.delete_if_there(name))?;
        if let Some(dir) = self.cache() {
            for name in names.iter().chain([&ObjectName::snapshot(id)]) {
                let _ = std::fs::remove_file(dir.join(name.as_str()));
            }
        }
        Ok(())
    }

    fn delete_if_there(&self, name: &ObjectName) -> Result<()> {
        match self.storage.delete(name) {
            Err(e) if e.is_not_found() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The snapshots, if all could be read.
fn all_of((snapshots, lost): (Vec<SnapshotInfo>, LostSnapshots)) -> Result<Vec<SnapshotInfo>> {
    lost.into_iter().next().map_or(Ok(snapshots), |(_, error)| Err(error))
}

/// Puts a copy into the cache. Failing to is no problem: the cache is disposable.
pub(super) fn store_in_cache(path: &std::path::Path, bytes: &[u8]) {
    let Some(parent) = path.parent() else { return };
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let _ = std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
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
