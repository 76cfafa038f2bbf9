//! Media that fail: sectors and objects that cannot be read, parity of another pack, locks that run
//! out, and no space for what a repair has to write.

use std::collections::BTreeSet;

use crate::common::{
    assert_holds, back_up, blobs, memory, options, read_back, repository as repository_in, run,
    try_repository, with_parity,
};
use crate::storages::Worn;
use holdfast_engine::Error;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::ObjectId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::ops::gc::{GcOptions, GcReport, gc};
use holdfast_engine::ops::repair::{
    self, RepairIndexOptions, RepairPacksOptions, RepairPacksReport, RepairParityOptions, packs,
    parity,
};
use holdfast_engine::parity::Encoder;
use holdfast_engine::repo::notes::{Change, Notes};
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::memory::Dump;
use holdfast_testkit::{MemoryStorage, MemoryTree};

/// With another seed all files have other sizes.
fn tree(seed: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..10_u64 {
        tree.file(format!("f{i}"), random_bytes(seed * 100 + i, (900 + 300 * i + seed) as usize));
    }
    tree.file("big", random_bytes(seed, 700_000 + seed as usize));
    tree
}

fn checked(repository: &Repository) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

fn mend(repository: &Repository) -> Result<RepairPacksReport, Error> {
    let store = WriterOptions { threads: 1, ..WriterOptions::default() };
    let options = RepairPacksOptions { store, threads: 1, ..RepairPacksOptions::default() };
    packs(repository, &options, &NoMonitor, &Interrupt::new())
}

fn make_parity(repository: &Repository, all: bool) -> Result<u64, Error> {
    let options = RepairParityOptions { time: 5, all, threads: 1 };
    parity(repository, &options, &NoMonitor, &Interrupt::new()).map(|report| report.made)
}

fn collect(repository: &Repository) -> GcReport {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc")
}

/// The longest pack, and its length.
fn big_pack(storage: &MemoryStorage) -> (ObjectName, u64) {
    let packs = storage.names_in(Folder::Packs).into_iter();
    let sized = packs.map(|pack| (storage.get(&pack).expect("pack").len() as u64, pack));
    let (size, pack) = sized.max().expect("a pack");
    (pack, size)
}

fn parity_of(pack: &ObjectName) -> ObjectName {
    ObjectName::parity(ObjectId::from_hex(pack.base()).expect("id"))
}

fn is_full(error: &Error) -> bool {
    matches!(error, Error::Storage(e) if e.kind == StorageErrorKind::NoSpace)
}

#[test]
fn sectors_that_cannot_be_read_are_healed_one_by_one() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let (pack, size) = big_pack(&storage);
    let worn = Worn::new(storage.clone());
    // Given up with their surroundings they would be more than parity can heal.
    for at in [8192, size / 2 / 4096 * 4096] {
        worn.make_unreadable(&pack, at..at + 4096);
    }
    let repository = repository_in(worn);
    assert_holds(&repository, id, &tree(1));
    let report = checked(&repository);
    assert_eq!(report.worst(), Some(Severity::Damage), "{:?}", report.findings);
    let report = mend(&repository).expect("repair");
    assert_eq!((report.packs.len(), report.condemned, report.lost()), (1, 1, 0));
    assert!(report.packs[0].healed.is_some_and(|pieces| pieces >= 8), "{report:?}");
    for _ in 0..2 {
        collect(&repository);
    }
    assert_eq!(checked(&repository).findings, []);
    assert_holds(&repository, id, &tree(1));
}

#[test]
fn parity_that_cannot_be_read_heals_nothing_and_is_made_anew() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let (pack, size) = big_pack(&storage);
    let worn = Worn::new(storage.clone());
    worn.make_unreadable(&parity_of(&pack), 0..1);
    let whole = storage.dump();
    storage.corrupt(&pack, |bytes| bytes[size as usize / 2] ^= 1);
    let repository = repository_in(worn);
    let report = checked(&repository);
    let found = report.findings.iter().find(|f| f.object == pack.as_str()).expect("found");
    assert_eq!(found.severity, Severity::Loss);
    assert!(found.what.contains("its parity cannot be read"), "{}", found.what);
    storage.load(whole);
    assert_eq!(checked(&repository).findings.len(), 1, "the parity");
    assert_eq!(make_parity(&repository, true).expect("parity"), 1);
    assert_eq!(checked(&repository).findings, []);
    assert_holds(&repository, id, &tree(1));
}

#[test]
fn parity_of_another_pack_heals_nothing() {
    let (storage, repository) = with_parity();
    back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let (pack, size) = big_pack(&storage);
    let mut other = storage.get(&pack).expect("pack");
    other[size as usize / 3] ^= 1;
    let mut encoder = Encoder::new(size);
    encoder.update(&other);
    storage.remove(&parity_of(&pack));
    storage.plant(&parity_of(&pack), encoder.finish().expect("parity"));
    storage.corrupt(&pack, |bytes| bytes[size as usize / 2] ^= 1);
    let report = checked(&repository);
    let found = report.findings.iter().find(|f| f.object == pack.as_str()).expect("found");
    assert_eq!(found.severity, Severity::Loss);
    assert!(found.what.contains("its parity does not belong to it"), "{}", found.what);
    let report = mend(&repository).expect("repair");
    assert_eq!((report.packs[0].healed, report.lost()), (None, 1), "{report:?}");
}

#[test]
fn gc_moves_what_parity_heals() {
    let (storage, repository) = with_parity();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let mut changed = tree(1);
    changed.remove("big");
    let second = back_up(&repository, &changed, 2).snapshot.expect("snapshot");
    repository.forget(first, &Notes::default()).expect("forget");
    // Of its pack nothing else is needed.
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let bundle = blobs(&index).into_iter().find(|(_, place)| place.kind == BlobKind::Bundle);
    let (_, place) = bundle.expect("a bundle");
    let pack = ObjectName::pack(index.pack(place.pack).expect("index").expect("pack").id);
    storage.corrupt(&pack, |bytes| bytes[(place.offset + place.sealed / 2) as usize] ^= 1);
    assert!(collect(&repository).copied.count > 0);
    assert!(storage.get(&pack).is_err(), "the damage goes with it");
    assert_eq!(checked(&repository).findings, []);
    assert_holds(&repository, second, &changed);
}

#[test]
fn what_is_condemned_gets_no_parity() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    back_up(&repository, &tree(2), 2).snapshot.expect("snapshot");
    let session = Session::begin(&repository, Writer::default()).expect("session");
    repository.forget(id, &Notes::default()).expect("forget");
    let condemned = collect(&repository).condemned.count;
    assert!(condemned > 0 && storage.names_in(Folder::Condemned).len() == 1);
    let packs = storage.names_in(Folder::Packs).len() as u64;
    assert_eq!(make_parity(&repository, false).expect("parity"), packs - condemned);
    session.end("done").expect("end");
}

#[test]
fn gc_locks_again_all_that_is_needed_and_nothing_that_goes() {
    let (storage, repository) = with_parity();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let second = back_up(&repository, &tree(2), 2).snapshot.expect("snapshot");
    let change = Change { pinned: Some(true), ..Change::default() };
    let (all, notes) = repository.snapshots_with_notes().expect("snapshots");
    let info = all.iter().find(|info| info.id == second).expect("second");
    repository.annotate(info, &notes, &change, 3).expect("note");
    // The segments that there were are superseded, and there still.
    let old = storage.names_in(Folder::Index);
    let options = RepairIndexOptions { all: true, ..RepairIndexOptions::default() };
    repair::index(&repository, &options, &NoMonitor, &Interrupt::new()).expect("repair");
    let session = Session::begin(&repository, Writer::default()).expect("session");
    repository.forget(first, &Notes::default()).expect("forget");
    let worn = Worn::new(storage.clone());
    let locking = repository_in(worn.clone());
    assert_eq!(collect(&locking).locked_again, None, "nothing is locked here");
    worn.lock();
    let report = collect(&locking);
    assert_eq!(report.waiting.len(), 1);
    let locked = worn.locked_again();
    assert_eq!(report.locked_again, Some(locked.len() as u64));
    let condemned = repository.condemned_packs().expect("condemned");
    assert!(!condemned.is_empty());
    let goes = |name: &ObjectName| {
        old.contains(name)
            || ObjectId::from_hex(name.base()).is_ok_and(|id| condemned.contains(&id))
    };
    let folders = [
        Folder::Keys,
        Folder::Packs,
        Folder::Index,
        Folder::Snapshots,
        Folder::Notes,
        Folder::Parity,
        Folder::Settings,
    ];
    let mut expected: BTreeSet<ObjectName> = [ObjectName::config()].into();
    for folder in folders {
        let stays = storage.names_in(folder).into_iter().filter(|name| !goes(name));
        let before = expected.len();
        expected.extend(stays);
        assert!(expected.len() > before, "{folder:?}");
    }
    assert_eq!(locked, expected);
    session.end("done").expect("end");
}

/// Does `work` with ever more space, until it succeeds. What has failed for want of it has harmed
/// nothing: `then` looks at what is left, and at how it was done in the end.
fn with_ever_more_space<T>(
    start: &Dump,
    work: impl Fn(&Repository) -> Result<T, Error>,
    then: impl Fn(&MemoryStorage, Option<T>),
) {
    for refused in 0.. {
        let storage = MemoryStorage::from_dump(start.clone());
        storage.set_capacity(Some(storage.total_size() + refused * 40_000));
        match work(&repository_in(storage.clone())) {
            Ok(done) => {
                assert!(refused > 5, "{refused}");
                return then(&storage, Some(done));
            }
            Err(error) => assert!(is_full(&error), "{error}"),
        }
        then(&storage, None);
    }
}

#[test]
fn a_backup_with_parity_that_finds_no_space_leaves_all_as_it_was() {
    let (storage, repository) = with_parity();
    let first = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let second = |repository: &Repository| run(repository, &options(tree(2).source(), 2));
    with_ever_more_space(&storage.dump(), second, |storage, done| {
        // Full it is read as ever.
        let repository = repository_in(storage.clone());
        assert_holds(&repository, first, &tree(1));
        if let Some(id) = done.and_then(|report| report.snapshot) {
            assert_holds(&repository, id, &tree(2));
        }
        assert!(!checked(&repository).is_damaged());
        storage.set_capacity(None);
        storage.clock().advance(25 * 3600);
        for _ in 0..2 {
            collect(&repository);
        }
        make_parity(&repository, false).expect("parity");
        let ids = |folder| {
            let names = storage.names_in(folder).into_iter();
            names.map(|name| name.base().to_owned()).collect::<BTreeSet<_>>()
        };
        assert_eq!(ids(Folder::Packs), ids(Folder::Parity), "none without, none too many");
        assert_eq!(checked(&repository).findings, []);
    });
}

#[test]
fn a_repair_that_finds_no_space_loses_nothing() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    for pack in storage.names_in(Folder::Packs) {
        storage.corrupt(&pack, |bytes| bytes[300] ^= 1);
    }
    with_ever_more_space(&storage.dump(), mend, |storage, done| {
        let repository = repository_in(storage.clone());
        assert_holds(&repository, id, &tree(1));
        if let Some(report) = done {
            assert_eq!((report.condemned, report.lost()), (2, 0), "{report:?}");
        }
        // With space it is made good, whatever was done before.
        storage.set_capacity(None);
        assert_eq!(mend(&repository).expect("repair").lost(), 0);
        storage.clock().advance(25 * 3600);
        for _ in 0..2 {
            collect(&repository);
        }
        assert_eq!(checked(&repository).findings, []);
        assert_holds(&repository, id, &tree(1));
    });
}

#[test]
fn parity_that_finds_no_space_is_made_later() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    for room in [0, 300, 30_000] {
        storage.set_capacity(Some(storage.total_size() + room));
        let error = make_parity(&repository, false).expect_err("no space");
        assert!(is_full(&error), "{error}");
        assert_holds(&repository, id, &tree(1));
    }
    storage.set_capacity(None);
    assert!(make_parity(&repository, false).expect("parity") > 0);
    assert_eq!(checked(&repository).findings, []);
}

#[test]
fn a_storage_that_became_read_only_is_read_and_healed() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(1), 1).snapshot.expect("snapshot");
    let (pack, size) = big_pack(&storage);
    storage.corrupt(&pack, |bytes| bytes[size as usize / 2] ^= 1);
    storage.set_read_only(true);
    let repository = try_repository(storage.clone()).expect("open");
    assert_holds(&repository, id, &tree(1));
    assert_eq!(checked(&repository).worst(), Some(Severity::Damage));
    let names = storage.names();
    for error in [
        mend(&repository).map(|_| ()).expect_err("read-only"),
        run(&repository, &options(tree(2).source(), 2)).map(|_| ()).expect_err("read-only"),
    ] {
        let kind =
            |e: &Error| matches!(e, Error::Storage(e) if e.kind == StorageErrorKind::ReadOnly);
        assert!(kind(&error), "{error}");
    }
    assert_eq!(storage.names(), names);
    read_back(&repository, id).expect("all of it");
}
