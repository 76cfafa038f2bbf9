//! Every verb as a new user meets it: what it says when it does its work, and when it cannot. The
//! scripts in `tests/golden/` hold the lines that are typed and what comes of them; `UPDATE_GOLDEN=1`
//! writes the answers anew. Read them as a user would: name, cause and next step must be there.
//!
//! In a script `$ ` begins a line that is typed, `% ` one that prepares it unseen, and `# ` a remark.
//! What follows is made: lines of standard output begin with two spaces, those of standard error with
//! `! `, and an exit code that is not 0 is named. What differs from run to run is told by its kind.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::sandbox::{Answer, Sandbox, answer};

macro_rules! scripts {
    ($($name:ident)*) => {
        /// All scripts.
        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];

        mod script {
            $(#[test] fn $name() { super::play(stringify!($name)); })*
        }
    };
}

scripts! {
    archive backup cat channel check completions config create diff digest drill dup find forget gc
    history info keep key ls man mount plan prune recover repair restore run runs serve sync tag
    test token ui version
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

#[test]
fn every_verb_has_a_script() {
    let help = Sandbox::new().run_bare("--help").ok().out;
    let verbs = help.split("Verbs:").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs = verbs.lines().filter_map(|line| line.strip_prefix("  "));
    let verbs = verbs.filter(|line| !line.starts_with(' '));
    let verbs: BTreeSet<_> = verbs.filter_map(|line| line.split(' ').next()).collect();
    assert!(verbs.len() > 30, "{help}");
    for verb in &verbs {
        assert!(SCRIPTS.contains(verb), "{verb} has no script in tests/golden");
    }
    let files = std::fs::read_dir(directory()).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name()).collect();
    let known: BTreeSet<_> = SCRIPTS.iter().map(|name| format!("{name}.txt").into()).collect();
    assert_eq!(files, known);
}

/// Plays a script and compares what is said with what it holds.
fn play(name: &str) {
    let path = directory().join(format!("{name}.txt"));
    let kept = std::fs::read_to_string(&path).unwrap();
    let now = played(&kept);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    let differs = kept.lines().zip(now.lines()).position(|(kept, now)| kept != now);
    let differs = differs.unwrap_or(kept.lines().count().min(now.lines().count()));
    let from = differs.saturating_sub(6);
    let part = |text: &str| text.lines().skip(from).take(16).collect::<Vec<_>>().join("\n");
    assert!(
        kept == now,
        "{} differs at line {}; if that is meant: UPDATE_GOLDEN=1\n--- kept\n{}\n--- now\n{}",
        path.display(),
        differs + 1,
        part(&kept),
        part(&now)
    );
}

/// A script with the answers of now.
fn played(script: &str) -> String {
    let sandbox = Sandbox::with_repository();
    let mut normal = Normal::new(&sandbox);
    let mut text = String::new();
    let lines: Vec<_> = script.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let after = lines.iter().skip(at).find(|line| !line.is_empty());
        let is_answer = |line: &&str| ["  ", "! ", "exit "].iter().any(|b| line.starts_with(b));
        let (is_typed, rest) = match line.split_at_checked(2) {
            Some(("$ ", rest)) => (true, rest),
            Some(("% ", rest)) => (false, rest),
            // Remarks and empty lines stay; what was answered then is made anew.
            _ if line.is_empty() && !after.is_some_and(is_answer) || line.starts_with('#') => {
                writeln!(text, "{line}").unwrap();
                continue;
            }
            _ => continue,
        };
        writeln!(text, "{line}").unwrap();
        let said = shell(&sandbox, rest);
        if !is_typed {
            assert_eq!(said.code, 0, "{line}: {} {}", said.out, said.err);
            continue;
        }
        for (before, said) in [("  ", &said.out), ("! ", &said.err)] {
            for line in normal.text(said).trim_end().lines() {
                writeln!(text, "{}", format!("{before}{line}").trim_end()).unwrap();
            }
        }
        if said.code != 0 {
            writeln!(text, "exit {}", said.code).unwrap();
        }
    }
    text
}

/// What a shell in the sandbox makes of a line; `DIR` in it is the sandbox.
fn shell(sandbox: &Sandbox, line: &str) -> Answer {
    let bin = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().unwrap();
    let mut command = Command::new("/bin/sh");
    // Names of variables end in _DIR.
    let line = line.replace("_DIR", "\0").replace("DIR", &directory_of(sandbox));
    command.arg("-c").arg(line.replace('\0', "_DIR"));
    let like = sandbox.command_with_secret();
    command.env_clear().current_dir(like.get_current_dir().unwrap());
    command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()));
    answer(command.stdin(std::process::Stdio::null()))
}

/// The sandbox's directory.
fn directory_of(sandbox: &Sandbox) -> String {
    sandbox.path("src").parent().unwrap().to_str().unwrap().to_owned()
}

/// Tells what differs from run to run by its kind.
struct Normal {
    directory: String,
    host: String,
    /// The beginnings of ids, in the order in which they were seen.
    ids: Vec<String>,
}

impl Normal {
    fn new(sandbox: &Sandbox) -> Self {
        let host = Command::new("uname").arg("-n").output().unwrap().stdout;
        Self {
            directory: directory_of(sandbox),
            host: String::from_utf8(host).unwrap().trim().to_owned(),
            ids: Vec::new(),
        }
    }

    fn text(&mut self, text: &str) -> String {
        let text =
            text.replace(&self.directory, "DIR").replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let mut out = String::new();
        for line in text.lines() {
            let line = self.line(line);
            // Columns are as wide as what is in them.
            let mut spaces = 0;
            for c in line.chars() {
                spaces = if c == ' ' { spaces + 1 } else { 0 };
                let is_indent = out.is_empty() || out.ends_with('\n');
                if spaces <= 2 || is_indent {
                    out.push(c);
                }
            }
            out.push('\n');
        }
        out
    }

    fn line(&mut self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        let mut is_begin = true;
        // Times and sizes in a hint are examples.
        let is_hint = line.trim_start().starts_with("hint:");
        while let Some(first) = rest.chars().next() {
            let found = if is_begin { self.word(rest, is_hint) } else { None };
            let (length, text) = match found {
                Some((length, text)) => (length, text),
                None => (first.len_utf8(), first.to_string()),
            };
            out.push_str(&text);
            let (taken, after) = rest.split_at(length);
            is_begin = !taken.ends_with(|c: char| c.is_alphanumeric() || c == '.');
            rest = after;
        }
        out
    }

    /// What stands for the beginning of a text that begins a word, and how long that is.
    fn word(&mut self, text: &str, is_hint: bool) -> Option<(usize, String)> {
        let ends = |length: usize| !text[length..].starts_with(char::is_alphanumeric);
        if !self.host.is_empty() && text.starts_with(&self.host) && ends(self.host.len()) {
            return Some((self.host.len(), "HOST".into()));
        }
        if let Some(length) = time(text).filter(|_| !is_hint) {
            return Some((length, "TIME".into()));
        }
        let hex = text.find(|c: char| !matches!(c, '0'..='9' | 'a'..='f')).unwrap_or(text.len());
        if hex >= 8 && ends(hex) {
            let begin = &text[..8];
            let known = self.ids.iter().position(|id| id == begin);
            let at = known.unwrap_or_else(|| {
                self.ids.push(begin.to_owned());
                self.ids.len() - 1
            });
            let whole = if hex > 8 { "WHOLE-" } else { "" };
            return Some((hex, format!("{whole}ID{}", at + 1)));
        }
        let digits = |c: char| !c.is_ascii_digit() && c != '.';
        let number = text.find(digits).unwrap_or(text.len());
        if number == 0 || is_hint {
            return None;
        }
        let after = text[number..].strip_prefix(' ').unwrap_or_default();
        let unit = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let word = match &after[..unit] {
            "B" | "KiB" | "MiB" | "GiB" => "SIZE",
            "ms" | "s" => "SECONDS",
            _ => {
                // A ratio depends on sizes.
                let (whole, part) = text[..number].split_once('.')?;
                let is_ratio = !whole.is_empty() && !part.is_empty() && !part.contains('.');
                return (is_ratio && ends(number)).then(|| (number, "RATIO".into()));
            }
        };
        Some((number + 1 + unit, word.into()))
    }
}

/// The length of a date, with its time of day if there is one, at the beginning of a text.
fn time(text: &str) -> Option<usize> {
    let shape = |text: &str, shape: &str| {
        let fits = |(c, s): (char, char)| if s == '0' { c.is_ascii_digit() } else { c == s };
        text.len() >= shape.len()
            && text.is_char_boundary(shape.len())
            && text.chars().zip(shape.chars()).all(fits)
    };
    if !shape(text, "0000-00-00") {
        return None;
    }
    let mut length = 10;
    for part in [" 00:00", "T00:00", ":00"] {
        if shape(&text[length..], part) {
            length += part.len();
        }
    }
    if let Some(fraction) = text[length..].strip_prefix('.') {
        let digits = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
        length += 1 + digits;
    }
    if text[length..].starts_with('Z') {
        length += 1;
    }
    Some(length)
}
