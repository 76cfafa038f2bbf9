//! gc: what goes and what stays, beside other sessions, on damaged, full and locked storages, and
//! killed at any call.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{
    assert_holds, back_up, blobs, killed_at_any_call, memory, options, read_back, repository,
    repository as repository_in, run,
};
use crate::storages::Worn;
use holdfast_engine::Error;
use holdfast_engine::crypto::{BlobKind, ObjectKind};
use holdfast_engine::format::envelope;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::{Sha256, SnapshotId};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, Parent};
use holdfast_engine::ops::gc::{GcOptions, GcPlan, GcReport, PutOff, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

fn collect(repository: &Repository, options: &GcOptions) -> Result<GcReport, Error> {
    gc(repository, options, &NoMonitor, &Interrupt::new(), &mut |_| {})
}

fn plain() -> GcOptions {
    // Few in one record, so that there are many records.
    GcOptions { threads: 2, packs_per_record: 2, ..GcOptions::default() }
}

/// What is there and what would be done to it.
fn plan(repository: &Repository) -> GcPlan {
    collect(repository, &GcOptions { dry_run: true, ..plain() }).expect("plan").plan
}

/// Small files that share bundles, and big ones.
fn tree(seed: u64, count: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..count {
        tree.file(format!("small/{i:03}"), random_bytes(seed * 1000 + i, 3_000 + 40 * i as usize));
        if i % 4 == 0 {
            tree.file(format!("big/{i:03}"), random_bytes(seed * 1000 + i, 400_000));
        }
    }
    tree
}

/// Changes every `step`th file.
fn edit(tree: &mut MemoryTree, seed: u64, step: usize) {
    for (i, path) in tree.paths_of(holdfast_engine::meta::Kind::File).into_iter().enumerate() {
        if i % step == seed as usize % step {
            let length = tree.content(&path).len();
            tree.set_content(&path, random_bytes(seed * 7919 + i as u64, length));
        }
    }
}

/// Backs up without a look at what was backed up before.
fn back_up_afresh(repository: &Repository, tree: &MemoryTree, time: i64) -> SnapshotId {
    let options = BackupOptions { parent: Parent::None, ..options(tree.source(), time) };
    run(repository, &options).expect("backup").snapshot.expect("snapshot")
}

fn assert_tidy(plan: &GcPlan) {
    let all = plan.needed + plan.unneeded;
    assert!(plan.unneeded * 10 <= all, "{} of {all} bytes are dead", plan.unneeded);
    assert_eq!((plan.dead.count, plan.orphans.count, plan.condemned.count), (0, 0, 0), "{plan:?}");
}

#[test]
fn nine_of_ten_backups_give_their_space_back() {
    let (storage, repository) = memory();
    let mut tree = tree(1, 120);
    let mut ids = Vec::new();
    for day in 1..=10 {
        edit(&mut tree, day, 12);
        ids.push(back_up(&repository, &tree, day as i64).snapshot.expect("snapshot"));
    }
    let last = ids.pop().expect("ten");
    for id in ids {
        repository.forget(id, &Notes::default()).expect("forget");
    }
    let before = storage.total_size();
    let planned = plan(&repository);
    assert!(planned.unneeded > planned.needed / 4, "there is something to do: {planned:?}");
    let report = collect(&repository, &plain()).expect("gc");
    assert_tidy(&plan(&repository));
    assert_holds(&repository, last, &tree);
    assert!(report.deleted.count > 0 && report.waiting.is_empty() && report.refused_total == 0);
    assert!(storage.total_size() < before);
    // The least that had to be moved: of the packs with most to gain, what is needed of them.
    let moved = report.copied.bytes as f64;
    let padding = 2.0 * 256.0 * 1024.0;
    assert!(moved <= 1.2 * planned.moved as f64 + padding, "{moved} of {}", planned.moved);
    // Nothing is left to do, and nothing is done.
    let idle = collect(&repository, &plain()).expect("gc");
    assert_eq!((idle.copied.count, idle.deleted.count), (0, 0), "{idle:?}");
    // The next backup is whole, whatever it may not rely on.
    let before = tree.clone();
    edit(&mut tree, 11, 12);
    let next = back_up(&repository, &tree, 11);
    assert_holds(&repository, next.snapshot.expect("snapshot"), &tree);
    assert_eq!(next.parent, Some(last));
    assert_holds(&repository, last, &before);
}

#[test]
fn all_forgotten_leaves_nothing() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(1, 20), 1).snapshot.expect("snapshot");
    repository.forget(id, &Notes::default()).expect("forget");
    collect(&repository, &plain()).expect("gc");
    assert_eq!(storage.names_in(Folder::Packs), []);
    assert_eq!(storage.names_in(Folder::Condemned), []);
    // Superseded segments and its own lease go a run later.
    collect(&repository, &plain()).expect("gc");
    assert!(storage.names_in(Folder::Index).len() <= 1);
    assert!(storage.names_in(Folder::Sessions).len() <= 2, "only its own lease and end");
    let id = back_up(&repository, &tree(2, 20), 2).snapshot.expect("snapshot");
    assert_holds(&repository, id, &tree(2, 20));
}

#[test]
fn bundles_lose_their_dead_members() {
    let (_, repository) = memory();
    let mut tree = tree(1, 60);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    for i in 0..60 {
        if i % 3 > 0 {
            tree.remove(format!("small/{i:03}"));
        }
    }
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    repository.forget(first, &Notes::default()).expect("forget");
    let strict = GcOptions { max_unused: 0.0, ..plain() };
    let report = collect(&repository, &strict).expect("gc");
    assert!(report.copied.bytes < report.plan.needed + (1 << 19), "{report:?}");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let hollow = blobs(&index).into_iter().filter(|(_, place)| place.hollow).count();
    assert!(hollow > 0, "members were dropped");
    assert_holds(&repository, second, &tree);
    assert_tidy(&plan(&repository));
    // A writer does not rely on such a bundle; readers find the whole one where there is one.
    let third = back_up(&repository, &tree, 3).snapshot.expect("snapshot");
    assert_holds(&repository, third, &tree);
    collect(&repository, &strict).expect("gc");
    for id in [second, third] {
        assert_holds(&repository, id, &tree);
    }
}

#[test]
fn damage_stops_it() {
    let (storage, repository) = memory();
    let mut tree = tree(1, 30);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    edit(&mut tree, 1, 2);
    back_up(&repository, &tree, 2);
    repository.forget(first, &Notes::default()).expect("forget");
    let whole = storage.dump();
    let mut stopped = 0;
    for name in storage.names() {
        let folder = name.as_str().split('/').next().unwrap_or_default();
        if !["packs", "index", "snapshots"].contains(&folder) {
            continue;
        }
        for remove in [true, false] {
            storage.load(whole.clone());
            match remove {
                true => drop(storage.remove(&name)),
                false => storage.corrupt(&name, |bytes| {
                    let middle = bytes.len() / 3;
                    bytes[middle] ^= 1;
                }),
            }
            let objects = |storage: &MemoryStorage| {
                let mut all = storage.names_in(Folder::Packs);
                all.extend(storage.names_in(Folder::Index));
                all.into_iter().collect::<BTreeSet<_>>()
            };
            let before = objects(&storage);
            match collect(&repository, &plain()) {
                Err(Error::MissingBlob { .. } | Error::Damaged { .. }) => {
                    stopped += 1;
                    assert!(objects(&storage).is_superset(&before), "{name}");
                }
                // It was of no use to anybody, or is the snapshot itself.
                Ok(_) => {}
                Err(e) => panic!("{name}: {e:?}"),
            }
        }
    }
    assert!(stopped >= 4, "{stopped}");
}

fn who(verb: &str) -> Writer {
    Writer { host: "other".into(), process: 7, verb: verb.into(), time: 1 }
}

#[test]
fn an_open_session_is_waited_for_and_named() {
    let (storage, repository) = memory();
    let mut tree = tree(1, 30);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    edit(&mut tree, 1, 1);
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    let session = Session::begin(&repository, who("backup")).expect("session");
    repository.forget(first, &Notes::default()).expect("forget");
    let packs = storage.names_in(Folder::Packs);
    let strict = GcOptions { max_unused: 0.0, packs_per_record: 1, ..plain() };
    let report = collect(&repository, &strict).expect("gc");
    let [waiting] = &report.waiting[..] else { panic!("{report:?}") };
    assert_eq!((waiting.host.as_str(), waiting.process), ("other", 7));
    assert_eq!((waiting.verb.as_str(), waiting.id), ("backup", session.id()));
    assert!(report.condemned.count > 1);
    let records = storage.names_in(Folder::Condemned).len() as u64;
    assert_eq!(records, report.condemned.count, "as many records as it takes");
    let now: BTreeSet<_> = storage.names_in(Folder::Packs).into_iter().collect();
    assert!(packs.iter().all(|pack| now.contains(pack)), "nothing is deleted");
    session.end("done").expect("end");
    let report = collect(&repository, &plain()).expect("gc");
    assert!(report.deleted.count >= records && report.waiting.is_empty(), "{report:?}");
    assert_eq!(storage.names_in(Folder::Condemned), []);
    assert_holds(&repository, second, &tree);
    assert_tidy(&plan(&repository));
}

#[test]
fn silent_sessions_are_shut_out() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(1, 20), 1).snapshot.expect("snapshot");
    let session = Session::begin(&repository, who("backup")).expect("session");
    repository.forget(first, &Notes::default()).expect("forget");
    storage.clock().advance(23 * 3600);
    assert_eq!(collect(&repository, &plain()).expect("gc").waiting.len(), 1);
    storage.clock().advance(2 * 3600);
    let report = collect(&repository, &plain()).expect("gc");
    assert_eq!(report.plan.shut_out.len(), 1, "{report:?}");
    assert!(report.waiting.is_empty() && report.deleted.count > 0);
    let confirmed = ObjectName::fence_confirmed(session.id());
    assert!(storage.names().contains(&confirmed));
    assert!(
        storage
            .names_in(Folder::Sessions)
            .iter()
            .all(|name| { !name.as_str().contains(&session.id().to_string()) })
    );
}

#[test]
fn a_session_that_was_shut_out_keeps_no_partial_snapshot_of_what_is_gone() {
    let (storage, repository) = memory();
    let session = Session::begin(&repository, who("backup")).expect("session");
    let partial = with_writer(&repository, session.index(), WriterOptions::default(), |blobs| {
        blobs.put_structure(BlobKind::Chunk, random_bytes(1, 50_000))?;
        blobs.flush()?;
        storage.clock().advance(25 * 3600);
        // It dies when the packs are gone, and its record is there still.
        let dying = FaultStorage::new(storage.clone());
        dying.set_plan(|_, call| {
            let record =
                call.operation == Operation::Delete && call.object.starts_with("condemned/");
            record.then_some(Fault::CrashBefore)
        });
        assert!(collect(&repository_in(dying), &plain()).is_err());
        assert!(storage.names_in(Folder::Packs).is_empty());
        assert!(session.renew(blobs).is_err(), "what it relies on cannot be copied out");
        storage.clock().advance(25 * 3600);
        collect(&repository, &plain())?;
        assert!(storage.names_in(Folder::Condemned).is_empty());
        session.commit_partial(blobs, &Snapshot::default())
    });
    assert_eq!(partial.expect("a partial snapshot, or none"), None);
}

#[test]
fn a_fence_put_by_a_stranger_deletes_nothing() {
    let (storage, repository) = memory();
    let tree = tree(1, 20);
    let id = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    for name in [ObjectName::fence(id), ObjectName::fence_confirmed(id)] {
        storage.plant(&name, b"whatever".to_vec());
    }
    let report = collect(&repository, &plain()).expect("gc");
    assert_eq!(report.plan.fenced, [id]);
    assert_eq!(report.deleted.count, 0);
    read_back(&repository, id).expect("it is all there");
}

/// It was shut out, and committed when parts of it were gone: a late segment names their pack.
#[test]
fn a_shut_out_snapshot_that_lacks_something_stops_nothing() {
    let (storage, repository) = memory();
    let mut tree = tree(1, 60);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    for i in (0..60).filter(|i| i % 3 > 0) {
        tree.remove(format!("small/{i:03}"));
    }
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let mut names = storage.names_in(Folder::Index);
    for (_, place) in blobs(&index).into_iter().filter(|(_, place)| place.kind.is_structure()) {
        names.push(ObjectName::pack(index.pack(place.pack).expect("read").expect("pack").id));
    }
    names.push(ObjectName::snapshot(first));
    let kept: Vec<_> = names.into_iter().map(|n| (storage.get(&n).expect("there"), n)).collect();
    repository.forget(first, &Notes::default()).expect("forget");
    let strict = GcOptions { max_unused: 0.0, ..plain() };
    collect(&repository, &strict).expect("gc");
    collect(&repository, &strict).expect("gc");
    for (bytes, name) in kept {
        // A segment comes as a new one: the old one is superseded.
        let (keys, id, kind) = (repository.keys(), repository.id(), ObjectKind::Index);
        match envelope::open(keys, id, kind, "index", bytes.clone()) {
            Ok(message) => {
                let again = envelope::seal(keys, id, kind, &[9; 32], "index", &message);
                let again = again.expect("a segment");
                storage.plant(&ObjectName::index(Sha256::of(&again)), again);
            }
            Err(_) => storage.plant(&name, bytes),
        }
    }
    for name in [ObjectName::fence(first), ObjectName::fence_confirmed(first)] {
        storage.plant(&name, b"whatever".to_vec());
    }
    let report = collect(&repository, &strict).expect("gc");
    assert_eq!(report.plan.fenced, []);
    assert_holds(&repository, second, &tree);
}

#[test]
fn what_a_session_has_written_so_far_is_left_alone() {
    let (storage, repository) = memory();
    let tree = tree(1, 20);
    let faulty = FaultStorage::new(storage.clone());
    faulty.set_plan(|_, call| {
        let commit = call.operation == Operation::Put && call.object.starts_with("snapshots/");
        commit.then_some(Fault::CrashBefore)
    });
    // The lease comes first, and the clock goes on.
    let session = Session::begin(&repository, who("backup")).expect("session");
    storage.clock().advance(60);
    assert!(run(&repository_in(faulty), &options(tree.source(), 1)).is_err());
    let written = storage.names_in(Folder::Packs).len();
    assert!(written > 0);
    let report = collect(&repository, &plain()).expect("gc");
    assert_eq!((report.condemned.count, report.plan.young.count), (0, written as u64));
    session.end("done").expect("end");
    storage.clock().advance(25 * 3600);
    let report = collect(&repository, &plain()).expect("gc");
    assert_eq!(report.deleted.count, written as u64, "{report:?}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(1, 20), 1).snapshot.expect("snapshot");
    back_up_afresh(&repository, &tree(2, 20), 2);
    repository.forget(first, &Notes::default()).expect("forget");
    let before = storage.dump();
    let told = plan(&repository);
    assert_eq!(storage.dump(), before);
    assert!(told.frees() > 0 && told.dead.count > 0, "{told:?}");
    let report = collect(&repository, &plain()).expect("gc");
    assert_eq!(report.plan.dead, told.dead);
}

#[test]
fn limits_are_kept() {
    let (_, repository) = memory();
    let mut tree = tree(1, 60);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    edit(&mut tree, 1, 3);
    back_up(&repository, &tree, 2);
    repository.forget(first, &Notes::default()).expect("forget");
    let none = GcOptions { max_repack: Some(0), ..plain() };
    assert_eq!(collect(&repository, &none).expect("gc").copied.count, 0);
    let lax = GcOptions { max_unused: 0.9, ..plain() };
    assert_eq!(collect(&repository, &lax).expect("gc").copied.count, 0);
    let late = GcOptions { max_time: Some(Duration::ZERO), ..plain() };
    let report = collect(&repository, &late).expect("gc");
    assert_eq!((report.copied.count, report.put_off), (0, Some(PutOff::Time)));
    assert!(collect(&repository, &plain()).expect("gc").copied.count > 0);
    assert_tidy(&plan(&repository));
    assert!(collect(&repository, &GcOptions { max_unused: 2.0, ..plain() }).is_err());
}

#[test]
fn it_works_where_there_is_no_space_left() {
    let (storage, repository) = memory();
    let mut tree = tree(1, 60);
    back_up(&repository, &tree, 1);
    // Of this one nothing is needed, of the first one half.
    back_up_afresh(&repository, &self::tree(9, 60), 2);
    edit(&mut tree, 1, 2);
    let last = back_up_afresh(&repository, &tree, 3);
    for info in repository.snapshots().expect("snapshots") {
        if info.id != last {
            repository.forget(info.id, &Notes::default()).expect("forget");
        }
    }
    storage.set_capacity(Some(storage.total_size()));
    let before = storage.total_size();
    let report = collect(&repository, &plain()).expect("gc");
    assert!(report.deleted.count > 0 && storage.total_size() < before, "{report:?}");
    assert_eq!(report.put_off, Some(PutOff::Space));
    let again = collect(&repository, &plain()).expect("gc");
    assert!(again.put_off.is_none(), "{again:?}");
    assert_tidy(&plan(&repository));
    assert_holds(&repository, last, &tree);
}

#[test]
fn what_a_lock_refuses_is_put_off() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(1, 20), 1).snapshot.expect("snapshot");
    let second = back_up_afresh(&repository, &tree(2, 20), 2);
    repository.forget(first, &Notes::default()).expect("forget");
    let worn = Worn::new(storage.clone());
    worn.keep_packs();
    let locked = repository_in(worn);
    let report = collect(&locked, &plain()).expect("gc");
    assert!(report.refused_total > 0 && report.deleted.count == 0, "{report:?}");
    assert_eq!(report.refused.len() as u64, report.refused_total);
    assert_eq!(storage.names_in(Folder::Condemned).len(), 1, "they are remembered");
    let report = collect(&repository, &plain()).expect("gc");
    assert!(report.deleted.count > 0 && report.refused_total == 0, "{report:?}");
    assert_eq!(storage.names_in(Folder::Condemned).len(), 0);
    assert_holds(&repository, second, &tree(2, 20));
}

#[test]
fn readers_without_a_lease_follow() {
    let (_, repository) = memory();
    let mut tree = tree(1, 60);
    let first = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    edit(&mut tree, 1, 2);
    back_up(&repository, &tree, 2);
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    repository.forget(first, &Notes::default()).expect("forget");
    // Two gcs move what is needed twice.
    assert!(collect(&repository, &plain()).expect("gc").copied.count > 0);
    edit(&mut tree, 2, 2);
    back_up(&repository, &tree, 3);
    let strict = GcOptions { max_unused: 0.0, ..plain() };
    collect(&repository, &strict).expect("gc");
    let reader = BlobReader::new(&repository, &index);
    let fixed = BlobReader::of_index(&repository, &index);
    let (mut read, mut missed) = (0, 0);
    let newest = Index::load(&repository, &BTreeSet::new()).expect("index");
    for (id, place) in blobs(&newest) {
        if place.kind == BlobKind::Bundle || index.find_any(&id).expect("index").is_none() {
            continue;
        }
        reader.read(place.kind, &id).expect("it has been moved");
        missed += usize::from(fixed.read(place.kind, &id).is_err());
        read += 1;
    }
    assert!(read > 0 && missed > 0, "{missed} of {read} had been moved");
    // What is gone for good is missing in the end.
    let gone = blobs(&index).into_iter().find(|(id, place)| {
        place.kind == BlobKind::Chunk && newest.find_any(id).expect("index").is_none()
    });
    let (id, place) = gone.expect("something was deleted");
    assert!(reader.read(place.kind, &id).is_err());
}

#[test]
fn many_small_segments_become_few() {
    let (storage, repository) = memory();
    let mut trees = MemoryTree::new();
    let mut last = None;
    for day in 0..40_u64 {
        trees.file(format!("day{day}"), random_bytes(day, 2_000));
        last = back_up(&repository, &trees, day as i64).snapshot;
    }
    assert!(storage.names_in(Folder::Index).len() >= 40);
    let report = collect(&repository, &plain()).expect("gc");
    // But those whose size is another power of eight.
    assert!(report.merged.1 >= 30, "{report:?}");
    collect(&repository, &plain()).expect("gc");
    let left = storage.names_in(Folder::Index).len();
    assert!(left <= 8, "{left}");
    assert_holds(&repository, last.expect("snapshot"), &trees);
}

#[test]
fn leases_and_notes_that_are_left_over_go() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(1, 10), 1).snapshot.expect("snapshot");
    let second = back_up(&repository, &tree(1, 10), 2).snapshot.expect("snapshot");
    for (snapshot, id) in [(first, 1), (second, 2)] {
        let id = holdfast_engine::hash::RecordId::new([id; 16]);
        storage.plant(&ObjectName::note(snapshot, id), b"a note".to_vec());
    }
    repository.forget(first, &Notes::default()).expect("forget");
    let open = Session::begin(&repository, who("backup")).expect("session");
    collect(&repository, &plain()).expect("gc");
    let notes = storage.names_in(Folder::Notes);
    assert!(matches!(&notes[..], [one] if one.as_str().contains(&second.to_string())));
    let leases = storage.names_in(Folder::Sessions);
    assert!(leases.contains(&ObjectName::session(open.id(), 0)), "an open one stays");
    let left = leases.into_iter().filter(|name| name.as_str().contains(&first.to_string()));
    // The second one names it.
    assert_eq!(left.collect::<Vec<_>>(), [ObjectName::session_forgotten(first)]);
}

#[test]
fn killed_at_any_call_it_loses_nothing_and_the_next_one_completes() {
    let mut tree = tree(1, 40);
    let base = MemoryStorage::new();
    let repository_ = repository(base.clone());
    let first = back_up(&repository_, &tree, 1).snapshot.expect("snapshot");
    edit(&mut tree, 1, 3);
    let second = back_up(&repository_, &tree, 2).snapshot.expect("snapshot");
    repository_.forget(first, &Notes::default()).expect("forget");
    let start = base.dump();
    let one = GcOptions { threads: 1, packs_per_record: 1, ..plain() };
    let work = |repository: &Repository| collect(repository, &one);
    killed_at_any_call(&start, work, |storage, what| {
        let repository = repository(storage.clone());
        read_back(&repository, second).unwrap_or_else(|e| panic!("{what}: {e}"));
        storage.clock().advance(25 * 3600);
        let report = work(&repository).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(report.waiting.is_empty(), "{what}");
        // One that died while it copied leaves copies that go one run later.
        work(&repository).expect("gc");
        assert_tidy(&plan(&repository));
        read_back(&repository, second).unwrap_or_else(|e| panic!("{what}: {e}"));
    });
}
