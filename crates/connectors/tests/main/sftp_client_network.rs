//! The SFTP client over a network that is slow, stalls, and breaks: round trips are counted by the
//! clock, and nothing hangs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientErrorKind, ClientOptions, OpenFlags, WriteSmall,
};
use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{Direction, Proxy};
use tokio::net::TcpStream;

use crate::sftp_client::{kind, soon};

/// A port with an SFTP server for every connection.
fn servers() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_nodelay(true).unwrap();
            let output = OwnedFd::from(stream.try_clone().unwrap());
            let mut server = Command::new(crate::sftp_client::server_program())
                .stdin(OwnedFd::from(stream))
                .stdout(output)
                .spawn()
                .unwrap();
            std::thread::spawn(move || server.wait());
        }
    });
    address
}

async fn connect(proxy: &Proxy, timeout: Duration) -> Client {
    let stream = TcpStream::connect(proxy.address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let options = ClientOptions { timeout, ..ClientOptions::default() };
    soon(Client::connect(stream, &options)).await.unwrap()
}

/// The result, and how many round trips it took.
async fn trips<T>(trip: Duration, call: impl Future<Output = T>) -> (T, u32) {
    let start = Instant::now();
    let outcome = soon(call).await;
    (outcome, (start.elapsed().as_secs_f64() / trip.as_secs_f64()) as u32)
}

const MINUTE: Duration = Duration::from_secs(60);
const READ: OpenFlags = OpenFlags::READ;

#[tokio::test]
async fn calls_take_as_few_round_trips_as_they_can() {
    let proxy = Proxy::start(servers()).unwrap();
    let client = connect(&proxy, MINUTE).await;
    let directory = crate::scratch();
    let at = |name: &str| [directory.path().as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
    let content = random_bytes(1, 8_000_000);
    std::fs::write(directory.path().join("large"), &content).unwrap();
    std::fs::create_dir(directory.path().join("many")).unwrap();
    for i in 0..5_000 {
        std::fs::write(directory.path().join(format!("many/{i}")), b"").unwrap();
    }
    let trip = Duration::from_millis(160);
    proxy.set_latency(trip / 2);

    // Each may take most of one round trip more on a machine with much else to do.
    let how = WriteSmall { attributes: Some(Attributes::default()), sync: true, permissions: None };
    let (outcome, taken) = trips(trip, client.write_small(&at("f"), &[7; 1000], &how)).await;
    outcome.unwrap();
    assert_eq!(taken, 2);
    let (outcome, taken) = trips(trip, client.read_small(&at("f"), 1000)).await;
    assert_eq!((outcome.unwrap().bytes.len(), taken), (1000, 2));
    let (outcome, taken) = trips(trip, client.list(&at(""))).await;
    assert_eq!((outcome.unwrap().len(), taken), (3, 2));
    // One, two, four, … requests at once: 51 batches.
    let (outcome, taken) = trips(trip, client.list(&at("many"))).await;
    assert_eq!(outcome.unwrap().len(), 5_000);
    assert!(taken <= 8, "{taken} round trips for 5 000 names");
    let file = client.open(&at("large"), READ, &Attributes::default()).await.unwrap();
    let (outcome, taken) = trips(trip, file.read_range(0, content.len())).await;
    assert!(outcome.unwrap() == content && taken <= 2, "{taken} round trips to read");
    let file = client.open(&at("f"), OpenFlags::WRITE, &Attributes::default()).await.unwrap();
    let (outcome, taken) = trips(trip, file.write_at(0, &content)).await;
    outcome.unwrap();
    assert!(taken <= 3, "{taken} round trips to write");
    assert!(std::fs::read(directory.path().join("f")).unwrap() == content);
    let file = client.open(&at("large"), READ, &Attributes::default()).await.unwrap();
    let stream = async {
        let (mut reader, mut bytes) = (file.reader(0, u64::MAX, 16 << 20), 0);
        while let Some(data) = reader.next().await.unwrap() {
            bytes += data.len();
        }
        bytes
    };
    // 4, 8, 16, 32 pieces of 255 KiB, and the end.
    let (bytes, taken) = trips(trip, stream).await;
    assert!(bytes == content.len() && taken <= 6, "{taken} round trips to stream");
}

#[tokio::test]
async fn a_cut_fails_everything_wherever_it_comes() {
    let proxy = Proxy::start(servers()).unwrap();
    let directory = crate::scratch();
    let content = random_bytes(2, 3_000_000);
    std::fs::write(directory.path().join("f"), &content).unwrap();
    let path = [directory.path().as_os_str().as_bytes(), b"/f"].concat();
    for round in 0..40 {
        let client = connect(&proxy, MINUTE).await;
        let file = client.open(&path, READ, &Attributes::default()).await.unwrap();
        proxy.cut_after(Direction::Down, 1 + round * 61_357);
        let (a, b, c) = soon(async {
            tokio::join!(
                file.read_range(0, 3_000_000),
                client.read_small(&path, 3_000_000),
                client.list(b"/usr/bin"),
            )
        })
        .await;
        // Some may have come through before.
        let outcomes = [
            a.map(|bytes| assert!(bytes == content)),
            b.map(|found| assert!(found.bytes == content)),
            c.map(drop),
        ];
        assert!(outcomes.iter().any(Result::is_err));
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind, ClientErrorKind::Disconnected, "{error:?}");
        }
        assert!(client.is_dead());
    }
    assert_eq!(proxy.cuts(), 40);
}

#[tokio::test]
async fn a_stalled_network_is_given_up() {
    let proxy = Proxy::start(servers()).unwrap();
    let client = connect(&proxy, Duration::from_millis(500)).await;
    client.stat(b"/").await.unwrap();
    proxy.set_stalled(true);
    let start = Instant::now();
    assert_eq!(kind(soon(client.stat(b"/")).await), ClientErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(kind(client.stat(b"/").await), ClientErrorKind::Disconnected);
    proxy.set_stalled(false);
    connect(&proxy, MINUTE).await.stat(b"/").await.unwrap();
}
