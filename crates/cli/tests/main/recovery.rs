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
    let check = sandbox.run("at backups/hf check").fails(13, "");
    assert!(check.out.contains("holdfast at backups/hf repair index\n"), "{}", check.out);
    assert!(!check.out.contains("repair packs"), "{}", check.out);
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
fn drill_a_snapshot_is_damaged() {
    let sandbox = anna();
    sandbox.write("anna/new", b"new");
    let line = format!("at backups/hf backup {}", sandbox.text("anna"));
    sandbox.run(&line).ok();
    let (name, whole) = objects(&sandbox, "snapshots").remove(0);
    let mut bytes = whole.clone();
    bytes[90] ^= 1;
    let place = format!("backups/hf/snapshots/{name}");
    sandbox.write(&place, &bytes);
    let _ = std::fs::remove_dir_all(sandbox.path("cache"));
    let [see, forget] = &blocks("A snapshot is damaged")[..] else { panic!("two blocks") };
    let found = shell(&sandbox, see, true).fails(13, "");
    assert!(found.out.contains(&format!("snapshots/{name}")), "{}", found.out);
    // All but it goes on, and says so.
    for line in [&line, "at backups/hf ls", "at backups/hf restore -to restored latest"] {
        let told = sandbox.run(line).ok();
        assert!(told.err.contains(&format!("snapshots/{name}")), "{line}: {}", told.err);
    }
    assert_restores(&sandbox, &["stays", "goes", "sub/small", "new"]);
    let told = sandbox.run("at backups/hf repair snapshots").fails(13, "");
    assert!(told.out.contains(&format!("forget {name}")), "{}", told.out);
    sandbox.run("at backups/hf gc").fails(13, &format!("snapshots/{name}"));
    sandbox.run(&format!("at backups/hf forget {}", &name[..8])).fails(1, "no snapshot");
    // A good copy brings it back.
    sandbox.write(&place, &whole);
    sandbox.run(&format!("at backups/hf restore -to again {name}")).ok();
    sandbox.write(&place, &bytes);
    let _ = std::fs::remove_dir_all(sandbox.path("cache"));
    shell(&sandbox, &forget.replace(" ID\n", &format!(" {name}\n")), true).ok();
    let told = sandbox.run("at backups/hf check --read-data").ok();
    assert!(told.out.contains("no damage found"), "{}", told.out);
}

/// The pack with the content of both big files, and its bytes.
fn data_pack(sandbox: &Sandbox) -> (String, Vec<u8>) {
    objects(sandbox, "packs").into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap()
}

#[test]
fn drill_a_pack_is_damaged() {
    let sandbox = anna();
    // Both files are hit in every chunk, in whatever order these came; one is not on disk any more.
    let (name, mut bytes) = data_pack(&sandbox);
    for place in (50_000..1_400_000).step_by(50_000) {
        bytes[place] ^= 1;
    }
    sandbox.write(&format!("backups/hf/packs/{name}"), &bytes);
    std::fs::remove_file(sandbox.path("anna/goes")).unwrap();
    let [see, packs, again, repair, forget, clean] = &blocks("A pack is damaged: what now")[..]
    else {
        panic!("six blocks")
    };
    let found = shell(&sandbox, see, true).fails(13, "");
    assert!(found.out.contains(&format!("packs/{name}")), "{}", found.out);
    assert!(found.out.contains("/backups/hf repair packs"), "{}", found.out);
    let told = shell(&sandbox, packs, true).fails(13, "");
    assert!(told.out.contains(" blobs lost"), "{}", told.out);
    assert!(told.out.contains("repair packs --from LOCATION"), "{}", told.out);
    shell(&sandbox, again, true).ok();
    let told = shell(&sandbox, repair, true).ok();
    assert!(told.out.contains("goes: its content was lost"), "{}", told.out);
    assert!(!told.out.contains("stays: its content"), "{}", told.out);
    let line = told.out.lines().find(|line| line.contains(" forget ")).expect(&told.out);
    let hurt = line.rsplit(' ').next().unwrap();
    // Once more says the same, and writes nothing.
    let events = sandbox.run("at backups/hf repair snapshots --read-data --json").ok().events();
    let summary = events.iter().find(|e| e["type"] == "summary").expect("a summary");
    assert_eq!((&summary["hurt"], &summary["written"]), (&1.into(), &0.into()));
    shell(&sandbox, &forget.replace("HURT", hurt), true).ok();
    let told = shell(&sandbox, clean, true).ok();
    assert!(told.out.contains("no damage found"), "{}", told.out);
    assert!(!sandbox.path(&format!("backups/hf/packs/{name}")).exists());
    sandbox.run("at backups/hf restore -to restored latest").ok();
    assert_restores(&sandbox, &["stays", "sub/small"]);
}

/// Damages every hundredth pack, at least one, in a row of 3 % of its bytes; but not `spared`.
fn damage_some(sandbox: &Sandbox, spared: &str) {
    let mut packs = objects(sandbox, "packs");
    packs.retain(|(name, _)| name != spared);
    for (name, mut bytes) in packs.into_iter().step_by(100) {
        let (from, run) = (bytes.len() / 3, bytes.len() * 3 / 100);
        bytes[from..from + run].fill(0);
        sandbox.write(&format!("backups/hf/packs/{name}"), &bytes);
    }
}

#[test]
fn drill_one_pack_in_a_hundred_is_damaged_with_parity() {
    let sandbox = anna();
    let [on, clean] = &blocks("Damage that heals: parity")[..] else { panic!("two blocks") };
    let told = shell(&sandbox, on, true).ok();
    assert!(told.out.contains("packs get parity from now on"), "{}", told.out);
    for number in 0..4 {
        sandbox.write(&format!("anna/new{number}"), &random_bytes(20 + number, 400_000));
        sandbox.run(&format!("at backups/hf backup {}", sandbox.text("anna"))).ok();
    }
    assert_eq!(objects(&sandbox, "parity").len(), objects(&sandbox, "packs").len());
    let (name, mut bytes) = data_pack(&sandbox);
    bytes[200_000..230_000].fill(0);
    sandbox.write(&format!("backups/hf/packs/{name}"), &bytes);
    // More than 3 % of one pack could not be healed.
    damage_some(&sandbox, &name);
    std::fs::remove_file(sandbox.path("anna/goes")).unwrap();
    let found = sandbox.run("at backups/hf check --read-data").fails(13, "");
    assert!(found.out.contains("its parity heals it"), "{}", found.out);
    assert!(!found.out.contains("loss:"), "{}", found.out);
    let told = sandbox.run("at backups/hf restore -to restored latest").ok();
    assert!(told.err.contains("its parity healed"), "{}", told.err);
    assert_restores(&sandbox, &["stays", "sub/small", "new3"]);
    let told = shell(&sandbox, clean, true).ok();
    assert!(told.out.contains("nothing of them is lost"), "{}", told.out);
    assert!(told.out.contains("no damage found"), "{}", told.out);
    assert!(!sandbox.path(&format!("backups/hf/packs/{name}")).exists());
    assert_eq!(objects(&sandbox, "parity").len(), objects(&sandbox, "packs").len());
    // And off again.
    sandbox.run("at backups/hf repair parity --off").ok();
    sandbox.run("at backups/hf gc").ok();
    assert_eq!(objects(&sandbox, "parity").len(), 0);
}

#[test]
fn drill_a_second_repository_gives_back_what_is_lost() {
    for is_copy in [true, false] {
        let sandbox = anna();
        std::fs::create_dir(sandbox.path("usb")).unwrap();
        if is_copy {
            for (name, bytes) in files(&sandbox.path("backups/hf")) {
                sandbox.write(&format!("usb/hf/{name}"), &bytes);
            }
        } else {
            sandbox.run_bare("at usb/hf create --key-file home/key").ok();
            let to = sandbox.text("usb/hf");
            sandbox.run(&format!("at backups/hf sync to {to}")).ok();
        }
        let (name, _) = data_pack(&sandbox);
        std::fs::remove_file(sandbox.path(&format!("backups/hf/packs/{name}"))).unwrap();
        std::fs::rename(sandbox.path("anna"), sandbox.path("away")).unwrap();
        let [block] = &blocks("Taking what is lost from a second repository")[..] else {
            panic!("one block")
        };
        let block = block.replace("/mnt/usb", &sandbox.text("usb"));
        let told = shell(&sandbox, &block, true).ok();
        assert!(told.out.contains("nothing of them is lost"), "{}", told.out);
        assert_eq!(told.out.contains("a copy of this repository's files"), is_copy, "{}", told.out);
        assert!(told.out.contains("no damage found"), "{}", told.out);
        sandbox.run("at backups/hf restore -to restored latest").ok();
        std::fs::rename(sandbox.path("away"), sandbox.path("anna")).unwrap();
        assert_restores(&sandbox, &["stays", "goes", "sub/small"]);
    }
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
    sandbox.run_bare("at repo ls --key-file kit").fails(12, "with this key file");
    sandbox.run("at repo key recovery-kit --json").fails(2, "--output FILE");
}
