//! The engine on a repository in a bucket: backups and restores while connections break and the
//! server asks for fewer requests, two writers at once, crashes, damage, and what a run costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_connectors::s3::client::S3Options;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{self, OpenOptions};
use holdfast_engine::storage::Storage;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::record::{Operation, RecordStorage};
use holdfast_testkit::s3::{S3Backend, S3Fault, S3Operation, S3Refusal, S3Rule, S3ServerOptions};
use holdfast_testkit::{Direction, Fault, FaultStorage, MemoryTree, Proxy};

use crate::repositories::{
    assert_restores, back_up, checked, repository, secret, tree, try_back_up, try_repository,
};
use crate::s3_client::{options, server};
use crate::s3_storage::{storage, storage_at};

#[test]
fn a_backup_and_a_restore_survive_twenty_cuts_each() {
    let server = server(S3ServerOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let make = || storage_at(options(&server, proxy.port()));
    let tree = tree(8);
    let repository = repository(make());
    let during = |direction: Direction, work: &mut dyn FnMut()| {
        let done = AtomicBool::new(false);
        let before = proxy.cuts();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (i, random) in random_bytes(direction as u64, 20).into_iter().enumerate() {
                    proxy.cut_after(direction, 10_000 + 8_000 * u64::from(random));
                    while proxy.cuts() == before + i as u64 && !done.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::SeqCst);
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        assert_eq!(proxy.cuts() - before, 20, "of {direction:?}");
    };
    let mut snapshot = None;
    during(Direction::Up, &mut || snapshot = Some(back_up(&repository, &tree, 1)));
    let snapshot = snapshot.unwrap();
    during(Direction::Down, &mut || assert_restores(&repository, &snapshot, &tree));
    let again = try_repository(make()).unwrap();
    assert!(checked(&again).findings.is_empty());
    assert_restores(&again, &snapshot, &tree);
}

#[test]
fn a_storm_of_refusals_and_lost_answers_passes() {
    let server = server(S3ServerOptions::default());
    let repository = repository(storage(&server, "p"));
    let tree = tree(4);
    let faults = [
        S3Rule::refuse(S3Refusal::SlowDown).every(3),
        S3Rule::refuse(S3Refusal::InternalError).on(S3Operation::List).every(2),
        S3Rule::new(S3Fault::CloseAfter).on(S3Operation::Put).key("p/packs/*").every(4),
        S3Rule::new(S3Fault::Truncate(1000)).on(S3Operation::Get).every(5),
    ];
    for fault in faults {
        server.add_fault(fault);
    }
    let snapshot = back_up(&repository, &tree, 1);
    assert_restores(&repository, &snapshot, &tree);
    let again = back_up(&repository, &tree, 2);
    assert_restores(&repository, &again, &tree);
    server.clear_faults();
    assert!(checked(&repository).findings.is_empty());
}

#[test]
fn two_clients_back_up_at_once() {
    let server = server(S3ServerOptions::default());
    repository(storage(&server, "p"));
    let trees: Vec<_> = (0..2)
        .map(|i| {
            let mut tree = tree(2);
            // Of one size and time they would be one unchanged file to the other client.
            tree.file("own", random_bytes(100 + i, 3_000_000 + i as usize));
            tree
        })
        .collect();
    let snapshots: Vec<SnapshotInfo> = std::thread::scope(|scope| {
        let running: Vec<_> = trees
            .iter()
            .map(|tree| {
                let server = &server;
                scope.spawn(move || {
                    let repository = try_repository(storage(server, "p")).unwrap();
                    (1..=3).map(|time| back_up(&repository, tree, time)).last().unwrap()
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let repository = try_repository(storage(&server, "p")).unwrap();
    assert!(checked(&repository).findings.is_empty());
    for (snapshot, tree) in snapshots.iter().zip(&trees) {
        assert_restores(&repository, snapshot, tree);
    }
}

/// Objects as files, by an implementation that is not ours.
#[test]
fn a_repository_on_another_server() {
    let backend = S3Backend::Directory(None);
    let server = server(S3ServerOptions { backend, ..S3ServerOptions::default() });
    let repository = repository(storage(&server, "p"));
    let tree = tree(2);
    let snapshot = back_up(&repository, &tree, 1);
    assert_restores(&repository, &snapshot, &tree);
    assert!(checked(&repository).findings.is_empty());
}

#[test]
fn damage_in_the_bucket_is_named() {
    let server = server(S3ServerOptions::default());
    let repository = repository(storage(&server, "p"));
    back_up(&repository, &tree(1), 1);
    assert!(checked(&repository).findings.is_empty());
    for folder in ["packs", "index", "snapshots"] {
        let prefix = format!("p/{folder}/");
        for key in server.keys("bucket").into_iter().filter(|key| key.starts_with(&prefix)) {
            let object = server.object("bucket", &key).unwrap();
            for way in ["flip", "cut", "delete"] {
                match way {
                    "delete" => assert!(server.remove("bucket", &key)),
                    _ => assert!(server.change("bucket", &key, |object| {
                        let mut bytes = object.content.to_vec();
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 4;
                        if way == "cut" {
                            bytes.pop();
                        }
                        object.content = bytes.into();
                    })),
                }
                let report = checked(&repository);
                assert!(server.put("bucket", &key, object.clone()));
                // That a snapshot or a segment is gone, nobody can tell from the rest.
                if way == "delete" && folder != "packs" {
                    continue;
                }
                let name = key.rsplit('/').next().unwrap();
                let found = report.findings.iter().any(|finding| finding.object.contains(name));
                assert!(found, "{way} {key}: {:?}", report.findings);
            }
        }
    }
    assert!(checked(&repository).findings.is_empty());
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_committed() {
    let server = server(S3ServerOptions::default());
    let old = MemoryTree::random(9, 60);
    let mut tree = old.clone();
    tree.file("new", random_bytes(1, 200_000));
    let calls = {
        let storage = FaultStorage::new(storage(&server, "calls"));
        let repository = repository(storage.clone());
        back_up(&repository, &old, 1);
        storage.calls()
    };
    let mut committed = 0;
    for k in (0..calls + 2).step_by(2) {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let prefix = format!("{k}-{fault:?}");
            let first = back_up(&repository(storage(&server, &prefix)), &old, 1);
            let faulty = FaultStorage::new(storage(&server, &prefix));
            faulty.fail_at(k, fault);
            let outcome = try_repository(faulty.clone()).and_then(|r| try_back_up(&r, &tree, 2));
            drop(faulty);
            // The next process, and the next backup.
            let repository = repository(storage(&server, &prefix));
            let report = checked(&repository);
            assert!(!report.is_damaged(), "{k} {fault:?}: {:?}", report.findings);
            assert_restores(&repository, &first, &old);
            if let Ok(report) = outcome {
                committed += 1;
                let id = report.snapshot.unwrap();
                let info = SnapshotInfo { id, record: repository.snapshot(id).unwrap() };
                assert_restores(&repository, &info, &tree);
            }
            let again = back_up(&repository, &tree, 3);
            assert_restores(&repository, &again, &tree);
        }
    }
    println!("{calls} calls, {committed} committed");
}

#[test]
fn a_backup_of_nothing_new_is_a_handful_of_calls() {
    let server = server(S3ServerOptions::default());
    let tree = tree(1);
    back_up(&repository(storage(&server, "p")), &tree, 1);
    let record = Arc::new(RecordStorage::new(Arc::new(storage(&server, "p"))));
    let opened: Arc<dyn Storage> = record.clone();
    let options = OpenOptions { secret: Some(secret()), cache: None };
    let repository = repo::open::open(opened, options).unwrap();
    record.take_calls();
    server.clear_requests();
    try_back_up(&repository, &tree, 2).unwrap();
    let calls = record.take_calls();
    let (listings, others): (Vec<_>, Vec<_>) =
        calls.iter().partition(|call| call.operation == Operation::List);
    let requests = server.requests().len();
    println!("{} calls and {} listings, {requests} requests", others.len(), listings.len());
    assert!(others.len() <= 8, "{others:#?}");
    // One for each call, and one that finds out about the first object.
    assert!(requests <= calls.len() + 1, "{requests} requests");
}

#[test]
fn small_files_travel_together() {
    let server = server(S3ServerOptions::default());
    let repository = repository(storage(&server, ""));
    let mut tree = MemoryTree::default();
    for i in 0..2000 {
        tree.file(format!("f{i:04}"), random_bytes(i, 700));
    }
    server.clear_requests();
    let snapshot = back_up(&repository, &tree, 1);
    let backup = server.requests().len();
    server.clear_requests();
    assert_restores(&repository, &snapshot, &tree);
    let restore = server.requests().len();
    println!("{backup} requests to back up, {restore} to restore");
    assert!(backup <= 20 && restore <= 20, "{backup} and {restore}");
}

/// Several packs are on their way at once, each no longer than a storage that holds them in memory
/// wants.
#[test]
fn packs_are_short_and_go_up_together() {
    let server = server(S3ServerOptions::default());
    let repository = repository(storage(&server, ""));
    server.add_fault(S3Rule::new(S3Fault::Delay(Duration::from_millis(100))).on(S3Operation::Put));
    let mut tree = MemoryTree::default();
    for i in 0..12 {
        tree.file(format!("f{i}"), random_bytes(i, 8_000_000));
    }
    back_up(&repository, &tree, 1);
    let packs = server.requests();
    let packs: Vec<_> = packs.iter().filter(|r| r.key.starts_with("packs/")).collect();
    assert!(packs.len() >= 6, "{}", packs.len());
    assert!(packs.iter().all(|pack| pack.received <= 16 << 20));
    assert!(server.most_at_once() >= 3, "{}", server.most_at_once());
}

/// Whoever comes with nothing cached waits for a few answers only, however many snapshots there are.
#[test]
fn snapshots_are_read_several_at_once() {
    let server = server(S3ServerOptions::default());
    let repository = repository(storage(&server, ""));
    for n in 1..=12 {
        back_up(&repository, &tree(n), n as i64);
    }
    let options = OpenOptions { secret: Some(secret()), cache: None };
    let again = repo::open::open(Arc::new(storage(&server, "")), options).unwrap();
    server.clear_requests();
    let slow = S3Rule::new(S3Fault::Delay(Duration::from_millis(200))).on(S3Operation::Get);
    server.add_fault(slow.key("snapshots/*"));
    let found = again.snapshots().unwrap();
    assert!(found.is_sorted_by_key(|snapshot| snapshot.record.time));
    assert_eq!(found.len(), 12);
    assert!(server.most_at_once() >= 4, "{}", server.most_at_once());
}

/// An answer that takes long is not waited for before the next question, where that does not depend on
/// it.
#[test]
fn key_slots_are_listed_while_the_config_is_read() {
    let server = server(S3ServerOptions::default());
    repository(storage(&server, ""));
    server.clear_requests();
    let slow = S3Rule::new(S3Fault::Delay(Duration::from_millis(300))).on(S3Operation::Get);
    server.add_fault(slow.key("config"));
    let options = OpenOptions { secret: Some(secret()), cache: None };
    repo::open::open(Arc::new(storage(&server, "")), options).unwrap();
    assert!(server.most_at_once() >= 2, "{}", server.most_at_once());
    let listings = server.requests();
    let listings = listings.iter().filter(|request| request.operation == S3Operation::List);
    assert_eq!(listings.count(), 1, "and not again");
}

/// Options that make what they can of a bucket: a class for data, locks.
#[test]
fn a_repository_with_cold_data_is_listed_and_checked() {
    let server = server(S3ServerOptions { object_lock: true, ..S3ServerOptions::default() });
    let base = options(&server, server.address().port());
    let options = S3Options { storage_class: Some("GLACIER".into()), object_lock: Some(1), ..base };
    let repository = repository(storage_at(options));
    let tree = tree(1);
    back_up(&repository, &tree, 1);
    // A second run reads structure alone, and that is not cold.
    back_up(&repository, &tree, 2);
    let classes: Vec<_> = server
        .requests()
        .iter()
        .filter(|r| r.operation == S3Operation::Put && r.header("x-amz-storage-class").is_some())
        .map(|r| r.key.clone())
        .collect();
    assert!(!classes.is_empty() && classes.iter().all(|key| key.starts_with("packs/")));
}
