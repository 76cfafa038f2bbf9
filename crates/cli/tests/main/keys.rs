//! Passphrases and key files: where they come from, and the `key` verb.

use std::os::unix::fs::PermissionsExt;

use crate::sandbox::{PASSPHRASE, Sandbox, answer};

#[test]
fn a_wrong_passphrase_exits_with_12_and_is_no_storage_failure() {
    let sandbox = Sandbox::with_passphrase();
    let mut command = sandbox.command();
    let wrong = command.env("HOLDFAST_PASSPHRASE", "wrong one").args(["at", "repo", "ls"]);
    let wrong = answer(wrong).fails(12, "with this passphrase");
    assert!(!wrong.err.contains("wrong one"), "{}", wrong.err);
    let none = sandbox.run_bare("at repo ls").fails(12, "is encrypted");
    assert!(none.err.contains("--passphrase-file FILE"), "{}", none.err);
}

#[test]
fn every_source_of_a_passphrase_works() {
    let sandbox = Sandbox::with_passphrase();
    sandbox.write("pass", format!("{PASSPHRASE}\n").as_bytes());
    sandbox.run_bare("at repo ls --passphrase-file pass").ok();
    let with = |name: &str, value: &str| {
        answer(sandbox.command().env(name, value).args(["at", "repo", "ls"]))
    };
    with("HOLDFAST_PASSPHRASE_FILE", "pass").ok();
    with("HOLDFAST_PASSPHRASE_COMMAND", "cat pass").ok();
    with("HOLDFAST_PASSPHRASE_COMMAND", "false").fails(1, "HOLDFAST_PASSPHRASE_COMMAND gave no");
    with("HOLDFAST_PASSPHRASE", "").fails(1, "is empty");
    with("HOLDFAST_PASSPHRASE_FILE", "nothing").fails(1, "cannot be read");
}

#[test]
fn a_repository_without_any_way_to_ask_is_not_created() {
    let sandbox = Sandbox::new();
    let answer = sandbox.run_bare("at repo create").fails(12, "needs a passphrase");
    assert!(answer.err.contains("hint: holdfast at repo create --key-file FILE\n"));
    assert!(!sandbox.path("repo").exists());
}

#[test]
fn a_key_file_is_made_once_and_opens() {
    let sandbox = Sandbox::new();
    sandbox.run_bare("at repo create --key-file my.key").ok();
    let key = sandbox.path("my.key");
    let bytes = std::fs::read(&key).unwrap();
    assert_eq!(bytes.len(), 32);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    sandbox.run_bare("at repo ls --key-file my.key").ok();
    sandbox.run_bare("at repo ls -key-file=my.key").ok();
    answer(sandbox.command().env("HOLDFAST_KEY_FILE", "my.key").args(["at", "repo", "ls"])).ok();
    // An existing one is used, not replaced.
    sandbox.run_bare("at second create --key-file my.key").ok();
    assert_eq!(std::fs::read(&key).unwrap(), bytes);
    sandbox.write("other.key", &[1; 32]);
    sandbox.run_bare("at repo ls --key-file other.key").fails(12, "with this key file");
    sandbox.write("no.key", b"short");
    sandbox.run_bare("at repo ls --key-file no.key").fails(1, "is no key file");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warned = sandbox.run_bare("at repo ls --key-file my.key").ok();
    assert!(warned.err.contains("chmod 600"), "{}", warned.err);
    // A passphrase where there is only a key file.
    sandbox.run("at repo ls").fails(12, "has no passphrase");
}

#[test]
fn no_encryption_is_explicit_and_said() {
    let sandbox = Sandbox::new();
    let created = sandbox.run_bare("at repo create --no-encryption").ok();
    assert!(created.out.contains("NOT encrypted"), "{}", created.out);
    sandbox.run_bare("at repo ls").ok();
    sandbox.run("at repo ls").fails(1, "is not encrypted, though");
    sandbox.run("at repo ls --no-encryption").ok();
    sandbox.run_bare("at repo key list").fails(1, "no keys");
}

#[test]
fn slots_are_added_changed_and_removed() {
    let sandbox = Sandbox::with_passphrase();
    sandbox.run("at repo key add --new-key-file k --label server").ok();
    let list = sandbox.run_bare("at repo key list --key-file k").ok().out;
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("server") && list.contains("passphrase"), "{list}");
    sandbox.write("new", b"another one");
    sandbox.run("at repo key passwd --new-passphrase-file new").ok();
    sandbox.run("at repo ls").fails(12, "with this passphrase");
    sandbox.run_bare("at repo ls --passphrase-file new").ok();
    let events = sandbox.run_bare("at repo key list --key-file k --json").events();
    let id = |kind: &str| {
        let slot = events.iter().find(|event| event["kind"] == kind).unwrap();
        slot["id"].as_str().unwrap().to_owned()
    };
    sandbox.run_bare(&format!("at repo key remove {} --key-file k", id("passphrase"))).ok();
    sandbox.run_bare("at repo ls --passphrase-file new").fails(12, "has no passphrase");
    let last = format!("at repo key remove {} --key-file k", id("key file"));
    sandbox.run_bare(&last).fails(1, "is the last one");
    sandbox.run_bare("at repo key remove ffff --key-file k").fails(1, "no key slot ffff");
}
