//! Who came in through a listener is served here, each connection by a task of its own. One that says
//! nothing is closed after a while: each keeps a file open, and a process may have only so many.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;

/// How long the head of a request may take; also how long a connection waits for the next one.
pub(crate) const HEAD: Duration = Duration::from_secs(30);

/// Serves `app` to all who come, until the runtime ends. The head of a request may take `head`.
pub(crate) async fn serve<L>(mut listener: L, app: Router, head: Duration)
where
    L: Listener<Addr = SocketAddr>,
{
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head);
    loop {
        let (stream, peer) = listener.accept().await;
        let app: Router =
            Router::new().fallback_service(app.clone()).layer(Extension(ConnectInfo(peer)));
        let builder = builder.clone();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(app);
            // How a connection ends is the other end's affair.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    #[tokio::test]
    async fn who_says_nothing_is_closed_and_who_asks_is_answered()
    -> Result<(), Box<dyn std::error::Error>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() };
        let app = Router::new().route("/", get(who));
        tokio::spawn(serve(listener, app, Duration::from_millis(300)));
        let ended = |begin: &'static str| async move {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(begin.as_bytes()).await?;
            let mut text = String::new();
            // It is the server that ends it.
            timeout(Duration::from_secs(60), stream.read_to_string(&mut text)).await??;
            Ok::<_, Box<dyn std::error::Error>>((stream.local_addr()?.to_string(), text))
        };
        for silent in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
            assert!(!ended(silent).await?.1.contains(" 200 "), "{silent:?}");
        }
        // Also one that was answered, and asks no more.
        let (own, text) = ended("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        assert!(text.contains(" 200 ") && text.ends_with(&own), "{text}");
        Ok(())
    }
}
