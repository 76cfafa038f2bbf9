//! The S3 destination: what came from a bucket goes back as it was; a tree of files is kept as far
//! as objects can; a second restore sends nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_connectors::conformance::destination::{Capabilities, destination_conformance_of};
use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_connectors::local::source::{LocalSource, LocalSourceOptions};
use holdfast_connectors::s3::destination::S3Destination;
use holdfast_engine::destination::{
    Attributes, Destination, DestinationErrorKind, DestinationResult, Unset,
};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::meta::{Kind, Metadata, Time};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, RootSource, backup};
use holdfast_engine::ops::restore::{RestoreOptions, RestoreReport, restore};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{Index, Repository};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{
    S3Fault, S3Object, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions,
};

use crate::s3_source::{ODD, client, put, repository, run, server, source};

fn destination(server: &S3Server, prefix: &str) -> S3Destination {
    S3Destination::new(client(server, prefix))
}

#[track_caller]
fn good<T>(answer: DestinationResult<T>) -> T {
    answer.unwrap_or_else(|error| panic!("{}", error.text()))
}

fn restored(
    repository: &Repository,
    id: SnapshotId,
    path: &str,
    to: &dyn Destination,
    change: impl FnOnce(&mut RestoreOptions),
) -> RestoreReport {
    let record = repository.snapshot(id).unwrap();
    let mut options = RestoreOptions {
        path: Some(path.into()),
        ..RestoreOptions::new(SnapshotInfo { id, record })
    };
    change(&mut options);
    let index = Index::load(repository, &repository.condemned_packs().unwrap()).unwrap();
    restore(repository, &index, &options, to, &NoMonitor, &Interrupt::new()).unwrap()
}

fn backed_up(repository: &Repository, root: &Path) -> SnapshotId {
    let source = LocalSource::new(root, LocalSourceOptions::default()).unwrap();
    let options = BackupOptions {
        roots: vec![RootSource::new(b"/data", Arc::new(source))],
        host: "host".into(),
        kind: "local".into(),
        program: "test".into(),
        time: 1_900_000_000_000_000_000,
        ..BackupOptions::default()
    };
    backup(repository, &options, &NoMonitor, &Interrupt::new()).unwrap().snapshot.unwrap()
}

/// Keys below a prefix, with all that is stored with them but when and in which version.
fn stored(server: &S3Server, prefix: &str) -> BTreeMap<String, S3Object> {
    let keys = server.keys("bucket").into_iter().filter(|key| key.starts_with(prefix));
    let all = keys.map(|key| {
        let mut object = server.object("bucket", &key).unwrap();
        object.metadata.remove("holdfast-mtime");
        object.modified = std::time::UNIX_EPOCH;
        (key[prefix.len()..].to_owned(), object)
    });
    all.collect()
}

#[test]
fn what_came_from_a_bucket_goes_back_as_it_was() {
    let server = server();
    for (number, key) in ODD.iter().enumerate() {
        let mut object = S3Object::new(key.repeat(number));
        object.content_type = Some(format!("text/x-{number}"));
        object.cache_control = Some("no-store".into());
        object.content_disposition = Some("attachment".into());
        object.content_encoding = Some("x".into());
        object.content_language = Some("de".into());
        object.metadata.insert("number".into(), number.to_string());
        object.metadata.insert("mtime".into(), "5".into());
        assert!(server.put("bucket", &format!("from/{key}"), object));
    }
    let mut big = S3Object::new(random_bytes(1, 40 << 20));
    big.content_type = Some("video/x".into());
    assert!(server.put("bucket", "from/big", big));
    let repository = repository();
    let report = run(&repository, source(&server, "from")).unwrap();
    assert_eq!(report.errors, 0, "{:?}", report.unread);
    let id = report.snapshot.unwrap();

    let to = destination(&server, "to");
    let report = restored(&repository, id, "/bucket", &to, |_| {});
    assert_eq!((report.failures, report.unset), (0, Unset::default()), "{:?}", report.failed);
    let (wanted, found) = (stored(&server, "from/"), stored(&server, "to/"));
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (key, wanted) in &wanted {
        assert!(found[key].content == wanted.content, "content of {key:?}");
        // Of one that was sent in parts the ETag is another one.
        let told = |object: &S3Object| {
            let (content, etag) = (Vec::new().into(), String::new());
            format!("{:?}", S3Object { content, etag, ..object.clone() })
        };
        assert_eq!(told(&found[key]), told(wanted), "{key:?}");
    }
    assert_eq!(server.open_uploads("bucket"), 0);

    // A second one looks and sends nothing; what is in the way of the snapshot goes.
    server.clear_requests();
    put(&server, "to/more/x", "x");
    let to = destination(&server, "to");
    let report = restored(&repository, id, "/bucket", &to, |options| options.delete = true);
    assert_eq!((report.unchanged, report.failures), (15, 0), "{:?}", report.failed);
    assert_eq!((report.created, report.replaced, report.attributes), (0, 0, 0));
    assert_eq!(server.count(S3Operation::Put) + server.count(S3Operation::UploadPart), 0);
    assert_eq!(report.deleted, 2);
    assert_eq!(stored(&server, "to/").len(), wanted.len());
}

fn tree(root: &Path) {
    fs::create_dir_all(root.join("empty/below")).unwrap();
    fs::create_dir_all(root.join("d/e")).unwrap();
    fs::write(root.join("d/small"), "small").unwrap();
    fs::write(root.join("d/e/none"), "").unwrap();
    fs::write(root.join("d/e/middle"), random_bytes(1, 3 << 20)).unwrap();
    fs::write(root.join("big"), random_bytes(2, 40 << 20)).unwrap();
    fs::set_permissions(root.join("d/small"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("d/small", root.join("link")).unwrap();
}

#[test]
fn files_are_kept_as_far_as_objects_can() {
    let server = server();
    let directory = crate::scratch();
    tree(directory.path());
    let repository = repository();
    let id = backed_up(&repository, directory.path());
    let to = destination(&server, "to");
    let report = restored(&repository, id, "/data", &to, |_| {});
    assert_eq!(report.failures, 0, "{:?}", report.failed);
    let lost = report.unset;
    assert!(lost.times && !lost.xattrs && !lost.fractions, "{lost:?}");
    let keys = server.keys("bucket");
    let wanted = ["big", "d/e/middle", "d/e/none", "d/small", "empty/below/", "link"]
        .map(|key| format!("to/{key}"));
    assert_eq!(keys, wanted);
    let small = server.object("bucket", "to/d/small").unwrap();
    assert_eq!(small.content, &b"small"[..]);
    assert_eq!(small.metadata["mode"], "100640");
    assert!(small.metadata["mtime"].contains('.'));
    let link = server.object("bucket", "to/link").unwrap();
    assert_eq!(
        (&link.content[..], link.content_type.as_deref()),
        (&b"d/small"[..], Some("inode/symlink"))
    );
    let big = server.object("bucket", "to/big").unwrap();
    assert!(big.content == random_bytes(2, 40 << 20) && big.etag.ends_with("-5"));

    server.clear_requests();
    let again = destination(&server, "to");
    let report = restored(&repository, id, "/data", &again, |options| options.delete = true);
    assert_eq!((report.unchanged, report.deleted, report.failures), (5, 0, 0));
    assert_eq!(server.count(S3Operation::Put), 0);
    let report = restored(&repository, id, "/data", &again, |options| options.verify = true);
    assert_eq!(report.unchanged, 5);
    assert!(server.change("bucket", "to/d/small", |object| object.content = "SMALL".into()));
    let report = restored(&repository, id, "/data", &again, |options| options.verify = true);
    assert_eq!((report.unchanged, report.replaced), (4, 1));
    assert_eq!(server.object("bucket", "to/d/small").unwrap().content, &b"small"[..]);
}

#[test]
fn a_bucket_is_restored_to_a_disk() {
    let server = server();
    for i in 0..500 {
        put(&server, &format!("d{}/e/{i}", i % 5), random_bytes(i, 3000));
    }
    put(&server, "big", random_bytes(1, 20 << 20));
    let repository = repository();
    let id = run(&repository, source(&server, "")).unwrap().snapshot.unwrap();
    let directory = crate::scratch();
    let to = LocalDestination::new(directory.path().join("to"), LocalDestinationOptions::default());
    let report = restored(&repository, id, "/bucket", &to, |_| {});
    assert_eq!((report.failures, report.files), (0, 501), "{:?}", report.failed);
    for key in server.keys("bucket") {
        let content = fs::read(directory.path().join("to").join(&key)).unwrap();
        assert!(server.object("bucket", &key).unwrap().content == content, "{key}");
    }
}

#[test]
fn lost_answers_and_storms_harm_nothing() {
    let server = server();
    let directory = crate::scratch();
    tree(directory.path());
    for i in 0..100 {
        fs::write(directory.path().join(format!("d/{i}")), random_bytes(i, 5000)).unwrap();
    }
    let repository = repository();
    let id = backed_up(&repository, directory.path());
    for operation in [S3Operation::Put, S3Operation::UploadPart, S3Operation::CompleteUpload] {
        server.add_fault(S3Rule::new(S3Fault::CloseAfter).on(operation).every(3).times(10));
    }
    server.add_fault(S3Rule::new(S3Fault::CloseAfter).on(S3Operation::CompleteUpload).times(1));
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).every(4).times(40));
    let report = restored(&repository, id, "/data", &destination(&server, "to"), |_| {});
    assert_eq!(report.failures, 0, "{:?}", report.failed);
    assert_eq!(server.keys("bucket").len(), 106);
    let big = server.object("bucket", "to/big").unwrap();
    assert!(big.content == random_bytes(2, 40 << 20));
}

#[test]
fn refusals_are_told_as_what_they_are() {
    let server = server();
    let to = destination(&server, "to");
    good(to.prepare());
    let mtime = Time { seconds: 5, nanos: 0 };
    let metadata = Metadata { kind: Kind::File, mode: 0o644, mtime, ..Metadata::default() };
    let plain = Attributes { metadata: &metadata, xattrs: &[] };
    for (refusal, kind) in [
        (S3Refusal::AccessDenied, DestinationErrorKind::PermissionDenied),
        (S3Refusal::QuotaExceeded, DestinationErrorKind::NoSpace),
        (S3Refusal::InsufficientStorage, DestinationErrorKind::NoSpace),
    ] {
        server.add_fault(S3Rule::refuse(refusal).on(S3Operation::Put).times(1));
        let error = to.write_file(b"f", b"x", plain, false).unwrap_err();
        assert_eq!(error.kind, kind, "{}", error.text());
        assert!(error.text().contains("to/f"), "{}", error.text());
    }
    let error = to.write_file(b"\xff", b"x", plain, false).unwrap_err();
    assert_eq!(error.kind, DestinationErrorKind::Unsupported);
    let missing =
        S3Server::start(S3ServerOptions { buckets: vec![], ..Default::default() }).unwrap();
    assert_eq!(
        destination(&missing, "").prepare().unwrap_err().kind,
        DestinationErrorKind::NotFound
    );
    good(to.write_file(b"f", b"content", plain, false));
    let mut content = String::new();
    good(to.open_file(b"f")).read_to_string(&mut content).unwrap();
    assert_eq!(content, "content");
}

fn plain() -> Metadata {
    let mtime = Time { seconds: 5, nanos: 0 };
    Metadata { kind: Kind::File, mode: 0o644, mtime, ..Metadata::default() }
}

/// Stores a file that is sent in parts.
fn store(to: &S3Destination, path: &str, content: &[u8], replace: bool) -> DestinationResult<()> {
    let metadata = plain();
    let file = to.create_file(path.as_bytes(), content.len() as u64, replace)?;
    file.write_at(0, content)?;
    file.finish(Attributes { metadata: &metadata, xattrs: &[] }).map(|_| ())
}

#[test]
fn servers_without_conditions_are_asked_first() {
    let server = server();
    let metadata = plain();
    let plain = Attributes { metadata: &metadata, xattrs: &[] };
    let big = random_bytes(1, 17 << 20);
    for refusal in [S3Refusal::NotImplemented, S3Refusal::Other(400, "InvalidArgument")] {
        let to = destination(&server, &format!("{}", refusal.status()));
        good(to.prepare());
        server.add_fault(S3Rule::refuse(refusal.clone()).on(S3Operation::Put).times(1));
        good(to.write_file(b"small", b"first", plain, false));
        server.clear_requests();
        good(to.write_file(b"other", b"first", plain, false));
        good(store(&to, "big", &big, false));
        let conditional = server.requests().iter().any(|r| r.header("if-none-match").is_some());
        assert!(!conditional, "it was learnt");
        for taken in [
            to.write_file(b"small", b"secnd", plain, false).map(|_| ()),
            store(&to, "big", &big, false),
        ] {
            assert_eq!(taken.unwrap_err().kind, DestinationErrorKind::AlreadyExists);
        }
        let small = server.object("bucket", &format!("{}/small", refusal.status())).unwrap();
        assert_eq!(small.content, &b"first"[..]);
        // Found out with an object in parts.
        let to = destination(&server, &format!("{}-parts", refusal.status()));
        server.add_fault(S3Rule::refuse(refusal).on(S3Operation::CompleteUpload).times(1));
        good(store(&to, "big", &big, false));
        assert_eq!(server.open_uploads("bucket"), 0);
        server.clear_faults();
    }
}

#[test]
fn what_was_there_before_is_not_taken_for_what_was_sent() {
    let server = server();
    let to = destination(&server, "to");
    let metadata = plain();
    let plain = Attributes { metadata: &metadata, xattrs: &[] };
    good(to.write_file(b"small", b"old", plain, false));
    let taken = to.write_file(b"small", b"new", plain, false).unwrap_err();
    assert_eq!(taken.kind, DestinationErrorKind::AlreadyExists);
    // Same size, same time.
    let (old, new) = (random_bytes(1, 17 << 20), random_bytes(2, 17 << 20));
    good(store(&to, "big", &old, false));
    let content = || server.object("bucket", "to/big").unwrap().content;
    for (fault, is_done) in [(S3Fault::CloseBefore, false), (S3Fault::CloseAfter, true)] {
        server.add_fault(S3Rule::new(fault).on(S3Operation::CompleteUpload).times(1));
        assert_eq!(store(&to, "big", &new, true).is_ok(), is_done);
        assert!(content() == if is_done { &new } else { &old }[..]);
    }
}

#[test]
fn conformance() {
    let server = server();
    let number = AtomicUsize::new(0);
    let make = || -> Box<dyn Destination> {
        let prefix = format!("p{}", number.fetch_add(1, Ordering::Relaxed));
        Box::new(destination(&server, &prefix))
    };
    destination_conformance_of(&make, Capabilities::OBJECTS);
}
