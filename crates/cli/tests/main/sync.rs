//! `sync` between two repositories: both directions, what opens the other one, what is chosen, and
//! what is said when it does not work.

use crate::sandbox::{Answer, Sandbox, files};

/// A repository `repo` with two snapshots, and an empty one `other` with a key file of its own.
fn two() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    sandbox.run_bare("at other create --key-file home/other.key").ok();
    sandbox.run("at repo backup -tag first src").ok();
    sandbox.write("src/new.txt", b"second\n");
    sandbox.backup();
    sandbox
}

/// The configuration knows both, and what opens them.
fn configured() -> Sandbox {
    let sandbox = two();
    for (name, place, key) in [("a", "repo", "home/key"), ("b", "other", "home/other.key")] {
        for (option, value) in [("location", place), ("repository_key_file", key)] {
            let value = sandbox.text(value);
            sandbox.run_words(["config", "repository", "set", name, option, &value]).ok();
        }
    }
    sandbox
}

/// The program with nothing but the configuration.
fn run(sandbox: &Sandbox, line: &str) -> Answer {
    sandbox.run_bare(line)
}

#[test]
fn c4_sync_to_and_from_another_repository() {
    let sandbox = configured();
    let answer = run(&sandbox, "at @a sync to @b").ok();
    assert!(answer.out.contains("2 snapshots copied to "), "{}", answer.out);
    assert!(answer.err.contains("different keys"), "{}", answer.err);
    let again = run(&sandbox, "at @a sync to @b").ok();
    assert!(again.out.contains("0 snapshots copied to "), "{}", again.out);
    assert!(again.out.contains("; 2 were there already"), "{}", again.out);
    assert!(!again.err.contains("different keys"), "{}", again.err);
    let src = sandbox.text("src");
    let restore = format!("at @b restore -to {} latest:{src}", sandbox.text("back"));
    run(&sandbox, &restore).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("back")));
    run(&sandbox, "at @b check --read-data").ok();
    // The other way round, into a third one.
    sandbox.run_bare("at third create --key-file home/other.key").ok();
    let third = sandbox.text("third");
    let line = format!("at {third} --key-file home/other.key sync from @b latest");
    let answer = run(&sandbox, &line).ok();
    assert!(answer.out.contains("1 snapshot copied to "), "{}", answer.out);
    // It is known for what it is.
    let line = format!("at @a sync from {third} --other-key-file home/other.key");
    let answer = run(&sandbox, &line).ok();
    assert!(answer.out.contains("; 1 was there already"), "{}", answer.out);
}

#[test]
fn a_copy_says_where_it_is_from() {
    let sandbox = configured();
    let events = run(&sandbox, "at @a sync to @b --json --no-progress").ok().events();
    let copies: Vec<_> = events.iter().filter(|event| event["type"] == "copy").collect();
    assert_eq!(copies.len(), 2);
    let summary = events.last().unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!((&summary["copied"], &summary["present"]), (&2.into(), &0.into()));
    assert_eq!((&summary["chosen"], &summary["interrupted"]), (&2.into(), &false.into()));
    let (id, copy) = (copies[0]["snapshot"].as_str().unwrap(), copies[0]["copy"].as_str().unwrap());
    let listed = run(&sandbox, "at @b ls --json").ok().events();
    let found = listed.iter().find(|event| event["id"] == copy).unwrap();
    assert_eq!(found["origin"]["snapshot"], id);
    let original = run(&sandbox, "at @a ls --json").ok().events();
    let original = original.iter().find(|event| event["id"] == id).unwrap();
    assert!(original["origin"].is_null());
    for field in ["time", "host", "user", "kind", "tags", "program", "files", "bytes", "roots"] {
        assert_eq!(found[field], original[field], "{field}");
    }
    let info = run(&sandbox, &format!("at @b info {copy}")).ok().out;
    assert!(info.contains(&format!("copied from     {id} of repository ")), "{info}");
}

#[test]
fn what_is_chosen() {
    let sandbox = configured();
    let dry = run(&sandbox, "at @a sync to @b --dry-run").ok().out;
    assert!(dry.contains("would be copied: "), "{dry}");
    assert!(dry.contains("dry run: 2 snapshots would be copied"), "{dry}");
    assert!(!run(&sandbox, "at @b ls").ok().out.contains("src"));
    run(&sandbox, "at @a sync to @b -tag nothing").ok();
    assert!(!run(&sandbox, "at @b ls").ok().out.contains("src"));
    let first = run(&sandbox, "at @a sync to @b -tag first").ok().out;
    assert!(first.contains("1 snapshot copied"), "{first}");
    let both = run(&sandbox, "at @a sync to @b latest tag:first").ok().out;
    assert!(both.contains("1 snapshot copied to ") && both.contains("; 1 was there"), "{both}");
    let none = run(&sandbox, "at @a sync to @b ffffff").fails(1, "no snapshot matches ffffff");
    none.fails_with("interrupted runs are not copied");
    run(&sandbox, "at @a sync to @b latest:/etc").fails(2, "whole snapshots");
    run(&sandbox, "at @a sync to @b --partial").fails(2, "not copied");
    run(&sandbox, "at @a sync @b").fails(2, "");
    run(&sandbox, "at @a sync to").fails(2, "");
    run(&sandbox, "at @a sync to -").fails(2, "cannot be a repository");
    run(&sandbox, "at @a sync to @a").fails(2, "are one repository");
    let missing = sandbox.text("nowhere");
    run(&sandbox, &format!("at @a sync to {missing}"))
        .fails(10, "no repository at")
        .fails_with(&format!("holdfast at {missing} create"));
}

#[test]
fn what_opens_the_other_one() {
    let sandbox = two();
    // What the environment says is for the first: it does not fit the other.
    sandbox
        .run("at repo sync to other")
        .fails(12, "with this key file")
        .fails_with("--other-key-file FILE");
    sandbox.run("at repo sync to other --other-key-file home/other.key").ok();
    sandbox.run_bare("at same create --key-file home/key").ok();
    sandbox.run("at repo sync to same").ok();
    sandbox.run_bare("at plain create --no-encryption").ok();
    sandbox.run("at repo sync to plain").fails(1, "is not encrypted").fails_with("--other-no-enc");
    sandbox.run("at repo sync to plain --other-no-encryption").ok();
    sandbox.run("at repo sync to other --other-no-encryption").fails(12, "is encrypted");
    sandbox.run("at plain --no-encryption sync from repo").ok();
    sandbox.write("home/pass", b"wrong\n");
    sandbox
        .run("at repo sync to other --other-passphrase-file home/pass")
        .fails(12, "has no passphrase");
}

#[test]
fn damage_is_told_with_the_repository_it_is_in() {
    let sandbox = Sandbox::with_repository();
    sandbox.run_bare("at other create --key-file home/other.key").ok();
    sandbox.write("src/big.bin", &holdfast_testkit::clock::random_bytes(1, 3_000_000));
    sandbox.backup();
    let packs = files(&sandbox.path("repo/packs"));
    let (name, mut bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    bytes[1_500_000] ^= 1;
    let path = sandbox.path("repo/packs").join(name);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let line = "at other --key-file home/other.key sync from repo --other-key-file home/key";
    sandbox
        .run_bare(line)
        .fails(13, "src/big.bin")
        .fails_with("1 snapshot not copied, because of damage in ")
        .fails_with("holdfast at repo check --read-data");
    let listed = sandbox.run_bare("at other --key-file home/other.key ls").ok();
    assert!(!listed.out.contains("src"), "{}", listed.out);
}
