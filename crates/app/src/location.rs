//! Locations: one syntax for repositories, sources and destinations. A path, `file://`, `-`
//! (standard input), `sftp://`, `s3://`, and `@name` or `@name:/sub/path` for what the
//! configuration holds. [`crate::resolve`] turns them into places that can be opened.

mod fields;
pub(crate) mod url;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::problem::Problem;
use crate::text::printable_os;

use self::url::percent_decoded;
pub use self::url::{RemotePath, S3Location, SftpLocation};

/// Where something is, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local path, as it was written.
    Local(PathBuf),
    /// Standard input.
    Stream,
    /// A path on another machine.
    Sftp(SftpLocation),
    /// A bucket, or a part of one.
    S3(S3Location),
    /// An entry of the configuration.
    Named {
        /// Its name.
        name: String,
        /// What below it is meant: names joined by `/`, without a slash at its ends; may be
        /// empty.
        below: Vec<u8>,
    },
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
        if let Some(named) = bytes.strip_prefix(b"@") {
            return parse_named(named);
        }
        if let Some((scheme, rest)) = split_scheme(bytes) {
            return match scheme.to_ascii_lowercase().as_str() {
                "file" => parse_file_url(text, rest),
                "sftp" => SftpLocation::parse(rest).map(Self::Sftp),
                "s3" => S3Location::parse(rest).map(Self::S3),
                other => Err(Problem::usage(format!("{other}:// is no known kind of location"))
                    .hint("write a path, file://, sftp://user@host/path, s3://endpoint/bucket or @name")),
            };
        }
        if let Some(problem) = scp_form(text) {
            return Err(problem);
        }
        Ok(Self::Local(PathBuf::from(text)))
    }
}

/// What follows `@`: `name`, or `name:/sub/path`.
fn parse_named(text: &[u8]) -> Result<Location, Problem> {
    let end = text.iter().position(|c| *c == b':').unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or((text, b""));
    let name = printable_os(OsStr::from_bytes(name));
    if name.contains('/') {
        let shown = printable_os(OsStr::from_bytes(text));
        return Err(Problem::usage(format!("@{shown} is no named location"))
            .hint(format!("for a path below one write @{}", shown.replacen('/', ":/", 1)))
            .hint(format!("for a local file of that name write ./@{shown}")));
    }
    if name.is_empty() {
        return Err(Problem::usage("a location names nothing after @")
            .hint("to see what the configuration holds: holdfast config repository list"));
    }
    let below = match rest {
        [] | [b':'] => b"",
        [b':', b'/', below @ ..] => below,
        _ => {
            return Err(Problem::usage(format!("what follows @{name}: must begin with a slash"))
                .hint(format!("write @{name}:/sub/path")));
        }
    };
    let parts: Vec<_> =
        below.split(|c| *c == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(Problem::usage(format!("a path below @{name} cannot hold `..`")));
    }
    Ok(Location::Named { name, below: parts.join(&b'/') })
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
    let path = percent_decoded(path);
    if path.contains(&0) {
        return Err(Problem::usage("a location holds a NUL byte"));
    }
    Ok(Location::Local(PathBuf::from(OsString::from_vec(path))))
}

/// `host:dir` looks like what `scp` takes. A file of that name is meant if there is one.
fn scp_form(text: &OsStr) -> Option<Problem> {
    let shown = text.to_str()?;
    let (host, path) = shown.split_once(':')?;
    if host.contains('/') || host.is_empty() || Path::new(text).symlink_metadata().is_ok() {
        return None;
    }
    let text = format!(
        "{shown} looks like a place on another machine, which needs an absolute path and sftp://"
    );
    Some(
        Problem::usage(text)
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
        let named = |name: &str, below: &str| {
            Ok(Location::Named { name: name.into(), below: below.as_bytes().to_vec() })
        };
        assert_eq!(parsed("@nas"), named("nas", ""));
        assert_eq!(parsed("@nas:/a//b/./c/"), named("nas", "a/b/c"));
        assert_eq!(parsed("@nas:/"), named("nas", ""));
        assert!(matches!(parsed("sftp://u@h/etc"), Ok(Location::Sftp(_))));
        assert!(matches!(parsed("S3://s3.x.com/bucket"), Ok(Location::S3(_))));
        assert!(parsed("@").is_err());
        assert!(parsed("@nas/x").is_err_and(|m| m.contains("no named location")));
        assert!(parsed("@nas:x").is_err_and(|m| m.contains("begin with a slash")));
        assert!(parsed("@nas:/a/../b").is_err_and(|m| m.contains("..")));
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
}
