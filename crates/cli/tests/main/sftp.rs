//! The lines of the SFTP pages against a real OpenSSH server: sources, repositories and
//! destinations over SFTP, every way to sign in, and what is said when it does not work.

use std::path::Path;

use holdfast_testkit::sshd::{HostKeyKind, KeyKind, certify, is_root, keygen, public_line};
use holdfast_testkit::{Agent, Sshd, SshdOptions};

use crate::sandbox::{Answer, Sandbox, files};

/// A sandbox and a server that lets `home/.ssh/id_ed25519` in, known as `remote-host`.
pub(crate) struct Remote {
    pub(crate) sandbox: Sandbox,
    sshd: Sshd,
}

impl Remote {
    pub(crate) fn new() -> Self {
        Self::with("", SshdOptions::default())
    }

    fn with(passphrase: &str, options: SshdOptions) -> Self {
        let sandbox = Sandbox::with_repository();
        let key = sandbox.path("home/.ssh/id_ed25519");
        std::fs::create_dir_all(key.parent().unwrap()).unwrap();
        keygen(&key, KeyKind::Ed25519, passphrase, None).unwrap();
        let authorized_keys = vec![public_line(&key).unwrap()];
        let sshd = Sshd::start(SshdOptions { authorized_keys, ..options }).unwrap();
        let remote = Self { sandbox, sshd };
        remote.config("");
        let known = remote.sshd.known_hosts_line(HostKeyKind::Ed25519).unwrap();
        remote.sandbox.write("home/.ssh/known_hosts", known.as_bytes());
        remote
    }

    /// Writes `~/.ssh/config`, with `more` in the block of the host.
    fn config(&self, more: &str) {
        let port = self.sshd.port();
        let text = format!("Host remote-host\n  HostName 127.0.0.1\n  Port {port}\n  {more}\n");
        self.sandbox.write("home/.ssh/config", text.as_bytes());
    }

    /// `sftp://user@remote-host/path` of something in the sandbox.
    pub(crate) fn location(&self, name: &str) -> String {
        format!("sftp://{}@remote-host{}", self.sshd.user(), self.sandbox.text(name))
    }

    pub(crate) fn run(&self, line: &str) -> Answer {
        self.sandbox.run(line)
    }

    /// Sets options of the location `nas`, which is `name` of the sandbox.
    pub(crate) fn nas(&self, name: &str, options: &[(&str, &str)]) {
        let location = self.location(name);
        for (key, value) in [("location", location.as_str())].iter().chain(options) {
            self.sandbox.run_words(["config", "repository", "set", "nas", key, value]).ok();
        }
    }
}

fn readable_by_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for above in path.ancestors().filter(|p| p.starts_with("/tmp")) {
        let _ = std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o755));
    }
}

#[test]
fn no_more_connections_are_made_than_are_allowed() {
    let remote = Remote::new();
    for number in 0..200 {
        remote.sandbox.write(&format!("many/{number}"), &[7; 20_000]);
    }
    let signed_in = || remote.sshd.log().matches("Accepted publickey").count();
    let before = signed_in();
    let line = format!("at repo backup {} --connections", remote.location("many"));
    remote.run(&format!("{line} 1")).ok();
    assert_eq!(signed_in() - before, 1);
    remote.run(&format!("{line} 3 --force")).ok();
    // More are made only while the first ones are busy.
    let more = signed_in() - before - 1;
    assert!((1..=3).contains(&more), "{more}");
}

#[test]
fn a1_to_a7_a_remote_directory_comes_back() {
    let remote = Remote::new();
    let (repo, from) = (remote.sandbox.text("repo"), remote.location("src"));
    remote.run(&format!("at {repo} backup {from}")).ok();
    let second = remote.run(&format!("at {repo} backup -tag remote-etc {from} --json")).ok();
    let summary = second.events().pop().unwrap();
    // Written moments before the first run, the files are read again where there is no ctime.
    assert_eq!(summary["errors"], 0);
    assert_eq!(summary["bytes_stored"].as_u64().map(|bytes| bytes < 4000), Some(true), "{summary}");
    let listed = remote.run(&format!("at {repo} ls -tag remote-etc")).ok().out;
    let line = listed.lines().nth(1).unwrap();
    assert!(line.contains("remote-host") && line.ends_with(&remote.sandbox.text("src")), "{line}");
    let id = line.get(..6).unwrap();
    let to = remote.sandbox.text("tmp/restore");
    remote.run(&format!("at {repo} restore -to {to} {id}:{}", remote.sandbox.text("src"))).ok();
    let (src, back) = (remote.sandbox.path("src"), remote.sandbox.path("tmp/restore"));
    assert_eq!(files(&src), files(&back));
    assert_eq!(std::fs::read_link(back.join("link")).unwrap(), Path::new("a.txt"));
}

#[test]
fn an_unchanged_remote_tree_transfers_metadata_only() {
    let remote = Remote::new();
    let (repo, from) = (remote.sandbox.text("repo"), "sftp://remote-host/usr/share/doc");
    remote.config(&format!("User {}", remote.sshd.user()));
    remote.run(&format!("at {repo} backup {from}")).ok();
    let second = remote.run(&format!("at {repo} backup {from} --json")).ok();
    let summary = second.events().pop().unwrap();
    assert_eq!(summary["bytes_read"], 0, "{summary}");
    assert!(summary["files_unchanged"].as_u64() > Some(100), "{summary}");
    let to = remote.sandbox.text("back");
    remote.run(&format!("at {repo} restore -to {to} latest:/usr/share/doc")).ok();
    let (doc, back) = (Path::new("/usr/share/doc"), remote.sandbox.path("back"));
    assert_eq!(files(doc), files(&back));
}

#[test]
fn a4_the_agent_also_by_its_socket() {
    let remote = Remote::new();
    let key = remote.sandbox.path("home/.ssh/id_ed25519");
    let agent = Agent::start().unwrap();
    agent.add(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let failed = remote.run(&format!("at repo backup {}", remote.location("src")));
    failed.fails(1, "refused").fails_with("authorized_keys");
    remote.nas("src", &[("agent_socket", agent.socket().to_str().unwrap())]);
    remote.run("at repo backup @nas").ok();
    let mut command = remote.sandbox.command_with_secret();
    command.env("SSH_AUTH_SOCK", agent.socket());
    command.args(["at", "repo", "backup", &remote.location("src")]);
    crate::sandbox::answer(&mut command).ok();
}

#[test]
fn a4_a_key_with_a_passphrase() {
    let remote = Remote::with("open sesame", SshdOptions::default());
    let failed = remote.run(&format!("at repo backup {}", remote.location("src")));
    failed.fails(1, "passphrase").fails_with("key_passphrase");
    let key = remote.sandbox.text("home/.ssh/id_ed25519");
    remote.nas("src", &[("key_file", &key), ("key_passphrase", "wrong")]);
    let failed = remote.run("at repo backup @nas").fails(1, "does not open with this passphrase");
    assert!(!failed.err.contains("wrong\""), "{}", failed.err);
    remote.nas("src", &[("key_passphrase_command", "echo open sesame")]);
    remote.run("at repo backup @nas").ok();
}

#[test]
fn a4_a_certificate() {
    let authority = tempfile::tempdir().unwrap();
    let authority = authority.path().join("ca");
    keygen(&authority, KeyKind::Ed25519, "", None).unwrap();
    let user_authority = Some(public_line(&authority).unwrap());
    let remote = Remote::with("", SshdOptions { user_authority, ..SshdOptions::default() });
    remote.sshd.authorize(&[]).unwrap();
    let key = remote.sandbox.path("home/.ssh/id_ed25519");
    remote.nas("src", &[("key_file", key.to_str().unwrap())]);
    remote.run("at repo backup @nas").fails(1, "refused");
    let certificate = certify(&authority, &key, remote.sshd.user(), &[]).unwrap();
    let text = std::fs::read_to_string(&certificate).unwrap();
    std::fs::remove_file(&certificate).unwrap();
    remote.nas("src", &[("certificate", text.trim())]);
    remote.run("at repo backup @nas").ok();
}

#[test]
fn a4_a_password_that_is_kept_or_asked_for() {
    if !is_root() {
        return; // Only root can make an account with a password.
    }
    let password = Some("s3cret word".to_owned());
    let remote = Remote::with("", SshdOptions { password, ..SshdOptions::default() });
    readable_by_all(&remote.sandbox.path("src"));
    remote.sshd.authorize(&[]).unwrap();
    let asked = remote.run(&format!("at repo backup {}", remote.location("src")));
    asked.fails(1, "refused").fails_with("run it in a terminal to be asked for the password");
    remote.nas("src", &[("password", "not it")]);
    let failed = remote.run("at repo backup @nas").fails(1, "refused");
    assert!(!failed.err.contains("not it"), "{}", failed.err);
    remote.nas("src", &[("password", "s3cret word")]);
    remote.run("at repo backup @nas").ok();
}

#[test]
fn a8_relative_paths_are_refused_with_the_reason() {
    let remote = Remote::new();
    for (place, text) in [
        ("sftp://remote-host", "absolute"),
        ("sftp://remote-host/./etc", "absolute"),
        ("remote-host:etc", "sftp://remote-host/etc"),
    ] {
        remote.run(&format!("at repo backup {place}")).fails(2, text);
    }
    let home = remote.run(&format!("test sftp://{}@remote-host/~/", remote.sshd.user())).ok();
    assert!(home.out.contains("directory"), "{}", home.out);
}

#[test]
fn a_repository_and_a_destination_over_sftp() {
    let remote = Remote::new();
    remote.nas("remote/repo", &[]);
    remote.run_bare("at @nas create --key-file home/key").ok();
    remote.run("at @nas backup src").ok();
    remote.run("at @nas backup src").ok();
    remote.run("at @nas check --read-data").ok();
    let checked = remote.run("at @nas check --server-checksums --json").ok().events();
    let summary = checked.last().unwrap();
    assert!(summary["packs_hashed"].as_u64() > Some(0), "{summary}");
    assert_eq!(summary["bytes_read"], 0, "{summary}");
    assert_eq!(remote.run("at @nas ls").ok().out.lines().count(), 3);
    let to = remote.location("remote/back");
    let src = remote.sandbox.text("src");
    remote.run(&format!("at @nas restore -to {to} latest:{src}")).ok();
    assert_eq!(files(&remote.sandbox.path("src")), files(&remote.sandbox.path("remote/back")));
    // The same repository, seen from the server itself.
    let local = remote.sandbox.text("remote/repo");
    remote.run(&format!("at {local} check")).ok();
    // Source, repository and destination on one server; the repository is left out.
    let all = remote.location("remote");
    let out = remote.run(&format!("at @nas backup {all} --json")).ok().events();
    assert!(out.last().unwrap()["excluded"].as_u64() >= Some(1), "{out:?}");
}

impl Remote {
    fn run_bare(&self, line: &str) -> Answer {
        self.sandbox.run_bare(line)
    }
}

#[test]
fn host_keys_are_asked_for_pinned_and_never_changed_unseen() {
    let mut remote = Remote::new();
    std::fs::remove_file(remote.sandbox.path("home/.ssh/known_hosts")).unwrap();
    let from = remote.location("src");
    let unknown = remote.run(&format!("at repo backup {from}"));
    let unknown = unknown.fails(1, "its host key is not known").fails_with("SHA256:");
    unknown.fails_with("--accept-new-host-key");
    remote.run(&format!("--accept-new-host-key at repo backup {from}")).ok();
    remote.run(&format!("at repo backup {from}")).ok();
    assert!(remote.sandbox.path("home/.config/holdfast/known_hosts").is_file());
    assert!(!remote.sandbox.path("home/.ssh/known_hosts").exists(), "the user's is only read");
    remote.sshd.restart_with_keys(&[HostKeyKind::Ed25519]).unwrap();
    let changed = remote.run(&format!("--accept-new-host-key at repo backup {from}"));
    let changed = changed.fails(1, "its host key has changed").fails_with("known_hosts line 1");
    assert_eq!(changed.err.matches("SHA256:").count(), 2, "{}", changed.err);
}

#[test]
fn every_trouble_has_a_name_and_a_next_step() {
    let remote = Remote::new();
    let class = |line: &str| {
        let answer = remote.run(&format!("{line} --json"));
        let event = answer.events().pop().unwrap();
        assert!(event["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "{event}");
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("class"), text("stage"))
    };
    let told = |class: &str, stage: &str| (class.to_owned(), stage.to_owned());
    let user = remote.sshd.user().to_owned();
    assert_eq!(class("test sftp://no-such-host.invalid/x"), told("name not found", "resolve"));
    assert_eq!(class("test sftp://127.0.0.1:1/x"), told("refused", "connect"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let silent = format!("at sftp://127.0.0.1:{port}/x -o timeout=1s ls");
    assert_eq!(class(&silent), told("timeout", "handshake"));
    let missing = format!("at repo backup sftp://{user}@remote-host/no/such/path");
    assert_eq!(class(&missing), told("no such path", ""));
    let other = remote.location("src").replace(&format!("{user}@"), "nobody-of-that-name@");
    assert_eq!(class(&format!("at repo backup {other}")), told("authentication", "sign-in"));
    remote.nas("src", &[("key_file", &remote.sandbox.text("home/.ssh/id_ed25519.pub"))]);
    assert_eq!(class("at repo backup @nas").0, "key unreadable");
    if !is_root() {
        assert_eq!(class("at sftp://remote-host/root/x create").0, "permission denied");
    }
}

#[test]
fn no_common_algorithm_names_the_switch() {
    let extra = vec!["Ciphers aes128-cbc".to_owned()];
    let remote = Remote::with("", SshdOptions { extra, ..SshdOptions::default() });
    let from = remote.location("src");
    let failed = remote.run(&format!("at repo backup {from}"));
    failed.fails(1, "no cipher in common").fails_with("allow_insecure_ciphers");
    remote.nas("src", &[("allow_insecure_ciphers", "true")]);
    remote.run("at repo backup @nas").ok();
}

#[test]
fn the_staged_test_tells_each_step() {
    let remote = Remote::new();
    remote.nas("remote", &[]);
    for line in ["test @nas", "config repository test nas"] {
        let out = remote.run(line).ok().out;
        for step in
            ["resolve", "connect", "handshake", "host key", "sign-in", "write", "free space"]
        {
            assert!(out.lines().any(|l| l.starts_with(step)), "{step}: {out}");
        }
    }
    let left = remote.sandbox.path("remote").read_dir().map(|dir| dir.count()).unwrap_or(0);
    assert_eq!(left, 0, "what it wrote is gone");
    let events = remote.run("test @nas --json").ok().events();
    assert!(events.iter().all(|e| e["type"] == "step" && e["outcome"] == "ok"), "{events:?}");
}

#[test]
fn c4_sync_to_a_server_and_back() {
    let remote = Remote::new();
    remote.sandbox.backup();
    remote.run("at far create --key-file home/key").ok();
    let (repo, far) = (remote.sandbox.text("repo"), remote.location("far"));
    let to = remote.run(&format!("at {repo} sync to {far}")).ok().out;
    assert!(to.contains("1 snapshot copied to sftp://"), "{to}");
    remote.run("at near create --key-file home/key").ok();
    let from = remote.run(&format!("at near sync from {far}")).ok().out;
    assert!(from.contains("1 snapshot copied to "), "{from}");
    let (src, back) = (remote.sandbox.text("src"), remote.sandbox.text("back"));
    remote.run(&format!("at near restore -to {back} latest:{src}")).ok();
    assert_eq!(files(&remote.sandbox.path("src")), files(&remote.sandbox.path("back")));
}

#[test]
fn accepted_host_keys_come_back_with_the_plan() {
    let remote = Remote::new();
    let sandbox = &remote.sandbox;
    std::fs::remove_file(sandbox.path("home/.ssh/known_hosts")).unwrap();
    let far = sandbox.text("far");
    let (user, port) = (remote.sshd.user(), remote.sshd.port());
    let set = |key: &str, value: &str| {
        sandbox.run_words(["config", "repository", "set", "nas", key, value]).ok();
    };
    set("location", &format!("sftp://{user}@127.0.0.1:{port}{far}"));
    set("key_file", "home/.ssh/id_ed25519");
    set("repository_key_file", "home/far-key");
    sandbox.run_bare("at @nas ls").fails(1, "its host key is not known");
    sandbox.run_bare("at @nas create --accept-new-host-key").ok();
    sandbox.run_bare("plan create home --to @nas src").ok();
    sandbox.run_bare("run home").ok();
    let known_hosts = sandbox.config().with_file_name("known_hosts");
    let known = std::fs::read_to_string(&known_hosts).unwrap();
    assert!(known.starts_with(&format!("[127.0.0.1]:{port} ssh-")), "{known}");
    for lost in ["home/.config", "state", "cache"] {
        std::fs::remove_dir_all(sandbox.path(lost)).unwrap();
    }
    // The disk of the server was brought here.
    let line = format!("--key-file home/far-key recover {far} --yes --json");
    let shown = sandbox.run_bare(&line.replace("--yes", "--dry-run")).ok();
    assert!(
        shown.err.contains(&format!("# host key of [127.0.0.1]:{port}: ssh-")),
        "{}",
        shown.err
    );
    assert!(!known_hosts.exists());
    let recovered = sandbox.run_bare(&line).ok();
    let summary = recovered.events().pop().unwrap();
    assert_eq!(summary["host_keys"].as_array().map(Vec::len), Some(1), "{summary}");
    assert_eq!(std::fs::read_to_string(&known_hosts).unwrap(), known);
    // Nobody is asked, and nothing need be accepted.
    sandbox.run_bare("run home").ok();
    // What this machine knows otherwise stays, and is told.
    let other = sandbox.path("home/.ssh/id_ed25519.pub");
    let other = std::fs::read_to_string(other).unwrap();
    let words: Vec<_> = other.split(' ').take(2).collect();
    let mine = format!("[127.0.0.1]:{port} {}\n", words.join(" "));
    std::fs::write(&known_hosts, &mine).unwrap();
    std::fs::remove_file(sandbox.config()).unwrap();
    let again = sandbox.run_bare(&line).ok();
    assert!(again.out.contains("this machine knows another for that host"), "{}", again.out);
    assert_eq!(std::fs::read_to_string(&known_hosts).unwrap(), mine);
}
