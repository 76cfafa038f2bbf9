//! What is said of snapshots after they were committed, and forgetting them: everybody sees it,
//! nothing said at the same time is lost, and whatever call fails, nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{assert_holds, back_up, memory, options, repository, run};
use holdfast_engine::crypto::ObjectKind;
use holdfast_engine::format::envelope;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::BackupOptions;
use holdfast_engine::ops::check::{CheckOptions, Severity, check};
use holdfast_engine::ops::forget::{ForgetOptions, Freed, forget, freed};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::notes::Change;
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::repo::{self, BlobReader, Index, OpenOptions, Repository};
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::{random_bytes, rng};
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};
use rand::Rng;

fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("kept", random_bytes(1, 200_000));
    // Sizes differ, for times do not: what has equal ones counts as unchanged.
    let length = seed as usize;
    tree.file("big", random_bytes(seed, 300_000 + length));
    tree.file("small", random_bytes(seed, 5_000 + length));
    tree
}

/// An index that was listed before the snapshots would lack what the newest of them needs.
#[test]
fn the_index_is_listed_after_the_snapshots() {
    let (storage, repository_) = memory();
    back_up(&repository_, &tree(1), 1);
    let faulty = FaultStorage::new(storage);
    let repository = repository(faulty.clone());
    let lists = |folder: &str| {
        let log = faulty.log().into_iter();
        log.filter(|call| call.operation == Operation::List && call.object == folder).count()
    };
    let (found, (_, problems)) = repository.snapshots_and_index().expect("both");
    assert_eq!((found.0.len(), problems.len(), lists("index")), (1, 0, 1));
    faulty.reset_log();
    faulty.set_plan(|_, call| {
        let is_first = call.operation == Operation::List && call.object == "snapshots";
        is_first.then_some(Fault::ErrorBefore)
    });
    assert!(repository.snapshots_and_index().is_err());
    assert_eq!((lists("snapshots"), lists("index")), (1, 0), "not before the snapshots");
}

fn tags(list: &[&str]) -> Vec<String> {
    list.iter().map(|tag| (*tag).into()).collect()
}

fn add(list: &[&str]) -> Change {
    Change { add_tags: tags(list), ..Change::default() }
}

fn pin(pinned: bool) -> Change {
    Change { pinned: Some(pinned), ..Change::default() }
}

/// What is said of a snapshot, as its listing tells.
fn said(repository: &Repository, id: SnapshotId) -> Snapshot {
    let all = repository.snapshots().expect("snapshots");
    all.into_iter().find(|s| s.id == id).expect("present").record
}

fn annotate(repository: &Repository, id: SnapshotId, change: &Change, now: i64) -> Result<bool> {
    let (all, notes) = repository.snapshots_with_notes()?;
    let info = all.iter().find(|s| s.id == id).expect("present");
    Ok(repository.annotate(info, &notes, change, now)?.is_some())
}

fn forget_one(repository: &Repository, id: SnapshotId, force: bool) -> Result<()> {
    let options = ForgetOptions { snapshots: vec![id], force };
    forget(repository, &options, &Interrupt::new(), &mut |_| Ok(()))
}

/// What `check` says, worst first.
fn findings(repository: &Repository) -> Vec<(Severity, String)> {
    let report = check(repository, &CheckOptions::default(), &NoMonitor, &Interrupt::new());
    let findings = report.expect("check").findings.into_iter();
    findings.map(|finding| (finding.severity, finding.object)).collect()
}

#[test]
fn what_was_said_last_counts_everywhere() {
    let (_, repository) = memory();
    let pinned = BackupOptions { pinned: true, tags: tags(&["b"]), ..options(tree(2).source(), 1) };
    let id = run(&repository, &pinned).expect("backup").snapshot.expect("snapshot");
    assert!(said(&repository, id).pinned);
    assert!(annotate(&repository, id, &add(&["c", "a"]), 10).expect("tag"));
    assert_eq!(said(&repository, id).tags, tags(&["a", "b", "c"]));
    assert!(!annotate(&repository, id, &add(&["c"]), 11).expect("said already"));
    let set = Change {
        replace_tags: true,
        add_tags: tags(&["x"]),
        description: Some("good".into()),
        pinned: Some(false),
        ..Change::default()
    };
    assert!(annotate(&repository, id, &set, 12).expect("set"));
    let now = said(&repository, id);
    assert_eq!((now.tags, &*now.description, now.pinned), (tags(&["x"]), "good", false));
    let filter = |tag: &str| Filter { tags: tags(&[tag]), ..Filter::default() };
    assert_eq!(repository.select("latest", &filter("x")).expect("tag").id, id);
    assert!(repository.select("latest", &filter("b")).is_err());
    // What was committed stays as it was.
    assert_eq!(repository.snapshot(id).expect("snapshot").tags, tags(&["b"]));
    assert_eq!(findings(&repository), []);
}

#[test]
fn a_clock_that_is_behind_still_has_the_last_word() {
    let (_, repository) = memory();
    let id = back_up(&repository, &tree(2), 1).snapshot.expect("snapshot");
    for (pinned, now) in [(true, 1_000), (false, 5), (true, 3), (false, i64::MIN)] {
        assert!(annotate(&repository, id, &pin(pinned), now).expect("keep"));
        assert_eq!(said(&repository, id).pinned, pinned, "at {now}");
    }
}

#[test]
fn what_two_say_at_once_both_counts() {
    let storage = MemoryStorage::new();
    let (one, two) = (repository(storage.clone()), repository(storage.clone()));
    let id = back_up(&one, &tree(2), 1).snapshot.expect("snapshot");
    // Both have read before either writes.
    let seen = |repository: &Repository| {
        let (all, notes) = repository.snapshots_with_notes().expect("snapshots");
        (all.into_iter().next().expect("one"), notes)
    };
    let (first, second) = (seen(&one), seen(&two));
    let change = Change { pinned: Some(true), ..add(&["one"]) };
    one.annotate(&first.0, &first.1, &change, 10).expect("tag");
    two.annotate(&second.0, &second.1, &add(&["two"]), 10).expect("tag");
    let now = said(&one, id);
    assert_eq!((now.tags, now.pinned), (tags(&["one", "two"]), true));
    assert_eq!(said(&two, id).tags, tags(&["one", "two"]));
}

#[test]
fn notes_cost_one_listing_and_are_read_once() {
    let storage = MemoryStorage::new();
    let cache = tempfile::tempdir().expect("directory");
    let first = repository(storage.clone());
    let id = back_up(&first, &tree(2), 1).snapshot.expect("snapshot");
    annotate(&first, id, &add(&["a"]), 1).expect("tag");
    let counted = FaultStorage::new(storage);
    let open = OpenOptions {
        secret: Some(crate::common::secret()),
        cache: Some(cache.path().to_path_buf()),
    };
    let second = repo::open::open(std::sync::Arc::new(counted.clone()), open).expect("open");
    let calls = |count: usize| {
        let all = counted.log();
        let notes = all.iter().skip(count).filter(|call| call.object.starts_with("notes"));
        notes.map(|call| call.operation).collect::<Vec<_>>()
    };
    second.snapshots().expect("snapshots");
    assert_eq!(calls(0), [Operation::List, Operation::Get]);
    let before = counted.calls();
    assert_eq!(said(&second, id).tags, tags(&["a"]));
    assert_eq!(calls(before), [Operation::List]);
}

#[test]
fn a_damaged_note_is_named_and_costs_nothing_else() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(2), 1).snapshot.expect("snapshot");
    let other = back_up(&repository, &tree(3), 2).snapshot.expect("snapshot");
    annotate(&repository, id, &add(&["a"]), 1).expect("tag");
    annotate(&repository, other, &add(&["b"]), 1).expect("tag");
    let prefix = format!("notes/{id}/");
    let names = storage.names_in(Folder::Notes);
    let name = names.iter().find(|name| name.as_str().starts_with(&prefix)).expect("note");
    storage.corrupt(name, |bytes| bytes[100] ^= 1);
    assert_eq!(said(&repository, id).tags, tags(&[]));
    assert_eq!(said(&repository, other).tags, tags(&["b"]));
    assert_eq!(findings(&repository), [(Severity::Damage, name.as_str().to_owned())]);
    let (_, notes) = repository.snapshots_with_notes().expect("snapshots");
    let unreadable: Vec<_> = notes.unreadable().map(|(id, _)| id).collect();
    assert_eq!(unreadable, [id]);
    // It may have said that the snapshot is to stay.
    assert!(
        matches!(forget_one(&repository, id, false), Err(Error::Kept { snapshot, .. }) if snapshot == id)
    );
    forget_one(&repository, id, true).expect("forget");
    assert_eq!(findings(&repository), []);
    assert!(!storage.names_in(Folder::Notes).contains(name));
}

#[test]
fn pinned_snapshots_go_only_by_force() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(2), 1).snapshot.expect("snapshot");
    let other = back_up(&repository, &tree(3), 2).snapshot.expect("snapshot");
    annotate(&repository, id, &pin(true), 1).expect("keep");
    let before = storage.dump();
    let both = ForgetOptions { snapshots: vec![other, id], force: false };
    let result = forget(&repository, &both, &Interrupt::new(), &mut |_| Ok(()));
    assert!(matches!(result, Err(Error::Kept { snapshot, .. }) if snapshot == id));
    assert!(storage.dump() == before, "nothing has changed");
    forget_one(&repository, id, true).expect("forget");
    assert_eq!(repository.snapshots().expect("snapshots").len(), 1);
}

#[test]
fn check_knows_what_was_forgotten_from_what_is_gone() {
    let (storage, repository) = memory();
    let ids: Vec<_> = (1..4)
        .map(|time| back_up(&repository, &tree(time), time as i64).snapshot.expect("snapshot"))
        .collect();
    forget_one(&repository, ids[0], false).expect("forget");
    // Once more, by somebody who has not seen it yet: as good.
    repository.forget(ids[0], &Default::default()).expect("forget again");
    assert_eq!(findings(&repository), []);
    storage.remove(&ObjectName::snapshot(ids[1]));
    let name = ObjectName::snapshot(ids[1]).as_str().to_owned();
    assert_eq!(findings(&repository), [(Severity::Note, name)]);
}

#[test]
fn snapshots_shut_out_are_forgotten_by_id() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(2), 1).snapshot.expect("snapshot");
    let faulty = FaultStorage::new(storage.clone());
    // A fence that somebody left, and the storage that dies once it is confirmed.
    let (fence, confirmed) = (ObjectName::fence(id), ObjectName::fence_confirmed(id));
    let (kind, keys) = (ObjectKind::Fence, repository.keys());
    let sealed = envelope::seal(keys, repository.id(), kind, &[1; 32], fence.as_str(), b"");
    storage.plant(&fence, sealed.expect("seal"));
    faulty.set_plan(move |_, call| {
        let is_confirmation = call.operation == Operation::Put && call.object == confirmed.as_str();
        is_confirmation.then_some(Fault::CrashAfter)
    });
    assert!(forget_one(&crate::common::repository(faulty), id, false).is_err());
    assert!(repository.snapshots().expect("snapshots").is_empty());
    let hidden = repository.shut_out_snapshots().expect("hidden");
    assert_eq!(hidden.iter().map(|s| s.id).collect::<Vec<_>>(), [id]);
    forget_one(&repository, id, false).expect("forget");
    assert!(repository.shut_out_snapshots().expect("hidden").is_empty());
    assert!(storage.names_in(Folder::Snapshots).is_empty());
}

#[test]
fn a_damaged_snapshot_that_was_shut_out_can_be_forgotten() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(2), 1).snapshot.expect("snapshot");
    for name in [ObjectName::fence(id), ObjectName::fence_confirmed(id)] {
        storage.plant(&name, b"fence".to_vec());
    }
    storage.corrupt(&ObjectName::snapshot(id), |bytes| bytes[40] ^= 1);
    let collect =
        || gc(&repository, &GcOptions::default(), &NoMonitor, &Interrupt::new(), &mut |_| {});
    assert!(collect().is_err(), "nobody knows what it needs");
    let hidden = repository.shut_out_snapshots().expect("hidden");
    assert_eq!(hidden.iter().map(|s| s.id).collect::<Vec<_>>(), [id]);
    forget_one(&repository, id, false).expect("forget");
    collect().expect("gc");
    assert!(storage.names_in(Folder::Snapshots).is_empty());
}

/// Two snapshots, of which the first has notes.
fn world() -> (MemoryStorage, [SnapshotId; 2]) {
    let (storage, repository) = memory();
    let ids = [2, 3]
        .map(|time| back_up(&repository, &tree(time), time as i64).snapshot.expect("snapshot"));
    annotate(&repository, ids[0], &add(&["a"]), 1).expect("tag");
    annotate(&repository, ids[0], &add(&["b"]), 2).expect("tag");
    (storage, ids)
}

/// Lets every call of `act` fail in every way, and calls `then` with what the storage holds.
fn at_every_call(
    act: impl Fn(&Repository, [SnapshotId; 2]) -> Result<()>,
    then: impl Fn(&MemoryStorage, [SnapshotId; 2], &Result<()>),
) {
    let (whole, ids) = world();
    let faults = [
        Fault::ErrorBefore,
        Fault::ErrorAfter,
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Duplicate,
    ];
    for fault in faults {
        for k in 0.. {
            let storage = MemoryStorage::from_dump(whole.dump());
            let faulty = FaultStorage::new(storage.clone());
            let damaged = repository(faulty.clone());
            let begun = faulty.calls();
            faulty.fail_at(begun + k, fault);
            let result = act(&damaged, ids);
            if faulty.injected().is_empty() {
                assert!(k > 3, "{k} calls");
                result.expect("without a fault");
                break;
            }
            then(&storage, ids, &result);
        }
    }
}

#[test]
fn whatever_call_of_tag_fails_the_snapshots_stay_and_it_can_be_said_again() {
    let change = Change { pinned: Some(true), ..add(&["new"]) };
    let act = |r: &Repository, ids: [SnapshotId; 2]| annotate(r, ids[0], &change, 5).map(drop);
    at_every_call(act, |storage, ids, _| {
        let repository = repository(storage.clone());
        let now = said(&repository, ids[0]);
        // All of the change or nothing of it.
        assert_eq!(now.tags == tags(&["a", "b", "new"]), now.pinned, "{:?}", now.tags);
        assert!(now.pinned || now.tags == tags(&["a", "b"]));
        annotate(&repository, ids[0], &change, 6).expect("again");
        assert!(said(&repository, ids[0]).pinned);
        assert_holds(&repository, ids[1], &tree(3));
        assert_eq!(findings(&repository), []);
    });
}

#[test]
fn whatever_call_of_forget_fails_the_others_stay_and_it_can_be_done_again() {
    let act = |r: &Repository, ids: [SnapshotId; 2]| forget_one(r, ids[0], false);
    at_every_call(act, |storage, ids, result| {
        let repository = repository(storage.clone());
        let left: BTreeSet<_> =
            repository.snapshots().expect("snapshots").iter().map(|s| s.id).collect();
        assert!(left.contains(&ids[1]));
        let is_there = left.contains(&ids[0]);
        assert!(!(is_there && result.is_ok()), "said to be done");
        if is_there {
            assert_holds(&repository, ids[0], &tree(2));
            assert_eq!(said(&repository, ids[0]).tags, tags(&["a", "b"]));
        }
        // Where the mark is missing, check wonders; nothing is worse than that.
        assert!(findings(&repository).iter().all(|(severity, _)| *severity == Severity::Note));
        forget_one(&repository, ids[0], false).expect("again");
        assert_eq!(repository.snapshots().expect("snapshots").len(), 1);
        assert_holds(&repository, ids[1], &tree(3));
    });
}

#[test]
fn who_may_not_delete_changes_nothing_that_anybody_sees() {
    let (storage, ids) = world();
    let faulty = FaultStorage::new(storage.clone());
    faulty.set_plan(|_, call| (call.operation == Operation::Delete).then_some(Fault::ErrorBefore));
    let before = storage.dump();
    assert!(forget_one(&repository(faulty), ids[0], false).is_err());
    assert!(storage.dump() == before);
}

fn freed_of(repository: &Repository, staying: &[SnapshotId], going: &[SnapshotId]) -> Freed {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(repository, &index);
    let all = repository.snapshots().expect("snapshots");
    let of = |ids: &[SnapshotId]| -> Vec<Snapshot> {
        all.iter().filter(|s| ids.contains(&s.id)).map(|s| s.record.clone()).collect()
    };
    let (staying, going) = (of(staying), of(going));
    freed(&reader, staying.iter(), going.iter(), &NoMonitor, &Interrupt::new()).expect("freed")
}

#[test]
fn what_becomes_free_is_what_nobody_else_needs() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    let mut files = BTreeMap::new();
    let mut random = rng(5);
    let mut ids = Vec::new();
    for time in 1..6_u64 {
        for file in 0..60 {
            if time == 1 || random.random_bool(0.2) {
                let bytes = random_bytes(random.random(), random.random_range(1..60_000));
                files.insert(format!("d{}/{file}", file % 7), bytes);
            }
        }
        // Enough chunks for a list of them.
        let big = random_bytes(7, 40 << 20);
        files.insert("big".into(), [&vec![1; time as usize][..], &big].concat());
        tree = MemoryTree::new();
        for (path, bytes) in &files {
            tree.file(path.clone(), bytes.clone());
        }
        ids.push(back_up(&repository, &tree, time as i64).snapshot.expect("snapshot"));
    }
    ids.push(back_up(&repository, &tree, 9).snapshot.expect("snapshot"));
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let stored = crate::common::blobs(&index);
    let bytes = stored.iter().map(|(_, place)| u64::from(place.sealed)).sum();
    let all = Freed { bytes, blobs: stored.len() as u64 };
    // Without others, everything there is. And each part is what all have less what others have.
    assert_eq!(freed_of(&repository, &[], &ids), all);
    for mask in 0..1_usize << ids.len() {
        let part = |bit| -> Vec<_> {
            let fits = |(i, _): &(usize, &SnapshotId)| mask >> i & 1 == bit;
            ids.iter().enumerate().filter(fits).map(|(_, id)| *id).collect()
        };
        let (staying, going) = (part(0), part(1));
        let rest = freed_of(&repository, &[], &staying);
        let free = freed_of(&repository, &staying, &going);
        assert_eq!(free.bytes + rest.bytes, all.bytes, "{mask:b}");
        assert_eq!(free.blobs + rest.blobs, all.blobs, "{mask:b}");
    }
    // The last two are equal.
    assert_eq!(freed_of(&repository, &ids[..5], &ids[5..]), Freed::default());
    assert!(freed_of(&repository, &ids[1..], &ids[..1]).bytes > 0);
}
