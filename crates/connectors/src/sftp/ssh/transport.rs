//! The bytes below SSH: names to addresses, TCP, and programs that stand in for it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Problem;
use super::target::bracketed;
use crate::network::{self, Why};

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

/// Connects to the first address that answers.
pub(super) async fn tcp(
    host: &str,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Failed> {
    let failed = match network::connect(addresses, Instant::now() + limit).await {
        Ok(stream) => return Ok(stream),
        Err(Some(failed)) => failed,
        Err(None) => return Err((Problem::NameNotFound { name: host.to_owned() }, None)),
    };
    let (port, ip) = (failed.address.port(), failed.address.ip());
    let address = format!("{}:{port} ({ip})", bracketed(host));
    let problem = match failed.why {
        Why::Refused => Problem::Refused { address },
        Why::Timeout => Problem::Timeout { after: limit },
        Why::Unreachable => Problem::Unreachable { address },
    };
    Err((problem, failed.error))
}
