//! What to do next, as it is done here: hints of the catalogue speak of the command line. What has no
//! words of the console yet says that it is a command line.

use crate::pages::storages::label;

/// Hints that are said otherwise here, by how they begin; empty for what only a terminal can do.
const OTHERWISE: [(&str, &str); 12] = [
    ("run it in a terminal to be asked for the password", ""),
    ("run it in a terminal to be asked for it", ""),
    (
        "run it in a terminal to be asked for the passphrase",
        "open the repository under Storages: it asks for the passphrase once",
    ),
    (
        "run the command in a terminal to compare and accept the key",
        "test the storage under Storages: the key is shown there, to be compared and trusted",
    ),
    ("or say --accept-new-host-key", ""),
    ("or set HOLDFAST_PASSPHRASE_FILE", ""),
    ("or say --passphrase-file", ""),
    ("or say --force", ""),
    ("restore to a directory of your own with --to", "restore to a folder of your own"),
    ("a restore asks for all that it needs: holdfast", ""),
    ("holdfast test LOCATION shows what it can do", "a test under Storages shows what it can do"),
    ("for instance --", ""),
];

/// Words for the command line inside a hint, and those for here.
const WORDS: [(&str, &str); 5] = [
    (" (-o port=2222)", ""),
    ("or keep it: holdfast", "keep it: holdfast"),
    ("the same command goes on from there", "the next run goes on from there"),
    ("then run the same command again (docs/s3.md)", "then do the same again"),
    ("this command", "this"),
];

/// A hint in the words of the console; `None` where it is for terminals alone.
pub(crate) fn said(hint: &str) -> Option<String> {
    if let Some((_, other)) = OTHERWISE.iter().find(|(begin, _)| hint.starts_with(begin)) {
        return (!other.is_empty()).then(|| (*other).to_owned());
    }
    let mut text = hint.to_owned();
    for (command, here) in WORDS {
        text = text.replace(command, here);
    }
    if let Some((before, option)) = text.split_once("-o ") {
        let (key, rest) = key(option);
        return Some(field(before, key, rest.strip_prefix('=').unwrap_or(rest)));
    }
    let Some((before, command)) = text.split_once("holdfast ") else { return Some(text) };
    let words: Vec<_> = command.split_whitespace().collect();
    Some(match words.as_slice() {
        ["config", "repository", "set", name, ..] => {
            let (_, rest) = command.split_once(name).unwrap_or_default();
            let (key, rest) = key(rest.trim_start());
            field(before, key, rest.trim_start())
        }
        ["config", "repository", "unset", _, option, ..] => {
            format!("{before}leave «{}» empty in the form of the storage", label(option))
        }
        ["config", "repository", "show", ..] => format!("{before}see the form of the storage"),
        ["at", _, "check", ..] => format!("{before}check it, on its page Repository"),
        ["at", _, "ls", ..] => format!("{before}see Snapshots"),
        ["run", plan, ..] => format!("{before}Run now, in the plan {plan}"),
        ["plan", "show" | "edit", plan, ..] => format!("{before}see the plan {plan}"),
        _ => {
            let before = before.trim_end().trim_end_matches([':', ',']);
            let comma = if before.is_empty() { "" } else { ", " };
            format!("{before}{comma}on the command line: holdfast {command}")
        }
    })
}

/// The name of an option at the beginning of a text, and what follows it.
fn key(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// An option as the field that it is; `rest` begins with its value, if one is meant.
fn field(before: &str, option: &str, rest: &str) -> String {
    let form = "in the form of the storage";
    if let Some(second) = rest.strip_prefix(", and ") {
        return format!("{before}«{}» and «{}» {form}", label(option), label(second));
    }
    let (value, rest) = match rest.find([' ', ';']) {
        Some(end) => rest.split_at_checked(end).unwrap_or((rest, "")),
        None => (rest, ""),
    };
    // FILE stands for any.
    let is_any = value.chars().all(|c| c.is_ascii_uppercase());
    let value = if is_any { String::new() } else { format!(": {value}") };
    format!("{before}«{}» {form}{value}{rest}", label(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_speak_of_what_is_here() {
        for (hint, here) in [
            (
                "set both anew: holdfast config repository set NAME access_key, and secret_access_key",
                "set both anew: «Access key» and «Secret access key» in the form of the storage",
            ),
            (
                "it is in eu-west-1: holdfast config repository set NAME region eu-west-1",
                "it is in eu-west-1: «Region» in the form of the storage: eu-west-1",
            ),
            (
                "for a certificate of your own: holdfast config repository set NAME tls_ca_file FILE \
                 (PEM)",
                "for a certificate of your own: «File with certificate authorities» in the form of \
                 the storage (PEM)",
            ),
            (
                "or none: holdfast config repository unset NAME storage_class",
                "or none: leave «Storage class» empty in the form of the storage",
            ),
            (
                "or keep it: holdfast config repository set NAME password",
                "keep it: «Password» in the form of the storage",
            ),
            (
                "if it is only slow: -o timeout=2m",
                "if it is only slow: «Timeout» in the form of the storage: 2m",
            ),
            (
                "name another key with -o key_file=FILE; for an agent, see: ssh-add -l",
                "name another key with «Key file» in the form of the storage; for an agent, see: \
                 ssh-add -l",
            ),
            (
                "to see whole ids, at once: holdfast at @nas ls --long",
                "to see whole ids, at once: see Snapshots",
            ),
            (
                "to mend it: holdfast at @nas repair index",
                "to mend it, on the command line: holdfast at @nas repair index",
            ),
            (
                "on a machine where it opens, holdfast key list shows which secrets there are",
                "on a machine where it opens, on the command line: holdfast key list shows which \
                 secrets there are",
            ),
            ("check user name and password", "check user name and password"),
        ] {
            assert_eq!(said(hint).as_deref(), Some(here));
        }
        assert_eq!(said("or say --passphrase-file FILE or --key-file FILE"), None);
    }
}
