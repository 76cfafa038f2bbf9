//! `repair packs`: what opens of damaged packs moves, by itself, by parity or from a second
//! repository; what is still where it was backed up from comes back with the next backup; and the
//! damaged packs go with a gc, as soon as nothing needs them. Killed at any call as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::{
    assert_holds, back_up, blobs, killed_at_any_call, memory, read_back,
    repository as repository_in, secret, with_parity,
};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::{ObjectId, SnapshotId};
use holdfast_engine::meta::Xattr;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, CheckReport, ReadData, Severity, check};
use holdfast_engine::ops::gc::{GcOptions, GcReport, gc};
use holdfast_engine::ops::repair::{RepairPacksOptions, RepairPacksReport, packs};
use holdfast_engine::ops::sync::{Sync, SyncOptions};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::open::create;
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{CreateOptions, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_engine::{Error, Result};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{MemoryStorage, MemoryTree};

/// Big files, small ones, one with holes.
fn tree() -> MemoryTree {
    tree_with(0)
}

/// The same paths, sizes and times, but with an `other` that is not 0 the content differs of all
/// but the small files of `d0`.
fn tree_with(other: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..60_u64 {
        let seed = 1000 + i + if i % 5 == 0 { 0 } else { other };
        tree.file(format!("d{}/f{i:02}", i % 5), random_bytes(seed, 400 + 150 * i as usize));
    }
    tree.file("big", random_bytes(1 + other, 2_500_000)).hard_link("d0/same", "big");
    let data = random_bytes(3 + other, 300_000);
    tree.sparse_file("sparse", 3_000_000, &[(4096, data.clone()), (2_000_000, data)]);
    tree
}

pub(crate) fn mend(
    repository: &Repository,
    donor: Option<&Repository>,
) -> Result<RepairPacksReport> {
    let store = WriterOptions { threads: 1, ..WriterOptions::default() };
    let options = RepairPacksOptions { donor, store, threads: 1, ..RepairPacksOptions::default() };
    packs(repository, &options, &NoMonitor, &Interrupt::new())
}

fn checked(repository: &Repository) -> CheckReport {
    let options = CheckOptions { read_data: ReadData::All, ..CheckOptions::default() };
    check(repository, &options, &NoMonitor, &Interrupt::new()).expect("check")
}

fn collect(repository: &Repository) -> Result<GcReport> {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {})
}

fn id_of(pack: &ObjectName) -> ObjectId {
    ObjectId::from_hex(pack.base()).expect("id")
}

/// Breaks the first or last blob of each pack that `chosen` admits.
fn break_one_of_each(
    storage: &MemoryStorage,
    repository: &Repository,
    kinds: &[BlobKind],
) -> usize {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let mut broken = BTreeSet::new();
    for (_, place) in blobs(&index) {
        if kinds.contains(&place.kind) && broken.insert((place.pack, place.kind)) {
            let pack = index.pack(place.pack).expect("read").expect("pack");
            let at = (place.offset + place.sealed / 2) as usize;
            storage.corrupt(&ObjectName::pack(pack.id), |bytes| bytes[at] ^= 1);
        }
    }
    broken.len()
}

const CONTENT: [BlobKind; 2] = [BlobKind::Chunk, BlobKind::Bundle];

/// After a gc nothing is left of the damage.
fn assert_clean(
    storage: &MemoryStorage,
    repository: &Repository,
    id: SnapshotId,
    gone: &ObjectName,
) {
    for _ in 0..2 {
        collect(repository).expect("gc");
    }
    assert_eq!(checked(repository).findings, []);
    assert!(storage.get(gone).is_err(), "the damaged pack is deleted");
    assert_holds(repository, id, &tree());
}

#[test]
fn nothing_is_done_where_nothing_is_damaged() {
    let (storage, repository) = memory();
    back_up(&repository, &tree(), 1);
    let before = storage.names();
    let report = mend(&repository, None).expect("repair");
    assert!(report.packs.is_empty() && report.condemned == 0);
    assert_eq!(storage.names(), before, "not even a lease");
}

#[test]
fn parity_brings_everything_back() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    let packs = storage.names_in(Folder::Packs);
    for pack in &packs {
        storage.corrupt(pack, |bytes| {
            let (from, run) = (bytes.len() / 3, bytes.len() * 3 / 100);
            bytes[from..from + run].fill(0);
        });
    }
    let report = mend(&repository, None).expect("repair");
    assert_eq!(
        (report.packs.len(), report.condemned, report.lost()),
        (packs.len(), packs.len() as u64, 0)
    );
    assert!(report.packs.iter().all(|p| p.healed.is_some_and(|pieces| pieces > 0) && p.copied > 0));
    // On their way out, they are worth a note.
    let found = checked(&repository);
    assert_eq!(found.worst(), Some(Severity::Note), "{:?}", found.findings);
    assert!(found.findings.iter().all(|f| f.what.contains("a gc deletes it")));
    let again = mend(&repository, None).expect("repair");
    assert_eq!((again.condemned, again.lost()), (0, 0));
    assert!(again.packs.iter().all(|pack| pack.copied == 0), "{again:?}");
    for pack in &packs {
        assert_clean(&storage, &repository, id, pack);
    }
    let parity: BTreeSet<_> = storage.names_in(Folder::Parity).iter().map(id_of).collect();
    assert_eq!(parity, storage.names_in(Folder::Packs).iter().map(id_of).collect());
}

#[test]
fn a_pack_that_lost_its_tail_is_healed_too() {
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    let pack = storage.names_in(Folder::Packs).remove(0);
    storage.corrupt(&pack, |bytes| bytes.truncate(bytes.len() - bytes.len() * 3 / 100));
    assert_holds(&repository, id, &tree());
    let report = mend(&repository, None).expect("repair");
    assert_eq!((report.packs.len(), report.condemned, report.lost()), (1, 1, 0));
    assert_clean(&storage, &repository, id, &pack);
}

#[test]
fn what_opens_is_saved_and_the_next_backup_brings_the_rest() {
    let (storage, repository) = memory();
    let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    assert_eq!(break_one_of_each(&storage, &repository, &CONTENT), 2);
    let lost = checked(&repository);
    let [finding] = &lost.findings[..] else { panic!("{lost:?}") };
    assert_eq!(finding.severity, Severity::Loss);
    let pack = ObjectName::parse(&finding.object).expect("pack");
    let report = mend(&repository, None).expect("repair");
    let [one] = &report.packs[..] else { panic!("{report:?}") };
    assert_eq!((one.id, one.lost, one.healed, report.condemned), (id_of(&pack), 2, None, 1));
    assert!(one.copied > 0, "{one:?}");
    // It is still lost, and still in the pack alone: a gc lets the pack be, and goes on.
    assert_eq!(checked(&repository).worst(), Some(Severity::Loss));
    for _ in 0..2 {
        collect(&repository).expect("gc");
        assert!(storage.get(&pack).is_ok(), "it stays");
        assert_eq!(storage.names_in(Folder::Condemned).len(), 1, "and is remembered");
    }
    // The source still has it: the old snapshot is whole again as well.
    let second = back_up(&repository, &tree(), 2);
    assert!(second.stats.blobs_new >= 2, "{:?}", second.stats);
    assert_holds(&repository, id, &tree());
    assert_clean(&storage, &repository, id, &pack);
}

#[test]
fn gc_goes_on_once_what_is_lost_is_forgotten() {
    let (storage, repository) = memory();
    let mut small = MemoryTree::new();
    small.file("f", random_bytes(5, 1_000_000));
    let kept = back_up(&repository, &small, 1).snapshot.expect("snapshot");
    let hurt = back_up(&repository, &tree(), 2).snapshot.expect("snapshot");
    let before: BTreeSet<_> = storage.names_in(Folder::Packs).into_iter().collect();
    break_one_of_each(&storage, &repository, &CONTENT);
    let report = mend(&repository, None).expect("repair");
    assert!(report.lost() > 0);
    for id in [kept, hurt] {
        repository.forget(id, &Notes::default()).expect("forget");
    }
    let whole = back_up(&repository, &small, 3).snapshot.expect("snapshot");
    collect(&repository).expect("gc");
    let after: BTreeSet<_> = storage.names_in(Folder::Packs).into_iter().collect();
    for pack in &report.packs {
        assert!(before.contains(&ObjectName::pack(pack.id)));
        assert!(!after.contains(&ObjectName::pack(pack.id)), "{}", pack.id);
    }
    assert_eq!(checked(&repository).findings, []);
    assert_holds(&repository, whole, &small);
}

#[test]
fn a_copy_of_the_files_gives_back_anything() {
    for remove in [false, true] {
        let (storage, repository) = memory();
        let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
        let copy = repository_in(MemoryStorage::from_dump(storage.dump()));
        let all = BlobKind::ALL;
        break_one_of_each(&storage, &repository, &all);
        let packs = storage.names_in(Folder::Packs);
        if remove {
            for pack in &packs {
                storage.remove(pack);
            }
        }
        assert!(read_back(&repository, id).is_err());
        let report = mend(&repository, Some(&copy)).expect("repair");
        let told = report.donated.expect("asked");
        assert!(told.is_copy && told.blobs == told.wanted && told.blobs >= 4, "{told:?}");
        assert_eq!(report.lost(), 0);
        assert_eq!(report.packs.iter().all(|pack| pack.missing), remove);
        let there = if remove { 0 } else { packs.len() as u64 };
        assert_eq!(report.condemned, there, "what is missing need not go");
        assert_holds(&repository, id, &tree());
        assert_clean(&storage, &repository, id, &packs[0]);
    }
}

/// Another repository that holds copies of all snapshots of this one.
fn synced(repository: &Repository) -> Repository {
    let (_, other) = memory();
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let mut sync = Sync::between(repository, &other).expect("two");
    let all: BTreeSet<_> = sync.candidates().iter().map(|s| s.id).collect();
    let missing = sync.missing(&all);
    let options = SyncOptions::default();
    let interrupt = Interrupt::new();
    sync.run(&index, &missing, &options, &NoMonitor, &interrupt, &mut |_, _| {}).expect("sync");
    other
}

#[test]
fn another_repository_gives_back_content() {
    let (storage, repository) = memory();
    let first = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    let mut changed = tree();
    changed.set_content(b"big", random_bytes(9, 2_400_000));
    changed.remove("d1/f01");
    let second = back_up(&repository, &changed, 2).snapshot.expect("snapshot");
    let other = synced(&repository);
    // All content is gone, of both.
    let index = Index::load(&repository, &BTreeSet::new()).expect("index");
    let content: BTreeSet<_> = blobs(&index)
        .iter()
        .filter(|(_, p)| CONTENT.contains(&p.kind))
        .map(|(_, p)| p.pack)
        .collect();
    for number in content {
        let pack = index.pack(number).expect("read").expect("pack");
        storage.remove(&ObjectName::pack(pack.id));
    }
    assert!(read_back(&repository, first).is_err() && read_back(&repository, second).is_err());
    let report = mend(&repository, Some(&other)).expect("repair");
    let told = report.donated.expect("asked");
    assert!(!told.is_copy && told.files > 50, "{told:?}");
    assert_eq!((report.lost(), told.blobs), (0, told.wanted), "{report:?}");
    assert_holds(&repository, first, &tree());
    assert_holds(&repository, second, &changed);
    collect(&repository).expect("gc");
    assert_eq!(checked(&repository).findings, []);
}

#[test]
fn what_the_donor_holds_differently_is_not_taken() {
    let (storage, repository) = memory();
    back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    let (_, other) = memory();
    back_up(&other, &tree_with(500), 1);
    break_one_of_each(&storage, &repository, &CONTENT);
    let report = mend(&repository, Some(&other)).expect("repair");
    let told = report.donated.expect("asked");
    assert!(told.files > 0, "{told:?}");
    assert!(report.lost() > 0, "{report:?}");
    // What could be had is there: the members of d0 read, whoever lacks the others says so.
    let found = checked(&repository);
    for finding in &found.findings {
        for (_, path) in &finding.paths {
            assert!(!path.starts_with(b"/data/d0/f"), "{}", path.escape_ascii());
        }
    }
    // And nobody relies on a bundle that lacks some: who still has them stores them again.
    let again = back_up(&repository, &tree(), 2).snapshot.expect("snapshot");
    assert_holds(&repository, again, &tree());
}

#[test]
fn lists_of_chunks_come_from_another_repository() {
    let fixed = || {
        let storage = MemoryStorage::new();
        let secrets = vec![(secret(), "test".into())];
        let options =
            CreateOptions { secrets, chunk_fixed: Some(4096), ..CreateOptions::default() };
        let repository = create(Arc::new(storage.clone()), options).expect("create");
        (storage, repository)
    };
    let mut tree = MemoryTree::new();
    tree.file("long", random_bytes(1, 400_000));
    let (storage, repository) = fixed();
    let id = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
    let (_, other) = fixed();
    back_up(&other, &tree, 1);
    let kinds = [BlobKind::ChunkList, BlobKind::Chunk];
    assert_eq!(break_one_of_each(&storage, &repository, &kinds), 2);
    let report = mend(&repository, Some(&other)).expect("repair");
    let told = report.donated.as_ref().expect("asked");
    assert_eq!((told.wanted, told.blobs, report.lost()), (2, 2, 0), "{report:?}");
    assert_holds(&repository, id, &tree);
}

#[test]
fn attributes_come_from_another_repository_if_they_are_the_same() {
    let with_attributes = |seed| {
        let mut tree = tree();
        let value = random_bytes(seed, 9_000);
        tree.node_mut("big").xattrs = vec![Xattr { name: b"user.long".to_vec(), value }];
        tree
    };
    for (seed, expected) in [(1, (1, 0)), (2, (0, 1))] {
        let (storage, repository) = memory();
        let id = back_up(&repository, &with_attributes(1), 1).snapshot.expect("snapshot");
        let (_, other) = memory();
        back_up(&other, &with_attributes(seed), 1);
        assert_eq!(break_one_of_each(&storage, &repository, &[BlobKind::Attributes]), 1);
        let report = mend(&repository, Some(&other)).expect("repair");
        let told = report.donated.as_ref().expect("asked");
        assert_eq!((told.blobs, report.lost()), expected, "{report:?}");
        assert_eq!(checked(&repository).is_damaged(), seed == 2);
        assert_holds(&repository, id, &with_attributes(1));
    }
}

#[test]
fn a_bundle_given_in_part_is_still_lost_and_its_pack_stays() {
    // What shares a bundle depends on the keys: of some nothing is to be had.
    let given_in_part = (0..60).find_map(|_| {
        let (storage, repository) = memory();
        let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
        let (_, other) = memory();
        back_up(&other, &tree_with(500), 1);
        assert_eq!(break_one_of_each(&storage, &repository, &[BlobKind::Bundle]), 1);
        let report = mend(&repository, Some(&other)).expect("repair");
        let told = report.donated.as_ref().expect("asked");
        let is_part = (told.blobs, told.wanted) == (0, 1) && told.bytes > 0;
        is_part.then_some((storage, repository, id, report))
    });
    let (storage, repository, id, report) = given_in_part.expect("a bundle with members of both");
    let [one] = &report.packs[..] else { panic!("{report:?}") };
    assert_eq!((one.donated, one.lost), (0, 1));
    // What was given of it is no substitute for it.
    let pack = ObjectName::pack(one.id);
    for _ in 0..2 {
        collect(&repository).expect("gc");
        assert!(storage.get(&pack).is_ok(), "it stays");
    }
    back_up(&repository, &tree(), 2);
    assert_clean(&storage, &repository, id, &pack);
}

/// The only pack that holds a hollow bundle and is not one of `but`.
fn hollow_pack(repository: &Repository, but: &[ObjectId]) -> ObjectId {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    let hollow = blobs(&index).into_iter().filter(|(_, place)| place.hollow);
    let packs = hollow.map(|(_, place)| index.pack(place.pack).expect("read").expect("pack").id);
    let packs: BTreeSet<_> = packs.filter(|id| !but.contains(id)).collect();
    assert_eq!(packs.len(), 1);
    *packs.first().expect("one")
}

/// Breaks the hollow bundles in a pack.
fn break_hollow(storage: &MemoryStorage, repository: &Repository, pack: ObjectId) {
    let index = Index::load(repository, &BTreeSet::new()).expect("index");
    for (_, place) in blobs(&index).into_iter().filter(|(_, place)| place.hollow) {
        if index.pack(place.pack).expect("read").expect("pack").id == pack {
            let at = (place.offset + place.sealed / 2) as usize;
            storage.corrupt(&ObjectName::pack(pack), |bytes| bytes[at] ^= 1);
        }
    }
}

#[test]
fn a_hollow_bundle_that_cannot_be_read_stops_no_gc() {
    let one = |has_parity: bool, breaks_both: bool| {
        let (storage, repository) = if has_parity { with_parity() } else { memory() };
        let first = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
        let mut left = tree();
        for i in (0..60).filter(|i| i % 5 != 0) {
            left.remove(format!("d{}/f{i:02}", i % 5));
        }
        let id = back_up(&repository, &left, 2).snapshot.expect("snapshot");
        repository.forget(first, &Notes::default()).expect("forget");
        collect(&repository).expect("gc");
        let old = hollow_pack(&repository, &[]);
        let only = Some([old].into());
        let options = RepairPacksOptions { packs: only, ..RepairPacksOptions::default() };
        packs(&repository, &options, &NoMonitor, &Interrupt::new()).expect("repair");
        let new = hollow_pack(&repository, &[old]);
        break_hollow(&storage, &repository, new);
        if breaks_both {
            break_hollow(&storage, &repository, old);
        }
        let options = GcOptions { threads: 1, ..GcOptions::default() };
        gc(&repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc");
        let stays = storage.get(&ObjectName::pack(old)).is_ok();
        if breaks_both && !has_parity {
            assert!(stays, "what is left of it stays");
            assert!(read_back(&repository, id).is_err());
        } else {
            assert!(!stays);
            assert_holds(&repository, id, &left);
        }
    };
    for has_parity in [true, false] {
        for breaks_both in [true, false] {
            one(has_parity, breaks_both);
        }
    }
}

#[test]
fn named_packs_alone_are_repaired() {
    let (storage, repository) = memory();
    back_up(&repository, &tree(), 1);
    break_one_of_each(&storage, &repository, &BlobKind::ALL);
    let all = storage.names_in(Folder::Packs);
    assert!(all.len() >= 2);
    let only: BTreeSet<_> = [id_of(&all[0])].into();
    let options = RepairPacksOptions { packs: Some(only.clone()), ..RepairPacksOptions::default() };
    let report = packs(&repository, &options, &NoMonitor, &Interrupt::new()).expect("repair");
    assert!(report.check.is_none());
    let ids: BTreeSet<_> = report.packs.iter().map(|pack| pack.id).collect();
    assert_eq!(ids, only);
    let unknown = Some([ObjectId::new([3; 32])].into());
    let options = RepairPacksOptions { packs: unknown, ..RepairPacksOptions::default() };
    let error = packs(&repository, &options, &NoMonitor, &Interrupt::new()).expect_err("unknown");
    assert!(matches!(error, Error::Usage(_)), "{error}");
}

#[test]
fn a_repair_beside_an_open_session_deletes_nothing_that_it_needs() {
    use holdfast_engine::repo::session::{Session, Writer};
    let (storage, repository) = with_parity();
    let id = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
    let session = Session::begin(&repository, Writer::default()).expect("session");
    let pack = storage.names_in(Folder::Packs).remove(0);
    storage.corrupt(&pack, |bytes| bytes[300] ^= 1);
    assert_eq!(mend(&repository, None).expect("repair").condemned, 1);
    let report = collect(&repository).expect("gc");
    assert_eq!(report.waiting.len(), 1);
    assert!(storage.get(&pack).is_ok());
    session.end("done").expect("end");
    assert_clean(&storage, &repository, id, &pack);
}

#[test]
fn repair_of_packs_can_be_killed_at_any_call() {
    for parity in [true, false] {
        let (storage, repository) = if parity { with_parity() } else { memory() };
        let mut tree = MemoryTree::new();
        for i in 0..8_u64 {
            tree.file(format!("f{i:02}"), random_bytes(i, 2_000));
        }
        tree.file("big", random_bytes(50, 200_000));
        let id = back_up(&repository, &tree, 1).snapshot.expect("snapshot");
        let copy = repository_in(MemoryStorage::from_dump(storage.dump()));
        let donor = (!parity).then_some(&copy);
        break_one_of_each(&storage, &repository, &[BlobKind::Chunk, BlobKind::Node]);
        let start = storage.dump();
        killed_at_any_call(
            &start,
            |r| mend(r, donor),
            |storage, what| {
                let repository = repository_in(storage.clone());
                let at = || format!("parity {parity}, {what}");
                if parity {
                    assert_holds(&repository, id, &tree);
                }
                // A gc in between harms nothing, be it that it stops because of the damage.
                let _ = collect(&repository);
                let report = mend(&repository, donor).unwrap_or_else(|e| panic!("{}: {e}", at()));
                assert_eq!(report.lost(), 0, "{}", at());
                storage.clock().advance(25 * 3600);
                for _ in 0..2 {
                    collect(&repository).unwrap_or_else(|e| panic!("{}: {e}", at()));
                }
                assert_eq!(checked(&repository).findings, [], "{}", at());
                assert_holds(&repository, id, &tree);
            },
        );
    }
}
