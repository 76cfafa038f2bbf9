//! First step of a check: config, key slots, the small objects of the commit protocol, snapshots,
//! and the index against the listing of packs. A broken object is a finding and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::config::Config;
use crate::format::envelope;
use crate::format::keyslot::{KeySlot, Label};
use crate::format::session::{Condemned, Lease, Mark, Setting};
use crate::format::snapshot::{Note, Snapshot};
use crate::hash::{BlobId, ObjectId, RecordId, SnapshotId};
use crate::monitor::Interrupt;
use crate::repo::index::listing::PackListing;
use crate::repo::index::segment::ReadSegment;
use crate::repo::memory::VANISHED;
use crate::repo::settings::Settings;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{Index, Repository};
use crate::storage::{Folder, ObjectName};
use crate::tree::entry::decode_alone;
use crate::{Error, Result};

use super::findings::Ledger;
use super::{HEALS, Severity, fault_text};

/// What there is.
pub(super) struct Inventory {
    /// Snapshots that can be read, oldest first; not those shut out for good.
    pub(super) snapshots: Vec<SnapshotInfo>,
    /// The index of all segments that can be read. A pack counts if it is there at its size.
    pub(super) index: Index,
    /// Segments read.
    pub(super) segments: u64,
    /// Packs in no segment that can be read.
    pub(super) orphans: Orphans,
    /// Packs that have parity.
    pub(super) parity: BTreeSet<ObjectId>,
    /// Packs that should have parity and have none.
    pub(super) without_parity: u64,
}

/// Packs with their sizes.
type Orphans = Vec<(ObjectId, u64)>;

struct Objects<'a> {
    repository: &'a Repository,
    ledger: &'a Ledger,
    interrupt: &'a Interrupt,
}

pub(super) fn check(
    repository: &Repository,
    ledger: &Ledger,
    interrupt: &Interrupt,
) -> Result<Inventory> {
    let objects = Objects { repository, ledger, interrupt };
    objects.config()?;
    if repository.config().is_encrypted() {
        objects.key_slots()?;
    }
    // Snapshots before index before packs: what a listed snapshot needs was stored before it.
    let snapshots = objects.snapshots()?;
    let settings = objects.records()?;
    let (index, segments, orphans) = objects.index()?;
    let (parity, without_parity) = objects.parity(&index, settings)?;
    Ok(Inventory { snapshots, index, segments, orphans, parity, without_parity })
}

impl Objects<'_> {
    fn damage(&self, name: impl ToString, what: impl Into<String>) {
        self.ledger.add(name, what, Severity::Damage);
    }

    fn note(&self, name: impl ToString, what: impl Into<String>) {
        self.ledger.add(name, what, Severity::Note);
    }

    /// Reads an object and makes something of it; a second time before it is called damaged.
    /// `None` if there is a finding, or if it went away since it was listed.
    fn read<T>(
        &self,
        name: &ObjectName,
        mut make: impl FnMut(Vec<u8>) -> std::result::Result<T, String>,
    ) -> Result<Option<T>> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let storage = self.repository.storage();
        let mut attempt =
            || -> Result<T> { make(storage.get(name)?).map_err(|what| Error::damaged(name, what)) };
        let result = match attempt() {
            Err(Error::Damaged { .. }) => attempt(),
            other => other,
        };
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Storage(e)) if e.is_not_found() => Ok(None),
            Err(error) => {
                self.damage(name, fault_text(error)?);
                Ok(None)
            }
        }
    }

    fn read_sealed<M: Message + Default>(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
    ) -> Result<Option<M>> {
        let (keys, id) = (self.repository.keys(), self.repository.id());
        self.read(name, |bytes| {
            let message = envelope::open(keys, id, kind, name.as_str(), bytes)
                .map_err(|e| fault_text(e).unwrap_or_else(|e| e.to_string()))?;
            M::decode(&message[..]).map_err(|e| e.to_string())
        })
    }

    fn list(&self, folder: Folder) -> Result<Vec<ObjectName>> {
        let mut names = Vec::new();
        self.repository.storage().list(folder, &mut |info| names.push(info.name))?;
        names.sort();
        Ok(names)
    }

    fn strange(&self, name: &ObjectName, folder: Folder) {
        self.note(name, format!("its name is none that Holdfast gives in {}/", folder.name()));
    }

    fn config(&self) -> Result<()> {
        let name = ObjectName::config();
        let expected = self.repository.config();
        let read = self.read(&name, |bytes| {
            let config = Config::parse(&bytes).map_err(|e| e.to_string())?;
            if !Config::verify(self.repository.keys(), &bytes) {
                return Err("its MAC is wrong".into());
            }
            if config != *expected {
                return Err("it is another repository's".into());
            }
            Ok(())
        })?;
        if read.is_none() && self.ledger.handle(name.as_str()).is_none() {
            self.damage(&name, "it is missing: without it nobody can open the repository again");
        }
        Ok(())
    }

    fn key_slots(&self) -> Result<()> {
        let mut good = 0;
        for name in self.list(Folder::Keys)? {
            if RecordId::from_hex(name.base()).is_err() {
                self.strange(&name, Folder::Keys);
                continue;
            }
            let read = self.read(&name, |bytes| self.key_slot(&name, &bytes))?;
            good += u64::from(read.is_some());
        }
        if good == 0 {
            let what = "no key slot is left whole: once closed, nobody could open the repository";
            self.damage("keys", what);
        }
        Ok(())
    }

    fn key_slot(&self, name: &ObjectName, bytes: &[u8]) -> std::result::Result<(), String> {
        let slot = KeySlot::parse(bytes)?;
        let label = envelope::open(
            self.repository.keys(),
            self.repository.id(),
            ObjectKind::SlotLabel,
            name.as_str(),
            slot.label.clone(),
        )
        .map_err(|e| e.to_string())?;
        let label = Label::decode(&label[..]).map_err(|e| e.to_string())?;
        if label.body_hash != slot.body_hash() {
            return Err("its content is not what its label was made for".into());
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        let names = self.list(Folder::Snapshots)?;
        let present: BTreeSet<_> = names.iter().map(|n| n.base().to_owned()).collect();
        let fenced = self.fences()?;
        let forgotten = self.sessions(&present, &fenced)?;
        let mut snapshots = Vec::new();
        for name in names {
            let Ok(id) = SnapshotId::from_hex(name.base()) else {
                self.strange(&name, Folder::Snapshots);
                continue;
            };
            if fenced.contains(&id) {
                self.note(&name, "its session was shut out: it counts as never committed");
                continue;
            }
            let record = self.read_sealed::<Snapshot>(ObjectKind::Snapshot, &name)?;
            match record {
                Some(record) => {
                    if let Err(what) = check_record(&record) {
                        let handle = self.ledger.add(&name, what, Severity::Loss);
                        self.ledger.hit(handle, id, None);
                    }
                    snapshots.push(SnapshotInfo { id, record });
                }
                // No handle: it was forgotten since the listing.
                None => {
                    if let Some(handle) = self.ledger.handle(name.as_str()) {
                        self.ledger.hit(handle, id, None);
                    }
                }
            }
        }
        snapshots.sort_by_key(|s| (s.record.time, s.id));
        for id in self.repository.vanished(&snapshots) {
            self.missing_snapshot(id, VANISHED);
        }
        let known = |id: &SnapshotId| {
            present.contains(&id.to_string()) || fenced.contains(id) || forgotten.contains(id)
        };
        let heads: BTreeSet<_> = snapshots.iter().flat_map(SnapshotInfo::heads).collect();
        for id in heads.into_iter().filter(|id| !known(id)) {
            // It may have been forgotten since the listings.
            if self.repository.is_accounted_for(id) == Some(false) {
                let what = "it is gone, though a later snapshot names it and nobody forgot it";
                self.missing_snapshot(id, what);
            }
        }
        Ok(snapshots)
    }

    /// Notes that a snapshot is gone, unless that was said.
    fn missing_snapshot(&self, id: SnapshotId, what: &str) {
        let name = ObjectName::snapshot(id);
        if self.ledger.handle(name.as_str()).is_none() {
            self.note(name, what);
        }
    }

    /// Checks fences; the sessions that are shut out for good.
    fn fences(&self) -> Result<BTreeSet<SnapshotId>> {
        let (mut fences, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
        for name in self.list(Folder::Fences)? {
            let base = name.base();
            let (set, id) = match base.strip_suffix(".confirmed") {
                Some(id) => (&mut confirmed, id),
                None => (&mut fences, base),
            };
            let Ok(id) = SnapshotId::from_hex(id) else {
                self.strange(&name, Folder::Fences);
                continue;
            };
            set.insert(id);
            self.read_sealed::<Mark>(ObjectKind::Fence, &name)?;
        }
        for id in confirmed.difference(&fences) {
            let what = "it is missing, though its confirmation is there";
            self.damage(ObjectName::fence(*id), what);
        }
        Ok(confirmed)
    }

    /// Checks sessions; the snapshots that were forgotten.
    fn sessions(
        &self,
        snapshots: &BTreeSet<String>,
        fenced: &BTreeSet<SnapshotId>,
    ) -> Result<BTreeSet<SnapshotId>> {
        let mut parts: BTreeMap<SnapshotId, BTreeSet<u32>> = BTreeMap::new();
        let (mut committed, mut forgotten) = (BTreeSet::new(), BTreeSet::new());
        for name in self.list(Folder::Sessions)? {
            let id = name.as_str().split('/').nth(1).and_then(|id| SnapshotId::from_hex(id).ok());
            match (id, name.base(), name.base().parse()) {
                (Some(id), "end", _) => {
                    parts.entry(id).or_default();
                    let mark = self.read_sealed::<Mark>(ObjectKind::Session, &name)?;
                    if mark.is_some_and(|mark| mark.reason == "committed") {
                        committed.insert(id);
                    }
                }
                (Some(id), "forgotten", _) => {
                    if self.read_sealed::<Mark>(ObjectKind::Session, &name)?.is_some() {
                        forgotten.insert(id);
                    }
                }
                (Some(id), _, Ok(part)) => {
                    parts.entry(id).or_default().insert(part);
                    self.read_sealed::<Lease>(ObjectKind::Session, &name)?;
                }
                _ => self.strange(&name, Folder::Sessions),
            }
        }
        for id in committed {
            let is_known = snapshots.contains(&id.to_string()) || fenced.contains(&id);
            if !is_known && !forgotten.contains(&id) {
                let what = "it is gone, though its session committed it and nobody forgot it";
                self.note(ObjectName::snapshot(id), what);
            }
        }
        for (id, parts) in parts {
            let expected = parts.last().map_or(1, |last| last.saturating_add(1));
            // Bounded: a name can hold any number.
            let missing = (0..expected.min(1 << 16)).find(|part| !parts.contains(part));
            if let Some(part) = missing {
                let what = "it is missing, though later parts of the session are there";
                self.note(ObjectName::session(id, part), what);
            }
        }
        Ok(forgotten)
    }

    /// Packs with parity, and how many lack it that should have it.
    fn parity(&self, index: &Index, settings: Settings) -> Result<(BTreeSet<ObjectId>, u64)> {
        let mut parity = BTreeSet::new();
        for name in self.list(Folder::Parity)? {
            match ObjectId::from_hex(name.base()) {
                Ok(id) => drop(parity.insert(id)),
                Err(_) => self.strange(&name, Folder::Parity),
            }
        }
        let mut without = 0;
        if settings.wants_parity() {
            index.each_pack(&mut |number, id, _| {
                without += u64::from(index.is_usable(number) && !parity.contains(&id));
                Ok(())
            })?;
        }
        Ok((parity, without))
    }

    /// Condemned records, notes and settings; what these say.
    fn records(&self) -> Result<Settings> {
        let mut settings = Vec::new();
        for (folder, kind) in [
            (Folder::Condemned, ObjectKind::Condemned),
            (Folder::Notes, ObjectKind::Note),
            (Folder::Settings, ObjectKind::Setting),
        ] {
            for name in self.list(folder)? {
                let of = name.as_str().split('/').nth(1).map(SnapshotId::from_hex);
                let is_strange = kind == ObjectKind::Note && !matches!(of, Some(Ok(_)));
                let id = RecordId::from_hex(name.base()).ok().filter(|_| !is_strange);
                let Some(id) = id else {
                    self.strange(&name, folder);
                    continue;
                };
                if kind == ObjectKind::Note {
                    self.read_sealed::<Note>(kind, &name)?;
                } else if kind == ObjectKind::Setting {
                    let setting = self.read_sealed::<Setting>(kind, &name)?;
                    settings.extend(setting.map(|setting| (id, setting)));
                } else if let Some(record) = self.read_sealed::<Condemned>(kind, &name)? {
                    if record.packs.iter().chain(&record.segments).any(|id| id.len() != 32) {
                        self.damage(&name, "it names what is no object");
                    }
                    self.ledger
                        .condemn(record.packs.iter().filter_map(|id| ObjectId::from_slice(id)));
                }
            }
        }
        Ok(Settings::of(settings))
    }

    /// The index of what can be read, how many segments that were, and the packs in none.
    fn index(&self) -> Result<(Index, u64, Orphans)> {
        let mut segments = Vec::new();
        self.repository.storage().list(Folder::Index, &mut |info| match ObjectId::from_hex(
            info.name.base(),
        ) {
            Ok(id) => segments.push((id, info.size)),
            Err(_) => self.strange(&info.name, Folder::Index),
        })?;
        segments.sort_unstable();
        let packs = PackListing::of(self.repository)?;
        let (mut read, mut superseded, mut faults) = (0, BTreeSet::new(), Vec::new());
        let mut accept = |id, segment: Result<ReadSegment>| match segment {
            Ok(segment) => {
                read += 1;
                superseded.extend(segment.supersedes.iter().copied());
                Ok(Some(self.sound_part(segment, &mut faults)))
            }
            Err(error) => {
                faults.push((id, fault_text(error)?));
                // Merged away by a gc since the listing; the check starts again if so.
                Ok(None)
            }
        };
        let (index, orphans) = Index::from_storage(self.repository, segments, &packs, &mut accept)?;
        for (id, what) in faults {
            let name = ObjectName::index(id);
            match superseded.contains(&id) {
                true => self.note(name, format!("{what}; another one has taken its place")),
                false => self.damage(&name, what),
            }
        }
        index.each_pack(&mut |number, id, indexed| {
            let what = match packs.size(&id) {
                _ if index.is_usable(number) => return Ok(()),
                Some(size) => {
                    let what = format!("it is {size} bytes long, and the index says {indexed}");
                    if self.repository.heal_pack(id, indexed)?.is_ok() {
                        let what = format!("{what}; {HEALS}");
                        self.ledger.add(ObjectName::pack(id), what, Severity::Damage);
                        self.ledger.healed_pack(number);
                        return Ok(());
                    }
                    what
                }
                None => "it is missing".into(),
            };
            let handle = self.ledger.add(ObjectName::pack(id), what, Severity::Damage);
            self.ledger.bad_pack(number, handle);
            Ok(())
        })?;
        for name in &packs.strange {
            self.note(format!("packs/{name}"), "its name is no pack's");
        }
        Ok((index, read, orphans))
    }

    /// A segment without the packs that it describes wrongly: one of them must not cost the rest.
    fn sound_part(
        &self,
        mut segment: ReadSegment,
        faults: &mut Vec<(ObjectId, String)>,
    ) -> ReadSegment {
        let id = segment.id;
        faults.extend(segment.problems.drain(..).map(|what| (id, what)));
        segment.packs.retain(|pack| match pack.check(self.repository) {
            Ok(()) => true,
            Err(what) => {
                faults.push((id, format!("pack {}: {what}", pack.id)));
                false
            }
        });
        segment
    }
}

/// What can be said of a snapshot's record without its trees.
fn check_record(record: &Snapshot) -> std::result::Result<(), String> {
    for (number, root) in record.roots.iter().enumerate() {
        if !root.path.starts_with(b"/") {
            return Err("a root's path is not absolute".into());
        }
        let next = record.roots.get(number + 1);
        if next.is_some_and(|next| next.path <= root.path) {
            return Err("its roots are not sorted by path".into());
        }
        if BlobId::from_slice(&root.tree).is_none() {
            return Err("a root has no tree".into());
        }
        if !root.totals.is_empty() && BlobId::from_slice(&root.totals).is_none() {
            return Err("the id of a root's totals has the wrong length".into());
        }
        for ancestor in &root.ancestors {
            let entry = ancestor.entry.clone().unwrap_or_default();
            decode_alone(entry, ancestor.owner.clone().unwrap_or_default())?;
        }
    }
    let ids = record.heads.iter().chain(Some(&record.parent).filter(|id| !id.is_empty()));
    if ids.into_iter().any(|id| SnapshotId::from_slice(id).is_none()) {
        return Err("it names what is no snapshot".into());
    }
    Ok(())
}
