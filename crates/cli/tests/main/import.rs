//! What comes into the configuration from elsewhere: rclone's remotes, the desktop's keyring, and
//! keys that are made here.

use std::os::unix::fs::PermissionsExt;

use holdfast_testkit::Sshd;
use holdfast_testkit::sshd::{HostKeyKind, SshdOptions};

use crate::sandbox::{Sandbox, answer, files};

const RCLONE: &str = "[nas]\ntype = sftp\nhost = nas.example.com\nuser = anna\n\
    pass = YWFhYWFhYWFhYWFhYWFhYXMaGgIlEQ\nchunk_size = 255k\n\n\
    [minio]\ntype = s3\nprovider = Minio\naccess_key_id = AKPLANTED\n\
    secret_access_key = hunter2hunter2\nendpoint = http://localhost:9000\n\n\
    [gdrive]\ntype = drive\ntoken = hunter2token\n";

#[test]
fn remotes_of_rclone_become_locations() {
    let sandbox = Sandbox::new();
    sandbox.run("config repository import").fails(1, ".config/rclone/rclone.conf");
    sandbox.write("home/.config/rclone/rclone.conf", RCLONE.as_bytes());
    let dry = sandbox.run("config repository import --dry-run").ok();
    assert!(dry.out.contains("would import 2 locations") && !sandbox.config().exists(), "{dry:?}");
    let done = sandbox.run("config repository import").ok();
    for part in [
        "imported  nas\n          without chunk_size",
        "location s3://localhost:9000/BUCKET",
        "left out  gdrive\n          type drive is not known",
        "imported 2 locations",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    let text = sandbox.config_text();
    assert!(
        text.contains("password = \"potato\"")
            && text.contains("\"sftp://anna@nas.example.com/~\"")
    );
    assert_eq!(sandbox.config().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // What is there stays; one that was named says so and changes nothing.
    sandbox.run("config repository import minio:bucket/x").fails(1, "there is a location minio");
    assert_eq!(sandbox.config_text(), text);
    let again = sandbox.run("config repository import minio:bucket/x --replace --json").ok();
    let events = again.events();
    assert_eq!((&events[0]["outcome"], &events[0]["name"]), (&"replaced".into(), &"minio".into()));
    assert_eq!((&events[1]["replaced"], &events[1]["left_out"]), (&1.into(), &0.into()));
    assert!(sandbox.config_text().contains("\"s3://localhost:9000/bucket/x\""));
    sandbox.run("config repository import gdrive").fails(1, "type drive is not known");
    sandbox.run("config repository import nsa").fails(1, "no remote nsa").fails_with("mean nas?");
    for answer in [dry, done, again] {
        let all = format!("{}{}", answer.out, answer.err);
        for secret in ["potato", "hunter2", "AKPLANTED"] {
            assert!(!all.contains(secret), "{all}");
        }
    }
}

#[test]
fn an_encrypted_file_comes_through_rclone_itself() {
    let sandbox = Sandbox::new();
    let encrypted = b"# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAbC==\n";
    sandbox.write("rclone.conf", encrypted);
    let line = "config repository import --from rclone.conf";
    let refused = sandbox.run(line).fails(1, "rclone.conf is encrypted");
    refused.fails_with("rclone config show | holdfast config repository import --from -");
    let line = "config repository import --from - minio:b";
    sandbox.run_with_input(line, RCLONE.as_bytes()).ok();
    assert!(sandbox.config_text().contains("s3://localhost:9000/b"));
}

#[test]
fn a_secret_of_the_keyring_is_looked_up_when_it_is_needed() {
    let sandbox = Sandbox::with_passphrase();
    let set = ["config", "repository", "set", "nas", "passphrase", "keyring:my nas"];
    sandbox.run("config repository set nas location repo").ok();
    let set = sandbox.run_words(set).ok();
    assert!(!set.err.contains("history"), "{}", set.err);
    let shown = sandbox.run("config repository show nas").ok().out;
    assert!(shown.contains("passphrase = \"keyring:my nas\""), "{shown}");
    let with_tool = |script: &str| {
        sandbox.write("bin/secret-tool", format!("#!/bin/sh\n{script}\n").as_bytes());
        let tool = sandbox.path("bin/secret-tool");
        std::fs::set_permissions(tool, PermissionsExt::from_mode(0o755)).unwrap();
        answer(sandbox.command().env("PATH", sandbox.path("bin")).args(["at", "@nas", "ls"]))
    };
    let none =
        answer(sandbox.command().env("PATH", sandbox.path("none")).args(["at", "@nas", "ls"]));
    none.fails(1, "passphrase of @nas gives no secret").fails_with("secret-tool is not there");
    let words = "[ \"$*\" = 'lookup service holdfast name my nas' ] && echo 'correct horse'";
    with_tool(words).ok();
    let missing = with_tool("exit 1").fails(1, "the keyring has nothing named my nas");
    missing
        .fails_with("secret-tool store --label='Holdfast my nas' service holdfast name 'my nas'");
    with_tool("echo 'no D-Bus' >&2; exit 1").fails(1, "cannot be asked: no D-Bus");
    with_tool("true").fails(1, "the keyring has nothing named my nas");
    // On the command line it is no secret.
    let repo = "at repo -o passphrase=keyring:x ls";
    answer(sandbox.command().env("PATH", sandbox.path("none")).args(repo.split(' ')))
        .fails(1, "secret-tool is not there");
}

#[test]
fn a_generated_key_signs_in() {
    let sandbox = Sandbox::with_repository();
    let made = sandbox.run("config repository generate-key nas").ok();
    let line = made.out.trim_end().to_owned();
    assert!(line.starts_with("ssh-ed25519 ") && line.contains("holdfast of "), "{}", made.out);
    assert!(made.err.contains("authorized_keys") && made.err.contains("SHA256:"), "{}", made.err);
    let key = sandbox.path("home/.config/holdfast/keys/nas");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let options = SshdOptions { authorized_keys: vec![line], ..SshdOptions::default() };
    let sshd = Sshd::start(options).unwrap();
    let known = sshd.known_hosts_line(HostKeyKind::Ed25519).unwrap();
    sandbox.write("home/.ssh/known_hosts", known.as_bytes());
    let location =
        format!("sftp://{}@127.0.0.1:{}{}", sshd.user(), sshd.port(), sandbox.text("src"));
    sandbox.run(&format!("config repository set nas location {location}")).ok();
    sandbox.run("at repo backup @nas").ok();
    let to = sandbox.text("back");
    sandbox.run(&format!("at repo restore -to {to} latest:{}", sandbox.text("src"))).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("back")));
    let again = sandbox.run("config repository generate-key nas");
    again.fails(1, "signs in by its key_file already").fails_with("--replace");
    let other = "config repository generate-key nas --replace --file other.key --json";
    let event = &sandbox.run(other).ok().events()[0];
    assert_eq!(event["replaced"][0], "key_file");
    assert!(sandbox.path("other.key.pub").exists() && key.exists());
    sandbox.run("at repo backup @nas").fails(1, "refused");
}

#[test]
fn limits_hold_for_sources_and_destinations_over_a_network() {
    let sandbox = Sandbox::with_repository();
    let mut noise = vec![0; 300_000];
    rand::RngCore::fill_bytes(&mut holdfast_testkit::clock::rng(2), &mut noise);
    sandbox.write("remote/noise", &noise);
    let made = sandbox.run("config repository generate-key nas").ok();
    let authorized_keys = vec![made.out.trim_end().to_owned()];
    let sshd = Sshd::start(SshdOptions { authorized_keys, ..SshdOptions::default() }).unwrap();
    let known = sshd.known_hosts_line(HostKeyKind::Ed25519).unwrap();
    sandbox.write("home/.ssh/known_hosts", known.as_bytes());
    let location =
        format!("sftp://{}@127.0.0.1:{}{}", sshd.user(), sshd.port(), sandbox.text("remote"));
    sandbox.run(&format!("config repository set nas location {location}")).ok();
    let seconds = |line: &str| {
        let start = std::time::Instant::now();
        sandbox.run(line).ok();
        start.elapsed().as_secs_f64()
    };
    // 300 kB at 200 kB/s, less what a moment of rest leaves over; only a lower bound cannot flake.
    assert!(seconds("at repo backup @nas --limit-download 200000") > 1.2);
    sandbox.run("config repository set nas limit_upload 200000").ok();
    assert!(seconds("at repo restore -to @nas:/back latest") > 1.2);
    assert_eq!(std::fs::read(sandbox.path("remote/noise")).unwrap(), noise);
}
