//! The S3 client against a real server: every operation, odd keys, and the classes of errors.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use holdfast_connectors::s3::client::{
    Class, Credentials, Headers, ListedPage, Operation, Put, S3Client, S3Error, S3Options,
    S3Result, Sse, Stage,
};
use holdfast_connectors::secret::Secret;
use holdfast_engine::hash::Sha256;
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::s3::{
    S3Backend, S3Fault, S3Operation, S3Refusal, S3Rule, S3Server, S3ServerOptions, S3Tls,
};
use holdfast_testkit::{Direction, Proxy};

use crate::scratch;

mod troubles;

pub(crate) fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().unwrap()
    })
}

pub(crate) fn server(options: S3ServerOptions) -> S3Server {
    S3Server::start(options).unwrap()
}

/// How the bucket of a server is reached, by way of `port`.
pub(crate) fn options(server: &S3Server, port: u16) -> S3Options {
    S3Options {
        endpoint: "127.0.0.1".into(),
        port: Some(port),
        bucket: "bucket".into(),
        use_tls: false,
        credentials: Credentials::Keys {
            access_key: server.access_key().into(),
            secret_access_key: Secret::new(server.secret_key()),
            session_token: None,
        },
        timeout: Duration::from_secs(5),
        ..S3Options::default()
    }
}

pub(crate) fn client(options: S3Options) -> S3Client {
    S3Client::new(runtime().handle().clone(), options).unwrap()
}

fn of(server: &S3Server) -> S3Client {
    client(options(server, server.address().port()))
}

/// Gives up soon.
fn hasty(server: &S3Server, port: u16) -> S3Client {
    client(S3Options { timeout: Duration::from_millis(300), ..options(server, port) })
}

fn put(client: &S3Client, key: &str, bytes: &[u8]) -> S3Result<()> {
    let bytes = Bytes::copy_from_slice(bytes);
    client.block_on(client.put(key, bytes, &Put::default())).map(|_| ())
}

fn get(client: &S3Client, key: &str) -> S3Result<Bytes> {
    client.block_on(client.get(key, None)).map(|object| object.bytes)
}

fn pages(client: &S3Client, prefix: &str, delimiter: bool) -> S3Result<Vec<ListedPage>> {
    let mut pages = Vec::new();
    client.block_on(client.list(prefix, delimiter, None, &mut |page| {
        pages.push(page);
        ControlFlow::Continue(())
    }))?;
    Ok(pages)
}

fn keys(client: &S3Client, prefix: &str) -> Vec<String> {
    let pages = pages(client, prefix, false).unwrap();
    pages.into_iter().flat_map(|page| page.objects).map(|object| object.key).collect()
}

#[track_caller]
fn failed<T: std::fmt::Debug>(answer: S3Result<T>, class: Class) -> S3Error {
    let error = answer.unwrap_err();
    assert_eq!(error.class, class, "{error}: {:?}", std::error::Error::source(&error));
    error
}

#[test]
fn objects_come_back_as_they_were_stored() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    for length in [0, 1, 70_000, 3_000_000] {
        let bytes = random_bytes(length as u64, length);
        put(&client, "a", &bytes).unwrap();
        assert_eq!(get(&client, "a").unwrap(), bytes);
    }
    let headers = Headers {
        content_type: Some("text/plain".into()),
        content_encoding: Some("identity".into()),
        content_language: Some("de".into()),
        content_disposition: Some("attachment".into()),
        cache_control: Some("no-cache".into()),
        metadata: BTreeMap::from([("mode".into(), "644".into())]),
        ..Headers::default()
    };
    let how = Put {
        headers: headers.clone(),
        sha256: Some(*Sha256::of(b"content").as_bytes()),
        ..Put::default()
    };
    client.block_on(client.put("b", Bytes::from_static(b"content"), &how)).unwrap();
    let info = client.block_on(client.head("b")).unwrap();
    assert_eq!((info.size, &info.headers), (7, &headers));
    assert!(info.modified > 1_500_000_000 && info.etag.is_some_and(|etag| !etag.contains('"')));
    let object = client.block_on(client.get("b", Some(2..5))).unwrap();
    assert_eq!((&object.bytes[..], object.info.size), (&b"nte"[..], 7));
    assert_eq!(object.info.headers, headers);
    client.block_on(client.delete("b")).unwrap();
    client.block_on(client.delete("b")).unwrap();
    failed(get(&client, "b"), Class::NoSuchKey);
    failed(client.block_on(client.head("b")), Class::NoSuchKey);
    assert_eq!(client.recorder().requests(Operation::PutObject), 5);
    assert!(client.recorder().bytes_sent() >= 3_070_008);
    assert!(client.recorder().bytes_received() >= 3_070_004);
}

#[test]
fn ranges_are_what_was_asked_for_or_an_error() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let bytes = random_bytes(1, 1000);
    put(&client, "a", &bytes).unwrap();
    let range = |from: u64, to: u64| client.block_on(client.get("a", Some(from..to)));
    for (from, to) in [(0, 1000), (0, 1), (999, 1000), (17, 420), (500, 500), (1000, 1000)] {
        assert_eq!(range(from, to).unwrap().bytes, bytes[from as usize..to as usize]);
    }
    for (from, to) in [(999, 1001), (1000, 1001), (1001, 1001), (5000, 6000)] {
        failed(range(from, to), Class::InvalidRange);
    }
}

/// Keys that a client library would clean up, that XML cannot hold, or that need encoding.
#[test]
fn odd_keys_survive() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let mut odd = vec![
        "a/../b",
        "a/./b",
        "..",
        "a//b",
        "/a",
        "a/",
        "a b",
        "a+b",
        "a%2fb",
        "a?b#c",
        "ä/\u{1f512}",
        "a&b=c",
        "tab\tend",
        "line\nend",
        "a\\b",
        "'\"<>",
        "~!*()",
        "a\u{1}b",
        "%2e%2e/x",
    ];
    for key in &odd {
        put(&client, key, key.as_bytes()).unwrap();
    }
    for key in &odd {
        assert_eq!(get(&client, key).unwrap(), key.as_bytes(), "{key:?}");
        assert_eq!(client.block_on(client.head(key)).unwrap().size, key.len() as u64);
    }
    odd.sort_unstable();
    assert_eq!(keys(&client, ""), odd);
    let all: Vec<_> = odd.iter().map(|key| (*key).to_owned()).collect();
    let left = client.block_on(client.delete_many(&all)).unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(keys(&client, "").is_empty());
}

#[test]
fn listings_have_pages_prefixes_and_a_start() {
    let server = server(S3ServerOptions { page: 10, ..S3ServerOptions::default() });
    let client = of(&server);
    let mut wanted: Vec<_> = (0..35).map(|i| format!("d/{i:02}/x")).collect();
    wanted.push("d/y".into());
    for key in wanted.iter().map(String::as_str).chain(["c", "e", "dd/z"]) {
        put(&client, key, b"content").unwrap();
    }
    assert_eq!(keys(&client, "d/"), wanted);
    let found = pages(&client, "d/", true).unwrap();
    assert!(found.len() > 1 && found.last().unwrap().is_last && !found[0].is_last);
    let prefixes: Vec<_> = found.iter().flat_map(|page| page.prefixes.clone()).collect();
    assert_eq!((prefixes.len(), prefixes[34].as_str()), (35, "d/34/"));
    let objects: Vec<_> = found.iter().flat_map(|page| page.objects.clone()).collect();
    assert_eq!((objects.len(), objects[0].key.as_str(), objects[0].size), (1, "d/y", 7));
    let mut first = Vec::new();
    let mut take = |page: ListedPage| {
        first.extend(page.objects.into_iter().map(|object| object.key));
        ControlFlow::Break(())
    };
    client.block_on(client.list("d/", false, Some("d/20/x"), &mut take)).unwrap();
    assert_eq!(first, wanted[21..31]);
}

#[test]
fn a_page_that_fails_is_asked_for_again_or_the_listing_is_an_error() {
    let server = server(S3ServerOptions { page: 10, ..S3ServerOptions::default() });
    let client = hasty(&server, server.address().port());
    for i in 0..35 {
        put(&client, &format!("{i:02}"), b"").unwrap();
    }
    let on = |fault| S3Rule::new(fault).on(S3Operation::List).after(1);
    for fault in [
        S3Fault::Refuse(S3Refusal::InternalError),
        S3Fault::Refuse(S3Refusal::SlowDown),
        S3Fault::CloseBefore,
        S3Fault::CloseAfter,
        S3Fault::Truncate(500),
    ] {
        server.add_fault(on(fault.clone()).times(2));
        assert_eq!(keys(&client, "").len(), 35, "{fault:?}");
        server.clear_faults();
        server.add_fault(on(fault.clone()));
        let listed = pages(&client, "", false);
        assert!(listed.is_err(), "{fault:?}");
        server.clear_faults();
    }
}

#[test]
fn many_are_deleted_at_once_with_an_error_for_each() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let all: Vec<_> = (0..30).map(|i| format!("k{i:02}")).collect();
    let fill = || all.iter().for_each(|key| put(&client, key, b"").unwrap());
    fill();
    let some = client.block_on(client.delete_many(&[&all[..], &["gone".into()]].concat()));
    assert!(some.unwrap().is_empty());
    assert!(keys(&client, "").is_empty());
    assert_eq!(client.recorder().requests(Operation::DeleteObject), 0);
    assert!(server.requests().iter().any(|request| request.header("content-md5").is_some()
        && request.operation == S3Operation::DeleteMany));
    // A server that cannot is asked for one after the other.
    fill();
    let refused = S3Rule::refuse(S3Refusal::NotImplemented).on(S3Operation::DeleteMany);
    server.add_fault(refused);
    server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::Delete).key("k07"));
    let left = client.block_on(client.delete_many(&all)).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].0.as_str(), left[0].1.class), ("k07", Class::AccessDenied));
    assert_eq!(keys(&client, ""), ["k07"]);
}

#[test]
fn large_objects_go_up_in_parts() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let bytes = Bytes::from(random_bytes(1, 12_000_000));
    let how = Put {
        headers: Headers { content_type: Some("a/b".into()), ..Headers::default() },
        ..Put::default()
    };
    server.add_fault(S3Rule::new(S3Fault::CloseBefore).on(S3Operation::UploadPart).times(1));
    let parts = client.put_in_parts("a", bytes.clone(), 5 << 20, &how);
    client.block_on(parts).unwrap();
    assert_eq!(get(&client, "a").unwrap(), bytes);
    let info = client.block_on(client.head("a")).unwrap();
    assert_eq!(info.headers.content_type.as_deref(), Some("a/b"));
    // Dropped, or with a part that is refused: nothing is left.
    server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::UploadPart));
    let parts = client.put_in_parts("b", bytes, 5 << 20, &how);
    failed(client.block_on(parts), Class::AccessDenied);
    let end = Instant::now() + Duration::from_secs(10);
    while server.open_uploads("bucket") > 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.open_uploads("bucket"), 0);
    assert_eq!(server.keys("bucket"), ["a"]);
}

#[test]
fn what_is_there_is_not_replaced_if_so_asked() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let how = Put { only_if_absent: true, ..Put::default() };
    let put = |bytes: &'static [u8]| client.block_on(client.put("a", bytes.into(), &how));
    put(b"first").unwrap();
    let error = failed(put(b"second"), Class::PreconditionFailed);
    assert!(!error.may_have_been_done());
    assert_eq!(get(&client, "a").unwrap(), &b"first"[..]);
    // An answer that was lost shows.
    client.block_on(client.delete("a")).unwrap();
    server.add_fault(S3Rule::new(S3Fault::CloseAfter).on(S3Operation::Put).times(1));
    let error = failed(put(b"third"), Class::PreconditionFailed);
    assert!(error.may_have_been_done());
}

#[test]
fn a_bucket_is_found_or_made() {
    let server = server(S3ServerOptions { buckets: Vec::new(), ..S3ServerOptions::default() });
    let client = of(&server);
    failed(client.block_on(client.head_bucket()), Class::NoSuchBucket);
    failed(pages(&client, "", false), Class::NoSuchBucket);
    failed(put(&client, "a", b"x"), Class::NoSuchBucket);
    client.block_on(client.create_bucket()).unwrap();
    client.block_on(client.create_bucket()).unwrap();
    client.block_on(client.head_bucket()).unwrap();
    put(&client, "a", b"x").unwrap();
}

#[test]
fn what_options_ask_for_is_asked_of_the_server() {
    let server = server(S3ServerOptions { object_lock: true, ..S3ServerOptions::default() });
    let at = options(&server, server.address().port());
    let client = client(S3Options { sse: Some(Sse::Kms(Some("key-7".into()))), ..at });
    let how = Put {
        storage_class: Some("GLACIER".into()),
        lock_days: Some(3),
        sha256: Some(*Sha256::of(b"x").as_bytes()),
        ..Put::default()
    };
    client.block_on(client.put("a", Bytes::from_static(b"x"), &how)).unwrap();
    let requests = server.requests();
    let sent = |name: &str| requests[0].header(name).unwrap_or_default();
    assert_eq!(sent("x-amz-storage-class"), "GLACIER");
    assert_eq!(sent("x-amz-object-lock-mode"), "COMPLIANCE");
    assert!(sent("x-amz-object-lock-retain-until-date").starts_with("20"));
    assert_eq!(sent("x-amz-server-side-encryption"), "aws:kms");
    assert_eq!(sent("x-amz-server-side-encryption-aws-kms-key-id"), "key-7");
    assert_eq!(sent("x-amz-checksum-sha256").len(), 44);
    assert_eq!(sent("content-length"), "1");
    assert!(requests[0].header("x-amz-checksum-crc32").is_none());
    // Cold: it has to be brought back.
    failed(get(&client, "a"), Class::ColdObject);
    assert!(!client.block_on(client.restore_object("a", 2)).unwrap());
    server.thaw();
    assert_eq!(get(&client, "a").unwrap(), &b"x"[..]);
}

#[test]
fn a_server_without_sha256_gets_md5() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    let how = Put { sha256: Some(*Sha256::of(b"x").as_bytes()), ..Put::default() };
    server.add_fault(S3Rule::refuse(S3Refusal::NotImplemented).on(S3Operation::Put).times(1));
    for _ in 0..2 {
        client.block_on(client.put("a", Bytes::from_static(b"x"), &how)).unwrap();
    }
    let sums: Vec<_> = server
        .requests()
        .iter()
        .map(|r| (r.header("x-amz-checksum-sha256").is_some(), r.header("content-md5").is_some()))
        .collect();
    assert_eq!(sums, [(true, false), (false, true), (false, true)]);
}

/// Another implementation of the server side, and buckets in host names.
#[test]
fn other_servers_and_virtual_hosts() {
    let directory =
        S3ServerOptions { backend: S3Backend::Directory(None), ..S3ServerOptions::default() };
    let hosts = S3ServerOptions { virtual_hosts: true, ..S3ServerOptions::default() };
    for options in [directory, hosts] {
        let server = server(options.clone());
        let client = client(S3Options {
            endpoint: "localhost".into(),
            virtual_host: Some(options.virtual_hosts),
            ..self::options(&server, server.address().port())
        });
        let bytes = random_bytes(1, 100_000);
        put(&client, "a/b c", &bytes).unwrap();
        assert_eq!(get(&client, "a/b c").unwrap(), bytes);
        assert_eq!(keys(&client, ""), ["a/b c"]);
        client.block_on(client.delete("a/b c")).unwrap();
        failed(client.block_on(client.head("a/b c")), Class::NoSuchKey);
    }
}
