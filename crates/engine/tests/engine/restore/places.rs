//! Where things go: paths of the snapshot and paths below the destination.

use std::sync::Arc;

use holdfast_engine::Error;
use holdfast_engine::meta::Owner;
use holdfast_engine::ops::restore::{Choice, RestoreOptions};
use holdfast_testkit::{CompareOptions, MemoryDestination, MemoryTree};

use super::fixture::{Fixture, ancestor, at};

fn two_roots() -> (Fixture, holdfast_engine::repo::snapshots::SnapshotInfo) {
    let mut etc = MemoryTree::new();
    etc.file("hosts", "127.0.0.1").file("ssh/config", "Host *").directory("empty");
    etc.node_mut("").metadata.mode = 0o751;
    let mut anna = MemoryTree::new();
    anna.file("notes.txt", "notes").file("photos/1.jpg", vec![7; 300_000]);
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/etc", &etc), ("/home/users/anna", &anna)]);
    (fixture, snapshot)
}

fn paths(destination: &MemoryDestination) -> Vec<String> {
    let paths = destination.tree().paths();
    paths.into_iter().map(|path| String::from_utf8_lossy(&path).into_owned()).collect()
}

#[test]
fn a_whole_snapshot_recreates_its_paths() {
    let (fixture, snapshot) = two_roots();
    let destination = MemoryDestination::new();
    fixture.restore_all(&RestoreOptions::new(snapshot), &destination);
    let expected = [
        "etc",
        "etc/empty",
        "etc/hosts",
        "etc/ssh",
        "etc/ssh/config",
        "home",
        "home/users",
        "home/users/anna",
        "home/users/anna/notes.txt",
        "home/users/anna/photos",
        "home/users/anna/photos/1.jpg",
    ];
    assert_eq!(paths(&destination), expected);
    let tree = destination.tree();
    for (depth, path) in ["home", "home/users"].iter().enumerate() {
        let found = &tree.node(path).expect("ancestor").metadata;
        let wanted = ancestor(depth);
        assert_eq!((found.mode, found.mtime), (wanted.mode, wanted.mtime), "{path}");
    }
    assert_eq!(tree.node("etc").expect("root").metadata.mode, 0o751);
}

#[test]
fn ancestors_that_are_there_stay_as_they_are() {
    let (fixture, snapshot) = two_roots();
    let mut there = MemoryTree::new();
    there.directory("home");
    there.node_mut("home").metadata.mode = 0o777;
    let destination = MemoryDestination::over(there);
    fixture.restore_all(&RestoreOptions::new(snapshot), &destination);
    assert_eq!(destination.tree().node("home").expect("there").metadata.mode, 0o777);
}

#[test]
fn a_directory_gives_its_content_and_a_file_itself() {
    let (fixture, snapshot) = two_roots();
    let cases: [(&str, &[&str]); 6] = [
        ("/etc", &["empty", "hosts", "ssh", "ssh/config"]),
        ("/etc/ssh/", &["config"]),
        ("/etc/hosts", &["hosts"]),
        ("etc/ssh/config", &["config"]),
        (
            "/home",
            &[
                "users",
                "users/anna",
                "users/anna/notes.txt",
                "users/anna/photos",
                "users/anna/photos/1.jpg",
            ],
        ),
        ("/home/users/anna/photos", &["1.jpg"]),
    ];
    for (path, expected) in cases {
        let destination = MemoryDestination::new();
        fixture.restore_all(&at(&snapshot, path), &destination);
        assert_eq!(paths(&destination), expected, "{path}");
    }
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/etc"), &destination);
    assert_eq!(destination.tree().node("").expect("root").metadata.mode, 0o751);
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/home"), &destination);
    assert_eq!(destination.tree().node("").expect("root").metadata.mode, ancestor(0).mode);
    for path in ["/etc/nothing", "/usr", "/etcetera"] {
        let result = fixture.restore(&at(&snapshot, path), &MemoryDestination::new());
        assert!(matches!(result, Err(Error::NoSuchPath { .. })), "{path}");
    }
}

#[test]
fn in_place_writes_to_the_original_paths() {
    let (fixture, snapshot) = two_roots();
    let destination = MemoryDestination::new();
    let options = RestoreOptions { in_place: true, ..at(&snapshot, "/etc/ssh/config") };
    fixture.restore_all(&options, &destination);
    assert_eq!(paths(&destination), ["etc", "etc/ssh", "etc/ssh/config"]);
    assert_eq!(destination.tree().node("etc").expect("made").metadata.mode, 0o751);
    let destination = MemoryDestination::new();
    let options = RestoreOptions { in_place: true, ..at(&snapshot, "/home/users/anna/photos") };
    fixture.restore_all(&options, &destination);
    let expected = [
        "home",
        "home/users",
        "home/users/anna",
        "home/users/anna/photos",
        "home/users/anna/photos/1.jpg",
    ];
    assert_eq!(paths(&destination), expected);
    assert_eq!(destination.tree().node("home/users").expect("made").metadata.mode, 0o711);
}

#[test]
fn roots_may_be_a_file_or_everything() {
    let fixture = Fixture::new();
    let file = MemoryTree::single_file(&[5; 40_000]);
    let snapshot = fixture.backup(&[("/var/log/one", &file)]);
    for (options, expected) in [
        (RestoreOptions::new(snapshot.clone()), &["var", "var/log", "var/log/one"][..]),
        (at(&snapshot, "/var/log/one"), &["one"]),
        (at(&snapshot, "/var"), &["log", "log/one"]),
    ] {
        let destination = MemoryDestination::new();
        fixture.restore_all(&options, &destination);
        assert_eq!(paths(&destination), expected);
    }
    let mut all = MemoryTree::new();
    all.file("etc/hosts", "x").file("top", "y");
    let snapshot = fixture.backup(&[("/", &all)]);
    let destination = MemoryDestination::new();
    fixture.restore_all(&RestoreOptions::new(snapshot.clone()), &destination);
    destination.tree().assert_same(&all, &CompareOptions::default());
    let destination = MemoryDestination::new();
    fixture.restore_all(&at(&snapshot, "/etc"), &destination);
    assert_eq!(paths(&destination), ["hosts"]);
}

#[test]
fn a_filter_takes_what_it_wants_and_only_the_way_there() {
    let mut tree = MemoryTree::new();
    tree.file("a/b/c/wanted.txt", "1").file("a/b/other.bin", "2").file("x/y/no.bin", "3");
    tree.file("cache/wanted.txt", "4").file("top.txt", "5").directory("empty");
    tree.node_mut("a/b").metadata.mode = 0o701;
    let fixture = Fixture::new();
    let snapshot = fixture.backup(&[("/data", &tree)]);
    let filter = |path: &[u8], is_directory: bool| {
        assert!(path.starts_with(b"/data"), "{path:?}");
        match is_directory {
            true if path.ends_with(b"/cache") => Choice::Skip,
            true => Choice::Enter,
            false if path.ends_with(b".txt") => Choice::Take,
            false => Choice::Skip,
        }
    };
    for path in [None, Some(b"/data".to_vec())] {
        let destination = MemoryDestination::new();
        let prefix = if path.is_some() { "" } else { "data/" };
        let filter: Option<holdfast_engine::ops::restore::PathFilter> = Some(Arc::new(filter));
        let options = RestoreOptions { path, filter, ..RestoreOptions::new(snapshot.clone()) };
        fixture.restore_all(&options, &destination);
        let expected = ["a", "a/b", "a/b/c", "a/b/c/wanted.txt", "top.txt"];
        let mut expected: Vec<_> = expected.iter().map(|path| format!("{prefix}{path}")).collect();
        if !prefix.is_empty() {
            expected.insert(0, "data".into());
        }
        assert_eq!(paths(&destination), expected);
        let mode = destination.tree().node(format!("{prefix}a/b")).expect("way").metadata.mode;
        assert_eq!(mode, 0o701);
    }
}

#[test]
fn owners_are_mapped() {
    let (fixture, snapshot) = two_roots();
    let destination = MemoryDestination::new();
    let owners = |owner: &Owner| Owner { uid: owner.uid + 1, gid: 5, ..Owner::default() };
    let options =
        RestoreOptions { owners: Some(Arc::new(owners)), ..RestoreOptions::new(snapshot) };
    fixture.restore_all(&options, &destination);
    let tree = destination.tree();
    for path in ["etc", "etc/hosts", "etc/ssh", "home/users/anna/photos/1.jpg"] {
        let owner = &tree.node(path).expect("restored").metadata.owner;
        assert_eq!((owner.uid, owner.gid), (1001, 5), "{path}");
    }
    assert_eq!(tree.node("home").expect("made").metadata.owner.uid, 8);
}
