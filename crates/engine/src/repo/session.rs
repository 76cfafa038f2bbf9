//! The commit protocol of a writer: begin, commit, end (docs/format.md, "Sessions and commit";
//! the reasons and the model are in docs/design/protocol.md). The order of the storage calls in
//! here is the protocol: do not move one without the model.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::session::{Lease, Mark};
use crate::format::snapshot::Snapshot;
use crate::hash::{ObjectId, SnapshotId};
use crate::storage::{ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::index::Index;
use super::index::listing::PackListing;
use super::reader::is_gone;
use super::writer::BlobWriter;
use super::{Repository, new_session_id};

/// Who writes, for other people to see.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// Host name.
    pub host: String,
    /// Process number.
    pub process: u32,
    /// "backup", …
    pub verb: String,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
}

/// An open session: a lease, and the index as its rules allow it to be used.
#[derive(Debug)]
pub struct Session<'a> {
    repository: &'a Repository,
    writer: Writer,
    id: SnapshotId,
    /// Packs that this session does not rely on, or no longer.
    condemned: Mutex<BTreeSet<ObjectId>>,
    /// Number of the newest part of its lease.
    part: AtomicU32,
    index: Index,
    /// The commit's outcome is not known: this session must not be said to have ended.
    unknown: AtomicBool,
}

impl Repository {
    /// Stores a fence, a confirmation or an end. One that is there already is as good.
    pub(crate) fn put_mark(&self, name: &ObjectName, reason: &str) -> Result<()> {
        let kind = if name.as_str().starts_with("fences/") {
            ObjectKind::Fence
        } else {
            ObjectKind::Session
        };
        let mark = Mark { host: String::new(), reason: reason.into() };
        match self.put_sealed(kind, name, &mark.encode_to_vec()) {
            Err(Error::Storage(e)) if e.kind == StorageErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Opens a session: stores its lease, and nothing else.
    pub(crate) fn put_lease(&self, writer: &Writer) -> Result<SnapshotId> {
        let id = new_session_id()?;
        self.put_lease_part(id, 0, writer, Vec::new())?;
        Ok(id)
    }

    fn put_lease_part(
        &self,
        id: SnapshotId,
        part: u32,
        writer: &Writer,
        acknowledged: Vec<Vec<u8>>,
    ) -> Result<()> {
        let lease = Lease {
            host: writer.host.clone(),
            process: writer.process,
            verb: writer.verb.clone(),
            started: writer.time,
            acknowledged,
        };
        let name = ObjectName::session(id, part);
        self.put_sealed(ObjectKind::Session, &name, &lease.encode_to_vec())
    }
}

impl<'a> Session<'a> {
    /// Rule 1. Lease; then condemned, index and packs are listed, in that order.
    pub fn begin(repository: &'a Repository, writer: Writer) -> Result<Self> {
        Ok(Self::begin_and(repository, writer, || Ok(()))?.0)
    }

    /// The same, and what `read` reads meanwhile, once the lease is there.
    pub(crate) fn begin_and<T: Send>(
        repository: &'a Repository,
        writer: Writer,
        read: impl FnOnce() -> Result<T> + Send,
    ) -> Result<(Self, T)> {
        let mut session = Self::lease(repository, writer)?;
        // Not copied: it may be a million packs.
        let condemned = std::mem::take(&mut *session.condemned());
        let (index, read) = repository
            .both(|| Index::load(repository, &condemned), read)
            // Nobody should wait for this session. If even that fails, a gc will find out.
            .inspect_err(|_| drop(session.end("failed")))?;
        session.index = index;
        *session.condemned() = condemned;
        Ok((session, read))
    }

    /// The start of Begin: lease, and what is condemned.
    fn lease(repository: &'a Repository, writer: Writer) -> Result<Self> {
        let id = repository.put_lease(&writer)?;
        let condemned = repository.condemned_packs().inspect_err(|_| {
            drop(repository.put_mark(&ObjectName::session_end(id), "failed"));
        })?;
        let index = Index::from_segments(&[], Vec::new())?;
        let (part, unknown) = (AtomicU32::new(0), AtomicBool::new(false));
        let condemned = Mutex::new(condemned);
        Ok(Self { repository, writer, id, condemned, part, index, unknown })
    }

    fn condemned(&self) -> MutexGuard<'_, BTreeSet<ObjectId>> {
        self.condemned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sign of life, which also says which condemned records this session heeds from now on:
    /// what it relied on in their packs is copied out first. A gc need not wait for it then.
    pub fn renew(&self, blobs: &BlobWriter<'_>) -> Result<()> {
        let (records, fresh) = self.repository.condemned_beside(&self.condemned())?;
        if !fresh.is_empty() {
            blobs.leave(&fresh)?;
            blobs.flush()?;
            blobs.copy_out(&fresh)?;
            blobs.flush()?;
            self.condemned().extend(fresh);
        }
        let part = self.part.fetch_add(1, Ordering::SeqCst) + 1;
        let acknowledged = records.iter().map(|id| id.as_bytes().to_vec()).collect();
        self.repository.put_lease_part(self.id, part, &self.writer, acknowledged)
    }

    /// Its id, and that of the snapshot it will commit.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// The index: an entry counts only if its pack was listed at its size and is not condemned.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The repository.
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// Rules 1, 2 and 3. Commits `snapshot`, a partial one of what has been given to `blobs` so
    /// far, through a session of its own, while this one goes on. That session begins like any
    /// other, and relies on what this one relies on; so it tests exactly that. If a gc has
    /// condemned some of it, there is no partial snapshot this time. All that was put must be
    /// flushed.
    pub fn commit_partial(
        &self,
        blobs: &BlobWriter<'_>,
        snapshot: &Snapshot,
    ) -> Result<Option<SnapshotId>> {
        let partial = Self::lease(self.repository, self.writer.clone())?;
        let packs = PackListing::of(self.repository)?;
        let stays = {
            // A renewal copied out of these, to its end. One that failed on its way may have found
            // them gone: then this session is shut out, and a new one would not be.
            let settled = self.condemned();
            let fits = |condemned: &BTreeSet<ObjectId>| {
                blobs.relies_only_on(|id, size| {
                    settled.contains(&id)
                        || packs.size(&id) == Some(size) && !condemned.contains(&id)
                })
            };
            let condemned = partial.condemned();
            fits(&condemned)? && fits(&self.repository.condemned_beside(&condemned)?.1)?
        };
        if !stays {
            partial.end("what it needs is condemned")?;
            return Ok(None);
        }
        partial.put_snapshot(snapshot).map(Some)
    }

    /// Rules 2 and 3. Commits `snapshot`, whose blobs have all been given to `writer`. The
    /// session's id is used up, be it committed or not.
    pub fn commit(&self, blobs: &BlobWriter<'_>, snapshot: &Snapshot) -> Result<SnapshotId> {
        blobs.flush()?;
        let (_, fresh) = self.repository.condemned_beside(&self.condemned())?;
        if blobs.copy_out(&fresh)? > 0 {
            blobs.flush()?;
        }
        self.put_snapshot(snapshot)
    }

    fn put_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotId> {
        let name = ObjectName::snapshot(self.id);
        let stored =
            self.repository.put_sealed(ObjectKind::Snapshot, &name, &snapshot.encode_to_vec());
        if let Err(error) = stored {
            self.resolve_unknown(&name, error)?;
        }
        // Committed, if there is no fence. The snapshot resolves the session; the mark says that
        // there was one, should it vanish, and nobody waits for it.
        let end = || {
            let _ = self.end("committed");
            Ok(())
        };
        self.repository.both(|| self.test_fence(), end)?;
        Ok(self.id)
    }

    /// An error if this session was shut out.
    pub(crate) fn test_fence(&self) -> Result<()> {
        match self.repository.storage().get(&ObjectName::fence(self.id)) {
            Ok(_) => Err(Error::Fenced),
            Err(e) if e.is_not_found() => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// What is behind an error that ended this session: that what it relies on is gone, if a gc
    /// shut it out, is no loss but a consequence.
    pub(crate) fn cause_of(&self, error: Error) -> Error {
        match is_gone(&error).then(|| self.test_fence()) {
            Some(Err(Error::Fenced)) => Error::Fenced,
            _ => error,
        }
    }

    /// The PUT of the snapshot failed, or its answer was lost. Either it is there after all, or
    /// this id is shut out for good, by our own hand.
    fn resolve_unknown(&self, name: &ObjectName, error: Error) -> Result<()> {
        self.unknown.store(true, Ordering::SeqCst);
        match self.repository.storage().get(name) {
            Ok(_) => {
                self.unknown.store(false, Ordering::SeqCst);
                Ok(())
            }
            Err(e) if e.is_not_found() => {
                self.repository.put_mark(&ObjectName::fence(self.id), "the commit failed")?;
                self.repository
                    .put_mark(&ObjectName::fence_confirmed(self.id), "the commit failed")?;
                self.unknown.store(false, Ordering::SeqCst);
                Err(error)
            }
            Err(_) => Err(error),
        }
    }

    /// Says that nothing more will come from this session. While it is not known whether its
    /// snapshot was stored that would be a lie, and only a fence can settle it: then nothing is
    /// said.
    pub fn end(&self, reason: &str) -> Result<()> {
        if self.unknown.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.repository.put_mark(&ObjectName::session_end(self.id), reason)
    }

    /// Who writes.
    pub fn writer(&self) -> &Writer {
        &self.writer
    }
}
