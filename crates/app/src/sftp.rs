//! SFTP places: from a location and its options to the connections of the connector, and from
//! the connector's questions to whoever may be asked.

use std::io;
use std::sync::Arc;

use holdfast_connectors::sftp::pool::{Pool, SftpOptions};
use holdfast_connectors::sftp::ssh::{
    HostKeyQuestion, Interaction, KeyboardQuestion, Secret, SshOptions,
};
use zeroize::Zeroizing;

use crate::access::{Access, runtime};
use crate::ask::{Ask, Prompt};
use crate::command::CommandLine;
use crate::config::Options;
use crate::location::RemotePath;
use crate::problem::Problem;
use crate::resolve::SftpPlace;

/// The connections to a place. Nothing is connected yet; secrets that the options name are
/// fetched now.
pub fn pool(place: &SftpPlace, options: &Options, access: &Access) -> Result<Pool, Problem> {
    let options = connection(place, options, access)?;
    Ok(Pool::new(runtime()?, options, Arc::new(Asking(access.ask.clone()))))
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
    let defaults = SshOptions::default();
    let ssh = SshOptions {
        host: place.host.clone(),
        port: place.port,
        username: place.user.clone(),
        password: secret("password")?,
        key: secret("key")?,
        key_file: path("key_file"),
        key_passphrase: secret("key_passphrase")?,
        certificate: text("certificate"),
        public_key_file: path("public_key_file"),
        use_agent: options.flag("use_agent"),
        agent_socket: path("agent_socket"),
        allow_insecure_ciphers: options.is_on("allow_insecure_ciphers"),
        ssh_command: options.command("ssh_command").map(command_text),
        known_hosts_file: path("known_hosts_file"),
        host_key: text("host_key"),
        proxy_jump: text("proxy_jump"),
        timeout: options.duration("timeout").unwrap_or(defaults.timeout),
        accept_new_host_key: access.accept_new_host_key,
        own_known_hosts: access.known_hosts.clone(),
        home: access.home.clone(),
        ..defaults
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
        self.0.tell(&format!("First contact with {at}. Its host key:"))?;
        self.0.tell(&format!("  {} {}", key.algorithm, key.fingerprint))?;
        self.0
            .tell("Compare it with what the server's administrator says, or on the server with")?;
        self.0.tell("  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")?;
        self.0.confirm("Trust this key from now on?")
    }
}
