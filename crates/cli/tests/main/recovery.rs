//! The drills of docs/recovery.md: each does the damage that its section is about, and runs the very
//! lines that stand there.

use std::path::Path;
use std::process::Command;

use holdfast_testkit::clock::random_bytes;

use crate::sandbox::{Answer, Sandbox, answer, files};

/// The commands of a section, block by block, as they are typed.
fn blocks(heading: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recovery.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect(heading);
    let section = rest.split("\n## ").next().unwrap();
    let mut blocks = Vec::new();
    for part in section.split("```sh\n").skip(1) {
        blocks.push(part.split("```").next().unwrap().to_owned());
    }
    blocks
}

/// Runs a block in a shell. The page's places become those of the sandbox.
fn shell(sandbox: &Sandbox, block: &str, has_secret: bool) -> Answer {
    let mut text = block.replace("/mnt/backups", &sandbox.text("backups"));
    text = text.replace("/home/anna", &sandbox.text("anna"));
    text = text.replace("/tmp/restored", &sandbox.text("restored"));
    let program = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-ec", &text])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
        .env("HOME", sandbox.path("home"))
        .env("HOLDFAST_CACHE_DIR", sandbox.path("cache"))
        .env("TZ", "UTC")
        .current_dir(sandbox.path("."));
    if has_secret {
        command.env("HOLDFAST_KEY_FILE", sandbox.path("home/key"));
    }
    answer(&mut command)
}

/// A repository at `backups/hf` of `anna`, which holds a file that goes and one that stays.
fn anna() -> Sandbox {
    let sandbox = Sandbox::with_repository();
    std::fs::create_dir(sandbox.path("backups")).unwrap();
    sandbox.run_bare("at backups/hf create --key-file home/key").ok();
    sandbox.write("anna/stays", &random_bytes(1, 700_000));
    sandbox.write("anna/goes", &random_bytes(2, 700_000));
    sandbox.write("anna/sub/small", b"small");
    let line = format!("at backups/hf backup {}", sandbox.text("anna"));
    sandbox.run(&line).ok();
    sandbox
}

fn objects(sandbox: &Sandbox, folder: &str) -> Vec<(String, Vec<u8>)> {
    files(&sandbox.path(&format!("backups/hf/{folder}")))
}

fn assert_restores(sandbox: &Sandbox, names: &[&str]) {
    let found = files(&sandbox.path("restored"));
    for name in names {
        let there = found.iter().find(|(path, _)| path.ends_with(name)).expect(name);
        assert_eq!(there.1, std::fs::read(sandbox.path(&format!("anna/{name}"))).unwrap());
    }
}

#[test]
fn drill_the_index_is_gone() {
    let sandbox = anna();
    std::fs::remove_dir_all(sandbox.path("backups/hf/index")).unwrap();
    let _ = std::fs::remove_dir_all(sandbox.path("cache"));
    sandbox.run("at backups/hf check").fails(13, "");
    let [block] = &blocks("The index is gone or damaged")[..] else { panic!("one block") };
    let told = shell(&sandbox, block, true).ok();
    assert!(told.out.contains("listed in the index again"), "{}", told.out);
    assert!(told.out.contains("no damage found"), "{}", told.out);
    sandbox.run("at backups/hf restore -to restored latest").ok();
    assert_restores(&sandbox, &["stays", "goes", "sub/small"]);
    // A damaged segment is named with what to type.
    for (name, mut bytes) in objects(&sandbox, "index") {
        bytes[90] ^= 1;
        sandbox.write(&format!("backups/hf/index/{name}"), &bytes);
    }
    let _ = std::fs::remove_dir_all(sandbox.path("cache"));
    let line = format!("at backups/hf backup {}", sandbox.text("anna"));
    sandbox.run(&line).fails(13, "holdfast at backups/hf repair index");
    let events = sandbox.run("at backups/hf repair index --json").ok().events();
    let summary = events.iter().find(|e| e["type"] == "summary").expect("a summary");
    assert_eq!(summary["superseded"].as_array().map(Vec::len), Some(1));
    assert_eq!(summary["listed"], summary["packs"]);
    sandbox.run(&line).ok();
    let again = sandbox.run("at backups/hf repair index").ok();
    assert!(again.out.contains("nothing was written"), "{}", again.out);
}

#[test]
fn drill_a_pack_is_damaged() {
    let sandbox = anna();
    // The one with the content of both files, of which one is not on disk any more.
    let (name, mut bytes) =
        objects(&sandbox, "packs").into_iter().max_by_key(|(_, b)| b.len()).unwrap();
    bytes[200_000] ^= 1;
    bytes[1_100_000] ^= 1;
    sandbox.write(&format!("backups/hf/packs/{name}"), &bytes);
    std::fs::remove_file(sandbox.path("anna/goes")).unwrap();
    let [see, away, again, repair, clean] = &blocks("A pack is damaged: what now")[..] else {
        panic!("five blocks")
    };
    let found = shell(&sandbox, see, true).fails(13, "");
    assert!(found.out.contains(&format!("packs/{name}")), "{}", found.out);
    let pack = name.split('/').next_back().unwrap();
    let away = away.replace("PACK", pack).replace("PA/", &format!("{}/", &pack[..2]));
    shell(&sandbox, &away, true).ok();
    shell(&sandbox, again, true).ok();
    let told = shell(&sandbox, repair, true).ok();
    assert!(told.out.contains("goes: its content was lost"), "{}", told.out);
    assert!(!told.out.contains("stays: its content"), "{}", told.out);
    let line = told.out.lines().find(|line| line.contains(" forget ")).expect(&told.out);
    let hurt = line.rsplit(' ').next().unwrap();
    // Once more says the same, and writes nothing.
    let events = sandbox.run("at backups/hf repair snapshots --json").ok().events();
    let summary = events.iter().find(|e| e["type"] == "summary").expect("a summary");
    assert_eq!((&summary["hurt"], &summary["written"]), (&1.into(), &0.into()));
    let told = shell(&sandbox, &clean.replace("HURT", hurt), true).ok();
    assert!(told.out.contains("no damage found"), "{}", told.out);
    sandbox.run("at backups/hf restore -to restored latest").ok();
    assert_restores(&sandbox, &["stays", "sub/small"]);
}

#[test]
fn drill_config_is_gone() {
    let sandbox = anna();
    let [make, rescue] = &blocks("`config` is gone")[..] else { panic!("two blocks") };
    shell(&sandbox, make, true).ok();
    shell(&sandbox, make, true).fails(1, "kit.txt");
    let slots = objects(&sandbox, "keys").len();
    assert_eq!(slots, 2, "what could not be written has no slot");
    let config = std::fs::read(sandbox.path("backups/hf/config")).unwrap();
    std::fs::remove_file(sandbox.path("backups/hf/config")).unwrap();
    std::fs::remove_file(sandbox.path("home/key")).unwrap();
    let _ = std::fs::remove_dir_all(sandbox.path("cache"));
    // Typed again: only the lines that count.
    let page = std::fs::read_to_string(sandbox.path("kit.txt")).unwrap();
    assert!(page.contains(&sandbox.text("backups/hf")), "{page}");
    let counts = |line: &&str| line.starts_with("key ") || line.starts_with("config ");
    let typed: Vec<_> = page.lines().filter(counts).map(str::to_lowercase).collect();
    std::fs::remove_file(sandbox.path("kit.txt")).unwrap();
    sandbox.write("kit.txt", typed.join("\n").as_bytes());
    shell(&sandbox, rescue, false).ok();
    assert_eq!(std::fs::read(sandbox.path("backups/hf/config")).unwrap(), config);
    assert_restores(&sandbox, &["stays", "goes", "sub/small"]);
    // What is there stays.
    let line = "at backups/hf repair config --kit kit.txt";
    sandbox.run_bare(line).fails(1, "already a repository");
    let slip = typed.join("\n").replacen("key  2:", "key  3:", 1);
    sandbox.write("slip.txt", slip.as_bytes());
    sandbox.run_bare("at backups/hf ls --key-file slip.txt").fails(1, "line key 3 of slip.txt");
    sandbox.write("half.txt", typed.join("\n").replace("config", "#").as_bytes());
    sandbox.run_bare("at other repair config --kit half.txt").fails(1, "begins with config");
}

#[test]
fn a_kit_goes_to_standard_output_and_its_slot_can_be_removed() {
    let sandbox = Sandbox::with_repository();
    let page = sandbox.run("at repo key recovery-kit").ok().out;
    sandbox.write("kit", page.as_bytes());
    sandbox.run_bare("at repo ls --key-file kit").ok();
    let slot = page.lines().find_map(|line| line.strip_prefix("Key slot")).unwrap().trim();
    sandbox.run(&format!("at repo key remove {slot}")).ok();
    sandbox.run_bare("at repo ls --key-file kit").fails(12, "opens with this key file");
    sandbox.run("at repo key recovery-kit --json").fails(2, "--output FILE");
}
