//! Backups into a repository in memory: what was there comes back, unchanged runs touch almost
//! nothing, and whatever goes wrong leaves a repository that works.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::common::{
    assert_holds, back_up, memory, options, read_back, repository, run, try_repository,
};
use holdfast_engine::Error;
use holdfast_engine::crypto::ObjectKind;
use holdfast_engine::format::envelope::{HEADER_LEN, Header};
use holdfast_engine::meta::Owner;
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor, Progress};
use holdfast_engine::ops::backup::{Parent, backup};
use holdfast_engine::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceFile, SourceResult, WalkBatch,
};
use holdfast_engine::storage::Folder;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation, Trouble};

fn small_tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("a/empty", *b"").file("a/tiny", *b"tiny").file("a/small", vec![1; 3000]);
    for i in 0..40_u32 {
        let text = holdfast_testkit::clock::text_bytes(u64::from(i), 500 + 400 * i as usize);
        tree.file(format!("b/{}/{i}", i % 5), text);
    }
    tree.file("big", holdfast_testkit::clock::random_bytes(1, 3 << 20));
    tree.sparse_file("sparse", 5 << 20, &[(1 << 20, vec![7; 100_000]), (4 << 20, vec![8; 9])]);
    tree.symlink("link", "a/small").hard_link("b/hard", "a/small");
    tree
}

#[test]
fn everything_comes_back() {
    let (_, repository) = memory();
    let tree = small_tree();
    let report = back_up(&repository, &tree, 1);
    assert_eq!(report.errors, 0);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
    let stored = read_back(&repository, report.snapshot.expect("snapshot")).expect("read");
    assert_eq!(stored[&b"b/hard"[..]].0.hard_link, b"a/small");
}

/// A source that notes which threads read files.
#[derive(Debug)]
struct Readers<S>(S, Arc<Gathering>);

/// Threads that have come.
#[derive(Debug)]
struct Gathering {
    wanted: usize,
    threads: Mutex<BTreeSet<String>>,
    changed: Condvar,
    until: Instant,
}

impl<S: Source> Readers<S> {
    /// Waits for as many threads as are wanted: a quick one must not do the work of all.
    fn note(&self) {
        let Gathering { wanted, threads, changed, until } = &*self.1;
        let mut threads = threads.lock().expect("lock");
        threads.insert(format!("{:?}", std::thread::current().id()));
        changed.notify_all();
        let left = until.saturating_duration_since(Instant::now());
        let few = |threads: &mut BTreeSet<String>| threads.len() < *wanted;
        drop(changed.wait_timeout_while(threads, left, few));
    }
}

impl<S: Source> Source for Readers<S> {
    fn location(&self) -> String {
        self.0.location()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        self.0.walk(sink)
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        self.0.details(directory, entry)
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        self.note();
        self.0.read_small(directory, entry, limit, into)
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile + '_>> {
        self.note();
        self.0.open(directory, entry)
    }
}

#[test]
fn files_are_read_by_as_many_threads_as_were_asked_for() {
    let mut tree = MemoryTree::new();
    for i in 0..60_u64 {
        tree.file(format!("{i}"), holdfast_testkit::clock::random_bytes(i, 300_000));
    }
    let (_, repository) = memory();
    let readers = |wanted| {
        let seen = Arc::new(Gathering {
            wanted,
            threads: Mutex::default(),
            changed: Condvar::new(),
            until: Instant::now() + Duration::from_secs(60),
        });
        let mut options = options(Readers(tree.source(), Arc::clone(&seen)), 1);
        options.writer.readers = wanted;
        options.parent = Parent::None;
        run(&repository, &options).expect("backup");
        seen.threads.lock().expect("lock").len()
    };
    assert_eq!(readers(1), 1);
    assert_eq!(readers(5), 5);
}

#[test]
fn random_histories_come_back_snapshot_by_snapshot() {
    for seed in 0..6 {
        let (_, repository) = memory();
        let mut tree = MemoryTree::random(seed, 120);
        let mut kept = Vec::new();
        for day in 0..6 {
            let report = back_up(&repository, &tree, day);
            kept.push((report.snapshot.expect("snapshot"), tree.clone()));
            tree.mutate(seed * 100 + day as u64, 15);
        }
        for (id, tree) in kept {
            assert_holds(&repository, id, &tree);
        }
    }
}

#[test]
fn nothing_changed_costs_a_handful_of_calls() {
    let storage = MemoryStorage::new();
    let tree = small_tree();
    back_up(&repository(storage.clone()), &tree, 1);
    let counted = FaultStorage::new(storage.clone());
    let source = tree.source();
    let report = run(&repository(counted.clone()), &options(source.clone(), 2)).expect("backup");
    assert_eq!(report.stats.files_unchanged, 46);
    assert_eq!(report.stats.bytes_read, 0);
    assert_eq!(report.stats.blobs_new, 0, "not even a tree node");
    assert_eq!(source.files_read(), 0);
    let lists = counted.count(Operation::List);
    assert!(lists <= 7, "{lists} listings");
    assert!(counted.calls() - lists <= 10, "{:?}", counted.log());
}

#[test]
fn the_same_tree_has_the_same_blobs_in_whatever_order_it_was_read() {
    let (_, repository) = memory();
    let tree = small_tree();
    back_up(&repository, &tree, 1);
    let mut again = options(tree.source(), 2);
    again.parent = Parent::None;
    let report = run(&repository, &again).expect("backup");
    assert_eq!(report.stats.files_new, 46);
    assert_eq!(report.stats.blobs_new, 0);
}

#[test]
fn another_host_with_other_times_shares_the_content() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    for i in 0..400_u64 {
        tree.file(format!("d{}/{i}", i % 7), holdfast_testkit::clock::random_bytes(i, 4000));
    }
    let first = back_up(&repository, &tree, 1).stats.bytes_new;
    for i in (0..400_u64).step_by(100) {
        let other = holdfast_testkit::clock::random_bytes(i + 1000, 4000);
        tree.set_content(format!("d{}/{i}", i % 7), other);
    }
    for path in tree.paths() {
        tree.node_mut(&path).metadata.mtime.seconds += 5000;
    }
    let mut other = options(tree.source(), 2);
    other.host = "other".into();
    let report = run(&repository, &other).expect("backup");
    assert_eq!(report.stats.files_new, 400);
    let second = report.stats.bytes_new;
    assert!(second < first / 10, "{second} new bytes after {first}");
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
}

/// Small files below `directory`, each of a content of its own, some of them edited.
fn sources(directory: &str, edited: impl Fn(u64) -> u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..400_u64 {
        let seed = i + 1000 * edited(i);
        let text = holdfast_testkit::clock::random_bytes(seed, 3000 + (i + edited(i)) as usize);
        tree.file(format!("{directory}/d{}/{i}", i % 7), text);
    }
    tree
}

#[test]
fn small_files_are_found_again_under_any_name() {
    let (_, repository) = memory();
    let mut first = 0;
    // Days of edits: the bundles that hold the newest files are from many runs.
    for day in 0..8 {
        let tree = sources("a", |i| if i % 9 < day { 1 } else { 0 });
        first += back_up(&repository, &tree, day as i64).stats.bytes_new;
    }
    let now = |i| u64::from(i % 9 < 7);
    let moved = sources("b", now);
    let report = back_up(&repository, &moved, 10);
    assert!(report.stats.bytes_new < first / 20, "{:?}", report.stats);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &moved);

    let tree = sources("c", |i| if i % 100 == 0 { 2 } else { now(i) });
    let mut other = options(tree.source(), 11);
    other.host = "other".into();
    other.roots.first_mut().expect("root").path = b"/elsewhere".to_vec();
    let report = run(&repository, &other).expect("backup");
    assert_eq!(report.stats.files_new, 400);
    assert!(report.stats.bytes_new < first / 20, "{:?}", report.stats);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
}

#[test]
fn a_tree_that_cannot_be_read_is_done_without() {
    let storage = MemoryStorage::new();
    let tree = sources("a", |_| 0);
    back_up(&repository(storage.clone()), &tree, 1);
    for name in storage.names_in(Folder::Packs) {
        storage.corrupt(&name, |bytes| {
            if Header::parse(bytes).is_ok_and(|header| header.kind == ObjectKind::TreePack) {
                bytes.iter_mut().skip(HEADER_LEN).take(2000).for_each(|byte| *byte ^= 1);
            }
        });
    }
    let again = repository(storage);
    let moved = sources("b", |_| 0);
    let report = back_up(&again, &moved, 2);
    assert_holds(&again, report.snapshot.expect("snapshot"), &moved);
}

#[test]
fn a_dry_run_and_an_unwanted_snapshot_leave_nothing() {
    let (storage, repository) = memory();
    let tree = small_tree();
    let before = storage.dump();
    let mut dry = options(tree.source(), 1);
    dry.dry_run = true;
    let report = run(&repository, &dry).expect("dry run");
    assert!(report.snapshot.is_none() && report.stats.bytes_stored > 0);
    assert!(storage.dump() == before, "a dry run wrote");
    back_up(&repository, &tree, 2);
    let mut skip = options(tree.source(), 3);
    skip.skip_if_unchanged = true;
    assert!(run(&repository, &skip).expect("backup").snapshot.is_none());
    assert_eq!(storage.names_in(Folder::Snapshots).len(), 1);
}

#[test]
fn what_cannot_be_read_is_recorded_and_what_cannot_be_listed_fails() {
    let (storage, repository) = memory();
    let mut tree = small_tree();
    tree.trouble("a/small", Trouble::Unreadable).trouble("b/2", Trouble::Unlistable);
    let report = back_up(&repository, &tree, 1);
    assert_eq!(report.errors, 3, "the file, its other name, and the directory");
    let id = report.snapshot.expect("snapshot");
    let stored = read_back(&repository, id).expect("read");
    assert_ne!(stored[&b"a/small"[..]].0.error, "");
    assert!(!stored.contains_key(&b"b/2/2"[..]));
    assert!(stored.contains_key(&b"b/3/3"[..]));
    // The next run reads again what could not be read.
    tree.clear_troubles();
    let report = back_up(&repository, &tree, 2);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);

    tree.trouble("", Trouble::Unlistable);
    assert!(run(&repository, &options(tree.source(), 3)).is_err());
    assert_eq!(storage.names_in(Folder::Snapshots).len(), 2);
}

#[test]
fn files_that_change_under_the_reader() {
    let (_, repository) = memory();
    let mut tree = small_tree();
    tree.trouble("a/small", Trouble::Changing(9))
        .trouble("big", Trouble::Changing(9))
        .trouble("b/1/1", Trouble::Vanished);
    let report = back_up(&repository, &tree, 1);
    let stored = read_back(&repository, report.snapshot.expect("snapshot")).expect("read");
    assert_ne!(stored[&b"a/small"[..]].0.error, "");
    assert_ne!(stored[&b"big"[..]].0.error, "");
    assert!(!stored.contains_key(&b"b/1/1"[..]));
}

/// Interrupts when so many files are done.
#[derive(Debug)]
struct StopAfter(Arc<Interrupt>, AtomicUsize);

impl Monitor for StopAfter {
    fn progress(&self, _: &Progress, _: &[u8]) {
        if self.1.fetch_add(1, Ordering::Relaxed) == 1 {
            self.0.raise();
        }
    }
}

#[test]
fn an_interrupted_run_is_kept_and_taken_up_again() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    for i in 0..300_u64 {
        tree.file(format!("{i:03}"), holdfast_testkit::clock::random_bytes(i, 150_000));
    }
    let interrupt = Arc::new(Interrupt::new());
    let monitor = StopAfter(interrupt.clone(), AtomicUsize::new(0));
    let report =
        backup(&repository, &options(tree.source(), 1), &monitor, &interrupt).expect("partial");
    if !report.partial {
        return; // The machine was too fast for this test to say anything.
    }
    let partial = report.snapshot.expect("partial snapshot");
    assert!(repository.select("latest", &Default::default()).is_err(), "partial is not latest");
    let kept = read_back(&repository, partial).expect("read").len();
    let source = tree.source();
    let report =
        backup(&repository, &options(source.clone(), 2), &NoMonitor, &Interrupt::new()).expect("b");
    assert!(source.files_read() < 300 && source.files_read() + kept >= 300, "kept {kept}");
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
}

#[test]
fn a_crash_at_any_storage_call_leaves_a_working_repository() {
    let base = MemoryStorage::new();
    let mut tree = small_tree();
    let first = back_up(&repository(base.clone()), &tree, 1).snapshot.expect("snapshot");
    let before = tree.clone();
    tree.mutate(5, 12);
    let start = base.dump();
    let calls = {
        let probe = FaultStorage::new(MemoryStorage::from_dump(start.clone()));
        back_up(&repository(probe.clone()), &tree, 2);
        probe.calls()
    };
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::ErrorBefore, Fault::ErrorAfter] {
        for k in 0..calls {
            let storage = MemoryStorage::from_dump(start.clone());
            let faulty = FaultStorage::new(storage.clone());
            faulty.fail_at(k, fault);
            let result = try_repository(faulty)
                .and_then(|repository| run(&repository, &options(tree.source(), 2)));
            let repository = repository(storage);
            let snapshots = repository.snapshots().expect("snapshots");
            if let Ok(report) = result {
                let id = report.snapshot.expect("snapshot");
                assert!(snapshots.iter().any(|s| s.id == id), "{fault:?} at {k}: lost");
            }
            assert_holds(&repository, first, &before);
            for snapshot in snapshots.iter().filter(|s| s.id != first) {
                assert_holds(&repository, snapshot.id, &tree);
            }
            let next = back_up(&repository, &tree, 3);
            assert_holds(&repository, next.snapshot.expect("snapshot"), &tree);
        }
    }
}

#[test]
fn a_lost_reply_to_the_commit_is_found_out() {
    let storage = MemoryStorage::new();
    let tree = small_tree();
    repository(storage.clone());
    let faulty = FaultStorage::new(storage.clone());
    faulty.set_plan(|_, call| {
        (call.operation == Operation::Put && call.object.starts_with("snapshots/"))
            .then_some(Fault::ErrorAfter)
    });
    assert!(run(&repository(faulty), &options(tree.source(), 1)).is_ok());
    let faulty = FaultStorage::new(storage.clone());
    faulty.set_plan(|_, call| {
        (call.operation == Operation::Put && call.object.starts_with("snapshots/"))
            .then_some(Fault::ErrorBefore)
    });
    assert!(run(&repository(faulty), &options(tree.source(), 2)).is_err());
    assert_eq!(storage.names_in(Folder::Snapshots).len(), 1);
    assert_eq!(storage.names_in(Folder::Fences).len(), 2, "the id is shut out for good");
}

#[test]
fn a_fenced_session_does_not_commit() {
    let storage = MemoryStorage::new();
    let tree = small_tree();
    repository(storage.clone());
    let faulty = FaultStorage::new(storage.clone());
    let other = storage.clone();
    faulty.set_plan(move |_, call| {
        // A gc shuts the session out just before it commits.
        if call.operation == Operation::Put && call.object.starts_with("snapshots/") {
            let fence = call.object.replace("snapshots/", "fences/");
            for name in [fence.clone(), format!("{fence}.confirmed")] {
                let name = holdfast_engine::storage::ObjectName::parse(&name).expect("name");
                other.plant(&name, b"fence".to_vec());
            }
        }
        None
    });
    let result = run(&repository(faulty), &options(tree.source(), 1));
    assert!(matches!(result, Err(Error::Fenced)), "{result:?}");
    assert!(repository(storage).snapshots().expect("snapshots").is_empty());
}

#[test]
fn a_lost_pack_is_simply_stored_again() {
    let storage = MemoryStorage::new();
    let tree = small_tree();
    back_up(&repository(storage.clone()), &tree, 1);
    let packs = storage.names_in(Folder::Packs);
    for pack in packs {
        let storage = MemoryStorage::from_dump(storage.dump());
        storage.remove(&pack);
        let repository = repository(storage);
        let report = back_up(&repository, &tree, 2);
        assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
    }
}

/// More bundles than files are remembered: those of equal files must be known for as long as one of
/// them is on its way.
#[test]
#[ignore = "long: sixty-six thousand bundles; their memory disturbs what others measure"]
fn very_many_bundles_and_equal_files_come_to_an_end() {
    let (_, repository) = memory();
    let mut tree = MemoryTree::new();
    let contents = holdfast_testkit::clock::random_bytes(1, 300 * 66_000);
    for i in 0..66_000 {
        // More owners than have a bundle open at once, so that each file gets one of its own; at the
        // end every other file is as the one before the last.
        let from = if i > 65_000 && i % 4 == 2 { i - 2 } else { i };
        let content = contents[300 * from..][..300].to_vec();
        let path = format!("{:03}/{i:06}", i / 1000);
        tree.file(&path, content);
        let owner = Owner { uid: i as u32 % 12, ..Owner::default() };
        tree.node_mut(&path).metadata.owner = Arc::new(owner);
    }
    let report = back_up(&repository, &tree, 1);
    assert_eq!(report.sum.files, 66_000);
    assert_holds(&repository, report.snapshot.expect("snapshot"), &tree);
}
