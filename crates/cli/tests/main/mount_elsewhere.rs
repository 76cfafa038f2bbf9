//! Mounts of repositories on a real SFTP and a real S3 server, and a gc that moves what they show.

use std::path::PathBuf;
use std::process::Command;

use holdfast_testkit::clock::random_bytes;
use holdfast_testkit::{TreeFixture, TreeOptions, assert_same_tree};

use crate::mount::Mount;
use crate::s3::Cloud;
use crate::sandbox::Sandbox;
use crate::sftp::Remote;
use crate::whole::options;

/// `cp -a` of a mount is what was backed up, though a gc takes packs away that the mount knew.
fn is_shown_whole(sandbox: &Sandbox, repository: &str) {
    let tree = TreeFixture::new(5, &TreeOptions { entries: 60, ..TreeOptions::default() });
    let root = tree.root().canonicalize().unwrap();
    let place = root.to_str().unwrap();
    // Side by side in packs, so that those packs are made anew when the most of them is gone.
    for number in 0..8 {
        std::fs::write(root.join(format!("goes{number}")), random_bytes(number, 1 << 20)).unwrap();
    }
    std::fs::write(root.join("late"), random_bytes(20, 700_000)).unwrap();
    let run = |line: &str| sandbox.run(&format!("at {repository} {line}"));
    run(&format!("backup {place}")).ok();
    for number in 0..8 {
        std::fs::remove_file(root.join(format!("goes{number}"))).unwrap();
    }
    run(&format!("backup {place}")).ok();

    let mut mount = Mount::of(sandbox, repository, &[&format!("latest:{place}")]);
    assert_eq!(std::fs::read(mount.path("late")).unwrap().len(), 700_000);
    run("forget --keep-last 1 --apply").ok();
    let mut gone = 0;
    for _ in 0..2 {
        let summary = run("gc --max-unused 0 --json").ok().events().pop().unwrap();
        gone += summary["deleted"]["count"].as_u64().unwrap();
    }
    assert!(gone > 0, "no pack was taken away");
    // The kernel keeps `late`; all else is read now, from where it lies by now.
    assert_same_tree(&root, &copy(&mount, sandbox.path("copy")), &options());
    mount.end("INT").ok();
}

fn copy(mount: &Mount, to: PathBuf) -> PathBuf {
    assert!(Command::new("cp").arg("-a").arg(mount.path(".")).arg(&to).status().unwrap().success());
    to
}

#[test]
fn an_sftp_repository_is_mounted_and_a_gc_runs_meanwhile() {
    let remote = Remote::new();
    remote.nas("backups", &[]);
    remote.run("at @nas create --key-file home/key").ok();
    is_shown_whole(&remote.sandbox, "@nas");
}

#[test]
fn an_s3_repository_is_mounted_and_a_gc_runs_meanwhile() {
    let cloud = Cloud::new();
    cloud.place("s3", "mysuperbucket/here", &[]);
    cloud.run("at @s3 create --key-file home/key").ok();
    is_shown_whole(&cloud.sandbox, "@s3");
}

#[test]
fn a_local_repository_is_shown_while_a_gc_runs() {
    is_shown_whole(&Sandbox::with_repository(), "repo");
}
