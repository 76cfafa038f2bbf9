//! Who is at work on a repository: open sessions as their leases tell, which of them have come to
//! an end, and shutting out one that is silent (docs/design/protocol.md, "Views" and "gc").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::session::Lease;
use crate::hash::{RecordId, SnapshotId};
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::Repository;
use super::snapshots::SnapshotInfo;

/// What is stored of a session.
#[derive(Debug, Clone, Default)]
struct Found {
    /// Parts of its lease and when each was written, by the storage's clock.
    parts: BTreeMap<u32, i64>,
    has_end: bool,
    /// Its snapshot was forgotten: so it had committed.
    is_forgotten: bool,
}

/// A session that has not come to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// Its id.
    pub id: SnapshotId,
    /// Host name of who opened it.
    pub host: String,
    /// Process number there.
    pub process: u32,
    /// "backup", "gc", …
    pub verb: String,
    /// When it began, nanoseconds since the epoch by its own clock.
    pub started: i64,
    /// How long ago its lease was written or renewed, by the storage's clock.
    pub silent: Duration,
}

/// The sessions that have a lease, as seen at one moment.
#[derive(Debug)]
pub(crate) struct Sessions {
    found: BTreeMap<SnapshotId, Found>,
    resolved: BTreeSet<SnapshotId>,
    /// Seconds since the epoch by the storage's clock: when `own` was written, or the newest of all.
    now: i64,
}

impl Sessions {
    /// Lists sessions, then what resolves them. `own` is the asking session, which was opened
    /// just now: the time of its lease is what the storage's clock shows.
    pub(crate) fn list(repository: &Repository, own: Option<SnapshotId>) -> Result<Self> {
        let storage = repository.storage();
        let mut found: BTreeMap<SnapshotId, Found> = BTreeMap::new();
        storage.list(Folder::Sessions, &mut |info| {
            let id =
                info.name.as_str().split('/').nth(1).and_then(|id| SnapshotId::from_hex(id).ok());
            let Some(id) = id else { return };
            match (info.name.base(), info.name.base().parse()) {
                ("end", _) => found.entry(id).or_default().has_end = true,
                ("forgotten", _) => found.entry(id).or_default().is_forgotten = true,
                (_, Ok(part)) => {
                    found.entry(id).or_default().parts.insert(part, info.modified);
                }
                _ => {}
            }
        })?;
        let is_over = |session: &Found| session.has_end || session.is_forgotten;
        let ended = found.iter().filter(|(_, session)| is_over(session)).map(|(id, _)| *id);
        let mut resolved: BTreeSet<SnapshotId> = ended.collect();
        storage.list(Folder::Snapshots, &mut |info| {
            resolved.extend(SnapshotId::from_hex(info.name.base()));
        })?;
        resolved.extend(repository.confirmed_fences()?);
        let newest = |session: &Found| session.parts.values().max().copied();
        let own = own.and_then(|own| newest(found.get(&own)?));
        let now = own.or_else(|| found.values().filter_map(newest).max()).unwrap_or(0);
        Ok(Self { found, resolved, now })
    }

    /// Sessions that are not resolved.
    pub(crate) fn open(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.found.keys().filter(|id| !self.resolved.contains(id)).copied()
    }

    /// Whether there are marks of forgotten snapshots.
    pub(crate) fn have_marks(&self) -> bool {
        self.found.values().any(|session| session.is_forgotten)
    }

    /// How long ago a session last gave a sign of life.
    fn silent(&self, id: &SnapshotId) -> Duration {
        let last = self.found.get(id).and_then(|session| session.parts.values().max());
        let seconds = last.map_or(0, |last| self.now.saturating_sub(*last));
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// Open sessions that have been silent for longer than `age`.
    pub(crate) fn silent_for(&self, age: Duration) -> Vec<SnapshotId> {
        self.open().filter(|id| self.silent(id) > age).collect()
    }

    /// When the first of the open sessions began, in seconds since the epoch by the storage's
    /// clock.
    pub(crate) fn oldest_open(&self) -> Option<i64> {
        self.open().filter_map(|id| self.found.get(&id)?.parts.values().min().copied()).min()
    }

    /// Leases and ends of resolved sessions, in the order in which they may be deleted: what tells
    /// that a session is over comes last, for without it the session would look open again.
    ///
    /// Of a forgotten snapshot the mark stays while one in `snapshots` names it as a predecessor:
    /// without the mark it would look lost. Who is at work now may have seen any of them. `None`:
    /// nobody knows what they name, so all marks stay.
    pub(crate) fn to_reap(
        &self,
        but: Option<SnapshotId>,
        snapshots: Option<&[SnapshotInfo]>,
    ) -> Vec<Vec<ObjectName>> {
        let is_alone = !self.open().any(|id| Some(id) != but);
        let named: Option<BTreeSet<SnapshotId>> = snapshots
            .filter(|_| is_alone)
            .map(|snapshots| snapshots.iter().flat_map(SnapshotInfo::heads).collect());
        let has_use = |id| named.as_ref().is_none_or(|named| named.contains(id));
        let mut all = Vec::new();
        for (id, session) in &self.found {
            if !self.resolved.contains(id) || Some(*id) == but {
                continue;
            }
            let parts = session.parts.keys().rev().map(|part| ObjectName::session(*id, *part));
            let end = session.has_end.then(|| ObjectName::session_end(*id));
            let forgotten = session.is_forgotten && !has_use(id);
            let forgotten = forgotten.then(|| ObjectName::session_forgotten(*id));
            let row: Vec<ObjectName> = parts.chain(end).chain(forgotten).collect();
            if !row.is_empty() {
                all.push(row);
            }
        }
        all
    }

    /// Whether a session has acknowledged all of these records in its renewals.
    pub(crate) fn has_acknowledged(
        &self,
        repository: &Repository,
        id: SnapshotId,
        records: &BTreeSet<RecordId>,
    ) -> Result<bool> {
        let mut missing = records.clone();
        let parts = self.found.get(&id).map(|session| &session.parts);
        for part in parts.into_iter().flat_map(|parts| parts.keys().rev()) {
            if *part == 0 || missing.is_empty() {
                break;
            }
            let Some(lease) = repository.lease(id, *part)? else { continue };
            for record in &lease.acknowledged {
                if let Some(record) = RecordId::from_slice(record) {
                    missing.remove(&record);
                }
            }
        }
        Ok(missing.is_empty())
    }

    /// What a session says of itself.
    pub(crate) fn describe(&self, repository: &Repository, id: SnapshotId) -> Result<OpenSession> {
        let first = self.found.get(&id).and_then(|session| session.parts.keys().next());
        let lease = match first {
            Some(part) => repository.lease(id, *part)?.unwrap_or_default(),
            None => Lease::default(),
        };
        let Lease { host, process, verb, started, .. } = lease;
        Ok(OpenSession { id, host, process, verb, started, silent: self.silent(&id) })
    }
}

impl Repository {
    /// Part of a lease; `None` if it went since it was listed, or cannot be read: what it says is
    /// for people, or a favour.
    fn lease(&self, id: SnapshotId, part: u32) -> Result<Option<Lease>> {
        match self.get_sealed(ObjectKind::Session, &ObjectName::session(id, part)) {
            Ok(message) => Ok(Lease::decode(&message[..]).ok()),
            Err(Error::Damaged { .. }) => Ok(None),
            Err(Error::Storage(e)) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Shuts a session out, unless it has committed. Whether it is shut out.
    pub(crate) fn fence(&self, id: SnapshotId, reason: &str) -> Result<bool> {
        self.put_mark(&ObjectName::fence(id), reason)?;
        match self.storage.get(&ObjectName::snapshot(id)) {
            // It had committed before. The fence stays, and means nothing.
            Ok(_) => Ok(false),
            Err(e) if e.is_not_found() => {
                self.put_mark(&ObjectName::fence_confirmed(id), reason)?;
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }
}
