//! `gc` as it is typed: the plan, what was done, whom it waits for, and JSON.

use holdfast_testkit::clock::random_bytes;

use crate::sandbox::Sandbox;

/// A repository of two snapshots that have nothing in common; the first one's id.
fn two_backups() -> (Sandbox, String) {
    let sandbox = Sandbox::with_repository();
    for day in 0..2_u64 {
        sandbox.write("tree/a", &random_bytes(day, 600_000));
        sandbox.write("tree/b", &random_bytes(day + 10, 20_000));
        sandbox.run("at repo backup -q tree").ok();
    }
    let listed = sandbox.run("at repo ls --json").ok();
    let first = listed.events().first().and_then(|e| e["id"].as_str().map(String::from));
    (sandbox, first.expect("a snapshot"))
}

#[test]
fn space_comes_back_and_the_rest_stays() {
    let (sandbox, first) = two_backups();
    sandbox.run(&format!("at repo forget {first}")).ok();
    let dry = sandbox.run("at repo gc --dry-run").ok();
    assert!(dry.out.contains("not needed at all") && dry.out.contains("nothing was changed"));
    let done = sandbox.run("at repo gc").ok();
    assert!(done.out.contains("not needed at all") && done.out.contains("deleted"), "{}", done.out);
    sandbox.run("at repo check --read-data").ok();
    let again = sandbox.run("at repo gc --json").ok();
    let events = again.events();
    let plan = events.iter().find(|e| e["type"] == "plan").expect("a plan");
    assert_eq!(plan["dead"]["count"], 0);
    assert_eq!(plan["frees"], 0);
    let summary = events.iter().find(|e| e["type"] == "summary").expect("a summary");
    assert_eq!(summary["deleted"]["count"], 0);
    assert_eq!(summary["waiting"].as_array().map(Vec::len), Some(0));
    sandbox.run("at repo restore latest -to out").ok();
}

#[test]
fn forget_by_rules_gives_the_space_back_if_told_to() {
    let (sandbox, _) = two_backups();
    sandbox.run("at repo forget --keep-last 1 --gc").fails(2, "--apply");
    let done = sandbox.run("at repo forget --keep-last 1 --apply --gc").ok();
    assert!(done.out.contains("not needed at all") && done.out.contains("deleted"), "{}", done.out);
    let again = sandbox.run("at repo gc --json").ok();
    let plan = again.events().into_iter().find(|e| e["type"] == "plan").expect("a plan");
    assert_eq!((&plan["frees"], &plan["dead"]["count"]), (&0.into(), &0.into()));
    sandbox.run("at repo restore latest -to out").ok();
}

#[test]
fn options_that_make_no_sense_are_explained() {
    let (sandbox, _) = two_backups();
    for (line, text) in [
        ("at repo gc --max-unused 120%", "10%"),
        ("at repo gc --max-repack lots", "20G"),
        ("at repo gc --max-time soon", "30m"),
    ] {
        sandbox.run(line).fails(2, text);
    }
}
