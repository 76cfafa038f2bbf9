//! SFTP places: from a location and its options to the connections of the connector, and from
//! the connector's questions to whoever may be asked.

use std::io;
use std::sync::{Arc, PoisonError};

use holdfast_connectors::sftp::client::FileKind;
use holdfast_connectors::sftp::pool::{Pool, Retry, SftpError, SftpOptions};
use holdfast_connectors::sftp::source::{SftpSource, SftpSourceError, SftpSourceOptions};
use holdfast_connectors::sftp::ssh::{
    self, HostKeyQuestion, HostRecord, Interaction, KeyboardQuestion, Secret, SshOptions,
};
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::ops::backup::RootSource;
use zeroize::Zeroizing;

use crate::access::{Access, runtime};
use crate::ask::{Ask, Prompt};
use crate::command::CommandLine;
use crate::config::Options;
use crate::location::RemotePath;
use crate::open::{OpenedSource, SourceContext};
use crate::problem::Problem;
use crate::resolve::{Place, Resolved, SftpPlace};
use crate::text::printable;
use crate::{catalogue, roots};

/// The connections to a place. Nothing is connected yet; secrets that the options name are
/// fetched now.
pub fn pool(place: &SftpPlace, options: &Options, access: &Access) -> Result<Pool, Problem> {
    let options = connection(place, options, access)?;
    Ok(Pool::new(runtime()?, options, Arc::new(Asking(access.ask.clone()))))
}

/// What is backed up at a place of a server.
pub fn source(
    at: &SftpPlace,
    place: &Resolved,
    context: &SourceContext<'_>,
) -> Result<OpenedSource, Problem> {
    let pool = shared(at, place, context.access)?;
    let explain = |error: SftpError, what: &str| catalogue::sftp(&error, what, &place.to_string());
    let home = || {
        let home = pool.run(Retry::Yes, async |client| client.realpath(b".").await);
        pool.block_on(home).map_err(|e| explain(e, "find the home directory of"))
    };
    let on_server = |path: &RemotePath| {
        Ok::<_, Problem>(match path {
            RemotePath::Absolute(path) => path.clone(),
            RemotePath::Home(below) if below.is_empty() => home()?,
            RemotePath::Home(below) => [&home()?[..], b"/", below].concat(),
        })
    };
    let mut path = on_server(&at.path)?;
    let mut note = None;
    if path.len() > 1 {
        let stat = pool.run(Retry::Yes, async |client| client.lstat(&path).await);
        let found = pool.block_on(stat).map_err(|e| explain(e, "look at"))?;
        if found.kind() == Some(FileKind::Symlink) {
            let shown = printable(&path);
            if at.follows {
                let real = pool.run(Retry::Yes, async |client| client.realpath(&path).await);
                path = pool.block_on(real).map_err(|e| explain(e, "follow"))?;
                note = Some(format!("{shown} leads to {}, which is backed up", printable(&path)));
            } else {
                note = Some(format!(
                    "{shown} is a symbolic link and is backed up as one; write {place}/ for what it \
                     leads to"
                ));
            }
        }
    }
    let mut never = Vec::new();
    if let Some(Place::Sftp(repository)) = context.repository.map(|r| &r.place)
        && repository.host == at.host
        && repository.port == at.port
    {
        never.push(on_server(&repository.path)?);
    }
    let given = context.options;
    let rules = given.excludes.iter().map(|rule| roots::relative_rule(rule, &path));
    let options = SftpSourceOptions {
        excludes: rules.collect(),
        exclude_larger_than: given.exclude_larger_than,
        exclude_caches: given.exclude_caches,
        one_file_system: given.one_file_system,
        never,
    };
    let source = SftpSource::new(pool, path.clone(), options).map_err(|error| match error {
        SftpSourceError::Rule(rule) => roots::bad_rule(&rule),
        other => Problem::usage(other.to_string()),
    })?;
    let mut ancestors = Vec::new();
    let ends = path.iter().enumerate().skip(1).filter(|(_, c)| **c == b'/').map(|(at, _)| at);
    for above in ends.filter_map(|end| path.get(..end)) {
        let name = above.rsplit(|c| *c == b'/').next().unwrap_or_default();
        ancestors.push((name.to_vec(), directory(&source, above)));
    }
    let root = RootSource { path, source: Arc::new(source), ancestors, stream: false };
    let (kind, host) = place.place.origin();
    Ok(OpenedSource { root, kind, host, note })
}

/// What is known of a directory above a root; a link on the way stands for the directory it leads
/// to, since a restore makes a directory there.
fn directory(source: &SftpSource, path: &[u8]) -> Metadata {
    let plain = || Metadata { kind: Kind::Directory, mode: 0o755, links: 1, ..Metadata::default() };
    let found = match source.metadata_of(path) {
        Ok(metadata) if metadata.kind == Kind::Symlink => {
            source.canonical(path).and_then(|real| source.metadata_of(&real))
        }
        found => found,
    };
    found.ok().filter(|metadata| metadata.kind == Kind::Directory).unwrap_or_else(plain)
}

/// The connections for a source: those that another source of the same server has already.
fn shared(at: &SftpPlace, place: &Resolved, access: &Access) -> Result<Pool, Problem> {
    let key = format!("{:?} {:?} {} {:?}", place.name, at.user, at.host, at.port);
    let mut servers = access.servers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = servers.get(&key) {
        return Ok(pool.clone());
    }
    let pool = pool(at, &place.options, access)?;
    servers.insert(key, pool.clone());
    Ok(pool)
}

/// What the connector has to know of a place.
pub fn connection(
    place: &SftpPlace,
    options: &Options,
    access: &Access,
) -> Result<SftpOptions, Problem> {
    let text = |name| options.text(name).map(String::from);
    let path = |name| options.path(name).map(Into::into);
    let secret = |name| Ok::<_, Problem>(options.secret(name)?.map(Secret::from));
    let ssh = SshOptions {
        password: secret("password")?,
        key: secret("key")?,
        key_file: path("key_file"),
        key_passphrase: secret("key_passphrase")?,
        certificate: text("certificate"),
        public_key_file: path("public_key_file"),
        use_agent: options.flag("use_agent"),
        agent_socket: path("agent_socket"),
        ..host(place, options, access)
    };
    let defaults = SftpOptions::default();
    let connections = options.number("connections").and_then(|n| usize::try_from(n).ok());
    Ok(SftpOptions {
        ssh,
        path: remote_path(&place.path),
        connections: connections.unwrap_or(defaults.connections),
        disable_hash_check: options.is_on("disable_hash_check"),
        shell_path: text("shell_path"),
        ..defaults
    })
}

/// What says which host is meant and how it is known; nothing that is secret.
fn host(place: &SftpPlace, options: &Options, access: &Access) -> SshOptions {
    let text = |name| options.text(name).map(String::from);
    let defaults = SshOptions::default();
    SshOptions {
        host: place.host.clone(),
        port: place.port,
        username: place.user.clone(),
        allow_insecure_ciphers: options.is_on("allow_insecure_ciphers"),
        ssh_command: options.command("ssh_command").map(command_text),
        known_hosts_file: options.path("known_hosts_file").map(Into::into),
        host_key: text("host_key"),
        proxy_jump: text("proxy_jump"),
        timeout: options.duration("timeout").unwrap_or(defaults.timeout),
        accept_new_host_key: access.accept_new_host_key,
        own_known_hosts: access.known_hosts.clone(),
        home: access.home.clone(),
        ..defaults
    }
}

/// What this machine knows of the host of a place and of its jump hosts. Nothing is connected, and no
/// secret is fetched; no place of SFTP has none.
pub fn host_records(place: &Resolved, access: &Access) -> Result<Vec<HostRecord>, Problem> {
    let Place::Sftp(at) = &place.place else { return Ok(Vec::new()) };
    ssh::host_records(&host(at, &place.options, access)).map_err(|error| {
        let error = SftpError::Ssh(Arc::new(error));
        catalogue::sftp(&error, "look up the host key of", &place.to_string())
    })
}

fn remote_path(path: &RemotePath) -> Vec<u8> {
    match path {
        RemotePath::Absolute(path) => path.clone(),
        RemotePath::Home(below) if below.is_empty() => b"~".to_vec(),
        RemotePath::Home(below) => [b"~/", &below[..]].concat(),
    }
}

fn command_text(command: &CommandLine) -> String {
    match command {
        CommandLine::Shell(line) => line.to_string_lossy().into_owned(),
        CommandLine::Words(words) => shell_words::join(words),
    }
}

/// Passes the connector's questions on.
struct Asking(Arc<dyn Ask>);

impl Asking {
    fn secret(&self, prompt: &str) -> io::Result<Option<Secret>> {
        Ok(self.0.secret(&format!("{prompt}: "))?.map(Secret::from))
    }
}

impl Interaction for Asking {
    fn password(&self, prompt: &str) -> io::Result<Option<Secret>> {
        self.secret(prompt)
    }

    fn key_passphrase(&self, prompt: &str) -> io::Result<Option<Secret>> {
        self.secret(prompt)
    }

    fn keyboard_interactive(&self, question: &KeyboardQuestion) -> io::Result<Option<Vec<Secret>>> {
        let prompts = question.prompts.iter();
        let prompts: Vec<Prompt> =
            prompts.map(|p| Prompt { text: p.text.clone(), echo: p.echo }).collect();
        let instructions = format!("{}\n{}", question.name, question.instruction);
        let answers = self.0.answers(&question.who, &instructions, &prompts)?;
        let secrets = |answers: Vec<Zeroizing<String>>| answers.into_iter().map(Secret::from);
        Ok(answers.map(|answers| secrets(answers).collect()))
    }

    fn confirm_host_key(&self, question: &HostKeyQuestion) -> io::Result<Option<bool>> {
        let HostKeyQuestion { host, port, key } = question;
        let at = if *port == 22 { host.clone() } else { format!("{host} port {port}") };
        self.0.host_key(&at, &key.algorithm, &key.fingerprint)
    }
}
