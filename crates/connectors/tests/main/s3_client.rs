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
fn errors_have_classes_and_say_what_they_are_about() {
    let server = server(S3ServerOptions::default());
    let client = hasty(&server, server.address().port());
    put(&client, "a", b"content").unwrap();
    let cases = [
        (S3Refusal::AccessDenied, Class::AccessDenied),
        (S3Refusal::InvalidAccessKeyId, Class::Credentials),
        (S3Refusal::ExpiredToken, Class::Credentials),
        (S3Refusal::SignatureDoesNotMatch, Class::Signature),
        (S3Refusal::RequestTimeTooSkewed, Class::ClockSkew),
        (S3Refusal::NoSuchBucket, Class::NoSuchBucket),
        (S3Refusal::QuotaExceeded, Class::Quota),
        (S3Refusal::InsufficientStorage, Class::Quota),
        (S3Refusal::InvalidObjectState, Class::ColdObject),
        (S3Refusal::SlowDown, Class::SlowDown),
        (S3Refusal::ServiceUnavailable, Class::SlowDown),
        (S3Refusal::InternalError, Class::Server),
        (S3Refusal::NotImplemented, Class::NotImplemented),
        (S3Refusal::MethodNotAllowed, Class::NotImplemented),
        (S3Refusal::Other(400, "InvalidStorageClass"), Class::InvalidStorageClass),
        (S3Refusal::Other(400, "ObjectLocked"), Class::Locked),
        (S3Refusal::Other(418, "Teapot"), Class::Other),
    ];
    for (refusal, class) in cases {
        server.add_fault(S3Rule::refuse(refusal.clone()).on(S3Operation::Get));
        let error = failed(get(&client, "a"), class);
        assert_eq!(error.stage, Stage::Request);
        let answer = error.answer.as_ref().unwrap();
        assert_eq!(answer.status, refusal.status());
        assert_eq!(answer.request_id.as_deref(), Some("4442587FB7D0A2F9"));
        assert!(error.to_string().starts_with("get object bucket/a: "), "{error}");
        server.clear_faults();
    }
    server.add_fault(S3Rule::refuse(S3Refusal::AccessDenied).on(S3Operation::Put));
    let error = failed(put(&client, "a", b""), Class::AccessDenied);
    assert_eq!((error.action(), error.code()), ("s3:PutObject", Some("AccessDenied")));
}

#[test]
fn a_wrong_secret_and_an_unknown_key_are_told_apart_and_never_shown() {
    let server = server(S3ServerOptions::default());
    let with = |access_key: &str, secret: &str| {
        let credentials = Credentials::Keys {
            access_key: access_key.into(),
            secret_access_key: secret.into(),
            session_token: None,
        };
        client(S3Options { credentials, ..options(&server, server.address().port()) })
    };
    let error = failed(get(&with("test-access-key", "planted-wrong"), "a"), Class::Signature);
    for text in [format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains("planted-wrong") && !text.contains("test-access-key"), "{text}");
    }
    failed(get(&with("planted-unknown", "x"), "a"), Class::Credentials);
}

#[test]
fn a_profile_that_is_nowhere_is_told() {
    let server = server(S3ServerOptions::default());
    let credentials = Credentials::Profile("holdfast-no-such-profile".into());
    let at = options(&server, server.address().port());
    let error = failed(get(&client(S3Options { credentials, ..at }), "a"), Class::Credentials);
    assert_eq!(error.stage, Stage::Settings);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn passing_troubles_pass() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    put(&client, "a", &random_bytes(1, 100_000)).unwrap();
    for fault in [
        S3Fault::Refuse(S3Refusal::SlowDown),
        S3Fault::Refuse(S3Refusal::InternalError),
        S3Fault::Refuse(S3Refusal::RequestTimeout),
        S3Fault::CloseBefore,
        S3Fault::CloseAfter,
        S3Fault::Truncate(50_000),
    ] {
        for operation in [S3Operation::Get, S3Operation::Put, S3Operation::Delete] {
            server.add_fault(S3Rule::new(fault.clone()).on(operation).times(2));
        }
        assert_eq!(get(&client, "a").unwrap().len(), 100_000, "{fault:?}");
        put(&client, "b", b"content").unwrap();
        client.block_on(client.delete("b")).unwrap();
        server.clear_faults();
    }
}

#[test]
fn an_object_that_may_be_stored_once_is_sent_once() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    put(&client, "a", b"").unwrap();
    let how = Put { once: true, ..Put::default() };
    let put = |key: &str| client.block_on(client.put(key, Bytes::from_static(b"x"), &how));
    for (i, fault) in [
        S3Fault::CloseBefore,
        S3Fault::CloseAfter,
        S3Fault::Truncate(0),
        S3Fault::Refuse(S3Refusal::InternalError),
    ]
    .into_iter()
    .enumerate()
    {
        server.add_fault(S3Rule::new(fault.clone()).on(S3Operation::Put));
        server.clear_requests();
        let key = format!("once{i}");
        let answer = put(&key);
        // A PUT has no body in its answer to be cut.
        assert!(answer.is_err() || fault == S3Fault::Truncate(0), "{fault:?}");
        assert_eq!(server.count(S3Operation::Put), 1, "{fault:?}");
        server.clear_faults();
    }
    // What was surely not done is sent again.
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).on(S3Operation::Put).times(2));
    server.clear_requests();
    put("twice").unwrap();
    assert_eq!(server.count(S3Operation::Put), 3);
}

#[test]
fn the_region_is_taught_once() {
    for by_code in [true, false] {
        let server = server(S3ServerOptions {
            region: "far-north-7".into(),
            check_region: true,
            ..S3ServerOptions::default()
        });
        let client = of(&server);
        if by_code {
            let redirect = S3Refusal::PermanentRedirect("far-north-7".into());
            server.add_fault(S3Rule::refuse(redirect).times(1));
        }
        put(&client, "a", b"x").unwrap();
        assert_eq!(client.region().as_deref(), Some("far-north-7"));
        assert_eq!(server.count(S3Operation::Put), 2);
        get(&client, "a").unwrap();
        assert_eq!(server.count(S3Operation::Get), 1);
        // One that goes on sending elsewhere is an error.
        let refusal = S3Refusal::PermanentRedirect("nowhere-1".into());
        server.add_fault(S3Rule::refuse(refusal));
        failed(get(&client, "a"), Class::WrongRegion);
    }
}

#[test]
fn a_wrong_clock_is_corrected_once() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    server.add_fault(S3Rule::refuse(S3Refusal::RequestTimeTooSkewed).times(1));
    put(&client, "a", b"x").unwrap();
    server.add_fault(S3Rule::refuse(S3Refusal::RequestTimeTooSkewed));
    server.clear_requests();
    failed(get(&client, "a"), Class::ClockSkew);
    assert_eq!(server.count(S3Operation::Get), 2);
}

#[test]
fn what_is_not_s3_is_told() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let is_get = buffer.starts_with(b"GET");
            let page = "<html><body>It works!</body></html>";
            let status = if is_get { "200 OK" } else { "404 Not Found" };
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{page}",
                page.len()
            );
        }
    });
    let server = server(S3ServerOptions::default());
    let client = hasty(&server, port);
    failed(pages(&client, "", false), Class::WrongEndpoint);
    failed(put(&client, "a", b"x"), Class::WrongEndpoint);
}

#[test]
fn connections_that_cannot_be_made_say_why_at_once() {
    let server = server(S3ServerOptions::default());
    let started = Instant::now();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let error = failed(get(&hasty(&server, port), "a"), Class::Refused);
    assert_eq!(error.stage, Stage::Connect);
    let endpoint = "no-such-host.invalid".into();
    let unknown = client(S3Options { endpoint, ..options(&server, 9) });
    let error = failed(get(&unknown, "a"), Class::NameNotFound);
    assert_eq!(error.stage, Stage::Resolve);
    // TLS where there is none.
    let plain = options(&server, server.address().port());
    let tls = client(S3Options { use_tls: true, tls_insecure_no_verify: true, ..plain });
    let error = failed(get(&tls, "a"), Class::Tls);
    assert_eq!(error.stage, Stage::Tls);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let scratch = scratch();
    for kind in [S3Tls::On, S3Tls::WrongName, S3Tls::Expired] {
        let server = server(S3ServerOptions { tls: kind, ..S3ServerOptions::default() });
        let ca_file = server.ca_file().map(Into::into);
        let options = S3Options { use_tls: true, ..options(&server, server.address().port()) };
        let own = client(S3Options { tls_ca_file: ca_file, ..options.clone() });
        match kind {
            S3Tls::On => put(&own, "a", b"x").unwrap(),
            _ => {
                let error = failed(put(&own, "a", b"x"), Class::Tls);
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert!(cause.contains("certificate"), "{cause}");
            }
        }
        // The system knows nothing of that authority.
        failed(put(&client(options.clone()), "a", b"x"), Class::Tls);
        let anyone = client(S3Options { tls_insecure_no_verify: true, ..options.clone() });
        put(&anyone, "a", b"x").unwrap();
        let empty = scratch.path().join("empty.pem");
        std::fs::write(&empty, "nothing").unwrap();
        for path in [empty, scratch.path().join("missing.pem")] {
            let options = S3Options { tls_ca_file: Some(path.clone()), ..options.clone() };
            let error = S3Client::new(runtime().handle().clone(), options).unwrap_err();
            assert_eq!(error.class, Class::Settings);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains(path.to_str().unwrap()), "{cause}");
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let server = server(S3ServerOptions::default());
    let good = options(&server, 1);
    let wrong = [
        S3Options { endpoint: String::new(), ..good.clone() },
        S3Options { endpoint: "https://h".into(), ..good.clone() },
        S3Options { bucket: String::new(), ..good.clone() },
        S3Options { bucket: "a/b".into(), ..good.clone() },
        S3Options { prefix: "/a".into(), ..good.clone() },
        S3Options { prefix: "a/".into(), ..good.clone() },
    ];
    for options in wrong {
        let error = S3Client::new(runtime().handle().clone(), options).unwrap_err();
        assert_eq!(error.class, Class::Settings, "{error}");
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    let server = server(S3ServerOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let client = hasty(&server, proxy.port());
    put(&client, "a", &random_bytes(1, 100_000)).unwrap();
    proxy.set_stalled(true);
    let started = Instant::now();
    failed(get(&client, "a"), Class::Timeout);
    let took = started.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    proxy.set_stalled(false);
    proxy.cut_all();
    get(&client, "a").unwrap();
}

#[test]
fn a_slow_line_is_no_silence() {
    let server = server(S3ServerOptions::default());
    let client = hasty(&server, server.address().port());
    put(&client, "a", b"x").unwrap();
    server.add_fault(S3Rule::new(S3Fault::Delay(Duration::from_millis(250))));
    // Each request is within the limit, all of them are not.
    for _ in 0..4 {
        get(&client, "a").unwrap();
    }
    assert_eq!(server.count(S3Operation::Get), 4);
}

#[test]
fn connections_are_kept_and_closed_ones_noticed() {
    let server = server(S3ServerOptions::default());
    let proxy = Proxy::start(server.address()).unwrap();
    let client = client(options(&server, proxy.port()));
    for _ in 0..20 {
        put(&client, "a", b"x").unwrap();
    }
    failed(get(&client, "missing"), Class::NoSuchKey);
    assert_eq!(proxy.accepted(), 1);
    proxy.cut_all();
    get(&client, "a").unwrap();
    assert_eq!(proxy.accepted(), 2);
    assert!(proxy.bytes(Direction::Up) > 0);
}

#[test]
fn requests_are_few_at_first_and_more_later() {
    let server = server(S3ServerOptions::default());
    let client = of(&server);
    assert_eq!(client.concurrency(), 8);
    server.add_fault(S3Rule::new(S3Fault::Delay(Duration::from_millis(20))));
    client.block_on(async {
        let all = (0..600).map(|i| {
            let client = client.clone();
            async move { client.put(&format!("{i}"), Bytes::new(), &Put::default()).await }
        });
        futures_util::future::try_join_all(all).await.unwrap();
    });
    assert!(client.concurrency() > 32, "{}", client.concurrency());
    assert!((16..=64).contains(&server.most_at_once()), "{}", server.most_at_once());
    let grown = client.concurrency();
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).times(1));
    server.clear_faults();
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).times(1));
    put(&client, "a", b"x").unwrap();
    assert_eq!(client.concurrency(), grown / 2);
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
