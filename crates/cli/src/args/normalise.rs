//! From the forms that people and other programs use to the one that the parser reads:
//! `at LOCATION` in front becomes `--at LOCATION`, and a long option with one dash gets its
//! second one. There are no clusters of short options. The value of `config repository set`, and of
//! `channel set`, may begin with a dash, as a pasted key does.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The words of a command line, the program's name first.
pub(crate) fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut normal: Vec<OsString> = words.next().into_iter().collect();
    let with_value = global_options_with_value();
    // The verb and what follows it, without options.
    let mut plain: Vec<OsString> = Vec::new();
    let mut is_value = false;
    // What goes behind `--`.
    let mut last = Vec::new();
    for word in words.by_ref() {
        if word == "--" {
            last.push(word);
            break;
        }
        if std::mem::take(&mut is_value) {
            normal.push(word);
            continue;
        }
        if !is_option(&word) {
            if plain.is_empty() && word == "at" {
                normal.push("--at".into());
                is_value = true;
                continue;
            }
            plain.push(word.clone());
            normal.push(word);
            continue;
        }
        let dashed = with_two_dashes(word.clone());
        if wants_a_value(&plain) && !is_global_option(&dashed) {
            last.push("--".into());
            last.push(word);
            break;
        }
        is_value = with_value.contains(dashed.as_os_str());
        normal.push(dashed);
    }
    // Options that follow such a value are still options.
    if last.len() > 1 {
        normal.extend(words.map(with_two_dashes));
        normal.extend(last);
        return normal;
    }
    normal.extend(last);
    normal.extend(words);
    normal
}

fn is_option(word: &OsStr) -> bool {
    word.as_bytes().len() > 1 && word.as_bytes().starts_with(b"-")
}

/// `config repository set NAME KEY`, or `channel set NAME KEY`, and no VALUE yet.
fn wants_a_value(plain: &[OsString]) -> bool {
    match plain {
        [config, repository, set, _, _] => {
            let is_repository = repository == "repository" || repository == "remote";
            config == "config" && is_repository && set == "set"
        }
        [channel, set, _, _] => channel == "channel" && set == "set",
        _ => false,
    }
}

fn is_global_option(word: &OsStr) -> bool {
    let bytes = word.as_bytes();
    let name = bytes.split(|c| *c == b'=').next().unwrap_or_default();
    let is_this = |arg: &clap::Arg| {
        let long = arg.get_long().is_some_and(|long| name == format!("--{long}").as_bytes());
        let short = arg.get_short().is_some_and(|c| bytes == format!("-{c}").as_bytes());
        long || short
    };
    let help = [&b"--help"[..], b"-h"].contains(&bytes);
    help || super::command().get_arguments().filter(|arg| arg.is_global_set()).any(is_this)
}

/// `-tag` becomes `--tag`; `-`, `-q`, `--tag` and `-5` stay.
fn with_two_dashes(word: OsString) -> OsString {
    match word.as_bytes() {
        [b'-', first, _, ..] if first.is_ascii_alphabetic() => {
            let mut long = b"-".to_vec();
            long.extend_from_slice(word.as_bytes());
            OsString::from_vec(long)
        }
        _ => word,
    }
}

fn global_options_with_value() -> HashSet<&'static OsStr> {
    [
        "--at",
        "--cache-dir",
        "--config",
        "--connections",
        "--key-file",
        "--limit-download",
        "--limit-upload",
        "--memory",
        "--option",
        "--passphrase-file",
        "-o",
    ]
    .map(OsStr::new)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(line: &str) -> String {
        let words = words(line.split(' ').map(OsString::from));
        words.iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_forms_become_one() {
        for (from, to) in [
            ("h at /r create", "h --at /r create"),
            ("h -at /r ls", "h --at /r ls"),
            ("h ls -at /r", "h ls --at /r"),
            ("h --at=/r ls", "h --at=/r ls"),
            ("h --json at /r ls", "h --json --at /r ls"),
            ("h --key-file at at /r ls", "h --key-file at --at /r ls"),
            ("h -key-file k at /r ls", "h --key-file k --at /r ls"),
            ("h at at ls", "h --at at ls"),
            ("h ls at", "h ls at"),
            ("h backup -tag=x /etc", "h backup --tag=x /etc"),
            ("h backup -tag x - -q", "h backup --tag x - -q"),
            ("h backup -- -tag at", "h backup -- -tag at"),
            ("h -o a=b at /r ls", "h -o a=b --at /r ls"),
            ("h ls --config -c", "h ls --config -c"),
            ("h config repository set n k -v", "h config repository set n k -- -v"),
            ("h config remote set n k -tag -q", "h config remote set n k -q -- -tag"),
            (
                "h -json config repository set n k -v -config c",
                "h --json config repository set n k --config c -- -v",
            ),
            ("h config repository set n k -json", "h config repository set n k --json"),
            ("h config repository set n k v -tag", "h config repository set n k v --tag"),
            ("h config repository set n k -- --json", "h config repository set n k -- --json"),
            (
                "h config repository set -json n k ---x",
                "h config repository set --json n k -- ---x",
            ),
            ("h config repository set n k -----BEGIN", "h config repository set n k -- -----BEGIN"),
            ("h config repository set n -kk", "h config repository set n --kk"),
            ("h channel set n k -v", "h channel set n k -- -v"),
            ("h channel set n k -value -json", "h channel set n k --json -- -value"),
            ("h channel unset n k -json", "h channel unset n k --json"),
            ("h -help", "h --help"),
            ("h", "h"),
        ] {
            assert_eq!(normal(from), to);
        }
    }

    #[test]
    fn options_with_a_value_are_known() {
        let known = global_options_with_value();
        let command = super::super::command();
        let taking: HashSet<String> = command
            .get_arguments()
            .filter(|arg| arg.is_global_set() && arg.get_action().takes_values())
            .flat_map(|arg| {
                let long = arg.get_long().map(|long| format!("--{long}"));
                [long, arg.get_short().map(|short| format!("-{short}"))]
            })
            .flatten()
            .collect();
        assert_eq!(known, taking.iter().map(|name| OsStr::new(name.as_str())).collect());
    }
}
