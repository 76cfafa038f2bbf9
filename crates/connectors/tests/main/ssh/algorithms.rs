//! What is negotiated, and what is not without the switch.

use holdfast_testkit::HostKeyKind;

use super::*;

/// Legacy ciphers and the like are told apart by `Problem::NoCommonAlgorithm::kind`.
const LEGACY: &[(&str, &str)] = &[
    ("Ciphers aes128-cbc", "cipher"),
    ("Ciphers aes256-cbc", "cipher"),
    ("Ciphers 3des-cbc", "cipher"),
    ("KexAlgorithms diffie-hellman-group14-sha1", "key exchange"),
    ("KexAlgorithms diffie-hellman-group1-sha1", "key exchange"),
    ("KexAlgorithms diffie-hellman-group-exchange-sha1", "key exchange"),
    ("MACs hmac-sha1\nCiphers aes128-ctr", "MAC"),
    ("HostKeyAlgorithms ssh-rsa", "host key algorithm"),
];

#[test]
fn fast_ciphers_first() {
    let (mut server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    block_on(async {
        let session = connect(with_key(&server, &key)).await.unwrap();
        let facts = session.facts();
        assert_eq!(facts.cipher, "aes128-gcm@openssh.com");
        assert!(facts.server_version.starts_with("SSH-2.0-OpenSSH"), "{facts:?}");
        for (line, cipher) in [
            ("Ciphers aes256-gcm@openssh.com", "aes256-gcm@openssh.com"),
            ("Ciphers chacha20-poly1305@openssh.com", "chacha20-poly1305@openssh.com"),
            ("Ciphers aes192-ctr", "aes192-ctr"),
        ] {
            server.restart_with(&[line]).unwrap();
            let session = connect(with_key(&server, &key)).await.unwrap();
            assert_eq!(session.facts().cipher, cipher);
            assert_sftp(&session).await;
        }
        for kex in [
            "ecdh-sha2-nistp256",
            "ecdh-sha2-nistp521",
            "diffie-hellman-group14-sha256",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group18-sha512",
            "diffie-hellman-group-exchange-sha256",
        ] {
            server.restart_with(&[&format!("KexAlgorithms {kex}")]).unwrap();
            let session = connect(with_key(&server, &key)).await.unwrap();
            assert_eq!(session.facts().key_exchange, kex);
        }
    });
}

#[test]
fn legacy_only_with_the_switch() {
    let options = SshdOptions { host_keys: vec![HostKeyKind::Rsa], ..SshdOptions::default() };
    let (mut server, key) = server_with_key(KeyKind::Ed25519, options);
    block_on(async {
        for (lines, what) in LEGACY {
            server.restart_with(&lines.lines().collect::<Vec<_>>()).unwrap();
            let mut asked = with_key(&server, &key);
            let error = refused(asked.clone()).await;
            assert_eq!(error.stage, Stage::Handshake);
            match *error.problem {
                Problem::NoCommonAlgorithm { kind, offered, insecure_would_help, .. } => {
                    assert_eq!(kind, *what, "{lines}");
                    let name = lines.lines().next().unwrap().split(' ').nth(1).unwrap();
                    assert!(offered.iter().any(|o| o == name), "{offered:?}");
                    assert!(insecure_would_help, "{lines}");
                }
                other => panic!("{lines}: {other}"),
            }
            asked.allow_insecure_ciphers = true;
            let session = connect(asked).await;
            let session = session.unwrap_or_else(|e| panic!("{lines}: {e} {e:?}"));
            assert_sftp(&session).await;
        }
        // Nothing that the switch could help with.
        server.restart_with(&["KexAlgorithms sntrup761x25519-sha512@openssh.com"]).unwrap();
        match *refused(with_key(&server, &key)).await.problem {
            Problem::NoCommonAlgorithm { insecure_would_help, .. } => assert!(!insecure_would_help),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn rsa_signatures_follow_the_server() {
    let (mut server, key) = server_with_key(KeyKind::Rsa, SshdOptions::default());
    block_on(async {
        server.restart_with(&["PubkeyAcceptedAlgorithms rsa-sha2-512"]).unwrap();
        connect(with_key(&server, &key)).await.unwrap();
        server.restart_with(&["PubkeyAcceptedAlgorithms ssh-rsa"]).unwrap();
        let mut asked = with_key(&server, &key);
        let failure = auth(refused(asked.clone()).await);
        assert_eq!(failure.attempts[0].outcome, Outcome::Rejected);
        asked.allow_insecure_ciphers = true;
        connect(asked).await.unwrap();
    });
}
