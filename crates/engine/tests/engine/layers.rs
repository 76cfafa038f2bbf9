//! Which room of the engine may use which (ARCHITECTURE.md, "Rooms"). Reads every path that code
//! names after `crate::` or `super::`, not only `use` lines. Comments are free, and so are unit
//! tests, which stand at the end of a file or in a file `tests.rs`.

use std::path::{Path, PathBuf};

/// What a room may use besides itself. That `ops` uses no other verb is checked apart.
static ROOMS: [(&str, &str); 17] = [
    ("hash", ""),
    ("meta", ""),
    ("monitor", ""),
    ("chunker", ""),
    ("crypto", "hash"),
    ("storage", "hash"),
    ("source", "error meta"),
    ("destination", "error meta"),
    ("error", "destination hash source storage"),
    ("compress", "crypto error"),
    ("bundle", "crypto error hash"),
    ("format", "bundle crypto error hash meta"),
    ("parity", "format"),
    ("repo", "bundle chunker compress crypto error format hash meta parity storage"),
    ("tree", "crypto error format hash meta repo"),
    ("fuzz", "bundle chunker compress crypto format hash parity repo storage tree"),
    (
        "ops",
        "bundle chunker compress crypto destination error format hash meta monitor parity repo \
         source storage tree",
    ),
];

/// Verbs that use another: `sync` is a backup of a snapshot, `repair` mends what `check` finds.
static USES: [(&str, &str); 2] = [("sync", "backup"), ("repair", "check")];

/// The engine has no environment and no terminal.
static NEVER: [&str; 4] = ["std::env", "env::var", "print!(", "println!("];

fn problems(file: &str, text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .take_while(|line| line.trim() != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let mut found = Vec::new();
    for word in NEVER {
        if code.contains(word) {
            found.push(format!("{file} mentions {word}"));
        }
    }
    let module: Vec<&str> = file
        .trim_end_matches(".rs")
        .split('/')
        .filter(|part| !matches!(*part, "mod" | "lib"))
        .collect();
    let Some((room, allowed)) = ROOMS.iter().find(|(name, _)| module.first() == Some(name)) else {
        if !module.is_empty() {
            found.push(format!("{file} is in no room: add it to ROOMS and to ARCHITECTURE.md"));
        }
        return found;
    };
    for path in paths(&module, &code) {
        let (first, second) = (path[0], path.get(1).copied().unwrap_or_default());
        let target = if matches!(first, "Error" | "Result") { "error" } else { first };
        let is_other_verb = target == "ops"
            && module
                .get(1)
                .is_some_and(|verb| *verb != second && !USES.contains(&(*verb, second)));
        let is_allowed = target == *room || allowed.split(' ').any(|name| name == target);
        if !is_allowed || is_other_verb {
            found.push(format!("{file} uses {}", path.join("::")));
        }
    }
    found
}

/// The paths from the root of the crate that `code`, in this module, names.
fn paths<'a>(module: &[&'a str], code: &'a str) -> Vec<Vec<&'a str>> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let tail = &code[at + "crate::".len()..];
        paths.extend(items(tail).into_iter().map(names));
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let (mut tail, mut up) = (&code[at..], 0);
        while let Some(rest) = tail.strip_prefix("super::") {
            (tail, up) = (rest, up + 1);
        }
        let base = &module[..module.len().saturating_sub(up)];
        paths.extend(items(tail).into_iter().map(|item| [base, &names(item)[..]].concat()));
    }
    paths.retain(|path| !path.is_empty());
    paths
}

/// What follows `::`, or the items in the braces that follow it.
fn items(tail: &str) -> Vec<&str> {
    let Some(group) = tail.strip_prefix('{') else { return vec![tail] };
    let (mut items, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                items.push(group[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items
}

/// The names of the path that `text` starts with.
fn names(text: &str) -> Vec<&str> {
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':');
    let end = text.find(|c: char| !is_path(c)).unwrap_or(text.len());
    text[..end].split("::").filter(|name| !name.is_empty()).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn no_arrow_points_up() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut found) = (Vec::new(), Vec::new());
    sources(&root, &mut files)?;
    assert!(files.len() > 30, "only {} files were found", files.len());
    for path in files {
        let file = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        found.extend(problems(&file, &std::fs::read_to_string(&path)?));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn forbidden_arrows_are_seen() {
    for (file, code) in [
        ("format/pack.rs", "use crate::repo::Index;"),
        ("bundle.rs", "use super::repo;"),
        ("hash.rs", "fn f() -> crate::Result<()> { Ok(()) }"),
        ("repo/mod.rs", "use crate::{\n    Error, ops::backup,\n};"),
        ("ops/check.rs", "use crate::ops::backup::backup;"),
        ("ops/check.rs", "use super::{backup, restore};"),
        ("ops/sync.rs", "use super::{backup, restore};"),
        ("ops/backup.rs", "use super::sync;"),
        ("ops/check/data.rs", "use super::super::backup::Parent;"),
        ("repo/open.rs", "let home = std::env::var(\"HOME\");"),
        ("tree/read.rs", "println!(\"x\");"),
        ("attic.rs", ""),
    ] {
        assert!(!problems(file, code).is_empty(), "{file}: {code}");
    }
    for (file, code) in [
        ("ops/check.rs", "use crate::repo::{BlobReader, Index};\nuse crate::{Error, Result};"),
        ("ops/check/data.rs", "use super::walk::Item;\nuse super::super::check::Options;"),
        ("ops/sync.rs", "use super::backup::{self, copy};"),
        ("format/pack.rs", "// crate::tree\nuse super::padme;\n#[cfg(test)]\nuse crate::ops;"),
    ] {
        assert_eq!(problems(file, code), Vec::<String>::new(), "{file}: {code}");
    }
}
