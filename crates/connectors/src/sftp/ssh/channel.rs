//! One SSH channel as a byte stream, with what was said beside it: standard error and exit status.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::command::ChildIo;
use super::interaction::printable;
use super::{Class, Problem, SshError, Stage};
use crate::locked;

/// How much of standard error is kept.
pub(super) const STDERR_KEPT: usize = 4096;

/// What came beside the bytes.
#[derive(Debug, Default)]
pub(super) struct Beside {
    pub(super) stderr: Vec<u8>,
    pub(super) exit_status: Option<i32>,
    pub(super) ended: bool,
}

impl Beside {
    /// Keeps the end of what is written.
    pub(super) fn add_stderr(&mut self, data: &[u8]) {
        self.stderr.extend_from_slice(data);
        let surplus = self.stderr.len().saturating_sub(STDERR_KEPT);
        self.stderr.drain(..surplus);
    }
}

/// A channel that is closed when it is dropped, wherever that is. The server counts those that
/// are open, and refuses more than some ten.
pub(super) struct OpenChannel {
    channel: Option<Channel<Msg>>,
    /// A command runs on it, to be ended with it.
    pub(super) runs: bool,
    runtime: Handle,
}

impl OpenChannel {
    /// Must be called on a runtime.
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        Self { channel: Some(channel), runs: false, runtime: Handle::current() }
    }

    /// The channel itself; there is one until it is made a stream.
    pub(super) fn get(&mut self) -> Result<&mut Channel<Msg>, russh::Error> {
        self.channel.as_mut().ok_or(russh::Error::WrongChannel)
    }

    pub(super) fn into_io(mut self) -> Option<ChannelIo> {
        self.channel.take().map(ChannelIo::new)
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            let runs = self.runs;
            self.runtime.spawn(async move {
                let (_, half) = channel.split();
                if runs {
                    let _ = half.signal(Sig::TERM).await;
                }
                let _ = half.close().await;
            });
        }
    }
}

/// A channel as a stream. Reading drives it: what comes beside the bytes is seen while reading.
pub(super) struct ChannelIo {
    reader: ChannelReadHalf,
    writer: Pin<Box<dyn AsyncWrite + Send>>,
    half: Option<ChannelWriteHalf<Msg>>,
    rest: bytes::Bytes,
    beside: Arc<(Mutex<Beside>, Notify)>,
    /// To close the channel from wherever this is dropped.
    runtime: Handle,
}

impl ChannelIo {
    /// Must be called on a runtime.
    pub(super) fn new(channel: Channel<Msg>) -> Self {
        let (reader, half) = channel.split();
        Self {
            reader,
            writer: Box::pin(half.make_writer()),
            half: Some(half),
            rest: bytes::Bytes::new(),
            beside: Arc::default(),
            runtime: Handle::current(),
        }
    }

    pub(super) fn beside(&self) -> Arc<(Mutex<Beside>, Notify)> {
        Arc::clone(&self.beside)
    }

    fn end(&self) {
        locked(&self.beside.0).ended = true;
        self.beside.1.notify_waiters();
    }
}

impl AsyncRead for ChannelIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.rest.is_empty() {
                let taken = this.rest.split_to(this.rest.len().min(buffer.remaining()));
                buffer.put_slice(&taken);
                return Poll::Ready(Ok(()));
            }
            if locked(&this.beside.0).ended {
                return Poll::Ready(Ok(()));
            }
            // Receiving from the queue is cancel-safe, so a fresh future on each poll loses nothing.
            let message = ready!(pin!(this.reader.wait()).poll(context));
            match message {
                Some(ChannelMsg::Data { data }) => this.rest = data,
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    locked(&this.beside.0).add_stderr(&data);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    locked(&this.beside.0).exit_status = i32::try_from(exit_status).ok();
                }
                // An exit status may still follow the end of the data.
                Some(ChannelMsg::Close) | None => this.end(),
                Some(_) => {}
            }
        }
    }
}

impl AsyncWrite for ChannelIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.writer.as_mut().poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.as_mut().poll_shutdown(context)
    }
}

impl Drop for ChannelIo {
    fn drop(&mut self) {
        self.end();
        if let Some(half) = self.half.take() {
            self.runtime.spawn(async move {
                let _ = half.close().await;
            });
        }
    }
}

/// The stream an SFTP client speaks on: one channel, or one external command.
pub struct SftpStream {
    inner: Inner,
    report: SftpReport,
}

enum Inner {
    Channel(Box<ChannelIo>),
    Child(Box<ChildIo>),
}

impl std::fmt::Debug for SftpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SftpStream").field("report", &self.report).finish_non_exhaustive()
    }
}

/// Says afterwards why a stream ended. Kept beside the client that owns the stream.
#[derive(Debug, Clone)]
pub struct SftpReport {
    host: String,
    /// The program, for an external command.
    program: Option<String>,
    beside: Arc<(Mutex<Beside>, Notify)>,
}

impl SftpStream {
    pub(super) fn channel(io: ChannelIo, host: &str) -> Self {
        let report = SftpReport { host: host.to_owned(), program: None, beside: io.beside() };
        Self { inner: Inner::Channel(Box::new(io)), report }
    }

    pub(super) fn child(io: ChildIo, host: &str, program: String) -> Self {
        let report =
            SftpReport { host: host.to_owned(), program: Some(program), beside: io.beside() };
        Self { inner: Inner::Child(Box::new(io)), report }
    }

    /// To be asked when the stream ends early or does not speak SFTP.
    #[must_use]
    pub fn report(&self) -> SftpReport {
        self.report.clone()
    }
}

impl SftpReport {
    /// The error for a stream that ended, or whose first bytes, `received`, are no SFTP version
    /// packet. Waits at most a second for an exit status that is still on its way.
    pub async fn error(&self, received: &[u8]) -> SshError {
        let done = self.beside.1.notified();
        if !locked(&self.beside.0).ended {
            let _ = tokio::time::timeout(Duration::from_secs(1), done).await;
        }
        let beside = locked(&self.beside.0);
        let stderr = printable(&String::from_utf8_lossy(&beside.stderr));
        let problem = match &self.program {
            // A command that spoke itself tells more than what we make of its output.
            Some(program) if received.is_empty() || !stderr.is_empty() => Problem::Command {
                program: program.clone(),
                exit_status: beside.exit_status,
                class: Class::of_words(&stderr),
                stderr,
            },
            _ if received.is_empty() && stderr.is_empty() && beside.exit_status.is_none() => {
                Problem::Disconnected { message: None }
            }
            _ => {
                let mut output = printable(&String::from_utf8_lossy(received));
                if output.is_empty() {
                    output = stderr;
                }
                Problem::SftpUnavailable {
                    output,
                    exit_status: beside.exit_status.and_then(|s| u32::try_from(s).ok()),
                }
            }
        };
        SshError::new(Stage::Channel, &self.host, problem)
    }
}

impl Inner {
    fn reader(&mut self) -> Pin<&mut (dyn AsyncRead + Send + Unpin)> {
        match self {
            Self::Channel(io) => Pin::new(io.as_mut()),
            Self::Child(io) => Pin::new(io.as_mut()),
        }
    }

    fn writer(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match self {
            Self::Channel(io) => Pin::new(io.as_mut()),
            Self::Child(io) => Pin::new(io.as_mut()),
        }
    }
}

impl AsyncRead for SftpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner.reader().poll_read(context, buffer)
    }
}

impl AsyncWrite for SftpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner.writer().poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.writer().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.writer().poll_shutdown(context)
    }
}
