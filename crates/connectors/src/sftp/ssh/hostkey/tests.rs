//! Host keys: lines as OpenSSH writes them, and what follows from them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use holdfast_testkit::sshd::{KeyKind, certify_host, keygen, public_line};
use russh::keys::Certificate;

use super::*;

const NOW: u64 = 1_800_000_000;

struct Keys {
    scratch: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for (name, kind) in [
            ("ed", KeyKind::Ed25519),
            ("other", KeyKind::Ed25519),
            ("rsa", KeyKind::Rsa),
            ("ca", KeyKind::Ed25519),
            ("caecdsa", KeyKind::Ecdsa(256)),
        ] {
            keygen(&scratch.path().join(name), kind, "", None).unwrap();
        }
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn line(&self, name: &str) -> String {
        public_line(&self.path(name)).unwrap()
    }

    fn key(&self, name: &str) -> PublicKeyOrCertificate {
        PublicKey::from_openssh(&self.line(name)).unwrap().into()
    }

    fn certificate(
        &self,
        authority: &str,
        principals: &str,
        extra: &[&str],
    ) -> PublicKeyOrCertificate {
        let path =
            certify_host(&self.path(authority), &self.path("ed"), principals, extra).unwrap();
        Certificate::from_openssh(&fs::read_to_string(path).unwrap()).unwrap().into()
    }

    fn known(&self, text: &str, host: &str, port: u16) -> KnownHosts {
        let path = self.path("known");
        fs::write(&path, text).unwrap();
        let missing = self.path("missing");
        KnownHosts::load(&[missing, path], &HostNames::new(host, port, None)).unwrap()
    }

    fn judge(&self, text: &str, host: &str, port: u16, key: &str) -> Verdict {
        self.known(text, host, port).judge(&self.key(key), NOW, false)
    }
}

#[test]
fn names_ports_wildcards_and_negation() {
    let keys = Keys::new();
    let line = |names: &str| format!("{names} {}\n", keys.line("ed"));
    for (names, host, port, known) in [
        ("nas", "nas", 22, true),
        ("nas", "NAS", 22, true),
        ("a,nas,b", "nas", 22, true),
        ("[nas]:22", "nas", 22, false),
        ("[nas]:2222", "nas", 2222, true),
        ("[nas]:2222", "nas", 22, false),
        ("nas", "nas", 2222, true),
        ("*.lan", "nas.lan", 22, true),
        ("n?s", "nas", 22, true),
        ("*.lan,!nas.lan", "nas.lan", 22, false),
        ("[*.lan]:*", "nas.lan", 7, true),
        ("192.168.1.*", "192.168.1.9", 22, true),
        ("nas2", "nas", 22, false),
    ] {
        let expected = if known { Verdict::Known } else { Verdict::Unknown };
        assert_eq!(keys.judge(&line(names), host, port, "ed"), expected, "{names} {host}:{port}");
    }
}

#[test]
fn hashed_names_as_ssh_keygen_hashes_them() {
    let keys = Keys::new();
    let path = keys.path("hashed");
    fs::write(&path, format!("nas {}\n[nas]:2222 {}\n", keys.line("ed"), keys.line("rsa")))
        .unwrap();
    let done = Command::new("ssh-keygen").args(["-H", "-f"]).arg(&path).output().unwrap();
    assert!(done.status.success());
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("|1|"), "{text}");
    assert_eq!(keys.judge(&text, "nas", 22, "ed"), Verdict::Known);
    assert_eq!(keys.judge(&text, "nas", 2222, "rsa"), Verdict::Known);
    assert_eq!(keys.judge(&text, "other", 22, "ed"), Verdict::Unknown);
    match keys.judge(&text, "nas", 22, "other") {
        Verdict::Changed(known) => {
            let place = KnownPlace::File { path: keys.path("known"), line: 1 };
            assert_eq!(known[0].place, place);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_keys_and_a_changed_one() {
    let keys = Keys::new();
    let text = format!("# c\n\nnas {}\nnas {} comment\n", keys.line("rsa"), keys.line("ed"));
    assert_eq!(keys.judge(&text, "nas", 22, "ed"), Verdict::Known);
    assert_eq!(keys.judge(&text, "nas", 22, "rsa"), Verdict::Known);
    match keys.judge(&text, "nas", 22, "other") {
        Verdict::Changed(known) => {
            assert_eq!(known.len(), 2);
            assert_eq!(known[1].fingerprint, shown(&keys.key("ed").public_key()).fingerprint);
            let place = KnownPlace::File { path: keys.path("known"), line: 4 };
            assert_eq!(known[1].place, place);
        }
        other => panic!("{other:?}"),
    }
    // The bare name of another port can confirm, never contradict.
    assert_eq!(keys.judge(&text, "nas", 2222, "other"), Verdict::Unknown);
}

#[test]
fn known_algorithms_come_first() {
    let keys = Keys::new();
    let known = keys.known(&format!("nas {}\n", keys.line("rsa")), "nas", 22);
    let order = known.order(super::super::algorithms::host_key_algorithms(false));
    let rsa = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
    assert_eq!(order.first(), Some(&rsa));
    assert_eq!(order.len(), 6);
    assert!(!known.has_authority());
}

#[test]
fn revoked_beats_known() {
    let keys = Keys::new();
    let known = format!("nas {}\n", keys.line("ed"));
    let revoked = format!("{known}@revoked * {}\n", keys.line("ed"));
    assert!(matches!(keys.judge(&revoked, "nas", 22, "ed"), Verdict::Revoked(_)));
    let elsewhere = format!("{known}@revoked other {}\n", keys.line("ed"));
    assert_eq!(keys.judge(&elsewhere, "nas", 22, "ed"), Verdict::Known);
}

#[test]
fn certificates_of_a_known_authority() {
    let keys = Keys::new();
    let text = format!("@cert-authority *.lan {}\n", keys.line("ca"));
    let known = keys.known(&text, "nas.lan", 2222);
    assert!(known.has_authority());
    let judge = |certificate: &PublicKeyOrCertificate| known.judge(certificate, NOW, false);
    // -V with fixed times, so that the test has no clock.
    let valid = ["-V", "20260101:20300101"];
    assert_eq!(judge(&keys.certificate("ca", "nas.lan", &valid)), Verdict::Known);
    assert_eq!(judge(&keys.certificate("ca", "a,*.lan", &valid)), Verdict::Known);
    for (certificate, reason) in [
        (keys.certificate("ca", "other.lan", &valid), "is for other.lan, not for nas.lan"),
        (keys.certificate("ca", "nas.lan", &["-V", "20200101:20210101"]), "was valid until"),
        (keys.certificate("ca", "nas.lan", &["-V", "20280101:20300101"]), "is not valid before"),
        (
            keys.certificate("ca", "nas.lan", &["-V", "20260101:20300101", "-O", "critical:x@y=1"]),
            "critical option",
        ),
    ] {
        match judge(&certificate) {
            Verdict::BadCertificate(text) => assert!(text.contains(reason), "{text}"),
            other => panic!("{reason}: {other:?}"),
        }
    }
    // A user's certificate is none for a host.
    let path =
        holdfast_testkit::sshd::certify(&keys.path("ca"), &keys.path("ed"), "nas.lan", &valid);
    let user = Certificate::from_openssh(&fs::read_to_string(path.unwrap()).unwrap()).unwrap();
    assert!(matches!(judge(&user.into()), Verdict::BadCertificate(_)));
    // An unknown authority's certificate is as good as its bare key.
    assert_eq!(judge(&keys.certificate("caecdsa", "nas.lan", &valid)), Verdict::Unknown);
    assert_eq!(judge(&keys.key("ed")), Verdict::Unknown);
    let pinned = keys.known(&format!("{text}nas.lan {}\n", keys.line("ed")), "nas.lan", 22);
    let other = keys.certificate("caecdsa", "nas.lan", &valid);
    assert_eq!(pinned.judge(&other, NOW, false), Verdict::Known);
    // A revoked authority.
    let revoked = keys.known(&format!("{text}@revoked * {}\n", keys.line("ca")), "nas.lan", 22);
    let good = keys.certificate("ca", "nas.lan", &valid);
    assert!(matches!(revoked.judge(&good, NOW, false), Verdict::Revoked(_)));
}

#[test]
fn a_forged_certificate_is_seen() {
    let keys = Keys::new();
    let known = keys.known(&format!("@cert-authority * {}\n", keys.line("ca")), "nas", 22);
    let good = keys.certificate("ca", "nas", &["-V", "20260101:20300101"]);
    let mut bytes = good.certificate().unwrap().to_bytes().unwrap();
    let at = bytes.windows(3).position(|w| w == b"nas").unwrap();
    bytes[at] = b'x';
    let forged: PublicKeyOrCertificate = Certificate::from_bytes(&bytes).unwrap().into();
    match known.judge(&forged, NOW, false) {
        Verdict::BadCertificate(reason) => assert!(reason.contains("signature"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn expected_keys() {
    let keys = Keys::new();
    let fingerprint = shown(&keys.key("ed").public_key()).fingerprint;
    let line = keys.line("ed");
    for text in [
        fingerprint.clone(),
        format!("{fingerprint}="),
        format!(" SHA256:{} , {fingerprint}\n", "A".repeat(43)),
        line.clone(),
        format!("{line} me, myself\n"),
        format!("[nas]:22,1.2.3.4 {line}"),
        format!("{}\\n{line}", keys.line("rsa")),
    ] {
        let expected = Expected::parse(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(expected.has(&keys.key("ed").public_key()), "{text}");
        assert!(!expected.has(&keys.key("other").public_key()), "{text}");
    }
    for text in ["", "SHA256:short", "MD5:aa:bb", "nonsense", "ssh-ed25519 AAAA"] {
        assert!(Expected::parse(text).is_err(), "{text}");
    }
}

#[test]
fn accepted_keys_are_appended_whole_and_once() {
    let keys = Keys::new();
    let path = keys.path("new/dir/known_hosts");
    let key = keys.key("ed").public_key();
    append(&path, "[nas]:2222", &key).unwrap();
    append(&path, "[nas]:2222", &key).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("[nas]:2222 {}\n", keys.line("ed")));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(keys.path("new/dir")).unwrap().permissions().mode() & 0o777, 0o700);
    // A last line without its end is not run into.
    fs::write(&path, "nas ssh-x y").unwrap();
    append(&path, "b", &key).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);

    fs::remove_file(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (path, key) = (&path, &key);
            scope.spawn(move || {
                for round in 0..10 {
                    append(path, "same", key).unwrap();
                    append(path, &format!("host{thread}-{round}"), key).unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 81);
    assert!(text.lines().all(|line| line.ends_with(&keys.line("ed"))), "{text}");
}

#[test]
fn an_unreadable_file_is_an_error_and_odd_lines_are_not() {
    let keys = Keys::new();
    let names = HostNames::new("nas", 22, None);
    assert!(KnownHosts::load(&[keys.scratch.path().to_owned()], &names).is_err());
    let text = format!(
        "nas\n@unknown nas {0}\nnas ssh-rsa {1}\nnas ssh-ed25519 !!!\n|1|x|y {0}\n\u{0}\n",
        keys.line("ed"),
        keys.line("ed").split(' ').nth(1).unwrap(),
    );
    assert_eq!(keys.judge(&text, "nas", 22, "ed"), Verdict::Unknown);
}

#[test]
fn decoders_take_any_bytes() {
    use holdfast_testkit::{Budget, fuzz_for};

    let keys = Keys::new();
    let line = keys.line("ed");
    let corpus = [
        format!("nas,!x {line} c\n@revoked * {line}\n"),
        format!("@cert-authority *.lan {line}\n|1|{0}=|{0}= {line}\n", "A".repeat(27)),
        format!("SHA256:{},{line}", "A".repeat(43)),
    ];
    let corpus: Vec<_> = corpus.into_iter().map(String::into_bytes).collect();
    let file: std::sync::Arc<Path> = Path::new("known").into();
    fuzz_for(Budget::from_env_or(20_000), 5, &corpus, &|input| {
        let text = String::from_utf8_lossy(input);
        for line in text.lines() {
            if let Some(entry) = file::parse(line, &file, 1) {
                let _ = entry.matches("nas");
            }
        }
        let _ = Expected::parse(&text);
    });
}
