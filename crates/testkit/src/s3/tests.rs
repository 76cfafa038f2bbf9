//! The server through a client of a few lines, so that nothing here depends on the one that it
//! tests: plain sockets, and signatures as AWS describes them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use s3s::crypto::{Checksum, Sha256};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::store::hex;
use super::*;

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::checksum(bytes).as_ref().to_vec()
}

/// RFC 2104.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut block = if key.len() > 64 { sha256(key) } else { key.to_vec() };
    block.resize(64, 0);
    let pad = |with: u8| block.iter().map(|byte| byte ^ with).collect::<Vec<_>>();
    let inner = sha256(&[&pad(0x36)[..], text.as_bytes()].concat());
    sha256(&[&pad(0x5c)[..], &inner].concat())
}

/// Now, as `20260102T030405Z`. The days of a civil year, counted from March.
fn stamp() -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (days, of_day) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// One request on a connection of its own. `query` is sorted and encoded. `None` if the connection
/// ended before a whole answer.
fn ask(
    server: &S3Server,
    secret: &str,
    method: &str,
    path: &str,
    query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let (host, stamp, sum) = (server.endpoint(), stamp(), hex(&sha256(body)));
    let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    all.push(("host".into(), host.clone()));
    all.push(("x-amz-content-sha256".into(), sum.clone()));
    all.push(("x-amz-date".into(), stamp.clone()));
    all.sort();
    let signed: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    let signed = signed.join(";");
    let lines: String = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let whole_query: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    let canonical =
        format!("{method}\n{path}\n{}\n{lines}\n{signed}\n{sum}", whole_query.join("&"));
    let day = &stamp[..8];
    let scope = format!("{day}/{}/s3/aws4_request", server.region());
    let text =
        format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in [day, server.region(), "s3", "aws4_request"] {
        key = hmac(&key, part);
    }
    let signature = hex(&hmac(&key, &text));
    let mark = if query.is_empty() { "" } else { "?" };
    let mut request = format!("{method} {path}{mark}{query} HTTP/1.1\r\n");
    for (name, value) in &all {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!(
        "authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, \
         Signature={signature}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        server.access_key(),
        body.len()
    ));
    let mut socket = TcpStream::connect(server.address()).ok()?;
    socket.write_all(request.as_bytes()).ok()?;
    socket.write_all(body).ok()?;
    reply(BufReader::new(socket), method == "HEAD")
}

fn reply(mut from: impl BufRead, is_head: bool) -> Option<Reply> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line.to_lowercase());
    }
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = Vec::new();
    from.read_to_end(&mut body).ok()?;
    if !is_head && length.is_some_and(|length: usize| length != body.len()) {
        return None;
    }
    Some(Reply { status, headers: head, body })
}

fn server() -> S3Server {
    S3Server::start(S3ServerOptions::default()).unwrap()
}

fn get(server: &S3Server, path: &str) -> Option<Reply> {
    ask(server, server.secret_key(), "GET", path, "", &[], b"")
}

fn put(server: &S3Server, path: &str, body: &[u8]) -> Reply {
    ask(server, server.secret_key(), "PUT", path, "", &[], body).unwrap()
}

fn list(server: &S3Server, query: &str) -> Reply {
    ask(server, server.secret_key(), "GET", "/bucket", query, &[], b"").unwrap()
}

#[test]
fn objects_come_back_as_they_went() {
    let server = server();
    let headers = [("content-type", "text/x"), ("x-amz-meta-colour", "blue")];
    let secret = server.secret_key();
    let stored = ask(&server, secret, "PUT", "/bucket/a//b", "", &headers, b"hello").unwrap();
    assert_eq!(stored.status, 200, "{}", stored.text());
    let back = get(&server, "/bucket/a//b").unwrap();
    assert_eq!((back.status, &back.body[..]), (200, &b"hello"[..]));
    assert!(back.headers.contains("x-amz-meta-colour: blue"), "{}", back.headers);
    assert!(back.headers.contains("etag: \"5d41402abc4b2a76b9719d911017c592\""));
    let part =
        ask(&server, secret, "GET", "/bucket/a//b", "", &[("range", "bytes=1-2")], b"").unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &b"el"[..]));
    assert_eq!(get(&server, "/bucket/a/b").unwrap().status, 404);
    let requests = server.requests();
    assert_eq!((requests[0].operation, requests[0].received), (S3Operation::Put, 5));
    assert_eq!((requests[1].key.as_str(), requests[1].sent), ("a//b", 5));
    assert_eq!(requests[3].status, Some(404));
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn signatures_are_checked() {
    let server = server();
    let wrong = ask(&server, "wrong", "GET", "/bucket/a", "", &[], b"").unwrap();
    assert_eq!(wrong.status, 403);
    assert!(wrong.text().contains("SignatureDoesNotMatch"), "{}", wrong.text());
    // A body that is not the one that was signed for.
    let sum = [("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")];
    let other = ask(&server, server.secret_key(), "PUT", "/bucket/a", "", &sum, b"x").unwrap();
    assert_eq!(other.status, 400);
    assert!(server.keys("bucket").is_empty());
}

#[test]
fn listings_have_pages_and_prefixes() {
    let options = S3ServerOptions { page: 2, ..S3ServerOptions::default() };
    let server = S3Server::start(options).unwrap();
    for key in ["a", "a-b", "a/1", "a/2", "b/", "c d+"] {
        assert!(server.put("bucket", key, S3Object::new(key.as_bytes().to_vec())));
    }
    let first = list(&server, "delimiter=%2F&list-type=2").text();
    assert!(first.contains("<Key>a</Key>") && first.contains("<Key>a-b</Key>"), "{first}");
    assert!(first.contains("<IsTruncated>true</IsTruncated>") && !first.contains("a/"));
    let token = first.split("NextContinuationToken>").nth(1).unwrap().trim_end_matches("</");
    let query = format!("continuation-token={token}&delimiter=%2F&encoding-type=url&list-type=2");
    let second = list(&server, &query).text();
    assert!(second.contains("<Prefix>a/</Prefix>") && second.contains("<Prefix>b/</Prefix>"));
    assert!(second.contains("<IsTruncated>true</IsTruncated>"), "{second}");
    let token = second.split("NextContinuationToken>").nth(1).unwrap().trim_end_matches("</");
    let query = format!("continuation-token={token}&delimiter=%2F&encoding-type=url&list-type=2");
    let third = list(&server, &query).text();
    assert!(third.contains("<Key>c+d%2B</Key>"), "{third}");
    assert!(third.contains("<IsTruncated>false</IsTruncated>"));
    let below = list(&server, "list-type=2&prefix=a%2F").text();
    assert!(below.contains("a/1") && below.contains("a/2") && !below.contains("a-b"));
}

#[test]
fn conditions_guard_what_is_there() {
    let server = server();
    let secret = server.secret_key();
    let new = [("if-none-match", "*")];
    let first = ask(&server, secret, "PUT", "/bucket/a", "", &new, b"1").unwrap();
    let second = ask(&server, secret, "PUT", "/bucket/a", "", &new, b"2").unwrap();
    assert_eq!((first.status, second.status), (200, 412));
    let stale = [("if-match", "\"00000000000000000000000000000000\"")];
    assert_eq!(ask(&server, secret, "GET", "/bucket/a", "", &stale, b"").unwrap().status, 412);
    assert_eq!(server.object("bucket", "a").unwrap().content, &b"1"[..]);
}

#[test]
fn faults_strike_where_they_are_meant() {
    let server = server();
    put(&server, "/bucket/a", b"0123456789");
    put(&server, "/bucket/b", b"0123456789");
    let on_a = |fault| S3Rule::new(fault).on(S3Operation::Get).key("*a").times(1);
    server.add_fault(on_a(S3Fault::Refuse(S3Refusal::SlowDown)).after(1));
    let seen: Vec<_> = ["a", "b", "a", "a"]
        .iter()
        .map(|key| get(&server, &format!("/bucket/{key}")).unwrap().status)
        .collect();
    assert_eq!(seen, [200, 200, 503, 200]);
    server.add_fault(on_a(S3Fault::Truncate(4)));
    assert!(get(&server, "/bucket/a").is_none(), "the body is whole");
    server.add_fault(on_a(S3Fault::FlipBit));
    assert_eq!(get(&server, "/bucket/a").unwrap().body, b"0123446789");
    server.add_fault(on_a(S3Fault::CloseBefore));
    assert!(get(&server, "/bucket/a").is_none());
    server.add_fault(on_a(S3Fault::Delay(Duration::from_millis(50))));
    let begun = Instant::now();
    assert_eq!(get(&server, "/bucket/a").unwrap().status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(50));

    let on_put = |fault| S3Rule::new(fault).on(S3Operation::Put).times(1);
    let secret = server.secret_key();
    server.add_fault(on_put(S3Fault::CloseBefore));
    assert!(ask(&server, secret, "PUT", "/bucket/c", "", &[], b"c").is_none());
    assert!(server.object("bucket", "c").is_none());
    server.add_fault(on_put(S3Fault::CloseAfter));
    assert!(ask(&server, secret, "PUT", "/bucket/c", "", &[], b"c").is_none());
    assert!(server.object("bucket", "c").is_some(), "the request had no effect");
}

#[test]
fn refusals_have_the_form_of_aws() {
    let server = server();
    let wrong = S3Refusal::WrongRegion("eu-west-3".into());
    server.add_fault(S3Rule::refuse(wrong).times(2));
    let answer = get(&server, "/bucket/a").unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("<Region>eu-west-3</Region>"), "{}", answer.text());
    let secret = server.secret_key();
    let head = ask(&server, secret, "HEAD", "/bucket", "", &[], b"").unwrap();
    assert_eq!((head.status, head.body.len()), (400, 0));
    assert!(head.headers.contains("x-amz-bucket-region: eu-west-3"));
    assert_eq!(get(&server, "/bucket/a").unwrap().status, 404);
}

#[test]
fn locks_and_cold_classes_hold() {
    let options = S3ServerOptions { object_lock: true, ..S3ServerOptions::default() };
    let server = S3Server::start(options).unwrap();
    let secret = server.secret_key();
    let lock = [
        ("x-amz-object-lock-mode", "COMPLIANCE"),
        ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z"),
    ];
    let stored = ask(&server, secret, "PUT", "/bucket/a", "", &lock, b"kept").unwrap();
    assert_eq!(stored.status, 200, "{}", stored.text());
    let version = server.object("bucket", "a").unwrap().version.unwrap();
    // A mark hides it; the version itself does not go.
    assert_eq!(ask(&server, secret, "DELETE", "/bucket/a", "", &[], b"").unwrap().status, 204);
    assert!(server.keys("bucket").is_empty());
    let query = format!("versionId={version}");
    let refused = ask(&server, secret, "DELETE", "/bucket/a", &query, &[], b"").unwrap();
    assert_eq!(refused.status, 403);
    assert_eq!(server.versions("bucket", "a").len(), 1);
    server.set_clock_ahead(Duration::from_secs(100 * 366 * 86_400));
    let gone = ask(&server, secret, "DELETE", "/bucket/a", &query, &[], b"").unwrap();
    assert_eq!((gone.status, server.versions("bucket", "a").len()), (204, 0));

    let cold = [("x-amz-storage-class", "GLACIER")];
    ask(&server, secret, "PUT", "/bucket/ice", "", &cold, b"cold").unwrap();
    let answer = get(&server, "/bucket/ice").unwrap();
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("InvalidObjectState"), "{}", answer.text());
    assert_eq!(
        ask(&server, secret, "POST", "/bucket/ice", "restore", &[], b"").unwrap().status / 100,
        2
    );
    assert_eq!(get(&server, "/bucket/ice").unwrap().status, 403);
    assert_eq!(server.thaw(), 1);
    assert_eq!(get(&server, "/bucket/ice").unwrap().body, b"cold");
}

#[test]
fn files_are_a_backend_too() {
    let backend = S3Backend::Directory(None);
    let server = S3Server::start(S3ServerOptions { backend, ..Default::default() }).unwrap();
    assert_eq!(put(&server, "/bucket/d/f", b"hello").status, 200);
    assert_eq!(get(&server, "/bucket/d/f").unwrap().body, b"hello");
    let path = server.bucket_dir("bucket").unwrap().join("d/f");
    assert_eq!(std::fs::read(path).unwrap(), b"hello");
}

#[test]
fn only_the_good_certificate_is_accepted() {
    for (tls, is_good) in [(S3Tls::On, true), (S3Tls::WrongName, false), (S3Tls::Expired, false)] {
        let server = S3Server::start(S3ServerOptions { tls, ..Default::default() }).unwrap();
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(server.ca_file().unwrap()).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let connected = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(server.address()).await.unwrap();
            TlsConnector::from(Arc::new(config)).connect(name, socket).await.map(|_| ())
        });
        assert_eq!(connected.is_ok(), is_good, "{tls:?}: {connected:?}");
    }
}
