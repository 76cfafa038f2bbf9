//! Keys that an agent holds.

use holdfast_testkit::Agent;
use holdfast_testkit::sshd::certify;

use super::*;

fn with_agent(server: &Sshd, agent: &Agent) -> SshOptions {
    SshOptions { use_agent: Some(true), agent_socket: Some(agent.socket()), ..options(server) }
}

#[test]
fn every_kind_of_key() {
    for kind in [KeyKind::Ed25519, KeyKind::Ecdsa(384), KeyKind::Rsa] {
        let (server, key) = server_with_key(kind, SshdOptions::default());
        let agent = Agent::start().unwrap();
        agent.add(&key).unwrap();
        block_on(async {
            let session = connect(with_agent(&server, &agent)).await.unwrap();
            assert_sftp(&session).await;
            let key = session.facts().key.clone().unwrap();
            assert!(key.origin.starts_with("agent"), "{key:?}");

            // As `ssh` does it, without being asked for.
            let found = SshOptions { use_agent: None, ..with_agent(&server, &agent) };
            connect(found).await.unwrap();
            let off = SshOptions { use_agent: Some(false), ..with_agent(&server, &agent) };
            assert_eq!(refused(off).await.class(), Class::Authentication);
        });
    }
}

#[test]
fn ten_wrong_keys_and_a_password() {
    if without_root("passwords") {
        return;
    }
    let server = server_with_password();
    let agent = Agent::start().unwrap();
    for number in 0..10 {
        let path = server.directory().join(format!("wrong{number}"));
        keygen(&path, KeyKind::Ed25519, "", None).unwrap();
        agent.add(&path).unwrap();
    }
    block_on(async {
        let mut asked = SshOptions { use_agent: None, ..with_agent(&server, &agent) };
        // In ssh's order the server loses its patience before the password's turn.
        let failure = auth(refused(asked.clone()).await);
        let text = failure.disconnected.unwrap_or_default();
        assert!(text.contains("Too many authentication failures"), "{text}");
        asked.password = server.password().map(Secret::from);
        let session = connect(asked).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::Password]);
    });
}

#[test]
fn one_key_of_many_by_its_public_half() {
    let (server, right) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let agent = Agent::start().unwrap();
    for number in 0..8 {
        let path = server.directory().join(format!("wrong{number}"));
        keygen(&path, KeyKind::Ed25519, "", None).unwrap();
        agent.add(&path).unwrap();
    }
    agent.add(&right).unwrap();
    block_on(async {
        let mut asked = with_agent(&server, &agent);
        assert_eq!(refused(asked.clone()).await.class(), Class::Authentication);
        asked.public_key_file = Some(right.with_extension("pub"));
        let session = connect(asked.clone()).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::PublicKey]);

        // The same by ssh_config.
        let config = server.directory().join("config-of-user");
        let text = format!("IdentitiesOnly yes\nIdentityFile {}\n", right.display());
        std::fs::write(&config, text).unwrap();
        std::fs::rename(&right, server.directory().join("moved")).unwrap();
        asked.public_key_file = None;
        asked.ssh_config = ConfigFiles::Files(vec![config]);
        connect(asked.clone()).await.unwrap();

        // Only those: the right key stays unused if the file names another one.
        let wrong = server.directory().join("wrong0");
        let text = format!("IdentitiesOnly yes\nIdentityFile {}\n", wrong.display());
        std::fs::write(server.directory().join("config-of-user"), text).unwrap();
        let failure = auth(refused(asked).await);
        assert_eq!(failure.attempts.len(), 1, "{failure:?}");
    });
}

#[test]
fn certificates_in_the_agent_and_beside_it() {
    for kind in [KeyKind::Ed25519, KeyKind::Rsa] {
        let scratch = tempfile::tempdir().unwrap();
        let authority = scratch.path().join("ca");
        keygen(&authority, KeyKind::Ed25519, "", None).unwrap();
        let server = Sshd::start(SshdOptions {
            user_authority: Some(public_line(&authority).unwrap()),
            ..SshdOptions::default()
        })
        .unwrap();
        let key = scratch.path().join("key");
        keygen(&key, kind, "", None).unwrap();
        let agent = Agent::start().unwrap();
        agent.add(&key).unwrap();
        let certificate = certify(&authority, &key, server.user(), &[]).unwrap();
        block_on(async {
            // The agent has the bare key, the option the certificate.
            let mut asked = with_agent(&server, &agent);
            assert_eq!(refused(asked.clone()).await.class(), Class::Authentication);
            asked.certificate = Some(std::fs::read_to_string(&certificate).unwrap());
            let session = connect(asked.clone()).await.unwrap();
            assert_eq!(session.facts().methods, [SignInMethod::Certificate]);
            asked.certificate = None;
            asked.public_key_file = Some(certificate.clone());
            connect(asked.clone()).await.unwrap();

            // ssh-add takes the certificate that lies beside the key.
            agent.add(&key).unwrap();
            asked.public_key_file = None;
            let session = connect(asked).await.unwrap();
            assert_eq!(session.facts().methods, [SignInMethod::Certificate]);
            assert_sftp(&session).await;
        });
    }
}

#[test]
fn an_agent_that_was_asked_for_and_is_not_there() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    block_on(async {
        let agent = Agent::start().unwrap();
        let mut asked = with_agent(&server, &agent);
        let error = refused(asked.clone()).await;
        assert!(error.to_string().contains("no keys"), "{error}");
        asked.agent_socket = Some(server.directory().join("nothing"));
        let error = refused(asked.clone()).await;
        assert_eq!(error.class(), Class::Agent, "{error}");
        asked.use_agent = None;
        assert_eq!(refused(asked).await.class(), Class::Authentication);
    });
}

#[test]
fn an_agent_that_never_answers() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    let socket = server.directory().join("deaf");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    block_on(async {
        let mut asked = options(&server);
        asked.use_agent = Some(true);
        asked.agent_socket = Some(socket);
        asked.timeout = Duration::from_secs(1);
        let error = refused(asked).await;
        assert!(error.to_string().contains("no answer"), "{error}");
    });
}
