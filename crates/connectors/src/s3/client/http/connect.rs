//! From an address to a connection that speaks HTTP: name, TCP, perhaps a proxy, perhaps TLS. Each
//! step has a stage of its own in the error.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::error::{Class, Stage};
use super::body::Sending;
use super::{TransportError, chain};
use crate::network::{self, Why};

/// Longest answer of a proxy to a request for a tunnel, in bytes.
const TUNNEL_ANSWER: usize = 8 << 10;

/// What connections lead to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    is_tls: bool,
    /// Without brackets.
    host: String,
    port: u16,
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self, TransportError> {
        let is_tls = uri.scheme_str() == Some("https");
        let Some(host) = uri.host() else {
            let what = "the address has no host";
            return Err(TransportError::new(Class::Settings, Stage::Settings, what));
        };
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { is_tls, host: host.to_owned(), port })
    }

    /// As the header `Host` and signatures have it.
    pub(super) fn host_header(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.bracketed(),
            _ => self.authority(),
        }
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }

    fn authority(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    fn uri(&self) -> Option<Uri> {
        let scheme = if self.is_tls { "https" } else { "http" };
        let builder = Uri::builder().scheme(scheme).authority(self.authority());
        builder.path_and_query("/").build().ok()
    }
}

/// Makes connections.
#[derive(Debug)]
pub(in super::super) struct Connector {
    tls: Option<Arc<ClientConfig>>,
    proxies: Matcher,
    limit: Duration,
}

impl Connector {
    /// `limit` is for the whole of a connection. Proxies are those of the environment. Without
    /// `tls`, what wants it fails.
    pub(in super::super) fn new(tls: Option<Arc<ClientConfig>>, limit: Duration) -> Self {
        Self { tls, proxies: Matcher::from_env(), limit }
    }

    /// Whether requests go to a proxy that passes them on, and with which authorization.
    pub(super) fn forwarding(&self, target: &Target) -> Option<Option<HeaderValue>> {
        if target.is_tls {
            return None;
        }
        let proxy = self.proxies.intercept(&target.uri()?)?;
        Some(proxy.basic_auth().cloned())
    }

    pub(super) async fn connect(
        &self,
        target: &Target,
    ) -> Result<SendRequest<Sending>, TransportError> {
        let end = Instant::now() + self.limit;
        let proxy = target.uri().and_then(|uri| self.proxies.intercept(&uri));
        let tcp = match &proxy {
            None => self.tcp(&target.host, target.port, end).await?,
            Some(proxy) => {
                let uri = proxy.uri();
                if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
                    let what = "only proxies that are spoken to in plain HTTP can be used";
                    return Err(TransportError::new(Class::Settings, Stage::Settings, what));
                }
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let through = |error: TransportError| TransportError {
                    what: format!("the proxy {host}: {}", error.what),
                    ..error
                };
                let port = uri.port_u16().unwrap_or(80);
                let mut tcp = self.tcp(host, port, end).await.map_err(through)?;
                if target.is_tls {
                    let tunnel = tunnel(&mut tcp, target, proxy.basic_auth());
                    match timeout_at(end, tunnel).await {
                        Ok(open) => open.map_err(through)?,
                        Err(_) => return Err(through(self.too_late(Stage::Connect))),
                    }
                }
                tcp
            }
        };
        if !target.is_tls {
            return http(tcp).await;
        }
        let Some(tls) = &self.tls else {
            let what = format!("{}: the system has no certificates of authorities", target.host);
            return Err(TransportError::new(Class::Settings, Stage::Settings, what));
        };
        let failed = |e: &(dyn std::error::Error + 'static)| {
            TransportError::new(Class::Tls, Stage::Tls, chain(e))
        };
        let name = ServerName::try_from(target.host.clone()).map_err(|e| failed(&e))?;
        match timeout_at(end, TlsConnector::from(tls.clone()).connect(name, tcp)).await {
            Ok(Ok(stream)) => http(stream).await,
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(self.too_late(Stage::Tls)),
        }
    }

    fn too_late(&self, stage: Stage) -> TransportError {
        TransportError::new(Class::Timeout, stage, format!("no answer for {:?}", self.limit))
    }

    /// Connects to the first address that answers.
    async fn tcp(&self, host: &str, port: u16, end: Instant) -> Result<TcpStream, TransportError> {
        let unknown = |what: String| {
            TransportError::new(Class::NameNotFound, Stage::Resolve, format!("{host}: {what}"))
        };
        // RFC 6761: a bucket's name below this machine's own, which not every system resolves.
        let name = if host.ends_with(".localhost") { "localhost" } else { host };
        let left = end.saturating_duration_since(Instant::now());
        let found: Vec<SocketAddr> =
            match timeout(left, tokio::net::lookup_host((name, port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => return Err(unknown(error.to_string())),
                Err(_) => return Err(self.too_late(Stage::Resolve)),
            };
        network::connect(&found, end).await.map_err(|failed| {
            let Some(failed) = failed else { return unknown("it has no address".into()) };
            let class = match failed.why {
                Why::Refused => Class::Refused,
                Why::Timeout => Class::Timeout,
                Why::Unreachable => Class::Unreachable,
            };
            let what = format!("{host} ({}): {failed}", failed.address);
            TransportError::new(class, Stage::Connect, what)
        })
    }
}

/// Asks a proxy for a way to the target.
async fn tunnel(
    tcp: &mut TcpStream,
    target: &Target,
    authorization: Option<&HeaderValue>,
) -> Result<(), TransportError> {
    let failed = |class, what: String| TransportError::new(class, Stage::Connect, what);
    let to = target.authority();
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(value) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |e: io::Error| failed(Class::Disconnected, e.to_string());
    tcp.write_all(&request).await.map_err(broken)?;
    // Byte by byte: what follows the answer belongs to TLS.
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= TUNNEL_ANSWER {
            return Err(failed(Class::WrongEndpoint, "it does not answer like a proxy".into()));
        }
        answer.push(tcp.read_u8().await.map_err(broken)?);
    }
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    let is_open = line.starts_with("HTTP/1.") && line.split(' ').nth(1) == Some("200");
    match is_open {
        true => Ok(()),
        false => Err(failed(Class::Unreachable, format!("it answered \"{}\"", line.trim()))),
    }
}

/// Starts HTTP on a stream.
async fn http<S>(stream: S) -> Result<SendRequest<Sending>, TransportError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| TransportError::new(Class::Disconnected, Stage::Connect, chain(&e)))?;
    // What it ends with, the request that it serves is told.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Target {
        Target::of(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn the_usual_port_is_left_out() {
        assert_eq!(target("https://h/b").host_header(), "h");
        assert_eq!(target("https://h:443/b").host_header(), "h");
        assert_eq!(target("https://h:80/b").host_header(), "h:80");
        assert_eq!(target("http://[::1]:9000/b").host_header(), "[::1]:9000");
        assert_eq!(target("http://[::1]/b").authority(), "[::1]:80");
    }
}
