//! Passwords, keys, questions, several steps; and what is said when none of it helps.

use holdfast_connectors::sftp::ssh::KeyProblem;

use super::*;

const PASSWORD: &str = "pa ss:wörd";

#[test]
fn a_configured_password() {
    if without_root("passwords") {
        return;
    }
    let server = server_with_password();
    block_on(async {
        let mut options = options(&server);
        options.password = Some(PASSWORD.into());
        let session = connect(options).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::Password]);
        assert_sftp(&session).await;
    });
}

#[test]
fn a_typed_password_is_asked_for_once_a_run_and_three_times_at_most() {
    if without_root("passwords") {
        return;
    }
    let server = server_with_password();
    block_on(async {
        let script = Arc::new(Script {
            passwords: Mutex::new(vec!["wrong", PASSWORD, "never"]),
            ..Script::default()
        });
        let connector = Connector::new(options(&server), Arc::clone(&script) as _);
        let connector = Arc::new(connector);
        let four = (0..4).map(|_| {
            let connector = Arc::clone(&connector);
            tokio::spawn(async move { connector.connect(&|_| {}).await })
        });
        for session in four.collect::<Vec<_>>() {
            assert_sftp(&session.await.unwrap().unwrap()).await;
        }
        let prompt = format!("SSH password of {}@127.0.0.1", server.user());
        assert_eq!(script.asked(), [prompt.clone(), prompt]);

        let script = Arc::new(Script {
            passwords: Mutex::new(vec!["a", "b", "c", PASSWORD]),
            ..Script::default()
        });
        let failure = auth(connect_asking(options(&server), &script).await.unwrap_err());
        assert_eq!(script.asked().len(), 3);
        assert_eq!(methods(&failure), [SignInMethod::Password; 3]);
    });
}

#[test]
fn a_wrong_password_says_what_the_server_takes() {
    if without_root("passwords") {
        return;
    }
    let server = server_with_password();
    block_on(async {
        let mut asked = options(&server);
        asked.password = Some("wrong".into());
        let error = refused(asked).await;
        let text = format!("{error} {error:?}");
        assert!(!text.contains("wrong\""), "{text}");
        let failure = auth(error);
        assert_eq!(failure.offered, ["publickey", "password"]);
        assert_eq!(methods(&failure), [SignInMethod::Password]);
        assert_eq!(failure.attempts[0].outcome, Outcome::Rejected);
        assert_eq!(failure.user, server.user());

        // Nobody to ask.
        let failure = auth(refused(options(&server)).await);
        assert!(failure.nobody_asked && failure.attempts.is_empty(), "{failure:?}");
    });
}

#[test]
fn every_kind_of_key_in_every_format() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    let kinds = [
        KeyKind::Ed25519,
        KeyKind::Ecdsa(256),
        KeyKind::Ecdsa(384),
        KeyKind::Ecdsa(521),
        KeyKind::Rsa,
    ];
    let mut keys = Vec::new();
    for kind in kinds {
        for (number, format) in [None, Some("PEM"), Some("PKCS8")].into_iter().enumerate() {
            for passphrase in ["", "a passphrase"] {
                let name = format!("{kind:?}-{number}-{}", passphrase.len());
                let path = server.directory().join(name);
                keygen(&path, kind, passphrase, format).unwrap();
                keys.push((path, passphrase));
            }
        }
    }
    let lines: Vec<_> = keys.iter().map(|(path, _)| public_line(path).unwrap()).collect();
    server.authorize(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    block_on(async {
        for (path, passphrase) in &keys {
            let mut asked = with_key(&server, path);
            asked.key_passphrase = Some((*passphrase).into()).filter(|_| !passphrase.is_empty());
            let session = connect(asked).await;
            let session = session.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(session.facts().methods, [SignInMethod::PublicKey]);
            session.close().await;
        }
    });
}

#[test]
fn a_pasted_key() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let text = std::fs::read_to_string(&key).unwrap();
    block_on(async {
        for paste in [text.clone(), text.replace('\n', "\\n"), text.replace('\n', " ")] {
            let mut asked = options(&server);
            asked.key = Some(Secret::new(paste));
            let session = connect(asked).await.unwrap();
            assert_eq!(session.facts().key.as_ref().unwrap().origin, "the pasted key");
        }
    });
}

#[test]
fn keys_that_cannot_be_used_are_known_before_anything_connects() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    let path = server.directory().join("key");
    keygen(&path, KeyKind::Ed25519, "secret", None).unwrap();
    let problem = |error: SshError| match *error.problem {
        Problem::KeyUnreadable { problem, .. } => (error.stage, problem),
        other => panic!("{other}"),
    };
    block_on(async {
        let before = server.log();
        let mut asked = with_key(&server, &path);
        asked.key_passphrase = Some("wrong".into());
        let expected = (Stage::Settings, KeyProblem::WrongPassphrase);
        assert_eq!(problem(refused(asked.clone()).await), expected);
        asked.key_file = Some(server.directory().join("key.pub"));
        assert_eq!(problem(refused(asked.clone()).await).1, KeyProblem::PublicKey);
        asked.key_file = Some(server.directory().join("nothing"));
        assert_eq!(problem(refused(asked.clone()).await).1, KeyProblem::Missing);
        asked.key_file = None;
        asked.key = Some("PuTTY-User-Key-File-2: ssh-rsa".into());
        assert_eq!(problem(refused(asked.clone()).await).1, KeyProblem::PuTTY);
        assert_eq!(server.log(), before, "the server was reached");
    });
}

#[test]
fn a_passphrase_is_asked_for_when_the_server_wants_the_key() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    let path = server.directory().join("key");
    keygen(&path, KeyKind::Ed25519, "secret", None).unwrap();
    let script = |answers: &[&'static str]| {
        Arc::new(Script { passphrases: Mutex::new(answers.to_vec()), ..Script::default() })
    };
    block_on(async {
        // Not authorised: nobody is bothered.
        let bothered = script(&["secret"]);
        let failure = auth(connect_asking(with_key(&server, &path), &bothered).await.unwrap_err());
        assert_eq!(failure.attempts[0].outcome, Outcome::Rejected);
        assert!(!bothered.asked().iter().any(|q| q.contains("Passphrase")));

        server.authorize(&[&public_line(&path).unwrap()]).unwrap();
        let asked = script(&["x", "secret"]);
        let connector = Connector::new(with_key(&server, &path), Arc::clone(&asked) as _);
        connector.connect(&|_| {}).await.unwrap();
        connector.connect(&|_| {}).await.unwrap();
        let prompt = format!("Passphrase of SSH key {}", path.display());
        assert_eq!(asked.asked(), [prompt.clone(), prompt]);

        let wrong = script(&["x", "y", "z", "secret"]);
        match *connect_asking(with_key(&server, &path), &wrong).await.unwrap_err().problem {
            Problem::KeyUnreadable { problem, .. } => {
                assert_eq!(problem, KeyProblem::WrongPassphrase);
            }
            other => panic!("{other}"),
        }
        match *refused(with_key(&server, &path)).await.problem {
            Problem::KeyUnreadable { problem, .. } => {
                assert_eq!(problem, KeyProblem::PassphraseNeeded);
            }
            other => panic!("{other}"),
        }
    });
}

#[test]
fn default_keys_and_those_of_ssh_config() {
    let (server, key) = server_with_key(KeyKind::Ecdsa(256), SshdOptions::default());
    let home = server.directory().join("our-home");
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    std::fs::copy(&key, home.join(".ssh/id_ecdsa")).unwrap();
    keygen(&home.join(".ssh/id_ed25519"), KeyKind::Ed25519, "", None).unwrap();
    block_on(async {
        let session = connect(options(&server)).await.unwrap();
        assert!(session.facts().key.as_ref().unwrap().origin.ends_with("id_ecdsa"));

        std::fs::rename(home.join(".ssh/id_ecdsa"), home.join("elsewhere")).unwrap();
        let config = home.join("config");
        let text = format!(
            "Host alias\n HostName 127.0.0.1\n Port {}\n User {}\n IdentityFile %d/elsewhere\n",
            server.port(),
            server.user()
        );
        std::fs::write(&config, text).unwrap();
        let asked = SshOptions {
            host: "alias".into(),
            port: None,
            username: None,
            ssh_config: ConfigFiles::Files(vec![config]),
            ..options(&server)
        };
        let session = connect(asked).await.unwrap();
        assert_eq!(session.host(), format!("{}@127.0.0.1:{}", server.user(), server.port()));
    });
}

#[test]
fn what_is_configured_and_refused_is_the_answer() {
    let (server, right) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let home = server.directory().join("our-home/.ssh");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::copy(&right, home.join("id_ed25519")).unwrap();
    let wrong = server.directory().join("wrong");
    keygen(&wrong, KeyKind::Ed25519, "", None).unwrap();
    block_on(async {
        let failure = auth(refused(with_key(&server, &wrong)).await);
        assert_eq!(failure.attempts.len(), 1, "{failure:?}");
        assert!(failure.attempts[0].key.as_ref().unwrap().origin.ends_with("wrong"));
        // A password that the server does not take at all is not refused: `ssh`'s order goes on.
        let mut asked = options(&server);
        asked.password = Some("not asked for".into());
        connect(asked).await.unwrap();
    });
}

#[test]
fn a_key_that_others_may_read_is_used_with_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        assert!(session.facts().warnings.is_empty());
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let session = connect(with_key(&server, &key)).await.unwrap();
        assert!(session.facts().warnings[0].contains("chmod 600"));
    });
}

fn keyboard_server() -> Sshd {
    Sshd::start(SshdOptions {
        password: Some(PASSWORD.into()),
        keyboard_interactive: true,
        extra: vec!["PasswordAuthentication no".into()],
        ..SshdOptions::default()
    })
    .unwrap()
}

#[test]
fn keyboard_interactive_by_password_and_by_a_person() {
    if without_root("keyboard-interactive") {
        return;
    }
    let server = keyboard_server();
    block_on(async {
        let mut asked = options(&server);
        asked.password = Some(PASSWORD.into());
        let session = connect(asked.clone()).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::KeyboardInteractive]);
        assert_sftp(&session).await;

        let script = Arc::new(Script {
            answers: Mutex::new(vec![vec!["wrong"], vec![PASSWORD], vec!["never"]]),
            ..Script::default()
        });
        let connector = Connector::new(options(&server), Arc::clone(&script) as _);
        assert_sftp(&connector.connect(&|_| {}).await.unwrap()).await;
        assert_sftp(&connector.connect(&|_| {}).await.unwrap()).await;
        assert_eq!(script.asked().len(), 2, "{:?}", script.asked());
        assert!(script.asked()[0].contains("Password:"));

        asked.password = Some("wrong".into());
        let failure = auth(refused(asked).await);
        assert!(methods(&failure).contains(&SignInMethod::KeyboardInteractive), "{failure:?}");
        let failure = auth(refused(options(&server)).await);
        assert!(failure.nobody_asked);
    });
}

#[test]
fn two_steps() {
    if without_root("passwords") {
        return;
    }
    let key_and_password = |methods: &str, keyboard| {
        server_with_key(
            KeyKind::Ed25519,
            SshdOptions {
                password: Some(PASSWORD.into()),
                keyboard_interactive: keyboard,
                extra: vec![format!("AuthenticationMethods {methods}")],
                ..SshdOptions::default()
            },
        )
    };
    block_on(async {
        let (server, key) = key_and_password("publickey,password", false);
        let mut asked = with_key(&server, &key);
        asked.password = Some(PASSWORD.into());
        let session = connect(asked.clone()).await.unwrap();
        let steps = [SignInMethod::PublicKey, SignInMethod::Password];
        assert_eq!(session.facts().methods, steps);
        assert_sftp(&session).await;

        // The first step alone: what is missing is named.
        asked.password = None;
        let failure = auth(refused(asked).await);
        assert_eq!(failure.attempts[0].outcome, Outcome::Partial);
        assert_eq!(failure.offered, ["password"]);

        let (server, key) = key_and_password("publickey,keyboard-interactive", true);
        let mut asked = with_key(&server, &key);
        asked.password = Some(PASSWORD.into());
        let session = connect(asked).await.unwrap();
        assert_eq!(
            session.facts().methods,
            [SignInMethod::PublicKey, SignInMethod::KeyboardInteractive]
        );
        assert_sftp(&session).await;
    });
}

#[test]
fn two_keys_one_after_the_other() {
    let server = Sshd::start(SshdOptions {
        extra: vec!["AuthenticationMethods publickey,publickey".into()],
        ..SshdOptions::default()
    })
    .unwrap();
    let home = server.directory().join("our-home/.ssh");
    std::fs::create_dir_all(&home).unwrap();
    keygen(&home.join("id_ed25519"), KeyKind::Ed25519, "", None).unwrap();
    keygen(&home.join("id_ecdsa"), KeyKind::Ecdsa(256), "", None).unwrap();
    let lines = ["id_ed25519", "id_ecdsa"].map(|name| public_line(&home.join(name)).unwrap());
    server.authorize(&[&lines[0], &lines[1]]).unwrap();
    block_on(async {
        let session = connect(options(&server)).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::PublicKey; 2]);
    });
}
