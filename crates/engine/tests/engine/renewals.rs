//! A session beside gcs: what it relies on moves with each renewal, so that a gc need not wait for
//! its end, and partial snapshots rely on what has moved.

use std::collections::BTreeSet;

use crate::common::{assert_holds, back_up, blobs, memory, options, repository as repository_in};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::backup;
use holdfast_engine::ops::gc::{GcOptions, GcReport, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{BlobWriter, WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::Folder;
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

fn collect(repository: &Repository) -> GcReport {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc")
}

/// A gc that dies when the packs are gone, and its record is there still.
fn collect_and_die(storage: &MemoryStorage) {
    let dying = FaultStorage::new(storage.clone());
    dying.set_plan(|_, call| {
        let record = call.operation == Operation::Delete && call.object.starts_with("condemned/");
        record.then_some(Fault::CrashBefore)
    });
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    let died = gc(&repository_in(dying), &options, &NoMonitor, &Interrupt::new(), &mut |_| {});
    assert!(died.is_err() && storage.names_in(Folder::Condemned).len() == 1);
}

/// A repository with one snapshot, and the same through a storage whose calls can be met.
struct Beside {
    storage: MemoryStorage,
    repository: Repository,
    tree: MemoryTree,
    old: SnapshotId,
    faulty: FaultStorage<MemoryStorage>,
    far: Repository,
}

impl Beside {
    fn new() -> Self {
        let (storage, repository) = memory();
        let mut tree = MemoryTree::new();
        tree.file("f", random_bytes(1, 200_000));
        let old = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
        let faulty = FaultStorage::new(storage.clone());
        let far = repository_in(faulty.clone());
        Self { storage, repository, tree, old, faulty, far }
    }
}

/// Of two chunks in two packs a session relies on the first; then their snapshots are forgotten, and
/// a gc condemns both packs.
fn relying(
    then: impl FnOnce(
        &MemoryStorage,
        &Repository,
        &Session<'_>,
        &BlobWriter<'_>,
        [BlobId; 2],
    ) -> Result<()>,
) {
    let (storage, repository) = memory();
    let old = [1, 2].map(|seed| {
        let mut tree = MemoryTree::new();
        tree.file(format!("f{seed}"), random_bytes(seed, 200_000));
        back_up(&repository, &tree, seed as i64).snapshot.expect("snapshot")
    });
    let writer = Writer { host: "other".into(), time: 1, ..Writer::default() };
    let session = Session::begin(&repository, writer).expect("session");
    // What it writes is younger than it is.
    storage.clock().advance(60);
    let mut chunks = blobs(session.index());
    chunks.retain(|(_, place)| place.kind == BlobKind::Chunk);
    let (used, place) = chunks[0];
    let other = chunks.iter().find(|(_, other)| other.pack != place.pack);
    let (unused, _) = *other.expect("another pack");
    with_writer(&repository, session.index(), WriterOptions::default(), |writer| {
        assert!(writer.is_stored(&used));
        for id in old {
            repository.forget(id, &Notes::default())?;
        }
        let report = collect(&repository);
        assert!(report.condemned.count > 1 && report.waiting.len() == 1, "{report:?}");
        then(&storage, &repository, &session, writer, [used, unused])
    })
    .expect("session");
}

fn reads(repository: &Repository, chunk: &BlobId) -> bool {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    BlobReader::new(repository, &index).read(BlobKind::Chunk, chunk).is_ok()
}

#[test]
fn a_renewal_moves_what_is_relied_on_and_gc_need_not_wait() {
    relying(|storage, repository, session, blobs, [chunk, other]| {
        let packs = storage.names_in(Folder::Packs);
        session.renew(blobs)?;
        assert!(blobs.is_stored(&chunk), "where it is now");
        assert!(!blobs.is_stored(&other), "it was not relied on, so it was not moved");
        let report = collect(repository);
        assert!(report.waiting.is_empty() && report.deleted.count > 0, "{report:?}");
        let now = storage.names_in(Folder::Packs);
        assert!(packs.iter().all(|pack| !now.contains(pack)), "all that there was is gone");
        assert!(reads(repository, &chunk), "its copy is what the session wrote");
        session.commit(blobs, &Snapshot::default()).map(drop)
    });
}

#[test]
fn partial_snapshots_go_on_after_a_renewal_and_not_before() {
    relying(|_, repository, session, blobs, _| {
        let partial = Snapshot { partial: true, ..Snapshot::default() };
        assert_eq!(session.commit_partial(blobs, &partial)?, None, "its pack is on its way out");
        session.renew(blobs)?;
        assert!(session.commit_partial(blobs, &partial)?.is_some());
        collect(repository);
        assert!(session.commit_partial(blobs, &partial)?.is_some(), "and once the pack is gone");
        session.end("done")
    });
}

#[test]
fn a_partial_snapshot_looks_twice_at_what_is_condemned() {
    let Beside { storage, repository, old, faulty, far, .. } = Beside::new();
    let session = Session::begin(&far, Writer::default()).expect("session");
    let (chunk, _) = blobs(session.index())[0];
    let partial = with_writer(&far, session.index(), WriterOptions::default(), |writer| {
        assert!(writer.is_stored(&chunk));
        // While it lists the packs, a gc condemns one.
        let mut is_first = true;
        faulty.set_plan(move |_, call| {
            if is_first && call.operation == Operation::List && call.object == "packs" {
                is_first = false;
                repository.forget(old, &Notes::default()).expect("forget");
                assert_eq!(collect(&repository).waiting.len(), 2);
            }
            None
        });
        session.commit_partial(writer, &Snapshot { partial: true, ..Snapshot::default() })
    });
    assert_eq!(partial.expect("none, and no failure"), None);
    assert_eq!(storage.names_in(Folder::Condemned).len(), 1);
}

#[test]
fn what_is_relied_on_moves_at_the_commit_at_the_latest() {
    relying(|_, repository, session, blobs, [chunk, _]| {
        session.commit(blobs, &Snapshot::default())?;
        // Nothing refers to it, but it is there until the gc that begins now.
        let condemned = repository.condemned_packs()?;
        let index = Index::load(repository, &condemned)?;
        assert!(index.find(&chunk)?.is_some());
        Ok(())
    });
}

/// Its whole copy is gone, since a gc took the session for dead, and the storage has the bundle
/// without some members. If that were stored as it is, others would take it for whole.
#[test]
fn no_hollow_copy_is_stored_as_a_whole_one() {
    let (storage, repository) = memory();
    let mut tree = MemoryTree::new();
    for i in 0..40 {
        tree.file(format!("f{i:02}"), random_bytes(i, 5_000));
    }
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    for i in (0..40).filter(|i| i % 3 > 0) {
        tree.remove(format!("f{i:02}"));
    }
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    let session = Session::begin(&repository, Writer::default()).expect("session");
    let mut bundles: Vec<BlobId> = Vec::new();
    for (id, place) in blobs(session.index()) {
        bundles.extend((place.kind == BlobKind::Bundle).then_some(id));
    }
    with_writer(&repository, session.index(), WriterOptions::default(), |writer| {
        assert!(!bundles.is_empty() && bundles.iter().all(|id| writer.is_stored(id)));
        repository.forget(first, &Notes::default())?;
        storage.clock().advance(25 * 3600);
        collect_and_die(&storage);
        assert!(session.renew(writer).is_err(), "what it relies on cannot be copied out");
        writer.flush()
    })
    .expect("session");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let copies: Vec<_> = blobs(&index).into_iter().filter(|(id, _)| bundles.contains(id)).collect();
    assert!(!copies.is_empty() && copies.iter().all(|(_, place)| place.hollow), "{copies:?}");
    assert_holds(&repository, second, &tree);
}

/// A renewal that fails stops no run, which commits later what was to be indexed then.
#[test]
fn a_segment_that_could_not_be_stored_is_stored_by_the_next_flush() {
    let storage = MemoryStorage::new();
    drop(repository_in(storage.clone()));
    let faulty = FaultStorage::new(storage.clone());
    let mut segments = 0;
    faulty.set_plan(move |_, call| {
        let is_segment = call.operation == Operation::Put && call.object.starts_with("index/");
        segments += u32::from(is_segment);
        (is_segment && segments == 1).then_some(Fault::ErrorBefore)
    });
    let failing = repository_in(faulty);
    let index = Index::load(&failing, &BTreeSet::new()).expect("index");
    let chunks = with_writer(&failing, &index, WriterOptions::default(), |writer| {
        let first = writer.put_structure(BlobKind::Chunk, random_bytes(1, 50_000))?;
        assert!(writer.flush().is_err());
        let second = writer.put_structure(BlobKind::Chunk, random_bytes(2, 50_000))?;
        writer.flush()?;
        Ok([first, second])
    });
    let repository = repository_in(storage);
    assert!(chunks.expect("chunks").iter().all(|chunk| reads(&repository, chunk)));
}

/// What it relied on is gone, but that is because it was taken for dead: nothing is lost.
#[test]
fn a_backup_that_was_shut_out_says_so_whatever_is_gone() {
    let Beside { storage, repository, tree, old, faulty, far } = Beside::new();
    let mut lists = 0;
    faulty.set_plan(move |_, call| {
        lists += u32::from(call.operation == Operation::List && call.object == "condemned");
        // The first is at its begin, the second at its commit.
        if lists == 2 {
            lists += 1;
            repository.forget(old, &Notes::default()).expect("forget");
            storage.clock().advance(25 * 3600);
            collect_and_die(&storage);
        }
        None
    });
    let result = backup(&far, &options(tree.source(), 2), &NoMonitor, &Interrupt::new());
    assert!(matches!(result, Err(Error::Fenced)), "{result:?}");
}

/// A run that fails between its lease and its first blob keeps no gc waiting.
#[test]
fn a_session_that_could_not_begin_has_ended() {
    for folder in ["condemned", "packs", "snapshots"] {
        let Beside { storage, repository, tree, faulty, far, .. } = Beside::new();
        faulty.set_plan(move |_, call| {
            (call.operation == Operation::List && call.object == folder)
                .then_some(Fault::ErrorBefore)
        });
        assert!(backup(&far, &options(tree.source(), 2), &NoMonitor, &Interrupt::new()).is_err());
        let names = storage.names_in(Folder::Sessions);
        assert_eq!(names.iter().filter(|name| name.base() == "0").count(), 2, "{folder}");
        assert_eq!(names.iter().filter(|name| name.base() == "end").count(), 2, "{folder}");
        assert!(collect(&repository).waiting.is_empty(), "{folder}");
    }
}
