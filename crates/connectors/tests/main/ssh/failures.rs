//! Everything before sign-in that can go wrong, provoked for real.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

/// Options for whatever listens on `port`.
fn to(port: u16) -> SshOptions {
    SshOptions {
        host: "127.0.0.1".into(),
        port: Some(port),
        username: Some("me".into()),
        ssh_config: ConfigFiles::None,
        home: Some("/nonexistent".into()),
        use_agent: Some(false),
        timeout: Duration::from_secs(1),
        ..SshOptions::default()
    }
}

/// A server of one's own: `talk` gets each connection.
fn listen(talk: impl Fn(std::net::TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            talk(stream);
        }
    });
    port
}

#[test]
fn no_such_name() {
    block_on(async {
        let mut asked = to(22);
        asked.host = "no-such-host.invalid".into();
        asked.timeout = Duration::from_secs(30);
        let error = refused(asked).await;
        assert_eq!((error.class(), error.stage), (Class::NameNotFound, Stage::Resolve), "{error}");
    });
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    block_on(async {
        let error = refused(to(port)).await;
        assert_eq!((error.class(), error.stage), (Class::Refused, Stage::Tcp), "{error}");
        assert!(error.to_string().contains(&port.to_string()));
        assert!(std::error::Error::source(&error).is_some());
    });
}

#[test]
fn a_listener_that_never_answers() {
    let held = Mutex::new(Vec::new());
    let port = listen(move |stream| held.lock().unwrap().push(stream));
    block_on(async {
        let started = std::time::Instant::now();
        let error = refused(to(port)).await;
        assert_eq!((error.class(), error.stage), (Class::Timeout, Stage::Handshake), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_full_backlog_is_a_timeout() {
    // A listener whose queue is full drops what comes; packets to it are lost.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let address = socket.local_addr().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)))
        .collect();
    block_on(async {
        let error = refused(to(address.port())).await;
        assert_eq!((error.class(), error.stage), (Class::Timeout, Stage::Tcp), "{error}");
    });
    drop(fill);
}

#[test]
fn a_server_that_is_no_ssh_server() {
    let port = listen(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    block_on(async {
        let error = refused(to(port)).await;
        assert_eq!(error.stage, Stage::Handshake, "{error}");
        assert!(matches!(error.class(), Class::Protocol | Class::Timeout), "{error} {error:?}");
    });
    let port = listen(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-x\r\n\xff\xff\xff\xff\x04garbage");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    block_on(async {
        let error = refused(to(port)).await;
        assert_eq!((error.class(), error.stage), (Class::Protocol, Stage::Handshake), "{error}");
    });
}

#[test]
fn a_server_that_hangs_up() {
    let port = listen(drop);
    block_on(async {
        let error = refused(to(port)).await;
        assert_eq!(
            (error.class(), error.stage),
            (Class::Disconnected, Stage::Handshake),
            "{error}"
        );
    });
    let port = listen(|mut stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n");
    });
    block_on(async {
        let error = refused(to(port)).await;
        assert_eq!(
            (error.class(), error.stage),
            (Class::Disconnected, Stage::Handshake),
            "{error}"
        );
    });
}

#[test]
fn a_connection_that_stalls_during_sign_in() {
    // A real server behind a proxy that stops carrying after some bytes.
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let mut stages = Vec::new();
    for limit in [20usize, 500, 1200, 1800, 2000, 2200] {
        let to_server = server.port();
        let port = listen(move |client| {
            let Ok(upstream) = std::net::TcpStream::connect(("127.0.0.1", to_server)) else {
                return;
            };
            let (mut from, mut into) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            std::thread::spawn(move || {
                let (mut upstream, mut client) = (upstream, client);
                let _ = std::io::copy(&mut (&mut upstream).take(limit as u64), &mut client);
                std::thread::sleep(Duration::from_secs(20));
            });
        });
        block_on(async {
            let mut asked = with_key(&server, &key);
            asked.port = Some(port);
            asked.timeout = Duration::from_secs(1);
            let started = std::time::Instant::now();
            match connect(asked).await {
                Ok(session) => {
                    stages.push(session.sftp().await.map_or_else(|e| e.stage, |_| Stage::Channel));
                }
                Err(error) => {
                    assert_eq!(error.class(), Class::Timeout, "{limit}: {error}");
                    stages.push(error.stage);
                }
            }
            assert!(started.elapsed() < Duration::from_secs(8), "{limit}");
        });
    }
    assert!(stages.is_sorted(), "{stages:?}");
    assert!(stages.contains(&Stage::Handshake) && stages.contains(&Stage::SignIn), "{stages:?}");
}

#[test]
fn settings_that_cannot_be() {
    block_on(async {
        for host in ["", "-oProxyCommand=touch /tmp/x", "a b"] {
            let mut asked = to(22);
            asked.host = host.into();
            let error = refused(asked).await;
            assert_eq!((error.class(), error.stage), (Class::Settings, Stage::Settings), "{host}");
        }
    });
}

#[test]
fn nothing_secret_is_shown() {
    let mut asked = to(22);
    asked.password = Some("hunter2".into());
    asked.key = Some("hunter3".into());
    asked.key_passphrase = Some("hunter4".into());
    assert!(!format!("{asked:?}").contains("hunter"));
    block_on(async {
        let error = refused(asked).await;
        assert_eq!(error.class(), Class::KeyUnreadable);
        assert!(!format!("{error} {error:?}").contains("hunter"));
    });
}
