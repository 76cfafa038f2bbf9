//! Damage, refusals and interruptions: what fails is named, and the rest comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::blobs;
use holdfast_engine::Error;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::destination::{DestinationErrorKind, Unset};
use holdfast_engine::hash::BlobId;
use holdfast_engine::meta::Xattr;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::restore::{Choice, RestoreOptions, restore};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_engine::tree::read::read_node;
use holdfast_testkit::fault::Operation;
use holdfast_testkit::{CompareOptions, Fault, MemoryDestination, MemoryTree, Trouble};

use super::fixture::{Fixture, at, failed, is_interrupted, noise};

#[test]
fn a_damaged_blob_costs_its_files_alone() {
    let mut tree = MemoryTree::new();
    let shared = noise(1, 16 << 10);
    for i in 0..6 {
        // One chunk in common, the others of its own.
        let own = noise(10 + i, 150_000);
        let content = if i % 2 == 0 { [&shared[..], &own].concat() } else { own };
        tree.file(format!("big{i}"), content);
        tree.file(format!("small{i}"), noise(100 + i, 3000));
    }
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let id = fixture.repository.keys().blob_id(BlobKind::Chunk, &shared);
    let index = fixture.index();
    let place = index.find(&id).expect("find").expect("the shared chunk");
    let pack = index.pack(place.pack).expect("pack").expect("its pack");
    fixture.storage.corrupt(&ObjectName::pack(pack.id), |bytes| {
        bytes[place.offset as usize + 100] ^= 1;
    });
    let destination = MemoryDestination::new();
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    let paths: Vec<_> = failed(&report).into_iter().map(|(path, _)| path).collect();
    let mut sorted = paths.clone();
    sorted.sort();
    assert_eq!(sorted, ["/data/big0", "/data/big2", "/data/big4"], "{report:?}");
    assert_eq!(report.failures, 3);
    let mut expected = tree.clone();
    for path in ["big0", "big2", "big4"] {
        expected.remove(path);
    }
    let root = CompareOptions { root: false, ..CompareOptions::default() };
    destination.tree().assert_same(&expected, &root);
}

#[test]
fn what_parity_heals_costs_no_file() {
    let mut tree = MemoryTree::new();
    for i in 0..6 {
        tree.file(format!("big{i}"), noise(10 + i, 150_000));
        tree.file(format!("small{i}"), noise(100 + i, 3000));
    }
    let fixture = Fixture::new();
    fixture.repository.set_parity(true, 1).expect("setting");
    let snapshot = fixture.backup(&[("/data", &tree)]);
    for pack in fixture.storage.names_in(Folder::Packs) {
        fixture.storage.corrupt(&pack, |bytes| {
            let (from, run) = (bytes.len() / 3, bytes.len() * 3 / 100);
            bytes[from..from + run].fill(0);
        });
    }
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/data"), &destination);
    let root = CompareOptions { root: false, ..CompareOptions::default() };
    destination.tree().assert_same(&tree, &root);
}

#[test]
fn a_lost_pack_costs_what_was_in_it_and_a_copy_elsewhere_helps() {
    let mut tree = MemoryTree::new();
    tree.file("a", noise(1, 100_000)).file("b", noise(2, 5000)).symlink("c", "x");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let data: Vec<_> = fixture.storage.names_in(Folder::Packs);
    let index = fixture.index();
    let id = blobs(&index).iter().find(|(_, place)| !place.kind.is_structure()).expect("data").1;
    let pack = ObjectName::pack(index.pack(id.pack).expect("pack").expect("pack").id);
    assert!(data.contains(&pack) && fixture.storage.remove(&pack));
    let destination = MemoryDestination::new();
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    assert_eq!(report.failures, 2, "{report:?}");
    // The next backup uploads what is missing; a reader with the old index finds it.
    fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    let interrupt = Interrupt::new();
    let options = at(&snapshot, "/data");
    let report =
        restore(&fixture.repository, &index, &options, &destination, &NoMonitor, &interrupt)
            .expect("restore");
    assert_eq!(report.failures, 0, "{report:?}");
    destination.tree().assert_same(&tree, &CompareOptions::default());
}

#[test]
fn a_bad_read_is_tried_again() {
    let tree = MemoryTree::random(3, 100);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let calls = AtomicUsize::new(0);
    fixture.faults.set_plan(move |_, call| {
        let is_read = call.operation == Operation::GetRange;
        let number = calls.fetch_add(usize::from(is_read), Ordering::Relaxed);
        (is_read && number.is_multiple_of(3)).then_some(Fault::FlipBit)
    });
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/data"), &destination);
    destination.tree().assert_same(&tree, &CompareOptions::default());
}

#[test]
fn a_lost_leaf_of_the_tree_costs_its_entries_alone() {
    let mut tree = MemoryTree::new();
    for i in 0..3000 {
        tree.file(format!("file{i:04}-with-a-rather-long-name-so-that-leaves-fill"), "content");
    }
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let index = fixture.index();
    // The first leaf holds the root's entry.
    let reader = BlobReader::new(&fixture.repository, &index);
    let root = BlobId::from_slice(&snapshot.record.roots[0].tree).expect("tree");
    let mut root = read_node(&reader, &root).expect("root");
    while root.level > 1 {
        let first = BlobId::from_slice(&root.children[0].id).expect("node");
        root = read_node(&reader, &first).expect("node");
    }
    assert!(root.children.len() > 2, "an inner node that is not the last has three");
    let leaf = BlobId::from_slice(&root.children[1].id).expect("leaf");
    let place = index.find(&leaf).expect("find").expect("leaf");
    let pack = index.pack(place.pack).expect("pack").expect("pack");
    fixture.storage.corrupt(&ObjectName::pack(pack.id), |bytes| {
        bytes[place.offset as usize + 50] ^= 4;
    });
    let destination = MemoryDestination::new();
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    assert_eq!(report.failures, 1, "{:?}", failed(&report));
    assert!(report.files > 1500 && report.files < 3000, "{}", report.files);
}

#[test]
fn refused_paths_are_listed_and_the_rest_goes_on() {
    let mut tree = MemoryTree::new();
    tree.file("a", "a").file("dir/b", "b").file("dir/deep/c", noise(1, 60_000)).file("d", "d");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    destination.refuse("a", DestinationErrorKind::PermissionDenied);
    destination.refuse("dir", DestinationErrorKind::PermissionDenied);
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    let mut paths: Vec<_> = failed(&report).into_iter().map(|(path, _)| path).collect();
    paths.sort();
    assert_eq!(paths, ["/data/a", "/data/dir"]);
    assert_eq!(report.failures, 5, "with all that was to go into the directory");
    assert_eq!(destination.tree().paths(), [b"d"]);
}

#[test]
fn what_stands_where_a_link_cannot_be_made_stays() {
    let mut tree = MemoryTree::new();
    tree.file("a", "new").hard_link("b", "a");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let restored = |kind| {
        let mut before = MemoryTree::new();
        before.file("b", "what was there");
        let destination = MemoryDestination::over(before);
        destination.refuse_links(kind);
        let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
        let content = destination.tree().node("b").expect("b").content.to_vec();
        (report.failures, content, destination.tree().paths().len())
    };
    let refused = restored(DestinationErrorKind::PermissionDenied);
    assert_eq!(refused, (1, b"what was there".to_vec(), 2));
    // Where there are no links, it is a file of its own.
    assert_eq!(restored(DestinationErrorKind::Unsupported), (0, b"new".to_vec(), 2));
}

#[test]
fn no_space_ends_the_restore() {
    let tree = MemoryTree::random(4, 300);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    let files = tree.paths_of(holdfast_engine::meta::Kind::File);
    for path in &files {
        destination.refuse(path, DestinationErrorKind::NoSpace);
    }
    match fixture.restore(&at(&snapshot, "/data"), &destination) {
        Err(Error::Destination(e)) => assert_eq!(e.kind, DestinationErrorKind::NoSpace),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_set_is_told_and_the_rest_is_there() {
    for path in ["small", "big", "link", "directory"] {
        let mut tree = MemoryTree::new();
        tree.file("small", "small").file("big", noise(1, 150_000));
        tree.symlink("link", "small").directory("directory");
        let xattr = Xattr { name: b"user.note".to_vec(), value: b"note".to_vec() };
        tree.node_mut(path).xattrs = vec![xattr];
        let fixture = Fixture::new();
        let snapshot = fixture.backup(&[("/data", &tree)]);
        let destination = MemoryDestination::new();
        let cannot = Unset { xattrs: true, ..Unset::default() };
        destination.set_unset(cannot);
        let report = fixture.restore_all(&at(&snapshot, "/data"), &destination);
        assert_eq!(report.unset, cannot, "{path}");
        tree.node_mut(path).xattrs = Vec::new();
        let root = CompareOptions { root: false, ..CompareOptions::default() };
        destination.tree().assert_same(&tree, &root);
    }
}

#[test]
fn what_could_not_be_backed_up_is_said_again() {
    let mut tree = MemoryTree::new();
    tree.file("unreadable", "secret").file("fine", "fine");
    tree.trouble("unreadable", Trouble::Unreadable);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    let failed = failed(&report);
    assert_eq!(failed.len(), 1);
    assert!(failed[0].1.contains("when it was backed up"), "{failed:?}");
    assert_eq!(destination.tree().paths(), [b"fine"]);
}

#[test]
fn an_interrupted_restore_leaves_nothing_half_and_can_be_resumed() {
    let mut tree = MemoryTree::random(6, 400);
    tree.file("large", noise(1, 3 << 20));
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let mut interruptions = 0;
    for after in [0, 1, 50, 300] {
        let interrupt = Arc::new(Interrupt::new());
        let reads = AtomicUsize::new(0);
        let raise = interrupt.clone();
        let index = fixture.index();
        fixture.faults.set_plan(move |_, call| {
            if call.operation == Operation::GetRange
                && reads.fetch_add(1, Ordering::Relaxed) == after / 50
            {
                raise.raise();
            }
            None
        });
        let destination = MemoryDestination::new();
        let options = RestoreOptions { threads: 2, ..at(&snapshot, "/data") };
        let result =
            restore(&fixture.repository, &index, &options, &destination, &NoMonitor, &interrupt);
        fixture.faults.clear_faults();
        interruptions += usize::from(is_interrupted(&result));
        // What is there under its name is whole.
        let partial = destination.tree();
        for path in partial.paths_of(holdfast_engine::meta::Kind::File) {
            assert!(partial.content(&path) == tree.content(&path), "{path:?}");
        }
        fixture.restore_all(&options, &destination);
        destination.tree().assert_same(&tree, &CompareOptions::default());
    }
    assert!(interruptions >= 2, "{interruptions}");
}

#[test]
fn an_interrupt_from_the_filter_ends_it_too() {
    let tree = MemoryTree::random(8, 200);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let interrupt = Arc::new(Interrupt::new());
    let raise = interrupt.clone();
    let filter = move |_: &[u8], _: bool| {
        raise.raise();
        Choice::Take
    };
    let options = RestoreOptions { filter: Some(Arc::new(filter)), ..at(&snapshot, "/data") };
    let index = fixture.index();
    let destination = MemoryDestination::new();
    let result =
        restore(&fixture.repository, &index, &options, &destination, &NoMonitor, &interrupt);
    assert!(is_interrupted(&result));
}
