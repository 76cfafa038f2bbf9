//! A repository in memory with snapshots of trees in memory.

use std::sync::Arc;

use holdfast_engine::format::keyslot::Cost;
use holdfast_engine::meta::{Metadata, Owner, Time};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, Parent, RootSource, backup};
use holdfast_engine::ops::restore::{RestoreOptions, RestoreReport, restore};
use holdfast_engine::repo::open::{CreateOptions, create};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{Index, Repository};
use holdfast_engine::{Error, Result};
use rand::RngCore;

use holdfast_testkit::{FaultStorage, MemoryDestination, MemoryStorage, MemoryTree};

pub(crate) struct Fixture {
    pub(crate) storage: MemoryStorage,
    pub(crate) faults: FaultStorage<MemoryStorage>,
    pub(crate) repository: Repository,
}

impl Fixture {
    /// Small chunks of one size, so that small files have many.
    pub(crate) fn new() -> Self {
        Self::with_chunks(Some(16 << 10))
    }

    pub(crate) fn with_chunks(chunk_fixed: Option<u32>) -> Self {
        let storage = MemoryStorage::new();
        let faults = FaultStorage::new(storage.clone());
        let options = CreateOptions { chunk_fixed, cost: Cost::default(), ..Default::default() };
        let repository = create(Arc::new(faults.clone()), options).expect("create");
        Self { storage, faults, repository }
    }

    /// Backs up trees to be at these absolute paths.
    pub(crate) fn backup(&self, roots: &[(&str, &MemoryTree)]) -> SnapshotInfo {
        let roots = roots.iter().map(|(path, tree)| RootSource {
            path: path.as_bytes().to_vec(),
            source: Arc::new(tree.source()),
            ancestors: ancestors(path),
            stream: false,
        });
        let options = BackupOptions {
            roots: roots.collect(),
            host: "host".into(),
            kind: "local".into(),
            program: "test".into(),
            time: 1_700_000_000_000_000_000,
            parent: Parent::None,
            ..BackupOptions::default()
        };
        let report =
            backup(&self.repository, &options, &NoMonitor, &Interrupt::new()).expect("backup");
        let id = report.snapshot.expect("a snapshot");
        SnapshotInfo { id, record: self.repository.snapshot(id).expect("snapshot") }
    }

    pub(crate) fn index(&self) -> Index {
        let condemned = self.repository.condemned_packs().expect("condemned");
        Index::load(&self.repository, &condemned).expect("index")
    }

    pub(crate) fn restore(
        &self,
        options: &RestoreOptions,
        destination: &MemoryDestination,
    ) -> Result<RestoreReport> {
        let interrupt = Interrupt::new();
        let index = self.index();
        restore(&self.repository, &index, options, destination, &NoMonitor, &interrupt)
    }

    /// Restores, and expects that nothing fails.
    pub(crate) fn restore_all(
        &self,
        options: &RestoreOptions,
        destination: &MemoryDestination,
    ) -> RestoreReport {
        let report = self.restore(options, destination).expect("restore");
        let failed: Vec<_> =
            report.failed.iter().map(|(p, r)| (String::from_utf8_lossy(p), r)).collect();
        assert!(failed.is_empty() && report.failures == 0, "{failed:?}");
        report
    }
}

/// Options for a path in a snapshot.
pub(crate) fn at(snapshot: &SnapshotInfo, path: &str) -> RestoreOptions {
    RestoreOptions { path: Some(path.as_bytes().to_vec()), ..RestoreOptions::new(snapshot.clone()) }
}

/// Metadata of the directories above a path, told apart by their mode and time.
pub(crate) fn ancestors(path: &str) -> Vec<(Vec<u8>, Metadata)> {
    let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
    let above = names.iter().take(names.len().saturating_sub(1)).enumerate();
    above.map(|(depth, name)| (name.as_bytes().to_vec(), ancestor(depth))).collect()
}

/// Metadata of the directory so many names below `/`.
pub(crate) fn ancestor(depth: usize) -> Metadata {
    Metadata {
        kind: holdfast_engine::meta::Kind::Directory,
        mode: 0o710 + depth as u32,
        owner: Arc::new(Owner { uid: 7, gid: 8, ..Owner::default() }),
        mtime: Time { seconds: 1_600_000_000 + depth as i64, nanos: 5 },
        ..Metadata::default()
    }
}

/// Bytes that look like no others.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    holdfast_testkit::rng(seed).fill_bytes(&mut bytes);
    bytes
}

/// The failures as text.
pub(crate) fn failed(report: &RestoreReport) -> Vec<(String, String)> {
    let text = |(path, reason): &(Vec<u8>, String)| {
        (String::from_utf8_lossy(path).into_owned(), reason.clone())
    };
    report.failed.iter().map(text).collect()
}

pub(crate) fn is_interrupted(result: &Result<RestoreReport>) -> bool {
    matches!(result, Err(Error::Interrupted))
}
