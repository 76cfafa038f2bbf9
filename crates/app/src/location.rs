//! Locations: one syntax for repositories, sources and destinations. A path, `file://`, `-`
//! (standard input), `sftp://`, `s3://`, and `@name` for what the configuration holds. This
//! version opens local paths; the others are recognised, so that nobody gets a directory called
//! `sftp:`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_connectors::local::storage::LocalStorage;
use holdfast_engine::storage::Storage;

use crate::problem::{Class, Problem};
use crate::text::printable_os;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local path, as it was written.
    Local(PathBuf),
    /// Standard input.
    Stream,
    /// Another machine or service: the scheme and the whole text.
    Remote {
        /// `sftp` or `s3`.
        scheme: &'static str,
        /// As it was written.
        text: String,
    },
    /// An entry of the configuration.
    Named(String),
}

impl Location {
    /// Parses a location.
    pub fn parse(text: &OsStr) -> Result<Self, Problem> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(Problem::usage("a location is empty"));
        }
        if bytes.contains(&0) {
            return Err(Problem::usage("a location holds a NUL byte"));
        }
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        if let Some(name) = bytes.strip_prefix(b"@") {
            return Ok(Self::Named(printable_os(OsStr::from_bytes(name))));
        }
        if let Some((scheme, rest)) = split_scheme(bytes) {
            return match scheme.to_ascii_lowercase().as_str() {
                "file" => parse_file_url(text, rest),
                "sftp" => Ok(Self::Remote { scheme: "sftp", text: printable_os(text) }),
                "s3" => Ok(Self::Remote { scheme: "s3", text: printable_os(text) }),
                other => Err(Problem::usage(format!("{other}:// is no known kind of location"))
                    .hint("write a path, file://, sftp://user@host/path, s3://endpoint/bucket or @name")),
            };
        }
        if let Some(problem) = scp_form(text) {
            return Err(problem);
        }
        Ok(Self::Local(PathBuf::from(text)))
    }

    /// The local path; a problem that says what is missing for anything else. `role` is
    /// "repository", "source" or "destination".
    pub fn local(&self, role: &str) -> Result<&Path, Problem> {
        match self {
            Self::Local(path) => Ok(path),
            Self::Stream => Err(Problem::usage(format!("`-` cannot be a {role}"))),
            Self::Remote { scheme, text } => Err(Problem::new(
                Class::Unsupported,
                format!("{text}: {scheme}:// is not in this version of holdfast"),
            )
            .hint(format!("use a local path as the {role}, for instance a mounted folder"))),
            Self::Named(name) => Err(Problem::new(
                Class::Unsupported,
                format!("@{name}: named locations are not in this version of holdfast"),
            )
            .hint(format!("write the {role}'s path itself"))),
        }
    }

    /// What holds a repository's objects there. Nothing is read or written yet.
    pub fn storage(&self) -> Result<Arc<dyn Storage>, Problem> {
        Ok(Arc::new(LocalStorage::new(absolute(self.local("repository")?))))
    }

    /// As it can be typed again.
    pub fn text(&self) -> OsString {
        match self {
            Self::Local(path) => path.clone().into_os_string(),
            Self::Stream => "-".into(),
            Self::Remote { text, .. } => text.into(),
            Self::Named(name) => format!("@{name}").into(),
        }
    }
}

/// The path from the root, without `.`, `..` and double slashes, and without a look at the disk.
pub fn absolute(path: &Path) -> PathBuf {
    let mut full = if path.is_absolute() {
        PathBuf::from("/")
    } else {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    };
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                full.pop();
            }
            std::path::Component::Normal(name) => full.push(name),
            _ => {}
        }
    }
    full
}

fn split_scheme(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let at = bytes.windows(3).position(|w| w == b"://")?;
    let scheme = std::str::from_utf8(bytes.get(..at)?).ok()?;
    let valid = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(valid))
        .then_some((scheme, bytes.get(at + 3..)?))
}

fn parse_file_url(text: &OsStr, rest: &[u8]) -> Result<Location, Problem> {
    let path = rest.strip_prefix(b"localhost").filter(|p| p.starts_with(b"/")).unwrap_or(rest);
    if !path.starts_with(b"/") {
        return Err(Problem::usage(format!(
            "{}: a file:// path must be absolute",
            printable_os(text)
        ))
        .hint("write file:///path, or the path alone"));
    }
    Ok(Location::Local(PathBuf::from(OsString::from_vec(percent_decoded(path)))))
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) if high + low > 0 => {
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// `host:dir` looks like what `scp` takes. A file of that name is meant if there is one.
fn scp_form(text: &OsStr) -> Option<Problem> {
    let shown = text.to_str()?;
    let (host, path) = shown.split_once(':')?;
    if host.contains('/') || host.is_empty() || Path::new(text).symlink_metadata().is_ok() {
        return None;
    }
    Some(
        Problem::usage(format!("{shown} looks like a place on another machine"))
            .hint(format!(
                "write sftp://{host}/{} with an absolute path",
                path.trim_start_matches('/')
            ))
            .hint(format!("or ./{shown} if you mean a local file of that name")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Location, String> {
        Location::parse(OsStr::new(text)).map_err(|p| p.message)
    }

    #[test]
    fn every_kind_is_recognised() {
        let local = |path: &str| Ok(Location::Local(path.into()));
        assert_eq!(parsed("/var/plakar"), local("/var/plakar"));
        assert_eq!(parsed("rel/dir"), local("rel/dir"));
        assert_eq!(parsed("~x"), local("~x"));
        assert_eq!(parsed("./a:b"), local("./a:b"));
        assert_eq!(parsed("file:///a%20b/c%"), local("/a b/c%"));
        assert_eq!(parsed("file://localhost/a"), local("/a"));
        assert_eq!(parsed("-"), Ok(Location::Stream));
        assert_eq!(parsed("@nas"), Ok(Location::Named("nas".into())));
        for (text, scheme) in [("sftp://u@h/etc", "sftp"), ("s3://s3.x.com/bucket", "s3")] {
            assert_eq!(parsed(text), Ok(Location::Remote { scheme, text: text.into() }));
        }
        assert!(parsed("file://etc").is_err());
        assert!(parsed("ftp://x/y").is_err_and(|m| m.contains("ftp://")));
        assert!(parsed("").is_err());
        assert!(parsed("anna@nas:backups").is_err_and(|m| m.contains("another machine")));
    }

    #[test]
    fn paths_are_made_absolute_without_the_disk() {
        assert_eq!(absolute(Path::new("/a//b/./c/../d/")), PathBuf::from("/a/b/d"));
        assert_eq!(absolute(Path::new("/../..")), PathBuf::from("/"));
        assert!(absolute(Path::new("x")).ends_with("x"));
    }

    #[test]
    fn what_is_not_built_yet_says_so() {
        let problem = parsed("sftp://h/x").ok().and_then(|l| l.local("repository").err());
        let problem = problem.unwrap_or_else(|| Problem::usage(""));
        assert_eq!(problem.class, Class::Unsupported);
        assert!(problem.message.contains("not in this version"), "{problem}");
    }
}
