//! The S3 source against a real server in this process: keys as a tree, what decides that nothing
//! changed, and what a listing or an object that fails does to a backup.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_connectors::s3::client::{Credentials, S3Client, S3Options};
use holdfast_connectors::s3::source::{S3Source, S3SourceOptions};
use holdfast_connectors::secret::Secret;
use holdfast_engine::compress::Level;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, RootSource, backup};
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{self, BlobReader, CreateOptions, Index, Repository};
use holdfast_engine::source::{Source, SourceErrorKind, SourceResult, WalkBatch};
use holdfast_engine::tree::{Entry, view};
use holdfast_engine::{Error, Result};
use holdfast_testkit::MemoryStorage;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{
    S3Fault, S3Object, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions,
};
use tokio::runtime::{Builder, Runtime};

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap())
}

pub(crate) fn server() -> S3Server {
    S3Server::start(S3ServerOptions::default()).unwrap()
}

pub(crate) fn client(server: &S3Server, prefix: &str) -> S3Client {
    let options = S3Options {
        endpoint: "127.0.0.1".into(),
        port: Some(server.address().port()),
        bucket: "bucket".into(),
        prefix: prefix.into(),
        use_tls: false,
        credentials: Credentials::Keys {
            access_key: server.access_key().into(),
            secret_access_key: Secret::new(server.secret_key()),
            session_token: None,
        },
        timeout: Duration::from_secs(2),
        ..S3Options::default()
    };
    S3Client::new(runtime().handle().clone(), options).unwrap()
}

pub(crate) fn source(server: &S3Server, prefix: &str) -> S3Source {
    with(server, prefix, S3SourceOptions::default())
}

fn with(server: &S3Server, prefix: &str, options: S3SourceOptions) -> S3Source {
    S3Source::new(client(server, prefix), options).unwrap()
}

pub(crate) fn put(server: &S3Server, key: &str, content: impl Into<Vec<u8>>) {
    assert!(server.put("bucket", key, S3Object::new(content.into())));
}

fn batches(source: &S3Source) -> SourceResult<Vec<WalkBatch>> {
    let mut batches = Vec::new();
    source.walk(&mut |batch| {
        batches.push(batch);
        ControlFlow::Continue(())
    })?;
    Ok(batches)
}

/// Paths in the walk's order; directories end with a slash.
fn paths(source: &S3Source) -> Vec<String> {
    let mut paths = Vec::new();
    for batch in batches(source).unwrap() {
        assert!(batch.errors.is_empty(), "{:?}", batch.errors);
        for entry in &batch.entries {
            let mut path = String::from_utf8(batch.directory.path.clone()).unwrap();
            path += if path.is_empty() { "" } else { "/" };
            path += std::str::from_utf8(&entry.name).unwrap();
            path += if entry.metadata.kind == Kind::Directory { "/" } else { "" };
            paths.push(path);
        }
    }
    paths
}

pub(crate) fn repository() -> Repository {
    repo::open::create(Arc::new(MemoryStorage::new()), CreateOptions::default()).unwrap()
}

pub(crate) fn run(repository: &Repository, source: S3Source) -> Result<BackupReport> {
    // Each run is later than those before it.
    static RUNS: AtomicI64 = AtomicI64::new(0);
    let options = BackupOptions {
        roots: vec![RootSource::new(b"/bucket", Arc::new(source))],
        host: "server".into(),
        kind: "s3".into(),
        program: "test".into(),
        time: 1_900_000_000_000_000_000 + RUNS.fetch_add(1, Ordering::Relaxed),
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

fn entries(repository: &Repository, id: SnapshotId) -> BTreeMap<String, Entry> {
    let index = Index::load(repository, &repository.condemned_packs().unwrap()).unwrap();
    let reader = BlobReader::new(repository, &index);
    let snapshot = repository.snapshot(id).unwrap();
    let mut all = BTreeMap::new();
    for root in &snapshot.roots {
        for found in view::tree(&reader, root).unwrap().entries() {
            let found = found.unwrap();
            all.insert(String::from_utf8(found.path()).unwrap(), found.entry);
        }
    }
    all
}

fn xattr(entry: &Entry, name: &str) -> Option<String> {
    let found = entry.xattrs.iter().find(|xattr| xattr.name == name.as_bytes())?;
    Some(String::from_utf8(found.value.clone()).unwrap())
}

/// Bodies of objects that were asked for.
fn reads(server: &S3Server) -> usize {
    server.count(S3Operation::Get) + server.count(S3Operation::Head)
}

pub(crate) const ODD: [&str; 14] = [
    "a",
    "a/b",
    "a-b",
    "a//b",
    "/leading",
    "dir/",
    "dir/full/",
    "./dot",
    "../dots",
    "nul\0in/it",
    "%s3:empty",
    "100%/a%20b+c d",
    "\u{1f980}/é",
    "ends/..",
];

#[test]
fn keys_become_paths_in_the_order_of_a_tree() {
    let server = server();
    for key in ODD {
        put(&server, key, key);
    }
    let wanted = [
        "/",
        "%s3:dot/",
        "%s3:dots/",
        "%s3:empty/",
        "%s3:percents3:empty",
        "100%/",
        "a/",
        "a%s3:object",
        "a-b",
        "dir/",
        "ends/",
        "nul%s3:nulin/",
        "\u{1f980}/",
        "%s3:dot/dot",
        "%s3:dots/dots",
        "%s3:empty/leading",
        "100%/a%20b+c d",
        "a/%s3:empty/",
        "a/b",
        "a/%s3:empty/b",
        "dir/%s3:empty",
        "dir/full/",
        "dir/full/%s3:empty",
        "ends/%s3:dots",
        "nul%s3:nulin/it",
        "\u{1f980}/é",
    ];
    assert_eq!(paths(&source(&server, "")), wanted);
    assert_eq!(server.requests().len(), 1, "one page holds it all");
    // Below a prefix, and one object alone.
    assert_eq!(paths(&source(&server, "a")), ["/", "%s3:empty/", "b", "%s3:empty/b"]);
    assert_eq!(paths(&source(&server, "a-b")), [""]);
    let nothing = batches(&source(&server, "nothing")).unwrap_err();
    assert_eq!(nothing.kind, SourceErrorKind::NotFound, "{}", nothing.text());
    assert_eq!(source(&server, "a//b").snapshot_path(), b"/bucket/a/%s3:empty/b");
}

#[test]
fn a_walk_page_by_page_finds_the_same() {
    let mut keys: Vec<String> = ODD.iter().map(ToString::to_string).collect();
    for i in 0..60 {
        keys.push(format!("many/2024-{i:02}.log"));
        keys.push(format!("many/{}/{i}", i % 7));
    }
    keys.push("many/2024".into());
    keys.push("many/2024/x".into());
    let whole = server();
    let paged = S3Server::start(S3ServerOptions { page: 3, ..Default::default() }).unwrap();
    for key in &keys {
        put(&whole, key, key.as_str());
        put(&paged, key, key.as_str());
    }
    let wanted = paths(&source(&whole, ""));
    assert_eq!(whole.requests().len(), 1);
    for _ in 0..3 {
        assert_eq!(paths(&source(&paged, "")), wanted);
    }
    let excludes = vec!["many/*.log".to_owned(), "100%".into()];
    let options = || S3SourceOptions { excludes: excludes.clone(), ..Default::default() };
    let left = paths(&with(&paged, "", options()));
    assert_eq!(left, paths(&with(&whole, "", options())));
    assert_eq!(left.len(), wanted.len() - 60 - 2);
    let never = S3SourceOptions { never: vec!["many".into()], ..Default::default() };
    assert!(!paths(&with(&paged, "", never.clone())).iter().any(|path| path.contains("2024")));
    assert!(batches(&with(&paged, "many/0", never)).is_err());
}

#[test]
fn an_unchanged_bucket_is_listed_and_not_read() {
    let server = server();
    for i in 0..2500 {
        put(&server, &format!("d{}/file {i}", i % 10), random_bytes(i, 1000));
    }
    put(&server, "empty", "");
    let mut object = S3Object::new(random_bytes(7, 3 << 20));
    object.content_type = Some("video/x".into());
    object.metadata.insert("colour".into(), "blue".into());
    assert!(server.put("bucket", "big", object));
    let repository = repository();
    let first = run(&repository, source(&server, "")).unwrap();
    assert_eq!((first.errors, first.stats.files_new), (0, 2502));
    assert_eq!(reads(&server), 2502, "content and all else come together");
    let found = entries(&repository, first.snapshot.unwrap());
    assert_eq!(xattr(&found["big"], "user.s3.content-type").as_deref(), Some("video/x"));
    assert_eq!(xattr(&found["big"], "user.s3.meta.colour").as_deref(), Some("blue"));
    assert!(xattr(&found["empty"], "user.s3.etag").is_some());

    server.clear_requests();
    let second = run(&repository, source(&server, "")).unwrap();
    assert_eq!((second.stats.files_unchanged, second.stats.bytes_read), (2502, 0));
    assert_eq!((reads(&server), server.requests().len()), (0, 3), "three pages");
    // Another content of the same size in the same second, and other metadata of the same content.
    assert!(server.change("bucket", "d1/file 1", |object| {
        object.content = random_bytes(99, 1000).into();
        object.etag = "0123".into();
    }));
    server.clear_requests();
    let third = run(&repository, source(&server, "")).unwrap();
    assert_eq!((third.stats.files_changed, third.stats.files_unchanged), (1, 2501));
    assert_eq!(reads(&server), 1);
}

#[test]
fn a_listing_that_fails_is_never_a_shorter_one() {
    let server = S3Server::start(S3ServerOptions { page: 2, ..Default::default() }).unwrap();
    for i in 0..40 {
        put(&server, &format!("d/{}/{i:02}", i % 3), "x");
    }
    let repository = repository();
    let whole = run(&repository, source(&server, "")).unwrap();
    assert_eq!((whole.errors, whole.stats.files_new), (0, 40));
    // The second page of one directory, for as long as anybody asks.
    let broken = S3Rule::refuse(S3Refusal::InternalError);
    server.add_fault(broken.on(S3Operation::List).query("prefix=d/1/").after(1));
    let failed = run(&repository, source(&server, ""));
    assert!(matches!(failed, Err(Error::Source(_))), "{failed:?}");
    server.clear_faults();
    // What may not be listed is told, and the rest is backed up.
    let denied = S3Rule::refuse(S3Refusal::AccessDenied);
    server.add_fault(denied.on(S3Operation::List).query("prefix=d/1/").after(1));
    let partial = run(&repository, source(&server, "")).unwrap();
    assert_eq!(partial.errors, 1);
    assert!(partial.unread[0].reason.contains("s3:ListBucket"), "{:?}", partial.unread);
    // The root itself: an error of the whole.
    server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::List));
    assert!(run(&repository, source(&server, "")).is_err());
}

#[test]
fn what_was_told_before_a_listing_failed_is_walked() {
    let server = S3Server::start(S3ServerOptions { page: 2, ..Default::default() }).unwrap();
    for i in 0..7 {
        put(&server, &format!("d/{i}/x"), "x");
        put(&server, &format!("d/{i}/y"), "y");
    }
    // Listed as a whole for four pages, then by itself: the third page of that fails.
    let denied = S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::List);
    server.add_fault(denied.query("prefix=d/").after(6).times(1));
    let batches = batches(&source(&server, "")).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.errors.len()).sum::<usize>(), 1);
    let of = |path: &str| {
        let of = batches.iter().filter(|batch| batch.directory.path == path.as_bytes());
        of.flat_map(|batch| &batch.entries).map(|e| e.name.clone()).collect::<Vec<_>>()
    };
    let told = of("d");
    assert!((2..7).contains(&told.len()), "{told:?}");
    for name in told {
        let path = format!("d/{}", String::from_utf8(name).unwrap());
        assert_eq!(of(&path), [b"x", b"y"], "{path} looks empty");
    }
}

#[test]
fn objects_that_vanish_change_or_are_cold() {
    let server = server();
    put(&server, "gone", "x");
    put(&server, "steady", "y");
    put(&server, "big", random_bytes(1, 20 << 20));
    let mut cold = S3Object::new("ice");
    cold.storage_class = Some("GLACIER".into());
    assert!(server.put("bucket", "cold", cold));
    let missing = S3Rule::refuse(S3Refusal::NoSuchKey).on(S3Operation::Get).key("gone");
    server.add_fault(missing);
    // Another version while the first is read.
    let replaced = S3Rule::refuse(S3Refusal::PreconditionFailed).on(S3Operation::Get).key("big");
    server.add_fault(replaced.after(2).times(1));
    let repository = repository();
    let report = run(&repository, source(&server, "")).unwrap();
    assert_eq!(report.errors, 1, "{:?}", report.unread);
    assert!(report.unread[0].path.ends_with(b"cold"));
    assert!(report.unread[0].reason.contains("archived"), "{}", report.unread[0].reason);
    let found = entries(&repository, report.snapshot.unwrap());
    let names: Vec<_> = found.keys().filter(|path| !path.is_empty()).collect();
    assert_eq!(names, ["big", "cold", "steady"]);
    assert_eq!(found["big"].error, "");
    assert!(!found["cold"].error.is_empty());
}

#[test]
fn a_storm_of_refusals_and_broken_bodies_only_takes_longer() {
    let server = server();
    for i in 0..300 {
        put(&server, &format!("d/{i}"), random_bytes(i, 2000));
    }
    put(&server, "big", random_bytes(1, 30 << 20));
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).every(5).times(60));
    server.add_fault(S3Rule::new(S3Fault::Truncate(1000)).on(S3Operation::Get).every(7).times(20));
    server.add_fault(S3Rule::new(S3Fault::CloseBefore).every(11).times(20));
    let repository = repository();
    let report = run(&repository, source(&server, "")).unwrap();
    assert_eq!((report.errors, report.stats.files_new), (0, 301), "{:?}", report.unread);
    server.clear_faults();
    let calm = self::repository();
    let wanted = run(&calm, source(&server, "")).unwrap();
    let of = |repository, report: &BackupReport| -> Vec<_> {
        let found = entries(repository, report.snapshot.unwrap());
        found.into_iter().map(|(path, entry)| (path, entry.metadata)).collect()
    };
    assert_eq!(of(&repository, &report), of(&calm, &wanted));
    assert_eq!(report.stats.bytes_read, wanted.stats.bytes_read);
}

#[test]
fn caches_are_left_out() {
    for page in [1000, 2] {
        let server = S3Server::start(S3ServerOptions { page, ..Default::default() }).unwrap();
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# a cache";
        put(&server, "cache/CACHEDIR.TAG", tag);
        put(&server, "not/CACHEDIR.TAG", "something else of a good length, longer than the tag");
        for i in 0..10 {
            put(&server, &format!("cache/{i}"), "x");
            put(&server, &format!("not/{i}"), "x");
        }
        let options = S3SourceOptions { exclude_caches: true, ..Default::default() };
        let found = paths(&with(&server, "", options));
        assert_eq!(found.len(), 3 + 11, "{found:?}");
        assert!(!found.iter().any(|path| path.starts_with("cache/") && path != "cache/"));
    }
}
