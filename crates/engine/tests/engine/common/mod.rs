//! What the engine's tests share: repositories in memory, backups with fixed options, and reading
//! a snapshot back without the restore operation.

#![allow(dead_code, reason = "shared")]

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_engine::compress::Level;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, RootSource, backup};
use holdfast_engine::repo::index::Place;
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{self, BlobReader, CreateOptions, Index, OpenOptions, Repository};
use holdfast_engine::source::Source;
use holdfast_engine::storage::Storage;
use holdfast_engine::tree::{Content, Entry, chunks, view};
use holdfast_engine::{Result, crypto::BlobKind};
use holdfast_testkit::memory::Dump;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree};

pub(crate) fn secret() -> Secret {
    Secret::KeyFile(zeroize::Zeroizing::new([7; 32]))
}

/// A repository in `storage`, created if need be, with small packs so that tests have many.
pub(crate) fn repository(storage: impl Storage + 'static) -> Repository {
    try_repository(storage).expect("open")
}

pub(crate) fn try_repository(storage: impl Storage + 'static) -> Result<Repository> {
    let storage: Arc<dyn Storage> = Arc::new(storage);
    match repo::open::open(storage.clone(), OpenOptions { secret: Some(secret()), cache: None }) {
        Err(holdfast_engine::Error::NoRepository { .. }) => {
            let secrets = vec![(secret(), "test".into())];
            repo::open::create(storage, CreateOptions { secrets, ..CreateOptions::default() })
        }
        other => other,
    }
}

/// Does `work` in the repository that `start` holds, once for each call of the storage and each way
/// in which that can go wrong; `then` goes on with what is left, and is told what befell it.
pub(crate) fn killed_at_any_call<T>(
    start: &Dump,
    work: impl Fn(&Repository) -> Result<T>,
    then: impl Fn(MemoryStorage, &str),
) {
    let calls = {
        let probe = FaultStorage::new(MemoryStorage::from_dump(start.clone()));
        work(&repository(probe.clone())).expect("nothing goes wrong");
        probe.calls()
    };
    assert!(calls > 10);
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::ErrorAfter] {
        for k in 0..calls {
            let storage = MemoryStorage::from_dump(start.clone());
            let faulty = FaultStorage::new(storage.clone());
            faulty.fail_at(k, fault);
            let _ = try_repository(faulty).and_then(|r| work(&r));
            then(storage, &format!("{fault:?} at {k}"));
        }
    }
}

/// A fresh repository in memory whose packs get parity.
pub(crate) fn with_parity() -> (MemoryStorage, Repository) {
    let (storage, repository) = memory();
    repository.set_parity(true, 1).expect("setting");
    (storage, repository)
}

/// Options for backing up `source` as `/data` of `host`.
pub(crate) fn options(source: impl Source + 'static, time: i64) -> BackupOptions {
    let root = RootSource::new(b"/data", Arc::new(source));
    BackupOptions {
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
    }
}

pub(crate) fn run(repository: &Repository, options: &BackupOptions) -> Result<BackupReport> {
    backup(repository, options, &NoMonitor, &Interrupt::new())
}

/// Backs up a tree in memory.
pub(crate) fn back_up(repository: &Repository, tree: &MemoryTree, time: i64) -> BackupReport {
    run(repository, &options(tree.source(), time)).expect("backup")
}

/// Paths with their entries and content.
pub(crate) type Stored = BTreeMap<Vec<u8>, (Entry, Vec<u8>)>;

/// Every path below `/data` of a snapshot, with its entry and content.
pub(crate) fn read_back(repository: &Repository, id: SnapshotId) -> Result<Stored> {
    let index = Index::load(repository, &repository.condemned_packs()?)?;
    let reader = BlobReader::new(repository, &index);
    let snapshot = repository.snapshot(id)?;
    let mut all = BTreeMap::new();
    for root in &snapshot.roots {
        for found in view::tree(&reader, root)?.entries() {
            let found = found?;
            let content = content(&reader, &found.entry)?;
            all.insert(found.path(), (found.entry, content));
        }
    }
    Ok(all)
}

fn content(reader: &BlobReader<'_>, entry: &Entry) -> Result<Vec<u8>> {
    let data = match &entry.content {
        Content::None => Vec::new(),
        Content::Inline(bytes) => bytes.clone(),
        Content::Member { bundle, number, .. } => {
            reader.bundle(bundle, *number)?.member(*number)?.to_vec()
        }
        content => {
            let mut data = Vec::new();
            chunks::for_each(reader, content, &mut |chunk| {
                data.extend(reader.read(BlobKind::Chunk, &chunk.id)?);
                Ok(())
            })?;
            data
        }
    };
    if entry.extents.is_empty() {
        return Ok(data);
    }
    let mut whole = vec![0; entry.metadata.size as usize];
    let mut rest = &data[..];
    for extent in &entry.extents {
        let (now, later) = rest.split_at(extent.length as usize);
        whole[extent.offset as usize..][..now.len()].copy_from_slice(now);
        rest = later;
    }
    Ok(whole)
}

/// Panics unless the snapshot holds exactly what `tree` holds.
pub(crate) fn assert_holds(repository: &Repository, id: SnapshotId, tree: &MemoryTree) {
    let stored = read_back(repository, id).expect("read back");
    let paths: Vec<_> = tree.paths();
    let mut expected: Vec<Vec<u8>> = paths.clone();
    if !expected.iter().any(Vec::is_empty) {
        expected.push(Vec::new());
    }
    expected.sort();
    let found: Vec<Vec<u8>> = stored.keys().cloned().collect();
    assert_eq!(printable(&found), printable(&expected), "paths");
    for path in paths {
        let node = tree.node(&path).expect("node");
        let (entry, content) = &stored[&path];
        let name = String::from_utf8_lossy(&path).into_owned();
        assert_eq!(entry.error, "", "{name}");
        assert_eq!(entry.metadata.kind, node.metadata.kind, "{name}");
        assert_eq!(entry.metadata.mode, node.metadata.mode, "{name}");
        assert_eq!(entry.metadata.owner, node.metadata.owner, "{name}");
        assert_eq!(entry.metadata.mtime, node.metadata.mtime, "{name}");
        assert_eq!(entry.metadata.ctime, node.metadata.ctime, "{name}");
        assert_eq!(entry.metadata.inode, node.metadata.inode, "{name}");
        assert_eq!(entry.metadata.device, node.metadata.device, "{name}");
        assert_eq!(entry.target, node.target, "{name}");
        if entry.xattrs_blob.is_none() {
            assert_eq!(entry.xattrs, node.xattrs, "{name}");
        }
        if node.metadata.kind == Kind::File {
            assert_eq!(entry.metadata.size, node.content.len() as u64, "{name}");
            assert!(*content == *node.content, "content of {name}");
        }
    }
}

fn printable(paths: &[Vec<u8>]) -> Vec<String> {
    paths.iter().map(|p| p.escape_ascii().to_string()).collect()
}

/// Every line of the index.
pub(crate) fn blobs(index: &Index) -> Vec<(BlobId, Place)> {
    let mut blobs = Vec::new();
    let mut add = |id, place| {
        blobs.push((id, place));
        Ok(())
    };
    index.each_blob(&mut add).expect("index");
    blobs
}

/// A fresh repository in memory.
pub(crate) fn memory() -> (MemoryStorage, Repository) {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    (storage, repository)
}
