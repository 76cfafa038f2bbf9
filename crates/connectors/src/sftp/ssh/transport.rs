//! The bytes below SSH: names to addresses, TCP, and programs that stand in for it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Problem;
use super::target::bracketed;

/// Anything that SSH can run over.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A problem and its cause.
pub(super) type Failed = (Problem, Option<io::Error>);

/// Addresses of `host`, at least one.
pub(super) async fn addresses(
    host: &str,
    port: u16,
    limit: Duration,
) -> Result<Vec<SocketAddr>, Failed> {
    let name = || host.to_owned();
    match timeout(limit, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err((Problem::Timeout { after: limit }, None)),
        Ok(Err(error)) => Err((Problem::NameNotFound { name: name() }, Some(error))),
        Ok(Ok(found)) => {
            let found: Vec<_> = found.collect();
            if found.is_empty() {
                return Err((Problem::NameNotFound { name: name() }, None));
            }
            Ok(found)
        }
    }
}

/// Connects to the first address that answers. Each gets an equal share of what is left of the
/// time, so that one dead address does not eat it all.
pub(super) async fn tcp(
    host: &str,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Failed> {
    let end = Instant::now() + limit;
    let mut worst: Option<(u8, Failed)> = None;
    for (at, address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let shown = format!("{}:{} ({})", bracketed(host), address.port(), address.ip());
        let (rank, failed) =
            match timeout_at(Instant::now() + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Requests are small and wait for answers: Nagle's algorithm would hold them back.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    (2, (Problem::Refused { address: shown }, Some(error)))
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    (1, (Problem::Timeout { after: limit }, Some(error)))
                }
                Ok(Err(error)) => (0, (Problem::Unreachable { address: shown }, Some(error))),
                Err(_) => (1, (Problem::Timeout { after: limit }, None)),
            };
        // A refusal says most: something answered.
        if worst.as_ref().is_none_or(|(old, _)| rank > *old) {
            worst = Some((rank, failed));
        }
    }
    Err(worst.map_or_else(
        || (Problem::NameNotFound { name: host.to_owned() }, None),
        |(_, failed)| failed,
    ))
}
