//! `check` with the storage's own checksums: what they verify is not read, what they do not is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::common::{back_up, repository};
use holdfast_engine::hash::{ObjectId, Sha256};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::repo::open::open;
use holdfast_engine::repo::{OpenOptions, Repository};
use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{MemoryStorage, MemoryTree};

/// A storage that computes checksums, but for what it has other answers.
#[derive(Debug, Clone, Default)]
struct Hashing {
    inner: MemoryStorage,
    answers: std::sync::Arc<Mutex<BTreeMap<ObjectName, Option<ObjectId>>>>,
    /// What checksums were asked for.
    asked: std::sync::Arc<Mutex<BTreeSet<ObjectName>>>,
}

impl Storage for Hashing {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn prepare(&self) -> StorageResult<()> {
        self.inner.prepare()
    }
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.inner.put(name, bytes)
    }
    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        self.inner.upload()
    }
    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.inner.get(name)
    }
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        self.inner.get_range(name, offset, length, into)
    }
    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.inner.list(folder, each)
    }
    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.inner.stat(name)
    }
    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.inner.delete(name)
    }
    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        assert!(names.len() <= 16, "too many at once: {}", names.len());
        self.asked.lock().expect("lock").extend(names.iter().cloned());
        let answers = self.answers.lock().expect("lock");
        let hash = |name: &ObjectName| match answers.get(name) {
            Some(other) => *other,
            None => self.inner.get(name).ok().map(|bytes| Sha256::of(&bytes)),
        };
        Ok(Some(names.iter().map(hash).collect()))
    }
}

fn check_by(repository: &Repository, read_data: ReadData, server_checksums: bool) -> CheckReport {
    let options = CheckOptions { read_data, server_checksums, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

#[test]
fn checksums_stand_in_for_reading() {
    let storage = Hashing::default();
    let repository = repository(storage.clone());
    let mut tree = MemoryTree::new();
    for time in 1..=20 {
        tree.file(format!("f{time}"), random_bytes(time, 150_000));
        back_up(&repository, &tree, time as i64);
    }
    let report = check_by(&repository, ReadData::No, true);
    assert_eq!((report.packs_hashed, report.packs_read, report.bytes_read), (40, 0, 0));
    assert_eq!(report.findings, []);
    let report = check_by(&repository, ReadData::Subset { fraction: 0.5, seed: 1 }, true);
    assert_eq!((report.packs_hashed, report.packs_read), (20, 0));
    let report = check_by(&repository, ReadData::All, false);
    assert_eq!((report.packs_hashed, report.packs_read), (0, 40));

    // One that is damaged, one that cannot be computed, one that differs and reads well.
    let mut packs = Vec::new();
    storage.list(Folder::Packs, &mut |info| packs.push(info.name)).expect("list");
    let [damaged, unknown, odd] = &packs[..3] else { panic!("few packs") };
    let mut bytes = storage.get(damaged).expect("get");
    bytes[100] ^= 1;
    storage.delete(damaged).expect("delete");
    storage.put(damaged, &bytes).expect("put");
    {
        let mut answers = storage.answers.lock().expect("lock");
        answers.insert(unknown.clone(), None);
        answers.insert(odd.clone(), Some(ObjectId::new([1; 32])));
    }
    let report = check_by(&repository, ReadData::All, true);
    assert_eq!((report.packs_hashed, report.packs_read), (37, 3));
    let found: BTreeMap<_, _> =
        report.findings.iter().map(|f| (f.object.as_str(), f.severity)).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.get(damaged.as_str()) >= Some(&Severity::Damage), "{found:?}");
    assert_eq!(found.get(odd.as_str()), Some(&Severity::Damage), "{found:?}");
}

#[test]
fn what_the_storage_verified_had_its_turn() {
    let (storage, cache) = (Hashing::default(), tempfile::tempdir().expect("directory"));
    let mut tree = MemoryTree::new();
    for time in 1..=4 {
        tree.file(format!("f{time}"), random_bytes(time, 150_000));
        back_up(&repository(storage.clone()), &tree, time as i64);
    }
    let secret = Some(crate::common::secret());
    let options = OpenOptions { secret, cache: Some(cache.path().to_owned()) };
    let repository = open(std::sync::Arc::new(storage.clone()), options).expect("open");
    let mut asked = BTreeSet::new();
    for time in 1..=4 {
        *storage.asked.lock().expect("lock") = BTreeSet::new();
        let options = CheckOptions {
            read_data: ReadData::Subset { fraction: 0.25, seed: 7 },
            server_checksums: true,
            time: time * 60_000_000_000,
            ..CheckOptions::default()
        };
        check(&repository, &options, &NoMonitor, &Interrupt::new()).expect("check");
        asked.append(&mut storage.asked.lock().expect("lock"));
    }
    assert_eq!(asked.len(), 8, "each in its turn");
}

#[test]
fn a_storage_without_checksums_is_read() {
    let repository = repository(MemoryStorage::new());
    let mut tree = MemoryTree::new();
    back_up(&repository, tree.file("f", random_bytes(1, 150_000)), 1);
    let report = check_by(&repository, ReadData::No, true);
    assert_eq!((report.packs_hashed, report.packs_read), (0, 2));
}
