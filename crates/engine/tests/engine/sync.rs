//! `sync`: copies are what they are copies of, a second sync moves next to nothing, and neither
//! interruption nor failure nor damage leaves a wrong snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::common::{
    assert_holds, back_up, memory, options, read_back, repository, run, secret, try_repository,
};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::format::snapshot::{Snapshot, Sum};
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::meta::Xattr;
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor};
use holdfast_engine::ops::backup::BackupOptions;
use holdfast_engine::ops::check::{CheckOptions, ReadData, check};
use holdfast_engine::ops::sync::{Sync, SyncOptions, SyncReport};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::open::{CreateOptions, create};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_engine::tree::{Content, Entry, totals};
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::{random_bytes, text_bytes};
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation, Trouble};

fn sync_options() -> SyncOptions {
    SyncOptions { host: "copier".into(), writer: options_of_writer(), ..SyncOptions::default() }
}

fn options_of_writer() -> holdfast_engine::repo::writer::WriterOptions {
    options(MemoryTree::new().source(), 0).writer
}

/// Copies all that is missing.
fn try_sync(
    from: &Repository,
    to: &Repository,
    options: &SyncOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<SyncReport> {
    let mut sync = Sync::between(from, to)?;
    let all: BTreeSet<_> = sync.candidates().iter().map(|s| s.id).collect();
    let missing = sync.missing(&all);
    let (index, problems) = Index::load_readable(from)?;
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    sync.run(&index, &missing, options, monitor, interrupt, &mut |_, _| {})
}

fn sync(from: &Repository, to: &Repository) -> SyncReport {
    try_sync(from, to, &sync_options(), &NoMonitor, &Interrupt::new()).expect("sync")
}

/// From each snapshot of `from` to its copy.
fn pairs(report: &SyncReport) -> Vec<(SnapshotId, SnapshotId)> {
    report.copied.iter().map(|c| (c.from, c.report.snapshot.expect("a copy"))).collect()
}

/// Directory, name, sum and error, as a tree of totals lists them.
type TotalsLine = (Vec<u8>, Vec<u8>, Option<Sum>, String);

/// All that a snapshot says and holds, without ids: those are the repository's own.
#[derive(Debug, PartialEq)]
struct Said {
    record: Snapshot,
    entries: BTreeMap<Vec<u8>, (Entry, Vec<u8>, Vec<Xattr>)>,
    totals: Vec<TotalsLine>,
}

fn said(repository: &Repository, id: SnapshotId) -> Said {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(repository, &index);
    let mut record = repository.snapshot(id).expect("snapshot");
    let mut lines = Vec::new();
    for root in &mut record.roots {
        if let Some(id) = BlobId::from_slice(&root.totals) {
            totals::for_each(&reader, &id, &mut |directory, line| {
                lines.push((directory.to_vec(), line.name, line.sum, line.error));
                Ok(())
            })
            .expect("totals");
        }
        (root.tree, root.totals) = Default::default();
    }
    (record.parent, record.heads, record.origin) = Default::default();
    let entries = read_back(repository, id).expect("read back").into_iter();
    let entries = entries.map(|(path, (mut entry, content))| {
        entry.content = Content::None;
        let list = entry.xattrs_blob.take().map(|id| {
            let bytes = reader.read(BlobKind::Attributes, &id).expect("attributes");
            vec![Xattr { name: Vec::new(), value: bytes }]
        });
        (path, (entry, content, list.unwrap_or_default()))
    });
    Said { record, entries: entries.collect(), totals: lines }
}

fn assert_copies(from: &Repository, to: &Repository, pairs: &[(SnapshotId, SnapshotId)]) {
    for (original, copy) in pairs {
        assert_eq!(said(from, *original), said(to, *copy), "{}", original.short());
    }
}

fn assert_sound(repository: &Repository) {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    let report = check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check");
    assert_eq!(report.findings, []);
}

fn with_fixed_chunks() -> Repository {
    let options = CreateOptions {
        secrets: vec![(secret(), "test".into())],
        chunk_fixed: Some(64 << 10),
        ..CreateOptions::default()
    };
    create(Arc::new(MemoryStorage::new()), options).expect("create")
}

/// A random tree with files of several chunks, holes, long attributes, several names, and what
/// cannot be read.
fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::random(seed, 150);
    tree.file("z/big", random_bytes(seed, 2_500_000)).hard_link("z/same", "z/big");
    tree.file("z/text", text_bytes(seed, 5000)).hard_link("z/text2", "z/text");
    tree.sparse_file(
        "z/sparse",
        3 << 20,
        &[(4096, vec![1; 9000]), (2 << 20, random_bytes(2, 600_000))],
    );
    tree.sparse_file("z/hole", 1 << 20, &[]);
    let value = random_bytes(seed, 3000);
    tree.node_mut("z/text").xattrs = vec![Xattr { name: b"user.long".to_vec(), value }];
    tree.file("t/unreadable", "x").trouble("t/unreadable", Trouble::Unreadable);
    tree.file("t/changing", text_bytes(4, 9000)).trouble("t/changing", Trouble::Changing(9));
    tree.file("t/bare", "bare").trouble("t/bare", Trouble::NoAttributes);
    tree.file("t/lost1", "x").trouble("t/lost1", Trouble::Unexaminable);
    tree.file("t/lost2", "x").trouble("t/lost2", Trouble::Unexaminable);
    tree.directory("t/shut").trouble("t/shut", Trouble::Unlistable);
    tree
}

#[test]
fn copies_are_what_they_are_copies_of() {
    for seed in 0..4 {
        let (_, a) = memory();
        let mut tree = tree(seed);
        for time in 1..=3 {
            let options = BackupOptions {
                user: "anna".into(),
                tags: vec!["home".into(), "x".into()],
                description: format!("number {time}"),
                excludes: vec!["*.o".into()],
                ..options(tree.source(), time)
            };
            assert!(run(&a, &options).expect("backup").errors > 0);
            tree.mutate(seed * 10 + time as u64, 12);
        }
        for b in [memory().1, with_fixed_chunks()] {
            let report = sync(&a, &b);
            assert_eq!((report.copied.len(), &report.failed[..]), (3, &[][..]));
            assert_copies(&a, &b, &pairs(&report));
            assert_sound(&b);
            // On to a third, and back: a copy of a copy is known for what it is.
            let (_, c) = memory();
            let on = sync(&b, &c);
            assert_copies(&b, &c, &pairs(&on));
            for (from, to) in [(&c, &a), (&a, &c), (&b, &a), (&c, &b)] {
                assert_eq!(sync(from, to).copied.len(), 0);
            }
        }
    }
}

#[test]
fn what_both_hold_is_not_touched() {
    let (_, a) = memory();
    back_up(&a, &tree(1), 1);
    let storage = MemoryStorage::new();
    sync(&a, &repository(storage.clone()));
    let faulty = FaultStorage::new(storage);
    let report = sync(&a, &repository(faulty.clone()));
    assert!(report.copied.is_empty());
    assert!(faulty.log().iter().all(|call| !call.operation.is_change()), "{:?}", faulty.log());
}

/// Bytes of packs read through a storage.
fn read_of(storage: &FaultStorage<MemoryStorage>) -> u64 {
    let log = storage.log();
    let reads = log.iter().filter(|call| call.operation == Operation::GetRange);
    reads.map(|call| call.bytes).sum()
}

#[test]
fn a_second_sync_reads_what_changed() {
    let (from, to) = (MemoryStorage::new(), MemoryStorage::new());
    let mut tree = MemoryTree::new();
    for i in 0..300_u64 {
        tree.file(format!("{:02}/f{i}", i / 10), random_bytes(i, 20_000));
    }
    tree.file("big", random_bytes(1, 6 << 20));
    back_up(&repository(from.clone()), &tree, 1);
    sync(&repository(from.clone()), &repository(to.clone()));
    let before = to.total_size();
    tree.set_content("07/f73", random_bytes(900, 20_000));
    tree.file("new", random_bytes(901, 30_000));
    back_up(&repository(from.clone()), &tree, 2);
    let faulty = FaultStorage::new(from);
    let a = repository(faulty.clone());
    let report = sync(&a, &repository(to.clone()));
    let stats = report.copied[0].report.stats;
    assert_eq!((stats.files_changed, stats.files_new, stats.files_unchanged), (1, 1, 300));
    assert_eq!(stats.bytes_read, 50_000);
    // Windows of trees and the bundles that the two files are in.
    assert!(read_of(&faulty) < 3 << 20, "{}", read_of(&faulty));
    assert!(to.total_size() - before < 400 << 10, "{}", to.total_size() - before);
    assert_holds(&repository(to), report.copied[0].report.snapshot.expect("a copy"), &tree);
}

/// A file that was read again although it looked the same must not be taken from the copy before.
#[test]
fn references_decide_not_times() {
    let (_, a) = memory();
    let mut tree = MemoryTree::new();
    tree.file("f", random_bytes(1, 400_000)).file("small", text_bytes(1, 4000));
    back_up(&a, &tree, 1);
    let (file, small) = (tree.node("f").cloned(), tree.node("small").cloned());
    tree.set_content("f", random_bytes(2, 400_000)).set_content("small", text_bytes(2, 4000));
    tree.node_mut("f").metadata = file.expect("f").metadata;
    tree.node_mut("small").metadata = small.expect("small").metadata;
    let parent = holdfast_engine::ops::backup::Parent::None;
    run(&a, &BackupOptions { parent, ..options(tree.source(), 2) }).expect("backup");
    let (_, b) = memory();
    let report = sync(&a, &b);
    assert_copies(&a, &b, &pairs(&report));
    assert_holds(&b, pairs(&report)[1].1, &tree);
}

#[test]
fn data_that_the_target_has_from_elsewhere_is_shared() {
    let (_, a) = memory();
    let storage = MemoryStorage::new();
    let mut tree = MemoryTree::new();
    for i in 0..60_u64 {
        tree.file(format!("d{}/f{i}", i % 7), random_bytes(i, 30_000));
    }
    tree.file("big", random_bytes(99, 5 << 20));
    back_up(&a, &tree, 1);
    let b = repository(storage.clone());
    let other = BackupOptions { host: "another".into(), ..options(tree.source(), 1) };
    run(&b, &other).expect("backup");
    let before = storage.total_size();
    let report = sync(&a, &b);
    assert_copies(&a, &b, &pairs(&report));
    assert!(storage.total_size() - before < 100 << 10, "{}", storage.total_size() - before);
}

#[test]
fn names_of_one_file_are_read_once() {
    let (_, a) = memory();
    let mut tree = MemoryTree::new();
    tree.file("a/first", random_bytes(1, 3 << 20));
    for i in 0..9 {
        tree.hard_link(format!("b/name{i}"), "a/first");
    }
    back_up(&a, &tree, 1);
    let (_, b) = memory();
    let report = sync(&a, &b);
    assert_eq!(report.copied[0].report.stats.bytes_read, 3 << 20);
    assert_copies(&a, &b, &pairs(&report));
}

/// Many small files and some big ones, so that a run takes a while.
fn long_tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..200_u64 {
        tree.file(format!("{:02}/small{i}", i / 7), random_bytes(i, 40_000 + i as usize));
        tree.file(format!("{:02}/big{i}", i / 7), random_bytes(i % 9, 300_000));
    }
    tree.hard_link("99/last", "00/small0");
    tree
}

#[test]
fn an_interrupted_sync_is_gone_on_with() {
    let (from, to) = (MemoryStorage::new(), MemoryStorage::new());
    let tree = long_tree();
    back_up(&repository(from.clone()), &tree, 1);
    let b = repository(to);
    let faulty = FaultStorage::new(from.clone());
    let interrupt = Arc::new(Interrupt::new());
    let (raised, mut reads) = (interrupt.clone(), 0);
    faulty.set_plan(move |_, call| {
        reads += usize::from(call.operation == Operation::GetRange);
        if reads == 12 && !raised.is_raised() {
            raised.raise();
        }
        None
    });
    let a = repository(faulty);
    let report = try_sync(&a, &b, &sync_options(), &NoMonitor, &interrupt).expect("sync");
    assert!(report.interrupted && report.copied[0].report.partial);
    let partial = report.copied[0].report.snapshot.expect("a partial copy");
    let kept = read_back(&b, partial).expect("read back");
    assert!(kept.len() > 20 && kept.len() < 400, "{}", kept.len());
    for (path, (entry, content)) in kept {
        assert_eq!(entry.error, "");
        assert!(*content == *tree.node(&path).expect("in the tree").content);
    }
    let a = repository(from);
    let report = sync(&a, &b);
    assert_holds(&b, pairs(&report)[0].1, &tree);
    assert_copies(&a, &b, &pairs(&report));
    assert!(report.copied[0].report.stats.files_unchanged > 20);
    // Less than all; how much less depends on how far the first one came.
    assert!(report.copied[0].report.stats.bytes_read < 200 * 340_000);
    assert_eq!(sync(&a, &b).copied.len(), 0);
}

/// All partial copies of one snapshot carry its time, so that nothing but how much they hold tells
/// which is the last.
#[test]
fn a_sync_goes_on_from_the_furthest_copy_and_partial_copies_are_not_pinned() {
    let (_, a) = memory();
    let tree = long_tree();
    run(&a, &BackupOptions { pinned: true, ..options(tree.source(), 1) }).expect("backup");
    let (_, b) = memory();
    let often = SyncOptions { partial_every: Some(Default::default()), ..sync_options() };
    let report = try_sync(&a, &b, &often, &NoMonitor, &Interrupt::new()).expect("sync");
    let held = b.snapshots().expect("snapshots");
    let (partials, whole): (Vec<_>, Vec<_>) = held.iter().partition(|s| s.record.partial);
    assert!(partials.len() > 3 && partials.iter().all(|s| !s.record.pinned));
    assert!(whole.len() == 1 && whole[0].record.pinned);
    // As if it had been killed right before its end.
    b.forget(pairs(&report)[0].1, &Notes::default()).expect("forget");
    let furthest = partials.iter().map(|s| s.record.sum().bytes).max().expect("partials");
    let all = whole[0].record.sum().bytes;
    let read = sync(&a, &b).copied[0].report.stats.bytes_read;
    assert!(read <= all - furthest, "{read} of {all} bytes, {furthest} were there");
}

#[test]
fn an_error_at_any_call_of_the_target_leaves_whole_snapshots() {
    let from = MemoryStorage::new();
    let mut trees = vec![MemoryTree::random(1, 40)];
    trees[0].file("big", random_bytes(3, 700_000));
    for time in 1..=2 {
        back_up(&repository(from.clone()), &trees[time - 1], time as i64);
        let mut next = trees[time - 1].clone();
        next.mutate(7, 9);
        trees.push(next);
    }
    let a = repository(from);
    let base = MemoryStorage::new();
    repository(base.clone());
    let start = base.dump();
    let often = SyncOptions { partial_every: Some(Default::default()), ..sync_options() };
    let attempt = |to: &Repository| try_sync(&a, to, &often, &NoMonitor, &Interrupt::new());
    let calls = {
        let probe = FaultStorage::new(MemoryStorage::from_dump(start.clone()));
        attempt(&repository(probe.clone())).expect("sync");
        probe.calls()
    };
    assert!(calls > 40, "{calls}");
    for fault in [Fault::CrashBefore, Fault::CrashAfter, Fault::ErrorBefore, Fault::ErrorAfter] {
        for k in (0..calls).step_by(2) {
            let storage = MemoryStorage::from_dump(start.clone());
            let faulty = FaultStorage::new(storage.clone());
            faulty.fail_at(k, fault);
            let _ = try_repository(faulty).and_then(|to| attempt(&to));
            let b = repository(storage);
            sync(&a, &b);
            let held = b.snapshots().expect("snapshots");
            let whole: Vec<_> = held.iter().filter(|s| !s.record.partial).collect();
            assert_eq!(whole.len(), 2, "{fault:?} at {k}");
            for (snapshot, tree) in whole.iter().zip(&trees) {
                assert_holds(&b, snapshot.id, tree);
            }
        }
    }
}

#[test]
fn an_error_at_any_read_of_the_source_ends_the_run_and_commits_nothing_less() {
    let from = MemoryStorage::new();
    let mut tree = MemoryTree::random(5, 60);
    tree.file("big", random_bytes(3, 900_000));
    back_up(&repository(from.clone()), &tree, 1);
    let calls = {
        let probe = FaultStorage::new(from.clone());
        sync(&repository(probe.clone()), &memory().1);
        probe.calls()
    };
    let mut failed = 0;
    for k in 0..calls {
        let faulty = FaultStorage::new(from.clone());
        // For good: what is read once more fails once more.
        faulty.set_plan(move |n, _| (n >= k).then_some(Fault::ErrorBefore));
        let (_, b) = memory();
        let result = try_repository(faulty)
            .and_then(|a| try_sync(&a, &b, &sync_options(), &NoMonitor, &Interrupt::new()));
        match result {
            // All had been read.
            Ok(report) => assert_eq!(report.failed, [], "at {k}"),
            Err(error) => {
                failed += 1;
                assert!(matches!(error, Error::Storage(_)), "at {k}: {error:?}");
            }
        }
        for snapshot in b.snapshots().expect("snapshots") {
            assert_holds(&b, snapshot.id, &tree);
        }
    }
    assert!(failed > 5, "{failed} of {calls}");
}

#[test]
fn damage_is_named_and_costs_the_snapshots_that_it_hits() {
    let from = MemoryStorage::new();
    let a = repository(from.clone());
    let mut tree = MemoryTree::new();
    tree.file("dir/small", text_bytes(1, 3000));
    back_up(&a, &tree, 1);
    let whole: BTreeSet<ObjectName> = from.names_in(Folder::Packs).into_iter().collect();
    tree.file("dir/big", random_bytes(2, 3_000_000));
    back_up(&a, &tree, 2);
    tree.remove("dir/big");
    back_up(&a, &tree, 3);
    let size = |name: &ObjectName| from.dump().0[name].bytes.len();
    let packs = from.names_in(Folder::Packs);
    let hit = packs.iter().filter(|name| !whole.contains(name)).max_by_key(|name| size(name));
    let hit = hit.expect("a new pack");
    let damages: [(&str, &dyn Fn()); 2] = [
        ("is damaged", &|| from.corrupt(hit, |bytes| bytes[1_000_000] ^= 1)),
        ("read memory:/packs", &|| assert!(from.remove(hit))),
    ];
    for (what, damage) in damages {
        damage();
        let (_, b) = memory();
        let report = sync(&a, &b);
        assert_eq!(report.copied.len(), 2);
        let [failed] = &report.failed[..] else { panic!("{:?}", report.failed) };
        assert_eq!(failed.from, a.snapshots().expect("snapshots")[1].id);
        assert!(failed.reason.contains("/data/dir/big"), "{}", failed.reason);
        assert!(failed.reason.contains(what), "{}", failed.reason);
        assert_copies(&a, &b, &pairs(&report));
        assert_eq!(b.snapshots().expect("snapshots").len(), 2);
        assert_sound(&b);
    }
}

#[test]
fn one_repository_is_not_two() {
    let storage = MemoryStorage::new();
    let a = repository(storage.clone());
    let same = repository(MemoryStorage::from_dump(storage.dump()));
    for b in [&a, &same] {
        assert!(matches!(Sync::between(&a, b), Err(Error::Usage(text)) if text.contains("one")));
    }
}

#[test]
fn a_copy_names_no_snapshot_that_was_forgotten_since_the_sync_began() {
    let (_, a) = memory();
    back_up(&a, &MemoryTree::random(1, 10), 1);
    let (storage, b) = memory();
    let gone = back_up(&b, &MemoryTree::random(2, 10), 1).snapshot.expect("snapshot");
    let stays = back_up(&b, &MemoryTree::random(3, 10), 2).snapshot.expect("snapshot");
    // Elsewhere it is forgotten, and a gc tidies up, before the session of the copy begins.
    let faulty = FaultStorage::new(storage.clone());
    let to = repository(faulty.clone());
    let elsewhere = storage.clone();
    faulty.set_plan(move |_, call| {
        if call.operation == Operation::Put && call.object.starts_with("sessions/") {
            elsewhere.remove(&ObjectName::snapshot(gone));
        }
        None
    });
    let copy = pairs(&sync(&a, &to))[0].1;
    let heads = to.snapshot(copy).expect("copy").heads;
    assert_eq!(heads, [stays.as_bytes().to_vec()]);
}
