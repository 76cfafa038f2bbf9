//! A home directory of its own, an empty environment, and the program run in it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

pub(crate) const PASSPHRASE: &str = "correct horse";

pub(crate) struct Sandbox {
    dir: TempDir,
    /// The variable that opens the repository: key files are made to be fast, passphrases slow.
    secret: (&'static str, &'static str),
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(self.err.contains(text), "{text:?} is not in:\n{}", self.err);
        assert!(!self.err.contains(PASSPHRASE), "the passphrase is in:\n{}", self.err);
        self
    }

    /// After [`fails`](Self::fails): this is said as well.
    #[track_caller]
    pub(crate) fn fails_with(self, text: &str) -> Self {
        let code = self.code;
        self.fails(code, text)
    }

    /// The events of `--json`.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir, secret: ("HOLDFAST_PASSPHRASE", PASSPHRASE) }
    }

    /// With a repository at `repo` that a key file opens, and a few files at `src`.
    pub(crate) fn with_repository() -> Self {
        let mut sandbox = Self::new();
        sandbox.secret = ("HOLDFAST_KEY_FILE", "home/key");
        sandbox.run_bare("at repo create --key-file home/key").ok();
        sandbox.write_sources();
        sandbox
    }

    /// The same, opened by a passphrase.
    pub(crate) fn with_passphrase() -> Self {
        let sandbox = Self::new();
        sandbox.run("at repo create").ok();
        sandbox.write_sources();
        sandbox
    }

    pub(crate) fn write_sources(&self) {
        self.write("src/a.txt", b"hello\n");
        self.write("src/sub/b.bin", &[7; 5000]);
        std::os::unix::fs::symlink("a.txt", self.path("src/link")).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.path("home/.config/holdfast/config.toml")
    }

    /// What the configuration file holds.
    pub(crate) fn config_text(&self) -> String {
        std::fs::read_to_string(self.config()).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// The program with nothing but a home in its environment.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        command
            .env_clear()
            .env("HOME", self.path("home"))
            .env("HOLDFAST_CACHE_DIR", self.path("cache"))
            // Root's own would lie in /etc and /var.
            .env("HOLDFAST_STATE_DIR", self.path("state"))
            .env("HOLDFAST_CONFIG", self.config())
            .env("TZ", "UTC")
            .current_dir(self.path("."))
            .stdin(Stdio::null());
        command
    }

    /// The same with the secret at hand.
    pub(crate) fn command_with_secret(&self) -> Command {
        let mut command = self.command();
        command.env(self.secret.0, self.secret.1);
        command
    }

    /// Runs a command line (words divided by single spaces) with the secret at hand.
    pub(crate) fn run(&self, line: &str) -> Answer {
        self.run_words(line.split(' '))
    }

    pub(crate) fn run_words<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Answer {
        answer(self.command_with_secret().args(words))
    }

    /// Runs a command line without any secret.
    pub(crate) fn run_bare(&self, line: &str) -> Answer {
        answer(self.command().args(line.split(' ')))
    }

    /// Runs a command line with something to read.
    pub(crate) fn run_with_input(&self, line: &str, input: &[u8]) -> Answer {
        let mut command = self.command_with_secret();
        command.args(line.split(' '));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finished(child.wait_with_output().unwrap())
    }

    /// Backs up `src`; the snapshot's short id.
    pub(crate) fn backup(&self) -> String {
        let answer = self.run("at repo backup src").ok();
        let line = answer.out.lines().find_map(|line| line.strip_prefix("snapshot "));
        line.expect(&answer.out).to_owned()
    }
}

pub(crate) fn answer(command: &mut Command) -> Answer {
    finished(command.output().unwrap())
}

fn finished(output: std::process::Output) -> Answer {
    Answer {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Files below a directory with their content, or where links lead, sorted.
pub(crate) fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                todo.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            let content = match path.read_link() {
                Ok(target) => target.into_os_string().into_encoded_bytes(),
                Err(_) => std::fs::read(&path).unwrap(),
            };
            found.push((name, content));
        }
    }
    found.sort();
    found
}
