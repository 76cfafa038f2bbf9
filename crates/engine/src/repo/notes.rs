//! Notes: what is said of a snapshot after it was committed. Snapshots are written once, so tags,
//! descriptions and pins that come later lie beside them, each change in an object of its own.
//! Changes made by several machines at once all stay; merging them is done here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::snapshot::{Note, Snapshot};
use crate::hash::{RecordId, SnapshotId};
use crate::storage::{Folder, ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::snapshots::{LostSnapshots, SnapshotInfo};
use super::{Repository, random};

/// What to change of what is said of a snapshot. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Take away all tags but those in `add_tags`.
    pub replace_tags: bool,
    /// Tags to add.
    pub add_tags: Vec<String>,
    /// Tags to take away.
    pub remove_tags: Vec<String>,
    /// New description; empty takes it away.
    pub description: Option<String>,
    /// Keep it for ever, or no longer.
    pub pinned: Option<bool>,
}

impl Change {
    /// The note that makes a snapshot of which `now` is said into what this asks for; `None` if it
    /// is so already.
    fn note(&self, now: &Snapshot) -> Option<Note> {
        let mut wanted: BTreeSet<&String> = match self.replace_tags {
            true => BTreeSet::new(),
            false => now.tags.iter().collect(),
        };
        wanted.extend(&self.add_tags);
        wanted.retain(|tag| !self.remove_tags.contains(tag));
        let present: BTreeSet<&String> = now.tags.iter().collect();
        let only = |a: &BTreeSet<&String>, b: &BTreeSet<&String>| -> Vec<String> {
            a.difference(b).map(|tag| (*tag).clone()).collect()
        };
        let note = Note {
            time: 0,
            add_tags: only(&wanted, &present),
            remove_tags: only(&present, &wanted),
            description: self.description.clone().filter(|text| *text != now.description),
            pinned: self.pinned.filter(|pinned| *pinned != now.pinned),
        };
        (note != Note::default()).then_some(note)
    }
}

/// The notes of some snapshots, and which of these snapshots cannot be read themselves.
#[derive(Debug, Default)]
pub struct Notes {
    /// By snapshot, in the order in which they apply.
    of: BTreeMap<SnapshotId, Vec<(RecordId, Note)>>,
    /// Notes that cannot be read. What they say is not known: it may be that the snapshot is to be
    /// kept for ever.
    unreadable: Vec<(SnapshotId, RecordId, Error)>,
    /// Snapshots that cannot be read.
    pub(super) lost: LostSnapshots,
}

impl Notes {
    /// Changes what a snapshot's record says to what was said of it last.
    pub(crate) fn apply(&self, id: SnapshotId, record: &mut Snapshot) {
        for (_, note) in self.of.get(&id).into_iter().flatten() {
            apply(note, record);
        }
    }

    /// Snapshots that cannot be read, and notes that cannot be, each with its snapshot.
    pub fn unreadable(&self) -> impl Iterator<Item = (SnapshotId, &Error)> {
        self.lost().chain(self.unreadable.iter().map(|(id, _, error)| (*id, error)))
    }

    /// Snapshots that cannot be read: they are there, and not in the list that came with this.
    pub fn lost(&self) -> impl Iterator<Item = (SnapshotId, &Error)> {
        self.lost.iter().map(|(id, error)| (*id, error))
    }

    /// Whether some of what is said of a snapshot cannot be read.
    pub fn is_unreadable(&self, id: SnapshotId) -> bool {
        self.unreadable.iter().any(|(of, ..)| *of == id)
    }

    /// The objects that hold what is said of a snapshot.
    pub(super) fn names(&self, id: SnapshotId) -> Vec<ObjectName> {
        let read = self.of.get(&id).into_iter().flatten().map(|(record, _)| *record);
        let unreadable = self.unreadable.iter().filter(|(of, ..)| *of == id);
        read.chain(unreadable.map(|(_, record, _)| *record))
            .map(|record| ObjectName::note(id, record))
            .collect()
    }

    /// When the newest note of a snapshot was written, nanoseconds since the epoch.
    fn newest(&self, id: SnapshotId) -> Option<i64> {
        self.of.get(&id)?.last().map(|(_, note)| note.time)
    }
}

fn apply(note: &Note, record: &mut Snapshot) {
    record.tags.retain(|tag| !note.remove_tags.contains(tag));
    record.tags.extend(note.add_tags.iter().cloned());
    record.tags.sort();
    record.tags.dedup();
    if let Some(description) = &note.description {
        record.description.clone_from(description);
    }
    record.pinned = note.pinned.unwrap_or(record.pinned);
}

impl Repository {
    /// The notes of these snapshots: one listing, and what is not in the cache is read.
    pub(super) fn notes(&self, snapshots: &BTreeSet<SnapshotId>) -> Result<Notes> {
        let mut found = Vec::new();
        self.storage.list(Folder::Notes, &mut |info| {
            let of = info.name.as_str().split('/').nth(1).map(SnapshotId::from_hex);
            if let (Some(Ok(of)), Ok(record)) = (of, RecordId::from_hex(info.name.base())) {
                found.push((of, record));
            }
        })?;
        found.sort_unstable();
        let mut notes = Notes::default();
        let name = |(of, record)| ObjectName::note(of, record);
        let read = self.each_small::<_, Note>(Folder::Notes, ObjectKind::Note, &found, name)?;
        for ((of, record), read) in read {
            match read {
                _ if !snapshots.contains(&of) => {}
                Ok(note) => notes.of.entry(of).or_default().push((record, note)),
                Err(error) => notes.unreadable.push((of, record, error)),
            }
        }
        for notes in notes.of.values_mut() {
            notes.sort_by_key(|(record, note)| (note.time, *record));
        }
        Ok(notes)
    }

    /// Changes what is said of a snapshot, as `info` and `notes` are from one
    /// [`listing`](Repository::snapshots_with_notes), at the time `now` (nanoseconds since the
    /// epoch). What is said of it then; `None` if that was said already.
    pub fn annotate(
        &self,
        info: &SnapshotInfo,
        notes: &Notes,
        change: &Change,
        now: i64,
    ) -> Result<Option<Snapshot>> {
        let Some(mut note) = change.note(&info.record) else { return Ok(None) };
        // Whoever changes something has seen what is there, even if his clock is behind.
        note.time = notes.newest(info.id).map_or(now, |newest| now.max(newest.saturating_add(1)));
        let name = ObjectName::note(info.id, RecordId::new(random()?));
        match self.put_sealed(ObjectKind::Note, &name, &note.encode_to_vec()) {
            // The name is random: what is there is the first copy of this call.
            Err(Error::Storage(e)) if e.kind == StorageErrorKind::AlreadyExists => {}
            other => other?,
        }
        let mut record = info.record.clone();
        apply(&note, &mut record);
        Ok(Some(record))
    }
}

/// Whether an error tells of one object, so that the others can be read all the same.
pub(super) fn is_of_one_object(error: &Error) -> bool {
    use StorageErrorKind as Kind;
    match error {
        Error::Damaged { .. } => true,
        Error::Storage(e) => matches!(e.kind, Kind::Io | Kind::PermissionDenied),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).into()).collect()
    }

    #[test]
    fn a_change_says_only_what_is_new() {
        let now = Snapshot { tags: texts(&["a", "b"]), ..Snapshot::default() };
        let add = Change { add_tags: texts(&["b", "c"]), ..Change::default() };
        let note = add.note(&now).unwrap_or_default();
        assert_eq!((note.add_tags, note.remove_tags), (texts(&["c"]), texts(&[])));
        let set = Change { replace_tags: true, ..add };
        let note = set.note(&now).unwrap_or_default();
        assert_eq!((note.add_tags, note.remove_tags), (texts(&["c"]), texts(&["a"])));
        let both = Change {
            add_tags: texts(&["x"]),
            remove_tags: texts(&["x", "y"]),
            description: Some(String::new()),
            pinned: Some(false),
            ..Change::default()
        };
        assert_eq!(both.note(&now), None);
    }
}
