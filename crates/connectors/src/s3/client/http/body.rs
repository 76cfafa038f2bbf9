//! Bodies on their way: what is sent is handed over in pieces that are counted, so that a stall is
//! noticed and a slow line is not taken for one; what is received may not pause for too long, and
//! gives its connection back at the end.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::connect::Target;
use super::{Timer, Transport, TransportError, chain};
use crate::locked;
use crate::s3::client::error::Class;
use crate::s3::client::record::Recorder;

/// Bytes that are handed over at a time.
const PIECE: usize = 64 << 10;

/// How the sending of a request gets on.
#[derive(Debug)]
pub(super) struct Progress {
    /// When something moved last, and the bytes handed over.
    state: Mutex<(Instant, u64)>,
    length: u64,
}

impl Progress {
    pub(super) fn new(length: u64) -> Self {
        Self { state: Mutex::new((Instant::now(), 0)), length }
    }

    pub(super) fn touch(&self) {
        locked(&self.state).0 = Instant::now();
    }

    fn add(&self, bytes: usize) {
        let mut state = locked(&self.state);
        *state = (Instant::now(), state.1 + bytes as u64);
    }

    /// When something moved last; and, once all is handed over, how much may still be on its way.
    pub(super) fn state(&self) -> (Instant, u64) {
        let state = locked(&self.state);
        (state.0, if state.1 >= self.length { state.1 } else { 0 })
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct Sending {
    body: SdkBody,
    rest: Bytes,
    progress: Arc<Progress>,
    recorder: Arc<Recorder>,
}

impl Sending {
    pub(super) fn new(body: SdkBody, progress: Arc<Progress>, recorder: Arc<Recorder>) -> Self {
        Self { body, rest: Bytes::new(), progress, recorder }
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        self.progress.add(length);
        self.recorder.add_sent(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let below = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest + below.lower());
        if let Some(upper) = below.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}

/// A response's body.
#[derive(Debug)]
pub(super) struct Received {
    incoming: Incoming,
    /// The connection, until it is given back.
    kept: Option<(Transport, Target, SendRequest<Sending>)>,
    recorder: Option<Arc<Recorder>>,
    limit: Duration,
    timer: Option<Timer>,
}

impl Received {
    pub(super) fn new(
        incoming: Incoming,
        kept: Option<(Transport, Target, SendRequest<Sending>)>,
        limit: Duration,
    ) -> Self {
        let recorder = kept.as_ref().map(|(transport, ..)| transport.0.recorder.clone());
        let mut received = Self { incoming, kept, recorder, limit, timer: None };
        received.give_back_at_end();
        received
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream()
            && let Some((transport, target, sender)) = self.kept.take()
        {
            transport.keep(target, sender);
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                if let (Some(recorder), Some(data)) = (&self.recorder, frame.data_ref()) {
                    recorder.add_received(data.len());
                }
                self.give_back_at_end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.kept = None;
                Poll::Ready(Some(Err(TransportError::broken(Class::Disconnected, chain(&error)))))
            }
            Poll::Ready(None) => {
                self.give_back_at_end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let limit = self.limit;
                let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                ready!(timer.as_mut().poll(cx));
                self.kept = None;
                let what = format!("no byte of the answer came for {limit:?}");
                Poll::Ready(Some(Err(TransportError::broken(Class::Timeout, what))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
