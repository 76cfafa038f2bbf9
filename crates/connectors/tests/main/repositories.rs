//! Repositories on any storage, backed up to, restored from and checked: what the tests of storages
//! over networks share.

use std::sync::Arc;

use holdfast_engine::compress::Level;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, RootSource, backup};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, check};
use holdfast_engine::ops::restore::{RestoreOptions, restore};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{self, CreateOptions, Index, OpenOptions, Repository};
use holdfast_engine::storage::Storage;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{CompareOptions, MemoryDestination, MemoryTree};

pub(crate) fn secret() -> Secret {
    Secret::KeyFile([7; 32].into())
}

pub(crate) fn try_repository(
    storage: impl Storage + 'static,
) -> holdfast_engine::Result<Repository> {
    let storage: Arc<dyn Storage> = Arc::new(storage);
    match repo::open::open(storage.clone(), OpenOptions { secret: Some(secret()), cache: None }) {
        Err(holdfast_engine::Error::NoRepository { .. }) => {
            let secrets = vec![(secret(), "test".into())];
            repo::open::create(storage, CreateOptions { secrets, ..CreateOptions::default() })
        }
        other => other,
    }
}

pub(crate) fn repository(storage: impl Storage + 'static) -> Repository {
    try_repository(storage).unwrap()
}

pub(crate) fn try_back_up(
    repository: &Repository,
    tree: &MemoryTree,
    time: i64,
) -> holdfast_engine::Result<BackupReport> {
    let root = RootSource::new(b"/data", Arc::new(tree.source()));
    let options = BackupOptions {
        roots: vec![root],
        host: "host".into(),
        kind: "local".into(),
        program: "test".into(),
        time,
        writer: WriterOptions {
            level: Level::Zstd(1),
            threads: 2,
            budget: 8 << 20,
            ..WriterOptions::default()
        },
        ..BackupOptions::default()
    };
    backup(repository, &options, &NoMonitor, &Interrupt::new())
}

pub(crate) fn back_up(repository: &Repository, tree: &MemoryTree, time: i64) -> SnapshotInfo {
    let id = try_back_up(repository, tree, time).unwrap().snapshot.unwrap();
    SnapshotInfo { id, record: repository.snapshot(id).unwrap() }
}

/// Restores a snapshot and compares it.
pub(crate) fn assert_restores(repository: &Repository, snapshot: &SnapshotInfo, tree: &MemoryTree) {
    let destination = MemoryDestination::new();
    let index = Index::load(repository, &repository.condemned_packs().unwrap()).unwrap();
    let options =
        RestoreOptions { path: Some(b"/data".to_vec()), ..RestoreOptions::new(snapshot.clone()) };
    let report =
        restore(repository, &index, &options, &destination, &NoMonitor, &Interrupt::new()).unwrap();
    assert_eq!(report.failures, 0, "{:?}", report.failed);
    destination.tree().assert_same(tree, &CompareOptions::default());
}

pub(crate) fn checked(repository: &Repository) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).unwrap()
}

/// Edge cases of every kind, and files that make several packs.
pub(crate) fn tree(large_files: u64) -> MemoryTree {
    let mut tree = MemoryTree::random(5, 400);
    for i in 0..large_files {
        tree.file(format!("large{i}"), random_bytes(i, 8_000_000));
    }
    tree
}
