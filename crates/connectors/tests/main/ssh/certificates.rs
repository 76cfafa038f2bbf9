//! OpenSSH certificates for users.

use holdfast_connectors::sftp::ssh::KeyProblem;
use holdfast_testkit::sshd::certify;

use super::*;

struct Signed {
    server: Sshd,
    authority: PathBuf,
    key: PathBuf,
}

/// A server that trusts an authority and no key, and a key.
fn signed(kind: KeyKind, authority: KeyKind) -> Signed {
    let scratch = tempfile::tempdir().unwrap().keep();
    let path = scratch.join("ca");
    keygen(&path, authority, "", None).unwrap();
    let line = public_line(&path).unwrap();
    let server =
        Sshd::start(SshdOptions { user_authority: Some(line), ..SshdOptions::default() }).unwrap();
    let inside = server.directory().join("ca");
    std::fs::rename(&path, &inside).unwrap();
    std::fs::rename(scratch.join("ca.pub"), server.directory().join("ca.pub")).unwrap();
    std::fs::remove_dir(scratch).unwrap();
    let key = server.directory().join("key");
    keygen(&key, kind, "", None).unwrap();
    Signed { server, authority: inside, key }
}

#[test]
fn every_kind_of_key_and_authority() {
    for (kind, authority) in [
        (KeyKind::Ed25519, KeyKind::Ed25519),
        (KeyKind::Ecdsa(256), KeyKind::Rsa),
        (KeyKind::Rsa, KeyKind::Ed25519),
        (KeyKind::Rsa, KeyKind::Rsa),
    ] {
        let Signed { server, authority, key } = signed(kind, authority);
        block_on(async {
            let bare = with_key(&server, &key);
            assert_eq!(refused(bare.clone()).await.class(), Class::Authentication);
            let certificate = certify(&authority, &key, server.user(), &[]).unwrap();
            // It lies beside the key file, as `ssh` expects it.
            let session = connect(bare.clone()).await.unwrap();
            assert_eq!(session.facts().methods, [SignInMethod::Certificate], "{kind:?}");
            assert_sftp(&session).await;

            // Away from it: by file, by text, by ssh_config.
            let elsewhere = server.directory().join("elsewhere");
            std::fs::rename(&certificate, &elsewhere).unwrap();
            assert_eq!(refused(bare.clone()).await.class(), Class::Authentication);
            let mut asked = bare.clone();
            asked.public_key_file = Some(elsewhere.clone());
            connect(asked).await.unwrap();
            let mut asked = bare.clone();
            asked.certificate = Some(std::fs::read_to_string(&elsewhere).unwrap());
            connect(asked).await.unwrap();
            let mut asked = bare;
            let config = server.directory().join("config-of-user");
            std::fs::write(&config, format!("CertificateFile {}\n", elsewhere.display())).unwrap();
            asked.ssh_config = ConfigFiles::Files(vec![config]);
            connect(asked).await.unwrap();
        });
    }
}

#[test]
fn a_key_with_a_passphrase_and_a_certificate() {
    let Signed { server, authority, key } = signed(KeyKind::Ed25519, KeyKind::Ed25519);
    let locked = server.directory().join("locked");
    keygen(&locked, KeyKind::Ed25519, "secret", None).unwrap();
    certify(&authority, &locked, server.user(), &[]).unwrap();
    drop(key);
    block_on(async {
        let script =
            Arc::new(Script { passphrases: Mutex::new(vec!["secret"]), ..Script::default() });
        let session = connect_asking(with_key(&server, &locked), &script).await.unwrap();
        assert_eq!(session.facts().methods, [SignInMethod::Certificate]);
        assert_eq!(script.asked().len(), 1);
    });
}

#[test]
fn certificates_that_do_not_hold() {
    let Signed { server, authority, key } = signed(KeyKind::Ed25519, KeyKind::Ed25519);
    block_on(async {
        certify(&authority, &key, "somebody-else", &[]).unwrap();
        let failure = auth(refused(with_key(&server, &key)).await);
        assert_eq!(methods(&failure), [SignInMethod::Certificate, SignInMethod::PublicKey]);
        certify(&authority, &key, server.user(), &["-V", "20200101:20200102"]).unwrap();
        assert_eq!(refused(with_key(&server, &key)).await.class(), Class::Authentication);
        let certificate = certify(&authority, &key, server.user(), &[]).unwrap();

        // A certificate for another key is said before connecting.
        let other = server.directory().join("other");
        keygen(&other, KeyKind::Ed25519, "", None).unwrap();
        let mut asked = with_key(&server, &other);
        asked.public_key_file = Some(certificate);
        match *refused(asked).await.problem {
            Problem::KeyUnreadable { problem, .. } => {
                assert!(matches!(problem, KeyProblem::CertificateOfAnotherKey { .. }));
            }
            other => panic!("{other}"),
        }
        let mut asked = with_key(&server, &key);
        asked.certificate = Some("ssh-ed25519 AAAA".into());
        assert_eq!(refused(asked).await.class(), Class::KeyUnreadable);
    });
}
