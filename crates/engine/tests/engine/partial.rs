//! Partial snapshots that a run leaves on its way: each holds what it says, whatever happens to
//! the run, and the next run goes on from it.

use std::time::Duration;

use crate::common::{
    assert_holds, back_up, memory, options, read_back, repository, run, try_repository,
};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::ops::backup::BackupOptions;
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

/// Small files, big ones, and equal ones, so that threads meet at the same blobs. From about 100 on
/// there are more small files than may be on their way at once, so that a run takes several steps.
fn tree(count: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..count {
        tree.file(format!("{:02}/small{i}", i / 7), random_bytes(i, 40_000 + i as usize));
        tree.file(format!("{:02}/big{i}", i / 7), random_bytes(i % 9, 300_000));
    }
    tree
}

/// A partial snapshot after every step of the run that stored something.
fn often(tree: &MemoryTree, time: i64) -> BackupOptions {
    BackupOptions { partial_every: Some(Duration::ZERO), ..options(tree.source(), time) }
}

fn partials(repository: &Repository) -> Vec<SnapshotId> {
    let all = repository.snapshots().expect("snapshots");
    all.iter().filter(|s| s.record.partial).map(|s| s.id).collect()
}

/// Panics unless all that the snapshot holds is as in `tree`; how much it holds.
fn assert_holds_part(repository: &Repository, id: SnapshotId, tree: &MemoryTree) -> usize {
    let stored = read_back(repository, id).expect("read back");
    for (path, (entry, content)) in &stored {
        let node = tree.node(path).expect("a path that is in the tree");
        assert!(*content == **node.content, "{}", String::from_utf8_lossy(path));
        assert_eq!(entry.error, "");
    }
    stored.len()
}

#[test]
fn every_partial_snapshot_holds_what_it_says() {
    let (storage, repository) = memory();
    let tree = tree(200);
    let report = run(&repository, &often(&tree, 1)).expect("backup");
    assert!(!report.partial);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
    let partials = partials(&repository);
    assert!(partials.len() > 1, "{}", partials.len());
    for id in &partials {
        assert_holds_part(&repository, *id, &tree);
        let end = ObjectName::session_end(*id);
        assert!(storage.names_in(Folder::Sessions).contains(&end), "its session has ended");
    }
    assert_eq!(
        repository.select("latest", &Default::default()).ok().map(|s| s.id),
        report.snapshot
    );
}

#[test]
fn what_a_run_left_on_its_way_is_not_what_the_next_one_is_compared_with() {
    let tree = tree(200);
    for time in [1, 3, 5] {
        let (_, repository) = memory();
        let report = run(&repository, &often(&tree, time)).expect("backup");
        assert!(partials(&repository).len() > 1);
        let next = back_up(&repository, &tree, time + 1);
        assert_eq!(next.parent, report.snapshot, "whatever their ids");
    }
}

#[test]
fn the_parent_is_the_furthest_of_an_interrupted_run_and_none_of_other_places() {
    let (_, repository) = memory();
    let complete = back_up(&repository, &tree(5), 1).snapshot.expect("snapshot");
    run(&repository, &often(&tree(200), 2)).expect("backup");
    let all = repository.snapshots().expect("snapshots");
    let last = all.iter().find(|s| s.record.time == 2 && !s.record.partial).expect("complete");
    repository.forget(last.id, &Notes::default()).expect("forget");
    let entries = |s: &&SnapshotInfo| s.record.sum().entries();
    let furthest = all.iter().filter(|s| s.record.partial).max_by_key(entries).expect("partial");
    let next = |path: &str| {
        let mut options = BackupOptions { dry_run: true, ..options(tree(200).source(), 3) };
        options.roots[0].path = path.into();
        run(&repository, &options).expect("backup").parent
    };
    assert_eq!(next("/data"), Some(furthest.id));
    assert_ne!(furthest.id, complete);
    assert_eq!(next("/elsewhere"), None);
}

/// Its session has not seen what the run's has: a gc between the two could take away what says that
/// one of those was forgotten.
#[test]
fn a_partial_snapshot_names_no_predecessors() {
    let (_, repository) = memory();
    let first = back_up(&repository, &tree(5), 1).snapshot.expect("snapshot");
    let report = run(&repository, &often(&tree(200), 2)).expect("backup");
    let heads = |id| repository.snapshot(id).expect("snapshot").heads;
    let partials = partials(&repository);
    assert!(!partials.is_empty() && partials.into_iter().all(|id| heads(id).is_empty()));
    assert_eq!(heads(report.snapshot.expect("snapshot")), [first.as_bytes().to_vec()]);
}

#[test]
fn a_killed_run_is_gone_on_with() {
    let storage = MemoryStorage::new();
    let tree = tree(200);
    repository(storage.clone());
    let faulty = FaultStorage::new(storage.clone());
    // The computer goes down right after the second partial snapshot.
    let mut snapshots = 0;
    faulty.set_plan(move |_, call| {
        let snapshot = call.operation == Operation::Put && call.object.starts_with("snapshots/");
        snapshots += usize::from(snapshot);
        (snapshots > 1).then_some(Fault::CrashAfter)
    });
    assert!(run(&repository(faulty), &often(&tree, 1)).is_err());
    let repository = repository(storage);
    let kept = partials(&repository);
    let last = kept.last().expect("a partial snapshot");
    let files = assert_holds_part(&repository, *last, &tree);
    let source = tree.source();
    let report = run(&repository, &options(source.clone(), 2)).expect("backup");
    assert!(report.stats.files_unchanged > 0 && source.files_read() < 400, "{files} kept");
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
}

#[test]
fn a_crash_at_any_call_leaves_partial_snapshots_whole() {
    let tree = tree(60);
    let base = MemoryStorage::new();
    repository(base.clone());
    let start = base.dump();
    let calls = {
        let probe = FaultStorage::new(MemoryStorage::from_dump(start.clone()));
        run(&repository(probe.clone()), &often(&tree, 1)).expect("backup");
        probe.calls()
    };
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::ErrorBefore, Fault::ErrorAfter] {
        for k in (0..calls).step_by(3) {
            let storage = MemoryStorage::from_dump(start.clone());
            let faulty = FaultStorage::new(storage.clone());
            faulty.fail_at(k, fault);
            let _ = try_repository(faulty).and_then(|r| run(&r, &often(&tree, 1)));
            let repository = repository(storage);
            for id in partials(&repository) {
                assert_holds_part(&repository, id, &tree);
            }
            let next = run(&repository, &options(tree.source(), 2)).expect("backup");
            assert_holds(&repository, next.snapshot.expect("snapshot"), &tree);
        }
    }
}

#[test]
fn a_partial_snapshot_that_fails_costs_nothing_but_itself() {
    let tree = tree(200);
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter] {
        for object in ["snapshots/", "sessions/", "fences/"] {
            let storage = MemoryStorage::new();
            repository(storage.clone());
            let faulty = FaultStorage::new(storage.clone());
            // The first is the run's own lease: all that partial snapshots store fails.
            let (mut seen, skip) = (0, usize::from(object == "sessions/"));
            faulty.set_plan(move |_, call| {
                let fits = call.operation == Operation::Put && call.object.starts_with(object);
                seen += usize::from(fits);
                (fits && seen > skip && seen <= skip + 2).then_some(fault)
            });
            let report = run(&repository(faulty), &often(&tree, 1)).expect("backup");
            let repository = repository(storage);
            assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
            for id in partials(&repository) {
                assert_holds_part(&repository, id, &tree);
            }
        }
    }
}
