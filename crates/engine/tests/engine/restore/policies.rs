//! What happens to what is there already.

use std::sync::Arc;

use holdfast_engine::meta::{Kind, Time};
use holdfast_engine::ops::restore::{Choice, Overwrite, RestoreOptions};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_testkit::{CompareOptions, MemoryDestination, MemoryTree};

use super::fixture::{Fixture, at, failed, noise};

fn set_time(tree: &mut MemoryTree, path: &str, seconds: i64) {
    tree.node_mut(path).metadata.mtime = Time { seconds, nanos: 1 };
}

/// The snapshot holds four files of time 1000; an older, a newer and an equal one are there.
fn four_files() -> (Fixture, SnapshotInfo, MemoryTree, MemoryTree) {
    let mut tree = MemoryTree::new();
    let mut there = MemoryTree::new();
    for name in ["older", "newer", "equal", "missing"] {
        tree.file(name, format!("from the snapshot: {name}"));
        set_time(&mut tree, name, 1000);
    }
    there.file("older", "old").file("newer", "new").file("equal", "FROM THE SNAPSHOT: equal");
    set_time(&mut there, "older", 900);
    set_time(&mut there, "newer", 1100);
    set_time(&mut there, "equal", 1000);
    there.node_mut("equal").metadata.mode = 0o600;
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    (fixture, snapshot, tree, there)
}

#[test]
fn every_policy_does_what_it_says() {
    let (fixture, snapshot, _, there) = four_files();
    let cases = [
        (Overwrite::Always, ["older", "newer", "equal", "missing"].as_slice(), [3, 0, 0]),
        (Overwrite::IfChanged, &["older", "newer", "missing"], [2, 1, 0]),
        (Overwrite::IfNewer, &["older", "missing"], [1, 1, 1]),
        (Overwrite::Never, &["missing"], [0, 1, 2]),
    ];
    for (overwrite, replaced, [replacements, unchanged, skipped]) in cases {
        let destination = MemoryDestination::over(there.clone());
        let options = RestoreOptions { overwrite, ..at(&snapshot, "/data") };
        let report = fixture.restore_all(&options, &destination);
        let tree = destination.tree();
        for name in ["older", "newer", "equal", "missing"] {
            let is_new = tree.content(name).starts_with(b"from the snapshot");
            assert_eq!(is_new, replaced.contains(&name), "{overwrite:?} {name}");
        }
        assert_eq!(
            [report.created, report.replaced, report.unchanged, report.skipped],
            [1, replacements, unchanged, skipped],
            "{overwrite:?}"
        );
        let mode = tree.node("equal").expect("there").metadata.mode;
        let is_fixed = matches!(overwrite, Overwrite::Always | Overwrite::IfChanged);
        assert_eq!(mode == 0o644, is_fixed, "{overwrite:?}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_replaced() {
    let mut tree = MemoryTree::new();
    tree.symlink("link", "this");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    // Of the same length and time.
    let mtime = tree.node("link").expect("link").metadata.mtime;
    tree.remove("link").symlink("link", "that");
    tree.node_mut("link").metadata.mtime = mtime;
    for (overwrite, target) in [
        (Overwrite::IfChanged, b"this"),
        (Overwrite::Always, b"this"),
        (Overwrite::IfNewer, b"that"),
        (Overwrite::Never, b"that"),
    ] {
        let destination = MemoryDestination::over(tree.clone());
        fixture.restore_all(&RestoreOptions { overwrite, ..at(&snapshot, "/data") }, &destination);
        assert_eq!(destination.tree().node("link").expect("link").target, target, "{overwrite:?}");
    }
}

#[test]
fn what_cannot_be_made_removes_nothing() {
    let mut tree = MemoryTree::new();
    tree.special("device", Kind::CharDevice, Some((1, 3)));
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let mut there = MemoryTree::new();
    there.file("device", "precious");
    let destination = MemoryDestination::over(there);
    destination.refuse_specials();
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    assert_eq!((report.failures, report.replaced), (1, 0));
    assert_eq!(destination.tree().content("device"), b"precious");
}

#[test]
fn verifying_finds_content_that_time_and_size_hide() {
    let (fixture, snapshot, tree, there) = four_files();
    let destination = MemoryDestination::over(there);
    let options = RestoreOptions { verify: true, ..at(&snapshot, "/data") };
    let dry = RestoreOptions { dry_run: true, ..options.clone() };
    assert_eq!(fixture.restore_all(&dry, &destination).replaced, 3);
    assert_eq!(fixture.restore_all(&options, &destination).replaced, 3);
    destination.tree().assert_same(&tree, &CompareOptions::default());
    assert_eq!(fixture.restore_all(&dry, &destination).unchanged, 4);
}

#[test]
fn verifying_reads_every_form_of_content() {
    let mut tree = MemoryTree::new();
    tree.file("inline", "tiny").file("member", noise(1, 5000)).file("chunk", noise(2, 150_000));
    tree.file("list", noise(3, 2 << 20)).file("empty", "");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/data"), &destination);
    let options = RestoreOptions { verify: true, ..at(&snapshot, "/data") };
    assert_eq!(fixture.restore_all(&options, &destination).unchanged, 5);
    let mut changed = destination.tree();
    for path in ["inline", "member", "chunk", "list"] {
        let mtime = changed.node(path).expect("file").metadata.mtime;
        let mut content = changed.content(path).to_vec();
        *content.last_mut().expect("content") ^= 1;
        changed.set_content(path, content);
        changed.node_mut(path).metadata.mtime = mtime;
    }
    let destination = MemoryDestination::over(changed);
    assert_eq!(fixture.restore_all(&at(&snapshot, "/data"), &destination).unchanged, 5);
    assert_eq!(fixture.restore_all(&options, &destination).replaced, 4);
    destination.tree().assert_same(&tree, &CompareOptions::default());
}

#[test]
fn something_of_another_kind_is_in_the_way() {
    let mut tree = MemoryTree::new();
    tree.file("file", "f").file("dir/inner", "i").symlink("link", "x");
    tree.special("fifo", Kind::Fifo, None);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let mut there = MemoryTree::new();
    there.file("file/precious", "p").symlink("dir", "elsewhere").file("link", "l");
    there.symlink("fifo", "y").file("elsewhere/untouched", "u");

    let destination = MemoryDestination::over(there.clone());
    let report = fixture.restore(&at(&snapshot, "/data"), &destination).expect("restore");
    let reason = "a directory is in the way".to_owned();
    assert_eq!(failed(&report), [("/data/file".to_owned(), reason)]);
    let after = destination.tree();
    assert_eq!(after.content("file/precious"), b"p");
    assert_eq!(after.content("dir/inner"), b"i");
    assert_eq!(after.node("link").expect("link").target, b"x");
    assert_eq!(after.node("fifo").expect("fifo").metadata.kind, Kind::Fifo);
    assert!(after.node("elsewhere/inner").is_none(), "a planted link was followed");

    let destination = MemoryDestination::over(there.clone());
    let options = RestoreOptions { delete: true, ..at(&snapshot, "/data") };
    fixture.restore_all(&options, &destination);
    destination.tree().assert_same(&tree, &CompareOptions::default());

    let destination = MemoryDestination::over(there.clone());
    let options = RestoreOptions { overwrite: Overwrite::Never, ..at(&snapshot, "/data") };
    let report = fixture.restore(&options, &destination).expect("restore");
    assert_eq!(destination.changes(), 0);
    assert_eq!(report.skipped, 4);
    assert_eq!(report.failures, 1, "what was to go into the directory");
}

#[test]
fn delete_stays_within_restored_directories_and_honours_the_filter() {
    let mut tree = MemoryTree::new();
    tree.file("kept/a", "a").directory("empty").file("b", "b");
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/home/data", &tree)]);
    let mut there = MemoryTree::new();
    there.file("home/data/kept/a", "a").file("home/data/kept/extra/deep", "1");
    there.file("home/data/empty/extra", "2").file("home/data/extra", "3");
    there.file("home/data/old/x.keep", "4").file("home/data/old/y", "5");
    there.symlink("home/data/kept/link", "../../neighbour");
    there.file("home/neighbour/file", "6").file("other", "7");
    let filter = |path: &[u8], _: bool| match path.ends_with(b".keep") {
        true => Choice::Skip,
        false => Choice::Take,
    };
    let filter: Option<holdfast_engine::ops::restore::PathFilter> = Some(Arc::new(filter));
    let options = RestoreOptions { delete: true, filter, ..RestoreOptions::new(snapshot.clone()) };
    let destination = MemoryDestination::over(there.clone());
    let dry = RestoreOptions { dry_run: true, ..options.clone() };
    let planned = fixture.restore_all(&dry, &destination);
    assert_eq!((planned.deleted, destination.changes()), (6, 0));
    assert_eq!(fixture.restore_all(&options, &destination).deleted, 6);
    let left: Vec<_> = destination.tree().paths();
    let left: Vec<_> = left.iter().map(|path| String::from_utf8_lossy(path)).collect();
    let expected = [
        "home",
        "home/data",
        "home/data/b",
        "home/data/empty",
        "home/data/kept",
        "home/data/kept/a",
        "home/data/old",
        "home/data/old/x.keep",
        "home/neighbour",
        "home/neighbour/file",
        "other",
    ];
    assert_eq!(left, expected);
}
