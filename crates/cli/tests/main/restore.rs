//! `restore`.

use crate::sandbox::{Sandbox, files};

#[test]
fn without_a_target_a_new_directory_is_made() {
    let sandbox = Sandbox::with_repository();
    let id = sandbox.backup();
    let answer = sandbox.run("at repo restore").ok();
    assert!(answer.out.starts_with("restored 2 files"), "{}", answer.out);
    let src = sandbox.path("src");
    let below = sandbox.path(&format!("holdfast-{id}")).join(src.strip_prefix("/").unwrap());
    assert_eq!(files(&below), files(&src));
    assert_eq!(std::fs::read_link(below.join("link")).unwrap().to_str(), Some("a.txt"));
}

#[test]
fn rules_choose_and_a_dry_run_writes_nothing() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let src = sandbox.text("src");
    sandbox.run(&format!("at repo restore latest:{src} -to out --dry-run")).ok();
    assert!(!sandbox.path("out").exists());
    sandbox.run(&format!("at repo restore latest:{src} -to out --include *.bin")).ok();
    let names: Vec<_> = files(&sandbox.path("out")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sub/b.bin"]);
    sandbox.run(&format!("at repo restore latest:{src} -to out2 --exclude sub")).ok();
    let names: Vec<_> = files(&sandbox.path("out2")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a.txt", "link"]);
}

#[test]
fn what_is_there_is_replaced_by_rule() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let src = sandbox.text("src");
    let content = |name: &str| std::fs::read(sandbox.path(name)).unwrap();
    sandbox.write("out/a.txt", b"mine");
    sandbox.write("out/extra", b"mine");
    sandbox.run(&format!("at repo restore latest:{src} -to out --overwrite never")).ok();
    assert_eq!(content("out/a.txt"), b"mine");
    sandbox.run(&format!("at repo restore latest:{src} -to out")).ok();
    assert_eq!(
        (content("out/a.txt"), content("out/extra")),
        (b"hello\n".to_vec(), b"mine".to_vec())
    );
    sandbox.run(&format!("at repo restore latest:{src} -to out --delete")).ok();
    assert_eq!(files(&sandbox.path("out")), files(&sandbox.path("src")));
}

#[test]
fn in_place_needs_a_yes() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    sandbox.write("src/a.txt", b"spoilt, and longer");
    std::fs::remove_file(sandbox.path("src/sub/b.bin")).unwrap();
    let answer = sandbox.run("at repo restore --in-place").fails(2, "must be confirmed");
    assert!(answer.err.contains("--yes"), "{}", answer.err);
    sandbox.run(&format!("at repo restore --in-place --yes latest:{}", sandbox.text("src"))).ok();
    assert_eq!(std::fs::read(sandbox.path("src/a.txt")).unwrap(), b"hello\n");
    assert_eq!(std::fs::read(sandbox.path("src/sub/b.bin")).unwrap(), [7; 5000]);
    sandbox.run("at repo restore --in-place --to x").fails(2, "cannot be used with");
}

#[test]
fn a_summary_for_programs() {
    let sandbox = Sandbox::with_repository();
    sandbox.backup();
    let events = sandbox.run("at repo restore -to out --json").ok().events();
    let summary = events.last().unwrap();
    assert_eq!((&summary["type"], &summary["files"]), (&"summary".into(), &2.into()));
    assert_eq!(summary["failures"], 0);
}
