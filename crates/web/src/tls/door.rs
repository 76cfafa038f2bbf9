//! Where encrypted connections come in. Each handshake is a task of its own with a time limit, so that
//! nobody who is slow, or says nothing, keeps others out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait to be served.
const QUEUE: usize = 64;
/// What TLS begins with; no text does.
const RECORD: u8 = 0x16;

type Ready = (TlsStream<TcpStream>, SocketAddr);

/// Connections whose handshake is done.
#[derive(Debug)]
pub(crate) struct Door {
    ready: mpsc::Receiver<Ready>,
    address: SocketAddr,
}

impl Door {
    /// Lets in who comes to `listener`, from now on. Must be called inside a runtime.
    pub(crate) fn open(listener: TcpListener, config: Arc<ServerConfig>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(QUEUE);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), sender));
        Ok(Self { ready, address })
    }
}

async fn accept(mut listener: TcpListener, acceptor: TlsAcceptor, ready: mpsc::Sender<Ready>) {
    while !ready.is_closed() {
        // The trait's way waits when no more files can be opened.
        let (stream, peer) = Listener::accept(&mut listener).await;
        let (acceptor, ready) = (acceptor.clone(), ready.clone());
        tokio::spawn(async move {
            if let Ok(Some(stream)) = timeout(HANDSHAKE, greet(stream, acceptor)).await {
                let _ = ready.send((stream, peer)).await;
            }
        });
    }
}

/// The handshake; `None` if it did not come to one.
async fn greet(stream: TcpStream, acceptor: TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(1) if first == [RECORD] => acceptor.accept(stream).await.ok(),
        Ok(1) => {
            let _ = refuse(stream).await;
            None
        }
        Ok(_) | Err(_) => None,
    }
}

/// Tells who does not speak TLS what is spoken here.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    const TEXT: &str = "This port speaks TLS: its address begins with https://\n";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{TEXT}",
        TEXT.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What is left unread would have the system break the connection before the answer is seen.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

impl Listener for Door {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> Ready {
        match self.ready.recv().await {
            Some(ready) => ready,
            // The runtime ends, and this with it.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
