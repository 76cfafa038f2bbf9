//! Keys of a bucket as paths of a tree, and back, without loss.
//!
//! A key is split at its slashes. A part that cannot be the name of a file is written with a
//! sequence that begins with `%s3:`: an empty part is `%s3:empty`, `.` and `..` are `%s3:dot` and
//! `%s3:dots`, a NUL is `%s3:nul`, and of an object `a` beside objects `a/…` the name is
//! `a%s3:object`. The text `%s3:` in a key itself is written `%s3:percent` and `s3:`. All other
//! parts are names as they are, so two keys never become one path.

/// What all sequences begin with.
const MARK: &str = "%s3:";
const EMPTY: &str = "%s3:empty";
const DOT: &str = "%s3:dot";
const DOTS: &str = "%s3:dots";
const NUL: &str = "%s3:nul";
const PERCENT: &str = "%s3:percent";
/// Ends the name of an object of whose name there is a directory too.
const OBJECT: &str = "%s3:object";

/// The name for one part of a key.
pub(super) fn name_of(part: &str) -> String {
    match part {
        "" => EMPTY.into(),
        "." => DOT.into(),
        ".." => DOTS.into(),
        _ if !part.contains(['\0', '%']) => part.into(),
        _ => part.replace(MARK, &format!("{PERCENT}s3:")).replace('\0', NUL),
    }
}

/// The name for the last part of a key that is also a directory's.
pub(super) fn object_name_of(part: &str) -> String {
    name_of(part) + OBJECT
}

/// Whether the last name of a path was made by [`object_name_of`].
pub(super) fn is_object_beside_directory(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = std::str::from_utf8(name).unwrap_or_default();
    name.ends_with(OBJECT) && part_of(name) != name
}

/// The part of a key that a name stands for. A name that no part becomes stands for itself.
fn part_of(name: &str) -> String {
    if !name.contains(MARK) {
        return name.into();
    }
    let plain = name.strip_suffix(OBJECT).unwrap_or(name);
    let part = match plain {
        EMPTY => String::new(),
        DOT => ".".into(),
        DOTS => "..".into(),
        _ => plain.replace(NUL, "\0").replace(PERCENT, "%"),
    };
    if name_of(&part) == plain { part } else { name.into() }
}

/// The key that a path stands for. `None` if it is not UTF-8: no key is.
pub(super) fn key_of(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let parts: Vec<_> = path.split('/').map(part_of).collect();
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn path_of(key: &str) -> String {
        let parts: Vec<_> = key.split('/').map(name_of).collect();
        parts.join("/")
    }

    #[test]
    fn odd_parts_have_names_that_can_be_read() {
        for (key, path) in [
            ("a/b.txt", "a/b.txt"),
            ("100%/a%20b", "100%/a%20b"),
            ("a//b", "a/%s3:empty/b"),
            ("/a", "%s3:empty/a"),
            ("dir/", "dir/%s3:empty"),
            ("./../...", "%s3:dot/%s3:dots/..."),
            ("x\0y", "x%s3:nuly"),
            ("%s3:empty", "%s3:percents3:empty"),
            ("\u{1f980}/é", "\u{1f980}/é"),
        ] {
            assert_eq!(path_of(key), path);
            assert_eq!(key_of(path.as_bytes()).as_deref(), Some(key));
        }
        assert_eq!(object_name_of("a"), "a%s3:object");
        assert_eq!(key_of(b"d/a%s3:object").as_deref(), Some("d/a"));
        assert_eq!(object_name_of(""), "%s3:empty%s3:object");
        assert_eq!(key_of(b"%s3:empty%s3:object").as_deref(), Some(""));
        assert_eq!(key_of(b"\xff"), None);
        // Names of files that no key becomes.
        for name in ["%s3:", "a%s3:what", "x%s3:emptyx", "a%s3:percent"] {
            assert_eq!(key_of(name.as_bytes()).as_deref(), Some(name));
        }
    }

    #[test]
    fn no_two_keys_become_one_path() {
        let pieces =
            ["", "a", ".", "/", "\0", "%", "s3:", "%s3:", "empty", "percent", "nul", "object"];
        let mut seen = HashMap::new();
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    for d in pieces {
                        let key = [a, b, c, d].concat();
                        let path = path_of(&key);
                        assert!(!path.contains('\0'), "{path:?}");
                        let odd = |name: &str| matches!(name, "" | "." | "..");
                        assert!(!path.split('/').any(odd), "{key:?} is {path:?}");
                        assert_eq!(key_of(path.as_bytes()).as_deref(), Some(&key[..]));
                        let before = seen.insert(path.clone(), key.clone());
                        assert!(before.is_none_or(|before| before == key), "{path:?}");
                        let last = key.rsplit('/').next().unwrap_or_default();
                        let object = object_name_of(last);
                        assert_eq!(part_of(&object), last, "{object:?}");
                    }
                }
            }
        }
    }
}
