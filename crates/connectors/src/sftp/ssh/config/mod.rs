//! `ssh_config`, as far as a connection needs it: the first value of a setting wins; `Host` and
//! simple `Match` blocks; `Include`. Own rather than `ssh2-config`, which has neither `Match` nor
//! tokens. A `Match` that needs more than names (`exec`, `canonical`, `final` …) does not apply.

pub(super) mod pattern;
mod tokens;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pattern::{glob, matches_list};
pub(super) use tokens::Tokens;

const DEPTH: usize = 16;
const LONGEST: u64 = 4 << 20;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    #[error("{path} cannot be read: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}: {what}", path = path.display())]
    Line { path: PathBuf, line: usize, what: String },
}

/// Who asks, for `Host` and `Match`.
#[derive(Debug, Clone)]
pub(super) struct Asking<'a> {
    /// As typed.
    pub(super) host: &'a str,
    /// As typed, if it was.
    pub(super) user: Option<&'a str>,
    pub(super) local_user: &'a str,
    pub(super) home: &'a Path,
}

/// What the files say. Paths and names are as written: tokens are not yet replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) hostname: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) identity_files: Vec<String>,
    pub(super) certificate_files: Vec<String>,
    pub(super) identities_only: Option<bool>,
    pub(super) identity_agent: Option<String>,
    pub(super) proxy: Option<Proxy>,
    pub(super) user_known_hosts: Option<Vec<String>>,
    pub(super) global_known_hosts: Option<Vec<String>>,
    pub(super) host_key_alias: Option<String>,
}

/// `ProxyJump` or `ProxyCommand`, whichever came first; `none` is one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proxy {
    None,
    Jump(String),
    Command(String),
}

/// One file and where its relative includes are looked for.
#[derive(Debug, Clone)]
pub(super) struct ConfigFile {
    pub(super) path: PathBuf,
    pub(super) includes: PathBuf,
}

/// Reads `files` in order. Missing files are skipped.
pub(super) fn read(files: &[ConfigFile], asking: &Asking<'_>) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    for file in files {
        read_file(&file.path, &file.includes, asking, &mut settings, 0)?;
    }
    Ok(settings)
}

fn read_file(
    path: &Path,
    includes: &Path,
    asking: &Asking<'_>,
    settings: &mut Settings,
    depth: usize,
) -> Result<(), ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let text = match fs::metadata(path).and_then(|m| {
        if m.len() > LONGEST {
            return Err(io::Error::other("it is longer than 4 MiB"));
        }
        fs::read(path)
    }) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
    };
    let mut active = true;
    for (at, line) in text.lines().enumerate() {
        let wrong = |what: &str| ConfigError::Line {
            path: path.to_owned(),
            line: at + 1,
            what: what.to_owned(),
        };
        let words = words(line).map_err(|what| wrong(&what))?;
        let Some((keyword, values)) = words.split_first() else { continue };
        match keyword.to_ascii_lowercase().as_str() {
            "host" => active = matches_list(asking.host, values.iter().map(String::as_str)),
            "match" => active = matches_block(values, asking, settings),
            _ if !active => {}
            "include" => {
                if depth >= DEPTH {
                    return Err(wrong("includes lie more than 16 deep"));
                }
                for value in values {
                    let pattern = asking.expand_home(value);
                    for found in glob(&includes.join(pattern)) {
                        read_file(&found, includes, asking, settings, depth + 1)?;
                    }
                }
            }
            keyword => {
                // ProxyCommand takes the rest of the line as it stands, quotes and all.
                let rest = rest_of(line);
                set(settings, keyword, values, rest).map_err(|what| wrong(&what))?;
            }
        }
    }
    Ok(())
}

fn set(
    settings: &mut Settings,
    keyword: &str,
    values: &[String],
    rest: &str,
) -> Result<(), String> {
    let first = values.first().map(String::as_str);
    let one = || first.ok_or_else(|| format!("{keyword} has no value")).map(str::to_owned);
    fn keep<T>(slot: &mut Option<T>, value: T) {
        slot.get_or_insert(value);
    }
    match keyword {
        "hostname" => keep(&mut settings.hostname, one()?),
        "port" => {
            let port = one()?;
            keep(&mut settings.port, port.parse().map_err(|_| format!("no port: {port}"))?);
        }
        "user" => keep(&mut settings.user, one()?),
        "identityfile" => settings.identity_files.push(one()?),
        "certificatefile" => settings.certificate_files.push(one()?),
        "identitiesonly" => {
            keep(&mut settings.identities_only, matches!(one()?.as_str(), "yes" | "true"));
        }
        "identityagent" => keep(&mut settings.identity_agent, one()?),
        "proxyjump" => keep(&mut settings.proxy, proxy(one()?, Proxy::Jump)),
        "proxycommand" => keep(&mut settings.proxy, proxy(rest.to_owned(), Proxy::Command)),
        "userknownhostsfile" => keep(&mut settings.user_known_hosts, values.to_vec()),
        "globalknownhostsfile" => keep(&mut settings.global_known_hosts, values.to_vec()),
        "hostkeyalias" => keep(&mut settings.host_key_alias, one()?),
        _ => {}
    }
    Ok(())
}

fn proxy(value: String, kind: fn(String) -> Proxy) -> Proxy {
    if value.eq_ignore_ascii_case("none") { Proxy::None } else { kind(value) }
}

/// Whether a `Match` line applies. Criteria are joined by "and"; `!` turns one round.
fn matches_block(criteria: &[String], asking: &Asking<'_>, settings: &Settings) -> bool {
    let host = settings.hostname.as_deref().unwrap_or(asking.host);
    let user = asking.user.or(settings.user.as_deref()).unwrap_or(asking.local_user);
    let mut rest = criteria.iter().map(String::as_str);
    let mut any = false;
    while let Some(criterion) = rest.next() {
        any = true;
        let (wanted, name) = match criterion.strip_prefix('!') {
            Some(name) => (false, name),
            None => (true, criterion),
        };
        // `Match user=x` is the same as `Match user x`.
        let (name, inline) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        let subject = match name.to_ascii_lowercase().as_str() {
            "all" => {
                if !wanted {
                    return false;
                }
                continue;
            }
            "host" => host,
            "originalhost" => asking.host,
            "user" => user,
            "localuser" => asking.local_user,
            _ => return false,
        };
        let Some(patterns) = inline.or_else(|| rest.next()) else { return false };
        if matches_list(subject, patterns.split(',')) != wanted {
            return false;
        }
    }
    any
}

/// Words of a line: separated by blanks, the first one also by `=`; `"…"` keeps blanks; a `#`
/// at the start of a word begins a comment.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if words.len() == 1 && chars.next_if_eq(&'=').is_some() {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        }
        match chars.peek() {
            None | Some('#') => return Ok(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote = None;
        while let Some(&c) = chars.peek() {
            match quote {
                Some(open) if c == open => quote = None,
                None if c == '"' || c == '\'' => quote = Some(c),
                None if c.is_whitespace() || (words.is_empty() && c == '=') => break,
                _ => word.push(c),
            }
            chars.next();
        }
        if quote.is_some() {
            return Err("a quote is not closed".into());
        }
        words.push(word);
    }
}

fn rest_of(line: &str) -> &str {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let rest = line.get(end..).unwrap_or_default().trim_start();
    rest.strip_prefix('=').unwrap_or(rest).trim()
}

impl Asking<'_> {
    /// `~` and `~/…` alone: other users' homes are not looked up.
    pub(super) fn expand_home(&self, path: &str) -> PathBuf {
        match path.strip_prefix('~') {
            Some("") => self.home.to_owned(),
            Some(rest) if rest.starts_with('/') => self.home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(path),
        }
    }
}

#[cfg(test)]
mod tests;
