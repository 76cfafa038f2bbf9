//! Backups by the engine from an SFTP source: the same as from the local one, little that goes over
//! the wire when nothing changed, and nothing but whole snapshots when connections break.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_connectors::sftp::client::Operation;
use holdfast_connectors::sftp::pool::Pool;
use holdfast_connectors::sftp::source::SftpSourceOptions;
use holdfast_engine::compress::Level;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, RootSource, backup};
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{self, BlobReader, CreateOptions, Index, Repository};
use holdfast_engine::source::{Source, SourceErrorKind};
use holdfast_engine::tree::{Content, Entry, chunks, view};
use holdfast_engine::{Error, Result};
use holdfast_testkit::MemoryStorage;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Direction, Proxy, TreeFixture, TreeOptions};

use crate::scratch;
use crate::sftp_source::{Server, as_told, source};

fn repository() -> Repository {
    repo::open::create(Arc::new(MemoryStorage::new()), CreateOptions::default()).unwrap()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

fn run(repository: &Repository, source: impl Source + 'static, time: i64) -> Result<BackupReport> {
    let root = RootSource::new(b"/data", Arc::new(source));
    let options = BackupOptions {
        roots: vec![root],
        host: "server".into(),
        kind: "sftp".into(),
        program: "test".into(),
        time,
        writer: WriterOptions {
            level: Level::Zstd(1),
            threads: 2,
            budget: 32 << 20,
            ..WriterOptions::default()
        },
        ..BackupOptions::default()
    };
    backup(repository, &options, &NoMonitor, &Interrupt::new())
}

fn remote(pool: &Pool, root: &Path) -> impl Source + 'static {
    source(pool, root, SftpSourceOptions::default())
}

fn local(root: &Path) -> LocalSource {
    LocalSource::new(root, LocalSourceOptions::default()).unwrap()
}

/// Every path of a snapshot with its entry and content.
fn read_back(repository: &Repository, id: SnapshotId) -> BTreeMap<Vec<u8>, (Entry, Vec<u8>)> {
    let index = Index::load(repository, &repository.condemned_packs().unwrap()).unwrap();
    let reader = BlobReader::new(repository, &index);
    let snapshot = repository.snapshot(id).unwrap();
    let mut all = BTreeMap::new();
    for root in &snapshot.roots {
        for found in view::tree(&reader, root).unwrap().entries() {
            let found = found.unwrap();
            let content = content(&reader, &found.entry);
            all.insert(found.path(), (found.entry, content));
        }
    }
    all
}

fn content(reader: &BlobReader<'_>, entry: &Entry) -> Vec<u8> {
    let data = match &entry.content {
        Content::None => Vec::new(),
        Content::Inline(bytes) => bytes.clone(),
        Content::Member { bundle, number, .. } => {
            reader.bundle(bundle, *number).unwrap().member(*number).unwrap().to_vec()
        }
        content => {
            let mut data = Vec::new();
            let read = chunks::for_each(reader, content, &mut |chunk| {
                data.extend(reader.read(BlobKind::Chunk, &chunk.id)?);
                Ok(())
            });
            read.unwrap();
            data
        }
    };
    if entry.extents.is_empty() {
        return data;
    }
    let mut whole = vec![0; entry.metadata.size as usize];
    let mut rest = &data[..];
    for extent in &entry.extents {
        let (now, later) = rest.split_at(extent.length as usize);
        whole[extent.offset as usize..][..now.len()].copy_from_slice(now);
        rest = later;
    }
    whole
}

/// Panics unless a snapshot holds what is below `root`, as far as SFTP can tell.
fn assert_holds(repository: &Repository, id: SnapshotId, root: &Path) {
    let other = self::repository();
    let report = run(&other, local(root), 1).unwrap();
    let wanted = read_back(&other, report.snapshot.unwrap());
    let found = read_back(repository, id);
    let paths = |all: &BTreeMap<Vec<u8>, _>| -> Vec<String> {
        all.keys().map(|path| path.escape_ascii().to_string()).collect()
    };
    assert_eq!(paths(&found), paths(&wanted));
    for ((path, (entry, content)), (wanted, wanted_content)) in found.iter().zip(wanted.values()) {
        let shown = path.escape_ascii();
        assert_eq!(entry.error, "", "{shown}");
        assert_eq!(as_told(&entry.metadata), as_told(&wanted.metadata), "{shown}");
        assert_eq!(entry.target, wanted.target, "{shown}");
        assert!(content == wanted_content, "content of {shown}");
        assert!(entry.hard_link.is_empty() && entry.xattrs.is_empty());
    }
}

fn address(server: &Server) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, server.sshd.port()).into()
}

/// So many small files in directories of a hundred, all of long ago.
fn many_files(root: &Path, count: usize, length: impl Fn(usize) -> usize) {
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for i in 0..count {
        let directory = root.join(format!("{:03}", i / 100));
        if i % 100 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let path = directory.join(format!("file {i}"));
        fs::write(&path, random_bytes(i as u64, length(i))).unwrap();
        fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
    }
}

#[test]
fn a_backup_holds_what_a_local_one_holds() {
    let server = Server::start();
    let tree = TreeFixture::new(21, &TreeOptions { entries: 600, ..TreeOptions::default() });
    many_files(&tree.path("many"), 10_000, |i| i % 700);
    let pool = server.pool();
    let repository = repository();
    let first = run(&repository, remote(&pool, tree.root()), now()).unwrap();
    assert_eq!(first.errors, 0, "{:?}", first.unread);
    assert_holds(&repository, first.snapshot.unwrap(), tree.root());

    tree.mutate(100, 60).unwrap();
    // Compared with a first backup, since a file that was changed with its mtime set back shows in
    // nothing that SFTP tells.
    let report = run(&repository, remote(&pool, tree.root()), now()).unwrap();
    assert_eq!(report.errors, 0, "{:?}", report.unread);
    assert!(report.stats.files_unchanged > 10_000, "{:?}", report.stats);
    let fresh = self::repository();
    let whole = run(&fresh, remote(&pool, tree.root()), now()).unwrap();
    assert_holds(&fresh, whole.snapshot.unwrap(), tree.root());
}

#[test]
fn an_unchanged_tree_is_listed_and_not_read() {
    let server = Server::start();
    let directory = scratch();
    let root = directory.path();
    many_files(root, 3000, |i| 2000 + i);
    symlink("000", root.join("link")).unwrap();
    fs::write(root.join("big"), random_bytes(1, 5 << 20)).unwrap();
    let repository = repository();
    let pool = server.pool();
    // As if the first run had been tomorrow: what was written just now has settled by then.
    let tomorrow = now() + 86_400_000_000_000;
    let first = run(&repository, remote(&pool, root), tomorrow).unwrap();
    assert!(first.stats.bytes_read > 15 << 20);

    let pool = server.pool();
    let recorder = pool.recorder();
    let second = run(&repository, remote(&pool, root), tomorrow + 1).unwrap();
    let nothing = [Operation::Open, Operation::Read, Operation::Fstat, Operation::Readlink];
    assert_eq!(nothing.map(|operation| recorder.requests(operation)), [0; 4]);
    assert_eq!((second.stats.files_unchanged, second.stats.bytes_read), (3001, 0));
    assert_eq!(second.stats.blobs_new, 0);
    // 31 directories, each opened, looked at, listed to its end and closed; the root; names.
    assert_eq!(recorder.requests(Operation::Opendir), 31);
    assert_eq!(recorder.requests(Operation::Lstat), 32);
    let total = recorder.total();
    assert!(total < 31 * (3 + 7) + 10, "{total} requests");
    let received = recorder.bytes_received();
    assert!(received < 3002 * 150 + 20_000, "{received} bytes for 3 002 entries");
    assert!(recorder.bytes_sent() < 31 * 400 + 5000, "{} bytes", recorder.bytes_sent());

    // One file changes, one only its mode.
    fs::write(root.join("010/file 1010"), "changed").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(root.join("020/file 2020"), mode).unwrap();
    let pool = server.pool();
    let third = run(&repository, remote(&pool, root), tomorrow + 2).unwrap();
    assert_eq!(third.stats.files_changed, 2);
    assert_eq!(pool.recorder().requests(Operation::Open), 2);
    assert_holds(&repository, third.snapshot.unwrap(), root);
}

#[test]
fn a_file_written_again_within_its_second_is_read_again() {
    let server = Server::start();
    let directory = scratch();
    let path = directory.path().join("file");
    let pool = server.pool();
    let repository = repository();
    let second = SystemTime::now();
    let write = |text: &str, after: Duration| {
        fs::write(&path, text).unwrap();
        fs::File::open(&path).unwrap().set_modified(second + after).unwrap();
    };
    let read = |report: &BackupReport| {
        let all = read_back(&repository, report.snapshot.unwrap());
        String::from_utf8(all[&b"file"[..]].1.clone()).unwrap()
    };
    let whole = Duration::from_nanos(u64::from(
        1_000_000_000 - second.duration_since(UNIX_EPOCH).unwrap().subsec_nanos(),
    ));
    write("one of these", whole);
    let first = run(&repository, remote(&pool, directory.path()), now()).unwrap();
    assert_eq!(read(&first), "one of these");
    // The same length, and the same second.
    write("two of these", whole + Duration::from_millis(500));
    let again = run(&repository, remote(&pool, directory.path()), now()).unwrap();
    assert_eq!((again.stats.files_changed, read(&again)), (1, "two of these".into()));
    // A run that begins when the second is long over reads it a last time, the next one does not.
    for (later, changed) in [(60, 1), (61, 0)] {
        let time = now() + later * 1_000_000_000;
        let report = run(&repository, remote(&pool, directory.path()), time).unwrap();
        assert_eq!((report.stats.files_changed, read(&report)), (changed, "two of these".into()));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a figure for people")]
fn a_slow_line_is_kept_busy() {
    let server = Server::start();
    let directory = scratch();
    many_files(directory.path(), 2000, |i| 500 + i % 3000);
    for i in 0..200 {
        symlink("target", directory.path().join(format!("{:03}/link", i % 20)))
            .or_else(|_| symlink("target", directory.path().join(format!("link {i}"))))
            .unwrap();
    }
    let proxy = Proxy::start(address(&server)).unwrap();
    let pool = server.pool_at(proxy.address().port(), Duration::from_secs(60));
    let repository = repository();
    proxy.set_latency(Duration::from_millis(10));
    let start = Instant::now();
    let report = run(&repository, remote(&pool, directory.path()), now()).unwrap();
    let taken = start.elapsed();
    assert_eq!(report.errors, 0);
    let recorder = pool.recorder();
    eprintln!("2 000 files, 200 links at 20 ms: {taken:?}, {} requests", recorder.total());
    for (operation, most) in [
        (Operation::Open, 2000),
        (Operation::Read, 2000),
        (Operation::Fstat, 2000),
        (Operation::Readlink, 200),
        (Operation::Opendir, 21),
        (Operation::Lstat, 22),
        // Lists of a hundred names, and to the end as many more are asked for in advance.
        (Operation::Readdir, 21 * 7),
        (Operation::Close, 2021),
    ] {
        let requests = recorder.requests(operation);
        assert!(requests <= most, "{requests} times {operation}");
    }
    assert_holds(&repository, report.snapshot.unwrap(), directory.path());
}

#[test]
fn a_backup_survives_cuts() {
    let server = Server::start();
    let directory = scratch();
    let root = directory.path();
    many_files(root, 4000, |i| 1000 + i % 5000);
    for i in 0..3 {
        fs::write(root.join(format!("big {i}")), random_bytes(i, 9_000_000)).unwrap();
    }
    for i in 0..50 {
        symlink(format!("to {i}"), root.join(format!("link {i}"))).unwrap();
    }
    let proxy = Proxy::start(address(&server)).unwrap();
    let pool = server.pool_at(proxy.address().port(), Duration::from_secs(60));
    let repository = repository();
    proxy.cut_every(Direction::Down, 1_700_000, 20);
    let report = run(&repository, remote(&pool, root), now()).unwrap();
    assert_eq!(proxy.cuts(), 20);
    assert_eq!(report.errors, 0, "{:?}", report.unread);
    assert_holds(&repository, report.snapshot.unwrap(), root);

    // Within the listings alone.
    proxy.cut_every(Direction::Down, 60_000, 5);
    let cuts = proxy.cuts();
    let again = run(&repository, remote(&pool, root), now()).unwrap();
    assert!(proxy.cuts() > cuts, "nothing was cut");
    assert_eq!((again.errors, again.sum.files), (0, report.sum.files));
}

#[test]
fn a_big_file_goes_on_where_it_was_cut() {
    let server = Server::start();
    let directory = scratch();
    let content = random_bytes(9, 30_000_000);
    fs::write(directory.path().join("file"), &content).unwrap();
    let proxy = Proxy::start(address(&server)).unwrap();
    let pool = server.pool_at(proxy.address().port(), Duration::from_secs(60));
    let source = remote(&pool, directory.path());
    let batches = crate::sftp_source::batches(&source).unwrap();
    let mut file = source.open(&batches[1].directory, &batches[1].entries[0]).unwrap();
    let before = file.metadata().unwrap();
    proxy.cut_every(Direction::Down, 5_000_000, 8);
    let (mut buffer, mut read) = (vec![0; 512 << 10], Vec::new());
    while let bytes @ 1.. = file.read_at(read.len() as u64, &mut buffer).unwrap() {
        read.extend_from_slice(&buffer[..bytes]);
        assert!(bytes == buffer.len() || read.len() == content.len(), "short within the file");
    }
    assert!(read == content);
    assert!(proxy.cuts() >= 5, "{} cuts", proxy.cuts());
    proxy.cut_all();
    assert_eq!(file.metadata().unwrap(), before);
}

/// A backup during which the server goes away for good, after so many bytes.
fn without_server_after(bytes: u64, root: &Path) -> Result<BackupReport> {
    let server = Server::start();
    let proxy = Proxy::start(address(&server)).unwrap();
    let pool = server.pool_at(proxy.address().port(), Duration::from_secs(2));
    let repository = repository();
    pool.block_on(pool.lease(&mut pool.patience())).unwrap();
    proxy.cut_after(Direction::Down, bytes);
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            while proxy.cuts() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            proxy.set_refusing(true);
            proxy.cut_all();
        });
        run(&repository, remote(&pool, root), now())
    });
    if report.is_err() {
        let left = repository.snapshots().unwrap();
        assert!(left.is_empty(), "a snapshot of what could not be listed or read");
    }
    report
}

#[test]
fn without_the_server_there_is_no_snapshot() {
    let directory = scratch();
    let names = directory.path().join("names");
    fs::create_dir(&names).unwrap();
    for i in 0..300 {
        let below = names.join(format!("{i}"));
        fs::create_dir(&below).unwrap();
        for j in 0..30 {
            fs::write(below.join(format!("{j}")), "").unwrap();
        }
    }
    // Nothing to be read: the listings break.
    for bytes in [1, 20_000, 200_000] {
        let start = Instant::now();
        let error = without_server_after(bytes, &names).unwrap_err();
        let Error::Source(error) = error else { panic!("{error:?}") };
        assert_eq!(error.kind, SourceErrorKind::Unreachable);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
    // Listed soon, read long: small files, and a big one.
    let small = directory.path().join("small");
    many_files(&small, 1000, |_| 20_000);
    let big = directory.path().join("big");
    fs::create_dir(&big).unwrap();
    fs::write(big.join("file"), random_bytes(1, 30_000_000)).unwrap();
    for (bytes, root) in [(5_000_000, small), (10_000_000, big)] {
        let start = Instant::now();
        let error = without_server_after(bytes, &root).unwrap_err();
        let Error::Source(error) = error else { panic!("{error:?}") };
        assert_eq!((error.kind, error.operation), (SourceErrorKind::Unreachable, "read"));
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}

#[test]
#[ignore = "prints figures, asserts nothing"]
#[expect(clippy::print_stderr, reason = "figures for people")]
fn figures() {
    let server = Server::start();
    let directory = scratch();
    let (small, big) = (directory.path().join("small"), directory.path().join("big"));
    many_files(&small, 20_000, |i| 100 + i * 37 % 8000);
    fs::create_dir(&big).unwrap();
    fs::write(big.join("file"), random_bytes(1, 512 << 20)).unwrap();
    let proxy = Proxy::start(address(&server)).unwrap();
    for latency in [0, 20] {
        proxy.set_latency(Duration::from_millis(latency / 2));
        let port = if latency == 0 { server.sshd.port() } else { proxy.address().port() };
        for (what, root) in [("small files", &small), ("one big file", &big)] {
            let repository = repository();
            for round in ["first", "unchanged"] {
                let pool = server.pool_at(port, Duration::from_secs(60));
                let start = Instant::now();
                let report = run(&repository, remote(&pool, root), now() + 60_000_000_000).unwrap();
                let seconds = start.elapsed().as_secs_f64();
                eprintln!(
                    "{latency} ms, {what}, {round}: {seconds:.2} s, {:.0} files/s, {:.0} MB/s, \
                     {} requests",
                    report.sum.files as f64 / seconds,
                    report.stats.bytes_read as f64 / 1e6 / seconds,
                    pool.recorder().total()
                );
                if round == "first" {
                    let start = Instant::now();
                    read_alone(&server.pool_at(port, Duration::from_secs(60)), root);
                    eprintln!("    the source alone: {:.2} s", start.elapsed().as_secs_f64());
                }
            }
        }
    }
}

/// Reads all files as the engine does, with eight threads, and stores nothing.
fn read_alone(pool: &Pool, root: &Path) {
    let source = remote(pool, root);
    let batches = crate::sftp_source::batches(&source).unwrap();
    let files = batches.iter().flat_map(|b| b.entries.iter().map(|e| (&*b.directory, e)));
    let files: Vec<_> = files.filter(|(_, entry)| entry.metadata.kind == Kind::File).collect();
    let next = std::sync::Mutex::new(files.chunks(64));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(batch) = next.lock().unwrap().next() else { return };
                    if batch[0].1.metadata.size < 1 << 20 {
                        let read = source.read_many(batch, 1 << 20, &mut Vec::new());
                        assert!(read.iter().all(|file| file.is_ok()));
                        continue;
                    }
                    let mut file = source.open(batch[0].0, batch[0].1).unwrap();
                    let (mut buffer, mut offset) = (vec![0; 512 << 10], 0);
                    while let bytes @ 1.. = file.read_at(offset, &mut buffer).unwrap() {
                        offset += bytes as u64;
                    }
                }
            });
        }
    });
}
