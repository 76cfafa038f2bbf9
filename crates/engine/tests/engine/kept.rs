//! What the cache keeps of snapshots and notes: read once from the storage, one file however many
//! there are, and of no harm when it is damaged, torn or of another age.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{back_up, memory, repository, secret};
use holdfast_engine::hash::{RecordId, SnapshotId};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::notes::{Change, Notes};
use holdfast_engine::repo::open::{OpenOptions, open};
use holdfast_engine::storage::ObjectName;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::fault::Operation;
use holdfast_testkit::{FaultStorage, MemoryStorage, MemoryTree};

/// A repository with some snapshots, as a machine sees it that has a cache.
struct World {
    storage: MemoryStorage,
    counted: FaultStorage<MemoryStorage>,
    repository: Repository,
    _cache: tempfile::TempDir,
}

impl World {
    fn new(snapshots: usize) -> Self {
        let ((storage, _), cache) = (memory(), tempfile::tempdir().expect("directory"));
        let counted = FaultStorage::new(storage.clone());
        let options = OpenOptions { secret: Some(secret()), cache: Some(cache.path().to_owned()) };
        let repository = open(Arc::new(counted.clone()), options).expect("open");
        let world = Self { storage, counted, repository, _cache: cache };
        for n in 0..snapshots {
            world.add(n);
        }
        world
    }

    /// By another machine, so that this one's cache has nothing of it.
    fn add(&self, n: usize) -> SnapshotId {
        let mut tree = MemoryTree::new();
        tree.file("file", format!("{n}").repeat(n + 1).into_bytes());
        let report = back_up(&repository(self.storage.clone()), &tree, n as i64 + 1);
        report.snapshot.expect("snapshot")
    }

    fn file(&self, folder: &str) -> PathBuf {
        self.repository.cache().expect("cache").join(format!("{folder}.kept"))
    }

    /// All that is visible, and how many objects of `folder` were read from the storage for it.
    fn listed(&self, folder: &str) -> (Vec<SnapshotId>, usize) {
        self.counted.reset_log();
        let found = self.repository.snapshots().expect("snapshots");
        let log = self.counted.log();
        let is_read = |object: &str| object.starts_with(folder);
        let reads = log.iter().filter(|c| c.operation == Operation::Get && is_read(&c.object));
        (found.iter().map(|info| info.id).collect(), reads.count())
    }
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).expect("metadata").len()
}

#[test]
fn what_was_read_is_read_once() {
    let world = World::new(9);
    let (all, reads) = world.listed("snapshots");
    assert_eq!((all.len(), reads), (9, 9));
    assert_eq!(world.listed("snapshots"), (all.clone(), 0));
    let new = world.add(9);
    assert_eq!(world.listed("snapshots"), ([all, vec![new]].concat(), 1));
    assert_eq!(world.listed("snapshots").1, 0);
    // Whoever opens it next reads the same file.
    let options = OpenOptions {
        secret: Some(secret()),
        cache: world.repository.cache().and_then(Path::parent).map(Path::to_owned),
    };
    let again = open(Arc::new(world.counted.clone()), options).expect("open");
    world.counted.reset_log();
    assert_eq!(again.snapshots().expect("snapshots").len(), 10);
    assert!(world.counted.log().iter().all(|call| !call.object.starts_with("snapshots/")));
}

#[test]
fn a_damaged_file_costs_what_was_in_it() {
    let world = World::new(9);
    let (all, _) = world.listed("snapshots");
    let whole = std::fs::read(world.file("snapshots")).expect("read");
    for at in (0..whole.len()).step_by(7) {
        for cut in [false, true] {
            let mut bytes = whole.clone();
            match cut {
                true => bytes.truncate(at),
                false => bytes[at] ^= 0x11,
            }
            std::fs::write(world.file("snapshots"), &bytes).expect("write");
            let (found, reads) = world.listed("snapshots");
            assert_eq!(found, all, "{at} {cut}");
            assert!(reads > 0, "{at} {cut}: the damage was there");
            assert_eq!(world.listed("snapshots"), (all.clone(), 0), "{at} {cut}: mended");
        }
    }
    let noise = random_bytes(1, whole.len());
    std::fs::write(world.file("snapshots"), noise).expect("write");
    assert_eq!(world.listed("snapshots"), (all.clone(), 9));
    // A place where nothing can be written.
    std::fs::remove_file(world.file("snapshots")).expect("remove");
    std::fs::create_dir(world.file("snapshots")).expect("directory");
    assert_eq!(world.listed("snapshots"), (all.clone(), 9));
    assert_eq!(world.listed("snapshots"), (all, 9));
}

#[test]
fn what_is_forgotten_leaves_the_file() {
    let world = World::new(20);
    let (all, _) = world.listed("snapshots");
    let before = length(&world.file("snapshots"));
    let notes = Notes::default();
    for (n, id) in all.iter().enumerate().take(18) {
        world.repository.forget(*id, &notes).expect("forget");
        assert_eq!(world.listed("snapshots").0.len(), 19 - n);
        let kept = length(&world.file("snapshots"));
        assert!(kept <= before * (2 * (20 - n as u64)) / 20, "{n}: {kept} of {before}");
    }
    assert_eq!(world.listed("snapshots"), (all[18..].to_vec(), 0));
    assert!(length(&world.file("snapshots")) < before / 4);
}

/// What is said of a snapshot that is not there is of no interest, readable or not.
#[test]
fn notes_of_others_do_not_count() {
    let world = World::new(3);
    let (all, _) = world.listed("snapshots");
    let record = RecordId::new([7; 16]);
    world.storage.plant(&ObjectName::note(all[1], record), b"damaged".to_vec());
    let unreadable =
        || world.repository.snapshots_with_notes().expect("notes").1.unreadable().count();
    assert_eq!(unreadable(), 1);
    world.storage.remove(&ObjectName::snapshot(all[1]));
    assert_eq!(unreadable(), 0);
}

/// Those that are shut out are read beside the visible ones, and do not take their place.
#[test]
fn the_shut_out_are_not_kept() {
    let world = World::new(6);
    let (all, _) = world.listed("snapshots");
    let shut_out = ObjectName::fence_confirmed(all[2]);
    world.storage.plant(&shut_out, b"x".to_vec());
    let (visible, _) = world.listed("snapshots");
    assert_eq!(visible.len(), 5);
    assert_eq!(world.repository.shut_out_snapshots().expect("hidden").len(), 1);
    assert_eq!(world.listed("snapshots"), (visible, 0));
}

#[test]
fn notes_are_kept_too_and_the_newest_count() {
    let world = World::new(3);
    let machine = repository(world.storage.clone());
    let tags = |world: &World| {
        let found = world.repository.snapshots().expect("snapshots");
        found.iter().map(|info| info.record.tags.join(",")).collect::<Vec<_>>()
    };
    for (n, expected) in ["a", "a,b", "a,b,c"].iter().enumerate() {
        let (found, notes) = machine.snapshots_with_notes().expect("notes");
        let tag = ["a", "b", "c"][n].to_owned();
        let change = Change { add_tags: vec![tag], ..Change::default() };
        machine.annotate(&found[1], &notes, &change, n as i64).expect("annotate");
        assert_eq!(world.listed("notes").1, 1);
        assert_eq!(world.listed("notes").1, 0);
        assert_eq!(tags(&world), ["", expected, ""]);
    }
}
