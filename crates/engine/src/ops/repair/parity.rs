//! `repair parity`: says that packs get parity from now on, and makes that of the packs that have
//! none. Each of these is read whole, and only one whose SHA-256 is its name gets parity. Needs no
//! session: parity of a pack that a gc deletes meanwhile goes with the next one.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::format::parity::{Parity, Pieces};
use crate::hash::{ObjectId, Sha256};
use crate::monitor::{Interrupt, Monitor, Phase, Progress};
use crate::parity::Encoder;
use crate::repo::Repository;
use crate::storage::{Folder, ObjectName, StorageErrorKind};
use crate::tree::work::work_off;
use crate::{Error, Result};

use super::super::check::fault_text;
use super::check_features;

/// Bytes of a pack that are read at once.
const READ: u64 = 4 << 20;

/// How to repair parity.
#[derive(Debug, Clone, Default)]
pub struct RepairParityOptions {
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// Read what parity there is as well, and write anew what is damaged of it.
    pub all: bool,
    /// Threads; 0 means as many as the storage makes worthwhile.
    pub threads: usize,
}

/// What a repair of parity did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairParityReport {
    /// Packs had no parity until now.
    pub switched_on: bool,
    /// Packs present.
    pub packs: u64,
    /// Packs that were given parity.
    pub made: u64,
    /// Bytes of that.
    pub bytes: u64,
    /// Of these: packs whose parity was damaged.
    pub renewed: u64,
    /// Packs that are damaged and so got none, and what is wrong.
    pub damaged: Vec<(ObjectId, String)>,
}

/// Makes the parity that is missing.
pub fn parity(
    repository: &Repository,
    options: &RepairParityOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RepairParityReport> {
    check_features(repository)?;
    monitor.phase(Phase::Repairing);
    let switched_on = repository.set_parity(true, options.time)?;
    let (mut parity, mut packs) = (BTreeSet::new(), Vec::new());
    // A pack is there before its parity is.
    repository.storage().list(Folder::Parity, &mut |info| {
        parity.extend(ObjectId::from_hex(info.name.base()));
    })?;
    repository.storage().list(Folder::Packs, &mut |info| {
        packs.extend(ObjectId::from_hex(info.name.base()).ok().map(|id| (id, info.size)));
    })?;
    packs.sort_unstable();
    let condemned = repository.condemned_packs()?;
    let mut report =
        RepairParityReport { switched_on, packs: packs.len() as u64, ..Default::default() };
    packs.retain(|(id, _)| !condemned.contains(id) && (options.all || !parity.contains(id)));
    let total = packs.iter().map(|(_, size)| size).sum();
    let threads = match options.threads {
        0 => repository.storage().concurrency().clamp(1, 8),
        threads => threads,
    };
    let (shared, done) = (Mutex::new(&mut report), Mutex::new(0));
    work_off(threads, packs, |(id, size), _| {
        if interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let one = One { repository, id, size, had: parity.contains(&id) };
        let made = one.make()?;
        let mut report = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(0) => {}
            Ok(bytes) => {
                report.made += 1;
                report.bytes += bytes;
                report.renewed += u64::from(one.had);
            }
            Err(what) => report.damaged.push((id, what)),
        }
        let bytes = {
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            *done += size;
            *done
        };
        let progress = Progress { bytes, total_bytes: Some(total), ..Progress::default() };
        monitor.progress(&progress, ObjectName::pack(id).as_str().as_bytes());
        Ok(())
    })?;
    report.damaged.sort();
    for (id, what) in &report.damaged {
        monitor.problem(ObjectName::pack(*id).as_str(), what);
    }
    Ok(report)
}

/// A pack to be given parity.
struct One<'a> {
    repository: &'a Repository,
    id: ObjectId,
    size: u64,
    /// It has some already.
    had: bool,
}

impl One<'_> {
    /// Makes parity; how many bytes that is, 0 if there was no need. Or what is wrong with the
    /// pack: what is wrong with writing says nothing of it, and is an error.
    fn make(&self) -> Result<std::result::Result<u64, String>> {
        let (storage, name) = (self.repository.storage(), ObjectName::parity(self.id));
        let old = if self.had { self.read(&name)? } else { None };
        let bytes = match self.compute(old.as_ref()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Ok(0)),
            // A gc deleted it since the listing.
            Err(Error::Storage(e)) if e.is_not_found() => return Ok(Ok(0)),
            Err(error) => return fault_text(error).map(Err),
        };
        if self.had {
            match storage.delete(&name) {
                Err(e) if e.is_not_found() => {}
                other => other?,
            }
        }
        match storage.put(&name, &bytes) {
            // Whoever stored the pack was about to.
            Err(e) if e.kind == StorageErrorKind::AlreadyExists => Ok(Ok(0)),
            other => Ok(Ok(other.map(|()| bytes.len() as u64)?)),
        }
    }

    /// The parity that there is, if it is whole.
    fn read(&self, name: &ObjectName) -> Result<Option<Parity>> {
        match self.repository.storage().get(name) {
            Ok(bytes) => {
                let parity = Parity::parse(bytes).ok();
                Ok(parity.filter(|p| p.is_whole() && p.header().size == self.size))
            }
            Err(e) if matches!(e.kind, StorageErrorKind::NotFound | StorageErrorKind::Io) => {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The parity of the pack. `None` if it gets none, or if `old` is that of this pack.
    fn compute(&self, old: Option<&Parity>) -> Result<Option<Vec<u8>>> {
        let mut pieces = old.map(Pieces::new);
        let name = ObjectName::pack(self.id);
        let (mut encoder, mut hash) = (Encoder::new(self.size), Sha256::default());
        let (mut at, mut part) = (0, Vec::new());
        while at < self.size {
            let length = (self.size - at).min(READ);
            self.repository.storage().get_range(&name, at, length as usize, &mut part)?;
            hash.update(&part);
            encoder.update(&part);
            pieces.iter_mut().for_each(|pieces| pieces.update(&part));
            at += length;
        }
        if hash.finish() != self.id {
            return Err(Error::damaged(&name, "its SHA-256 is not its name"));
        }
        if pieces.is_some_and(Pieces::are_right) {
            return Ok(None);
        }
        Ok(encoder.finish())
    }
}
