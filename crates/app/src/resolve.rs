//! From a location as it was written to a place that can be opened: what the configuration says
//! of it is filled in, `-o` on top, and the whole is checked.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::keys::Kind;
use crate::config::{Config, Options};
use crate::location::url::name;
use crate::location::{Location, RemotePath, S3Location, SftpLocation};
use crate::problem::{Class, Problem};
use crate::text::printable_os;

/// A directory on an SFTP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SftpPlace {
    /// User to sign in as, if it is said; else what ssh_config or the system says.
    pub user: Option<String>,
    /// Name, address (IPv6 without brackets), or a `Host` of ssh_config.
    pub host: String,
    /// Port, if it is said.
    pub port: Option<u16>,
    /// Where on that machine.
    pub path: RemotePath,
    /// It was written with a slash at its end: what a symbolic link leads to is meant.
    pub follows: bool,
}

/// Where something is, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A path of this machine.
    Local(PathBuf),
    /// Standard input.
    Stream,
    /// A directory or file on an SFTP server.
    Sftp(SftpPlace),
    /// A bucket, or a part of one.
    S3(S3Location),
}

impl Place {
    /// What kind it is; `None` for standard input.
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Local(_) => Kind::Local,
            Self::Sftp(_) => Kind::Sftp,
            Self::S3(_) => Kind::S3,
            Self::Stream => return None,
        })
    }

    /// The origin that a snapshot of it names: the kind, and the host; `None` for this machine.
    /// Places of one origin are one snapshot.
    pub fn origin(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Local(_) => ("local", None),
            Self::Stream => ("stdin", None),
            Self::Sftp(at) => ("sftp", Some(at.host.clone())),
            Self::S3(S3Location { endpoint, port: Some(port), .. }) => {
                ("s3", Some(format!("{endpoint}:{port}")))
            }
            Self::S3(at) => ("s3", Some(at.endpoint.clone())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => f.write_str(&printable_os(path)),
            Self::Stream => f.write_str("standard input"),
            Self::Sftp(place) => place.fmt(f),
            Self::S3(place) => place.fmt(f),
        }
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, path, follows } = self.clone();
        SftpLocation { user, host: Some(host), port, path, follows }.fmt(f)
    }
}

/// A place with all that is known of how to get there. Shown as its location, without secrets.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Where it is.
    pub place: Place,
    /// Its options, checked for this kind of place. Host, port and user are in `place`.
    pub options: Options,
    /// Its name in the configuration, if it was named.
    pub name: Option<String>,
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl Resolved {
    /// Resolves a location. A named one needs the configuration; `overrides` are the options of
    /// the command line for this location, or none.
    pub fn new(
        location: &Location,
        config: Option<&Config>,
        overrides: &Options,
    ) -> Result<Self, Problem> {
        let Location::Named { name, below } = location else {
            return Self::complete(location.clone(), Options::new(""), overrides, None);
        };
        let config = config.ok_or_else(|| {
            Problem::usage(format!("@{name}: there is no configuration, since HOME is not set"))
                .hint("say --config FILE")
        })?;
        let entry = config.expect(name)?;
        let options = entry.options()?;
        let inner = entry.location()?;
        let name = entry.name().to_owned();
        let mut resolved = Self::complete(inner, options, overrides, Some(name))?;
        if !below.is_empty() {
            resolved.place = inside(resolved.place, below)?;
        }
        Ok(resolved)
    }

    fn complete(
        location: Location,
        options: Options,
        overrides: &Options,
        named: Option<String>,
    ) -> Result<Self, Problem> {
        let merged = options.clone().overridden_by(overrides);
        let place = match location {
            Location::Local(path) => match merged.text("host") {
                Some(_) if path.is_absolute() => {
                    let encoded = encode_percent(path.as_os_str().as_bytes());
                    complete_sftp(SftpLocation::parse(&encoded)?, &merged, overrides)?
                }
                _ => Place::Local(path),
            },
            Location::Stream => Place::Stream,
            Location::Sftp(location) => complete_sftp(location, &merged, overrides)?,
            Location::S3(location) => Place::S3(location),
            Location::Named { name, .. } => {
                return Err(Problem::usage(format!("@{name} cannot stand for another name")));
            }
        };
        if let Some(kind) = place.kind() {
            merged.check_kind(kind)?;
        }
        Ok(Self { place, options: merged, name: named })
    }

    /// The path of a local place; for others, what to say where only those will do. `role` is
    /// "repository", "source", "destination" or "place".
    pub fn local(&self, role: &str) -> Result<&Path, Problem> {
        match &self.place {
            Place::Local(path) => Ok(path),
            _ => Err(self.refused(role)),
        }
    }

    /// What to say of a place that cannot be opened as a `role`, as for [`local`](Self::local).
    pub fn refused(&self, role: &str) -> Problem {
        let scheme = match &self.place {
            Place::Stream => return Problem::usage(format!("`-` cannot be a {role}")),
            place => place.kind().map_or(String::new(), |kind| kind.to_string()),
        };
        let text = format!("{self}: {scheme}:// as a {role} is not in this version of holdfast");
        Problem::new(Class::Unsupported, text)
            .hint(format!("use a local path as the {role}, for instance a mounted folder"))
    }
}

/// A percent sign in a plain path is no escape.
fn encode_percent(path: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b'%' => encoded.extend_from_slice(b"%25"),
            byte => encoded.push(*byte),
        }
    }
    encoded
}

/// Fills in what options say of host, port and user. What is said twice must be the same, unless
/// the command line says it.
fn complete_sftp(
    location: SftpLocation,
    options: &Options,
    overrides: &Options,
) -> Result<Place, Problem> {
    let SftpLocation { user, host, port, path, follows } = location;
    let twice = |what: &str, in_location: &str, in_option: &str| {
        let text = format!("the location says {what} {in_location}, its option {what} {in_option}");
        Problem::new(Class::Configuration, text)
            .hint(format!("take one out: holdfast config repository unset NAME {what}"))
    };
    let choose = |what: &str, given: Option<String>, option: Option<String>| match (given, option) {
        (given, _) if overrides.has(what) => Ok(overrides.text(what).map(String::from).or(given)),
        (Some(given), Some(option)) if given != option => Err(twice(what, &given, &option)),
        (given, option) => Ok(given.or(option)),
    };
    let host = choose("host", host, options.text("host").map(String::from))?;
    let user = choose("username", user, options.text("username").map(String::from))?;
    let in_option = options.number("port").and_then(|port| u16::try_from(port).ok());
    let port = match (port, in_option) {
        (_, Some(option)) if overrides.has("port") => Some(option),
        (Some(given), Some(option)) if given != option => {
            return Err(twice("port", &given.to_string(), &option.to_string()));
        }
        (given, option) => given.or(option),
    };
    let Some(host) = host else {
        return Err(Problem::usage("the sftp:// location names no host")
            .hint("write sftp://[user@]host/absolute/path")
            .hint("or set it: holdfast config repository set NAME host HOST"));
    };
    let host = name(host.as_bytes(), "host")?;
    let user = user.map(|user| name(user.as_bytes(), "user")).transpose()?;
    Ok(Place::Sftp(SftpPlace { user, host, port, path, follows }))
}

/// What lies `below` a place.
fn inside(place: Place, below: &[u8]) -> Result<Place, Problem> {
    Ok(match place {
        Place::Local(path) => Place::Local(path.join(OsStr::from_bytes(below))),
        Place::Sftp(place) => {
            Place::Sftp(SftpPlace { path: place.path.join(below), follows: false, ..place })
        }
        Place::S3(place) => {
            let below = std::str::from_utf8(below)
                .map_err(|_| Problem::usage("a path below an s3:// location must be UTF-8"))?;
            let prefix = match place.prefix.as_str() {
                "" => below.to_owned(),
                prefix => format!("{prefix}/{below}"),
            };
            Place::S3(S3Location { prefix, ..place })
        }
        Place::Stream => place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(file: &str, location: &str, words: &[&str]) -> Result<Resolved, String> {
        let attempt = || -> Result<Resolved, Box<dyn std::error::Error>> {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("config.toml");
            std::fs::write(&path, format!("[repository.n]\n{file}"))?;
            let config = Config::load(&path, Some("/home/a".into()))?;
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            let overrides = Options::from_words(&words, None)?;
            Ok(Resolved::new(&Location::parse(location.as_ref())?, Some(&config), &overrides)?)
        };
        attempt().map_err(|e| e.to_string())
    }

    fn shown(file: &str, location: &str, words: &[&str]) -> Result<String, String> {
        resolved(file, location, words).map(|r| r.to_string())
    }

    #[test]
    fn what_lies_below_a_named_location() {
        for (file, place) in [
            ("location = '/a'", "/a/b/c"),
            ("location = '~/a'", "/home/a/a/b/c"),
            ("location = 'file:///a%20'", "/a /b/c"),
            ("location = 'sftp://h/'", "sftp://h/b/c"),
            ("location = 'sftp://h/~'", "sftp://h/~/b/c"),
            ("location = 'sftp://h/x/'", "sftp://h/x/b/c"),
            ("location = 's3://s3.x.com/b'", "s3://s3.x.com/b/b/c"),
            ("location = 's3://s3.x.com/b/p'", "s3://s3.x.com/b/p/b/c"),
        ] {
            assert_eq!(shown(file, "@n:/b/c", &[]).as_deref(), Ok(place), "{file}");
        }
        assert_eq!(shown("location = 'sftp://h/x/'", "@n", &[]).as_deref(), Ok("sftp://h/x/"));
    }

    #[test]
    fn options_complete_a_location_and_never_contradict_it() {
        let options = "host = 'nas'\nport = 2222\nusername = 'anna'\n";
        let all = |location: &str| shown(&format!("location = '{location}'\n{options}"), "@n", &[]);
        let complete = Ok("sftp://anna@nas:2222/a%25b");
        for location in ["/a%b", "sftp:///a%25b", "sftp://anna@nas:2222/a%25b", "sftp://nas/a%25b"]
        {
            assert_eq!(all(location).as_deref(), complete, "{location}");
        }
        for (location, part) in [
            ("sftp://other/x", "says host other, its option host nas"),
            ("sftp://root@nas/x", "says username root, its option username anna"),
            ("sftp://nas:22/x", "says port 22, its option port 2222"),
            ("s3://s3.x.com/b", "host is an option of sftp locations"),
        ] {
            assert!(all(location).is_err_and(|m| m.contains(part)), "{location}");
        }
        let file = format!("location = 'sftp://anna@nas:2222/x'\n{options}");
        let over = shown(&file, "@n", &["host=h", "port=1", "username=u"]);
        assert_eq!(over.as_deref(), Ok("sftp://u@h:1/x"));
        assert_eq!(shown("", "sftp:///x", &["host=h"]).as_deref(), Ok("sftp://h/x"));
        assert!(shown("", "sftp:///x", &[]).is_err_and(|m| m.contains("names no host")));
        assert!(shown("", "sftp:///x", &["host=-oX"]).is_err_and(|m| m.contains("no name")));
        assert!(shown("", "/x", &["region=r"]).is_err_and(|m| m.contains("s3 locations")));
        assert!(shown("location = '@n'", "@n", &[]).is_err());
    }
}
