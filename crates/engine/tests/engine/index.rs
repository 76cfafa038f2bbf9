//! The index and its cache under whole operations: what they read, what damage to the cache does
//! to them, and what a writer does about packs that are condemned under it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{assert_holds, back_up, memory, options, read_back, repository, run, secret};
use holdfast_engine::compress::Level;
use holdfast_engine::crypto::{BlobKind, ObjectKind};
use holdfast_engine::format::session::Condemned;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::{ObjectId, RecordId};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, check};
use holdfast_engine::ops::restore::{RestoreOptions, restore};
use holdfast_engine::repo::open::{OpenOptions, open};
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::writer::{WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_engine::{Error, format};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::fault::Operation;
use holdfast_testkit::{FaultStorage, MemoryDestination, MemoryStorage, MemoryTree};
use prost::Message;

/// Files of one or two chunks: enough that the lines fill several pages.
fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..160 {
        tree.file(format!("d{}/{i:03}", i % 4), random_bytes(i, 140_000));
    }
    tree
}

fn cached(storage: impl Storage + 'static, cache: &Path) -> Repository {
    let options = OpenOptions { secret: Some(secret()), cache: Some(cache.into()) };
    open(Arc::new(storage), options).expect("open")
}

fn tables(repository: &Repository) -> Vec<PathBuf> {
    let folder = repository.cache().expect("cache").join("index");
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("entry").path()).collect()
}

/// Damages all lines of the tables, in place: what is open changes.
fn damage(tables: &[PathBuf]) {
    for path in tables {
        let mut bytes = std::fs::read(path).expect("read");
        bytes.iter_mut().skip(6 * 4096).step_by(64).for_each(|byte| *byte ^= 1);
        std::fs::write(path, bytes).expect("write");
    }
}

fn segments_read(storage: &FaultStorage<MemoryStorage>) -> usize {
    let is_segment = |name: &str| name.starts_with("index/");
    let log = storage.log();
    log.iter().filter(|c| c.operation == Operation::Get && is_segment(&c.object)).count()
}

#[test]
fn segments_are_read_once_and_a_check_reads_all() {
    let (storage, folder) = (MemoryStorage::new(), tempfile::tempdir().expect("folder"));
    repository(storage.clone());
    let counted = FaultStorage::new(storage.clone());
    let repository = cached(counted.clone(), folder.path());
    let mut tree = tree();
    for time in 1..4 {
        tree.file(format!("new{time}"), random_bytes(time + 500, 5000));
        let id = back_up(&repository, &tree, time as i64).snapshot.expect("snapshot");
        counted.reset_log();
        read_back(&repository, id).expect("read");
        assert_eq!(segments_read(&counted), 1, "what the backup has just written");
        counted.reset_log();
        assert_holds(&repository, id, &tree);
        back_up(&repository, &tree, time as i64 + 50);
        assert_eq!(segments_read(&counted), 0);
    }
    // Nothing but one table a level.
    assert_eq!(tables(&repository).len(), 1);
    counted.reset_log();
    let report = check(&repository, &CheckOptions::default(), &NoMonitor, &Interrupt::new());
    assert_eq!(report.expect("check").findings, []);
    assert_eq!(segments_read(&counted), storage.names_in(Folder::Index).len());
    assert_eq!(tables(&repository).len(), 1);
}

#[test]
fn a_cache_hides_a_damaged_segment_from_a_restore_and_not_from_a_check() {
    let (storage, folder) = (MemoryStorage::new(), tempfile::tempdir().expect("folder"));
    let id = back_up(&repository(storage.clone()), &tree(), 1).snapshot.expect("snapshot");
    let repository = cached(storage.clone(), folder.path());
    assert_holds(&repository, id, &tree());
    for name in storage.names_in(Folder::Index) {
        storage.corrupt(&name, |bytes| bytes[200] ^= 1);
    }
    assert_holds(&repository, id, &tree());
    let report = check(&repository, &CheckOptions::default(), &NoMonitor, &Interrupt::new());
    assert!(report.expect("check").is_damaged());
    assert_eq!(tables(&repository).len(), 1, "a check leaves the cache alone");
}

#[test]
fn a_cache_damaged_under_a_restore_is_said_and_made_anew() {
    let (storage, folder) = (MemoryStorage::new(), tempfile::tempdir().expect("folder"));
    let id = back_up(&repository(storage.clone()), &tree(), 1).snapshot.expect("snapshot");
    let repository = cached(storage, folder.path());
    let info = SnapshotInfo { id, record: repository.snapshot(id).expect("snapshot") };
    let restore_with = |index: &Index| {
        let (destination, interrupt) = (MemoryDestination::new(), Interrupt::new());
        let options = RestoreOptions::new(info.clone());
        restore(&repository, index, &options, &destination, &NoMonitor, &interrupt)
    };
    let load = || Index::load(&repository, &Default::default()).expect("load");
    let index = load();
    damage(&tables(&repository));
    let result = restore_with(&index);
    assert!(matches!(result, Err(Error::DamagedCache { removed: true, .. })), "{result:?}");
    assert!(tables(&repository).is_empty());
    assert_eq!(restore_with(&load()).expect("restore").failures, 0);
}

/// Backs up while the cache is damaged as soon as the parent's tree is read. Whether that was found
/// before all that is needed of the index had been read.
fn damages_a_cache_under_a_backup() -> bool {
    let (storage, folder) = (MemoryStorage::new(), tempfile::tempdir().expect("folder"));
    let mut tree = tree();
    let first = back_up(&repository(storage.clone()), &tree, 1).snapshot.expect("snapshot");
    let faulty = FaultStorage::new(storage.clone());
    let repository = cached(faulty.clone(), folder.path());
    Index::load(&repository, &Default::default()).expect("load");
    let files = tables(&repository);
    let mut left = 1;
    faulty.set_plan(move |_, call| {
        // The index is loaded, and the parent's tree is being read.
        if call.operation == Operation::GetRange && std::mem::take(&mut left) == 1 {
            damage(&files);
        }
        None
    });
    tree.file("new", "new");
    let report = match run(&repository, &options(tree.source(), 2)) {
        Ok(report) => report,
        Err(error) => {
            assert!(matches!(error, Error::DamagedCache { removed: true, .. }), "{error:?}");
            let ids: Vec<_> = repository.snapshots().expect("list").iter().map(|s| s.id).collect();
            assert_eq!(ids, [first]);
            faulty.clear_faults();
            let report = back_up(&repository, &tree, 3);
            assert_eq!(report.stats.files_unchanged, 160);
            assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
            return true;
        }
    };
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
    false
}

#[test]
fn a_cache_damaged_under_a_backup_commits_nothing() {
    // Threads read ahead: now and then the damage comes too late to matter.
    assert!((0..20).any(|_| damages_a_cache_under_a_backup()));
}

#[test]
fn what_lies_in_condemned_packs_is_copied_out_before_the_commit() {
    for own in [false, true] {
        let (storage, repository) = memory();
        let mut tree = MemoryTree::new();
        tree.file("a", random_bytes(1, 200_000)).file("b", random_bytes(2, 3000));
        back_up(&repository, &tree, 1);
        let begin = || Session::begin(&repository, Writer::default()).expect("begin");
        let condemn = |packs: Vec<ObjectId>| {
            let packs = packs.iter().map(|id| id.as_bytes().to_vec()).collect();
            let record = Condemned { packs, ..Condemned::default() }.encode_to_vec();
            let name = ObjectName::condemned(RecordId::new([9; 16]));
            let (keys, id) = (repository.keys(), repository.id());
            let kind = ObjectKind::Condemned;
            let sealed = format::envelope::seal(keys, id, kind, &[3; 32], name.as_str(), &record);
            storage.plant(&name, sealed.expect("seal"));
        };
        let session = begin();
        let index = session.index();
        let mut ids = Vec::new();
        let mut add = |id, place: holdfast_engine::repo::index::Place| {
            ids.push((place.kind, id));
            Ok(())
        };
        index.each_blob(&mut add).expect("blobs");
        let before = storage.names_in(Folder::Packs);
        let options = WriterOptions {
            level: Level::Zstd(1),
            threads: 1,
            budget: 1 << 20,
            ..WriterOptions::default()
        };
        with_writer(&repository, index, options, |writer| {
            let new = writer.put_structure(BlobKind::Attributes, random_bytes(7, 900))?;
            ids.push((BlobKind::Attributes, new));
            writer.flush()?;
            let all = storage.names_in(Folder::Packs).into_iter();
            let condemned = all.filter(|name| before.contains(name) != own);
            condemn(condemned.filter_map(|n| ObjectId::from_hex(n.base()).ok()).collect());
            // All of the first backup is used, but for the content of "b".
            for (_, id) in ids.iter().filter(|(kind, _)| *kind != BlobKind::Bundle) {
                assert!(writer.is_stored(id));
            }
            session.commit(writer, &Snapshot::default())
        })
        .expect("commit");
        // A gc removes what it has condemned.
        let condemned = repository.condemned_packs().expect("condemned");
        for id in &condemned {
            storage.remove(&ObjectName::pack(*id));
        }
        assert!(!condemned.is_empty());
        let index = Index::load(&repository, &condemned).expect("load");
        let reader = BlobReader::new(&repository, &index);
        for (kind, id) in &ids {
            assert!(reader.read(*kind, id).is_ok(), "own {own}: {kind:?}");
        }
    }
}

#[test]
fn nothing_is_stored_twice_however_many_ask() {
    let (_, repository) = memory();
    let repository = repository.without_writing();
    let index = Index::load(&repository, &Default::default()).expect("load");
    let options = WriterOptions {
        level: Level::None,
        threads: 2,
        budget: 8 << 20,
        ..WriterOptions::default()
    };
    let blobs = 2500_u64;
    let written = with_writer(&repository, &index, options, |writer| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..blobs {
                        let plain = vec![n as u8; 60_000 + n as usize];
                        let id = repository.keys().blob_id(BlobKind::Chunk, &plain);
                        if !writer.known_or_claim(&id) {
                            writer.put(BlobKind::Chunk, id, 0, plain).expect("put");
                        }
                    }
                });
            }
        });
        writer.flush()?;
        Ok(writer.written())
    });
    let written = written.expect("written");
    assert_eq!(written.blobs, blobs);
    assert!(written.packs > 3, "packs ended meanwhile");
}

/// As by several gcs, each of which merges a segment that was listed, before it is read.
#[test]
fn segments_may_vanish_as_often_as_gcs_like() {
    let storage = MemoryStorage::new();
    let open = || repository(storage.clone());
    for i in 0..6 {
        let mut tree = MemoryTree::new();
        tree.file(format!("f{i}"), random_bytes(i, 200_000));
        back_up(&open(), &tree, i as i64);
    }
    let (faulty, behind) = (FaultStorage::new(storage.clone()), storage.clone());
    let (mut left, mut is_listed) = (5, false);
    faulty.set_plan(move |_, call| {
        is_listed |= call.operation == Operation::List && call.object == "index";
        let is_read = call.operation == Operation::Get && call.object.starts_with("index/");
        if is_read && std::mem::take(&mut is_listed) && left > 0 {
            left -= 1;
            behind.remove(&ObjectName::parse(&call.object).expect("a name"));
        }
        None
    });
    let index = Index::load(&repository(faulty), &Default::default()).expect("index");
    let segments = storage.names_in(Folder::Index).len();
    assert!(index.pack_count() > 0 && segments > 0, "{segments}");
}
