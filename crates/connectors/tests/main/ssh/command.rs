//! An external command in place of our own SSH, and as a proxy below it.

use holdfast_testkit::HostKeyKind;

use super::*;

/// The system's `ssh` with everything of the user's kept out.
fn ssh(server: &Sshd, key: &Path) -> String {
    let known = server.directory().join("known-to-ssh");
    std::fs::write(&known, server.known_hosts_line(HostKeyKind::Ed25519).unwrap() + "\n").unwrap();
    format!(
        "ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none \
         -o UserKnownHostsFile='{}' -i \"{}\"",
        known.display(),
        key.display()
    )
}

#[test]
fn ssh_itself() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let mut asked = options(&server);
        asked.ssh_command = Some(ssh(&server, &key));
        let session = connect(asked.clone()).await.unwrap();
        assert_sftp(&session).await;
        let limit = Duration::from_secs(10);
        let output = session.exec(b"echo hello; exit 4", limit).await.unwrap();
        assert_eq!((output.stdout.as_slice(), output.status), (&b"hello\n"[..], Some(4)));

        // With everything in its own words.
        let words = format!("{} -p %p %r@%h -s sftp", ssh(&server, &key));
        asked.ssh_command = Some(words);
        let session = connect(asked.clone()).await.unwrap();
        assert_sftp(&session).await;
        let error = session.exec(b"true", limit).await.unwrap_err();
        assert_eq!(error.class(), Class::ChannelRefused);
        asked.ssh_command =
            Some(format!("{} -p {} {{}} -s sftp", ssh(&server, &key), server.port()));
        assert_sftp(&connect(asked).await.unwrap()).await;
    });
}

#[test]
fn dropping_the_stream_ends_the_command() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let mut asked = options(&server);
        asked.ssh_command = Some(ssh(&server, &key));
        let session = connect(asked).await.unwrap();
        let mut stream = session.sftp().await.unwrap();
        assert_answers(&mut stream).await;
        drop(stream);
        // It is killed, or sees the end of its input first.
        wait_for(&server, &["Connection closed by", "Disconnected from", "reset by peer"]).await;
    });
}

/// What the stream's end says.
async fn failure(options: SshOptions) -> SshError {
    let session = connect(options).await.unwrap();
    let mut stream = match session.sftp().await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    let report = stream.report();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    report.error(&received).await
}

#[test]
fn its_failures_are_recognised() {
    let (mut server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let other = server.directory().join("other");
    keygen(&other, KeyKind::Ed25519, "", None).unwrap();
    block_on(async {
        let mut asked = options(&server);
        let mut try_with = async |command: String, class: Class, words: &str| {
            asked.ssh_command = Some(command.clone());
            let error = failure(asked.clone()).await;
            assert_eq!(error.class(), class, "{command}: {error}");
            match *error.problem {
                Problem::Command { stderr, exit_status, .. } => {
                    assert!(stderr.contains(words), "{stderr}");
                    if !words.is_empty() && words != "cannot be started" {
                        assert!(exit_status.is_some());
                    }
                }
                other => panic!("{other}"),
            }
        };
        let right = ssh(&server, &key);
        let wrong_key = ssh(&server, &other);
        try_with(wrong_key, Class::Authentication, "Permission denied").await;
        let nowhere = right.replace("known-to-ssh", "nothing-known");
        try_with(nowhere, Class::HostKeyUnknown, "Host key verification failed").await;
        try_with("sh -c 'echo oh no >&2; exit 7'".into(), Class::Command, "oh no").await;
        try_with("/nonexistent/ssh".into(), Class::Command, "cannot be started").await;
        server.restart_with_keys(&[HostKeyKind::Ed25519]).unwrap();
        try_with(right, Class::HostKeyChanged, "IDENTIFICATION HAS CHANGED").await;
        asked.ssh_command = Some("ssh 'unclosed".into());
        assert_eq!(refused(asked).await.class(), Class::Settings);
    });
}

#[test]
fn a_proxy_command() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    // `ssh -W` through the server to itself.
    let config = server.directory().join("config-of-user");
    let proxy =
        format!("{} -p {} -W %h:%p {}@127.0.0.1", ssh(&server, &key), server.port(), server.user());
    block_on(async {
        let mut asked = with_key(&server, &key);
        asked.ssh_config = ConfigFiles::Files(vec![config.clone()]);
        std::fs::write(&config, format!("ProxyCommand {proxy}\n")).unwrap();
        assert_sftp(&connect(asked.clone()).await.unwrap()).await;

        let script = server.directory().join("broken.sh");
        std::fs::write(&script, "echo the proxy is broken >&2\nexit 9\n").unwrap();
        std::fs::write(&config, format!("ProxyCommand sh {}\n", script.display())).unwrap();
        let error = refused(asked.clone()).await;
        assert_eq!((error.class(), error.stage), (Class::Command, Stage::Handshake), "{error}");
        assert!(error.to_string().contains("broken"), "{error}");
        std::fs::write(&config, "ProxyCommand /nonexistent/proxy %h\n").unwrap();
        let error = refused(asked).await;
        assert_eq!((error.class(), error.stage), (Class::Command, Stage::Tcp));
    });
}
