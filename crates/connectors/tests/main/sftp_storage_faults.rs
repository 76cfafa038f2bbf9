//! The storage over SFTP while connections break at any byte, stall, and servers go away: what was
//! reported is true, what is repeated takes place once, and nothing waits for ever.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::pool::SftpOptions;
use holdfast_connectors::sftp::storage::SftpStorage;
use holdfast_engine::hash::{ObjectId, Sha256, SnapshotId};
use holdfast_engine::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Direction, Proxy, SshdOptions};

use crate::scratch;
use crate::sftp_storage::{Server, storage, temporaries, without_extensions};

/// One connection, so that the bytes of a call are much the same each time.
fn single(server: &Server, proxy: &Proxy, path: &std::path::Path) -> SftpOptions {
    SftpOptions { connections: 1, ..server.options(proxy.port(), path) }
}

/// Where to cut: at once, and then all through a call that takes so many bytes.
fn places(bytes: u64) -> impl Iterator<Item = (Direction, u64)> {
    let places = (0..14).map(move |i| 1 + i * bytes / 14);
    places.flat_map(|at| [(Direction::Up, at), (Direction::Down, at)])
}

fn count(storage: &SftpStorage, folder: Folder) -> usize {
    let mut count = 0;
    storage.list(folder, &mut |_| count += 1).unwrap();
    count
}

fn soon(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "it takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn put_at_any_cut(server: &Server) {
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let storage = storage(single(server, &proxy, scratch.path()));
    storage.prepare().unwrap();
    for (i, (direction, bytes)) in places(900).enumerate() {
        let name = ObjectName::index(ObjectId::new([i as u8; 32]));
        let content = random_bytes(i as u64, 300);
        proxy.cut_after(direction, bytes);
        storage.put(&name, &content).unwrap();
        proxy.cut_every(direction, 0, 0);
        assert_eq!(storage.get(&name).unwrap(), content);
        assert_eq!(temporaries(scratch.path()), 0, "{direction:?} {bytes}");
        // Told as what it is, even if the reply of the first attempt is lost.
        proxy.cut_after(direction, bytes);
        let error = storage.put(&name, b"another").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::AlreadyExists, "{error:?}");
        proxy.cut_every(direction, 0, 0);
        assert_eq!(storage.get(&name).unwrap(), content);
        assert_eq!(temporaries(scratch.path()), 0, "{direction:?} {bytes}");
        if i % 2 == 0 {
            proxy.cut_after(direction, bytes / 2);
            storage.delete(&name).unwrap();
            proxy.cut_every(direction, 0, 0);
            assert!(storage.stat(&name).unwrap_err().is_not_found());
        }
    }
    assert!(proxy.cuts() >= 30, "only {} cuts", proxy.cuts());
    assert_eq!(count(&storage, Folder::Index), 14);
}

#[test]
fn a_put_and_a_delete_survive_a_cut_at_any_byte() {
    put_at_any_cut(&Server::start(SshdOptions::default()));
}

#[test]
fn a_put_survives_a_cut_at_any_byte_without_extensions() {
    put_at_any_cut(&without_extensions());
}

#[test]
fn the_name_of_a_snapshot_is_given_once() {
    for server in [Server::start(SshdOptions::default()), without_extensions()] {
        let proxy = Proxy::start(server.address()).unwrap();
        let scratch = scratch();
        let storage = storage(single(&server, &proxy, scratch.path()));
        storage.prepare().unwrap();
        let (mut lost, mut unknown) = (0, 0);
        for (i, (direction, bytes)) in places(1000).enumerate() {
            let name = ObjectName::snapshot(SnapshotId::new([i as u8; 16]));
            let seen = storage.pool().recorder();
            let sent = || seen.requests(Operation::Hardlink) + seen.requests(Operation::Rename);
            let before = sent();
            proxy.cut_after(direction, bytes);
            let answer = storage.put(&name, &[i as u8; 300]);
            proxy.cut_every(direction, 0, 0);
            assert!(sent() <= before + 1, "sent {} times", sent() - before);
            let there = storage.get(&name).is_ok();
            match answer {
                Ok(()) => assert!(there),
                Err(error) => {
                    assert_eq!(error.kind, StorageErrorKind::Unreachable, "{error:?}");
                    *(if there { &mut unknown } else { &mut lost }) += 1;
                }
            }
        }
        println!("{lost} did not take place, {unknown} did and were not confirmed");
        assert!(lost + unknown > 0, "no cut hit the request that matters");
        assert!(lost + unknown < 28, "nothing was repeated before it");
        // Removed behind everybody's back.
        let end = Instant::now() + Duration::from_secs(10);
        while temporaries(scratch.path()) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(temporaries(scratch.path()), 0);
    }
}

#[test]
fn an_upload_survives_cuts_at_any_byte() {
    for server in [Server::start(SshdOptions::default()), without_extensions()] {
        let proxy = Proxy::start(server.address()).unwrap();
        let scratch = scratch();
        let storage = storage(server.options(proxy.port(), scratch.path()));
        storage.prepare().unwrap();
        let upload = |bytes: &[u8]| {
            let mut upload = storage.upload().unwrap();
            for part in bytes.chunks(300_000) {
                upload.write(part).unwrap();
            }
            upload.finish(&ObjectName::pack(Sha256::of(bytes))).unwrap();
        };
        for (i, (direction, at)) in places(4000).enumerate() {
            let bytes = random_bytes(i as u64, 2500);
            proxy.cut_after(direction, at);
            upload(&bytes);
            proxy.cut_every(direction, 0, 0);
            assert!(storage.get(&ObjectName::pack(Sha256::of(&bytes))).unwrap() == bytes);
        }
        assert!(proxy.cuts() >= 14, "only {} cuts", proxy.cuts());
        // A long one, while all connections break again and again.
        let bytes = random_bytes(99, 40_000_001);
        proxy.cut_every(Direction::Up, 2_345_678, 10);
        upload(&bytes);
        assert!(storage.get(&ObjectName::pack(Sha256::of(&bytes))).unwrap() == bytes);
        assert!(proxy.cuts() >= 24, "only {} cuts", proxy.cuts());
        assert_eq!(count(&storage, Folder::Packs), 29);
        assert_eq!(temporaries(scratch.path()), 0);
    }
}

#[test]
fn an_upload_that_lost_what_was_confirmed_fails() {
    for server in [Server::start(SshdOptions::default()), without_extensions()] {
        let proxy = Proxy::start(server.address()).unwrap();
        let scratch = scratch();
        let storage = storage(single(&server, &proxy, scratch.path()));
        storage.prepare().unwrap();
        storage.put(&ObjectName::config(), b"config").unwrap();
        let bytes = random_bytes(5, 5 << 20);
        let (sent, rest) = bytes.split_at(2 << 20);
        let mut upload = storage.upload().unwrap();
        upload.write(sent).unwrap();
        let entries = std::fs::read_dir(scratch.path().join("packs")).unwrap().flatten();
        let mut files = entries.filter(|entry| entry.file_type().unwrap().is_file());
        let temporary = files.next().unwrap().path();
        soon(|| std::fs::read(&temporary).unwrap() == sent);
        // The confirmations come before this answer.
        storage.get(&ObjectName::config()).unwrap();
        // As of a server that lost power, with what it had not forced to disk.
        let damaged = std::fs::OpenOptions::new().write(true).open(&temporary).unwrap();
        damaged.write_all_at(&[0; 1 << 20], 0).unwrap();
        proxy.cut_all();
        upload.write(rest).unwrap();
        let error = upload.finish(&ObjectName::pack(Sha256::of(&bytes))).unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Io, "{error:?}");
        assert!(format!("{error:?}").contains("the connection broke"), "{error:?}");
        assert_eq!(count(&storage, Folder::Packs), 0);
        soon(|| temporaries(scratch.path()) == 0);
    }
}

#[test]
fn a_name_that_the_server_lost_again_is_an_error() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let storage = storage(single(&server, &proxy, scratch.path()));
    storage.prepare().unwrap();
    let name = ObjectName::pack(Sha256::of(b"pack"));
    let removals = || storage.pool().recorder().requests(Operation::Remove);
    let before = removals();
    proxy.set_latency(Duration::from_millis(500));
    std::thread::scope(|scope| {
        let put = scope.spawn(|| {
            let mut upload = storage.upload()?;
            upload.write(b"pack")?;
            upload.finish(&name)
        });
        // The name is given, and what follows is on its way.
        soon(|| removals() > before);
        proxy.cut_all();
        std::fs::remove_file(scratch.path().join(name.as_str())).unwrap();
        proxy.set_latency(Duration::ZERO);
        let error = put.join().unwrap().unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Unreachable, "{error:?}");
    });
    assert_eq!(temporaries(scratch.path()), 0);
    storage.put(&name, b"pack").unwrap();
}

#[test]
fn a_small_object_is_there_whatever_breaks_while_it_gets_its_name() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let storage = storage(single(&server, &proxy, scratch.path()));
    storage.prepare().unwrap();
    let removals = || storage.pool().recorder().requests(Operation::Remove);
    // The requests do not arrive; their answers do not; what they did is lost with them.
    for (n, (arrives, is_lost)) in [(false, false), (true, false), (true, true)].iter().enumerate()
    {
        let name = ObjectName::index(ObjectId::new([n as u8; 32]));
        let path = scratch.path().join(name.as_str());
        let before = removals();
        proxy.set_latency(Duration::from_millis(500));
        std::thread::scope(|scope| {
            let put = scope.spawn(|| storage.put(&name, b"segment"));
            soon(|| removals() > before);
            if *arrives {
                soon(|| path.exists() && temporaries(scratch.path()) == 0);
            }
            proxy.cut_all();
            if *is_lost {
                std::fs::remove_file(&path).unwrap();
            }
            proxy.set_latency(Duration::ZERO);
            put.join().unwrap().unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"segment");
        assert_eq!(temporaries(scratch.path()), 0);
    }
}

#[test]
fn listings_and_reads_are_whole_whatever_breaks() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let storage = storage(server.options(proxy.port(), scratch.path()));
    storage.prepare().unwrap();
    for i in 0..2000_u32 {
        let name = ObjectName::pack(Sha256::of(&i.to_le_bytes()));
        std::fs::write(scratch.path().join(name.as_str()), i.to_le_bytes()).unwrap();
        let name = ObjectName::index(Sha256::of(&i.to_le_bytes()));
        std::fs::write(scratch.path().join(name.as_str()), b"").unwrap();
    }
    let large = random_bytes(7, 30_000_000);
    std::fs::write(scratch.path().join("config"), &large).unwrap();
    for round in 0..8 {
        proxy.cut_every(Direction::Down, 20_000 + round * 31_000, 3);
        assert_eq!(count(&storage, Folder::Packs), 2000);
        assert_eq!(count(&storage, Folder::Index), 2000);
    }
    proxy.cut_every(Direction::Down, 6_000_000, 3);
    assert!(storage.get(&ObjectName::config()).unwrap() == large);
    let mut into = Vec::new();
    proxy.cut_every(Direction::Down, 4_000_000, 3);
    storage.get_range(&ObjectName::config(), 1000, 20_000_000, &mut into).unwrap();
    assert!(into == large[1000..20_001_000]);
    assert!(proxy.cuts() >= 20, "only {} cuts", proxy.cuts());
}

#[test]
fn a_network_that_stalls_is_given_up_by_all_at_once() {
    let server = Server::start(SshdOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let scratch = scratch();
    let mut options = server.options(proxy.port(), scratch.path());
    options.ssh.timeout = Duration::from_secs(1);
    options.patience = Duration::from_secs(2);
    let storage = storage(options);
    storage.prepare().unwrap();
    storage.put(&ObjectName::config(), b"config").unwrap();
    proxy.set_stalled(true);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for i in 0..16_u8 {
            let storage = &storage;
            scope.spawn(move || {
                let error = match i % 4 {
                    0 => storage.get(&ObjectName::config()).map(drop),
                    1 => storage.put(&ObjectName::index(ObjectId::new([i; 32])), &[i; 100]),
                    2 => storage.list(Folder::Keys, &mut |_| {}),
                    _ => storage.upload().map(drop),
                };
                assert_eq!(error.unwrap_err().kind, StorageErrorKind::Unreachable);
            });
        }
    });
    // Silence for two seconds, patience for two, an attempt to connect that takes one, and pauses.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    proxy.set_stalled(false);
    assert_eq!(storage.get(&ObjectName::config()).unwrap(), b"config");
}
