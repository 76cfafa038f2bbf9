//! What a run may take of the machine: each limit is read, refused where it makes no sense, and does
//! what it says.

use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{Sandbox, files};

#[test]
fn little_memory_is_enough_for_every_verb_and_too_little_is_refused() {
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/big", &holdfast_testkit::clock::random_bytes(1, 12 << 20));
    sandbox
        .run("at repo --memory 8M backup src")
        .fails(2, "--memory 8M is too little")
        .fails_with("at least 32");
    sandbox.run("at repo --memory lots backup src").fails(2, "lots is no size");
    sandbox.run("at repo --memory 8M restore latest -to out").fails(2, "too little");
    for line in ["backup src", "check --read-data", "gc", "archive latest --to all.tar"] {
        sandbox.run(&format!("at repo --memory 32M {line}")).ok();
    }
    let place = format!("latest:{}", sandbox.text("src"));
    sandbox.run(&format!("at repo restore --memory 32M {place} -to out")).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("out")));
}

#[test]
fn numbers_that_cannot_be_are_refused() {
    let sandbox = Sandbox::with_repository();
    for line in ["--connections 0", "--connections 65", "--read-concurrency 0"] {
        sandbox.run(&format!("at repo backup {line} src")).fails(2, "is not in 1..=");
    }
    // A local place has no connections, and what is meant for servers does not trouble it.
    sandbox.run("at repo backup --connections 2 --read-concurrency 1 src").ok();
}

#[test]
fn in_the_background_all_else_goes_first() {
    let sandbox = Sandbox::with_repository();
    let priority = |background: &[&str]| {
        let mut command = sandbox.command_with_secret();
        command.env("PATH", "/usr/bin:/bin").args(["at", "repo", "backup", "-q"]).args(background);
        let mut child = command.arg("-").stdin(Stdio::piped()).spawn().unwrap();
        // It has begun to work when it takes what it is given.
        let mut input = child.stdin.take().unwrap();
        input.write_all(&vec![7; 4 << 20]).unwrap();
        let id = child.id();
        let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap();
        let nice = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap();
            let rest = stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap();
            rest.parse::<i32>().unwrap()
        };
        let nice: std::collections::BTreeSet<_> = threads.map(|t| nice(t.unwrap())).collect();
        let disk = std::process::Command::new("ionice").args(["-p", &id.to_string()]).output();
        drop(input);
        assert!(child.wait().unwrap().success());
        (nice.into_iter().collect::<Vec<_>>(), String::from_utf8(disk.unwrap().stdout).unwrap())
    };
    let (nice, disk) = priority(&["--background"]);
    assert_eq!((nice, disk.trim()), (vec![19], "idle"));
    let (nice, _) = priority(&[]);
    assert!(nice.iter().all(|nice| *nice < 19), "{nice:?}");
}

#[test]
fn manual_pages_are_made_of_every_verb() {
    let sandbox = Sandbox::new();
    sandbox.run("man --to pages").ok();
    let pages: Vec<String> =
        files(&sandbox.path("pages")).into_iter().map(|(name, _)| name).collect();
    for page in ["holdfast.1", "holdfast-backup.1", "holdfast-mount.1", "holdfast-key-add.1"] {
        assert!(pages.iter().any(|name| name == page), "{page} is not in {pages:?}");
    }
    let page = sandbox.run("man backup").ok().out;
    assert!(page.contains(".TH holdfast-backup 1") && page.contains("exclude"), "{page}");
    sandbox.run("man nonsense").fails(2, "there is no verb nonsense");
    let version = &sandbox.run("version --json").ok().events()[0];
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        version["commit"],
        option_env!("HOLDFAST_COMMIT").map_or(serde_json::Value::Null, Into::into)
    );
}
