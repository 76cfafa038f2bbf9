//! Tidying: leases of sessions that have come to an end, notes of snapshots and parity of packs
//! that are gone, and what writers that died left half written. And making room where there is
//! none left.

use std::collections::BTreeSet;

use crate::Result;
use crate::hash::{ObjectId, SnapshotId};
use crate::repo::sessions::Sessions;
use crate::storage::{Folder, ObjectName};

use super::{GcReport, Run, is_full};

impl Run<'_> {
    /// Removes what is left over. Fences stay for ever: a writer that was shut out may wake up
    /// at any time.
    pub(super) fn reap(&self, own: SnapshotId, report: &mut GcReport) -> Result<()> {
        let sessions = Sessions::list(self.repository, Some(own))?;
        let mut rows = self.ended(&sessions, Some(own))?;
        let notes = self.lost_notes()?;
        rows.extend(notes.into_iter().map(|name| vec![name]));
        let parity = self.lost_parity()?;
        rows.extend(parity.into_iter().map(|id| vec![ObjectName::parity(id)]));
        self.remove(rows, report)
    }

    /// What may go of sessions that have come to an end. Snapshots are read after the sessions were
    /// listed: who was not at work then had committed before.
    fn ended(&self, sessions: &Sessions, own: Option<SnapshotId>) -> Result<Vec<Vec<ObjectName>>> {
        if !sessions.have_marks() {
            return Ok(sessions.to_reap(own, Some(&[])));
        }
        let (snapshots, lost) = self.repository.committed_snapshots()?;
        Ok(sessions.to_reap(own, lost.is_empty().then_some(&snapshots[..])))
    }

    /// Packs that have parity.
    pub(super) fn parity(&self) -> Result<BTreeSet<ObjectId>> {
        let mut ids = BTreeSet::new();
        self.repository.storage().list(Folder::Parity, &mut |info| {
            ids.extend(ObjectId::from_hex(info.name.base()));
        })?;
        Ok(ids)
    }

    /// Parity of packs that are gone, and all of it where nobody wants it. A pack is there before
    /// its parity is, so parity is listed first.
    fn lost_parity(&self) -> Result<BTreeSet<ObjectId>> {
        let mut parity = self.parity()?;
        if parity.is_empty() || self.repository.settings()?.renounces_parity() {
            return Ok(parity);
        }
        self.repository.storage().list(Folder::Packs, &mut |info| {
            if let Ok(id) = ObjectId::from_hex(info.name.base()) {
                parity.remove(&id);
            }
        })?;
        Ok(parity)
    }

    fn remove(&self, rows: Vec<Vec<ObjectName>>, report: &mut GcReport) -> Result<()> {
        let all: usize = rows.iter().map(Vec::len).sum();
        let refused = self.delete(rows.into_iter().enumerate(), report)?;
        report.reaped += all.saturating_sub(refused.len()) as u64;
        report.reaped += self.repository.storage().reap(self.options.silent_after)?;
        Ok(())
    }

    /// Notes of snapshots that are gone. A note is written to a snapshot that is there, so notes
    /// are listed first.
    fn lost_notes(&self) -> Result<Vec<ObjectName>> {
        let mut notes = Vec::new();
        self.repository.storage().list(Folder::Notes, &mut |info| {
            let id = info.name.as_str().split('/').nth(1);
            if let Some(id) = id.and_then(|id| SnapshotId::from_hex(id).ok()) {
                notes.push((id, info.name));
            }
        })?;
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        let mut snapshots = BTreeSet::new();
        self.repository.storage().list(Folder::Snapshots, &mut |info| {
            snapshots.extend(SnapshotId::from_hex(info.name.base()));
        })?;
        let lost = notes.into_iter().filter(|(id, _)| !snapshots.contains(id));
        Ok(lost.map(|(_, name)| name).collect())
    }

    /// Stores a small object. If there is no space for it, what nobody needs and may be deleted at
    /// once makes room: leases of sessions that have ended, and what was left half written.
    pub(super) fn with_room<T>(
        &self,
        report: &mut GcReport,
        store: impl Fn() -> Result<T>,
    ) -> Result<T> {
        match store() {
            Err(error) if is_full(&error) => {
                let sessions = Sessions::list(self.repository, None)?;
                self.remove(self.ended(&sessions, None)?, report)?;
                store()
            }
            other => other,
        }
    }
}
