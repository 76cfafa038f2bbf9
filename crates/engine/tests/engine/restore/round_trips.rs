//! What was backed up comes back, with all that is known of it.

use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::restore::{RestoreOptions, preview, restore};
use holdfast_testkit::{CompareOptions, Listing, MemoryDestination, MemoryTree, TreeOptions};

use super::fixture::{Fixture, at, noise};

fn exact() -> CompareOptions {
    CompareOptions { sparse: Some(0), ..CompareOptions::default() }
}

#[test]
fn every_kind_comes_back_and_a_second_restore_changes_nothing() {
    for seed in [1, 2, 3] {
        let options = TreeOptions { entries: 300, privileged: true, ..TreeOptions::default() };
        let tree = MemoryTree::generate(seed, &options);
        let fixture = Fixture::new();
        let snapshot = fixture.backup(&[("/data", &tree)]);
        let destination = MemoryDestination::new();
        let report = fixture.restore_all(&at(&snapshot, "/data"), &destination);
        destination.tree().assert_same(&tree, &exact());
        assert_eq!(report.replaced + report.unchanged + report.skipped + report.deleted, 0);
        let sum = snapshot.record.roots[0].sum.unwrap_or_default();
        assert_eq!(report.files, sum.files);
        assert_eq!(report.directories, sum.directories);
        assert_eq!(report.others, sum.others);

        let changes = destination.changes();
        let again = fixture.restore_all(&at(&snapshot, "/data"), &destination);
        destination.tree().assert_same(&tree, &exact());
        assert_eq!(again.unchanged, sum.files + sum.others, "{again:?}");
        assert_eq!((again.files, again.others, again.bytes, again.attributes), (0, 0, 0, 0));
        let directories = usize::try_from(sum.directories).expect("few");
        assert_eq!(destination.changes() - changes, directories, "directories alone are set");
    }
}

#[test]
fn default_chunks_and_one_thread_give_the_same() {
    let mut tree = MemoryTree::random(9, 120);
    tree.file("big", noise(1, 9 << 20)).file("twice", noise(1, 9 << 20)).file("empty", "");
    let fixture = Fixture::with_chunks(None);
    let snapshot = fixture.backup(&[("/data", &tree)]);
    for (threads, memory) in [(1, 1), (3, 64 << 20)] {
        let destination = MemoryDestination::new();
        let options = RestoreOptions { threads, memory, ..at(&snapshot, "/data") };
        fixture.restore_all(&options, &destination);
        destination.tree().assert_same(&tree, &exact());
    }
}

#[test]
fn sparse_files_keep_their_holes() {
    let mut tree = MemoryTree::new();
    tree.sparse_file(
        "many",
        4 << 20,
        &[(8192, noise(1, 70_000)), (1 << 20, noise(2, 300_000)), (3 << 20, noise(3, 5))],
    );
    tree.sparse_file("end", 1 << 20, &[(500_000, noise(4, 100))]);
    tree.sparse_file("small", 1 << 20, &[(4096, noise(5, 5000)), (65_536, noise(6, 10))]);
    tree.sparse_file("hole", 1 << 20, &[]);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    let report = fixture.restore_all(&at(&snapshot, "/data"), &destination);
    destination.tree().assert_same(&tree, &exact());
    assert_eq!(report.bytes, 70_000 + 300_000 + 5 + 100 + 5010);
    let verify = RestoreOptions { verify: true, ..at(&snapshot, "/data") };
    assert_eq!(fixture.restore_all(&verify, &destination).unchanged, 4);
}

#[test]
fn hard_links_are_links_again_also_after_a_resume() {
    let mut tree = MemoryTree::new();
    tree.file("a/first", noise(1, 100_000)).file("b/small", "small");
    tree.hard_link("a/second", "a/first").hard_link("c/third", "a/first");
    tree.hard_link("c/other", "b/small").symlink("s", "target").hard_link("t", "s");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/data"), &destination);
    destination.tree().assert_same(&tree, &exact());
    // A copy in the place of a link is no link.
    let mut changed = destination.tree();
    let mtime = changed.node("a/first").expect("file").metadata.mtime;
    changed.remove("c/third").file("c/third", noise(1, 100_000));
    changed.node_mut("c/third").metadata.mtime = mtime;
    let destination = MemoryDestination::over(changed);
    let report = fixture.restore_all(&at(&snapshot, "/data"), &destination);
    destination.tree().assert_same(&tree, &exact());
    assert_eq!(report.files, 1);
}

#[test]
fn the_first_of_several_links_may_be_out_of_reach() {
    let mut tree = MemoryTree::new();
    tree.file("a/first", noise(1, 100_000));
    tree.hard_link("b/second", "a/first").hard_link("b/third", "a/first");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/data/b"), &destination);
    let restored = destination.tree();
    assert_eq!(restored.content("second"), tree.content("a/first"));
    assert_eq!(restored.content("third"), tree.content("a/first"));
}

/// More entries than a window holds, and more directories than are kept in memory.
#[test]
fn windows_and_directories_beyond_memory() {
    let mut tree = MemoryTree::new();
    for i in 0..200 {
        for j in 0..360 {
            tree.directory(format!("d{i}/e{j}"));
            if j == 0 {
                tree.file(format!("d{i}/e{j}/file"), format!("{i}"));
            }
        }
    }
    tree.file("z/last", "last").hard_link("z/link", "d0/e0/file");
    tree.node_mut("d7").metadata.mode = 0o500;
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    let report = fixture.restore_all(&at(&snapshot, "/data"), &destination);
    destination.tree().assert_same(&tree, &exact());
    assert_eq!(report.directories, 200 + 200 * 360 + 2);
}

#[test]
fn a_preview_counts_what_the_restore_does_and_changes_nothing() {
    let tree = MemoryTree::random(5, 200);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let mut before = tree.clone();
    let edits = before.mutate(7, 60);
    let destination = MemoryDestination::over(before.clone());
    destination.set_free_space(Some(12_345));
    for delete in [false, true] {
        let options = RestoreOptions { delete, ..at(&snapshot, "/data") };
        let index = fixture.index();
        let interrupt = Interrupt::new();
        let planned =
            preview(&fixture.repository, &index, &options, &destination, &NoMonitor, &interrupt)
                .expect("preview");
        assert_eq!(destination.changes(), 0);
        assert_eq!(planned.free_space, Some(12_345));
        let real = MemoryDestination::over(before.clone());
        let done = fixture.restore(&options, &real).expect("restore");
        let counts = |r: &holdfast_engine::ops::restore::RestoreReport| {
            [r.created + r.replaced, r.unchanged, r.skipped, r.failures, r.deleted]
        };
        assert_eq!(counts(&planned), counts(&done), "{edits:?}\n{planned:?}\n{done:?}");
        if delete {
            real.tree().assert_same(&tree, &CompareOptions { sparse: None, ..exact() });
            assert_eq!(done.failures, 0);
        }
    }
}

#[test]
fn on_disk_it_is_the_same() {
    let options = TreeOptions { entries: 200, privileged: false, ..TreeOptions::default() };
    let mut tree = MemoryTree::generate(4, &options);
    tree.file("large", noise(1, 3 << 20)).hard_link("link", "large");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let directory = tempfile::tempdir().expect("directory");
    let destination = LocalDestination::new(directory.path(), LocalDestinationOptions::default());
    let compare = CompareOptions { sparse: None, ..CompareOptions::unprivileged() };
    for _ in 0..2 {
        let report = restore(
            &fixture.repository,
            &fixture.index(),
            &at(&snapshot, "/data"),
            &destination,
            &NoMonitor,
            &Interrupt::new(),
        )
        .expect("restore");
        assert_eq!(report.failures, 0, "{:?}", report.failed);
        let found = Listing::of_disk(directory.path()).expect("listing");
        found.assert_same(&Listing::of_memory(&tree), &compare);
    }
}
