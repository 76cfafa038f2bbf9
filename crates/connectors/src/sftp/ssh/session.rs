//! A connection that is signed in: channels for SFTP and for commands.

use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::Handle;
use russh::{ChannelMsg, ChannelOpenFailure, Disconnect};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::channel::{ChannelIo, OpenChannel, SftpStream};
use super::command::{self, ChildIo};
use super::handler::{Facts, Notes};
use super::interaction::printable;
use super::{Class, HostKey, Problem, ShownKey, SignInMethod, SshError, SshOptions, Stage};
use crate::locked;

/// What a remote command may write to each of its outputs.
const OUTPUT_KEPT: usize = 1 << 20;

/// A connection: our own SSH, or an external command that makes one for each channel.
///
/// Dropping it and all its streams closes it.
#[derive(Debug)]
pub struct SshSession {
    pub(super) host: String,
    pub(super) timeout: Duration,
    pub(super) facts: SessionFacts,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Own {
        handle: Handle<Notes>,
        notes: Arc<Mutex<Facts>>,
        /// The connection below, which lives as long as this one.
        _below: Option<Box<SshSession>>,
    },
    Command {
        command: String,
        options: Box<SshOptions>,
    },
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Own { .. } => "Own",
            Self::Command { .. } => "Command",
        })
    }
}

/// What is known about a connection. Empty for an external command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// The server's identification line.
    pub server_version: String,
    /// Negotiated algorithms.
    pub key_exchange: String,
    /// Signature algorithm of the host key.
    pub host_key_algorithm: String,
    /// Both directions.
    pub cipher: String,
    /// From us to the server; `none` where the cipher authenticates by itself.
    pub mac: String,
    /// The host's key. For a certificate, the key in it.
    pub host_key: Option<HostKey>,
    /// The host key came in a certificate of a known authority, or was vouched for by one.
    pub host_certificate: bool,
    /// The methods that the server accepted, in order.
    pub methods: Vec<SignInMethod>,
    /// The key that signed in, if one did.
    pub key: Option<ShownKey>,
    /// What the server says before sign-in, cleaned.
    pub banner: String,
    /// Warnings for people: a key file that others may read, a key that could not be stored.
    pub warnings: Vec<String>,
}

/// What a remote command gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit status, if the server told it.
    pub status: Option<u32>,
    /// The first MiB.
    pub stdout: Vec<u8>,
    /// The first MiB.
    pub stderr: Vec<u8>,
    /// Something was longer than that.
    pub truncated: bool,
}

impl SshSession {
    /// What is known about this connection.
    #[must_use]
    pub fn facts(&self) -> &SessionFacts {
        &self.facts
    }

    /// `user@host:port`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it has ended. An external command's connection ends with its stream.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.kind {
            Kind::Own { handle, .. } => handle.is_closed(),
            Kind::Command { .. } => false,
        }
    }

    /// Says goodbye. Streams of this session end.
    pub async fn close(&self) {
        if let Kind::Own { handle, .. } = &self.kind {
            let bye = handle.disconnect(Disconnect::ByApplication, "", "");
            let _ = timeout(self.timeout, bye).await;
        }
    }

    /// Starts the SFTP subsystem and gives its byte stream.
    pub async fn sftp(&self) -> Result<SftpStream, SshError> {
        let (command, options) = match &self.kind {
            Kind::Command { command, options } => (command, options),
            Kind::Own { .. } => {
                let channel = self.started(Request::Sftp).await?;
                let io = channel.into_io().ok_or_else(|| self.error(Problem::Protocol))?;
                return Ok(SftpStream::channel(io, &self.host));
            }
        };
        let settings =
            |what| SshError::new(Stage::Settings, &self.host, Problem::Settings { what });
        let words = command::words(command, options, &["-s", "sftp"], true).map_err(settings)?;
        let words = words.unwrap_or_default();
        let program = words.first().cloned().unwrap_or_default();
        match ChildIo::start(&words) {
            Ok(child) => Ok(SftpStream::child(child, &self.host, program)),
            Err(error) => Err(self.not_started(program).because(error)),
        }
    }

    /// Runs `command` in the account's shell without input. `limit` is for all of it; after that
    /// the command is asked to end.
    pub async fn exec(&self, command: &[u8], limit: Duration) -> Result<ExecOutput, SshError> {
        let run = async {
            match &self.kind {
                Kind::Own { .. } => self.exec_channel(command).await,
                Kind::Command { command: program, options } => {
                    self.exec_child(program, options, command).await
                }
            }
        };
        match timeout(limit, run).await {
            Ok(done) => done,
            Err(_) => Err(self.error(Problem::Timeout { after: limit })),
        }
    }

    async fn exec_channel(&self, command: &[u8]) -> Result<ExecOutput, SshError> {
        let mut open = self.started(Request::Exec(command)).await?;
        open.runs = true;
        let channel = open.get().map_err(|error| self.ended().because(error))?;
        let _ = channel.eof().await;
        let mut output = ExecOutput::default();
        let mut closed = false;
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => keep(&mut output.stdout, &data, &mut output.truncated),
                ChannelMsg::ExtendedData { data, .. } => {
                    keep(&mut output.stderr, &data, &mut output.truncated);
                }
                ChannelMsg::ExitStatus { exit_status } => output.status = Some(exit_status),
                ChannelMsg::Close => {
                    closed = true;
                    break;
                }
                _ => {}
            }
        }
        // A command whose connection was cut has not run to its end.
        if closed || output.status.is_some() { Ok(output) } else { Err(self.ended()) }
    }

    async fn exec_child(
        &self,
        program: &str,
        options: &SshOptions,
        command: &[u8],
    ) -> Result<ExecOutput, SshError> {
        let settings =
            |what| SshError::new(Stage::Settings, &self.host, Problem::Settings { what });
        let words = command::words(program, options, &[], false).map_err(settings)?;
        let Some(words) = words else {
            let reason = "ssh_command names its own arguments, so it can reach SFTP only";
            return Err(self.error(Problem::ChannelRefused { reason: reason.into() }));
        };
        let (first, rest) = words.split_first().map_or(("", [].as_slice()), |(f, r)| (f, r));
        let mut child = tokio::process::Command::new(first)
            .args(rest)
            .arg(OsStr::from_bytes(command))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| self.not_started(first.to_owned()).because(error))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let ((stdout, long), (stderr, longer)) = tokio::join!(all(stdout), all(stderr));
        let status = child.wait().await.map_err(|e| self.error(Problem::Protocol).because(e))?;
        let text = String::from_utf8_lossy(&stderr);
        // 255 is ssh's own failure; a remote command may end with it too, but says other words.
        if status.code() == Some(255)
            && let Some(class) = Class::of_words(&text)
        {
            return Err(self.error(Problem::Command {
                program: first.to_owned(),
                exit_status: Some(255),
                stderr: printable(&text),
                class: Some(class),
            }));
        }
        Ok(ExecOutput {
            status: status.code().and_then(|c| u32::try_from(c).ok()),
            stdout,
            stderr,
            truncated: long || longer,
        })
    }

    /// A channel of ours to `host:port`, as seen from the server.
    pub(super) async fn tunnel(&self, host: &str, port: u16) -> Result<ChannelIo, SshError> {
        let Kind::Own { handle, .. } = &self.kind else {
            return Err(self.error(Problem::Protocol));
        };
        let open = handle.channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0);
        self.wait(open).await.map(ChannelIo::new)
    }

    /// Opens a session channel, asks for SFTP or a command on it, and waits for the server's yes.
    async fn started(&self, request: Request<'_>) -> Result<OpenChannel, SshError> {
        let Kind::Own { handle, .. } = &self.kind else {
            return Err(self.error(Problem::Protocol));
        };
        let mut open = OpenChannel::new(self.wait(handle.channel_open_session()).await?);
        let answer = async {
            let channel = open.get()?;
            match request {
                Request::Sftp => channel.request_subsystem(true, "sftp").await?,
                Request::Exec(command) => channel.exec(true, command).await?,
            }
            loop {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(true),
                    Some(ChannelMsg::Failure | ChannelMsg::Close) => return Ok(false),
                    Some(_) => {}
                    None => return Err(russh::Error::Disconnect),
                }
            }
        };
        if self.wait(answer).await? {
            return Ok(open);
        }
        Err(self.error(match request {
            Request::Sftp => Problem::SftpUnavailable { output: String::new(), exit_status: None },
            Request::Exec(_) => {
                Problem::ChannelRefused { reason: "commands are not allowed".into() }
            }
        }))
    }

    async fn wait<T>(
        &self,
        future: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T, SshError> {
        match timeout(self.timeout, future).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(russh::Error::ChannelOpenFailure(reason))) => {
                let reason = match reason {
                    ChannelOpenFailure::AdministrativelyProhibited => "not allowed".to_owned(),
                    ChannelOpenFailure::ConnectFailed => "it cannot connect there".into(),
                    ChannelOpenFailure::UnknownChannelType => {
                        "it does not know such a channel".into()
                    }
                    ChannelOpenFailure::ResourceShortage => "it has no room for more".into(),
                    ChannelOpenFailure::Other { code, reason } => {
                        format!("{} ({code})", printable(&reason))
                    }
                };
                Err(self.error(Problem::ChannelRefused { reason }))
            }
            Ok(Err(error)) => Err(self.ended().because(error)),
            Err(_) => Err(self.error(Problem::Timeout { after: self.timeout })),
        }
    }

    fn error(&self, problem: Problem) -> SshError {
        SshError::new(Stage::Channel, &self.host, problem)
    }

    fn ended(&self) -> SshError {
        let message = match &self.kind {
            Kind::Own { notes, .. } => locked(notes).ended.clone(),
            Kind::Command { .. } => None,
        };
        self.error(Problem::Disconnected { message })
    }

    fn not_started(&self, program: String) -> SshError {
        self.error(Problem::Command {
            program,
            exit_status: None,
            stderr: "it cannot be started".into(),
            class: None,
        })
    }
}

/// What a session channel is for.
#[derive(Debug, Clone, Copy)]
enum Request<'a> {
    Sftp,
    Exec(&'a [u8]),
}

fn keep(output: &mut Vec<u8>, data: &[u8], truncated: &mut bool) {
    let room = OUTPUT_KEPT.saturating_sub(output.len());
    *truncated |= data.len() > room;
    output.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
}

/// Reads to the end, keeps the beginning.
async fn all(pipe: Option<impl AsyncRead + Unpin>) -> (Vec<u8>, bool) {
    let (mut output, mut truncated) = (Vec::new(), false);
    if let Some(mut pipe) = pipe {
        let mut buffer = vec![0u8; 16 << 10];
        while let Ok(n @ 1..) = pipe.read(&mut buffer).await {
            keep(&mut output, buffer.get(..n).unwrap_or_default(), &mut truncated);
        }
    }
    (output, truncated)
}
