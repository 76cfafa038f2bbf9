//! `ls`, `cat`, `diff`, `info`, `digest`, `completions`, `version`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::sandbox::Sandbox;

#[test]
fn a_directory_of_a_snapshot() {
    let sandbox = Sandbox::with_repository();
    let (id, src) = (sandbox.backup(), sandbox.text("src"));
    let listed = sandbox.run(&format!("at repo ls {id}")).ok().out;
    assert_eq!(listed, format!("{src}:\na.txt\nlink\nsub/\n"));
    let listed = sandbox.run(&format!("at repo ls latest:{src}/sub")).ok().out;
    assert_eq!(listed, "b.bin\n");
    let listed = sandbox.run(&format!("at repo ls latest:{src} -r")).ok().out;
    assert_eq!(listed, format!("{src}/a.txt\n{src}/link\n{src}/sub/\n{src}/sub/b.bin\n"));
    let above = sandbox.run("at repo ls latest:/").ok().out;
    assert_eq!(above.lines().count(), 1, "{above}");
    let long = sandbox.run(&format!("at repo ls --long latest:{src}")).ok().out;
    assert!(long.contains("link -> a.txt"), "{long}");
    assert!(long.lines().next().unwrap().starts_with("-rw"), "{long}");
    // A directory's size is that of all below it.
    assert!(long.lines().last().unwrap().contains(" 5000 "), "{long}");
    let human = sandbox.run(&format!("at repo ls --long --human latest:{src}")).ok().out;
    assert!(human.contains("4.88 KiB"), "{human}");
}

#[test]
fn names_of_any_bytes() {
    let sandbox = Sandbox::with_repository();
    let name = OsString::from_vec(b"bad\xff\n".to_vec());
    std::fs::write(sandbox.path("src").join(name), "x").unwrap();
    sandbox.backup();
    let listed = sandbox.run("at repo ls latest").ok().out;
    assert!(listed.contains("bad\\xff\\n\n"), "{listed}");
    let events = sandbox.run("at repo ls latest --json").ok().events();
    let bytes = events.iter().find_map(|event| event["path_bytes"].as_str()).unwrap();
    assert!(bytes.ends_with("626164ff0a"), "{bytes}");
}

#[test]
fn snapshots_may_be_named_in_many_ways() {
    let sandbox = Sandbox::with_repository();
    sandbox.run("at repo backup src --tag one --host alpha").ok();
    sandbox.run("at repo backup src/sub --tag two").ok();
    let src = sandbox.text("src");
    let shows = |line: &[&str]| {
        let words = ["at", "repo", "ls"].iter().chain(line);
        let out = sandbox.run_words(words).ok().out;
        out.lines().next().unwrap().to_owned()
    };
    let (one, two) = (format!("{src}:"), format!("{src}/sub:"));
    assert_eq!(shows(&["latest"]), two);
    assert_eq!(shows(&["latest~1"]), one);
    assert_eq!(shows(&["tag:one"]), one);
    assert_eq!(shows(&["host:alpha"]), one);
    assert_eq!(shows(&[&format!("path:{src}/a.txt")]), one);
    assert_eq!(shows(&["latest", "--tag", "one"]), one);
    assert_eq!(shows(&["latest", "--host", "alpha"]), one);
    assert_eq!(shows(&["2099-01-01"]), two);
    assert_eq!(shows(&["now"]), two);
    sandbox.run("at repo ls 2001-01-01").fails(1, "no snapshot matches 2001-01-01");
    sandbox.run_words(["at", "repo", "ls", "2 days ago"]).fails(1, "no snapshot");
    let before = sandbox.run("at repo ls --before 2001-01-01").ok();
    assert_eq!(before.out, "");
}

#[test]
fn differences_between_snapshots_and_to_what_is_there() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    sandbox.write("src/a.txt", b"changed\n");
    sandbox.write("src/new", b"");
    sandbox.backup();
    let src = sandbox.text("src");
    let expected = [format!("M {src}/a.txt"), format!("+ {src}/new")];
    let lines = |out: &str| {
        let fits = |l: &&str| l.starts_with("M ") || l.starts_with("+ ") || l.starts_with("- ");
        out.lines().filter(fits).map(String::from).collect::<Vec<_>>()
    };
    let between = sandbox.run("at repo diff latest~1 latest").ok();
    assert_eq!(lines(&between.out), expected);
    assert!(between.out.contains("1 added, 0 removed, 1 changed"), "{}", between.out);
    let live = sandbox.run("at repo diff latest~1 --live").ok();
    assert_eq!(lines(&live.out), expected);
    let place = sandbox.run(&format!("at repo diff latest~1 {src}")).ok();
    assert_eq!(lines(&place.out), expected);
    assert_eq!(lines(&sandbox.run("at repo diff latest --live").ok().out), [""; 0]);
    assert_eq!(sandbox.run("at repo diff latest~1 latest --exit-code").code, 1);
    let events = sandbox.run("at repo diff latest~1 latest --json").ok().events();
    assert_eq!(events[events.len() - 1]["type"], "summary");
}

#[test]
fn digests_are_those_of_sha256sum() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let src = sandbox.text("src");
    let line = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    let out = sandbox.run(&format!("at repo digest latest:{src}/a.txt")).ok().out;
    assert_eq!(out, format!("{line}  {src}/a.txt\n"));
    let out = sandbox.run(&format!("at repo digest latest:{src} --relative")).ok().out;
    assert!(
        out.starts_with(&format!("{line}  a.txt\n")) && out.ends_with("  sub/b.bin\n"),
        "{out}"
    );
}

#[test]
fn info_of_a_repository_and_of_a_snapshot() {
    let sandbox = Sandbox::with_repository();
    let id = sandbox.backup();
    let out = sandbox.run("at repo info").ok().out;
    assert!(out.contains("snapshots       1\n") && out.contains("encrypted       yes\n"), "{out}");
    let out = sandbox.run(&format!("at repo info {id}")).ok().out;
    assert!(out.contains(&format!("snapshot        {id}")), "{out}");
    let events = sandbox.run("at repo info --json").ok().events();
    assert_eq!((&events[0]["type"], &events[0]["snapshots"]), (&"info".into(), &1.into()));
}

#[test]
fn completions_and_version() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        let out = sandbox.run(&format!("completions {shell}")).ok().out;
        assert!(out.contains("holdfast") && out.contains("exclude-larger-than"), "{shell}");
    }
    let version = sandbox.run("version").ok().out;
    assert!(version.starts_with(concat!("holdfast ", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(sandbox.run("version --json").ok().events()[0]["type"], "version");
}
