//! First contact, known hosts, changes, revocation, authorities.

use holdfast_connectors::sftp::ssh::{HostKey, KnownKey, KnownPlace};
use holdfast_testkit::HostKeyKind;
use holdfast_testkit::sshd::certify_host;

use super::*;

struct Host {
    server: Sshd,
    key: PathBuf,
    own: PathBuf,
}

impl Host {
    fn new(kinds: &[HostKeyKind]) -> Self {
        let options = SshdOptions { host_keys: kinds.to_vec(), ..SshdOptions::default() };
        let (server, key) = server_with_key(KeyKind::Ed25519, options);
        let own = server.directory().join("own/known_hosts");
        Self { server, key, own }
    }

    /// Nothing is accepted without a word.
    fn options(&self) -> SshOptions {
        SshOptions {
            accept_new_host_key: false,
            own_known_hosts: Some(self.own.clone()),
            ..with_key(&self.server, &self.key)
        }
    }

    fn write_user_file(&self, text: &str) {
        let path = self.server.directory().join("our-home/.ssh");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("known_hosts"), text).unwrap();
    }

    fn fingerprint(&self, kind: HostKeyKind) -> String {
        let name = match kind {
            HostKeyKind::Ed25519 => "host_ed25519.pub",
            HostKeyKind::Ecdsa => "host_ecdsa.pub",
            HostKeyKind::Rsa => "host_rsa.pub",
        };
        let path = self.server.directory().join(name);
        let output =
            std::process::Command::new("ssh-keygen").arg("-lf").arg(path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    }
}

fn changed(error: SshError) -> (Vec<HostKey>, Vec<KnownKey>) {
    assert_eq!(error.stage, Stage::HostKey);
    match *error.problem {
        Problem::HostKeyChanged { presented, known, .. } => (presented, known),
        other => panic!("{other}"),
    }
}

#[test]
fn first_contact() {
    let host = Host::new(&[HostKeyKind::Ed25519]);
    block_on(async {
        // Nobody there: refused, with the facts.
        let error = refused(host.options()).await;
        assert_eq!((error.class(), error.stage), (Class::HostKeyUnknown, Stage::HostKey));
        match error.problem.as_ref() {
            Problem::HostKeyUnknown { key, asked: false, name, .. } => {
                assert_eq!(key.fingerprint, host.fingerprint(HostKeyKind::Ed25519));
                assert_eq!(key.line, host.server.host_key(HostKeyKind::Ed25519).unwrap());
                assert_eq!(name, &format!("[127.0.0.1]:{}", host.server.port()));
            }
            other => panic!("{other}"),
        }
        assert!(!host.server.log().contains("Accepted"), "signed in before the host was trusted");
        assert!(!host.own.exists());

        // A person says no.
        let no = Arc::new(Script { trust: Some(false), ..Script::default() });
        let error = connect_asking(host.options(), &no).await.unwrap_err();
        assert!(matches!(*error.problem, Problem::HostKeyUnknown { asked: true, .. }));
        assert!(!host.own.exists());

        // A person says yes, once.
        let yes = Arc::new(Script { trust: Some(true), ..Script::default() });
        let connector = Arc::new(Connector::new(host.options(), Arc::clone(&yes) as _));
        let both = [Arc::clone(&connector), connector];
        let both = both.map(|c| tokio::spawn(async move { c.connect(&|_| {}).await }));
        for session in both {
            session.await.unwrap().unwrap();
        }
        let question = format!("ssh-ed25519 {}", host.fingerprint(HostKeyKind::Ed25519));
        assert_eq!(yes.asked(), [question]);
        let line = host.server.known_hosts_line(HostKeyKind::Ed25519).unwrap();
        assert_eq!(std::fs::read_to_string(&host.own).unwrap(), format!("{line}\n"));
        // From then on nobody is asked.
        connect(host.options()).await.unwrap();
    });
}

#[test]
fn accept_new_stores_into_the_chosen_file() {
    let host = Host::new(&[HostKeyKind::Ed25519]);
    block_on(async {
        let chosen = host.server.directory().join("chosen");
        let mut asked = host.options();
        asked.accept_new_host_key = true;
        asked.known_hosts_file = Some(chosen.clone());
        connect(asked.clone()).await.unwrap();
        assert!(chosen.exists() && !host.own.exists());
        asked.accept_new_host_key = false;
        connect(asked.clone()).await.unwrap();

        // Where nothing can be written, it still connects, and says so.
        asked.accept_new_host_key = true;
        asked.known_hosts_file = Some("/proc/nothing/known_hosts".into());
        let session = connect(asked).await.unwrap();
        assert!(session.facts().warnings[0].contains("not stored"));
    });
}

#[test]
fn the_users_file_is_read_and_never_written() {
    let host = Host::new(&[HostKeyKind::Ed25519]);
    let line = host.server.known_hosts_line(HostKeyKind::Ed25519).unwrap();
    let file = host.server.directory().join("our-home/.ssh/known_hosts");
    block_on(async {
        host.write_user_file(&format!("{line}\n"));
        let mut asked = host.options();
        asked.accept_new_host_key = true;
        connect(asked.clone()).await.unwrap();
        assert!(!host.own.exists());

        // Hashed as Debian's ssh does it.
        let hash = std::process::Command::new("ssh-keygen").args(["-H", "-f"]).arg(&file).output();
        assert!(hash.unwrap().status.success());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("|1|"));
        connect(host.options()).await.unwrap();

        // Other hosts' lines say nothing.
        host.write_user_file(&line.replace("127.0.0.1", "other"));
        connect(asked).await.unwrap();
        assert!(host.own.exists());
        assert!(std::fs::read_to_string(&file).unwrap().contains("other"));
    });
}

#[test]
fn a_changed_key_blocks_whatever_is_set() {
    let mut host = Host::new(&[HostKeyKind::Ed25519]);
    block_on(async {
        let mut asked = host.options();
        asked.accept_new_host_key = true;
        connect(asked.clone()).await.unwrap();
        let old = host.fingerprint(HostKeyKind::Ed25519);
        host.server.restart_with_keys(&[HostKeyKind::Ed25519]).unwrap();
        let new = host.fingerprint(HostKeyKind::Ed25519);
        assert_ne!(old, new);
        let yes = Arc::new(Script { trust: Some(true), ..Script::default() });
        let error = connect_asking(asked.clone(), &yes).await.unwrap_err();
        assert!(error.to_string().contains(&old) && error.to_string().contains(&new), "{error}");
        let (presented, known) = changed(error);
        assert_eq!(presented[0].fingerprint, new);
        assert_eq!(known[0].fingerprint, old);
        assert_eq!(known[0].place, KnownPlace::File { path: host.own.clone(), line: 1 });
        assert!(yes.asked().is_empty());

        // A key of another kind instead of the known one is a change as well.
        host.server.restart_with_keys(&[HostKeyKind::Ecdsa]).unwrap();
        changed(refused(asked).await);
    });
}

#[test]
fn the_known_kind_of_key_is_asked_for() {
    let host = Host::new(&[HostKeyKind::Ed25519, HostKeyKind::Ecdsa, HostKeyKind::Rsa]);
    block_on(async {
        for kind in [HostKeyKind::Rsa, HostKeyKind::Ecdsa, HostKeyKind::Ed25519] {
            host.write_user_file(&(host.server.known_hosts_line(kind).unwrap() + "\n"));
            let session = connect(host.options()).await.unwrap();
            let key = session.facts().host_key.clone().unwrap();
            assert_eq!(key.fingerprint, host.fingerprint(kind));
        }
    });
}

#[test]
fn revoked() {
    let host = Host::new(&[HostKeyKind::Ed25519]);
    let line = host.server.known_hosts_line(HostKeyKind::Ed25519).unwrap();
    let key = host.server.host_key(HostKeyKind::Ed25519).unwrap();
    host.write_user_file(&format!("{line}\n@revoked * {key}\n"));
    block_on(async {
        let mut asked = host.options();
        asked.accept_new_host_key = true;
        let error = refused(asked.clone()).await;
        assert_eq!((error.class(), error.stage), (Class::HostKeyRevoked, Stage::HostKey));
        // Not even when it is the expected one.
        asked.host_key = Some(key);
        assert_eq!(refused(asked).await.class(), Class::HostKeyRevoked);
    });
}

#[test]
fn an_expected_fingerprint() {
    let host = Host::new(&[HostKeyKind::Ed25519, HostKeyKind::Rsa]);
    block_on(async {
        // That of any of its keys, and nothing is asked; it is pinned.
        for kind in [HostKeyKind::Ed25519, HostKeyKind::Rsa] {
            let _ = std::fs::remove_file(&host.own);
            let mut asked = host.options();
            asked.host_key = Some(host.fingerprint(kind));
            connect(asked).await.unwrap();
            let line = host.server.known_hosts_line(kind).unwrap();
            assert_eq!(std::fs::read_to_string(&host.own).unwrap().trim(), line);
        }
        // A wrong one blocks, although the key is known by now, and shows all that the host has.
        let wrong = format!("SHA256:{}", "A".repeat(43));
        let mut asked = host.options();
        asked.host_key = Some(wrong.clone());
        asked.accept_new_host_key = true;
        let (presented, known) = changed(refused(asked.clone()).await);
        let shown: Vec<_> = presented.iter().map(|k| k.fingerprint.clone()).collect();
        let both = [HostKeyKind::Ed25519, HostKeyKind::Rsa].map(|kind| host.fingerprint(kind));
        assert_eq!(shown.len(), 2);
        assert!(both.iter().all(|f| shown.contains(f)), "{shown:?}");
        assert_eq!(known[0].fingerprint, wrong);
        assert_eq!(known[0].place, KnownPlace::Option);

        asked.host_key = Some("nonsense".into());
        assert_eq!(refused(asked).await.class(), Class::Settings);
    });
}

#[test]
fn host_certificates() {
    let mut host = Host::new(&[HostKeyKind::Ed25519, HostKeyKind::Rsa]);
    let directory = host.server.directory().to_owned();
    let authority = directory.join("host-ca");
    keygen(&authority, KeyKind::Ed25519, "", None).unwrap();
    let line = format!("@cert-authority * {}\n", public_line(&authority).unwrap());
    block_on(async {
        for (file, principals, extra, known) in [
            ("host_ed25519", "127.0.0.1", &[] as &[&str], true),
            ("host_rsa", "127.0.0.1", &[], true),
            ("host_ed25519", "other.lan", &[], false),
            ("host_ed25519", "127.0.0.1", &["-V", "20200101:20200102"], false),
        ] {
            for old in ["host_ed25519-cert.pub", "host_rsa-cert.pub"] {
                let _ = std::fs::remove_file(directory.join(old));
            }
            certify_host(&authority, &directory.join(file), principals, extra).unwrap();
            host.server.restart_with(&[]).unwrap();
            host.write_user_file(&line);
            if known {
                let session = connect(host.options()).await.unwrap();
                assert!(session.facts().host_certificate, "{file}");
            } else {
                let mut asked = host.options();
                asked.accept_new_host_key = true;
                let error = refused(asked).await;
                assert_eq!(error.class(), Class::HostCertificate, "{error}");
            }
            // Without the authority, the certificate is no reason to trust.
            host.write_user_file("");
            assert_eq!(refused(host.options()).await.class(), Class::HostKeyUnknown);
        }
    });
}

#[test]
fn an_alias_for_the_key() {
    let host = Host::new(&[HostKeyKind::Ed25519]);
    let key = host.server.host_key(HostKeyKind::Ed25519).unwrap();
    host.write_user_file(&format!("some-alias {key}\n"));
    let config = host.server.directory().join("config-of-user");
    std::fs::write(&config, "HostKeyAlias some-alias\n").unwrap();
    block_on(async {
        let mut asked = host.options();
        assert_eq!(refused(asked.clone()).await.class(), Class::HostKeyUnknown);
        asked.ssh_config = ConfigFiles::Files(vec![config]);
        connect(asked).await.unwrap();
    });
}
