//! `repair`: the index from the packs alone, whole snapshots beside hurt ones, a config from its
//! copy; each also killed at any call.

use std::collections::BTreeSet;

use crate::common::{
    assert_holds, back_up, blobs, killed_at_any_call, memory, read_back, repository,
    repository as repository_in, secret,
};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, check};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::ops::repair::{
    RepairIndexOptions, RepairIndexReport, RepairSnapshotsOptions, RepairSnapshotsReport, index,
    snapshots,
};
use holdfast_engine::repo::index::Place;
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::open::restore_config;
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_engine::tree::read::read_node;
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{MemoryStorage, MemoryTree};

/// Files big and small in nested directories, enough of them for several leaves.
fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..150_u64 {
        let path = format!("d{}/sub{}/f{i:03}", i % 7, i % 3);
        tree.file(path, random_bytes(seed * 1000 + i, 300 + 20 * i as usize));
    }
    tree.file("big", random_bytes(seed, 900_000)).hard_link("d0/same", "big");
    tree.symlink("d1/link", "../big").directory("empty");
    tree
}

fn mend(repository: &Repository, all: bool) -> Result<RepairIndexReport> {
    let options = RepairIndexOptions { all, threads: 1, ..RepairIndexOptions::default() };
    index(repository, &options, &NoMonitor, &Interrupt::new())
}

fn mend_snapshots(repository: &Repository) -> Result<RepairSnapshotsReport> {
    let check = CheckOptions { read_data: ReadData::All, threads: 1, ..CheckOptions::default() };
    let store = WriterOptions { threads: 1, ..WriterOptions::default() };
    let options = RepairSnapshotsOptions { check, store, ..RepairSnapshotsOptions::default() };
    snapshots(repository, &options, &NoMonitor, &Interrupt::new())
}

fn checked(repository: &Repository, only: Option<SnapshotId>) -> CheckReport {
    let options = CheckOptions {
        read_data: if only.is_none() { ReadData::All } else { ReadData::No },
        snapshots: only.map(|id| vec![id]),
        ..CheckOptions::default()
    };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

/// Two snapshots that share half.
fn two() -> (MemoryStorage, Repository, [(SnapshotId, MemoryTree); 2]) {
    two_of(tree(1))
}

fn two_of(first: MemoryTree) -> (MemoryStorage, Repository, [(SnapshotId, MemoryTree); 2]) {
    let (storage, repository) = memory();
    let mut second = first.clone();
    for (i, path) in second.paths_of(Kind::File).into_iter().enumerate() {
        if i % 2 == 0 {
            second.set_content(&path, random_bytes(9_000 + i as u64, 700));
        }
    }
    let a = back_up(&repository, &first, 1).snapshot.expect("snapshot");
    let b = back_up(&repository, &second, 2).snapshot.expect("snapshot");
    (storage, repository, [(a, first), (b, second)])
}

fn remove_index(storage: &MemoryStorage) {
    for name in storage.names_in(Folder::Index) {
        storage.remove(&name);
    }
}

/// Breaks the bytes of a blob where they lie.
fn spoil(storage: &MemoryStorage, repository: &Repository, place: &Place) {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let pack = index.pack(place.pack).expect("read").expect("pack");
    let at = (place.offset + place.sealed / 2) as usize;
    storage.corrupt(&ObjectName::pack(pack.id), |bytes| bytes[at] ^= 1);
}

fn lines(repository: &Repository, kind: BlobKind) -> Vec<(BlobId, Place)> {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    blobs(&index).into_iter().filter(|(_, place)| place.kind == kind).collect()
}

#[test]
fn an_index_that_is_gone_is_made_anew_from_the_packs() {
    for all in [false, true] {
        let (storage, repository, snapshots) = two();
        remove_index(&storage);
        assert!(read_back(&repository, snapshots[0].0).is_err());
        let report = mend(&repository, all).expect("repair");
        let packs = storage.names_in(Folder::Packs).len() as u64;
        assert_eq!((report.packs, report.listed, report.segments), (packs, packs, 1));
        assert_eq!((report.superseded.len(), report.unreadable.len()), (0, 0));
        assert_eq!(checked(&repository, None).findings, []);
        for (id, tree) in &snapshots {
            assert_holds(&repository, *id, tree);
        }
        // Nothing is stored twice, and nothing is left to repair.
        let again = back_up(&repository, &snapshots[1].1, 3);
        assert_eq!(again.stats.blobs_new, 0);
        let before = storage.names_in(Folder::Index);
        assert_eq!(mend(&repository, false).expect("repair").segments, 0);
        assert_eq!(storage.names_in(Folder::Index), before);
    }
}

#[test]
fn a_damaged_segment_no_longer_stops_backups() {
    let (storage, repository, snapshots) = two();
    let damaged = storage.names_in(Folder::Index).remove(0);
    storage.corrupt(&damaged, |bytes| bytes[100] ^= 1);
    assert!(matches!(Index::load(&repository, &BTreeSet::new()), Err(Error::Damaged { .. })));
    let report = mend(&repository, false).expect("repair");
    assert!(report.listed > 0 && report.listed < report.packs, "{report:?}");
    assert_eq!(report.superseded.len(), 1);
    let found = checked(&repository, None);
    assert!(!found.is_damaged(), "{:?}", found.findings);
    assert!(found.findings.iter().any(|f| f.object == damaged.as_str()), "it is told of");
    for (id, tree) in &snapshots {
        assert_holds(&repository, *id, tree);
    }
    back_up(&repository, &tree(2), 3);
    assert_eq!(mend(&repository, false).expect("repair").segments, 0, "once is enough");
    // A gc takes it away in the end.
    for _ in 0..2 {
        storage.clock().advance(25 * 3600);
        let options = GcOptions { threads: 1, ..GcOptions::default() };
        gc(&repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
    }
    assert!(!storage.names_in(Folder::Index).contains(&damaged));
    assert_holds(&repository, snapshots[1].0, &snapshots[1].1);
}

#[test]
fn all_packs_are_read_anew_and_the_old_segments_go_only_if_that_was_complete() {
    let (storage, repository, snapshots) = two();
    let old = storage.names_in(Folder::Index).len();
    let report = mend(&repository, true).expect("repair");
    assert_eq!((report.listed, report.superseded.len()), (report.packs, old));
    assert_eq!(checked(&repository, None).findings, []);
    assert_holds(&repository, snapshots[0].0, &snapshots[0].1);
    // The end of a pack is damaged: only the index knows what is in it.
    let pack = storage.names_in(Folder::Packs).remove(0);
    storage.corrupt(&pack, |bytes| *bytes.last_mut().expect("byte") ^= 1);
    let report = mend(&repository, true).expect("repair");
    assert_eq!((report.unreadable.len(), report.superseded.len()), (1, 0));
    assert!(pack.as_str().ends_with(&report.unreadable[0].0.to_string()));
    for (id, tree) in &snapshots {
        assert_holds(&repository, *id, tree);
    }
}

#[test]
fn a_pack_that_cannot_be_read_costs_no_other() {
    let (storage, repository, _) = two();
    remove_index(&storage);
    let packs = storage.names_in(Folder::Packs);
    for (name, at) in packs.iter().zip([10, 0]) {
        storage.corrupt(name, |bytes| {
            bytes.truncate(if at == 0 { 50 } else { bytes.len() });
            bytes[at] ^= 1;
        });
    }
    let report = mend(&repository, false).expect("repair");
    assert_eq!(report.unreadable.len(), 2, "{report:?}");
    assert_eq!(report.listed as usize, packs.len() - 2);
}

#[test]
fn repair_of_the_index_can_be_killed_at_any_call() {
    let (storage, _, snapshots) = two();
    let damaged = storage.names_in(Folder::Index).remove(0);
    for name in storage.names_in(Folder::Index) {
        storage.remove(&name);
    }
    storage.plant(&damaged, vec![7; 500]);
    let start = storage.dump();
    let work = |repository: &Repository| mend(repository, false);
    killed_at_any_call(&start, work, |storage, what| {
        let repository = repository(storage);
        work(&repository).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (id, tree) in &snapshots {
            assert_holds(&repository, *id, tree);
        }
        let found = checked(&repository, None);
        assert!(!found.is_damaged(), "{what}: {:?}", found.findings);
    });
}

/// What is there of a repaired snapshot is what was there before.
fn assert_part(repository: &Repository, whole: SnapshotId, tree: &MemoryTree) -> (usize, usize) {
    let stored = read_back(repository, whole).expect("read back");
    let (mut good, mut unread) = (0, 0);
    for (path, (entry, content)) in stored {
        if !entry.error.is_empty() {
            unread += 1;
            continue;
        }
        good += 1;
        let node = tree.node(&path);
        assert_eq!(entry.metadata.kind, node.map_or(Kind::Directory, |n| n.metadata.kind));
        if entry.metadata.kind == Kind::File {
            assert!(content == *node.expect("node").content, "{}", path.escape_ascii());
        }
    }
    (good, unread)
}

#[test]
fn files_that_lack_something_are_marked_and_the_rest_is_whole() {
    let (storage, repository, snapshots) = two();
    let (big, place) = lines(&repository, BlobKind::Chunk).remove(0);
    spoil(&storage, &repository, &place);
    let report = mend_snapshots(&repository).expect("repair");
    let hurt: Vec<_> = report.repaired.iter().map(|r| r.hurt).collect();
    assert!(!hurt.is_empty(), "chunk {big} is of a file");
    for repaired in &report.repaired {
        let whole = repaired.whole.expect("a whole one");
        assert!(!repaired.is_old && repaired.cut.files > 0 && repaired.cut.entries == 0);
        let (_, tree) = snapshots.iter().find(|(id, _)| *id == repaired.hurt).expect("known");
        let (good, unread) = assert_part(&repository, whole, tree);
        assert_eq!(unread as u64, repaired.cut.files);
        assert_eq!(good + unread, read_back(&repository, whole).expect("read").len());
        assert_eq!(checked(&repository, Some(whole)).findings, []);
        let (old, new) = (repository.snapshot(repaired.hurt), repository.snapshot(whole));
        let (old, new) = (old.expect("it stays"), new.expect("new"));
        assert_eq!((new.time, &new.parent[..]), (old.time + 1, &repaired.hurt.as_bytes()[..]));
        assert!(new.description.contains(&repaired.hurt.short()), "{}", new.description);
        assert_eq!(new.sum().errors, repaired.cut.files);
        assert_eq!(new.unread.len() as u64, repaired.cut.files);
    }
    // A second run finds them, and makes no others.
    let count = repository.snapshots().expect("list").len();
    let again = mend_snapshots(&repository).expect("repair");
    assert!(again.repaired.iter().all(|r| r.is_old && r.whole.is_some()), "{again:?}");
    assert_eq!(repository.snapshots().expect("list").len(), count);
    for id in hurt {
        repository.forget(id, &Notes::default()).expect("forget");
    }
    assert!(mend_snapshots(&repository).expect("repair").repaired.is_empty());
}

#[test]
fn any_node_of_a_tree_can_be_lost() {
    // Enough entries for several leaves, wherever the keys set their ends.
    let mut many = tree(1);
    for i in 0..300 {
        many.file(format!("many/{i}"), format!("{i}"));
    }
    let (base, repository, snapshots) = two_of(many);
    let start = base.dump();
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let reader = BlobReader::new(&repository, &index);
    let mut leaves = 0;
    for kind in [BlobKind::Node, BlobKind::Totals] {
        for (id, place) in lines(&repository, kind) {
            let storage = MemoryStorage::from_dump(start.clone());
            let repository = repository_in(storage.clone());
            spoil(&storage, &repository, &place);
            let report = mend_snapshots(&repository).expect("repair");
            assert!(!report.repaired.is_empty(), "{kind:?} {id}");
            let is_leaf =
                kind == BlobKind::Node && read_node(&reader, &id).expect("node").level == 0;
            leaves += usize::from(is_leaf);
            for repaired in &report.repaired {
                let (hurt, tree) =
                    snapshots.iter().find(|(id, _)| *id == repaired.hurt).expect("known");
                let Some(whole) = repaired.whole else {
                    assert_eq!(kind, BlobKind::Totals);
                    assert_eq!(checked(&repository, Some(*hurt)).findings, []);
                    continue;
                };
                let found = checked(&repository, Some(whole));
                assert_eq!(found.findings, [], "{kind:?} {id}");
                let (good, unread) = assert_part(&repository, whole, tree);
                let (all, cut) = (tree.paths().len(), repaired.cut.entries as usize);
                // With the root, the place itself is what could not be read.
                let of = (good, unread, cut);
                assert!(good + unread + cut >= all || of == (0, 1, 0), "{of:?} of {all}");
                if is_leaf {
                    assert!(good > 20 && cut > 0, "{good} are left, {:?}", repaired.cut);
                }
            }
            // Every entry lies in a directory that has one.
            for snapshot in repository.snapshots().expect("list") {
                let Ok(stored) = read_back(&repository, snapshot.id) else { continue };
                for path in stored.keys().filter(|path| path.contains(&b'/')) {
                    let end = path.iter().rposition(|c| *c == b'/').expect("slash");
                    assert!(stored.contains_key(&path[..end]), "{}", path.escape_ascii());
                }
            }
        }
    }
    assert!(leaves > 3, "{leaves} leaves");
}

#[test]
fn what_is_only_not_listed_is_not_cut_out() {
    let (storage, repository, snapshots) = two();
    remove_index(&storage);
    let report = mend_snapshots(&repository).expect("repair");
    assert!(report.index.listed > 0 && report.repaired.is_empty(), "{:?}", report.repaired);
    assert_holds(&repository, snapshots[0].0, &snapshots[0].1);
}

#[test]
fn repair_of_snapshots_can_be_killed_at_any_call() {
    let (storage, repository, snapshots) = two();
    let (_, place) = lines(&repository, BlobKind::Bundle).remove(0);
    spoil(&storage, &repository, &place);
    let (_, node) = lines(&repository, BlobKind::Totals).remove(0);
    spoil(&storage, &repository, &node);
    let start = storage.dump();
    let expected = {
        let repository = repository_in(MemoryStorage::from_dump(start.clone()));
        mend_snapshots(&repository).expect("repair").repaired
    };
    assert!(expected.iter().any(|repaired| repaired.whole.is_some()), "{expected:?}");
    killed_at_any_call(&start, mend_snapshots, |storage, what| {
        let repository = repository_in(storage);
        mend_snapshots(&repository).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (id, _) in &snapshots {
            repository.snapshot(*id).expect("the hurt ones stay");
        }
        // One whole snapshot for each, and no more than one.
        let listed = repository.snapshots().expect("list");
        for repaired in expected.iter().filter(|repaired| repaired.whole.is_some()) {
            let parent = repaired.hurt.as_bytes();
            let beside: Vec<_> = listed
                .iter()
                .filter(|s| s.record.parent == parent)
                .filter(|s| s.record.description.contains("repaired"))
                .collect();
            assert_eq!(beside.len(), 1, "{what}");
            assert_eq!(checked(&repository, Some(beside[0].id)).findings, []);
        }
    });
}

#[test]
fn a_config_comes_back_only_where_it_belongs_and_is_missing() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let config = storage.get(&ObjectName::config()).expect("config");
    let again = restore_config(&storage, &config, &secret());
    assert!(matches!(again, Err(Error::RepositoryExists { .. })));
    storage.remove(&ObjectName::config());
    for at in 0..config.len() {
        let mut bad = config.clone();
        bad[at] ^= 1;
        assert!(restore_config(&storage, &bad, &secret()).is_err(), "byte {at}");
    }
    let (other, _) = memory();
    let foreign = other.get(&ObjectName::config()).expect("config");
    assert!(matches!(
        restore_config(&storage, &foreign, &secret()),
        Err(Error::Damaged { .. } | Error::WrongKey { .. })
    ));
    assert!(storage.get(&ObjectName::config()).is_err(), "nothing was put");
    assert_eq!(restore_config(&storage, &config, &secret()).expect("restored"), *repository.id());
    assert_eq!(storage.get(&ObjectName::config()).expect("config"), config);
    assert_holds(&repository_in(storage), id, &tree(1));
}
