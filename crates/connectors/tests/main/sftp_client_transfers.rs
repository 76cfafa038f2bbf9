//! Content through the SFTP client: large and small files, up and down, in pieces and streams.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use holdfast_connectors::sftp::client::{
    Attributes, ClientErrorKind, ClientOptions, File, OpenFlags, Operation, WriteSmall,
};
use holdfast_testkit::clock::random_bytes;

use crate::sftp_client::{Server, kind, soon};

const LARGE: usize = 40_000_003;

async fn create(server: &Server, name: &str) -> File {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
    server.client.open(&server.at(name), flags, &Attributes::default()).await.unwrap()
}

async fn open(server: &Server, path: &[u8]) -> File {
    server.client.open(path, OpenFlags::READ, &Attributes::default()).await.unwrap()
}

/// Without the extension, 32 KiB at once; with it, 255 KiB.
const SERVERS: [(&[&str], u64); 2] = [(&["-P", "limits"], 32 * 1024), (&[], 255 * 1024)];

#[tokio::test]
async fn large_files_go_up_and_come_down() {
    let content = random_bytes(1, LARGE);
    for (arguments, size) in SERVERS {
        let server = Server::new(arguments).await;
        let file = create(&server, "large").await;
        soon(file.write_at(0, &content)).await.unwrap();
        assert!(std::fs::read(server.local("large")).unwrap() == content);
        assert_eq!(server.requests(Operation::Write), (LARGE as u64).div_ceil(size));

        assert!(soon(file.read_range(0, LARGE)).await.unwrap() == content);
        assert_eq!(server.requests(Operation::Read), (LARGE as u64).div_ceil(size));
        let middle = file.read_range(1_234_567, 7_654_321).await.unwrap();
        assert!(middle == content[1_234_567..1_234_567 + 7_654_321]);
        // Beyond the end there is nothing, and that is no error.
        let rest = file.read_range(LARGE as u64 - 10, 5_000_000).await.unwrap();
        assert_eq!(rest, content[LARGE - 10..]);
        assert_eq!(file.read_range(LARGE as u64, 1000).await.unwrap(), b"");
        assert_eq!(file.read_range(1 << 62, 1000).await.unwrap(), b"");
        assert_eq!(file.read_range(7, 0).await.unwrap(), b"");
        assert_eq!(file.read(LARGE as u64, 10).await.unwrap(), None);
        assert_eq!(file.read(5, 10).await.unwrap().as_deref(), Some(&content[5..15]));
        file.sync().await.unwrap();
        file.close().await.unwrap();
    }
}

#[tokio::test]
async fn streams_keep_the_order() {
    let content = random_bytes(2, LARGE);
    for (arguments, size) in SERVERS {
        let server = Server::new(arguments).await;
        let mut writer = create(&server, "f").await.writer(100, 1 << 20);
        let mut at = 0;
        // Pieces of all sizes: none, single bytes, odd ones, whole ones, several at once.
        for length in [0, 1, 17, 32 * 1024, 255 * 1024, 1_000_001, 3 << 20].iter().cycle() {
            let piece = &content[at..(at + length).min(LARGE)];
            soon(writer.write(piece)).await.unwrap();
            at += piece.len();
            assert_eq!(writer.position(), 100 + at as u64);
            if at == LARGE {
                break;
            }
        }
        let file = writer.finish().await.unwrap();
        let on_disk = std::fs::read(server.local("f")).unwrap();
        assert!(on_disk[..100] == [0; 100] && on_disk[100..] == content);
        let writes = server.requests(Operation::Write);
        assert!(writes <= (LARGE as u64).div_ceil(size) + 1, "{writes} writes");

        for window in [1, 1 << 20, usize::MAX] {
            for length in [LARGE as u64, u64::MAX] {
                let file = open(&server, &server.at("f")).await;
                let mut reader = file.reader(100, length, window);
                let mut at = 0;
                while let Some(data) = soon(reader.next()).await.unwrap() {
                    assert!(data == content[at..at + data.len()]);
                    at += data.len();
                    assert_eq!(reader.position(), 100 + at as u64);
                }
                assert_eq!(at, LARGE);
                assert!(reader.next().await.unwrap().is_none());
            }
        }
        let reads = server.requests(Operation::Read);
        let window = 2 * (LARGE as u64).div_ceil(size) + 3;
        assert!(reads < 6 * window, "{reads} reads");
        file.close().await.unwrap();
    }
}

#[tokio::test]
async fn many_tasks_share_one_connection() {
    let options = ClientOptions {
        requests_in_flight: 8,
        bytes_in_flight: 600_000,
        ..ClientOptions::default()
    };
    let server = Server::with(&[], options).await;
    let content = random_bytes(3, 20_000_000);
    std::fs::write(server.local("f"), &content).unwrap();
    let (content, file) = (Arc::new(content), Arc::new(open(&server, &server.at("f")).await));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200 {
        let (content, file) = (content.clone(), file.clone());
        let (client, path) = (server.client.clone(), server.at(format!("g{i}")));
        tasks.spawn(async move {
            let from = i * 90_001;
            let part = file.read_range(from as u64, 700_000).await.unwrap();
            assert!(part == content[from..from + 700_000]);
            client.write_small(&path, &part, &WriteSmall::default()).await.unwrap();
            let found = client.read_small(&path, 700_000).await.unwrap();
            assert!(found.bytes == part && !found.has_more);
        });
    }
    while let Some(outcome) = soon(tasks.join_next()).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn small_files_are_read_with_their_attributes_in_two_round_trips() {
    let server = Server::new(&[]).await;
    let client = &server.client;
    std::fs::write(server.local("f"), b"0123456789").unwrap();
    for (limit, expected, has_more) in [
        (10, &b"0123456789"[..], false),
        (500, b"0123456789", false),
        (4, b"0123", true),
        (0, b"", true),
    ] {
        let found = client.read_small(&server.at("f"), limit).await.unwrap();
        assert_eq!((&found.bytes[..], found.has_more), (expected, has_more), "{limit}");
        assert_eq!(found.attributes.size, Some(10));
    }
    std::fs::write(server.local("empty"), b"").unwrap();
    let found = client.read_small(&server.at("empty"), 0).await.unwrap();
    assert!(found.bytes.is_empty() && !found.has_more);
    assert_eq!(server.requests(Operation::Open), 5);
    assert_eq!(server.requests(Operation::Read), 3);
    assert_eq!(kind(client.read_small(&server.at("x"), 5).await), ClientErrorKind::NotFound);

    // Several pieces at once.
    let content = random_bytes(4, 2_000_000);
    std::fs::write(server.local("g"), &content).unwrap();
    assert!(client.read_small(&server.at("g"), 2_000_000).await.unwrap().bytes == content);
    assert_eq!(server.requests(Operation::Read), 3 + 8);

    // A size that says nothing.
    let found = client.read_small(b"/proc/self/status", 100_000).await.unwrap();
    assert_eq!(found.attributes.size, Some(0));
    assert!(found.bytes.starts_with(b"Name:\tsftp-server") && !found.has_more);
    let found = client.read_small(b"/proc/self/status", 4).await.unwrap();
    assert!(found.bytes == b"Name" && found.has_more);
}

#[tokio::test]
async fn small_files_are_written_with_their_attributes_in_two_round_trips() {
    let server = Server::new(&["-u", "0"]).await;
    let how = WriteSmall {
        permissions: Some(0o600),
        attributes: Some(Attributes {
            permissions: Some(0o444),
            times: Some((7, 8)),
            ..Attributes::default()
        }),
        sync: true,
    };
    let content = random_bytes(5, 700_000);
    server.client.write_small(&server.at("f"), &content, &how).await.unwrap();
    let on_disk = std::fs::metadata(server.local("f")).unwrap();
    assert_eq!((on_disk.mode(), on_disk.mtime()), (0o100_444, 8));
    assert!(std::fs::read(server.local("f")).unwrap() == content);
    for (operation, count) in [
        (Operation::Open, 1),
        (Operation::Write, 3),
        (Operation::Fsetstat, 1),
        (Operation::Fsync, 1),
    ] {
        assert_eq!(server.requests(operation), count, "{operation}");
    }
    assert_eq!(server.requests(Operation::Close), 1);
    server.client.write_small(&server.at("e"), b"", &WriteSmall::default()).await.unwrap();
    assert_eq!(std::fs::read(server.local("e")).unwrap(), b"");
}

#[tokio::test]
async fn a_file_that_is_cut_meanwhile_gives_what_it_had() {
    let server = Server::new(&[]).await;
    let content = random_bytes(6, 5_000_000);
    std::fs::write(server.local("f"), &content).unwrap();
    let on_disk = std::fs::File::options().write(true).open(server.local("f")).unwrap();
    let mut reader = open(&server, &server.at("f")).await.reader(0, 5_000_000, 300_000);
    let mut found = reader.next().await.unwrap().unwrap();
    on_disk.set_len(2_000_000).unwrap();
    while let Some(data) = soon(reader.next()).await.unwrap() {
        found.extend(data);
    }
    assert!(found.len() >= 2_000_000 && found.len() < 5_000_000, "{}", found.len());
    assert!(found == content[..found.len()]);
    // A hole is no end.
    on_disk.write_all_at(b"x", 4_999_999).unwrap();
    let file = reader.into_file();
    assert_eq!(file.read_range(0, 6_000_000).await.unwrap().len(), 5_000_000);
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_the_write() {
    let server = Server::new(&[]).await;
    let flags = OpenFlags::WRITE;
    let file = server.client.open(b"/dev/full", flags, &Attributes::default()).await.unwrap();
    let error = soon(file.write_at(0, &vec![1; 50_000_000])).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (ClientErrorKind::Failure, Operation::Write));
    // It did not go on to the end.
    assert!(server.requests(Operation::Write) < 150, "{}", server.requests(Operation::Write));
    let mut writer = file.writer(0, 1 << 20);
    let mut outcome = Ok(());
    for _ in 0..100 {
        outcome = outcome.and(soon(writer.write(&vec![1; 100_000])).await);
    }
    assert_eq!(kind(outcome), ClientErrorKind::Failure);
    assert_eq!(kind(writer.finish().await), ClientErrorKind::Failure);
    server.client.stat(b"/").await.unwrap();
}
