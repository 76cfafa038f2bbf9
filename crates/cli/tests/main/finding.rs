//! `find`, `history`, `dup`.

use crate::sandbox::Sandbox;

/// Three snapshots: `a.txt` changes after the first, `sub/b.bin` goes after the second.
fn world() -> (Sandbox, String) {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/copy.txt", b"hello\n");
    sandbox.backup();
    sandbox.write("src/a.txt", b"changed\n");
    sandbox.backup();
    std::fs::remove_file(sandbox.path("src/sub/b.bin")).unwrap();
    sandbox.backup();
    let src = sandbox.text("src");
    (sandbox, src)
}

#[test]
fn versions_of_files_over_all_snapshots() {
    let (sandbox, src) = world();
    let lines = |line: &str| {
        let out = sandbox.run(line).ok().out;
        out.lines().map(String::from).collect::<Vec<_>>()
    };
    let found = lines("at repo find a.txt");
    assert_eq!((found.len(), &found[0]), (3, &format!("{src}/a.txt")), "{found:?}");
    assert!(found[1].contains("6 B") && found[1].contains("in 1 snapshot: "), "{found:?}");
    assert!(found[2].contains("8 B") && found[2].contains("in 2 snapshots: "), "{found:?}");
    let paths = |line: &str| {
        let found = lines(line);
        found.into_iter().filter(|line| line.starts_with('/')).collect::<Vec<_>>()
    };
    let at = |names: &[&str]| names.iter().map(|n| format!("{src}/{n}")).collect::<Vec<_>>();
    assert_eq!(paths("at repo find *.txt"), at(&["a.txt", "copy.txt"]));
    assert_eq!(paths("at repo find -i A.TXT"), at(&["a.txt"]));
    assert_eq!(paths("at repo find sub/*"), at(&["sub/b.bin"]));
    assert_eq!(paths("at repo find sub/* --snapshot latest"), [""; 0]);
    assert_eq!(paths("at repo find --larger 1K"), at(&["sub/b.bin"]));
    assert_eq!(paths("at repo find --type l"), at(&["link"]));
    assert_eq!(paths("at repo find --newer 2099-01-01"), [""; 0]);
    assert_eq!(paths(&format!("at repo find --below {src}/sub")), at(&["sub", "sub/b.bin"]));
    sandbox.write("stick", b"hello\n");
    assert_eq!(paths("at repo find --like stick"), at(&["a.txt", "copy.txt"]));
    let events = sandbox.run("at repo find a.txt --json").ok().events();
    let told: Vec<_> =
        events.iter().map(|e| (e["type"].as_str(), e["snapshots"].as_u64())).collect();
    let version = Some("version");
    assert_eq!(told, [(version, Some(1)), (version, Some(2)), (Some("summary"), Some(3))]);
    assert_eq!(events[1]["runs"][0]["count"], 2);
    sandbox.run("at repo find a[").fails(2, "is no pattern");
    sandbox.run("at repo find --larger big").fails(2, "is no size");
    sandbox.run("at repo find --like nowhere").fails(1, "nowhere");
}

#[test]
fn the_history_of_a_path() {
    let (sandbox, src) = world();
    let out = sandbox.run(&format!("at repo history {src}/a.txt")).ok().out;
    let changes: Vec<_> = out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(changes, ["CHANGE", "appeared", "content"], "{out}");
    let events = sandbox.run(&format!("at repo history {src}/sub/b.bin --json")).ok().events();
    let told: Vec<_> =
        events.iter().map(|e| (e["event"].as_str(), e["snapshots"].as_u64())).collect();
    let expected = [(Some("appeared"), Some(2)), (Some("vanished"), Some(1)), (None, Some(3))];
    assert_eq!(told, expected);
    assert_eq!((&events[0]["entry"]["size"], &events[1]["entry"]), (&5000.into(), &().into()));
    sandbox.run("at repo history /no/such").fails(1, "no snapshot holds /no/such");
    sandbox.run("at repo history a.txt").fails(2, "absolute");
}

#[test]
fn files_with_the_same_content() {
    let (sandbox, src) = world();
    let out = sandbox.run("at repo dup latest~2").ok().out;
    let expected =
        format!("2 files of 6 B, 6 B more than one takes\n  {src}/a.txt\n  {src}/copy.txt\n");
    assert_eq!(out, expected);
    assert_eq!(sandbox.run("at repo dup").ok().out, "");
    assert_eq!(sandbox.run("at repo dup --all").ok().out, expected);
    assert_eq!(sandbox.run("at repo dup --all --larger 6").ok().out, "");
    let events = sandbox.run("at repo dup --all --json").ok().events();
    assert_eq!((&events[0]["wasted"], &events[1]["copies"]), (&6.into(), &1.into()));
}
