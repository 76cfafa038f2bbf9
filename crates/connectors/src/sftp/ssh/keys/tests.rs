//! Keys as people have them. `testdata` was written by OpenSSL 3 (passphrase `secret`); what
//! `ssh-keygen` writes is made on the spot.

use std::collections::HashMap;

use holdfast_testkit::sshd::{KeyKind, certify, keygen, public_line};
use holdfast_testkit::{Budget, fuzz_for};

use super::*;

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sftp/ssh/keys/testdata").join(name);
    fs::read_to_string(path).unwrap()
}

/// `ssh-keygen -y` of the plain files.
fn publics() -> HashMap<String, String> {
    let text = data("publics.txt");
    let line = |line: &str| {
        let (name, key) = line.split_once(' ').unwrap();
        (name.to_owned(), key.to_owned())
    };
    text.lines().map(line).collect()
}

fn read(text: &str, passphrase: &str) -> Result<UserKey, KeyProblem> {
    read_key(text, Some(&Secret::from(passphrase)).filter(|p| !p.expose().is_empty()))
}

#[test]
fn openssl_formats_open_to_the_same_key() {
    let publics = publics();
    for (file, public, format) in [
        ("rsa.pem", "rsa", KeyFormat::Pkcs1),
        ("rsa-pkcs1-aes256.pem", "rsa", KeyFormat::Pkcs1),
        ("rsa-pkcs1-des3.pem", "rsa", KeyFormat::Pkcs1),
        ("rsa-pkcs8-aes256.pem", "rsa", KeyFormat::Pkcs8Encrypted),
        ("ec-sec1.pem", "ec-sec1", KeyFormat::Sec1),
        ("ec-sec1-aes128.pem", "ec-sec1", KeyFormat::Sec1),
        ("ec-sec1-aes256.pem", "ec-sec1", KeyFormat::Sec1),
        ("ec-sec1-des3.pem", "ec-sec1", KeyFormat::Sec1),
        ("ec-pkcs8-sha1.pem", "ec-sec1", KeyFormat::Pkcs8Encrypted),
        ("ec-pkcs8-des3.pem", "ec-sec1", KeyFormat::Pkcs8Encrypted),
        ("ec-pkcs8-scrypt.pem", "ec-sec1", KeyFormat::Pkcs8Encrypted),
        ("ec521-pkcs8.pem", "ec521-pkcs8", KeyFormat::Pkcs8),
    ] {
        let text = data(file);
        let key = read(&text, "secret").unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(key.public_line().trim(), publics[public].trim(), "{file}");
        assert_eq!(key.format, format, "{file}");
        if text.contains("ENCRYPTED") {
            assert_eq!(read(&text, "").unwrap_err(), KeyProblem::PassphraseNeeded, "{file}");
            for wrong in ["x", "Secret", "geheim", "1", "2", "3"] {
                assert_eq!(read(&text, wrong).unwrap_err(), KeyProblem::WrongPassphrase, "{file}");
            }
        }
    }
    assert_eq!(read(&data("ed25519-pkcs8.pem"), "").unwrap().algorithm(), "ssh-ed25519");
}

#[test]
fn ssh_keygen_formats() {
    let scratch = tempfile::tempdir().unwrap();
    let mut number = 0;
    for kind in [
        KeyKind::Ed25519,
        KeyKind::Ecdsa(256),
        KeyKind::Ecdsa(384),
        KeyKind::Ecdsa(521),
        KeyKind::Rsa,
    ] {
        for format in [None, Some("PEM"), Some("PKCS8")] {
            // ssh-keygen writes Ed25519 in its own format whatever is asked.
            for passphrase in ["", "a passphrase"] {
                number += 1;
                let path = scratch.path().join(number.to_string());
                let text = keygen(&path, kind, passphrase, format).unwrap();
                let key = read(&text, passphrase);
                let key = key.unwrap_or_else(|e| panic!("{kind:?} {format:?} {passphrase:?}: {e}"));
                let public = key.public_line();
                assert!(public.starts_with(&public_line(&path).unwrap()), "{kind:?} {format:?}");
                if !passphrase.is_empty() {
                    assert_eq!(read(&text, "").unwrap_err(), KeyProblem::PassphraseNeeded);
                    assert_eq!(read(&text, "wrong").unwrap_err(), KeyProblem::WrongPassphrase);
                }
            }
        }
    }
}

#[test]
fn pastes_are_repaired() {
    let scratch = tempfile::tempdir().unwrap();
    let openssh = keygen(&scratch.path().join("k"), KeyKind::Ed25519, "", None).unwrap();
    for text in [
        &openssh,
        &data("ec-sec1-aes256.pem"),
        &data("rsa-pkcs1-des3.pem"),
        &data("ec-pkcs8-des3.pem"),
        &data("ec-sec1.pem"),
    ] {
        let right = read(text, "secret").unwrap().fingerprint();
        let pastes = [
            text.trim().to_owned(),
            text.replace('\n', "\\n"),
            text.replace('\n', "\\r\\n"),
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
            text.replace('\n', " "),
            text.replace('\n', ""),
            text.replace('\n', "\n    "),
            format!("\u{feff}  \n\n{text}\n\n  "),
            format!("\"{}\"", text.replace('\n', "\\n")),
            format!("'{text}'"),
            text.replace("-----", "—–"),
            text.rsplit_once("-----END").unwrap().0.to_owned(),
            format!("Here is the key:\n{text}\nbye"),
        ];
        for paste in pastes {
            match read(&paste, "secret") {
                Ok(key) => assert_eq!(key.fingerprint(), right, "{paste}"),
                Err(problem) => panic!("{problem}: {paste}"),
            }
        }
    }
    // Without any armour.
    let bare: String = openssh.lines().filter(|l| !l.starts_with('-')).collect();
    assert!(read(&bare, "").is_ok());
}

#[test]
fn what_is_no_usable_key_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("k");
    let text = keygen(&path, KeyKind::Ed25519, "", None).unwrap();
    let public = fs::read_to_string(scratch.path().join("k.pub")).unwrap();
    let certificate = fs::read_to_string(certify(&path, &path, "me", &[]).unwrap()).unwrap();
    let cut: String = text.chars().take(text.len() / 2).collect();
    let broken = text.replacen("AAAA", "AA*A", 1);
    let damaged = || KeyProblem::Damaged { format: "OpenSSH".into() };
    for (text, expected) in [
        ("", KeyProblem::Empty),
        (" \n", KeyProblem::Empty),
        ("hello", KeyProblem::NotAKey),
        ("/home/me/.ssh/id_rsa", KeyProblem::NotAKey),
        (public.as_str(), KeyProblem::PublicKey),
        (&data("ec-pub.pem"), KeyProblem::PublicKey),
        (
            "---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----",
            KeyProblem::PublicKey,
        ),
        (certificate.as_str(), KeyProblem::Certificate),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", KeyProblem::Certificate),
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", KeyProblem::PuTTY),
        ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/5\n", KeyProblem::SshCom),
        (&data("dsa.pem"), KeyProblem::Dsa),
        (&data("dsa-pkcs8.pem"), KeyProblem::Dsa),
        (&data("dsa-openssh.key"), KeyProblem::Dsa),
        (&security_key(), KeyProblem::SecurityKey),
        (&data("x25519-pkcs8.pem"), KeyProblem::Unsupported("algorithm 1.3.101.110".into())),
        (cut.as_str(), damaged()),
        (broken.as_str(), damaged()),
    ] {
        assert_eq!(read(text, "").err(), Some(expected), "{text}");
    }
    match read(&data("ec-pkcs8-pbes1.pem"), "secret") {
        Err(KeyProblem::UnsupportedEncryption(_)) => {}
        other => panic!("{other:?}"),
    }
}

/// A key of the kind `ssh-keygen -t ed25519-sk` writes, with made-up contents.
fn security_key() -> String {
    fn string(out: &mut Vec<u8>, data: &[u8]) {
        out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
    }
    let mut public = Vec::new();
    string(&mut public, b"sk-ssh-ed25519@openssh.com");
    string(&mut public, &[7; 32]);
    string(&mut public, b"ssh:");
    let mut private = vec![1, 2, 3, 4, 1, 2, 3, 4];
    private.extend(&public);
    private.push(1);
    string(&mut private, &[9; 64]);
    string(&mut private, b"");
    string(&mut private, b"me");
    let mut pad = 0;
    while !private.len().is_multiple_of(8) {
        pad += 1;
        private.push(pad);
    }
    let mut all = b"openssh-key-v1\0".to_vec();
    for part in [b"none".as_slice(), b"none", b""] {
        string(&mut all, part);
    }
    all.extend(1u32.to_be_bytes());
    string(&mut all, &public);
    string(&mut all, &private);
    let body = data_encoding::BASE64.encode(&all);
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n")
}

#[test]
fn certificates_survive_line_breaks() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("k");
    keygen(&path, KeyKind::Ed25519, "", None).unwrap();
    let text = fs::read_to_string(certify(&path, &path, "me", &[]).unwrap()).unwrap();
    let right = read_certificate(&text).unwrap();
    let folded: Vec<String> =
        text.as_bytes().chunks(64).map(|c| String::from_utf8_lossy(c).into_owned()).collect();
    assert_eq!(read_certificate(&folded.join("\n")).unwrap().public_key(), right.public_key());
    assert_eq!(read_certificate("ssh-ed25519 AAAA"), Err(KeyProblem::NotACertificate));
    let half: String = text.chars().take(200).collect();
    assert!(matches!(read_certificate(&half), Err(KeyProblem::Damaged { .. })));
}

#[test]
fn a_generated_key_is_read_by_ssh_keygen() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("k");
    let made = generate_key("holdfast@nas\n").unwrap();
    fs::write(&path, made.private.expose()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let output =
        std::process::Command::new("ssh-keygen").args(["-y", "-f"]).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), made.public_line.trim());
    assert!(made.public_line.ends_with("holdfast@nas"), "{}", made.public_line);
    assert!(!format!("{made:?}").contains("PRIVATE"));
    assert_ne!(generate_key("x").unwrap().fingerprint, made.fingerprint);
}

#[test]
fn decoders_take_any_bytes() {
    let text = data("ec-sec1-aes256.pem");
    for cut in 0..text.len() {
        let _ = read(&text[..cut], "secret");
    }
    let corpus: Vec<_> = ["ec-pkcs8-des3.pem", "ec-sec1-des3.pem", "dsa-openssh.key", "rsa.pem"]
        .map(|name| data(name).into_bytes())
        .into();
    fuzz_for(Budget::from_env_or(3_000), 6, &corpus, &|input| {
        let text = String::from_utf8_lossy(input);
        let _ = read(&text, "");
        let _ = read_certificate(&text);
        let _ = read_public(&text);
    });
}
