//! Paths of any bytes in addresses and forms: letters, digits and `/._-` stand for themselves, every
//! other byte is `~` and two digits. Nothing on the way changes such a text, and it comes back whole.

use holdfast_app::text::{printable, shell_word};
use holdfast_engine::tree::split;

/// A path for an address or a field.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                text.push(char::from(*byte));
            }
            byte => text.push_str(&format!("~{byte:02x}")),
        }
    }
    text
}

/// What [`escape`] wrote; what it would not have written stands for itself.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|c| char::from(*c).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'~', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

/// The last name of an absolute path, to be shown.
pub(crate) fn name(path: &[u8]) -> String {
    let name = split(path).1;
    printable(if name.is_empty() { path } else { name })
}

/// The directory that an absolute path lies in.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    match split(path).0 {
        [] => b"/",
        parent => parent,
    }
}

/// The page that shows a path of a snapshot: a folder itself, a file beside what lies around it.
pub(crate) fn link(at: &str, id: &str, path: &[u8], is_folder: bool) -> String {
    match is_folder {
        true => format!("/browse/{at}/{id}?path={}", escape(path)),
        false => {
            format!("/browse/{at}/{id}?path={}&file={}", escape(parent(path)), escape(path))
        }
    }
}

/// `holdfast at @NAME REST`, as it is typed.
pub(crate) fn line(at: &str, rest: &str) -> String {
    format!("holdfast at @{} {rest}", shell_word(at))
}

/// `SNAPSHOT:/path`, as it is typed.
pub(crate) fn spec(snapshot: &str, path: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut bytes = format!("{snapshot}:").into_bytes();
    bytes.extend_from_slice(path);
    shell_word(std::ffi::OsStr::from_bytes(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_comes_back_whole() {
        let all: Vec<u8> = (1..=255).collect();
        for path in [&all[..], b"/home/anna/My files/50% ~off+&?#.txt", b"", b"~", b"~~41"] {
            let text = escape(path);
            assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || b"/._-~".contains(&c)));
            assert_eq!(unescape(&text), path, "{text}");
        }
        assert_eq!(unescape("/a b/~zz~4"), b"/a b/~zz~4");
        assert_eq!((parent(b"/a"), parent(b"/a/b")), (&b"/"[..], &b"/a"[..]));
        assert_eq!(link("nas", "0a", b"/a/b c", true), "/browse/nas/0a?path=/a/b~20c");
        assert_eq!(link("nas", "0a", b"/a/b", false), "/browse/nas/0a?path=/a&file=/a/b");
        assert_eq!((name(b"/"), name(b"/a/b")), ("/".into(), "b".into()));
    }
}
