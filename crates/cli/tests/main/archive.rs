//! `archive`: what GNU tar and Info-ZIP make of it, beside what `restore` makes of the same.

use std::path::Path;
use std::process::{Command, Stdio};

use holdfast_testkit::{CompareOptions, TreeFixture, TreeOptions, assert_same_tree};

use crate::sandbox::{Sandbox, files};
use crate::whole::options;

#[track_caller]
fn ok(command: &mut Command) {
    let output = command.output().expect("start");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{command:?}: {text}");
}

fn unpack(archive: &Path, into: &Path) {
    std::fs::create_dir(into).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xpf").arg(archive).arg("-C").arg(into);
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]);
    ok(tar.args(["--delay-directory-restore", "--warning=no-timestamp"]));
}

/// A tree of everything that tar can hold, and its restored form.
fn restored(sandbox: &Sandbox) -> String {
    TreeFixture::at(sandbox.path("tree"), 5, &TreeOptions::default()).unwrap();
    // No archive holds sockets.
    ok(Command::new("find").arg(sandbox.path("tree")).args(["-type", "s", "-delete"]));
    sandbox.run("at repo backup tree").ok();
    let tree = sandbox.text("tree");
    sandbox.run(&format!("at repo restore latest:{tree} --to restored")).ok();
    tree
}

#[test]
fn tar_unpacks_to_what_a_restore_makes() {
    let sandbox = Sandbox::with_repository();
    let tree = restored(&sandbox);
    for name in ["a.tar", "a.tar.zst"] {
        let answer = sandbox.run(&format!("at repo archive latest:{tree} --to {name}")).ok();
        assert!(answer.err.contains("archived ") && answer.out.is_empty(), "{answer:?}");
        let out = sandbox.path(&format!("out-{name}"));
        unpack(&sandbox.path(name), &out);
        assert_same_tree(&sandbox.path("restored"), &out, &options());
    }
    let sizes = ["a.tar", "a.tar.zst"].map(|name| sandbox.path(name).metadata().unwrap().len());
    assert!(sizes[1] < sizes[0], "{sizes:?}");
}

#[test]
fn tar_goes_through_a_pipe() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let src = sandbox.text("src");
    let mut archive = sandbox.command_with_secret();
    archive.args(["at", "repo", "archive", "latest"]).stdout(Stdio::piped());
    let mut archive = archive.stderr(Stdio::null()).spawn().unwrap();
    std::fs::create_dir(sandbox.path("out")).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-xC").arg(sandbox.path("out")).stdin(archive.stdout.take().unwrap());
    ok(&mut tar);
    assert!(archive.wait().unwrap().success());
    let unpacked = sandbox.path(&format!("out{src}"));
    assert_eq!(files(&unpacked), files(&sandbox.path("src")));
}

#[test]
fn zip_unpacks_to_files_links_permissions_and_times() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::with_repository();
    sandbox.write("src/empty", b"");
    sandbox.write("src/grüße/very long name with spaces", b"x");
    sandbox.write("src/big", &vec![b'z'; 5 << 20]);
    std::fs::hard_link(sandbox.path("src/a.txt"), sandbox.path("src/hard")).unwrap();
    for (name, mode) in [("src/big", 0o600), ("src/sub", 0o750), ("src/empty", 0o4755)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(sandbox.path(name), mode).unwrap();
    }
    let hole = std::fs::File::create(sandbox.path("src/hole")).unwrap();
    hole.set_len(1 << 20).unwrap();
    let fifo = sandbox.path("src/fifo");
    ok(Command::new("mkfifo").arg(fifo));
    sandbox.backup();
    let src = sandbox.text("src");
    let answer = sandbox.run(&format!("at repo archive latest:{src} --to a.zip --json")).ok();
    let summary = &answer.events()[answer.events().len() - 1];
    assert_eq!((&summary["type"], &summary["left_out"]), (&"summary".into(), &1.into()));
    ok(Command::new("unzip").arg("-tqq").arg(sandbox.path("a.zip")));
    let mut unzip = Command::new("unzip");
    // -K: set-user-ID as well.
    ok(unzip.arg("-qqK").arg(sandbox.path("a.zip")).arg("-d").arg(sandbox.path("out")));
    std::fs::remove_file(sandbox.path("src/fifo")).unwrap();
    let options = CompareOptions { mode: true, ..CompareOptions::content_only() };
    assert_same_tree(&sandbox.path("src"), &sandbox.path("out"), &options);
    for name in ["a.txt", "big", "sub"] {
        let time = |dir: &str| {
            let metadata = sandbox.path(&format!("{dir}/{name}")).metadata().unwrap();
            std::os::unix::fs::MetadataExt::mtime(&metadata)
        };
        assert_eq!(time("src"), time("out"), "{name}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    sandbox.run("at repo archive latest --to a.rar").fails(2, "tells no format");
    sandbox.run("at repo archive latest --json").fails(2, "--to FILE");
    sandbox.run("at repo archive latest:/nowhere --to a.tar").fails(1, "/nowhere");
    assert!(!sandbox.path("a.tar").exists(), "nothing is left");
    sandbox.run("at repo archive latest --to a.tar").ok();
    sandbox.run("at repo archive latest --to a.tar").fails(1, "--overwrite");
    let src = sandbox.text("src");
    sandbox
        .run_words([
            "at",
            "repo",
            "archive",
            "latest",
            "--to",
            "a.tar",
            "--overwrite",
            "--exclude",
            "*.bin",
        ])
        .ok();
    let listed = Command::new("tar").arg("-tf").arg(sandbox.path("a.tar")).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let src = src.trim_start_matches('/');
    assert!(listed.contains(&format!("{src}/a.txt\n")) && !listed.contains("b.bin"), "{listed}");
    assert!(listed.contains(&format!("{src}/sub/\n")), "{listed}");
}
