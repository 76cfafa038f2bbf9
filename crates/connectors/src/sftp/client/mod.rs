//! A client for SFTP version 3, over any stream of bytes: an SSH channel, or the pipes of a program
//! that speaks to one. Names and handles are bytes. Calls may be made from many tasks at once; all
//! of them share the connection, and many requests are in flight.
//!
//! [`Client`] has the operations on paths, [`File`] and [`Directory`] those on what is open.
//! When a connection fails, everything that waits fails with [`ClientErrorKind::Disconnected`] or
//! [`ClientErrorKind::Timeout`], and so does everything later: making a new one is the caller's
//! work. Dropping any future is safe: late replies are discarded, late handles closed.

mod attributes;
mod core;
mod directory;
mod error;
mod extensions;
mod fetch;
mod file;
pub mod fuzz;
mod operations;
mod record;
mod reply;
mod small;
mod tasks;
mod wire;
mod write;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

pub use attributes::{Attributes, FileKind, FileSystem};
pub use directory::Directory;
pub use error::{ClientError, ClientErrorKind, ClientResult, DisconnectCause, Status};
pub use fetch::Reader;
pub use file::{File, OpenFlags};
pub use record::{Extension, Operation, Recorder};
pub use reply::{DirectoryEntry, Limits, Names};
pub use small::{SmallFile, WriteSmall};
pub use write::Writer;

use self::core::{Core, LONGEST_REPLY, PACKET_BY_DRAFT, Waiter};
use self::wire::{Malformed, Packet};

/// Bytes that every server can read or write at once.
const SIZE_BY_DRAFT: u32 = 32 * 1024;
/// Most bytes read or written at once: OpenSSH's packets without their head.
const LARGEST_SIZE: u32 = 255 * 1024;
/// Announced sizes below this are taken for nonsense.
const SMALLEST_SIZE: u64 = 1024;
/// Longest packets that a server may announce for replies; more is not used.
const LONGEST_ANNOUNCED: u64 = 4 * 1024 * 1024;

/// Which of the two paths comes first in a request for a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SymlinkOrder {
    /// The target, then the link: OpenSSH, and the many servers that follow it.
    #[default]
    TargetFirst,
    /// The link, then the target: the draft.
    LinkFirst,
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// How long no byte may come or go while a request waits. Forcing a file to disk may take five
    /// times as long. A single request may stay unanswered ten times as long while others are
    /// served. After that the connection is given up.
    pub timeout: Duration,
    /// Most requests in flight; more calls wait for their turn.
    pub requests_in_flight: usize,
    /// Most bytes in flight: of requests, and of the content they ask for.
    pub bytes_in_flight: usize,
    /// Most bytes to ask for or to send with one request, at most 255 KiB. What the server allows
    /// is a limit as well: without the extension "limits" that is 32 KiB.
    pub largest_transfer: u32,
    /// See [`SymlinkOrder`].
    pub symlink_order: SymlinkOrder,
    /// Counts requests and bytes. Several connections may share one.
    pub recorder: Option<Arc<Recorder>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(60),
            requests_in_flight: 512,
            bytes_in_flight: 16 * 1024 * 1024,
            largest_transfer: LARGEST_SIZE,
            symlink_order: SymlinkOrder::default(),
            recorder: None,
        }
    }
}

/// A connection to an SFTP server. Clones share it. It ends when the last clone, open file and
/// directory of it is dropped.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What clients, files and directories of one connection hold in common.
#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    extensions: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the server told of itself; nothing before its answer is there.
    limits: OnceLock<Limits>,
    symlink_order: SymlinkOrder,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.kill(DisconnectCause::Closed);
    }
}

impl Client {
    /// Starts SFTP on a stream. Needs to be called within a tokio runtime with its timer, which
    /// then runs the tasks of the connection.
    pub async fn connect<S>(stream: S, options: &ClientOptions) -> ClientResult<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(stream);
        Self::connect_halves(reader, writer, options).await
    }

    /// As [`Client::connect`], on a stream that comes in two parts, such as the pipes of a program.
    pub async fn connect_halves<R, W>(
        reader: R,
        writer: W,
        options: &ClientOptions,
    ) -> ClientResult<Self>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, queue) = mpsc::unbounded_channel();
        let mut shared = Shared {
            core: Arc::new(Core::new(sender, options)),
            extensions: Vec::new(),
            limits: OnceLock::new(),
            symlink_order: options.symlink_order,
        };
        let core = shared.core.clone();
        let hello = tasks::start(&core, reader, writer, queue, options.timeout).await?;
        if hello.version != 3 {
            let what = Malformed("the server does not speak version 3");
            return Err(ClientError::malformed(Operation::Init, b"", what));
        }
        shared.extensions = hello.extensions;
        let largest = options.largest_transfer;
        shared.apply(Limits::default(), largest);
        let shared = Arc::new(shared);
        if shared.supports(Extension::Limits) {
            // What is small need not wait for the answer.
            let asked = core.submit(Packet::new(Operation::Limits), &no_path(), 0).await?;
            let weak = Arc::downgrade(&shared);
            tokio::spawn(async move {
                // A server that announces limits and does not tell them is one without limits.
                let told = asked.get(|reply| reply.limits()).await;
                if let (Ok(limits), Some(shared)) = (told, weak.upgrade()) {
                    shared.apply(limits, largest);
                    let _ = shared.limits.set(limits);
                }
            });
        }
        Ok(Self { shared })
    }

    /// Whether the server announced this extension, in the version that this client speaks. It may
    /// still refuse it.
    pub fn supports(&self, extension: Extension) -> bool {
        self.shared.supports(extension)
    }

    /// Names and versions of all extensions that the server announced.
    pub fn extensions(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.shared.extensions
    }

    /// The limits that the server told, as far as its answer is there. It is asked for first of
    /// all, and may come after those to a few small requests.
    pub fn limits(&self) -> Limits {
        self.shared.limits.get().copied().unwrap_or_default()
    }

    /// Bytes asked for with one read at present.
    pub fn read_size(&self) -> u32 {
        self.shared.core.read_size.load(Ordering::Relaxed)
    }

    /// Bytes sent with one write.
    pub fn write_size(&self) -> u32 {
        self.shared.core.write_size.load(Ordering::Relaxed)
    }

    /// What went over this connection, and over others that share the recorder.
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.shared.core.recorder
    }

    /// Whether the connection is gone: every call fails.
    pub fn is_dead(&self) -> bool {
        self.shared.core.dead().is_some()
    }

    /// Waits until the connection is gone, and says why.
    pub async fn closed(&self) -> Arc<DisconnectCause> {
        self.shared.core.death().await
    }

    /// Ends the connection now. Everything that waits fails.
    pub fn disconnect(&self) {
        self.shared.core.kill(DisconnectCause::Closed);
    }
}

impl Shared {
    fn supports(&self, extension: Extension) -> bool {
        let (name, version) = (extension.name(), extension.version());
        self.extensions.iter().any(|(n, v)| n == name && v == version)
    }

    /// An error without asking the server if it did not announce what is needed.
    fn need(&self, operation: Operation, path: &[u8]) -> ClientResult<()> {
        match operation.extension() {
            Some(extension) if !self.supports(extension) => {
                Err(ClientError::new(ClientErrorKind::Unsupported, operation, path))
            }
            _ => Ok(()),
        }
    }

    fn apply(&self, limits: Limits, largest: u32) {
        let core = &self.core;
        let packet = limits.packet.filter(|packet| *packet >= u64::from(PACKET_BY_DRAFT));
        if let Some(packet) = packet.map(|packet| packet.min(LONGEST_ANNOUNCED) as u32) {
            core.longest_request.store(packet, Ordering::Relaxed);
            core.longest_reply.store(LONGEST_REPLY.max(packet + 1024), Ordering::Relaxed);
        }
        let size = |announced: Option<u64>| {
            // A kibibyte of each packet is left for what is not content.
            let room = core.longest_request.load(Ordering::Relaxed).saturating_sub(1024);
            let size = announced
                .filter(|size| *size >= SMALLEST_SIZE)
                .map(|size| u32::try_from(size).unwrap_or(u32::MAX).min(room));
            let largest = largest.clamp(1, LARGEST_SIZE);
            size.unwrap_or(SIZE_BY_DRAFT).min(largest)
        };
        core.read_size.store(size(limits.read), Ordering::Relaxed);
        core.write_size.store(size(limits.write), Ordering::Relaxed);
    }

    /// Sends a request about a path.
    async fn submit(&self, packet: Packet, path: &[u8]) -> ClientResult<Waiter> {
        self.need(packet.operation, path)?;
        self.core.submit(packet, &Arc::from(path), 0).await
    }
}

/// For requests about no path.
fn no_path() -> Arc<[u8]> {
    Arc::from(&b""[..])
}
