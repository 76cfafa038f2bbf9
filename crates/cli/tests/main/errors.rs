//! What is said and returned when something is wrong.

use crate::sandbox::Sandbox;

#[test]
fn no_repository_exits_with_10_and_the_line_to_type() {
    let sandbox = Sandbox::new();
    let answer = sandbox.run("at nowhere ls").fails(10, "no repository at");
    assert!(answer.err.contains("hint: to make one there: holdfast at nowhere create\n"));
    let answer = sandbox.run("ls").fails(10, "/home/.holdfast");
    assert!(answer.err.contains("hint: to make one there: holdfast create\n"));
    // Off a terminal nothing is made on its own.
    let answer = sandbox.run("backup .").fails(10, "no repository at");
    assert!(answer.err.contains("hint: to make one there: holdfast create\n"));
    assert!(!sandbox.path("home/.holdfast").exists());
}

#[test]
fn usage_exits_with_2_and_a_suggestion() {
    let sandbox = Sandbox::new();
    for line in ["ls --tagg x", "ls -tagg x"] {
        let answer = sandbox.run(line).fails(2, "holdfast: unexpected argument '--tagg'");
        assert!(answer.err.contains("hint: a similar argument exists: '--tag'"), "{}", answer.err);
    }
    sandbox.run("bakup /etc").fails(2, "hint: a similar subcommand exists: 'backup'");
    sandbox.run("backup").fails(2, "<PLACE>");
    sandbox.run("backup . --exclude-larger-than x").fails(2, "x is no size");
    sandbox.run("at repo ls --before x").fails(2, "x is no time");
    sandbox.run("restore /etc").fails(2, "/etc is a path, not a snapshot");
    sandbox.run("at ftp://h/x ls").fails(2, "ftp:// is no known kind");
    sandbox.run("at nas:backups create").fails(2, "another machine");
    sandbox.run_words([""; 0]).fails(2, "Usage: holdfast");
    sandbox.run("key").fails(2, "Usage: holdfast key");
    assert_eq!(sandbox.run("--help").ok().err, "");
    assert_eq!(sandbox.run("backup -help").ok().err, "");
}

#[test]
fn errors_are_events_with_json() {
    let sandbox = Sandbox::new();
    let answer = sandbox.run("at nowhere ls --json");
    let events = answer.events();
    let [error] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error["v"], 1);
    assert_eq!(error["type"], "error");
    assert_eq!(error["class"], "no repository");
    assert_eq!(error["exit_code"], 10);
    assert_eq!(answer.code, 10);
    let usage = sandbox.run("ls --json --nonsense");
    assert_eq!((usage.code, usage.events()[0]["class"].as_str()), (2, Some("usage")));
}

#[test]
fn create_refuses_what_is_there() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo create").fails(1, "already a repository at");
    sandbox.write("other/packs/ab/x", b"");
    sandbox.write("other/snapshots/0123", b"");
    sandbox.run("at other create").fails(1, "holds no repository");
}

#[test]
fn a_missing_place_or_path_or_snapshot() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo backup src/nothing").fails(1, "cannot back up");
    sandbox.run("at repo cat latest:/x").fails(1, "no snapshot matches latest");
    sandbox.backup();
    sandbox.run("at repo ls latest:/x").fails(1, "holds no /x");
    sandbox.run("at repo ls feed").fails(1, "no snapshot matches feed");
    sandbox.run(&format!("at repo cat latest:{}", sandbox.text("src"))).fails(1, "no regular file");
    sandbox.run("at repo cat latest").fails(2, "names no file");
}

#[test]
fn a_reader_that_had_enough_is_no_error_and_no_success() {
    let sandbox = Sandbox::with_repository();
    for i in 0..3000 {
        sandbox.write(&format!("src/many/a file with quite a long name, number {i}"), b"");
    }
    sandbox.backup();
    let mut command = sandbox.command_with_secret();
    command.args(["at", "repo", "ls", "-r", "latest"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn damage_exits_with_13() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    assert!(sandbox.run("at repo check --read-data").ok().out.contains("no damage found"));
    let packs = crate::sandbox::files(&sandbox.path("repo/packs"));
    let (name, mut bytes) = packs.into_iter().next().unwrap();
    bytes[100] ^= 1;
    sandbox.write(&format!("repo/packs/{name}"), &bytes);
    let answer = sandbox.run("at repo check --read-data");
    assert_eq!(answer.code, 13, "{}\n{}", answer.out, answer.err);
    assert!(answer.out.contains("DAMAGE"), "{}", answer.out);
    assert!(answer.out.contains(name.rsplit('/').next().unwrap()), "{}", answer.out);
    let events = sandbox.run("at repo check --read-data --json").events();
    assert_eq!(events.last().unwrap()["damaged"], true);
    assert!(events.iter().any(|event| event["type"] == "finding"));
}

#[test]
fn names_and_words_of_servers_send_no_escapes_to_a_terminal() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let words = ["at", "repo", "restore", "-to", "out", "latest:/a\u{1b}[2Jb"];
    let answer = sandbox.run_words(words).fails(1, "/a\\x1b[2Jb");
    assert!(!answer.err.contains('\u{1b}'), "{:?}", answer.err);
}
