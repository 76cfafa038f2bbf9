//! The command lines of the user's documents, word for word but for paths. Each test is named
//! after its row in the list of requirements.

use crate::sandbox::{Sandbox, files};

#[test]
fn a1_create_at_a_location() {
    let sandbox = Sandbox::new();
    let repo = sandbox.text("var/plakar");
    let answer = sandbox.run(&format!("at {repo} create")).ok();
    assert!(answer.out.contains(&format!("created at {repo}, encrypted")), "{}", answer.out);
    assert!(sandbox.path("var/plakar/config").is_file());
}

#[test]
fn a3_tags_of_a_backup_filter_listings() {
    let sandbox = Sandbox::with_repository();
    let (repo, src) = (sandbox.text("repo"), sandbox.text("src"));
    sandbox.run(&format!("at {repo} backup -tag remote-etc {src}")).ok();
    sandbox.run(&format!("at {repo} backup {src}")).ok();
    let all = sandbox.run(&format!("at {repo} ls")).ok().out;
    let some = sandbox.run(&format!("at {repo} ls -tag remote-etc")).ok().out;
    assert_eq!((all.lines().count(), some.lines().count()), (3, 2), "{all}{some}");
    assert!(some.contains("remote-etc"));
    let none = sandbox.run(&format!("at {repo} ls -tag other")).ok();
    assert_eq!((none.out.as_str(), none.err.as_str()), ("", "no snapshot fits\n"));
}

#[test]
fn a5_ls_shows_id_date_size_and_source_path() {
    let sandbox = Sandbox::with_repository();
    let (repo, id) = (sandbox.text("repo"), sandbox.backup());
    let out = sandbox.run(&format!("at {repo} ls")).ok().out;
    let [head, line] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out}") };
    assert!(head.starts_with("ID        DATE                 HOST"), "{head}");
    assert!(line.starts_with(&id), "{line}");
    let date = line.split_whitespace().nth(1).unwrap();
    assert!(date.len() == 10 && date.starts_with("20"), "{line}");
    assert!(line.contains("4.89 KiB"), "{line}");
    assert!(line.ends_with(&sandbox.text("src")), "{line}");
}

#[test]
fn a6_restore_a_path_of_a_snapshot_by_the_start_of_its_id() {
    let sandbox = Sandbox::with_repository();
    let (repo, id) = (sandbox.text("repo"), sandbox.backup());
    let (src, to) = (sandbox.text("src"), sandbox.text("tmp/restore"));
    let prefix = &id[..6];
    sandbox.run(&format!("at {repo} restore -to {to} {prefix}:{src}")).ok();
    assert_eq!(files(&sandbox.path("src")), files(&sandbox.path("tmp/restore")));
}

#[test]
fn a7_encrypted_compressed_deduplicated_versioned_by_default() {
    let sandbox = Sandbox::with_repository();
    let secret = b"a line that must not be found anywhere\n".repeat(50_000);
    sandbox.write("src/secret", &secret);
    sandbox.write("src/copy", &secret);
    sandbox.backup();
    let stored = files(&sandbox.path("repo"));
    let size: usize = stored.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(size < secret.len(), "{size} bytes for two copies of {}", secret.len());
    for (name, bytes) in stored {
        assert!(!bytes.windows(20).any(|w| w == &secret[..20]), "{name} holds plain text");
    }
    sandbox.write("src/a.txt", b"second version\n");
    sandbox.backup();
    let src = sandbox.text("src");
    let cat = |snapshot: &str| sandbox.run(&format!("at repo cat {snapshot}:{src}/a.txt")).ok().out;
    assert_eq!((cat("latest~1").as_str(), cat("latest").as_str()), ("hello\n", "second version\n"));
}

#[test]
fn at_may_be_written_in_every_way() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    for line in ["-at repo ls", "--at repo ls", "--at=repo ls", "ls -at repo", "ls --at repo"] {
        assert_eq!(sandbox.run(line).ok().out.lines().count(), 2, "{line}");
    }
    let mut command = sandbox.command_with_secret();
    command.env("HOLDFAST_REPOSITORY", "repo");
    let answer = crate::sandbox::answer(command.arg("ls")).ok();
    assert_eq!(answer.out.lines().count(), 2);
}
