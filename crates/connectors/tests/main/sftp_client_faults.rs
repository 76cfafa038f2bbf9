//! The SFTP client when things go wrong: servers that die, stop, or talk nonsense, and callers that
//! lose interest. Nothing hangs, and every error has its cause.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use holdfast_connectors::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientOptions, DisconnectCause, File,
    OpenFlags, Operation, WriteSmall,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::sftp_client::{Server, kind, soon};

fn signal(server: &Server, signal: Signal) {
    let process = Pid::from_raw(server.process.id().unwrap() as i32).unwrap();
    kill_process(process, signal).unwrap();
}

async fn create(server: &Server, name: &str) -> File {
    let flags = OpenFlags::READ | OpenFlags::WRITE | OpenFlags::CREATE;
    server.client.open(&server.at(name), flags, &Attributes::default()).await.unwrap()
}

fn quick(timeout: u64) -> ClientOptions {
    ClientOptions { timeout: Duration::from_millis(timeout), ..ClientOptions::default() }
}

/// Calls of many kinds, more than may be in flight, that all wait on a server that is stopped.
fn waiting_calls(server: &Server, file: &Arc<File>) -> tokio::task::JoinSet<ClientError> {
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..300 {
        let (client, file, path) = (server.client.clone(), file.clone(), server.at("f"));
        calls.spawn(async move {
            match i % 6 {
                0 => client.stat(&path).await.map(drop),
                1 => file.write_at(0, &[1; 1_000_000]).await,
                2 => file.read_range(0, 1_000_000).await.map(drop),
                3 => client.list(b"/").await.map(drop),
                4 => client.read_small(&path, 1000).await.map(drop),
                _ => client.write_small(&path, &[1; 1000], &WriteSmall::default()).await,
            }
            .expect_err("it should have failed")
        });
    }
    calls
}

#[tokio::test]
async fn when_the_server_dies_everything_that_waits_fails_at_once() {
    let mut server = Server::new(&[]).await;
    let file = Arc::new(create(&server, "f").await);
    signal(&server, Signal::STOP);
    let mut calls = waiting_calls(&server, &file);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!server.client.is_dead() && calls.try_join_next().is_none());

    signal(&server, Signal::KILL);
    let start = Instant::now();
    while let Some(error) = soon(calls.join_next()).await {
        let error = error.unwrap();
        assert_eq!(error.kind, ClientErrorKind::Disconnected, "{error}");
        assert!(matches!(error.disconnect_cause(), Some(DisconnectCause::Ended)), "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(server.client.is_dead());
    assert!(matches!(*soon(server.client.closed()).await, DisconnectCause::Ended));
    let error = soon(server.client.stat(b"/")).await.unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(error.to_string(), "stat /: the connection is gone");
    assert_eq!(cause.as_deref(), Some("the server closed the connection"));
    server.process.wait().await.unwrap();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let server = Server::with(&[], quick(400)).await;
    let file = Arc::new(create(&server, "f").await);
    // Idle is not silent.
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(!server.client.is_dead());

    signal(&server, Signal::STOP);
    let start = Instant::now();
    let mut calls = waiting_calls(&server, &file);
    let mut timeouts = 0;
    while let Some(error) = soon(calls.join_next()).await {
        let error = error.unwrap();
        assert!(error.is_disconnect(), "{error}");
        assert!(matches!(error.disconnect_cause(), Some(DisconnectCause::Silent(_))), "{error:?}");
        timeouts += u32::from(error.kind == ClientErrorKind::Timeout);
    }
    let taken = start.elapsed();
    assert!(taken > Duration::from_millis(400) && taken < Duration::from_secs(10), "{taken:?}");
    // Those that were in flight; the others never got their turn.
    assert!((1..=64).contains(&timeouts), "{timeouts}");
    assert!(server.client.is_dead());
}

#[tokio::test]
async fn slow_is_not_silent() {
    let server = Server::with(&[], quick(1500)).await;
    let file = create(&server, "f").await;
    let content = vec![7; 60 << 20];
    // Stopped and continued all the time, the server needs far longer than the timeout.
    let process = server.process.id().unwrap().to_string();
    let mut pauses = Command::new("sh")
        .args(["-c", "while kill -STOP $0; do sleep .5; kill -CONT $0; sleep .002; done", &process])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let start = Instant::now();
    soon(file.write_at(0, &content)).await.unwrap();
    assert!(soon(file.read_range(0, content.len())).await.unwrap() == content);
    let taken = start.elapsed();
    pauses.kill().await.unwrap();
    signal(&server, Signal::CONT);
    assert!(taken > Duration::from_secs(3), "{taken:?}");
}

#[tokio::test]
async fn forcing_to_disk_may_take_longer() {
    let server = Server::with(&[], quick(200)).await;
    let file = create(&server, "f").await;
    signal(&server, Signal::STOP);
    let sync = async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        signal(&server, Signal::CONT);
    };
    let (outcome, ()) = soon(async { tokio::join!(file.sync(), sync) }).await;
    outcome.unwrap();
}

#[tokio::test]
async fn dropped_calls_leave_nothing_behind() {
    let options = ClientOptions { requests_in_flight: 16, ..ClientOptions::default() };
    let server = Server::with(&[], options).await;
    std::fs::write(server.local("f"), vec![1; 1_000_000]).unwrap();
    let file = Arc::new(create(&server, "f").await);
    let descriptors = format!("/proc/{}/fd", server.process.id().unwrap());
    let open_files = || std::fs::read_dir(&descriptors).unwrap().count();
    let before = open_files();

    for round in 0..200 {
        let (client, path) = (&server.client, server.at("f"));
        let none = Attributes::default();
        let calls = async {
            let (a, b, c, d) = tokio::join!(
                client.open(&path, OpenFlags::READ, &none),
                client.open_directory(b"/"),
                client.read_small(&path, 1_000_000),
                file.read_range(0, 1_000_000),
            );
            (a.map(drop), b.map(drop), c.map(drop), d.map(drop))
        };
        // Dropped at different points: a call that was polled so often has got so far.
        let mut calls = Box::pin(calls);
        let mut polls = 0;
        let _ = soon(poll_fn(|context| {
            if polls == round % 8 {
                return Poll::Ready(None);
            }
            polls += 1;
            calls.as_mut().poll(context).map(Some)
        }))
        .await;
        drop(calls);
    }
    // All places are free again: more calls than places pass, and each gets its own answer.
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..64_u64 {
        let file = file.clone();
        tasks.spawn(
            async move { file.read_range(1_000_000 - i, 100).await.unwrap().len() as u64 == i },
        );
    }
    while let Some(outcome) = soon(tasks.join_next()).await {
        assert!(outcome.unwrap());
    }
    server.client.stat(b"/").await.unwrap();
    assert_eq!(open_files(), before);
    assert!(server.requests(Operation::Open) > 100);
}

#[tokio::test]
async fn a_stream_may_be_interrupted_between_pieces() {
    let server = Server::new(&[]).await;
    let content: Vec<u8> = (0..10_000_000_u32).map(|i| (i >> 8) as u8).collect();
    std::fs::write(server.local("f"), &content).unwrap();
    let mut reader = create(&server, "f").await.reader(0, u64::MAX, 4 << 20);
    let mut found = Vec::new();
    soon(async {
        loop {
            // Given up at once if it has to wait, and asked again.
            match tokio::time::timeout(Duration::ZERO, reader.next()).await {
                Ok(data) => match data.unwrap() {
                    Some(data) => found.extend(data),
                    None => break,
                },
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    assert!(found == content);
}

#[tokio::test]
async fn the_connection_ends_with_its_last_user() {
    let mut server = Server::new(&[]).await;
    let client = server.client.clone();
    let file = create(&server, "f").await;
    let other = Server::new(&[]).await;
    server.client = other.client.clone();
    drop(client);
    // The file still works.
    file.write_at(0, b"x").await.unwrap();
    assert!(server.process.try_wait().unwrap().is_none());
    drop(file);
    assert!(soon(server.process.wait()).await.unwrap().success());
}

#[tokio::test]
async fn disconnecting_ends_everything_at_once() {
    let mut server = Server::new(&[]).await;
    let file = Arc::new(create(&server, "f").await);
    signal(&server, Signal::STOP);
    let mut calls = waiting_calls(&server, &file);
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.client.disconnect();
    while let Some(error) = soon(calls.join_next()).await {
        assert_eq!(error.unwrap().kind, ClientErrorKind::Disconnected);
    }
    assert!(matches!(*server.client.closed().await, DisconnectCause::Closed));
    signal(&server, Signal::CONT);
    soon(server.process.wait()).await.unwrap();
}

/// What a program in place of a server leads to.
async fn against(script: &str) -> ClientError {
    let mut process = Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    soon(Client::connect_halves(output, input, &quick(500))).await.unwrap_err()
}

#[tokio::test]
async fn programs_that_are_no_servers_are_recognised() {
    let error = against("echo 'Welcome to the \"NAS\"'; cat").await;
    let Some(DisconnectCause::Text { text }) = error.disconnect_cause() else {
        panic!("{error:?}");
    };
    assert_eq!(text, "Welcome to the \"NAS\"\\n");
    assert_eq!((error.operation, error.kind), (Operation::Init, ClientErrorKind::Disconnected));

    let error = against("exit 0").await;
    assert!(matches!(error.disconnect_cause(), Some(DisconnectCause::Ended)), "{error:?}");
    let error = against("cat >/dev/null").await;
    assert_eq!(error.kind, ClientErrorKind::Timeout);
    let error = against("printf '\\377\\377\\377\\377abc'; cat").await;
    assert!(matches!(error.disconnect_cause(), Some(DisconnectCause::TooLong { .. })), "{error:?}");
    let error = against("printf '\\0\\0\\0\\0'; cat").await;
    assert!(matches!(error.disconnect_cause(), Some(DisconnectCause::Garbage(_))), "{error:?}");
    // What was sent comes back: a packet, but not the one that is due.
    assert_eq!(against("cat").await.kind, ClientErrorKind::BadMessage);
    // Version 4 is another protocol.
    let error = against("printf '\\0\\0\\0\\5\\2\\0\\0\\0\\4'; cat").await;
    assert_eq!(error.kind, ClientErrorKind::BadMessage);
}

#[tokio::test]
async fn garbage_after_a_good_start_ends_the_connection() {
    // The real server's first words and limits, then something else.
    for (noise, garbage) in [
        (&b"\0\0\0\x09\x65\0\0\xff\xff\0\0\0\0"[..], true),
        (b"\0\0\0\x03abc", true),
        (b"\xff\xff\xff\xffabc", false),
        (b"\0\0", false),
    ] {
        let (mut process, mut output, input) = crate::sftp_client::start(&[]);
        let (near, far) = tokio::io::duplex(1 << 16);
        let (_, mut to_client) = tokio::io::split(far);
        let relay = tokio::spawn(async move {
            // The answers to "init" and "limits" have 48 bytes of limits at their end.
            let mut buffer = vec![0; 1 << 16];
            for _ in 0..2 {
                let n = tokio::io::AsyncReadExt::read(&mut output, &mut buffer).await.unwrap();
                to_client.write_all(&buffer[..n]).await.unwrap();
            }
            to_client
        });
        let client = soon(Client::connect_halves(near, input, &quick(1000))).await.unwrap();
        let mut to_client = soon(relay).await.unwrap();
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { client.stat(b"/").await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        to_client.write_all(noise).await.unwrap();
        if noise.len() == 2 {
            drop(to_client);
        }
        let error = soon(waiting).await.unwrap().unwrap_err();
        let is_garbage = matches!(error.disconnect_cause(), Some(DisconnectCause::Garbage(_)));
        assert_eq!((error.kind, is_garbage), (ClientErrorKind::Disconnected, garbage), "{error:?}");
        assert_eq!(kind(client.stat(b"/").await), ClientErrorKind::Disconnected);
        process.kill().await.unwrap();
    }
}

#[test]
fn a_runtime_that_stops_fails_what_waits() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(Server::new(&[]));
    let client = server.client.clone();
    signal(&server, Signal::STOP);
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let own = tokio::runtime::Builder::new_current_thread().build().unwrap();
        done.send(own.block_on(client.stat(b"/")).unwrap_err())
    });
    std::thread::sleep(Duration::from_millis(50));
    runtime.shutdown_background();
    let error = waiting.recv_timeout(Duration::from_secs(30)).expect("it hangs");
    assert_eq!(error.kind, ClientErrorKind::Disconnected, "{error:?}");
}
