//! The conformance suite on each storage and wrapper, and what is particular to each.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holdfast_connectors::conformance::storage_conformance;
use holdfast_connectors::layers::limit::{LimitStorage, Limits};
use holdfast_connectors::local::storage::LocalStorage;
use holdfast_engine::hash::{ObjectId, RecordId, SnapshotId};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_testkit::MemoryStorage;
use holdfast_testkit::record::{Operation, RecordStorage};

use crate::scratch;

fn count(storage: &dyn Storage, folder: Folder) -> usize {
    let mut n = 0;
    storage.list(folder, &mut |_| n += 1).unwrap();
    n
}

#[test]
fn conformance() {
    let scratch = scratch();
    let number = AtomicU32::new(0);
    let local = || {
        let n = number.fetch_add(1, Ordering::Relaxed);
        LocalStorage::new(scratch.path().join(format!("a/{n}")))
    };
    storage_conformance(&|| Box::new(local()));
    storage_conformance(&|| Box::new(RecordStorage::new(Arc::new(local()))));
    storage_conformance(&|| Box::new(MemoryStorage::missing()));
    storage_conformance(&|| Box::new(RecordStorage::new(Arc::new(MemoryStorage::missing()))));
    let limits = Limits { upload: Some(1 << 30), download: Some(1 << 30) };
    storage_conformance(&|| {
        Box::new(LimitStorage::new(Arc::new(MemoryStorage::missing()), limits))
    });
}

#[test]
fn conformance_on_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let storage = LocalStorage::new(scratch.path().join("repository"));
    storage.prepare().unwrap();
    storage.put(&ObjectName::config(), b"config").unwrap();
    let mut upload = storage.upload().unwrap();
    upload.write(b"pack").unwrap();
    upload.finish(&ObjectName::pack(ObjectId::new([1; 32]))).unwrap();
    assert_eq!(count(&storage, Folder::Packs), 1);
}

#[test]
fn local_files_are_private_and_foreign_names_ignored() {
    let scratch = scratch();
    let path = scratch.path().join("repository");
    let storage = LocalStorage::new(&path);
    storage.prepare().unwrap();
    let name = ObjectName::pack(ObjectId::new([0xab; 32]));
    storage.put(&name, b"pack").unwrap();
    let mode = |p: &str| path.join(p).symlink_metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(name.as_str()), mode("packs/ab"), mode("")), (0o600, 0o700, 0o700));
    assert_eq!(std::fs::read_dir(path.join("packs")).unwrap().count(), 256);

    for foreign in ["packs/ab/.tmp-1", "packs/ab/UPPER", "packs/ab/a b", "packs/loose", "keys/~x"] {
        std::fs::write(path.join(foreign), b"?").unwrap();
    }
    std::fs::create_dir(path.join("packs/ab/directory")).unwrap();
    assert_eq!(count(&storage, Folder::Packs), 1);
    assert_eq!(count(&storage, Folder::Keys), 0);
    assert_eq!(storage.reap(Duration::from_secs(3600)).unwrap(), 0);
}

#[test]
fn local_unfinished_uploads_leave_nothing() {
    let scratch = scratch();
    let storage = LocalStorage::new(scratch.path());
    storage.prepare().unwrap();
    let mut upload = storage.upload().unwrap();
    upload.write(b"half").unwrap();
    let entries = || std::fs::read_dir(scratch.path().join("packs")).unwrap().count();
    assert_eq!(entries(), 257);
    drop(upload);
    assert_eq!(entries(), 256);
}

#[test]
fn local_missing_folders_are_empty_but_a_missing_repository_is_an_error() {
    let scratch = scratch();
    let path = scratch.path().join("repository");
    let storage = LocalStorage::new(&path);
    storage.prepare().unwrap();
    std::fs::remove_dir_all(path.join("packs")).unwrap();
    std::fs::remove_dir_all(path.join("notes")).unwrap();
    assert_eq!(count(&storage, Folder::Packs), 0);
    assert_eq!(count(&storage, Folder::Notes), 0);
    // Written to all the same: copies of a repository lose its empty directories.
    storage.put(&ObjectName::pack(ObjectId::new([1; 32])), b"x").unwrap();
    storage.put(&ObjectName::note(SnapshotId::new([1; 16]), RecordId::default()), b"x").unwrap();
    assert_eq!(count(&storage, Folder::Packs), 1);

    std::fs::remove_dir_all(&path).unwrap();
    let error = storage.list(Folder::Packs, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NotFound);
    let error = LocalStorage::new(&path).list(Folder::Packs, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind, StorageErrorKind::NotFound);
}

#[test]
fn local_a_folder_that_cannot_be_listed_is_an_error() {
    let scratch = scratch();
    let storage = LocalStorage::new(scratch.path());
    storage.prepare().unwrap();
    std::fs::remove_dir(scratch.path().join("keys")).unwrap();
    std::fs::write(scratch.path().join("keys"), b"a file").unwrap();
    assert!(storage.list(Folder::Keys, &mut |_| {}).is_err());
}

#[test]
fn records_are_counted() {
    let storage = RecordStorage::new(Arc::new(MemoryStorage::new()));
    storage.prepare().unwrap();
    let key = ObjectName::key(RecordId::new([1; 16]));
    storage.put(&key, b"12345").unwrap();
    assert!(storage.put(&key, b"12345").is_err());
    drop(storage.upload().unwrap());
    storage.list(Folder::Keys, &mut |_| {}).unwrap();
    assert_eq!(storage.count(Operation::Put), 2);
    assert_eq!(storage.count_in(Operation::Put, Folder::Keys), 2);
    assert_eq!(storage.count_in(Operation::Put, Folder::Packs), 0);
    let calls = storage.take_calls();
    let tail: Vec<_> = calls.iter().map(|c| (c.operation, c.amount, c.error)).collect();
    assert_eq!(
        tail,
        [
            (Operation::Prepare, 0, None),
            (Operation::Put, 5, None),
            (Operation::Put, 0, Some(StorageErrorKind::AlreadyExists)),
            (Operation::Abandon, 0, None),
            (Operation::List, 1, None),
        ]
    );
    assert_eq!(storage.total(), 0);
}
