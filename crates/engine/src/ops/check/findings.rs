//! The ledger of a check: one finding an object, bounded in number, and which packs and blobs
//! each finding makes unreadable, so that the trace can tell whom it hits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Result;
use crate::hash::{BlobId, ObjectId, SnapshotId};
use crate::repo::Index;
use crate::repo::index::Place;
use crate::repo::snapshots::SnapshotInfo;

use super::{Finding, MAX_FINDINGS, MAX_PATHS, Severity};

/// Number of a finding.
pub(super) type Handle = usize;

/// Collects findings. Shared between threads.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    findings: Vec<Finding>,
    by_object: HashMap<String, Handle>,
    total: u64,
    bad: Bad,
    /// Damaged packs.
    packs: BTreeSet<ObjectId>,
    /// Packs on their way out.
    condemned: BTreeSet<ObjectId>,
    /// Packs of another size than the index says, by their numbers in it, that parity heals.
    healed: HashSet<u32>,
}

/// What cannot be read, and the finding that says so.
#[derive(Debug, Default, Clone)]
pub(super) struct Bad {
    /// Packs by their number in the index.
    packs: HashMap<u32, Handle>,
    /// Single copies of blobs: pack number and ordinal.
    places: HashMap<(u32, u32), Handle>,
    /// Blobs, wherever they are.
    blobs: HashMap<BlobId, Handle>,
}

impl Bad {
    pub(super) fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.places.is_empty() && self.blobs.is_empty()
    }

    /// The finding that keeps a blob from being read; `None` if a good copy is left.
    pub(super) fn fault(&self, index: &Index, id: &BlobId) -> Result<Option<Handle>> {
        if let Some(handle) = self.blobs.get(id) {
            return Ok(Some(*handle));
        }
        let places = index.places(id)?;
        // A copy in a pack that no segment lists serves only where there is no other.
        let (listed, adopted): (Vec<Place>, Vec<Place>) =
            places.into_iter().partition(|place| place.pack < index.loaded_end());
        let mut first = None;
        for place in listed {
            let one = self.places.get(&(place.pack, place.ordinal));
            match one.or_else(|| self.packs.get(&place.pack)) {
                Some(handle) => first = first.or(Some(*handle)),
                None => return Ok(None),
            }
        }
        let adopted = || self.packs.get(&adopted.first()?.pack).copied();
        Ok(first.or_else(adopted))
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().findings.is_empty()
    }

    /// Adds a fault of an object to its finding, which is made if need be.
    pub(super) fn add(
        &self,
        object: impl ToString,
        what: impl Into<String>,
        severity: Severity,
    ) -> Handle {
        self.lock().add(object.to_string(), what.into(), severity)
    }

    /// The finding on an object, if there is one.
    pub(super) fn handle(&self, object: &str) -> Option<Handle> {
        self.lock().by_object.get(object).copied()
    }

    /// Says that a whole pack is unreadable.
    pub(super) fn bad_pack(&self, pack: u32, handle: Handle) {
        self.lock().bad.packs.insert(pack, handle);
    }

    /// Says that packs are on their way out: damage to them is no more than worth knowing, as long
    /// as nothing is lost by it.
    pub(super) fn condemn(&self, packs: impl Iterator<Item = ObjectId>) {
        self.lock().condemned.extend(packs);
    }

    /// Says that a pack of the wrong size can be read all the same.
    pub(super) fn healed_pack(&self, pack: u32) {
        self.lock().healed.insert(pack);
    }

    /// Whether that was said of the pack of this number.
    pub(super) fn is_healed(&self, pack: u32) -> bool {
        self.lock().healed.contains(&pack)
    }

    /// Packs that are damaged or missing, all of them.
    pub(super) fn damaged_packs(&self) -> BTreeSet<ObjectId> {
        self.lock().packs.clone()
    }

    /// Says that one copy of a blob is.
    pub(super) fn bad_place(&self, pack: u32, ordinal: u32, handle: Handle) {
        self.lock().bad.places.insert((pack, ordinal), handle);
    }

    /// Says that a blob is, wherever it lies. The first finding to say so stays.
    pub(super) fn bad_blob(&self, id: BlobId, handle: Handle) {
        self.lock().bad.blobs.entry(id).or_insert(handle);
    }

    /// What is unreadable so far.
    pub(super) fn bad(&self) -> Bad {
        self.lock().bad.clone()
    }

    /// Says that a snapshot, and a path in it if one is given, is hit by a finding.
    pub(super) fn hit(&self, handle: Handle, snapshot: SnapshotId, path: Option<Vec<u8>>) {
        let mut inner = self.lock();
        let Some(finding) = inner.findings.get_mut(handle) else { return };
        finding.severity = Severity::Loss;
        if finding.snapshots.last() != Some(&snapshot) && !finding.snapshots.contains(&snapshot) {
            finding.snapshots.push(snapshot);
        }
        if let Some(path) = path
            && finding.paths.len() < MAX_PATHS
            && finding.paths.last().is_none_or(|last| *last != (snapshot, path.clone()))
        {
            finding.paths.push((snapshot, path));
        }
    }

    /// All findings, the worst first, and how many there would be without a bound.
    pub(super) fn finish(&mut self, order: &[SnapshotInfo]) -> (Vec<Finding>, u64) {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut findings = inner.findings.clone();
        let age = |id: &SnapshotId| order.iter().position(|s| s.id == *id);
        for finding in &mut findings {
            finding.snapshots.sort_by_key(|id| (age(id), *id));
        }
        findings.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.object.cmp(&b.object)));
        (findings, inner.total)
    }
}

impl Inner {
    fn add(&mut self, object: String, mut what: String, mut severity: Severity) -> Handle {
        let pack = object.strip_prefix("packs/").and_then(|name| name.get(3..));
        if severity >= Severity::Damage
            && let Some(Ok(pack)) = pack.map(ObjectId::from_hex)
        {
            self.packs.insert(pack);
            if self.condemned.contains(&pack) {
                severity = Severity::Note;
                what.push_str("; it is on its way out, and a gc deletes it");
            }
        }
        if let Some(handle) = self.by_object.get(&object) {
            if let Some(finding) = self.findings.get_mut(*handle) {
                finding.faults += 1;
                if severity > finding.severity {
                    (finding.severity, finding.what) = (severity, what);
                }
            }
            return *handle;
        }
        self.total += 1;
        if self.findings.len() > MAX_FINDINGS {
            // What comes after the bound shares the last finding.
            if let Some(last) = self.findings.last_mut() {
                last.faults += 1;
                last.severity = last.severity.max(severity);
            }
            return MAX_FINDINGS;
        }
        let handle = self.findings.len();
        let object = if handle == MAX_FINDINGS { "further objects".to_owned() } else { object };
        self.by_object.insert(object.clone(), handle);
        let (snapshots, paths) = Default::default();
        self.findings.push(Finding { object, what, severity, faults: 1, snapshots, paths });
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_bounded_and_merged() {
        let mut ledger = Ledger::default();
        for i in 0..MAX_FINDINGS + 50 {
            ledger.add(format!("packs/{i}"), "gone", Severity::Note);
        }
        let handle = ledger.add("packs/7", "worse", Severity::Damage);
        let id = SnapshotId::new([1; 16]);
        for _ in 0..MAX_PATHS + 1 {
            ledger.hit(handle, id, Some(b"/a".to_vec()));
            ledger.hit(handle, id, Some(b"/b".to_vec()));
        }
        let (findings, total) = ledger.finish(&[]);
        assert_eq!((findings.len(), total), (MAX_FINDINGS + 1, MAX_FINDINGS as u64 + 50));
        let first = findings.first().expect("one");
        assert_eq!((first.object.as_str(), first.what.as_str()), ("packs/7", "worse"));
        assert_eq!((first.severity, first.faults), (Severity::Loss, 2));
        assert_eq!((first.snapshots.len(), first.paths.len()), (1, MAX_PATHS));
    }
}
