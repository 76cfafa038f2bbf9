//! From the forms that people and other programs use to the one that the parser reads:
//! `at LOCATION` in front becomes `--at LOCATION`, and a long option with one dash gets its
//! second one. There are no clusters of short options.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The words of a command line, the program's name first.
pub(crate) fn words(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let mut normal: Vec<OsString> = words.next().into_iter().collect();
    let with_value = global_options_with_value();
    let mut before_verb = true;
    let mut is_value = false;
    for word in words.by_ref() {
        if word == "--" {
            normal.push(word);
            break;
        }
        if before_verb && std::mem::take(&mut is_value) {
            normal.push(word);
            continue;
        }
        let word = with_two_dashes(word);
        if before_verb && !word.as_bytes().starts_with(b"-") {
            if word == "at" {
                normal.push("--at".into());
                is_value = true;
                continue;
            }
            before_verb = false;
        }
        is_value = before_verb && with_value.contains(word.as_os_str());
        normal.push(word);
    }
    normal.extend(words);
    normal
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
    ["--at", "--key-file", "--passphrase-file", "--cache-dir"].map(OsStr::new).into()
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
            .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
            .collect();
        assert_eq!(known, taking.iter().map(|name| OsStr::new(name.as_str())).collect());
    }
}
