//! `keep`, `tag`, `forget` and `prune`.

use crate::sandbox::{Answer, Sandbox};

/// Backs up `src` as if on the evening of some days, the oldest first; the short ids.
fn history(sandbox: &Sandbox, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| {
            sandbox.write("src/a.txt", format!("version {number}\n").as_bytes());
            sandbox.backup()
        })
        .collect()
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.out.lines().skip(1).filter_map(|l| l.split(' ').next()).map(String::from).collect()
}

#[test]
fn tags_change_what_is_listed_and_found() {
    let sandbox = Sandbox::with_repository();
    let all = history(&sandbox, 2);
    let first = &all[0];
    sandbox.run("at repo tag latest~1 --add one,two").ok();
    let answer = sandbox.run(&format!("at repo tag {first} --remove two --add three")).ok();
    assert!(answer.out.starts_with(first), "{}", answer.out);
    assert!(answer.out.ends_with(": tags one,three\n"), "{}", answer.out);
    assert_eq!(ids(&sandbox.run("at repo ls -tag three").ok()), [first.as_str()]);
    assert_eq!(ids(&sandbox.run("at repo ls -tag two").ok()), [""; 0]);
    let info = sandbox.run("at repo info tag:one").ok().out;
    assert!(info.contains(first) && info.contains("tags            one,three\n"), "{info}");
    sandbox.run("at repo tag tag:three --set=").ok();
    let words = ["at", "repo", "tag", first, "--description", "the good one"];
    let answer = sandbox.run_words(words).ok();
    assert!(answer.out.ends_with(": no tags; the good one\n"), "{}", answer.out);
    assert!(sandbox.run("at repo ls --long").ok().out.contains("the good one"));
    let again =
        sandbox.run_words(["at", "repo", "tag", first, "--description", "the good one", "--json"]);
    let events = again.ok().events();
    assert_eq!(events[0]["changed"], serde_json::json!([]));
    assert!(events[0]["unchanged"][0].as_str().unwrap().starts_with(first.as_str()));
    for (line, text) in [
        ("at repo tag latest", "nothing was said that should change"),
        ("at repo tag latest --add a --remove a", "a is to be added and removed at once"),
        ("at repo tag latest:/x --add a", "latest is wanted as a whole"),
        ("at repo tag --add a", "SNAPSHOT"),
    ] {
        sandbox.run(line).fails(2, text);
    }
    sandbox.run("at repo tag latest abcdef12 --add z").fails(1, "no snapshot matches abcdef12");
    assert_eq!(ids(&sandbox.run("at repo ls -tag z").ok()), [""; 0]);
    sandbox.run("at repo check").ok();
}

#[test]
fn what_is_pinned_stays() {
    let sandbox = Sandbox::with_repository();
    let all = history(&sandbox, 3);
    let (first, second) = (&all[0], &all[1]);
    let answer = sandbox.run(&format!("at repo keep {first}")).ok();
    assert!(answer.out.ends_with(": pinned\n"), "{}", answer.out);
    assert!(
        sandbox.run(&format!("at repo keep {first}")).ok().out.ends_with(": was pinned already\n")
    );
    let listed = sandbox.run("at repo ls").ok().out;
    assert!(listed.lines().nth(1).unwrap().ends_with("  pinned"), "{listed}");
    assert_eq!(sandbox.run("at repo ls --json").ok().events()[0]["pinned"], true);
    assert!(sandbox.run("at repo info latest~2").ok().out.contains("pinned          yes"));
    sandbox
        .run(&format!("at repo forget {second} {first}"))
        .fails(1, &format!("snapshot {first} is pinned"))
        .fails_with("keep --remove")
        .fails_with("--force");
    let answer = sandbox.run("at repo forget --keep-last 1 --apply").ok();
    assert!(answer.out.contains("2 snapshots stay, 1 to remove"), "{}", answer.out);
    assert_eq!(ids(&sandbox.run("at repo ls").ok()), [first.clone(), all[2].clone()]);
    assert!(
        sandbox.run(&format!("at repo keep --remove {first}")).ok().out.ends_with(": unpinned\n")
    );
    sandbox.run(&format!("at repo keep {}", all[2])).ok();
    sandbox.run(&format!("at repo forget {} --force", all[2])).ok();
    sandbox.run("at repo backup src --pin").ok();
    sandbox.run(&format!("at repo forget {first}")).ok();
    assert!(sandbox.run("at repo ls").ok().out.contains("  pinned\n"));
    let check = sandbox.run("at repo check").ok();
    assert!(!check.out.contains("note") && !check.err.contains("forgot"), "{check:?}");
}

#[test]
fn rules_show_first_and_act_when_told() {
    let sandbox = Sandbox::with_repository();
    let all = history(&sandbox, 4);
    sandbox.run(&format!("at repo tag {} --add gold", all[0])).ok();
    let line = "at repo forget --keep-last 2 --keep-tag gold --keep-yearly all";
    let shown = sandbox.run(line).ok().out;
    let lines: Vec<_> = shown.lines().collect();
    let host =
        sandbox.run("at repo ls --json").ok().events()[0]["host"].as_str().unwrap().to_owned();
    assert_eq!(lines[0], format!("{host}, {}:", sandbox.text("src")));
    assert_eq!(lines[1], "        ID        DATE                     SIZE  TAGS  WHY");
    let starts = |number: usize, what: &str, id: &str, why: &str| {
        let line = lines[number];
        assert!(line.starts_with(&format!("{what:<6}  {id}  20")) && line.ends_with(why), "{line}");
    };
    starts(2, "keep", &all[3], "  last 1/2; yearly 1");
    starts(3, "keep", &all[2], "  last 2/2");
    starts(4, "remove", &all[1], " KiB");
    starts(5, "keep", &all[0], "  gold  tag gold");
    let told = "3 snapshots stay, 1 to remove; about ";
    assert!(lines[7].starts_with(told) && lines[7].ends_with(" only they hold"), "{}", lines[7]);
    let dry = "dry run, nothing was removed; to do it: holdfast at repo forget --keep-last 2 \
               --keep-yearly all --keep-tag gold --apply";
    assert_eq!(lines[8], dry);
    assert_eq!(ids(&sandbox.run("at repo ls").ok()), all);
    let events = sandbox.run(&format!("{line} --json --no-progress")).ok().events();
    let keeps: Vec<_> = events.iter().filter_map(|e| e["keep"].as_bool()).collect();
    assert_eq!(keeps, [true, true, false, true]);
    assert_eq!(events[0]["reasons"], serde_json::json!(["last 1/2", "yearly 1"]));
    assert_eq!(events[3]["tags"], serde_json::json!(["gold"]));
    let summary = &events[4];
    assert_eq!((&summary["kept"], &summary["removed"]), (&3.into(), &1.into()));
    assert_eq!(summary["forgotten"], serde_json::json!([]));
    assert!(summary["bytes_freed"].as_u64().unwrap() > 0, "{summary}");
    let applied = dry.split("holdfast ").nth(1).unwrap();
    let answer = sandbox.run(applied).ok().out;
    assert!(answer.contains(&format!("forgot {} of ", all[1])), "{answer}");
    assert_eq!(ids(&sandbox.run("at repo ls").ok()), [&*all[0], &*all[2], &*all[3]]);
    assert!(sandbox.run(applied).ok().out.contains("3 snapshots stay, 0 to remove\n"));
    let check = sandbox.run("at repo check --read-data").ok();
    assert!(!check.out.contains("gone"), "{}", check.out);
}

#[test]
fn groups_and_filters_bound_what_rules_do() {
    let sandbox = Sandbox::with_repository();
    for host in ["alpha", "beta"] {
        for _ in 0..3 {
            sandbox.run(&format!("at repo backup -q src --host {host}")).ok();
        }
    }
    sandbox.run("at repo forget --keep-last 1 --host alpha --apply --no-size").ok();
    assert_eq!(ids(&sandbox.run("at repo ls --host alpha").ok()).len(), 1);
    assert_eq!(ids(&sandbox.run("at repo ls --host beta").ok()).len(), 3);
    // Nothing of beta has the tag: it is left as it is, and said so.
    sandbox.run("at repo tag host:alpha --add gold").ok();
    sandbox.run("at repo forget --keep-tag gold").ok();
    sandbox
        .run("at repo forget --keep-tag gold --apply")
        .fails(3, "the rules keep nothing of 1 group")
        .fails_with("--allow-empty");
    assert_eq!(ids(&sandbox.run("at repo ls").ok()).len(), 4);
    sandbox.run("at repo forget --keep-last 1 --group-by none --host beta --apply").ok();
    assert_eq!(ids(&sandbox.run("at repo ls").ok()).len(), 2);
    sandbox.run("at repo forget --keep-tag gold --allow-empty --apply").ok();
    assert_eq!(ids(&sandbox.run("at repo ls").ok()).len(), 1);
    let none = sandbox.run("at repo forget --keep-last 1 --before 2001-01-01").ok();
    assert_eq!(none.err, "no snapshot fits\n");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    for (line, text) in [
        ("at repo forget", "nothing says which snapshots stay"),
        ("at repo forget --apply", "nothing says which snapshots stay"),
        ("at repo forget latest --keep-last 1", "not both at once"),
        ("at repo forget latest --apply", "not both at once"),
        ("at repo forget tag:x", "forget takes ids, not tag:x"),
        ("at repo forget --keep-daily 0", "the rule daily cannot be \"0\""),
        ("at repo forget --keep-within 30", "the rule within cannot be \"30\""),
        ("at repo forget --keep-last 1 --group-by moon", "cannot be grouped by \"moon\""),
        ("at repo forget --keep-last 1 --before then", "then is no time"),
        ("at repo forget --keep-last 1 --force", "--force"),
        ("at repo prune", "prune means two things"),
        ("at repo keep", "SNAPSHOT"),
    ] {
        sandbox.run(line).fails(2, text);
    }
    assert_eq!(ids(&sandbox.run("at repo ls").ok()).len(), 1);
    let answer = sandbox.run("at repo prune --keep-last 1").ok();
    assert!(answer.err.starts_with("prune forgets snapshots by rules"), "{}", answer.err);
    assert!(answer.out.contains("1 snapshot stays, 0 to remove\n"), "{}", answer.out);
}

#[test]
fn days_are_those_of_the_local_clock() {
    let sandbox = Sandbox::with_repository();
    history(&sandbox, 2);
    // However far from UTC, both are of one day, or of two if midnight has come between.
    for zone in ["UTC", "XXX-14", "XXX+12"] {
        let mut command = sandbox.command_with_secret();
        command.args(["at", "repo", "forget", "--keep-daily", "2"]).env("TZ", zone);
        let out = crate::sandbox::answer(&mut command).ok().out;
        assert!(out.contains("  daily 1/2"), "{zone}: {out}");
    }
}
