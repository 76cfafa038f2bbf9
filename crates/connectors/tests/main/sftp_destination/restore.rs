//! The engine's restore to an SFTP server, compared by an independent walker.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::destination::SftpDestination;
use holdfast_engine::destination::{Destination, DestinationErrorKind, Unset};
use holdfast_engine::format::keyslot::Cost;
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, Parent, RootSource, backup};
use holdfast_engine::ops::restore::{RestoreOptions, RestoreReport, restore};
use holdfast_engine::repo::open::{CreateOptions, create};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{Index, Repository};
use holdfast_testkit::{
    CompareOptions, Direction, Listing, MemoryStorage, MemoryTree, Proxy, TreeOptions,
};

use super::{Server, complete, good, is_root, metadata, no_temporary, plain};

/// A repository in memory with one snapshot, of `/data`.
pub(super) struct Snapshot {
    repository: Repository,
    info: SnapshotInfo,
}

impl Snapshot {
    pub(super) fn of(tree: &MemoryTree) -> Self {
        let options = CreateOptions { cost: Cost::default(), ..Default::default() };
        let repository = create(Arc::new(MemoryStorage::new()), options).unwrap();
        let options = BackupOptions {
            roots: vec![RootSource::new(b"/data", Arc::new(tree.source()))],
            host: "host".into(),
            kind: "local".into(),
            program: "test".into(),
            time: 1_700_000_000_000_000_000,
            parent: Parent::None,
            ..BackupOptions::default()
        };
        let report = backup(&repository, &options, &NoMonitor, &Interrupt::new()).unwrap();
        let id = report.snapshot.unwrap();
        let info = SnapshotInfo { id, record: repository.snapshot(id).unwrap() };
        Self { repository, info }
    }

    pub(super) fn restore(&self, to: &SftpDestination) -> RestoreReport {
        let options = RestoreOptions {
            path: Some(b"/data".to_vec()),
            ..RestoreOptions::new(self.info.clone())
        };
        let condemned = self.repository.condemned_packs().unwrap();
        let index = Index::load(&self.repository, &condemned).unwrap();
        let (monitor, interrupt) = (NoMonitor, Interrupt::new());
        restore(&self.repository, &index, &options, to, &monitor, &interrupt).unwrap()
    }
}

/// Whether SFTP has this kind.
fn is_kept(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Directory | Kind::Symlink)
}

/// What is left of a tree when all that SFTP cannot carry is taken away.
fn as_kept(tree: &MemoryTree, to: &SftpDestination) -> MemoryTree {
    let mut tree = tree.clone();
    let mut all = tree.paths();
    all.push(Vec::new());
    // Removing things moves the times of their directories.
    let truth: Vec<(Vec<u8>, Metadata)> = all
        .into_iter()
        .map(|path| (path.clone(), tree.node(&path).unwrap().metadata.clone()))
        .collect();
    for (path, metadata) in &truth {
        if !is_kept(metadata.kind) {
            tree.remove(path);
        }
    }
    for (path, metadata) in truth {
        if is_kept(metadata.kind) {
            let node = tree.node_mut(&path);
            node.metadata.mtime = to.kept_time(metadata.mtime);
            node.xattrs.clear();
        }
    }
    tree
}

fn options() -> CompareOptions {
    let all = CompareOptions::default();
    if is_root() { all } else { CompareOptions { owner: false, ..all } }
}

fn compare(tree: &MemoryTree, root: &Path) {
    Listing::of_memory(tree).assert_same(&Listing::of_disk(root).unwrap(), &options());
}

/// Restores, and checks that what failed is what SFTP does not have.
fn restored(snapshot: &Snapshot, tree: &MemoryTree, to: &SftpDestination) -> RestoreReport {
    let report = snapshot.restore(to);
    let special =
        tree.paths().iter().filter(|p| !is_kept(tree.node(p).unwrap().metadata.kind)).count();
    assert_eq!(report.failures, special as u64, "{:?}", report.failed);
    for (_, reason) in &report.failed {
        assert!(reason.contains("SFTP cannot make devices"), "{reason}");
    }
    report
}

fn generated(seed: u64) -> MemoryTree {
    let options = TreeOptions { entries: 300, privileged: is_root(), ..TreeOptions::default() };
    MemoryTree::generate(seed, &options)
}

#[test]
fn a_tree_comes_back_and_a_second_restore_changes_nothing() {
    for seed in [1, 2] {
        let tree = generated(seed);
        let snapshot = Snapshot::of(&tree);
        let server = Server::new();
        let (to, pool) = server.destination();
        let report = restored(&snapshot, &tree, &to);
        let kept = as_kept(&tree, &to);
        compare(&kept, &server.root());
        let all =
            Unset { xattrs: true, acls: true, times: true, fractions: true, ..Unset::default() };
        assert_eq!(report.unset, Unset { owner: !is_root() && report.unset.owner, ..all });

        let again = restored(&snapshot, &tree, &to);
        assert_eq!((again.files, again.bytes, again.replaced, again.deleted), (0, 0, 0, 0));
        assert_eq!(again.unchanged, report.files + report.others);
        compare(&kept, &server.root());

        // By itself it asks for nothing that is so already.
        let count = |operation| pool.recorder().requests(operation);
        let changes = [
            Operation::Open,
            Operation::Write,
            Operation::Fsetstat,
            Operation::Setstat,
            Operation::Lsetstat,
            Operation::Remove,
            Operation::Mkdir,
            Operation::Rmdir,
            Operation::Rename,
            Operation::PosixRename,
            Operation::Symlink,
            Operation::Hardlink,
        ];
        let before = changes.map(count);
        restored(&snapshot, &tree, &to);
        if is_root() {
            assert_eq!(changes.map(count), before);
        }
    }
}

#[test]
fn what_was_planted_in_the_target_leads_nothing_outside() {
    let tree = generated(3);
    let snapshot = Snapshot::of(&tree);
    let server = Server::new();
    let outside = server.scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"precious").unwrap();
    let root = server.root();
    fs::create_dir_all(root.join("edge/sort")).unwrap();
    symlink(&outside, root.join("edge/links")).unwrap();
    symlink(outside.join("new"), root.join("edge/names")).unwrap();
    symlink("../../../outside/precious", root.join("edge/sort/A")).unwrap();
    fs::create_dir(root.join("edge/sizes")).unwrap();
    symlink(outside.join("precious"), root.join("edge/sizes/257")).unwrap();
    fs::write(root.join("edge/sizes/256"), b"something else").unwrap();
    let (to, _) = server.destination();
    restored(&snapshot, &tree, &to);
    compare(&as_kept(&tree, &to), &root);
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn twenty_cuts_leave_the_tree_identical() {
    let mut tree = generated(4);
    for n in 0..12 {
        let content = holdfast_testkit::clock::random_bytes(n, 9 << 20);
        tree.file(format!("large/{n}"), content);
    }
    for n in 0..2000 {
        tree.file(format!("many/{}/{n}", n / 100), format!("content of {n}"));
    }
    let snapshot = Snapshot::of(&tree);
    for planted in [false, true] {
        let server = Server::new();
        if planted {
            // Directories that are there: every file takes the way of temporary names.
            fs::create_dir(server.root()).unwrap();
            for n in 0..20 {
                fs::create_dir_all(server.root().join(format!("many/{n}"))).unwrap();
            }
            fs::create_dir(server.root().join("large")).unwrap();
        }
        let proxy = Proxy::start(server.address()).unwrap();
        let (to, _) = server.through(&proxy);
        proxy.cut_every(Direction::Down, 45_000, 10);
        proxy.cut_every(Direction::Up, 6_000_000, 10);
        restored(&snapshot, &tree, &to);
        let cuts = proxy.cuts();
        assert!(cuts >= 20, "only {cuts} cuts");
        compare(&as_kept(&tree, &to), &server.root());
        restored(&snapshot, &tree, &to);
        compare(&as_kept(&tree, &to), &server.root());
    }
}

#[test]
fn servers_without_extensions_take_a_tree() {
    let mut tree = generated(5);
    let snapshot = Snapshot::of(&tree);
    let server = Server::without(
        "limits,posix-rename,hardlink,fsync,statvfs,lsetstat,users-groups-by-id,expand-path,\
         home-directory",
    );
    let (to, _) = server.destination();
    let report = restored(&snapshot, &tree, &to);
    assert!(report.unset.times);
    tree = as_kept(&tree, &to);
    // Links have the time of their making, and the account's owner; hard links are copies.
    for path in tree.paths_of(Kind::Symlink) {
        tree.remove(path);
    }
    let listing = Listing::of_memory(&tree);
    let options = CompareOptions { hard_links: false, directory_mtime: false, ..options() };
    let found = listing.differences(&Listing::of_disk(&server.root()).unwrap(), &options);
    assert!(found.iter().all(|line| line.contains("missing in memory")), "{found:#?}");
    restored(&snapshot, &generated(5), &to);
}

#[test]
fn a_file_that_lost_what_was_confirmed_is_an_error() {
    let server = Server::new();
    let proxy = Proxy::start(server.address()).unwrap();
    let (to, _) = server.through(&proxy);
    let m = metadata(Kind::File, 0o400);
    for is_lost in [true, false] {
        let file = good(to.create_file(b"big", 4 << 20, false));
        let part = |number: u64| vec![number as u8 + 1; 1 << 20];
        let write = |number: u64| good(file.write_at(number << 20, &part(number)));
        (0..2).for_each(write);
        if is_lost {
            // As of a server that lost power, with what it had not forced to disk.
            let temporary = fs::read_dir(server.root()).unwrap().next().unwrap().unwrap();
            let temporary = fs::OpenOptions::new().write(true).open(temporary.path()).unwrap();
            temporary.write_all_at(&[0; 1 << 20], 0).unwrap();
        }
        proxy.cut_all();
        (2..4).for_each(write);
        let finished = file.finish(plain(&m));
        if is_lost {
            let error = finished.unwrap_err();
            assert_eq!(error.kind, DestinationErrorKind::Io, "{}", error.text());
            assert!(error.text().contains("run the restore again"), "{}", error.text());
            assert!(!server.root().join("big").exists());
        } else {
            complete(finished);
            let content = fs::read(server.root().join("big")).unwrap();
            assert!((0..4).all(|n| content[(n as usize) << 20..][..1 << 20] == part(n)));
        }
        assert!(no_temporary(&server.root()));
    }
}

#[test]
fn a_file_in_place_whose_answer_was_lost_stays() {
    let server = Server::without("posix-rename");
    let proxy = Proxy::start(server.address()).unwrap();
    let (to, _) = server.through(&proxy);
    let m = metadata(Kind::File, 0o644);
    complete(to.write_file(b"f", b"old", plain(&m), false));
    let file = server.root().join("f");
    proxy.set_latency(Duration::from_millis(500));
    std::thread::scope(|scope| {
        let replaced = scope.spawn(|| to.write_file(b"f", b"new", plain(&m), true));
        // The answer to that is on its way.
        let end = Instant::now() + Duration::from_secs(60);
        while fs::read(&file).ok().as_deref() != Some(b"new") && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        proxy.cut_all();
        proxy.set_latency(Duration::ZERO);
        complete(replaced.join().unwrap());
    });
    assert!(proxy.cuts() > 0);
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert!(no_temporary(&server.root()));
}
