//! What runs on a connection: SFTP, commands, many channels, its end.

use super::*;

#[test]
fn sftp_in_a_chroot_and_without_extensions() {
    if without_root("chroot") {
        return;
    }
    let server = Sshd::start(SshdOptions {
        password: Some("secret".into()),
        chroot: true,
        subsystem: Some("internal-sftp -P posix-rename,hardlink,fsync,statvfs,limits".into()),
        ..SshdOptions::default()
    })
    .unwrap();
    block_on(async {
        let mut asked = options(&server);
        asked.password = Some("secret".into());
        let session = connect(asked).await.unwrap();
        assert_sftp(&session).await;
        // Several on one connection.
        let (a, b) = tokio::join!(session.sftp(), session.sftp());
        drop((a.unwrap(), b.unwrap()));
    });
}

#[test]
fn commands_have_an_output_a_status_and_a_limit() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let limit = Duration::from_secs(10);
        let output = session.exec(b"echo out; echo err >&2; exit 3", limit).await.unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!((output.status, output.truncated), (Some(3), false));
        let output = session.exec(b"head -c 3000000 /dev/zero", limit).await.unwrap();
        assert_eq!((output.stdout.len(), output.truncated), (1 << 20, true));
        assert_eq!(output.status, Some(0));
        // Nothing is there to read.
        assert_eq!(session.exec(b"cat", limit).await.unwrap().status, Some(0));
        assert_sftp(&session).await;
    });
}

#[test]
fn what_takes_too_long_is_ended() {
    // sshd passes no signals on to root's commands, so this is for another account.
    let password = crate::is_root().then(|| "secret".into());
    let (server, key) =
        server_with_key(KeyKind::Ed25519, SshdOptions { password, ..SshdOptions::default() });
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        // The server allows ten sessions at a time.
        for _ in 0..15 {
            let error = session.exec(b"sleep 60", Duration::from_millis(200)).await.unwrap_err();
            assert_eq!(error.class(), Class::Timeout);
        }
        assert_sftp(&session).await;
    });
}

#[test]
fn a_server_without_sftp_and_one_that_talks() {
    let (server, key) =
        server_with_key(KeyKind::Ed25519, SshdOptions { subsystem: None, ..Default::default() });
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let error = session.sftp().await.unwrap_err();
        assert_eq!((error.class(), error.stage), (Class::SftpUnavailable, Stage::Channel));
    });

    // What a shell's start file does that prints a greeting.
    let subsystem = Some("/bin/echo Welcome to this machine".into());
    let (server, key) =
        server_with_key(KeyKind::Ed25519, SshdOptions { subsystem, ..Default::default() });
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let mut stream = session.sftp().await.unwrap();
        let report = stream.report();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        match *report.error(&received).await.problem {
            Problem::SftpUnavailable { output, exit_status } => {
                assert!(output.contains("Welcome to this machine"), "{output}");
                assert_eq!(exit_status, Some(0));
            }
            other => panic!("{other}"),
        }
    });

    let subsystem = Some("/nonexistent/sftp-server".into());
    let (server, key) =
        server_with_key(KeyKind::Ed25519, SshdOptions { subsystem, ..Default::default() });
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let mut stream = session.sftp().await.unwrap();
        let report = stream.report();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        match *report.error(&[]).await.problem {
            // sshd keeps what a subsystem says on standard error to itself.
            Problem::SftpUnavailable { output, exit_status } => {
                assert_eq!((output.as_str(), exit_status), ("", Some(127)));
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn more_channels_than_allowed() {
    let (server, key) = server_with_key(
        KeyKind::Ed25519,
        SshdOptions { extra: vec!["MaxSessions 1".into()], ..SshdOptions::default() },
    );
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let first = session.sftp().await.unwrap();
        assert_eq!(session.sftp().await.unwrap_err().class(), Class::ChannelRefused);
        // A dropped stream makes room.
        drop(first);
        for _ in 0..100 {
            if session.sftp().await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the channel was not closed");
    });
}

#[test]
fn bulk_both_ways() {
    // The server asks for new keys some ten times meanwhile.
    let (server, key) = server_with_key(
        KeyKind::Ed25519,
        SshdOptions {
            subsystem: Some("/bin/cat".into()),
            extra: vec!["RekeyLimit 4M".into()],
            ..SshdOptions::default()
        },
    );
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(session.sftp().await.unwrap());
        // More than the window of either side.
        let data: Vec<u8> = (0..40_000_000u32).map(|i| (i % 251) as u8).collect();
        let sent = data.clone();
        let sending = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.unwrap();
        sending.await.unwrap();
        assert!(back == data, "{} of {} bytes", back.len(), data.len());
    });
}

#[test]
fn a_cut_connection_ends_streams_and_is_seen() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let connector = Connector::new(with_key(&server, &key), Arc::new(NoInteraction));
        let session = connector.connect(&|_| {}).await.unwrap();
        let mut stream = session.sftp().await.unwrap();
        let report = stream.report();
        assert!(!session.is_closed());
        server.cut();
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        assert_eq!(report.error(&[]).await.class(), Class::Disconnected);
        for _ in 0..200 {
            if session.is_closed() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(session.is_closed());
        assert_eq!(session.sftp().await.unwrap_err().class(), Class::Disconnected);
        assert!(stream.write_all(&[0; 100]).await.is_err());
        assert_sftp(&connector.connect(&|_| {}).await.unwrap()).await;
    });
}

#[test]
fn closing_ends_the_servers_side() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let mut stream = session.sftp().await.unwrap();
        session.close().await;
        assert_eq!(stream.read(&mut [0; 9]).await.unwrap(), 0);
        wait_for(&server, &["Received disconnect"]).await;
        assert!(!server.log().contains("Connection closed by"));

        // Dropping all of it does as well.
        let session = connect(with_key(&server, &key)).await.unwrap();
        let stream = session.sftp().await.unwrap();
        drop(session);
        drop(stream);
        wait_for(&server, &["Connection closed by"]).await;
    });
}
