//! The storage in a bucket against a real server: the conformance suite, and what is particular to
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use holdfast_connectors::conformance::storage_conformance;
use holdfast_connectors::layers::limit::{LimitStorage, Limits};
use holdfast_connectors::s3::client::{Class, Put, S3Error, S3Options};
use holdfast_connectors::s3::storage::S3Storage;
use holdfast_engine::hash::{ObjectId, RecordId, Sha256, SnapshotId};
use holdfast_engine::storage::{
    Folder, ObjectName, Storage, StorageError, StorageErrorKind, Warmth,
};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::s3::{
    S3Fault, S3Object, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions,
};
use holdfast_testkit::{FaultStorage, Proxy, RecordStorage};

use crate::s3_client::{client, options, server};

/// A repository's place in a bucket.
pub(crate) fn storage(server: &S3Server, prefix: &str) -> S3Storage {
    storage_at(S3Options { prefix: prefix.into(), ..options(server, server.address().port()) })
}

pub(crate) fn storage_at(options: S3Options) -> S3Storage {
    S3Storage::new(client(options))
}

/// The suite, each time in a bucket that is not there yet.
fn conforms(base: &S3Options, wrap: &dyn Fn(S3Storage) -> Box<dyn Storage>) {
    let number = AtomicU32::new(0);
    storage_conformance(&|| {
        let n = number.fetch_add(1, Ordering::Relaxed);
        wrap(storage_at(S3Options {
            bucket: format!("bucket-{n}"),
            create_bucket: true,
            ..base.clone()
        }))
    });
}

#[test]
fn conformance() {
    for (prefix, page) in [("", 1000), ("a/b", 7)] {
        let server = server(S3ServerOptions { page, ..S3ServerOptions::default() });
        let port = server.address().port();
        let base = S3Options { prefix: prefix.into(), ..options(&server, port) };
        conforms(&base, &|storage| Box::new(storage));
    }
    let server = server(S3ServerOptions { page: 100, ..S3ServerOptions::default() });
    conforms(&options(&server, server.address().port()), &|storage| {
        let limits = Limits { upload: Some(1 << 30), ..Limits::default() };
        Box::new(RecordStorage::new(Arc::new(LimitStorage::new(Arc::new(storage), limits))))
    });
}

#[test]
fn conformance_over_a_slow_network() {
    let server = server(S3ServerOptions { page: 100, ..S3ServerOptions::default() });
    let proxy = Proxy::start(server.address()).unwrap();
    proxy.set_latency(Duration::from_millis(5));
    conforms(&options(&server, proxy.port()), &|storage| Box::new(storage));
}

#[track_caller]
fn failed<T>(answer: Result<T, StorageError>, kind: StorageErrorKind) -> S3Error {
    let Err(error) = answer else { panic!("went well, though it had to fail as {kind:?}") };
    assert_eq!(error.kind, kind, "{}", holdfast_engine::error::chain_text(&error));
    *error.source.unwrap().downcast::<S3Error>().unwrap()
}

fn key(number: u8) -> ObjectName {
    ObjectName::key(RecordId::new([number; 16]))
}

fn listed(storage: &S3Storage, folder: Folder) -> usize {
    let mut found = 0;
    storage.list(folder, &mut |_| found += 1).unwrap();
    found
}

#[test]
fn a_missing_bucket_is_made_only_if_asked_for() {
    let server = server(S3ServerOptions { buckets: Vec::new(), ..S3ServerOptions::default() });
    let base = options(&server, server.address().port());
    let error = failed(storage_at(base.clone()).prepare(), StorageErrorKind::NotFound);
    assert_eq!(error.class, Class::NoSuchBucket);
    let storage = storage_at(S3Options { create_bucket: true, ..base });
    storage.prepare().unwrap();
    storage.put(&key(1), b"key").unwrap();
}

#[test]
fn whether_the_condition_is_honoured_is_tried_once() {
    let server = server(S3ServerOptions::default());
    let storage = storage(&server, "p");
    for i in 0..5 {
        storage.put(&key(i), &[i]).unwrap();
    }
    let count = |operation| server.count(operation);
    assert_eq!((count(S3Operation::Head), count(S3Operation::Put)), (1, 6));
    // What is there stays, whatever became of the answer.
    server.add_fault(S3Rule::new(S3Fault::CloseBefore).on(S3Operation::Put).times(1));
    let taken = storage.put(&key(1), b"other").unwrap_err();
    assert_eq!(taken.kind, StorageErrorKind::AlreadyExists);
    assert_eq!(storage.get(&key(1)).unwrap(), [1]);
    // One's own write whose answer was lost is no other's.
    for fault in [S3Fault::CloseAfter, S3Fault::CloseBefore] {
        server.add_fault(S3Rule::new(fault).on(S3Operation::Put).times(2));
        storage.put(&key(10), b"own").unwrap();
        assert_eq!(storage.get(&key(10)).unwrap(), b"own");
        storage.delete(&key(10)).unwrap();
        server.clear_faults();
    }
}

/// Servers without conditions: some say so, some replace what is there.
#[test]
fn servers_without_conditions_are_asked_first() {
    let server = server(S3ServerOptions::default());
    for refusal in [S3Refusal::NotImplemented, S3Refusal::Other(400, "InvalidArgument")] {
        let storage = storage(&server, &format!("{}", refusal.status()));
        server.add_fault(S3Rule::refuse(refusal).on(S3Operation::Put).times(2));
        storage.put(&key(1), b"first").unwrap();
        let taken = storage.put(&key(1), b"second").unwrap_err();
        assert_eq!(taken.kind, StorageErrorKind::AlreadyExists);
        assert_eq!(storage.get(&key(1)).unwrap(), b"first");
        server.clear_requests();
        storage.put(&key(2), b"x").unwrap();
        let count = |operation| server.count(operation);
        assert_eq!((count(S3Operation::Head), count(S3Operation::Put)), (1, 1));
        assert!(server.requests().iter().all(|r| r.header("if-none-match").is_none()));
        server.clear_faults();
    }
}

/// The first object is sent twice, and the second time may take longer than its owner keeps it.
#[test]
fn what_is_deleted_does_not_come_back_by_the_trial() {
    let server = server(S3ServerOptions::default());
    let storage = storage(&server, "p");
    server.add_fault(S3Rule::new(S3Fault::Delay(Duration::from_millis(300))).on(S3Operation::Put));
    storage.put(&key(1), b"first").unwrap();
    storage.delete(&key(1)).unwrap();
    assert_eq!(server.count(S3Operation::Put), 2, "the trial is over");
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(storage.get(&key(1)).unwrap_err().kind, StorageErrorKind::NotFound);
}

#[test]
fn a_snapshot_is_sent_once() {
    let server = server(S3ServerOptions::default());
    let storage = storage(&server, "p");
    // The second waits for what the first has set going.
    storage.put(&key(1), b"key").unwrap();
    storage.put(&key(2), b"key").unwrap();
    for (i, fault) in [
        S3Fault::CloseBefore,
        S3Fault::CloseAfter,
        S3Fault::Refuse(S3Refusal::InternalError),
        S3Fault::Refuse(S3Refusal::Other(502, "BadGateway")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = ObjectName::snapshot(SnapshotId::new([i as u8; 16]));
        server.add_fault(S3Rule::new(fault.clone()).on(S3Operation::Put));
        server.clear_requests();
        failed(storage.put(&name, b"snapshot"), StorageErrorKind::Unreachable);
        assert_eq!(server.count(S3Operation::Put), 1, "{fault:?}");
        server.clear_faults();
        let is_there = storage.get(&name).is_ok();
        assert_eq!(is_there, fault == S3Fault::CloseAfter, "{fault:?}");
    }
}

#[test]
fn packs_are_listed_by_digits_when_they_are_many() {
    let server = server(S3ServerOptions { page: 50, ..S3ServerOptions::default() });
    let storage = storage(&server, "p");
    let packs: Vec<_> = (0..700_u32).map(|i| Sha256::of(&i.to_le_bytes())).collect();
    for id in &packs {
        let key = format!("p/{}", ObjectName::pack(*id));
        assert!(server.put("bucket", &key, S3Object::new(&b"pack"[..])));
    }
    for foreign in ["p/packs/zz/1", "p/packs/loose", "p/packs/ab/UPPER", "p/packs/ab/.tmp-1"] {
        assert!(server.put("bucket", foreign, S3Object::new(&b"?"[..])));
    }
    server.add_fault(S3Rule::new(S3Fault::Delay(Duration::from_millis(50))).on(S3Operation::List));
    let mut found: Vec<ObjectName> = Vec::new();
    storage.list(Folder::Packs, &mut |info| found.push(info.name)).unwrap();
    let mut wanted: Vec<_> = packs.into_iter().map(ObjectName::pack).collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
    assert!(server.most_at_once() > 4, "{}", server.most_at_once());
    // One of the pages is refused, again and again.
    server.clear_faults();
    let refused = S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::List).query("packs/9");
    server.add_fault(refused);
    failed(storage.list(Folder::Packs, &mut |_| {}), StorageErrorKind::PermissionDenied);
}

/// As servers answer that look at many keys and find that all of them were removed.
#[test]
fn a_first_page_that_is_empty_is_not_the_last() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = ObjectName::pack(ObjectId::new([0xab; 32]));
    let last = format!(
        "<IsTruncated>false</IsTruncated><Contents><Key>{name}</Key><Size>4</Size>\
         <LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
    );
    let first = "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 8192];
            let length = stream.read(&mut buffer).unwrap_or(0);
            let request = String::from_utf8_lossy(&buffer[..length]);
            let page = if request.contains("continuation-token=") { last.as_str() } else { first };
            let page = format!("<ListBucketResult>{page}</ListBucketResult>");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    let server = server(S3ServerOptions::default());
    let storage = storage_at(options(&server, port));
    let mut found = Vec::new();
    storage.list(Folder::Packs, &mut |info| found.push(info.name)).unwrap();
    assert_eq!(found, [name]);
}

#[test]
fn only_data_may_be_cold_and_metadata_is_never() {
    let server = server(S3ServerOptions::default());
    let base = options(&server, server.address().port());
    let storage = storage_at(S3Options { storage_class: Some("GLACIER".into()), ..base });
    let name = |i| ObjectName::pack(ObjectId::new([i; 32]));
    for (i, may_be_cold) in [(1, true), (2, false)] {
        let mut upload = storage.upload().unwrap();
        if may_be_cold {
            upload.may_be_cold();
        }
        upload.write(b"content").unwrap();
        upload.finish(&name(i)).unwrap();
    }
    storage.put(&key(1), b"key").unwrap();
    let error = failed(storage.get(&name(1)), StorageErrorKind::Cold);
    assert_eq!(error.class, Class::ColdObject);
    failed(storage.get_range(&name(1), 0, 1, &mut Vec::new()), StorageErrorKind::Cold);
    assert_eq!(storage.get(&name(2)).unwrap(), b"content");
    assert_eq!(storage.get(&key(1)).unwrap(), b"key");
}

#[test]
fn cold_objects_are_asked_for_once_and_counted() {
    let server = server(S3ServerOptions::default());
    let base = options(&server, server.address().port());
    let storage = storage_at(S3Options { prefix: "p".into(), ..base });
    let name = |i| ObjectName::pack(ObjectId::new([i; 32]));
    let classes = [None, Some("STANDARD_IA"), Some("GLACIER"), Some("DEEP_ARCHIVE")];
    for (i, class) in (0..).zip(classes) {
        let object = S3Object { storage_class: class.map(Into::into), ..S3Object::new("content") };
        assert!(server.put("bucket", &format!("p/{}", name(i)), object));
    }
    // The wrappers pass it on.
    let limits = Limits { upload: Some(1 << 30), ..Limits::default() };
    let storage = LimitStorage::new(Arc::new(storage), limits);
    let storage = FaultStorage::new(RecordStorage::new(Arc::new(storage)));
    let all: Vec<_> = (0..5).map(name).collect();
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let told = |names: &[ObjectName], warm, cold, asked, wait: u64| {
        let warmth = storage.warm_up(names, 3).unwrap();
        assert_eq!(warmth, Warmth { warm, cold, asked, wait: hours(wait) });
    };
    // The fifth is missing: whoever reads it says so.
    told(&all[..3], 2, 1, 1, 5);
    told(&all, 3, 2, 1, 12);
    told(&all, 3, 2, 0, 12);
    // What can be read anyway was not asked for.
    assert_eq!(server.count(S3Operation::Restore), 2);
    failed(storage.get(&name(2)), StorageErrorKind::Cold);
    assert_eq!(server.thaw(), 2);
    told(&all, 5, 0, 0, 0);
    assert_eq!(storage.get(&name(3)).unwrap(), b"content");
    // A class that nobody knows is asked for; the server says that it can be read.
    let odd = S3Object { storage_class: Some("ODD".into()), ..S3Object::new("content") };
    assert!(server.put("bucket", &format!("p/{}", name(6)), odd));
    told(&[name(6)], 1, 0, 0, 0);
    let refused = S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::Restore);
    server.add_fault(refused);
    let error = failed(storage.warm_up(&[name(6)], 1), StorageErrorKind::PermissionDenied);
    assert_eq!(error.action(), "s3:RestoreObject");
}

#[test]
fn uploads_that_nobody_completes_are_given_up() {
    let server = server(S3ServerOptions { page: 2, ..S3ServerOptions::default() });
    let storage = storage(&server, "p");
    let everywhere = client(options(&server, server.address().port()));
    let begin = |key: &str| {
        let upload = everywhere.block_on(everywhere.upload(key, &Put::default())).unwrap();
        // As if its writer had died.
        std::mem::forget(upload);
    };
    let own = ["p/packs/ab/ab", "p/packs/ab/ab", "p/index/cd", "p/config", "p/packs/ef/ef"];
    let foreign = ["p/packs/Holiday.jpg", "p/photos/a", "other/packs/ab/ab"];
    own.iter().chain(&foreign).for_each(|key| begin(key));
    // Times are whole seconds.
    let ages = || std::thread::sleep(Duration::from_millis(2100));
    ages();
    server.set_clock_ahead(Duration::from_secs(3600));
    begin("p/packs/01/01");
    assert_eq!(storage.reap(Duration::from_secs(60)).unwrap(), 0);
    assert_eq!(server.open_uploads("bucket"), 9);
    for refusal in [S3Refusal::AccessDenied, S3Refusal::NotImplemented] {
        server.add_fault(S3Rule::refuse(refusal).on(S3Operation::ListUploads));
        assert_eq!(storage.reap(Duration::from_secs(1)).unwrap(), 0);
        server.clear_faults();
    }
    let age = Duration::from_secs(1);
    assert_eq!(storage.reap(age).unwrap(), own.len() as u64);
    assert_eq!(server.open_uploads("bucket"), foreign.len() + 1);

    // One alone: of several, those still on their way at the first refusal would be carried out
    // when the server refuses no longer.
    server.set_clock_ahead(Duration::ZERO);
    begin("p/packs/ab/ab");
    ages();
    server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::AbortUpload));
    let error = failed(storage.reap(age), StorageErrorKind::PermissionDenied);
    assert_eq!(error.action(), "s3:AbortMultipartUpload");
    server.clear_faults();
    assert_eq!(storage.reap(age).unwrap(), 1);
}

#[test]
fn locks_are_on_what_is_kept_alone() {
    let server = server(S3ServerOptions { object_lock: true, ..S3ServerOptions::default() });
    let base = options(&server, server.address().port());
    let storage = storage_at(S3Options { object_lock: Some(30), ..base });
    let snapshot = SnapshotId::new([1; 16]);
    let kept = [
        ObjectName::config(),
        key(1),
        ObjectName::pack(ObjectId::new([1; 32])),
        ObjectName::index(ObjectId::new([1; 32])),
        ObjectName::snapshot(snapshot),
    ];
    let passing = [
        ObjectName::session(snapshot, 0),
        ObjectName::session_end(snapshot),
        ObjectName::fence(snapshot),
        ObjectName::condemned(RecordId::new([1; 16])),
    ];
    for name in kept.iter().chain(&passing) {
        storage.put(name, b"x").unwrap();
    }
    for (names, is_locked) in [(&kept[..], true), (&passing[..], false)] {
        for name in names {
            let object = server.object("bucket", name.as_str()).unwrap();
            assert_eq!(object.retention.is_some(), is_locked, "{name}");
        }
    }
    // A bucket with versions covers it by a marker; what refuses says so.
    storage.delete(&kept[1]).unwrap();
    assert_eq!(server.versions("bucket", kept[1].as_str()).len(), 1);
    let refused = S3Rule::refuse(S3Refusal::Other(403, "ObjectLocked")).on(S3Operation::Delete);
    server.add_fault(refused);
    let error = failed(storage.delete(&kept[2]), StorageErrorKind::PermissionDenied);
    assert_eq!(error.class, Class::Locked);
}

#[test]
fn what_goes_wrong_has_the_engines_kinds() {
    let server = server(S3ServerOptions::default());
    let base = options(&server, server.address().port());
    let storage = storage_at(S3Options { timeout: Duration::from_millis(200), ..base });
    storage.put(&key(1), b"key").unwrap();
    for (refusal, kind) in [
        (S3Refusal::AccessDenied, StorageErrorKind::PermissionDenied),
        (S3Refusal::QuotaExceeded, StorageErrorKind::NoSpace),
        (S3Refusal::InsufficientStorage, StorageErrorKind::NoSpace),
        (S3Refusal::NoSuchBucket, StorageErrorKind::NotFound),
        (S3Refusal::InvalidAccessKeyId, StorageErrorKind::Unreachable),
        (S3Refusal::SlowDown, StorageErrorKind::Unreachable),
        (S3Refusal::Other(400, "InvalidStorageClass"), StorageErrorKind::Unsupported),
    ] {
        server.add_fault(S3Rule::refuse(refusal).on(S3Operation::Put));
        failed(storage.put(&key(2), b"key"), kind);
        server.clear_faults();
    }
}

#[test]
fn large_objects_go_up_in_parts() {
    let server = server(S3ServerOptions::default());
    let storage = storage(&server, "p");
    storage.put(&key(1), b"key").unwrap();
    let bytes = random_bytes(1, 70 << 20);
    let name = ObjectName::pack(Sha256::of(&bytes));
    let mut upload = storage.upload().unwrap();
    for part in bytes.chunks(3_000_001) {
        upload.write(part).unwrap();
    }
    // Its answer is lost; it is there all the same.
    server.add_fault(S3Rule::new(S3Fault::CloseAfter).on(S3Operation::CompleteUpload).times(1));
    upload.finish(&name).unwrap();
    assert_eq!(server.count(S3Operation::UploadPart), 5);
    assert!(storage.get(&name).unwrap() == bytes);
    let again = storage.put(&name, &bytes).unwrap_err();
    assert_eq!(again.kind, StorageErrorKind::AlreadyExists);
    assert_eq!(listed(&storage, Folder::Packs), 1);
}
