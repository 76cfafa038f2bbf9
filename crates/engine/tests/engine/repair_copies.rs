//! `repair packs` where a blob has several copies: in packs that are damaged as well, that a gc has
//! condemned, or of which nobody knows yet that they are damaged. What counts in the end can be
//! relied upon.

use std::collections::BTreeSet;

use crate::common::{assert_holds, back_up, blobs, memory, repository as repository_in};
use holdfast_engine::Error;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::{BlobId, ObjectId, SnapshotId};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::gc::{GcOptions, GcReport, gc};
use holdfast_engine::ops::repair::{RepairPacksOptions, RepairPacksReport, packs};
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{WriterOptions, with_writer};
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{ObjectName, Storage};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Fault, FaultStorage, MemoryStorage, MemoryTree, Operation};

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    tree.file("one", random_bytes(1, 300_000));
    tree
}

fn collect(repository: &Repository) -> GcReport {
    let options = GcOptions { threads: 1, max_unused: 0.0, ..GcOptions::default() };
    gc(repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc")
}

fn mend(repository: &Repository, only: Option<ObjectId>) -> Result<RepairPacksReport, Error> {
    let store = WriterOptions { threads: 1, ..WriterOptions::default() };
    let packs_of = only.map(|id| [id].into());
    let options =
        RepairPacksOptions { packs: packs_of, store, threads: 1, ..RepairPacksOptions::default() };
    packs(repository, &options, &NoMonitor, &Interrupt::new())
}

/// A repository in which every chunk lies in two packs.
struct Twice {
    storage: MemoryStorage,
    repository: Repository,
    snapshot: SnapshotId,
    /// One chunk, and the packs that hold it.
    chunk: BlobId,
    packs: [ObjectId; 2],
}

impl Twice {
    fn new() -> Self {
        let (storage, repository) = memory();
        // It knows nothing of what is stored from now on.
        let session = Session::begin(&repository, Writer::default()).expect("session");
        let snapshot = back_up(&repository, &tree(), 1).snapshot.expect("snapshot");
        let index = Index::load(&repository, &BTreeSet::new()).expect("index");
        let reader = BlobReader::new(&repository, &index);
        let all = blobs(&index);
        let chunks: Vec<_> = all.iter().filter(|(_, p)| p.kind == BlobKind::Chunk).collect();
        with_writer(&repository, session.index(), WriterOptions::default(), |writer| {
            for (id, _) in &chunks {
                let plain = reader.read(BlobKind::Chunk, id)?;
                assert!(!writer.known_or_claim(id));
                writer.put(BlobKind::Chunk, *id, 0, plain)?;
            }
            writer.flush()
        })
        .expect("second copies");
        session.end("done").expect("end");
        let (chunk, _) = *chunks[0];
        let index = Index::load(&repository, &BTreeSet::new()).expect("index");
        let places = index.places(&chunk).expect("places");
        let pack = |n: usize| index.pack(places[n].pack).expect("index").expect("pack").id;
        let packs = [pack(0), pack(1)];
        drop(reader);
        Self { storage, snapshot, chunk, packs, repository }
    }

    /// Damages the chunk in a pack.
    fn break_chunk(&self, pack: ObjectId) {
        let index = Index::load(&self.repository, &BTreeSet::new()).expect("index");
        for place in index.places(&self.chunk).expect("places") {
            if index.pack(place.pack).expect("index").expect("pack").id == pack {
                let at = (place.offset + place.sealed / 2) as usize;
                self.storage.corrupt(&ObjectName::pack(pack), |bytes| bytes[at] ^= 1);
            }
        }
    }

    /// Damages the end of a pack: all blobs open.
    fn break_end(&self, pack: ObjectId) {
        let name = ObjectName::pack(pack);
        self.storage.corrupt(&name, |bytes| *bytes.last_mut().expect("byte") ^= 1);
    }

    /// A gc condemns one of the copies and goes no further; which.
    fn condemn_one(&self) -> ObjectId {
        let session = Session::begin(&self.repository, Writer::default()).expect("session");
        assert_eq!(collect(&self.repository).waiting.len(), 1);
        session.end("done").expect("end");
        let condemned = self.repository.condemned_packs().expect("condemned");
        let gone: Vec<_> = self.packs.iter().filter(|id| condemned.contains(id)).collect();
        assert_eq!(gone.len(), 1, "one copy is a spare");
        *gone[0]
    }

    /// How many whole copies count.
    fn counting(&self) -> usize {
        let condemned = self.repository.condemned_packs().expect("condemned");
        let index = Index::load(&self.repository, &condemned).expect("index");
        let places = index.places(&self.chunk).expect("places");
        let usable = places.iter().filter(|place| index.is_usable(place.pack));
        usable.filter(|place| self.opens(&index, place.pack)).count()
    }

    fn opens(&self, index: &Index, number: u32) -> bool {
        let pack = index.pack(number).expect("index").expect("pack").id;
        let bytes = self.storage.get(&ObjectName::pack(pack)).expect("pack");
        holdfast_engine::hash::Sha256::of(&bytes) == pack
    }

    fn ends_well(&self) {
        for _ in 0..2 {
            collect(&self.repository);
        }
        assert_holds(&self.repository, self.snapshot, &tree());
        assert_eq!(mend(&self.repository, None).expect("repair").packs, [], "nothing is damaged");
    }
}

#[test]
fn two_damaged_packs_make_one_copy() {
    let twice = Twice::new();
    for pack in twice.packs {
        twice.break_end(pack);
    }
    let report = mend(&twice.repository, None).expect("repair");
    assert_eq!((report.packs.len(), report.condemned, report.lost()), (2, 2, 0));
    let of_both = |count: fn(&_) -> u64| report.packs.iter().map(count).sum::<u64>();
    let (copied, elsewhere) = (of_both(|pack| pack.copied), of_both(|pack| pack.elsewhere));
    assert_eq!(copied, elsewhere, "{report:?}");
    assert_eq!(twice.counting(), 1, "neither counts on the other");
    twice.ends_well();
}

#[test]
fn what_one_damaged_pack_lost_the_other_one_has() {
    // Which of them comes first is a matter of their names.
    for number in [0, 1].into_iter().cycle().take(6) {
        let twice = Twice::new();
        twice.break_chunk(twice.packs[number]);
        twice.break_end(twice.packs[1 - number]);
        let report = mend(&twice.repository, None).expect("repair");
        assert_eq!((report.condemned, report.lost()), (2, 0), "{report:?}");
        assert_eq!(twice.counting(), 1);
        twice.ends_well();
    }
}

#[test]
fn a_copy_on_its_way_out_is_not_relied_upon_but_read() {
    for lost in [false, true] {
        let twice = Twice::new();
        let spare = twice.condemn_one();
        let kept = twice.packs.into_iter().find(|id| *id != spare).expect("the other");
        if lost {
            twice.break_chunk(kept);
        } else {
            twice.break_end(kept);
        }
        let report = mend(&twice.repository, Some(kept)).expect("repair");
        assert_eq!((report.condemned, report.lost()), (1, 0), "{report:?}");
        assert!(report.packs[0].copied > 0 && report.packs[0].elsewhere == 0, "{report:?}");
        assert_eq!(twice.counting(), 1, "lost {lost}");
        twice.ends_well();
    }
}

#[test]
fn a_copy_elsewhere_counts_only_if_it_opens() {
    let twice = Twice::new();
    for pack in twice.packs {
        twice.break_chunk(pack);
    }
    let report = mend(&twice.repository, Some(twice.packs[0])).expect("repair");
    assert_eq!(report.lost(), 1, "{report:?}");
}

#[test]
fn a_repair_that_was_shut_out_says_so() {
    let twice = Twice::new();
    twice.break_end(twice.packs[0]);
    let gentle = twice.storage.clone();
    let faulty = FaultStorage::new(twice.storage.clone());
    // It sleeps for a day before it condemns, and a gc takes it for dead.
    let mut is_first = true;
    faulty.set_plan(move |_, call| {
        if is_first && call.operation == Operation::Put && call.object.starts_with("condemned/") {
            is_first = false;
            gentle.clock().advance(25 * 3600);
            collect(&repository_in(gentle.clone()));
        }
        None::<Fault>
    });
    let error = mend(&repository_in(faulty), Some(twice.packs[0])).expect_err("shut out");
    assert!(matches!(error, Error::Fenced), "{error}");
    mend(&twice.repository, None).expect("once more");
    twice.ends_well();
}
