//! Connections and requests: the record, the faults, and behind them the protocol.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::{S3Auth, SecretKey};
use s3s::service::S3Service;
use s3s::{Body, HttpError, HttpResponse, S3Result, s3_error};
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::fault::{S3Fault, S3Refusal, S3Rule};
use super::log::S3Request;
use super::request;
use crate::lock;

/// What connections share with the fixture.
pub(super) struct Shared {
    pub(super) service: S3Service,
    /// Requests signed for another region are refused.
    pub(super) region: Option<String>,
    /// Under which buckets are host names.
    pub(super) domain: Option<String>,
    pub(super) rules: Mutex<Vec<S3Rule>>,
    pub(super) log: Mutex<Log>,
    pub(super) running: AtomicUsize,
    pub(super) most: AtomicUsize,
}

/// Requests since the record was cleared.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) requests: Vec<S3Request>,
    /// How many were cleared, so that numbers stay.
    pub(super) cleared: usize,
}

/// One account.
pub(super) struct Keys {
    pub(super) access_key: String,
    pub(super) secret_key: String,
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == self.access_key {
            return Ok(self.secret_key.as_str().into());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Accepts until `stop` changes; then all connections end.
pub(super) fn run(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    stop: watch::Receiver<()>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(accept(listener, tls, shared, stop))?;
    // Whoever waits for a delayed answer waits no more.
    runtime.shutdown_timeout(Duration::from_millis(100));
    Ok(())
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let accepted = tokio::select! {
            _ = stop.changed() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else { continue };
        // Held back packets would look like a slow server.
        let _ = socket.set_nodelay(true);
        let (tls, shared) = (tls.clone(), shared.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(socket, shared).await,
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        connection(socket, shared).await;
                    }
                }
            }
        });
    }
}

async fn connection(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    shared: Arc<Shared>,
) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { serve(&shared, request).await }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    // An error is a client that went, or a fault that closed the connection.
    let _ = builder.serve_connection(TokioIo::new(socket), service).await;
}

async fn serve(
    shared: &Shared,
    request: http::Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most.fetch_max(running, Ordering::SeqCst);
    let answer = recorded(shared, request).await;
    shared.running.fetch_sub(1, Ordering::SeqCst);
    answer
}

async fn recorded(
    shared: &Shared,
    request: http::Request<Incoming>,
) -> Result<HttpResponse, HttpError> {
    let (method, headers) = (request.method(), request.headers());
    let asked = request::read(method, request.uri(), headers, shared.domain.as_deref());
    let record = S3Request::new(asked, headers);
    let fault = lock(&shared.rules).iter_mut().find_map(|rule| rule.strike(&record));
    let number = {
        let mut log = lock(&shared.log);
        log.requests.push(record.clone());
        log.cleared + log.requests.len() - 1
    };
    let answer = faulty(shared, request, &record, fault).await?;
    let mut log = lock(&shared.log);
    let at = number.checked_sub(log.cleared);
    if let Some(logged) = at.and_then(|at| log.requests.get_mut(at)) {
        logged.status = Some(answer.status().as_u16());
        logged.sent = answer.body().size_hint().exact().unwrap_or(0);
    }
    Ok(answer)
}

async fn faulty(
    shared: &Shared,
    request: http::Request<Incoming>,
    record: &S3Request,
    fault: Option<S3Fault>,
) -> Result<HttpResponse, HttpError> {
    let is_head = request.method() == Method::HEAD;
    match fault {
        None => protocol(shared, request, record).await,
        Some(S3Fault::Refuse(refusal)) => refuse(request, record, &refusal).await,
        Some(S3Fault::CloseBefore) => Err(closed()),
        Some(S3Fault::CloseAfter) => {
            protocol(shared, request, record).await?;
            Err(closed())
        }
        Some(S3Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            protocol(shared, request, record).await
        }
        Some(S3Fault::Truncate(length)) => {
            let (parts, body) = protocol(shared, request, record).await?.into_parts();
            let bytes = whole(body).await?;
            let length = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let mut cut = http::Response::from_parts(parts, cut_body(bytes.slice(..length)));
            if !is_head {
                announce(cut.headers_mut(), bytes.len());
            }
            Ok(cut)
        }
        Some(S3Fault::FlipBit) => {
            let (parts, body) = protocol(shared, request, record).await?.into_parts();
            let mut bytes = whole(body).await?.to_vec();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            Ok(http::Response::from_parts(parts, Body::from(bytes)))
        }
    }
}

async fn protocol(
    shared: &Shared,
    request: http::Request<Incoming>,
    record: &S3Request,
) -> Result<HttpResponse, HttpError> {
    if let (Some(region), Some(signed)) =
        (&shared.region, request::signed_region(request.headers()))
        && region != signed
    {
        let refusal = S3Refusal::WrongRegion(region.clone());
        return refuse(request, record, &refusal).await;
    }
    shared.service.call(request.map(Body::from)).await
}

async fn refuse(
    request: http::Request<Incoming>,
    record: &S3Request,
    refusal: &S3Refusal,
) -> Result<HttpResponse, HttpError> {
    let is_head = request.method() == Method::HEAD;
    // A client that still sends may never see an answer.
    let _ = request.into_body().collect().await;
    let text = if is_head { String::new() } else { refusal.xml(record) };
    let mut answer = http::Response::new(Body::from(text));
    *answer.status_mut() =
        StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert("x-amz-request-id", HeaderValue::from_static("4442587FB7D0A2F9"));
    if let Some(region) = refusal.region().and_then(|r| HeaderValue::from_str(r).ok()) {
        headers.insert("x-amz-bucket-region", region);
    }
    Ok(answer)
}

fn closed() -> HttpError {
    HttpError::new(io::Error::other("closed on purpose").into())
}

async fn whole(body: Body) -> Result<Bytes, HttpError> {
    Ok(body.collect().await.map_err(HttpError::new)?.to_bytes())
}

fn announce(headers: &mut HeaderMap, length: usize) {
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
}

/// A body that breaks off behind these bytes.
fn cut_body(bytes: Bytes) -> Body {
    let steps = stream::unfold(Some(bytes), |left| async move {
        match left {
            Some(bytes) => Some((Ok::<_, Infallible>(Frame::data(bytes)), None)),
            None => {
                // What was given goes out before the connection does.
                tokio::time::sleep(Duration::from_millis(20)).await;
                None
            }
        }
    });
    Body::http_body_unsync(StreamBody::new(steps))
}
