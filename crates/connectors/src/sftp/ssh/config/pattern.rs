//! Patterns of `ssh_config` and `known_hosts`: `*` and `?`, lists with `!`, and file names.

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Whether `text` is matched by `pattern`, case-insensitively. Linear in both for one `*`, and
/// never worse than their product.
pub(in super::super) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(&x) if x == '?' || x == c => {
                p += 1;
                t += 1;
            }
            _ => match back {
                // The last star takes one character more.
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

/// At least one pattern matches, and none of those behind a `!` does.
pub(in super::super) fn matches_list<'a>(
    text: &str,
    patterns: impl Iterator<Item = &'a str>,
) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(negated) if matches(negated, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

/// Existing files that match `path`, whose components may hold `*` and `?`, in order of names.
pub(super) fn glob(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let name = component.as_os_str().to_string_lossy();
        if !matches!(component, Component::Normal(_)) || !name.contains(['*', '?']) {
            found.iter_mut().for_each(|base| base.push(component));
            continue;
        }
        let mut next = Vec::new();
        for base in found {
            let Ok(entries) = fs::read_dir(&base) else { continue };
            let names = entries.filter_map(|e| e.ok().map(|e| e.file_name()));
            next.extend(
                names
                    .filter(|found| {
                        let found = found.to_string_lossy();
                        (!found.starts_with('.') || name.starts_with('.')) && matches(&name, &found)
                    })
                    .map(|found| base.join(found)),
            );
        }
        next.sort();
        found = next;
    }
    found.retain(|path| path.is_file());
    found
}
