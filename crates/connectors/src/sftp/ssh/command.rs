//! Programs in place of our own SSH or TCP: `ssh_command` and `ProxyCommand`. No shell is started.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, oneshot};

use super::channel::Beside;
use super::target::bracketed;
use super::{Class, SshOptions};
use crate::locked;

/// A child whose standard input and output are the connection. Killed soon after this is dropped.
pub(super) struct ChildIo {
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    beside: Arc<(Mutex<Beside>, Notify)>,
    /// Dropping it ends the task that watches the child, and with it the child.
    _alive: oneshot::Sender<()>,
}

/// How long a command that nobody talks to any more may take to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl ChildIo {
    /// Starts `words`. It stays in our process group, so that it may ask on the terminal.
    pub(super) fn start(words: &[String]) -> io::Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipe = || io::Error::other("a pipe is missing");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(pipe)?;
        let mut stderr = child.stderr.take().ok_or_else(pipe)?;
        let beside: Arc<(Mutex<Beside>, Notify)> = Arc::default();
        let shared = Arc::clone(&beside);
        let (alive, mut dropped) = oneshot::channel();
        tokio::spawn(async move {
            let watch = async {
                let mut buffer = [0u8; 1024];
                while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
                    locked(&shared.0).add_stderr(buffer.get(..n).unwrap_or_default());
                }
                child.wait().await
            };
            tokio::pin!(watch);
            let status = tokio::select! {
                status = &mut watch => Some(status),
                // Whoever dropped it may have seen it end, and wants to know what it said last.
                _ = &mut dropped => tokio::time::timeout(LAST_WORDS, watch).await.ok(),
            };
            if let Some(status) = status {
                locked(&shared.0).exit_status = status.ok().and_then(|s| s.code());
            }
            locked(&shared.0).ended = true;
            shared.1.notify_waiters();
        });
        Ok(Self { stdin, stdout, beside, _alive: alive })
    }

    pub(super) fn beside(&self) -> Arc<(Mutex<Beside>, Notify)> {
        Arc::clone(&self.beside)
    }
}

impl AsyncRead for ChildIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for ChildIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Closing the pipe is what tells the child.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

/// The words of `ssh_command`, followed by `tail`: the subsystem's `-s sftp`, or nothing where a
/// remote command is put behind them.
///
/// With `{}` (`[user@]host`), `%h`, `%p` or `%r` in it, the command stands for itself and reaches
/// SFTP alone; `None` then for anything else. Without, `[-p port] [user@]host` and `tail` follow.
/// Names go to the program as they were given: `ssh_config` is its business.
pub(super) fn words(
    command: &str,
    options: &SshOptions,
    tail: &[&str],
    is_sftp: bool,
) -> Result<Option<Vec<String>>, String> {
    let mut words = shell_words::split(command).map_err(|e| format!("ssh_command: {e}"))?;
    if words.is_empty() {
        return Err("ssh_command is empty".into());
    }
    let user = options.username.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let host = format!("{user}{}", options.host);
    let port = options.port.map(|p| p.to_string());
    if words.iter().any(|w| ["{}", "%h", "%p", "%r"].iter().any(|p| w.contains(p))) {
        if !is_sftp {
            return Ok(None);
        }
        for word in &mut words {
            *word = word
                .replace("{}", &host)
                .replace("%h", &bracketed(&options.host))
                .replace("%p", port.as_deref().unwrap_or("22"))
                .replace("%r", options.username.as_deref().unwrap_or_default());
        }
        return Ok(Some(words));
    }
    if let Some(port) = port {
        words.extend(["-p".into(), port]);
    }
    words.push(host);
    words.extend(tail.iter().map(|&w| w.to_owned()));
    Ok(Some(words))
}

impl Class {
    /// What the words of OpenSSH's `ssh` say, if they are known.
    pub(super) fn of_words(stderr: &str) -> Option<Self> {
        let known: &[(&str, Self)] = &[
            ("REMOTE HOST IDENTIFICATION HAS CHANGED", Self::HostKeyChanged),
            ("is marked as revoked", Self::HostKeyRevoked),
            ("Host key verification failed", Self::HostKeyUnknown),
            ("Permission denied (", Self::Authentication),
            ("Too many authentication failures", Self::Authentication),
            ("Could not resolve hostname", Self::NameNotFound),
            ("Connection refused", Self::Refused),
            ("timed out", Self::Timeout),
            ("No route to host", Self::Unreachable),
            ("Network is unreachable", Self::Unreachable),
            ("no matching", Self::NoCommonAlgorithm),
            ("subsystem request failed", Self::SftpUnavailable),
            ("Connection closed by", Self::Disconnected),
            ("Connection reset by", Self::Disconnected),
        ];
        known.iter().find(|(words, _)| stderr.contains(words)).map(|(_, class)| *class)
    }
}
