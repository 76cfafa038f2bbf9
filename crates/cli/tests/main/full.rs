//! A repository on a real file system that is full, or became read-only: what is there comes back,
//! what cannot be written says so, and space helps. Needs the right to mount.

use std::path::PathBuf;
use std::process::Command;

use holdfast_testkit::clock::random_bytes;

use crate::sandbox::{Sandbox, files};

/// A file system in memory of 8 MiB, until it is dropped.
struct Small(PathBuf);

impl Small {
    fn new(at: PathBuf) -> Self {
        std::fs::create_dir(&at).unwrap();
        let small = Self(at);
        small.mount(&["-t", "tmpfs", "-o", "size=8m", "none"]);
        small
    }

    fn mount(&self, options: &[&str]) {
        let done = Command::new("mount").args(options).arg(&self.0).output().unwrap();
        assert!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Leaves no room for anything else.
    fn fill(&self) {
        let path = self.0.join("filler");
        let mut length = 8 << 20;
        while length > 0 {
            let mut bytes = std::fs::read(&path).unwrap_or_default();
            bytes.resize(bytes.len() + length, 1);
            if std::fs::write(&path, &bytes).is_err() {
                bytes.truncate(bytes.len() - length);
                std::fs::write(&path, &bytes).unwrap();
                length /= 2;
                if length < 4096 {
                    return;
                }
            }
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// With parity, and a snapshot of `src`; the files in it.
fn repository() -> (Small, Sandbox, Vec<(String, Vec<u8>)>) {
    let sandbox = Sandbox::with_repository();
    let small = Small::new(sandbox.path("disk"));
    sandbox.write("src/big", &random_bytes(1, 900_000));
    sandbox.run_bare("at disk/hf create --key-file home/key --parity").ok();
    sandbox.run("at disk/hf backup src").ok();
    let whole = files(&sandbox.path("src"));
    (small, sandbox, whole)
}

fn assert_restores(sandbox: &Sandbox, whole: &[(String, Vec<u8>)]) {
    let place = format!("latest:{}", sandbox.text("src"));
    sandbox.run(&format!("at disk/hf restore {place} -to out")).ok();
    assert!(files(&sandbox.path("out")) == whole);
    std::fs::remove_dir_all(sandbox.path("out")).unwrap();
}

/// Flips a byte in the middle of the longest pack.
fn damage(sandbox: &Sandbox) {
    let packs = files(&sandbox.path("disk/hf/packs"));
    let (name, mut bytes) = packs.into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let path = sandbox.path("disk/hf/packs").join(name);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_full_one_restores_and_heals_and_goes_on_with_space() {
    let (small, sandbox, whole) = repository();
    damage(&sandbox);
    small.fill();
    assert_restores(&sandbox, &whole);
    sandbox.write("src/more", &random_bytes(2, 700_000));
    for line in ["at disk/hf backup src", "at disk/hf repair packs"] {
        let answer = sandbox.run(line);
        assert_ne!(answer.code, 0, "{line}");
        assert!(answer.err.to_lowercase().contains("space"), "{line}: {}", answer.err);
    }
    std::fs::remove_file(sandbox.path("src/more")).unwrap();
    assert_restores(&sandbox, &whole);
    small.make_room();
    sandbox.run("at disk/hf repair packs").ok();
    sandbox.run("at disk/hf gc").ok();
    sandbox.run("at disk/hf check --read-data").ok();
    sandbox.run("at disk/hf backup src").ok();
    assert_restores(&sandbox, &whole);
}

#[test]
fn a_read_only_one_restores_and_heals() {
    let (small, sandbox, whole) = repository();
    damage(&sandbox);
    small.mount(&["-o", "remount,ro"]);
    assert_restores(&sandbox, &whole);
    let answer = sandbox.run("at disk/hf check --read-data");
    assert!(answer.out.contains("its parity heals it"), "{}\n{}", answer.out, answer.err);
    for line in ["at disk/hf backup src", "at disk/hf repair packs", "at disk/hf gc"] {
        let answer = sandbox.run(line);
        assert_ne!(answer.code, 0, "{line}");
        assert!(answer.err.to_lowercase().contains("read-only"), "{line}: {}", answer.err);
    }
}
