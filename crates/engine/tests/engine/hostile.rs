//! A hostile storage: rollback, omission, objects swapped and replayed, two repositories mixed. Each
//! is found and named, as far as it can be. And what a machine remembers to find it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{assert_holds, back_up, memory, read_back, secret};
use holdfast_engine::Error;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::open::{create, open};
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{WriterOptions, with_writer};
use holdfast_engine::repo::{CreateOptions, Index, OpenOptions, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree};

/// With another seed all files have other sizes, so that none passes for unchanged.
fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..20_u64 {
        tree.file(format!("f{i}"), random_bytes(seed * 100 + i, 3_000 + seed as usize));
    }
    tree.file("big", random_bytes(seed, 300_000 + seed as usize));
    tree
}

/// A repository as a machine with this cache sees it.
fn seen_from(storage: &MemoryStorage, cache: &Path) -> Repository {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    let cache = Some(cache.to_owned());
    match open(storage.clone(), OpenOptions { secret: Some(secret()), cache: cache.clone() }) {
        Err(Error::NoRepository { .. }) => {
            let secrets = vec![(secret(), "test".into())];
            create(storage, CreateOptions { secrets, cache, ..CreateOptions::default() })
        }
        other => other,
    }
    .expect("repository")
}

fn checked(repository: &Repository) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

fn vanished(repository: &Repository) -> Vec<SnapshotId> {
    repository.vanished(&repository.snapshots().expect("list"))
}

#[test]
fn a_storage_that_was_put_back_is_found_out_once() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let old = storage.dump();
    let second = back_up(&repository, &tree(2), 2).snapshot.expect("snapshot");
    assert_eq!(vanished(&repository), []);
    storage.load(old);
    let found = checked(&repository);
    let named: Vec<_> = found.findings.iter().map(|f| f.object.clone()).collect();
    assert_eq!(named, [ObjectName::snapshot(second).to_string()]);
    assert!(found.findings[0].what.contains("put back to an earlier state"));
    assert_eq!(found.worst(), Some(Severity::Note), "a gc elsewhere looks the same");
    assert_eq!(vanished(&repository), [], "it was told");
    assert_holds(&repository, first, &tree(1));
    // Who has never been here cannot know.
    let other = tempfile::tempdir().expect("directory");
    assert_eq!(vanished(&seen_from(&storage, other.path())), []);
}

#[test]
fn a_snapshot_that_is_hidden_is_missed_by_whoever_saw_it() {
    let storage = MemoryStorage::new();
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let writer = seen_from(&storage, one.path());
    let id = back_up(&writer, &tree(1), 1).snapshot.expect("snapshot");
    let reader = seen_from(&storage, two.path());
    assert_eq!(vanished(&reader), []);
    storage.remove(&ObjectName::snapshot(id));
    // The writer has it from its own commit, the reader from a listing.
    assert_eq!(vanished(&writer), [id]);
    assert_eq!(vanished(&reader), [id]);
}

#[test]
fn what_was_forgotten_is_not_missed() {
    let storage = MemoryStorage::new();
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let (here, there) = (seen_from(&storage, one.path()), seen_from(&storage, two.path()));
    let first = back_up(&here, &tree(1), 1).snapshot.expect("snapshot");
    let second = back_up(&here, &tree(2), 2).snapshot.expect("snapshot");
    assert_eq!((vanished(&here), vanished(&there)), (vec![], vec![]));
    here.forget(first, &Notes::default()).expect("forget");
    // The mark that forget leaves is enough for the other machine.
    assert_eq!((vanished(&here), vanished(&there)), (vec![], vec![]));
    here.forget(second, &Notes::default()).expect("forget");
    let options = GcOptions { threads: 1, ..GcOptions::default() };
    for _ in 0..2 {
        gc(&here, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
    }
    // Here it is known; there it is not, for the mark went with the gc.
    assert_eq!((vanished(&here), vanished(&there)), (vec![], vec![second]));
}

fn collect(repository: &Repository) {
    let options = GcOptions { threads: 1, silent_after: Duration::MAX, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
}

/// What a check says of snapshots.
fn said_of_snapshots(repository: &Repository) -> Vec<(String, Severity)> {
    let findings = checked(repository).findings;
    let of_snapshots = findings.into_iter().filter(|f| f.object.starts_with("snapshots/"));
    of_snapshots.map(|f| (f.object, f.severity)).collect()
}

#[test]
fn a_later_snapshot_tells_that_one_is_gone() {
    let (storage, repository) = memory();
    let ids = [1, 2, 3].map(|n| back_up(&repository, &tree(n), n as i64).snapshot.expect("one"));
    // With this gc all that the sessions said is gone.
    collect(&repository);
    assert_eq!(said_of_snapshots(&repository), []);
    storage.remove(&ObjectName::snapshot(ids[1]));
    let name = ObjectName::snapshot(ids[1]).to_string();
    assert_eq!(said_of_snapshots(&repository), [(name.clone(), Severity::Note)]);
    // What somebody without the key puts there says nothing.
    storage.plant(&ObjectName::session_forgotten(ids[1]), b"whatever".to_vec());
    let said = said_of_snapshots(&repository);
    assert_eq!(said, [(name, Severity::Note)]);
}

#[test]
fn the_mark_of_a_forgotten_snapshot_stays_while_a_later_one_names_it() {
    let (storage, repository) = memory();
    let ids = [1, 2, 3].map(|n| back_up(&repository, &tree(n), n as i64).snapshot.expect("one"));
    let forget = |id| repository.forget(id, &Notes::default()).expect("forget");
    let marks = || -> Vec<ObjectName> {
        let names = storage.names_in(Folder::Sessions).into_iter();
        names.filter(|name| name.base() == "forgotten").collect()
    };
    forget(ids[1]);
    for _ in 0..2 {
        collect(&repository);
        let of_forgotten = storage.names_in(Folder::Sessions).into_iter();
        let of_forgotten = of_forgotten.filter(|n| n.as_str().contains(&ids[1].to_string()));
        assert_eq!(of_forgotten.count(), 1, "its lease goes");
        assert_eq!(marks(), [ObjectName::session_forgotten(ids[1])]);
        assert_eq!(said_of_snapshots(&repository), []);
    }
    // Who is at work may have seen the last one before it went, and will name it.
    let session = Session::begin(&repository, Writer::default()).expect("session");
    forget(ids[2]);
    collect(&repository);
    assert!(marks().contains(&ObjectName::session_forgotten(ids[2])));
    session.end("given up").expect("end");
    // One that cannot be read may name any.
    storage.corrupt(&ObjectName::snapshot(ids[0]), |bytes| bytes.truncate(5));
    let _ = gc(&repository, &GcOptions::default(), &NoMonitor, &Interrupt::new(), &mut |_| {});
    assert!(marks().contains(&ObjectName::session_forgotten(ids[2])));
    storage.remove(&ObjectName::snapshot(ids[0]));
    collect(&repository);
    assert_eq!(marks(), [], "nothing names them any more");
}

#[test]
fn what_cannot_be_asked_is_not_missed() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let other = tempfile::tempdir().expect("directory");
    let here = seen_from(&storage, cache.path());
    let id = back_up(&here, &tree(1), 1).snapshot.expect("snapshot");
    seen_from(&storage, other.path()).forget(id, &Notes::default()).expect("forget");
    let faulty = FaultStorage::new(storage.clone());
    faulty.set_plan(|_, call| call.object.ends_with("/forgotten").then_some(Fault::ErrorBefore));
    let options = OpenOptions { secret: Some(secret()), cache: Some(cache.path().to_owned()) };
    let here = open(Arc::new(faulty.clone()), options).expect("open");
    assert_eq!(vanished(&here), []);
    assert!(!faulty.injected().is_empty(), "it was asked");
}

#[test]
fn only_the_newest_are_remembered_and_a_broken_memory_is_none() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    let ids: Vec<_> = (1..=10)
        .map(|time| back_up(&repository, &tree(1), time).snapshot.expect("snapshot"))
        .collect();
    assert_eq!(vanished(&repository), []);
    for id in [ids[0], ids[1], ids[2], ids[9]] {
        storage.remove(&ObjectName::snapshot(id));
    }
    let file = cache.path().join(repository.id().to_string()).join("seen");
    let mut bytes = std::fs::read(&file).expect("memory");
    assert_eq!(vanished(&repository).into_iter().collect::<std::collections::BTreeSet<_>>(), {
        [ids[2], ids[9]].into()
    });
    bytes[3] ^= 1;
    std::fs::write(&file, bytes).expect("write");
    assert_eq!(vanished(&repository), []);
}

/// Two repositories that one passphrase opens.
fn two() -> [(MemoryStorage, Repository, SnapshotId); 2] {
    [1, 2].map(|seed| {
        let (storage, repository) = crate::common::with_parity();
        let id = back_up(&repository, &tree(seed), 1).snapshot.expect("snapshot");
        (storage, repository, id)
    })
}

#[test]
fn objects_of_another_repository_are_named_and_never_believed() {
    let [(storage, repository, id), (other, _, _)] = two();
    let whole = storage.dump();
    let mut tried = 0;
    for folder in Folder::ALL {
        for foreign in other.names_in(folder) {
            storage.load(whole.clone());
            storage.plant(&foreign, other.get(&foreign).expect("object"));
            // Key slots of other repositories are left by an interrupted create; packs that no
            // segment lists are orphans.
            let report = checked(&repository);
            let is_named = report.findings.iter().any(|f| f.object == foreign.as_str());
            // So is parity without its pack, and goes with the next gc.
            let is_orphan =
                report.orphans_total == 1 && folder == Folder::Packs || folder == Folder::Parity;
            assert!(is_named || is_orphan, "{foreign}: {report:?}");
            if folder != Folder::Index {
                assert_holds(&repository, id, &tree(1));
            }
            if folder == Folder::Snapshots {
                let next = back_up(&repository, &tree(1), 2).snapshot.expect("snapshot");
                assert_holds(&repository, next, &tree(1));
            }
            // In the place of one of ours.
            let own = storage.names_in(folder).into_iter().find(|name| *name != foreign);
            let Some(own) = own else { continue };
            storage.load(whole.clone());
            storage.plant(&own, other.get(&foreign).expect("object"));
            let report = checked(&repository);
            let found = report.findings.iter().find(|f| f.object == own.as_str());
            assert!(found.is_some_and(|f| f.severity >= Severity::Damage), "{own}: {report:?}");
            match read_back(&repository, id) {
                Ok(_) => assert_holds(&repository, id, &tree(1)),
                Err(error) => assert!(!matches!(error, Error::Worker(_)), "{error}"),
            }
            tried += 1;
        }
    }
    assert!(tried > 5, "{tried}");
    // All of it: the config of the other.
    storage.load(whole);
    storage.plant(&ObjectName::config(), other.get(&ObjectName::config()).expect("config"));
    let opened =
        open(Arc::new(storage.clone()), OpenOptions { secret: Some(secret()), cache: None });
    assert!(matches!(opened, Err(Error::WrongKey { .. } | Error::Damaged { .. })), "{opened:?}");
}

#[test]
fn what_was_deleted_and_is_shown_again_brings_nothing_wrong() {
    let (storage, repository) = crate::common::memory();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let old = storage.dump();
    repository.forget(first, &Notes::default()).expect("forget");
    let second = back_up(&repository, &tree(2), 2).snapshot.expect("snapshot");
    let options = GcOptions { threads: 1, ..GcOptions::default() };
    gc(&repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
    // Whatever had gone, index and leases and packs, alone and together.
    let gone: Vec<_> = old.0.keys().filter(|name| storage.get(name).is_err()).cloned().collect();
    assert!(gone.iter().any(|name| name.as_str().starts_with("snapshots/")));
    let after = storage.dump();
    for name in &gone {
        storage.load(after.clone());
        storage.plant(name, old.0[name].bytes.to_vec());
        let _ = checked(&repository);
        assert_holds(&repository, second, &tree(2));
        if name.as_str().starts_with("snapshots/") {
            let report = checked(&repository);
            let found = report.findings.iter().any(|f| f.snapshots.contains(&first));
            assert!(found && report.worst() == Some(Severity::Loss), "{report:?}");
            continue;
        }
        let id = back_up(&repository, &tree(3), 3).snapshot.expect("snapshot");
        assert_holds(&repository, id, &tree(3));
    }
    storage.load(after);
    for name in &gone {
        storage.plant(name, old.0[name].bytes.to_vec());
    }
    // Then the old snapshot is there again, whole, or it is told what it lacks.
    match read_back(&repository, first) {
        Ok(_) => assert_holds(&repository, first, &tree(1)),
        Err(_) => assert_eq!(checked(&repository).worst(), Some(Severity::Loss)),
    }
    assert_holds(&repository, second, &tree(2));
}

#[test]
fn packs_take_turns_in_being_read() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    for seed in 1..=4 {
        back_up(&repository, &tree(seed), seed as i64);
    }
    let packs = storage.names_in(Folder::Packs);
    assert_eq!(packs.len(), 8);
    let minute = 60_000_000_000;
    let some = |time: i64| {
        let read_data = ReadData::Subset { fraction: 0.25, seed: 7 };
        let options = CheckOptions { read_data, time: time * minute, ..CheckOptions::default() };
        check(&repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
    };
    // Every pack is damaged once, and is found within a round whatever the seed.
    let whole = storage.dump();
    for pack in &packs {
        storage.load(whole.clone());
        storage.corrupt(pack, |bytes| *bytes.last_mut().expect("byte") ^= 1);
        let rounds: Vec<_> = (1..=4).map(some).collect();
        let found = rounds.iter().filter(|report| report.is_damaged()).count();
        assert_eq!(found, 1, "{pack}");
        assert!(rounds.iter().all(|report| report.packs_read == 2));
        std::fs::remove_file(cache.path().join(repository.id().to_string()).join("verified"))
            .expect("memory");
    }
    storage.load(whole);
    let index = Index::load(&repository, &Default::default()).expect("index");
    assert_eq!(index.pack_count(), 8);
}

#[test]
fn a_commit_remembers_no_more_than_the_newest() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    let ids: Vec<_> = (1..=10)
        .map(|time| back_up(&repository, &tree(1), time).snapshot.expect("snapshot"))
        .collect();
    for id in &ids[..3] {
        storage.remove(&ObjectName::snapshot(*id));
    }
    assert_eq!(vanished(&repository), [ids[2]], "of ten, eight");
}

#[test]
fn partial_snapshots_are_not_missed() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    let session = Session::begin(&repository, Writer::default()).expect("session");
    let partial = with_writer(&repository, session.index(), WriterOptions::default(), |blobs| {
        let snapshot = Snapshot { partial: true, ..Snapshot::default() };
        session.commit_partial(blobs, &snapshot)
    });
    let partial = partial.expect("commit").expect("a partial snapshot");
    assert_eq!(vanished(&repository), []);
    storage.remove(&ObjectName::snapshot(partial));
    assert_eq!(vanished(&repository), [], "the next whole one takes its place");
}

#[test]
fn a_fence_accounts_for_what_was_forgotten_elsewhere() {
    let storage = MemoryStorage::new();
    let (one, two) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let (here, there) = (seen_from(&storage, one.path()), seen_from(&storage, two.path()));
    let id = back_up(&here, &tree(1), 1).snapshot.expect("snapshot");
    // A gc took the session for dead when its snapshot was there already.
    storage.plant(&ObjectName::fence(id), b"whatever".to_vec());
    assert_eq!(vanished(&here), []);
    there.forget(id, &Notes::default()).expect("forget");
    storage.remove(&ObjectName::session_forgotten(id));
    assert_eq!(vanished(&here), []);
}

#[test]
fn what_cannot_be_asked_now_is_asked_again_and_what_has_no_seal_says_nothing() {
    let (storage, cache) = (MemoryStorage::new(), tempfile::tempdir().expect("directory"));
    let repository = seen_from(&storage, cache.path());
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    storage.remove(&ObjectName::snapshot(id));
    let faulty = FaultStorage::new(storage.clone());
    let options = OpenOptions { secret: Some(secret()), cache: Some(cache.path().to_owned()) };
    let far = open(Arc::new(faulty.clone()), options).expect("open");
    let mark = ObjectName::session_forgotten(id);
    let object = mark.to_string();
    faulty.set_plan(move |_, call| (call.object == object).then_some(Fault::ErrorBefore));
    assert_eq!(vanished(&far), [], "the storage does not answer");
    faulty.clear_faults();
    storage.plant(&mark, b"forgotten, believe me".to_vec());
    assert_eq!(vanished(&far), [id]);
    assert_eq!(vanished(&far), [], "it was told");
}
