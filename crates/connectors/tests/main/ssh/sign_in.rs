//! Every way to sign in.

use holdfast_testkit::sshd::{KeyKind, keygen, public_line};

use super::*;

#[test]
fn a_password() {
    if without_root("passwords") {
        return;
    }
    let server = server_with_password();
    block_on(async {
        let mut options = options(&server);
        options.password = Some("pa ss:wörd".into());
        let session = connect(options).await.unwrap();
        assert_sftp(&session).await;
    });
}

#[test]
fn a_key() {
    let server = Sshd::start(SshdOptions::default()).unwrap();
    let path = server.directory().join("key");
    keygen(&path, KeyKind::Ed25519, "", None).unwrap();
    server.authorize(&[&public_line(&path).unwrap()]).unwrap();
    block_on(async {
        let mut options = options(&server);
        options.key_file = Some(path.clone());
        let session = connect(options).await.unwrap();
        assert_sftp(&session).await;
    });
}
