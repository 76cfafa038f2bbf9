//! From options and `ssh_config` to one [`Target`]: where to go, as whom, by which route, with
//! which keys, and which files say what its host key is.

use std::path::{Path, PathBuf};

use super::config::{self, Asking, ConfigFile, Proxy, Settings, Tokens};
use super::{ConfigFiles, SshOptions};
use crate::LONGEST_TIMEOUT;

/// Everything that is decided before the first packet.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Name or address to connect to, lower-case as `ssh` has it.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) route: Route,
    /// In the order to try them.
    pub(super) identities: Vec<PathBuf>,
    /// They are those that `ssh` looks for when nothing is configured.
    pub(super) identities_default: bool,
    /// Agent keys other than those of `identities` are not tried.
    pub(super) identities_only: bool,
    pub(super) certificates: Vec<PathBuf>,
    /// The agent's socket, unless agents are off or there is none.
    pub(super) agent: Option<PathBuf>,
    /// Files of known host keys, the user's before the system's before ours.
    pub(super) known_hosts: Vec<PathBuf>,
    /// Where accepted keys are written.
    pub(super) known_hosts_written: Option<PathBuf>,
    /// `HostKeyAlias`.
    pub(super) key_alias: Option<String>,
}

/// How to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    /// `[user@]host[:port]` each, nearest first, never empty.
    Jump(Vec<Hop>),
    /// Words of a program whose standard input and output are the connection.
    Command(Vec<String>),
}

/// One jump host as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) host: String,
    pub(super) user: Option<String>,
    pub(super) port: Option<u16>,
}

impl Target {
    /// `user@host:port`.
    pub(super) fn shown(&self) -> String {
        format!("{}@{}:{}", self.user, bracketed(&self.host), self.port)
    }

    /// `user@host`, for prompts.
    pub(super) fn who(&self) -> String {
        format!("{}@{}", self.user, self.host)
    }
}

/// IPv6 addresses in brackets, so that a port can follow.
pub(super) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// What was asked for, for messages before anything is resolved.
pub(super) fn asked(options: &SshOptions) -> String {
    let user = options.username.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
    let port = options.port.map(|p| format!(":{p}")).unwrap_or_default();
    format!("{user}{}{port}", bracketed(&options.host))
}

/// Whether the names that were given can be names, and the timeout can be waited for.
pub(super) fn check(options: &SshOptions) -> Result<(), String> {
    check_name("host", &options.host)?;
    if options.timeout > LONGEST_TIMEOUT {
        return Err("a timeout of more than a year".into());
    }
    options.username.as_deref().map_or(Ok(()), |user| check_name("user", user))
}

/// Reads `ssh_config` and decides. Errors are sentences.
pub(super) fn resolve(options: &SshOptions) -> Result<Target, String> {
    check(options)?;
    let home = home(options)?;
    let local_user = local_user();
    let asking = Asking {
        host: &options.host,
        user: options.username.as_deref(),
        local_user: &local_user,
        home: &home,
    };
    let settings =
        config::read(&config_files(options, &home), &asking).map_err(|error| error.to_string())?;

    let port = options.port.or(settings.port).unwrap_or(22);
    let local_host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut tokens = Tokens {
        host: &options.host,
        original: &options.host,
        port,
        user: "",
        local_user: &local_user,
        home: &home.to_string_lossy(),
        uid: rustix::process::getuid().as_raw(),
        local_host: &local_host,
    };
    let host = match &settings.hostname {
        Some(name) => tokens.expand(name)?,
        None => options.host.clone(),
    };
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    check_name("host", &host)?;
    let user = options.username.clone().or_else(|| settings.user.clone());
    let user = user.unwrap_or_else(|| local_user.clone());
    check_name("user", &user)?;
    tokens.host = &host;
    tokens.user = &user;
    let path = |text: &str| tokens.expand(text).map(|text| asking.expand_home(&text));
    let paths = |list: &[String]| {
        list.iter().filter(|t| *t != "none").map(|t| path(t)).collect::<Result<Vec<_>, _>>()
    };

    let route = route(options, &settings, &tokens)?;
    let agent = agent(options, &settings, &path)?;
    let mut known_hosts = match &settings.user_known_hosts {
        Some(list) => paths(list)?,
        None => vec![home.join(".ssh/known_hosts"), home.join(".ssh/known_hosts2")],
    };
    known_hosts.extend(match &settings.global_known_hosts {
        Some(list) => paths(list)?,
        None if options.ssh_config == ConfigFiles::UserAndSystem => {
            ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from).to_vec()
        }
        None => Vec::new(),
    });
    let ours = options.known_hosts_file.as_deref().map(|p| expand(p, &home));
    known_hosts.extend(ours.clone());
    known_hosts.extend(options.own_known_hosts.clone());

    let mut identities = paths(&settings.identity_files)?;
    if settings.identity_files.is_empty() {
        identities =
            ["id_ed25519", "id_ecdsa", "id_rsa"].map(|n| home.join(".ssh").join(n)).to_vec();
    }
    let certificates = paths(&settings.certificate_files)?;
    let key_alias = settings.host_key_alias.as_deref().map(|a| tokens.expand(a)).transpose()?;
    Ok(Target {
        port,
        route,
        identities,
        identities_default: settings.identity_files.is_empty(),
        identities_only: settings.identities_only.unwrap_or(false),
        certificates,
        agent,
        known_hosts,
        known_hosts_written: ours.or_else(|| options.own_known_hosts.clone()),
        key_alias,
        user,
        host,
    })
}

/// `~` in a path of an option.
pub(super) fn expand(path: &Path, home: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| home.join(rest))
}

/// The home directory in use.
pub(super) fn home(options: &SshOptions) -> Result<PathBuf, String> {
    options
        .home
        .clone()
        .or_else(std::env::home_dir)
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| "the home directory is not known: set HOME".to_owned())
}

fn local_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map(|user| user.name)
        .or_else(|| std::env::var("USER").ok())
        .unwrap_or_default()
}

fn config_files(options: &SshOptions, home: &Path) -> Vec<ConfigFile> {
    let ssh = home.join(".ssh");
    match &options.ssh_config {
        ConfigFiles::None => Vec::new(),
        ConfigFiles::UserAndSystem => vec![
            ConfigFile { path: ssh.join("config"), includes: ssh },
            ConfigFile { path: "/etc/ssh/ssh_config".into(), includes: "/etc/ssh".into() },
        ],
        ConfigFiles::Files(files) => files
            .iter()
            .map(|path| ConfigFile { path: path.clone(), includes: ssh.clone() })
            .collect(),
    }
}

/// Names reach external programs and other parsers: nothing that could be an option or a second
/// word of a line.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() {
        return Err(format!("no {what} name is given"));
    }
    if name.starts_with('-') || name.contains(bad) || (what == "host" && name.contains('/')) {
        return Err(format!("{name:?} cannot be a {what} name"));
    }
    Ok(())
}

fn route(options: &SshOptions, settings: &Settings, tokens: &Tokens<'_>) -> Result<Route, String> {
    let proxy = match &options.proxy_jump {
        Some(jump) if jump.eq_ignore_ascii_case("none") => Proxy::None,
        Some(jump) => Proxy::Jump(jump.clone()),
        None => settings.proxy.clone().unwrap_or(Proxy::None),
    };
    Ok(match proxy {
        Proxy::None => Route::Direct,
        Proxy::Jump(text) => Route::Jump(
            tokens.expand(&text)?.split(',').map(Hop::parse).collect::<Result<Vec<_>, _>>()?,
        ),
        Proxy::Command(text) => {
            // `exec` is for the shell that ssh would start; there is none here.
            let text = text.strip_prefix("exec ").unwrap_or(&text);
            if text.contains(['|', ';', '&', '<', '>', '`', '$', '(']) {
                return Err(format!(
                    "ProxyCommand {text:?} needs a shell; use ssh_command with the ssh program"
                ));
            }
            let words = shell_words::split(text).map_err(|e| format!("ProxyCommand: {e}"))?;
            let words = words.iter().map(|w| tokens.expand(w)).collect::<Result<Vec<_>, _>>()?;
            if words.is_empty() {
                return Err("ProxyCommand is empty".into());
            }
            Route::Command(words)
        }
    })
}

fn agent(
    options: &SshOptions,
    settings: &Settings,
    path: &dyn Fn(&str) -> Result<PathBuf, String>,
) -> Result<Option<PathBuf>, String> {
    let environment =
        |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if options.use_agent == Some(false) {
        return Ok(None);
    }
    if let Some(socket) = &options.agent_socket {
        return Ok(Some(expand(socket, &home(options)?)));
    }
    match settings.identity_agent.as_deref() {
        Some("none") => Ok(None),
        Some("SSH_AUTH_SOCK") | None => Ok(environment("SSH_AUTH_SOCK")),
        Some(name) if name.starts_with('$') && !name.starts_with("${") => {
            Ok(environment(name.trim_start_matches('$')))
        }
        Some(name) => path(name).map(Some),
    }
}

impl Hop {
    /// `[user@]host[:port]` or `ssh://[user@]host[:port]`.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no jump host: [user@]host[:port]");
        let rest = text.trim();
        let rest = rest.strip_prefix("ssh://").unwrap_or(rest).trim_end_matches('/');
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user.to_owned()), rest),
            None => (None, rest),
        };
        let (host, port) = if let Some(rest) = rest.strip_prefix('[') {
            let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
            (host, port.strip_prefix(':'))
        } else if rest.matches(':').count() == 1 {
            let (host, port) = rest.split_once(':').ok_or_else(wrong)?;
            (host, Some(port))
        } else {
            (rest, None)
        };
        let port = port.map(|p| p.parse::<u16>().map_err(|_| wrong())).transpose()?;
        check_name("host", host).map_err(|_| wrong())?;
        if let Some(user) = &user {
            check_name("user", user).map_err(|_| wrong())?;
        }
        Ok(Self { host: host.to_owned(), user, port })
    }

    fn text(&self) -> String {
        let user = self.user.as_ref().map(|u| format!("{u}@")).unwrap_or_default();
        let port = self.port.map(|p| format!(":{p}")).unwrap_or_default();
        format!("{user}{}{port}", bracketed(&self.host))
    }
}

/// What a jump host is asked with: its own name, port and user. The target's password and expected
/// host key are not for it. Its route is its own business, unless other hops stand before it.
pub(super) fn hop_options(options: &SshOptions, hop: &Hop, before: &[Hop]) -> SshOptions {
    let before: Vec<_> = before.iter().map(Hop::text).collect();
    SshOptions {
        host: hop.host.clone(),
        port: hop.port,
        username: hop.user.clone(),
        password: None,
        host_key: None,
        ssh_command: None,
        proxy_jump: (!before.is_empty()).then(|| before.join(",")),
        ..options.clone()
    }
}

#[cfg(test)]
mod tests;
