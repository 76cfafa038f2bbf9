//! Which snapshot is meant, and which path in it: `abc123`, `latest~2:/etc`, `tag:home`,
//! `2026-11-20:/etc`. Filters given beside it apply to every form but an id.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo, select};
use holdfast_engine::tree::view;

use crate::problem::{Class, Problem};
use crate::text::printable;
use crate::times;

/// A snapshot and perhaps a path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Which snapshot.
    pub which: Which,
    /// Normalized absolute path in it, if one was written.
    pub path: Option<Vec<u8>>,
    /// The snapshot's part as it was written.
    pub text: String,
}

/// How a snapshot is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// An id, the start of one, `latest` or `latest~N`.
    Selector(String),
    /// The newest with this tag.
    Tag(String),
    /// The newest of this host.
    Host(String),
    /// The newest that holds this path.
    Path(Vec<u8>),
    /// The newest begun then or before.
    Time(i64),
}

impl Spec {
    /// The newest snapshot, whole.
    pub fn latest() -> Self {
        Self { which: Which::Selector("latest".into()), path: None, text: "latest".into() }
    }

    /// Parses `SNAP` or `SNAP:/path`.
    pub fn parse(text: &OsStr) -> Result<Self, Problem> {
        let bytes = text.as_bytes();
        for (prefix, make) in [("tag:", 0), ("host:", 1), ("path:", 2)] {
            let Some(rest) = bytes.strip_prefix(prefix.as_bytes()) else { continue };
            let (value, path) = split(rest, b":/");
            if value.is_empty() {
                return Err(Problem::usage(format!("{prefix} lacks what comes after it")));
            }
            let which = match make {
                0 => Which::Tag(utf8(value)?),
                1 => Which::Host(utf8(value)?),
                _ => Which::Path(view::normalize(value)),
            };
            return Ok(Self { which, path, text: format!("{prefix}{}", printable(value)) });
        }
        let (mut value, mut path) = split(bytes, b":/");
        if path.is_none() && std::str::from_utf8(value).ok().and_then(times::parse).is_none() {
            (value, path) = split(bytes, b":");
        }
        if value.starts_with(b"/") || value.starts_with(b".") {
            let shown = printable(value);
            return Err(Problem::usage(format!("{shown} is a path, not a snapshot"))
                .hint(format!("write latest:{shown}, or a snapshot's id in place of latest")));
        }
        let value = if value.is_empty() { "latest".to_owned() } else { utf8(value)? };
        let which = match times::parse(&value) {
            Some(time) => Which::Time(time),
            None => Which::Selector(value.to_ascii_lowercase()),
        };
        Ok(Self { which, path, text: value })
    }

    /// The snapshot among `snapshots` (oldest first).
    pub fn find(
        &self,
        snapshots: Vec<SnapshotInfo>,
        filter: &Filter,
    ) -> holdfast_engine::Result<SnapshotInfo> {
        let mut filter = filter.clone();
        let selector = match &self.which {
            Which::Selector(selector) => return select(snapshots, selector, &filter),
            Which::Tag(tag) => {
                filter.tags.push(tag.clone());
                "latest"
            }
            Which::Host(host) => {
                filter.host = Some(host.clone());
                "latest"
            }
            Which::Path(path) => {
                filter.path = Some(path.clone());
                "latest"
            }
            Which::Time(time) => {
                filter.until = Some(filter.until.map_or(*time, |until| until.min(*time)));
                "latest"
            }
        };
        select(snapshots, selector, &filter)
            .map_err(|_| holdfast_engine::Error::NoSuchSnapshot { selector: self.text.clone() })
    }
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> (&'a [u8], Option<Vec<u8>>) {
    match text.windows(at.len()).position(|w| w == at) {
        Some(i) => {
            let path = text.get(i + 1..).unwrap_or_default();
            (text.get(..i).unwrap_or_default(), Some(view::normalize(path)))
        }
        None => (text, None),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        Problem::new(Class::Usage, format!("{} is no name of a snapshot", printable(bytes)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(Which, Option<String>)> {
        let spec = Spec::parse(OsStr::new(text)).ok()?;
        Some((spec.which, spec.path.map(|p| printable(&p))))
    }

    #[test]
    fn specs_split_where_they_should() {
        let selector = |text: &str, path: Option<&str>| {
            Some((Which::Selector(text.into()), path.map(String::from)))
        };
        assert_eq!(parsed("abc123:/etc"), selector("abc123", Some("/etc")));
        assert_eq!(parsed("abc123:etc/"), selector("abc123", Some("/etc")));
        assert_eq!(parsed("abc123:/a:/b"), selector("abc123", Some("/a:/b")));
        assert_eq!(parsed("ABC123"), selector("abc123", None));
        assert_eq!(parsed("latest~2:/"), selector("latest~2", Some("/")));
        assert_eq!(parsed(":/etc"), selector("latest", Some("/etc")));
        let tag = Which::Tag("home".into());
        assert_eq!(parsed("tag:home"), Some((tag.clone(), None)));
        assert_eq!(parsed("tag:home:/x"), Some((tag, Some("/x".into()))));
        assert_eq!(parsed("path:/etc"), Some((Which::Path(b"/etc".into()), None)));
        assert!(parsed("/etc").is_none());
        assert!(parsed("tag:").is_none());
    }

    #[test]
    fn times_keep_their_colons() {
        for text in ["2026-11-20T10:00", "2026-11-20T10:00:00", "2 days ago"] {
            let found = parsed(text);
            assert!(matches!(found, Some((Which::Time(_), None))), "{text}: {found:?}");
            let found = parsed(&format!("{text}:/etc"));
            assert!(matches!(found, Some((Which::Time(_), Some(p))) if p == "/etc"), "{text}");
        }
    }
}
