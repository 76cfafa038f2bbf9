//! Parity: every pack gets it, what it heals is read as if nothing had happened and is told of, it
//! can be switched on and off later, and goes with its pack.

use std::collections::BTreeSet;

use crate::common::{
    assert_holds, back_up, blobs, killed_at_any_call, memory, read_back,
    repository as repository_in, with_parity,
};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::ObjectId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::ops::repair::{
    RepairPacksOptions, RepairParityOptions, RepairParityReport, packs, parity,
};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

/// With another seed all files have other sizes, so that none passes for unchanged.
fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..40_u64 {
        let length = 500 + 90 * i + seed;
        tree.file(format!("d{}/f{i:02}", i % 5), random_bytes(seed * 1000 + i, length as usize));
    }
    tree.file("big", random_bytes(seed, 600_000 + seed as usize));
    tree
}

fn checked(repository: &Repository, read_data: ReadData) -> CheckReport {
    let options = CheckOptions { read_data, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

fn make(repository: &Repository, all: bool) -> Result<RepairParityReport> {
    let options = RepairParityOptions { time: 5, all, threads: 1 };
    parity(repository, &options, &NoMonitor, &Interrupt::new())
}

fn collect(repository: &Repository) {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
}

fn ids(storage: &MemoryStorage, folder: Folder) -> BTreeSet<ObjectId> {
    let names = storage.names_in(folder);
    names.iter().map(|name| ObjectId::from_hex(name.base()).expect("id")).collect()
}

fn assert_all_have_parity(storage: &MemoryStorage) {
    assert_eq!(ids(storage, Folder::Packs), ids(storage, Folder::Parity));
}

/// Ways to damage 3 % of a pack, with names.
type Damage = (&'static str, fn(&mut Vec<u8>));

const DAMAGES: [Damage; 6] = [
    ("a run of zeros", |bytes| {
        let (from, run) = (bytes.len() / 2, bytes.len() * 3 / 100);
        bytes[from..from + run].fill(0);
    }),
    ("a run of flips from the start", |bytes| {
        let run = bytes.len() * 3 / 100;
        bytes[..run].iter_mut().for_each(|byte| *byte ^= 0x55);
    }),
    ("a run of zeros at the end", |bytes| {
        let from = bytes.len() - bytes.len() * 3 / 100;
        bytes[from..].fill(0);
    }),
    ("its tail is lost", |bytes| {
        let kept = bytes.len() - bytes.len() * 3 / 100;
        bytes.truncate(kept);
    }),
    ("scattered sectors", |bytes| {
        let count = bytes.len() * 3 / 100 / 4096;
        for sector in bytes.chunks_mut(4096).step_by(33).take(count) {
            sector.fill(0xaa);
        }
        bytes[85] ^= 1;
    }),
    ("scattered bits", |bytes| {
        let count = (bytes.len() * 3 / 100 / 1024).max(1);
        let every = bytes.len() / count;
        for piece in bytes.chunks_mut(every).take(count) {
            piece[7] ^= 1;
        }
    }),
];

#[test]
fn every_damage_that_it_heals_costs_nothing_and_is_told() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    assert_all_have_parity(&storage);
    assert_eq!(checked(&repository, ReadData::All).findings, []);
    let whole = storage.dump();
    for (what, damage) in DAMAGES {
        for pack in storage.names_in(Folder::Packs) {
            storage.load(whole.clone());
            storage.corrupt(&pack, damage);
            assert_holds(&repository, id, &tree(1));
            for read_data in [ReadData::All, ReadData::No] {
                let report = checked(&repository, read_data);
                let found = report.findings.iter().find(|f| f.object == pack.as_str());
                match found {
                    Some(found) => {
                        assert_eq!(found.severity, Severity::Damage, "{what}: {found:?}");
                        assert!(found.what.contains("its parity heals it"), "{what}: {found:?}");
                    }
                    None => assert_eq!(read_data, ReadData::No, "{what}: {report:?}"),
                }
                assert_eq!(report.findings.len(), usize::from(found.is_some()), "{report:?}");
            }
            // Without it, the damage hits.
            storage.remove(&ObjectName::parity(ObjectId::from_hex(pack.base()).expect("id")));
            let report = checked(&repository, ReadData::All);
            assert!(report.is_damaged(), "{what}");
        }
    }
}

#[test]
fn what_is_read_out_of_a_healed_pack_is_known() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let whole = storage.dump();
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let record = repository.snapshot(id).expect("snapshot");
    let mut told = 0;
    for pack in storage.names_in(Folder::Packs) {
        let length = storage.get(&pack).expect("pack").len();
        if length > 100_000 {
            continue;
        }
        // Somewhere in the pack of structure are the nodes that are read.
        let run = length * 3 / 100;
        for from in (0..length - run).step_by(run) {
            storage.load(whole.clone());
            storage.corrupt(&pack, |bytes| bytes[from..from + run].fill(0));
            let reader = BlobReader::new(&repository, &index);
            let tree = holdfast_engine::tree::view::tree(&reader, &record.roots[0]).expect("tree");
            assert_eq!(tree.entries().filter(|entry| entry.is_ok()).count(), 47);
            for (healed, pieces) in reader.healed() {
                assert_eq!(healed.to_string(), pack.base());
                assert!((1..=2).contains(&pieces), "{pieces}");
                told += 1;
            }
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn more_damage_than_it_heals_is_told_with_how_much() {
    let (storage, repository) = with_parity();
    back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let packs = storage.names_in(Folder::Packs);
    let pack = packs.iter().max_by_key(|pack| storage.get(pack).expect("pack").len());
    let pack = pack.expect("pack");
    storage.corrupt(pack, |bytes| {
        let run = bytes.len() / 20;
        bytes[10_000..10_000 + run].fill(0);
    });
    let report = checked(&repository, ReadData::All);
    let found = report.findings.iter().find(|f| f.object == pack.as_str()).expect("found");
    assert_eq!(found.severity, Severity::Loss);
    assert!(found.what.contains("pieces of 1024 bytes are damaged"), "{}", found.what);
}

#[test]
fn it_can_be_switched_on_later_and_off_again() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    assert_eq!(storage.names_in(Folder::Parity), []);
    let report = make(&repository, false).expect("parity");
    assert!(report.switched_on && report.made == report.packs && report.bytes > 0, "{report:?}");
    assert_all_have_parity(&storage);
    let again = make(&repository, false).expect("parity");
    assert_eq!((again.switched_on, again.made), (false, 0));
    let second = back_up(&repository, &tree(2), 2).snapshot.expect("snapshot");
    assert_all_have_parity(&storage);
    // Parity made later is as good.
    for pack in storage.names_in(Folder::Packs) {
        storage.corrupt(&pack, |bytes| DAMAGES[0].1(bytes));
    }
    assert_holds(&repository, first, &tree(1));
    assert_holds(&repository, second, &tree(2));
    assert!(repository.set_parity(false, 6).expect("off"));
    assert!(!repository.set_parity(false, 7).expect("off"));
    back_up(&repository, &tree(3), 3).snapshot.expect("snapshot");
    assert!(ids(&storage, Folder::Parity).len() < ids(&storage, Folder::Packs).len());
    assert_eq!(checked(&repository, ReadData::No).without_parity, 0, "none is wanted");
    collect(&repository);
    assert_eq!(storage.names_in(Folder::Parity), []);
    // Whoever says something later is right, even if his clock is behind.
    assert!(repository.set_parity(true, 1).expect("on"));
    assert!(repository.settings().expect("settings").wants_parity());
}

#[test]
fn damaged_packs_get_none_and_damaged_parity_is_renewed() {
    let (storage, repository) = memory();
    back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let pack = storage.names_in(Folder::Packs).remove(0);
    storage.corrupt(&pack, |bytes| bytes[200] ^= 1);
    let report = make(&repository, false).expect("parity");
    assert_eq!((report.made, report.damaged.len()), (report.packs - 1, 1), "{report:?}");
    storage.corrupt(&pack, |bytes| bytes[200] ^= 1);
    assert_eq!(checked(&repository, ReadData::No).without_parity, 1);
    assert_eq!(make(&repository, false).expect("parity").made, 1);
    let parity = storage.names_in(Folder::Parity);
    storage.corrupt(&parity[0], |bytes| bytes[40] ^= 1);
    storage.corrupt(&parity[1], |bytes| bytes.truncate(100));
    let report = checked(&repository, ReadData::All);
    let named: Vec<_> = report.findings.iter().map(|f| f.object.as_str()).collect();
    assert_eq!(named, [parity[0].as_str(), parity[1].as_str()]);
    assert_eq!(make(&repository, false).expect("parity").made, 0, "it is there");
    let report = make(&repository, true).expect("parity");
    assert_eq!((report.made, report.renewed), (2, 2), "{report:?}");
    assert_eq!(checked(&repository, ReadData::All).findings, []);
}

#[test]
fn parity_of_another_pack_is_found_and_renewed() {
    let (storage, repository) = with_parity();
    let mut tree = MemoryTree::new();
    for seed in 1..=2 {
        tree.file(format!("f{seed}"), random_bytes(seed, 100_000));
        back_up(&repository, &tree, seed as i64);
    }
    let packs: Vec<_> = ids(&storage, Folder::Packs).into_iter().collect();
    let length = |id: ObjectId| storage.get(&ObjectName::pack(id)).expect("pack").len();
    let pairs = packs.iter().flat_map(|one| packs.iter().map(move |two| (*one, *two)));
    let mut alike = pairs.filter(|(one, two)| one < two && length(*one) == length(*two));
    let (one, two) = alike.next().expect("two packs of one length");
    let [one, two] = [one, two].map(ObjectName::parity);
    let swapped = [storage.get(&two).expect("parity"), storage.get(&one).expect("parity")];
    for (name, bytes) in [&one, &two].into_iter().zip(swapped) {
        storage.remove(name);
        storage.plant(name, bytes);
    }
    let report = checked(&repository, ReadData::All);
    let named: Vec<_> = report.findings.iter().map(|f| f.object.as_str()).collect();
    assert_eq!(named, [one.as_str(), two.as_str()], "{report:?}");
    let report = make(&repository, true).expect("parity");
    assert_eq!((report.made, report.renewed), (2, 2), "{report:?}");
    assert_eq!(checked(&repository, ReadData::All).findings, []);
    assert_eq!(make(&repository, true).expect("parity").made, 0, "all of it is right");
}

#[test]
fn who_may_not_write_it_learns_that_and_no_pack_is_blamed() {
    for (operation, has_old) in [(Operation::Put, false), (Operation::Delete, true)] {
        let (storage, repository) = if has_old { with_parity() } else { memory() };
        back_up(&repository, &tree(1), 1);
        for parity in storage.names_in(Folder::Parity) {
            storage.corrupt(&parity, |bytes| bytes[40] ^= 1);
        }
        let faulty = FaultStorage::new(storage).failing_as(StorageErrorKind::PermissionDenied);
        faulty.set_plan(move |_, call| {
            let is_it = call.operation == operation && call.object.starts_with("parity/");
            is_it.then_some(Fault::ErrorBefore)
        });
        let error = make(&repository_in(faulty), true).expect_err("it may not");
        let Error::Storage(error) = error else { panic!("{error}") };
        assert_eq!(error.kind, StorageErrorKind::PermissionDenied);
    }
}

#[test]
fn a_copy_is_healed_though_another_one_is_gone() {
    let (storage, repository) = with_parity();
    let mut tree = MemoryTree::new();
    back_up(&repository, tree.file("f", random_bytes(1, 300_000)), 1);
    let before = ids(&storage, Folder::Packs);
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let chunk = blobs(&index).into_iter().find(|(_, place)| place.kind == BlobKind::Chunk);
    let (id, place) = chunk.expect("chunk");
    let old = index.pack(place.pack).expect("read").expect("pack").id;
    let options = RepairPacksOptions { packs: Some([old].into()), ..Default::default() };
    packs(&repository, &options, &NoMonitor, &Interrupt::new()).expect("repair");
    let new = ids(&storage, Folder::Packs).into_iter().find(|id| !before.contains(id));
    let both = [old, new.expect("a second copy")].map(ObjectName::pack);
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let read = || BlobReader::of_index(&repository, &index).read(BlobKind::Chunk, &id);
    let (whole, content) = (storage.dump(), read().expect("whole"));
    for (gone, damaged) in [(&both[0], &both[1]), (&both[1], &both[0])] {
        storage.load(whole.clone());
        storage.remove(gone);
        for (_, place) in blobs(&index).into_iter().filter(|(other, _)| *other == id) {
            if ObjectName::pack(index.pack(place.pack).expect("read").expect("pack").id) == *damaged
            {
                storage.corrupt(damaged, |bytes| bytes[place.offset as usize] ^= 1);
            }
        }
        assert_eq!(read().expect("healed"), content);
    }
}

#[test]
fn it_goes_with_its_pack() {
    let (storage, repository) = with_parity();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let mut tree = tree(1);
    for i in 0..20_u64 {
        tree.set_content(format!("d{}/f{i:02}", i % 5), random_bytes(7_000 + i, 3_000));
    }
    let second = back_up(&repository, &tree, 2).snapshot.expect("snapshot");
    repository.forget(first, &Notes::default()).expect("forget");
    let before = ids(&storage, Folder::Packs);
    // Of a pack that was deleted by a program that knows no parity.
    storage.plant(&ObjectName::parity(ObjectId::new([9; 32])), vec![1; 100]);
    collect(&repository);
    assert_ne!(before, ids(&storage, Folder::Packs), "something was moved");
    assert_all_have_parity(&storage);
    assert_holds(&repository, second, &tree);
}

#[test]
fn a_damaged_setting_costs_what_it_said() {
    let (storage, repository) = with_parity();
    back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let setting = storage.names_in(Folder::Settings).remove(0);
    storage.corrupt(&setting, |bytes| bytes[100] ^= 1);
    let report = checked(&repository, ReadData::No);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].object, setting.as_str());
    back_up(&repository, &tree(2), 2).snapshot.expect("a backup goes on");
    collect(&repository);
    assert!(!storage.names_in(Folder::Parity).is_empty(), "gc deletes none for want of a setting");
}

#[test]
fn making_parity_can_be_killed_at_any_call() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    make(&repository, false).expect("parity");
    let lost = storage.names_in(Folder::Parity).remove(0);
    storage.remove(&lost);
    let other = storage.names_in(Folder::Parity).remove(0);
    storage.corrupt(&other, |bytes| bytes[40] ^= 1);
    let start = storage.dump();
    let work = |repository: &Repository| make(repository, true);
    killed_at_any_call(&start, work, |storage, what| {
        let repository = repository_in(storage.clone());
        work(&repository).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_all_have_parity(&storage);
        assert_eq!(checked(&repository, ReadData::All).findings, [], "{what}");
        assert_holds(&repository, id, &tree(1));
    });
}

#[test]
fn a_backup_with_parity_can_be_killed_at_any_call() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let start = storage.dump();
    let second = |repository: &Repository| {
        let options = crate::common::options(tree(2).source(), 2);
        crate::common::run(repository, &options)
    };
    killed_at_any_call(&start, second, |storage, what| {
        let repository = repository_in(storage.clone());
        assert_holds(&repository, id, &tree(1));
        let again = back_up(&repository, &tree(2), 3).snapshot.expect("snapshot");
        assert_holds(&repository, again, &tree(2));
        make(&repository, false).expect("parity");
        assert_all_have_parity(&storage);
        let report = checked(&repository, ReadData::All);
        assert!(!report.is_damaged(), "{what}: {:?}", report.findings);
    });
}

#[test]
fn a_repository_that_does_not_want_it_pays_nothing() {
    let (storage, repository) = memory();
    back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    assert_eq!(storage.names_in(Folder::Settings), []);
    assert_eq!(storage.names_in(Folder::Parity), []);
    let faulty = FaultStorage::new(storage.clone());
    let repository = repository_in(faulty.clone());
    assert!(matches!(read_back(&repository, Default::default()), Err(Error::Storage(_))));
    back_up(&repository, &tree(1), 2).snapshot.expect("unchanged");
    let listed = faulty.log().iter().filter(|call| call.object == "settings").count();
    assert_eq!(listed, 0, "a run that stores no pack does not ask");
}
