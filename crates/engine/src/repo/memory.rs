//! What this machine remembers of a repository, in files of its cache: when each pack was last read
//! whole, and the newest snapshots that it has seen. A file that is lost, or not as
//! it was written, costs what it said: packs are read again sooner, and a storage that hides
//! snapshots is not found out.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::crypto::ObjectKind;
use crate::hash::{ObjectId, SnapshotId};
use crate::storage::ObjectName;

use super::Repository;
use super::snapshots::SnapshotInfo;

/// Bytes of the checksum at the end of a file.
const SUM: usize = 16;

/// Snapshots that are remembered.
const SEEN: usize = 8;

fn sum(bytes: &[u8]) -> [u8; SUM] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Puts a copy into the cache. Failing to is no problem: the cache is disposable.
pub(super) fn store_in_cache(path: &Path, bytes: &[u8]) {
    let Some(parent) = path.parent() else { return };
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let _ = std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
}

/// A file of rows and their checksum.
#[derive(Debug)]
struct Remembered(Option<PathBuf>);

impl Remembered {
    fn of(repository: &Repository, name: &str) -> Self {
        Self(repository.cache().map(|dir| dir.join(name)))
    }

    fn read(&self) -> Vec<u8> {
        let bytes = self.0.as_ref().and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        match bytes.split_last_chunk::<SUM>() {
            Some((rows, end)) if sum(rows) == *end => rows.to_vec(),
            _ => Vec::new(),
        }
    }

    fn write(&self, mut rows: Vec<u8>) {
        let Some(path) = &self.0 else { return };
        let end = sum(&rows);
        rows.extend_from_slice(&end);
        store_in_cache(path, &rows);
    }
}

/// When packs were last read whole, in minutes since the epoch.
#[derive(Debug)]
pub(crate) struct Verified {
    file: Remembered,
    /// By the first bytes of their names: 12 bytes a pack are kept.
    when: HashMap<[u8; 8], u32>,
}

fn key(pack: &ObjectId) -> [u8; 8] {
    pack.as_bytes().first_chunk().copied().unwrap_or_default()
}

impl Verified {
    /// What this machine remembers.
    pub(crate) fn load(repository: &Repository) -> Self {
        let file = Remembered::of(repository, "verified");
        let mut when = HashMap::new();
        for row in file.read().chunks_exact(12) {
            if let Some((pack, minutes)) = row.split_first_chunk::<8>()
                && let Some(minutes) = minutes.first_chunk::<4>()
            {
                when.insert(*pack, u32::from_le_bytes(*minutes));
            }
        }
        Self { file, when }
    }

    /// When a pack was last read; 0: never.
    pub(crate) fn when(&self, pack: &ObjectId) -> u32 {
        self.when.get(&key(pack)).copied().unwrap_or(0)
    }

    /// Says that a pack was read at `time`, nanoseconds since the epoch: one that is damaged as well, or
    /// a few of them would keep all others from their turn.
    pub(crate) fn note(&mut self, pack: &ObjectId, time: i64) {
        let minutes = u32::try_from(time / 60_000_000_000).unwrap_or(0);
        self.when.insert(key(pack), minutes.max(1));
    }

    /// Keeps what is known of these packs.
    pub(crate) fn save(&self, present: impl Iterator<Item = ObjectId>) {
        let mut rows = Vec::new();
        for key in present.map(|pack| key(&pack)) {
            if let Some(when) = self.when.get(&key) {
                rows.extend_from_slice(&key);
                rows.extend_from_slice(&when.to_le_bytes());
            }
        }
        self.file.write(rows);
    }
}

impl Repository {
    fn seen(&self) -> (Remembered, Vec<SnapshotId>) {
        let file = Remembered::of(self, "seen");
        let rows = file.read();
        let ids = rows.chunks_exact(16).filter_map(SnapshotId::from_slice).collect();
        (file, ids)
    }

    fn keep_seen(file: &Remembered, ids: &[SnapshotId]) {
        file.write(ids.iter().flat_map(|id| *id.as_bytes()).collect());
    }

    /// Which of the newest snapshots that this machine has seen are not among the `listed` ones
    /// (all that are visible), though nobody is known to have forgotten them. Either another machine
    /// did and a gc has tidied up since, or the storage has lost them, hides them, or has been put
    /// back to an earlier state. Each is told once.
    pub fn vanished(&self, listed: &[SnapshotInfo]) -> Vec<SnapshotId> {
        let (file, mut seen) = self.seen();
        let there: BTreeSet<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
        let (mut vanished, mut unknown) = (Vec::new(), Vec::new());
        for id in seen.iter().copied().filter(|id| !there.contains(id)) {
            match self.is_accounted_for(id) {
                Some(true) => {}
                Some(false) => vanished.push(id),
                None => unknown.push(id),
            }
        }
        let mut now: Vec<&SnapshotInfo> = listed.iter().filter(|s| !s.record.partial).collect();
        now.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.record.time, snapshot.id)));
        let newest = now.into_iter().map(|snapshot| snapshot.id);
        let now: Vec<SnapshotId> = unknown.into_iter().chain(newest).take(SEEN).collect();
        if seen != now {
            seen = now;
            Self::keep_seen(&file, &seen);
        }
        vanished
    }

    /// Whether something says why a snapshot is not there. `None` if what may say so cannot be read
    /// now: that is no reason to cry. What was put there by somebody without the key says nothing.
    pub(crate) fn is_accounted_for(&self, id: SnapshotId) -> Option<bool> {
        let marks = [
            (ObjectKind::Session, ObjectName::session_forgotten(id)),
            (ObjectKind::Fence, ObjectName::fence_confirmed(id)),
        ];
        let mut said = Some(false);
        for (kind, name) in marks {
            match self.get_sealed(kind, &name) {
                Ok(_) => return Some(true),
                Err(Error::Storage(e)) if !e.is_not_found() => said = None,
                Err(_) => {}
            }
        }
        said
    }

    /// Remembers a snapshot that was committed from here.
    pub(crate) fn saw(&self, id: SnapshotId) {
        let (file, mut seen) = self.seen();
        seen.insert(0, id);
        seen.truncate(SEEN);
        Self::keep_seen(&file, &seen);
    }

    /// Forgets a snapshot that is forgotten from here.
    pub(super) fn unsee(&self, id: SnapshotId) {
        let (file, mut seen) = self.seen();
        if seen.contains(&id) {
            seen.retain(|other| *other != id);
            Self::keep_seen(&file, &seen);
        }
    }
}

/// What to say of a snapshot that vanished.
pub const VANISHED: &str = "it was seen from here before and is gone, and nothing says that \
                                   it was forgotten: unless another machine forgot it, the storage \
                                   has lost it, hides it, or was put back to an earlier state";
