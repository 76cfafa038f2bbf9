//! What goes wrong on the way to a bucket: refusals, wrong settings, clocks and regions, bad networks.

use super::*;

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
    // What is told at once was asked once.
    let asked = |client: &S3Client| client.recorder().requests(Operation::GetObject);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let refused = hasty(&server, port);
    let error = failed(get(&refused, "a"), Class::Refused);
    assert_eq!((error.stage, asked(&refused)), (Stage::Connect, 1));
    let endpoint = "no-such-host.invalid".into();
    let unknown = client(S3Options { endpoint, ..options(&server, 9) });
    let error = failed(get(&unknown, "a"), Class::NameNotFound);
    assert_eq!((error.stage, asked(&unknown)), (Stage::Resolve, 1));
    // TLS where there is none.
    let plain = options(&server, server.address().port());
    let tls = client(S3Options { use_tls: true, tls_insecure_no_verify: true, ..plain });
    let error = failed(get(&tls, "a"), Class::Tls);
    assert_eq!((error.stage, asked(&tls)), (Stage::Tls, 1));
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
fn a_handshake_that_is_cut_is_done_again() {
    let server = server(S3ServerOptions { tls: S3Tls::On, ..S3ServerOptions::default() });
    let proxy = Proxy::start(server.address()).unwrap();
    let at = options(&server, proxy.port());
    let client = client(S3Options { use_tls: true, tls_insecure_no_verify: true, ..at });
    // Of a server that never answered it is told at once.
    proxy.cut_after(Direction::Down, 100);
    failed(put(&client, "a", b"x"), Class::Tls);
    put(&client, "a", b"x").unwrap();
    for once in [false, true] {
        proxy.cut_all();
        let before = proxy.cuts();
        proxy.cut_every(Direction::Down, 100, 2);
        let how = Put { once, ..Put::default() };
        client.block_on(client.put("b", Bytes::from_static(b"x"), &how)).unwrap();
        assert_eq!(proxy.cuts() - before, 2);
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
        S3Options { timeout: Duration::ZERO, ..good.clone() },
        S3Options { timeout: Duration::MAX, ..good.clone() },
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
    // Far less than the half minute that others are given; a busy machine may take its time.
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(25), "{took:?}");
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
    assert!((2..=64).contains(&server.most_at_once()), "{}", server.most_at_once());
    let grown = client.concurrency();
    server.clear_faults();
    server.add_fault(S3Rule::refuse(S3Refusal::SlowDown).times(1));
    put(&client, "a", b"x").unwrap();
    assert_eq!(client.concurrency(), grown / 2);
}
