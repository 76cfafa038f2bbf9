//! `sftp://` and `s3://`: from text to typed locations and back. Nobody is asked and nothing is
//! looked up here; what cannot be right is refused with the form that would be.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use crate::problem::Problem;
use crate::text::printable_os;

/// A path on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemotePath {
    /// From the root: begins with `/`; without `.`, double slashes and a slash at its end.
    Absolute(Vec<u8>),
    /// Below the home directory of whoever signs in; empty for itself.
    Home(Vec<u8>),
}

impl RemotePath {
    /// The path of what lies `below` this one.
    #[must_use]
    pub fn join(&self, below: &[u8]) -> Self {
        let add = |path: &[u8]| {
            let mut path = path.to_vec();
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(below);
            path
        };
        match self {
            _ if below.is_empty() => self.clone(),
            Self::Absolute(path) => Self::Absolute(add(path)),
            Self::Home(path) => Self::Home(add(path)),
        }
    }
}

/// `sftp://[user@][host][:port]/path`. Host, port and user may also come from options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpLocation {
    /// User to sign in as.
    pub user: Option<String>,
    /// Name, address (IPv6 without brackets), or a `Host` of ssh_config.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Where on that machine.
    pub path: RemotePath,
    /// It was written with a slash at its end: what a symbolic link leads to is meant.
    pub follows: bool,
}

/// `s3://endpoint[:port]/bucket[/prefix]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// Name or address of the service (IPv6 without brackets).
    pub endpoint: String,
    /// Port.
    pub port: Option<u16>,
    /// Bucket.
    pub bucket: String,
    /// What all keys begin with, without slashes at its ends; may be empty.
    pub prefix: String,
}

impl SftpLocation {
    /// Parses what follows `sftp://`.
    pub(crate) fn parse(rest: &[u8]) -> Result<Self, Problem> {
        let end = rest.iter().position(|c| *c == b'/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let authority = Authority::parse(authority, "sftp")?;
        let shown = authority.to_string();
        let relative = |why: &str| {
            Problem::usage(format!("sftp://{shown} needs an absolute path on the server: {why}"))
                .hint(format!("write sftp://{shown}/absolute/path"))
                .hint(format!(
                    "or sftp://{shown}/~/path for a path below your home directory there"
                ))
        };
        if path.is_empty() {
            return Err(relative("it has none"));
        }
        let follows = path.ends_with(b"/") && path.iter().any(|c| *c != b'/');
        let (is_home, path) = match path {
            b"/~" => (true, &b""[..]),
            _ => match path.strip_prefix(b"/~/") {
                Some(rest) => (true, rest),
                None if path.starts_with(b"/~") => {
                    return Err(Problem::usage(format!(
                        "sftp://{shown}: only /~/ is known, the home directory of who signs in"
                    ))
                    .hint("write the absolute path of that directory")
                    .hint("or %7E for a name that begins with ~"));
                }
                None => (false, path),
            },
        };
        let mut parts = Vec::new();
        for part in path.split(|c| *c == b'/').filter(|part| !part.is_empty()) {
            let part = percent_decoded(part);
            match part.as_slice() {
                b"." => return Err(relative("/./ is relative to wherever the server puts you")),
                b".." => return Err(relative("`..` may lead anywhere through symbolic links")),
                part if part.iter().any(|c| matches!(c, 0 | b'/')) => {
                    return Err(Problem::usage("a path holds a NUL byte or an encoded slash"));
                }
                _ => parts.push(part),
            }
        }
        let joined = parts.join(&b'/');
        let path = if is_home {
            RemotePath::Home(joined)
        } else {
            RemotePath::Absolute([b"/", joined.as_slice()].concat())
        };
        let Authority { user, host, port } = authority;
        Ok(Self { user, host, port, path, follows })
    }
}

impl fmt::Display for SftpLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, path, follows } = self;
        let authority = Authority { user: user.clone(), host: host.clone(), port: *port };
        let path = match path {
            RemotePath::Absolute(path) => {
                // A name that begins with ~ is not home.
                let path = encoded(path);
                path.strip_prefix("/~").map(|rest| format!("/%7E{rest}")).unwrap_or(path)
            }
            RemotePath::Home(path) if path.is_empty() => "/~".into(),
            RemotePath::Home(path) => format!("/~/{}", encoded(path)),
        };
        write!(f, "sftp://{authority}{path}{}", if *follows { "/" } else { "" })
    }
}

impl S3Location {
    /// Parses what follows `s3://`.
    pub(super) fn parse(rest: &[u8]) -> Result<Self, Problem> {
        const FORM: &str = "write s3://endpoint[:port]/bucket[/prefix]";
        let mut parts = rest.splitn(3, |c| *c == b'/');
        let authority = parts.next().unwrap_or_default();
        if authority.contains(&b'@') {
            return Err(Problem::usage(
                "an s3:// location takes no keys: they would land in the shell's history, in \
                 listings and in logs",
            )
            .hint(
                "put them into the configuration: holdfast config repository set NAME access_key",
            ));
        }
        let Authority { host, port, .. } = Authority::parse(authority, "s3")?;
        let text = |part: Option<&[u8]>| {
            String::from_utf8(percent_decoded(part.unwrap_or_default()))
                .map_err(|_| Problem::usage("an s3:// location must be UTF-8"))
        };
        let bucket = text(parts.next())?;
        let prefix = text(parts.next())?;
        let Some(endpoint) = host else {
            return Err(Problem::usage("the s3:// location names no endpoint").hint(FORM));
        };
        // A name without dots is nearly always a bucket, written as other programs take it.
        let is_address = endpoint.contains(['.', ':']) || port.is_some() || endpoint == "localhost";
        if !is_address {
            let rest = if bucket.is_empty() { String::new() } else { format!("/{bucket}") };
            return Err(Problem::usage(format!(
                "s3://{endpoint}{rest} names no endpoint: {endpoint} looks like a bucket"
            ))
            .hint(format!("for AWS write s3://s3.REGION.amazonaws.com/{endpoint}{rest}"))
            .hint(format!("elsewhere write s3://ENDPOINT[:PORT]/{endpoint}{rest}"))
            .hint(format!("if {endpoint} is a host, write its port: s3://{endpoint}:443/BUCKET")));
        }
        let is_valid = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if bucket.is_empty() || !bucket.chars().all(is_valid) {
            let what = if bucket.is_empty() { "names no bucket" } else { "names no valid bucket" };
            return Err(Problem::usage(format!("s3://{endpoint} {what}")).hint(FORM));
        }
        if prefix.contains('\0') {
            return Err(Problem::usage("an s3:// location holds a NUL byte"));
        }
        Ok(Self { endpoint, port, bucket, prefix: prefix.trim_matches('/').to_owned() })
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = Some(self.endpoint.clone());
        let authority = Authority { user: None, host, port: self.port };
        write!(f, "s3://{authority}/{}", self.bucket)?;
        if self.prefix.is_empty() {
            return Ok(());
        }
        write!(f, "/{}", encoded(self.prefix.as_bytes()))
    }
}

/// `[user@][host][:port]`.
struct Authority {
    user: Option<String>,
    host: Option<String>,
    port: Option<u16>,
}

impl Authority {
    fn parse(text: &[u8], scheme: &str) -> Result<Self, Problem> {
        let at = text.iter().rposition(|c| *c == b'@');
        let user = at.and_then(|at| text.get(..at));
        let address = at.map_or(text, |at| text.get(at + 1..).unwrap_or_default());
        if user.is_some_and(|user| user.contains(&b':')) {
            // The text is not shown: it holds the password.
            return Err(Problem::usage(format!(
                "an {scheme}:// location takes no password: it would land in the shell's \
                 history, in listings and in logs"
            ))
            .hint("leave it out to be asked for it")
            .hint(
                "or put it into the configuration: holdfast config repository set NAME password",
            ));
        }
        let user = user.map(|user| name(&percent_decoded(user), "user")).transpose()?;
        let address = std::str::from_utf8(address)
            .map_err(|_| Problem::usage("the name of a host must be UTF-8"))?;
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None => return Err(Problem::usage(format!("{address} is no address"))),
            },
            None => match address.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(Problem::usage(format!("{address} is no name of a host"))
                        .hint(format!("an IPv6 address goes into brackets: [{address}]")));
                }
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            },
        };
        let host = if host.is_empty() { None } else { Some(name(host.as_bytes(), "host")?) };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
                // What stands there may be a password with a slash in it.
                Problem::usage(format!("what follows the host of this {scheme}:// is no port"))
                    .hint(format!("a path begins with a slash: {scheme}://host/absolute/path"))
            })?),
        };
        Ok(Self { user, host, port })
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            let user = encoded(user.as_bytes());
            write!(f, "{}@", user.replace('/', "%2F").replace(':', "%3A").replace('@', "%40"))?;
        }
        match self.host.as_deref() {
            Some(host) if host.contains(':') => write!(f, "[{host}]")?,
            host => f.write_str(host.unwrap_or_default())?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The name of a user or a host, from a location or an option. One that begins with a dash could
/// be taken for an option by a program that we start.
pub(crate) fn name(bytes: &[u8], what: &str) -> Result<String, Problem> {
    let valid = |c: char| !c.is_control() && !(what == "host" && (c.is_whitespace() || c == '/'));
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.starts_with('-') && text.chars().all(valid) => {
            Ok(text.to_owned())
        }
        _ => {
            let shown = printable_os(OsStr::from_bytes(bytes));
            Err(Problem::usage(format!("{shown:?} is no name of a {what}")))
        }
    }
}

/// Bytes from text with `%NN`. A percent sign before anything else stands for itself.
pub(super) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |c: Option<&u8>| c.and_then(|c| char::from(*c).to_digit(16));
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
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

/// A path as text that [`percent_decoded`] reads back. Letters of any script stay readable.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        bytes.iter().for_each(|byte| text.push_str(&format!("%{byte:02X}")));
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c.is_whitespace() || "%?#\"<>\\^`{|}".contains(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sftp(text: &str) -> Result<SftpLocation, String> {
        SftpLocation::parse(text.as_bytes()).map_err(|p| p.message)
    }

    fn s3(text: &str) -> Result<String, String> {
        S3Location::parse(text.as_bytes()).map(|l| format!("{l:?}")).map_err(|p| p.message)
    }

    #[test]
    fn every_part_of_an_sftp_location_is_found() -> Result<(), String> {
        let absolute = |path: &[u8]| RemotePath::Absolute(path.to_vec());
        let full = sftp("backup@nas.example.com:2222/volume1//holdfast/")?;
        assert_eq!(full.user.as_deref(), Some("backup"));
        assert_eq!(full.host.as_deref(), Some("nas.example.com"));
        assert_eq!((full.port, full.follows), (Some(2222), true));
        assert_eq!(full.path, absolute(b"/volume1/holdfast"));
        let bytes = sftp("DOM%5Canna%40x@[fe80::1%eth0]:22/a%20b%ff%2x?#")?;
        assert_eq!(bytes.user.as_deref(), Some("DOM\\anna@x"));
        assert_eq!(bytes.host.as_deref(), Some("fe80::1%eth0"));
        assert_eq!(bytes.path, absolute(b"/a b\xff%2x?#"));
        let home = |path: &[u8]| RemotePath::Home(path.to_vec());
        assert_eq!(sftp("h/~/etc")?.path, home(b"etc"));
        assert_eq!((sftp("h/~")?.path, sftp("h/~/")?.path), (home(b""), home(b"")));
        assert_eq!(sftp("h/%7Eanna")?.path, absolute(b"/~anna"));
        let root = sftp("h/")?;
        assert_eq!((root.path, root.follows), (absolute(b"/"), false));
        assert_eq!(sftp("/volume1/x")?.host, None);
        Ok(())
    }

    #[test]
    fn what_is_relative_or_unsafe_is_refused() {
        for text in ["h", "h:22", "anna@h", "h/./etc", "h/etc/../x", "h/%2e/x"] {
            let problem = SftpLocation::parse(text.as_bytes()).err();
            let problem = problem.unwrap_or_else(|| Problem::usage(""));
            assert!(problem.message.contains("needs an absolute path"), "{text}: {problem}");
            assert!(problem.hints.iter().any(|h| h.contains("/absolute/path")), "{text}");
        }
        for (text, part) in [
            ("h:etc/x", "is no port"),
            ("h:0/x", "is no port"),
            ("h:65536/x", "is no port"),
            ("fe80::1/x", "is no name of a host"),
            ("-oProxyCommand=x/y", "is no name of a host"),
            ("-l@h/x", "is no name of a user"),
            ("h/~anna/x", "only /~/"),
            ("h/a%00b", "NUL"),
            ("h/a%2fb", "encoded slash"),
            ("[::1]x/y", "is no address"),
        ] {
            assert!(sftp(text).is_err_and(|m| m.contains(part)), "{text}: {:?}", sftp(text));
        }
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in ["anna:hunter2@h/x", "anna:hun@ter2@h/x", ":hunter2@h/x"] {
            let problem = SftpLocation::parse(text.as_bytes()).err();
            let text = problem.map(|p| format!("{p:?}")).unwrap_or_default();
            assert!(text.contains("no password") && !text.contains("ter2"), "{text}");
        }
        assert!(s3("AK:secret@s3.x.com/b").is_err_and(|m| m.contains("no keys")));
    }

    #[test]
    fn what_is_shown_reads_back() -> Result<(), String> {
        for text in [
            "h/",
            "anna@h:22/a",
            "h/a%20b%FF%25/ü/",
            "[::1]:22/~/x",
            "h/~",
            "h/%7Ex",
            "a%2Fb%3Ac%40d@h/x",
            "/x",
        ] {
            let parsed = sftp(text)?;
            assert_eq!(parsed.to_string(), format!("sftp://{text}"));
        }
        let all: Vec<u8> = (1..=255).filter(|c| *c != b'/').collect();
        let path = RemotePath::Absolute([b"/", all.as_slice()].concat());
        let location = SftpLocation { path, ..sftp("h/")? };
        let shown = location.to_string();
        assert_eq!(sftp(shown.strip_prefix("sftp://").unwrap_or_default())?, location);
        Ok(())
    }

    #[test]
    fn s3_locations_name_endpoint_and_bucket() -> Result<(), String> {
        let location = |text: &str| S3Location::parse(text.as_bytes()).map_err(|p| p.message);
        let full = location("localhost:9000/mybucket/a%20b/c/")?;
        assert_eq!((full.endpoint.as_str(), full.port), ("localhost", Some(9000)));
        assert_eq!((full.bucket.as_str(), full.prefix.as_str()), ("mybucket", "a b/c"));
        assert_eq!(full.to_string(), "s3://localhost:9000/mybucket/a%20b/c");
        assert_eq!(location("s3.fr-par.scw.cloud/mysuperbucket")?.prefix, "");
        assert!(location("minio:9000/b").is_ok() && location("[::1]:9000/b").is_ok());
        let dotless = S3Location::parse(b"mybucket/x").err().unwrap_or_else(|| Problem::usage(""));
        assert!(dotless.message.contains("names no endpoint"), "{dotless}");
        let hint = "for AWS write s3://s3.REGION.amazonaws.com/mybucket/x";
        assert!(dotless.hints.iter().any(|h| h == hint), "{:?}", dotless.hints);
        assert!(s3("s3.x.com").is_err_and(|m| m.contains("no bucket")));
        assert!(s3("s3.x.com/b%20d").is_err_and(|m| m.contains("no valid bucket")));
        assert!(s3("/b").is_err_and(|m| m.contains("no endpoint")));
        Ok(())
    }
}
