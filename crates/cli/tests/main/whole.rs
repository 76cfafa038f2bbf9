//! The whole program on whole trees: full metadata there and back by an independent comparison,
//! the process killed at random moments, and repositories kept from earlier versions.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast_testkit::clock::rng;
use holdfast_testkit::{CompareOptions, TreeFixture, TreeOptions, assert_same_tree};
use rand::Rng;

use crate::sandbox::Sandbox;

/// What can be compared: all of it if we are root.
pub(crate) fn options() -> CompareOptions {
    if rustix::process::geteuid().is_root() {
        CompareOptions::default()
    } else {
        CompareOptions::unprivileged()
    }
}

#[test]
fn trees_of_everything_come_back_with_all_metadata() {
    for seed in 0..2 {
        let sandbox = Sandbox::with_repository();
        let tree = TreeFixture::new(seed, &TreeOptions { entries: 150, ..TreeOptions::default() });
        let root = tree.root().canonicalize().unwrap();
        for day in 0..3 {
            sandbox
                .run_words([
                    "at".as_ref(),
                    "repo".as_ref(),
                    "backup".as_ref(),
                    "-q".as_ref(),
                    root.as_os_str(),
                ])
                .ok();
            let out = format!("out{day}");
            let place = format!("latest:{}", root.to_str().unwrap());
            sandbox.run(&format!("at repo restore {place} -to {out}")).ok();
            assert_same_tree(&root, &sandbox.path(&out), &options());
            tree.mutate(seed * 10 + day, 20).unwrap();
        }
        sandbox.run("at repo check --read-data").ok();
    }
}

/// A tree that takes a backup some tenths of a second.
fn busy_tree(root: &Path) {
    for d in 0..20_u64 {
        let directory = root.join(format!("d{d}"));
        std::fs::create_dir_all(&directory).unwrap();
        for f in 0..60_u64 {
            let bytes = holdfast_testkit::clock::text_bytes(d * 100 + f, 9_000);
            std::fs::write(directory.join(f.to_string()), bytes).unwrap();
        }
        let big = holdfast_testkit::clock::random_bytes(d, 2 << 20);
        std::fs::write(directory.join("big"), big).unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_repository_works_on() {
    let sandbox = Sandbox::with_repository();
    let tree = sandbox.path("tree");
    busy_tree(&tree);
    let mut random = rng(7);
    let started = Instant::now();
    let mut run = sandbox.command_with_secret();
    run.args(["at", "probe", "create"]);
    assert!(run.output().unwrap().status.success());
    sandbox.run("at probe backup -q tree").ok();
    let whole = started.elapsed().as_millis() as u64;
    for round in 0..12_u64 {
        let mut child = sandbox
            .command_with_secret()
            .args(["at", "repo", "backup", "-q", "tree"])
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(0..whole)));
        // SIGKILL: nothing is flushed, nothing is said.
        child.kill().unwrap();
        child.wait().unwrap();
        sandbox.run("at repo check").ok();
        std::fs::write(tree.join("d3/7"), format!("round {round}")).unwrap();
    }
    sandbox.run("at repo backup -q tree").ok();
    sandbox.run("at repo check --read-data").ok();
    let place = format!("latest:{}", sandbox.text("tree"));
    sandbox.run(&format!("at repo restore {place} -to out")).ok();
    assert_same_tree(&tree, &sandbox.path("out"), &options());
}

/// `testdata/repo/v1/<name>/repo` is a repository as an earlier version wrote it, opened by the
/// passphrase "kept"; `digests` is what `digest` said of it then. Never edited.
#[test]
fn kept_repositories_are_read() {
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/repo/v1");
    let mut count = 0;
    for entry in std::fs::read_dir(&kept).unwrap() {
        let dir = entry.unwrap().path();
        let repository = dir.join("repo");
        let sandbox = Sandbox::new();
        let run = |words: &[&str]| {
            let output = sandbox
                .command()
                .env("HOLDFAST_PASSPHRASE", "kept")
                .args(["at", repository.to_str().unwrap()])
                .args(words)
                .output()
                .unwrap();
            assert!(output.status.success(), "{words:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["check", "--read-data"]);
        let digests = std::fs::read_to_string(dir.join("digests")).unwrap();
        assert_eq!(run(&["digest", "latest:/"]), digests, "{}", dir.display());
        assert_eq!(run(&["ls"]).lines().count(), 3, "two snapshots");
        count += 1;
    }
    assert!(count > 0, "no kept repository");
}
