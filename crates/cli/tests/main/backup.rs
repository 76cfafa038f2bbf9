//! `backup` and `forget`.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{PASSPHRASE, Sandbox};

#[test]
fn options_may_follow_arguments_and_tags_may_be_lists() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo backup src -tag b,a --tag=c -description text -host elsewhere").ok();
    let event = sandbox.run("at repo ls --json").events().remove(0);
    assert_eq!(event["tags"], serde_json::json!(["a", "b", "c"]));
    assert_eq!((&event["description"], &event["host"]), (&"text".into(), &"elsewhere".into()));
    assert_eq!(event["roots"][0]["path"], sandbox.text("src"));
}

#[test]
fn a_summary_says_what_was_done() {
    let sandbox = Sandbox::with_repository();
    let first = sandbox.run("at repo backup src").ok().out;
    assert!(first.starts_with("files   2 new, 0 changed, 0 unchanged"), "{first}");
    sandbox.write("src/a.txt", b"changed\n");
    let events = sandbox.run("at repo backup src --json").ok().events();
    let summary = events.last().unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!((&summary["files_changed"], &summary["files_unchanged"]), (&1.into(), &1.into()));
    let same = sandbox.run("at repo backup src --skip-if-unchanged").ok().out;
    assert!(same.contains("nothing has changed"), "{same}");
    let dry = sandbox.run("at repo backup src --dry-run --force").ok().out;
    assert!(dry.contains("dry run: nothing was stored"), "{dry}");
    assert_eq!(sandbox.run("at repo backup src --quiet").ok().out, "");
    assert_eq!(sandbox.run("at repo ls").ok().out.lines().count(), 4);
}

#[test]
fn rules_leave_things_out() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/x.o", b"");
    sandbox.write("src/big", &[1; 20_000]);
    sandbox.write("src/skip/inner", b"");
    sandbox.write("rules", b"# comment\n*.o\n");
    let skip = sandbox.text("src/skip");
    let line = format!(
        "at repo backup src --exclude-file rules --exclude {skip} --exclude-larger-than 10K"
    );
    sandbox.run(&line).ok();
    let listed = sandbox.run("at repo ls latest").ok().out;
    let names: Vec<_> = listed.lines().skip(1).collect();
    assert_eq!(names, ["a.txt", "link", "sub/"]);
    sandbox.run("at repo backup src --exclude a[b").fails(2, "exclude rule");
}

#[test]
fn standard_input_is_a_file() {
    let sandbox = Sandbox::with_repository();
    let line = "at repo backup - --stdin-name dump.sql";
    sandbox.run_with_input(line, b"select 1;\n").ok();
    assert_eq!(sandbox.run("at repo cat latest:/dump.sql").ok().out, "select 1;\n");
    let event = sandbox.run("at repo ls --json").events().remove(0);
    assert_eq!(event["kind"], "stdin");
}

#[test]
fn a_command_that_gives_the_passphrase_takes_nothing_of_standard_input() {
    let sandbox = Sandbox::with_passphrase();
    let mut command = sandbox.command();
    command.args(["at", "repo", "backup", "-"]);
    command.env("HOLDFAST_PASSPHRASE_COMMAND", format!("cat > /dev/null; echo {PASSPHRASE}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"select 1;\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(sandbox.run("at repo cat latest:/stdin").ok().out, "select 1;\n");
}

#[test]
fn overlapping_places_are_taken_once_and_the_repository_never() {
    let sandbox = Sandbox::with_repository();
    let answer = sandbox.run("at repo backup src/sub src . --exclude home").ok();
    assert!(answer.err.contains("which is backed up anyway"), "{}", answer.err);
    let listed = sandbox.run("at repo ls -r latest").ok().out;
    assert!(listed.contains("/src/sub/b.bin"), "{listed}");
    assert!(!listed.contains("/repo/config") && !listed.contains("/cache/"), "{listed}");
}

#[test]
fn unreadable_files_exit_with_3() {
    // Root reads everything.
    if is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_repository();
    let path = sandbox.path("src/a.txt");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    sandbox.run("at repo backup src").fails(3, "could not be read");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[test]
fn forget_takes_ids_and_acts_at_once() {
    let sandbox = Sandbox::with_repository();
    let (first, second) = (sandbox.backup(), sandbox.backup());
    sandbox.run("at repo forget tag:x").fails(2, "forget takes ids");
    sandbox
        .run(&format!("at repo forget {first} feedfeed"))
        .fails(1, "no snapshot matches feedfeed");
    let answer = sandbox.run(&format!("at repo forget {first}")).ok();
    assert!(answer.out.contains("1 snapshot left"), "{}", answer.out);
    let left = sandbox.run("at repo ls").ok().out;
    assert!(left.contains(&second) && !left.contains(&first), "{left}");
}

#[test]
fn a_place_that_fails_keeps_no_other_from_being_backed_up() {
    let sandbox = Sandbox::with_repository();
    // Nobody listens at this port.
    for (name, port) in [("dead", 9), ("gone", 7)] {
        let location = format!("s3://127.0.0.1:{port}/none");
        let options = [("location", location.as_str()), ("use_tls", "false")];
        for (key, value) in
            options.into_iter().chain([("access_key", "a"), ("secret_access_key", "b")])
        {
            sandbox.run_words(["config", "repository", "set", name, key, value]).ok();
        }
    }
    let answer = sandbox.run("at repo backup @dead src @gone");
    let answer = answer.fails(1, "the connection was refused").fails_with("127.0.0.1:7");
    assert!(answer.out.contains("snapshot "), "{answer:?}");
    assert_eq!(sandbox.run("at repo ls --json").ok().events().len(), 1);
    // One alone is told of once.
    let alone = sandbox.run("at repo backup @dead").fails(1, "the connection was refused");
    assert_eq!(alone.err.matches("list objects").count(), 1, "{}", alone.err);
}
