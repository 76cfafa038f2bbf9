//! The tasks of a connection: one writes, one reads, one watches the time. Each ends when the
//! connection is dead, and the connection dies when one of them ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;

use super::core::Core;
use super::error::{ClientError, ClientErrorKind, ClientResult, DisconnectCause, printable};
use super::record::Operation;
use super::reply::{Reply, ServerVersion};
use super::wire::INIT;

/// Small packets are put together up to this many bytes, so that they make one write.
const GATHER: usize = 32 * 1024;
/// Packets taken from the queue at once.
const BATCH: usize = 64;
/// How much of an unexpected text is shown.
const SHOWN: usize = 120;
/// How long the other side may take to be told of the end.
const GOODBYE: Duration = Duration::from_secs(1);

/// One half of the stream: counts bytes, and notes when they move.
#[derive(Debug)]
pub(super) struct Metered<T> {
    inner: T,
    core: Arc<Core>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.inner).poll_read(context, buffer);
        let bytes = buffer.filled().len().saturating_sub(before);
        if bytes > 0 {
            self.core.recorder.add_received(bytes);
            self.core.progressed();
        }
        answer
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let answer = Pin::new(&mut self.inner).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &answer {
            self.core.recorder.add_sent(*written);
            self.core.progressed();
        }
        answer
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Speaks the first words, then starts the tasks. Returns what the server says of itself.
pub(super) async fn start<R, W>(
    core: &Arc<Core>,
    reader: R,
    writer: W,
    queue: UnboundedReceiver<Vec<u8>>,
    timeout: Duration,
) -> ClientResult<ServerVersion>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let mut reader =
        BufReader::with_capacity(64 * 1024, Metered { inner: reader, core: core.clone() });
    let mut writer = Metered { inner: writer, core: core.clone() };
    let hello = tokio::time::timeout(timeout, hello(core, &mut reader, &mut writer)).await;
    let error =
        |kind, cause| Err(ClientError::disconnected(Operation::Init, b"", kind, Arc::new(cause)));
    let hello = match hello {
        Ok(Ok(reply)) => reply,
        Ok(Err(cause)) => return error(ClientErrorKind::Disconnected, cause),
        Err(_) => return error(ClientErrorKind::Timeout, DisconnectCause::Silent(timeout)),
    };
    let version =
        hello.version().map_err(|what| ClientError::malformed(Operation::Init, b"", what))?;

    let guard = Guard(core.clone());
    tokio::spawn(async move {
        let cause = tokio::select! {
            cause = read(&guard.0, &mut reader) => cause,
            _ = guard.0.death() => return,
        };
        guard.0.kill(cause);
    });
    let guard = Guard(core.clone());
    tokio::spawn(async move {
        let cause = tokio::select! {
            cause = write(queue, &mut writer) => Some(cause),
            _ = guard.0.death() => None,
        };
        if let Some(cause) = cause {
            guard.0.kill(cause);
        }
        // Whether the other side hears it changes nothing here.
        let _ = tokio::time::timeout(GOODBYE, writer.shutdown()).await;
    });
    let guard = Guard(core.clone());
    tokio::spawn(async move {
        let pause = (timeout / 8).max(Duration::from_millis(5));
        while tokio::time::timeout(pause, guard.0.death()).await.is_err() {
            guard.0.watch();
        }
    });
    Ok(version)
}

/// Ends the connection with the task that holds it, however that ends: by itself, by a panic, or
/// with its runtime.
struct Guard(Arc<Core>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.kill(DisconnectCause::Stopped);
    }
}

async fn hello<R, W>(
    core: &Core,
    reader: &mut BufReader<R>,
    writer: &mut W,
) -> Result<Reply, DisconnectCause>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    core.recorder.count(Operation::Init);
    writer.write_all(&[0, 0, 0, 5, INIT, 0, 0, 0, 3]).await.map_err(broken)?;
    writer.flush().await.map_err(broken)?;
    let (kind, length) = head(core, reader).await?;
    Ok(Reply { kind, body: body(reader, length).await? })
}

/// The type of the next packet, and the length of all that is behind it.
async fn head<R: AsyncRead + Unpin>(
    core: &Core,
    reader: &mut BufReader<R>,
) -> Result<(u8, u32), DisconnectCause> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await.map_err(broken)?;
    let length = u32::from_be_bytes(head);
    let longest = core.longest_reply.load(Ordering::Relaxed);
    if length > longest {
        let behind = reader.buffer();
        let behind = behind.get(..SHOWN).unwrap_or(behind);
        return Err(if head.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
            DisconnectCause::Text { text: printable(&[&head, behind].concat()) }
        } else {
            DisconnectCause::TooLong { length, longest }
        });
    }
    let Some(length) = length.checked_sub(1) else {
        return Err(DisconnectCause::Garbage("a packet without a type"));
    };
    Ok((reader.read_u8().await.map_err(broken)?, length))
}

async fn body<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    length: u32,
) -> Result<Vec<u8>, DisconnectCause> {
    let mut body = Vec::with_capacity(length as usize);
    reader.take(u64::from(length)).read_to_end(&mut body).await.map_err(broken)?;
    if body.len() < length as usize { Err(DisconnectCause::Ended) } else { Ok(body) }
}

fn broken(error: io::Error) -> DisconnectCause {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => DisconnectCause::Ended,
        _ => DisconnectCause::Io(error),
    }
}

/// Hands replies to those who wait for them, until something is wrong.
async fn read<R: AsyncRead + Unpin>(core: &Core, reader: &mut BufReader<R>) -> DisconnectCause {
    loop {
        let (id, reply) = match reply(core, reader).await {
            Ok(found) => found,
            Err(cause) => return cause,
        };
        if !core.deliver(id, reply) {
            return DisconnectCause::Garbage("a reply to no request");
        }
    }
}

async fn reply<R: AsyncRead + Unpin>(
    core: &Core,
    reader: &mut BufReader<R>,
) -> Result<(u32, Reply), DisconnectCause> {
    let (kind, length) = head(core, reader).await?;
    let length = length.checked_sub(4).ok_or(DisconnectCause::Garbage("a reply without an id"))?;
    let id = reader.read_u32().await.map_err(broken)?;
    Ok((id, Reply { kind, body: body(reader, length).await? }))
}

/// Writes what is queued, until the stream fails.
async fn write<W: AsyncWrite + Unpin>(
    mut queue: UnboundedReceiver<Vec<u8>>,
    writer: &mut W,
) -> DisconnectCause {
    let mut batch = Vec::with_capacity(BATCH);
    let mut together = Vec::new();
    loop {
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return DisconnectCause::Closed;
        }
        let outcome = async {
            for packet in batch.drain(..) {
                // What is gathered goes first: the order of the queue is kept.
                if together.len() + packet.len() > GATHER {
                    writer.write_all(&together).await?;
                    together.clear();
                }
                if packet.len() < GATHER {
                    together.extend(packet);
                } else {
                    writer.write_all(&packet).await?;
                }
            }
            writer.write_all(&together).await?;
            together.clear();
            writer.flush().await
        };
        if let Err(error) = outcome.await {
            return broken(error);
        }
    }
}
