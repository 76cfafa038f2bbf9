//! The engine on a repository over SFTP: backups and restores while connections break and the
//! server restarts, crashes, damage, and what a run costs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_connectors::sftp::client;
use holdfast_connectors::sftp::pool::SftpOptions;
use holdfast_engine::hash::{ObjectId, Sha256, SnapshotId};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, check};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{self, OpenOptions, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::record::{Operation, RecordStorage};
use holdfast_testkit::{Direction, Fault, FaultStorage, MemoryTree, Proxy, SshdOptions};

use crate::repositories::{
    assert_restores, back_up, checked, repository, secret, tree, try_back_up, try_repository,
};
use crate::scratch;
use crate::sftp_storage::{Server, storage, temporaries};

#[test]
fn a_backup_and_a_restore_survive_twenty_cuts_each() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let make = || storage(server.options(proxy.port(), scratch.path()));
    let tree = tree(8);
    let repository = repository(make());
    proxy.set_latency(Duration::from_millis(2));
    // At random counts of bytes, up and down; all of them before the last quarter is sent.
    let cut = |direction: Direction, average: u64, done: &AtomicBool| {
        let before = proxy.cuts();
        for (i, random) in random_bytes(direction as u64, 20).into_iter().enumerate() {
            let bytes = 10_000 + average * 2 * u64::from(random) / 256;
            // Replies are few while much is sent, and the other way round.
            let (direction, bytes) = match (direction, i % 4) {
                (Direction::Up, 3) => (Direction::Down, 1000 + bytes / 2000),
                (Direction::Down, 3) => (Direction::Up, 1000 + bytes / 2000),
                _ => (direction, bytes),
            };
            proxy.cut_after(direction, bytes);
            while proxy.cuts() == before + i as u64 && !done.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        for direction in [Direction::Up, Direction::Down] {
            proxy.cut_every(direction, 0, 0);
        }
        proxy.cuts() - before
    };
    let during = |direction, work: &mut dyn FnMut()| {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let cuts = scope.spawn(|| cut(direction, 1_500_000, &done));
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            done.store(true, Ordering::SeqCst);
            let cuts = cuts.join().unwrap();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(cuts, 20, "of {direction:?}");
        });
    };
    let mut snapshot = None;
    during(Direction::Up, &mut || snapshot = Some(back_up(&repository, &tree, 1)));
    let snapshot = snapshot.unwrap();
    assert_eq!(temporaries(scratch.path()), 0);
    during(Direction::Down, &mut || assert_restores(&repository, &snapshot, &tree));
    // And from another connection, with nothing cut.
    proxy.set_latency(Duration::ZERO);
    let again = try_repository(make()).unwrap();
    assert!(checked(&again).findings.is_empty());
    assert_restores(&again, &snapshot, &tree);
}

#[test]
fn a_server_may_restart_in_the_middle() {
    let mut server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let storage = FaultStorage::new(server.storage(scratch.path()));
    let repository = repository(storage.clone());
    let tree = tree(6);
    let (mut writes, restarts) = (0, Arc::new(AtomicUsize::new(0)));
    let count = restarts.clone();
    // Before the second part of what is on its way, and again when something has got on.
    storage.set_plan(move |_, call| {
        if call.operation == holdfast_testkit::Operation::Write {
            writes += 1;
            if [2, 12, 22].contains(&writes) {
                server.sshd.restart_with(&[]).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
        None
    });
    let snapshot = back_up(&repository, &tree, 1);
    assert!(restarts.load(Ordering::SeqCst) > 0);
    assert_restores(&repository, &snapshot, &tree);
    assert_eq!(temporaries(scratch.path()), 0);
}

/// Changes every object on the server, one at a time.
#[test]
fn damage_on_the_server_is_named() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let path = scratch.path().join("repository");
    let repository = repository(server.storage(&path));
    let tree = tree(1);
    back_up(&repository, &tree, 1);
    assert!(checked(&repository).findings.is_empty());
    type Damage = (&'static str, fn(&Path, &[u8]));
    let ways: [Damage; 3] = [
        ("flip", |path, bytes| {
            let mut bytes = bytes.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            std::fs::write(path, bytes).unwrap();
        }),
        ("cut", |path, bytes| std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap()),
        ("delete", |path, _| std::fs::remove_file(path).unwrap()),
    ];
    for folder in ["packs", "index", "snapshots"] {
        for (name, object) in files(&path.join(folder)) {
            let bytes = std::fs::read(&object).unwrap();
            for (way, damage) in ways {
                damage(&object, &bytes);
                let report = checked(&repository);
                std::fs::write(&object, &bytes).unwrap();
                // That a snapshot or a segment is gone, nobody can tell from the rest.
                if way == "delete" && folder != "packs" {
                    continue;
                }
                let found = report.findings.iter().any(|finding| finding.object.contains(&name));
                assert!(found, "{way} {folder}/{name}: {:?}", report.findings);
            }
        }
    }
    assert!(checked(&repository).findings.is_empty());
}

/// Files below a directory, by name.
fn files(below: &Path) -> BTreeMap<String, std::path::PathBuf> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.file_name().into_string().unwrap(), entry.path());
        }
    }
    found
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_committed() {
    let server = Server::start(SshdOptions::default());
    let old = MemoryTree::random(9, 60);
    let mut tree = old.clone();
    tree.file("new", random_bytes(1, 200_000));
    let calls = {
        let scratch = scratch();
        let storage = FaultStorage::new(server.storage(scratch.path()));
        let repository = repository(storage.clone());
        back_up(&repository, &old, 1);
        storage.calls()
    };
    let mut committed = 0;
    for k in (0..calls + 2).step_by(3) {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let scratch = scratch();
            let first = back_up(&repository(server.storage(scratch.path())), &old, 1);
            let storage = FaultStorage::new(server.storage(scratch.path()));
            storage.fail_at(k, fault);
            let outcome = try_repository(storage.clone()).and_then(|r| try_back_up(&r, &tree, 2));
            drop(storage);
            // The next process, and the next backup.
            let repository = repository(server.storage(scratch.path()));
            let report = checked(&repository);
            assert!(!report.is_damaged(), "{k} {fault:?}: {:?}", report.findings);
            assert_restores(&repository, &first, &old);
            if let Ok(report) = outcome {
                committed += 1;
                let id = report.snapshot.unwrap();
                let info = SnapshotInfo { id, record: repository.snapshot(id).unwrap() };
                assert_restores(&repository, &info, &tree);
            }
            let again = back_up(&repository, &tree, 3);
            assert_restores(&repository, &again, &tree);
        }
    }
    println!("{calls} calls, {committed} committed");
}

#[test]
fn a_backup_of_nothing_new_is_a_handful_of_calls() {
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let tree = tree(1);
    back_up(&repository(server.storage(scratch.path())), &tree, 1);
    let far = Arc::new(server.storage(scratch.path()));
    let recorder = far.pool().recorder();
    let record = Arc::new(RecordStorage::new(far.clone()));
    let opened: Arc<dyn Storage> = record.clone();
    let options = OpenOptions { secret: Some(secret()), cache: None };
    let repository = repo::open::open(opened, options).unwrap();
    record.take_calls();
    let before = recorder.total();
    try_back_up(&repository, &tree, 2).unwrap();
    let calls = record.take_calls();
    let (listings, others): (Vec<_>, Vec<_>) =
        calls.iter().partition(|call| call.operation == Operation::List);
    println!(
        "{} calls and {} listings, {} SFTP requests",
        others.len(),
        listings.len(),
        recorder.total() - before
    );
    assert!(others.len() <= 8, "{others:#?}");
    // Of the 256 directories of packs, which take four each, and 77 more.
    assert!(recorder.total() - before <= 1200);
}

/// Far away, a command takes as long as the answers that it waits for one after the other.
#[test]
fn few_answers_are_waited_for() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let options = server.options(proxy.port(), scratch.path());
    let storage = storage(SftpOptions { connections: 1, ..options });
    storage.prepare().unwrap();
    proxy.set_latency(Duration::from_millis(20));
    let answers = |work: &dyn Fn()| {
        let before = proxy.answers();
        work();
        proxy.answers() - before
    };
    let forced = || storage.pool().recorder().requests(client::Operation::Fsync);
    // Of several tries, each with a session of its own: a busy machine lets answers come apart.
    let put = |name: &dyn Fn(SnapshotId) -> ObjectName, files: u64| {
        let tries = (0..4).map(|n| {
            let (name, before) = (name(SnapshotId::new([n; 16])), forced());
            let waited = answers(&|| storage.put(&name, b"content").unwrap());
            assert_eq!(forced() - before, files, "{name}");
            waited
        });
        tries.min()
    };
    // Open, write, name (and force the names to disk, that of a session's directory too, which is made
    // on the way).
    assert_eq!(put(&|id| ObjectName::session(id, 0), 3), Some(3));
    assert_eq!(put(&ObjectName::session_end, 2), Some(3));
    assert_eq!(put(&ObjectName::snapshot, 2), Some(3));
    let list = || {
        let waited = answers(&|| storage.list(Folder::Packs, &mut |_| {}).unwrap());
        assert!((3..7).contains(&waited), "{waited} for 256 directories");
    };
    list();
    assert_eq!(put(&|id| ObjectName::pack(Sha256::of(id.as_bytes())), 2), Some(3));
    list();
    assert_eq!(temporaries(scratch.path()), 0);
}

#[test]
fn a_server_computes_checksums() {
    let check_by = |repository: &Repository| {
        let options = CheckOptions { server_checksums: true, ..CheckOptions::default() };
        check(repository, &options, &NoMonitor, &Interrupt::new()).unwrap()
    };
    let server = Server::start(SshdOptions::default());
    let scratch = scratch();
    let path = scratch.path().join("a repository's \"place\" & $(more)");
    let made = repository(server.storage(&path));
    let tree = tree(3);
    back_up(&made, &tree, 1);
    let far = Arc::new(server.storage(&path));
    let names: Vec<_> = files(&path.join("packs")).into_keys().collect();
    let mut asked: Vec<_> =
        names.iter().map(|name| ObjectName::pack(ObjectId::from_hex(name).unwrap())).collect();
    asked.push(ObjectName::pack(ObjectId::new([7; 32])));
    let told = far.sha256(&asked).unwrap().unwrap();
    let told: Vec<_> = told.into_iter().map(|id| id.map(|id| id.to_string())).collect();
    let wanted: Vec<_> = names.iter().cloned().map(Some).chain([None]).collect();
    assert_eq!(told, wanted);

    let with = |options: SftpOptions| repository(storage(options));
    let options = server.options(server.sshd.port(), &path);
    let report = check_by(&with(options.clone()));
    assert_eq!((report.packs_hashed, report.packs_read), (names.len() as u64, 0));
    // Not where that was ruled out, nor where the shell sees something else.
    let off = SftpOptions { disable_hash_check: true, ..options.clone() };
    assert_eq!(check_by(&with(off)).packs_read, names.len() as u64);
    let elsewhere = scratch.path().join("volume");
    let shell_path = Some(format!("{}/", elsewhere.display()));
    let mapped = SftpOptions { shell_path, ..options.clone() };
    assert_eq!(check_by(&with(mapped.clone())).packs_read, names.len() as u64);
    let seen_by_shell = elsewhere.join(path.strip_prefix("/").unwrap());
    std::fs::create_dir_all(seen_by_shell.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&path, seen_by_shell).unwrap();
    assert_eq!(check_by(&with(mapped)).packs_read, 0);

    // Damage is found there, and named after reading.
    let (name, object) = files(&path.join("packs")).pop_first().unwrap();
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let report = check_by(&with(options));
    assert_eq!((report.packs_hashed, report.packs_read), (names.len() as u64 - 1, 1));
    assert!(report.findings.iter().any(|f| f.object.contains(&name)), "{:?}", report.findings);
}

#[test]
fn checksums_by_other_commands_and_by_none() {
    let scratch = scratch();
    let path = scratch.path().join("repository");
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let set_path = format!("SetEnv SHLVL=2 PATH={}", bin.display());
    let server = Server::start(SshdOptions { extra: vec![set_path], ..SshdOptions::default() });
    let fresh = repository(server.storage(&path));
    back_up(&fresh, &tree(1), 1);
    let (name, _) = files(&path.join("packs")).pop_first().unwrap();
    let asked = [ObjectName::pack(ObjectId::from_hex(&name).unwrap())];
    let told = || server.storage(&path).sha256(&asked).unwrap();
    assert_eq!(told(), None);
    let right = Some(vec![Some(ObjectId::from_hex(&name).unwrap())]);
    std::os::unix::fs::symlink("/usr/bin/shasum", bin.join("shasum")).unwrap();
    assert_eq!(told(), right);
    // A command of this name that does something else is not believed.
    std::fs::remove_file(bin.join("shasum")).unwrap();
    let script = |text: &str| {
        std::fs::write(bin.join("sha256sum"), text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join("sha256sum"), mode).unwrap();
    };
    script(&format!("#!/bin/sh\nfor f; do echo \"{name}  $f\"; done\n"));
    assert_eq!(told(), None);
    script("#!/bin/sh\nexec /usr/bin/sha256sum \"$@\"\n");
    assert_eq!(told(), right);

    // A server that runs SFTP whatever is asked.
    let extra = vec!["ForceCommand internal-sftp".into()];
    let server = Server::start(SshdOptions { extra, ..SshdOptions::default() });
    assert_eq!(server.storage(&path).sha256(&asked).unwrap(), None);
}
