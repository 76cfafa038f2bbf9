//! HTTP/1.1 for the SDK: connections that are kept and shared, bodies that may not stall, and
//! failures that say how far a request came. It sends a request once. Only one that finds its kept
//! connection closed before a byte of it was written is written to another one.
//!
//! Not a client library of the usual kind, since those clean paths up: `a/../b` and `a//b` are keys.

use std::collections::HashMap;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::header::{HOST, HeaderValue};
use http::{Request, Response, Uri};
use hyper::client::conn::http1::SendRequest;

use self::body::{Progress, Received, Sending};
use self::connect::{Connector, Target};
use super::error::{Class, Stage};
use super::record::Recorder;
use crate::locked;

mod body;
pub(super) mod connect;
pub(super) mod tls;

/// Connections that waited longer for a request are closed instead of used: servers close them
/// sooner or later.
const IDLE: Duration = Duration::from_secs(20);

/// What may lie in buffers of the system once a request is written, and the slowest line that may
/// have to carry it (bytes a second).
const BUFFERED: u64 = 4 << 20;
const SLOWEST: u64 = 16 << 10;

/// Marks a request that must find a fresh connection: a kept one may be closed by the server at
/// the moment it is used, and then nobody knows whether the request was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh;

/// Marks a request that may keep the server busy for long before it answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slow;

/// A failure below HTTP.
#[derive(Debug)]
pub(super) struct TransportError {
    pub(super) class: Class,
    pub(super) stage: Stage,
    /// The cause, without anything of the request.
    pub(super) what: String,
    /// Whether the server may have got the request.
    pub(super) was_sent: bool,
}

impl TransportError {
    fn new(class: Class, stage: Stage, what: impl Into<String>) -> Self {
        Self { class, stage, what: what.into(), was_sent: false }
    }

    /// On an open connection.
    fn broken(class: Class, what: impl Into<String>) -> Self {
        Self { was_sent: true, ..Self::new(class, Stage::Request, what) }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for TransportError {}

/// An error and what lies below it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        below = error.source();
    }
    text
}

/// A connection that waits for a request.
#[derive(Debug)]
struct Kept {
    sender: SendRequest<Sending>,
    since: Instant,
}

#[derive(Debug)]
struct Inner {
    connector: Connector,
    timeout: Duration,
    recorder: Arc<Recorder>,
    kept: Mutex<HashMap<Target, Vec<Kept>>>,
}

/// Sends requests. Clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct Transport(Arc<Inner>);

impl Transport {
    pub(super) fn new(connector: Connector, timeout: Duration, recorder: Arc<Recorder>) -> Self {
        Self(Arc::new(Inner { connector, timeout, recorder, kept: Mutex::default() }))
    }

    async fn send(&self, request: Request<SdkBody>) -> Result<Response<SdkBody>, TransportError> {
        let target = Target::of(request.uri())?;
        let extensions = request.extensions();
        let mut fresh = extensions.get::<Fresh>().is_some();
        let slow = if extensions.get::<Slow>().is_some() { 10 } else { 1 };
        let length = request.body().content_length().unwrap_or_default();
        let progress = Arc::new(Progress::new(length));
        let body = |body| Sending::new(body, progress.clone(), self.0.recorder.clone());
        let mut request = self.addressed(request.map(body), &target)?;
        loop {
            let (mut sender, is_kept) = match self.take(&target, fresh).await {
                Some(sender) => (sender, true),
                None => (self.0.connector.connect(&target).await?, false),
            };
            progress.touch();
            let answer = self.watched(&progress, slow, sender.try_send_request(request)).await?;
            let mut error = match answer {
                Ok(response) => return Ok(self.received(response, target, sender)),
                Err(error) => error,
            };
            match error.take_message() {
                // It was never written. One connection that was just made will do.
                Some(unsent) if is_kept => {
                    request = unsent;
                    fresh = true;
                }
                unsent => {
                    let was_sent = unsent.is_none();
                    let what = chain(&error.into_error());
                    return Err(TransportError {
                        was_sent,
                        ..TransportError::broken(Class::Disconnected, what)
                    });
                }
            }
        }
    }

    /// The request as the server or the proxy wants to see it.
    fn addressed(
        &self,
        mut request: Request<Sending>,
        target: &Target,
    ) -> Result<Request<Sending>, TransportError> {
        let unusable = |e: &dyn fmt::Display| {
            TransportError::new(Class::Settings, Stage::Settings, format!("the address: {e}"))
        };
        let host = HeaderValue::from_str(&target.host_header()).map_err(|e| unusable(&e))?;
        request.headers_mut().insert(HOST, host);
        match self.0.connector.forwarding(target) {
            Some(authorization) => {
                if let Some(value) = authorization {
                    request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value);
                }
            }
            None => {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri = path.parse::<Uri>().map_err(|e| unusable(&e))?;
                *request.uri_mut() = uri;
            }
        }
        Ok(request)
    }

    /// Waits for `work` while bytes move.
    async fn watched<T>(
        &self,
        progress: &Progress,
        slow: u32,
        work: impl Future<Output = T>,
    ) -> Result<T, TransportError> {
        let mut work = pin!(work);
        loop {
            let (since, buffered) = progress.state();
            let buffered = Duration::from_secs(buffered.min(BUFFERED) / SLOWEST);
            let end = since + self.0.timeout * slow + buffered;
            if let Ok(done) = tokio::time::timeout_at(end.into(), &mut work).await {
                return Ok(done);
            }
            if progress.state().0 == since {
                let what = format!("nothing happened for {:?}", end - since);
                return Err(TransportError::broken(Class::Timeout, what));
            }
        }
    }

    fn received(
        &self,
        response: Response<hyper::body::Incoming>,
        target: Target,
        sender: SendRequest<Sending>,
    ) -> Response<SdkBody> {
        response.map(|incoming| {
            let kept = Some((self.clone(), target, sender));
            SdkBody::from_body_1_x(Received::new(incoming, kept, self.0.timeout))
        })
    }

    /// A kept connection.
    async fn take(&self, target: &Target, fresh: bool) -> Option<SendRequest<Sending>> {
        if fresh {
            return None;
        }
        loop {
            // The youngest: the rest age, and are closed.
            let kept = {
                let mut all = locked(&self.0.kept);
                let kept = all.get_mut(target)?;
                kept.retain(|kept| kept.since.elapsed() < IDLE && !kept.sender.is_closed());
                kept.pop()?
            };
            let mut sender = kept.sender;
            if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), sender.ready()).await {
                return Some(sender);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end.
    fn keep(&self, target: Target, sender: SendRequest<Sending>) {
        let kept = Kept { sender, since: Instant::now() };
        locked(&self.0.kept).entry(target).or_default().push(kept);
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let transport = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
            let failed = |error: TransportError| ConnectorError::other(Box::new(error), None);
            let response = transport.send(request).await.map_err(failed)?;
            response.try_into().map_err(|e| ConnectorError::other(Box::new(e), None))
        })
    }
}

/// Requests for credentials come with limits of their own: an instance without a role does not
/// answer at all.
#[derive(Debug)]
struct Limited(Transport, Duration);

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (call, limit) = (self.0.call(request), self.1);
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(limit, call).await {
                Ok(answer) => answer,
                Err(error) => Err(ConnectorError::timeout(error.into())),
            }
        })
    }
}

impl HttpClient for Transport {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let limits = [settings.connect_timeout(), settings.read_timeout()];
        match limits.into_iter().flatten().sum() {
            Duration::ZERO => SharedHttpConnector::new(self.clone()),
            limit => SharedHttpConnector::new(Limited(self.clone(), limit)),
        }
    }
}

/// Boxed, since it is polled wherever a body goes.
type Timer = Pin<Box<tokio::time::Sleep>>;
