//! The heart of a connection: the table of requests that wait for their reply, the bounds on what
//! is in flight, and the end of it all. Nothing here touches the stream; see `tasks`.
//!
//! A request is in the table from before it is queued until its reply comes, whether its caller
//! still waits or not. So every reply finds its request, and one that does not is garbage.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::error::{ClientError, ClientErrorKind, ClientResult, DisconnectCause};
use super::record::{Operation, Recorder};
use super::reply::Reply;
use super::wire::{Malformed, Packet};
use crate::locked;

/// What a server must take at least, by the draft.
pub(super) const PACKET_BY_DRAFT: u32 = 34_000;
/// Longest reply that is taken, unless the server's limits allow more: OpenSSH's limit for a
/// packet, and some headroom.
pub(super) const LONGEST_REPLY: u32 = 256 * 1024 + 1024;
/// How many times the timeout a request may stay unanswered while others are served.
const UNANSWERED_TIMES: u32 = 10;
/// How many times the timeout it may be silent while a slow request is in flight.
const SLOW_TIMES: u32 = 5;

#[derive(Debug)]
pub(super) struct Core {
    table: Mutex<Table>,
    queue: mpsc::UnboundedSender<Vec<u8>>,
    dead: watch::Sender<Option<Arc<DisconnectCause>>>,
    /// Requests that may still be sent.
    requests: Semaphore,
    /// Bytes, of requests and of the replies they call for, that may still be in flight.
    bytes: Semaphore,
    most_bytes: u32,
    /// When bytes last moved, in milliseconds since `start`.
    progress: AtomicU64,
    start: Instant,
    timeout: Duration,
    pub(super) recorder: Arc<Recorder>,
    pub(super) longest_request: AtomicU32,
    pub(super) longest_reply: AtomicU32,
    /// Bytes to ask for with one read. Becomes smaller when the server always returns less.
    pub(super) read_size: AtomicU32,
    pub(super) write_size: AtomicU32,
}

#[derive(Debug, Default)]
struct Table {
    next: u32,
    waiting: HashMap<u32, Pending>,
    /// How many of those waiting may take long.
    slow: usize,
}

#[derive(Debug)]
struct Pending {
    operation: Operation,
    since: Instant,
    /// Bytes to give back; `None` for requests that took no place.
    cost: Option<u32>,
    /// `None` if nobody waits.
    caller: Option<oneshot::Sender<Outcome>>,
}

/// A reply, or the end of the connection.
type Outcome = Result<Reply, (ClientErrorKind, Arc<DisconnectCause>)>;

impl Core {
    pub(super) fn new(
        queue: mpsc::UnboundedSender<Vec<u8>>,
        options: &super::ClientOptions,
    ) -> Self {
        let most_bytes = u32::try_from(options.bytes_in_flight.max(1)).unwrap_or(u32::MAX);
        let most_bytes = most_bytes.min((Semaphore::MAX_PERMITS >> 1) as u32);
        Self {
            table: Mutex::default(),
            queue,
            dead: watch::Sender::new(None),
            requests: Semaphore::new(options.requests_in_flight.clamp(1, 1 << 16)),
            bytes: Semaphore::new(most_bytes as usize),
            most_bytes,
            progress: AtomicU64::new(0),
            start: Instant::now(),
            timeout: options.timeout,
            recorder: options.recorder.clone().unwrap_or_default(),
            longest_request: AtomicU32::new(PACKET_BY_DRAFT),
            longest_reply: AtomicU32::new(LONGEST_REPLY),
            read_size: AtomicU32::new(super::SIZE_BY_DRAFT),
            write_size: AtomicU32::new(super::SIZE_BY_DRAFT),
        }
    }

    /// Queues a request as soon as there is room for it; `reply` is how many bytes of content it
    /// calls for. Requests of one task reach the server in the order of these calls. Dropped before
    /// it is done, nothing was sent.
    pub(super) async fn submit(
        self: &Arc<Self>,
        packet: Packet,
        path: &Arc<[u8]>,
        reply: u32,
    ) -> ClientResult<Waiter> {
        let operation = packet.operation;
        if packet.length() > self.longest_request.load(Ordering::Relaxed) as usize {
            return Err(ClientError::new(ClientErrorKind::InvalidArgument, operation, path));
        }
        let cost = (packet.length() as u32).saturating_add(reply).min(self.most_bytes);
        let place = self.requests.acquire().await;
        let bytes = self.bytes.acquire_many(cost).await;
        // Closed only when the connection is dead: `send` says why.
        if let (Ok(place), Ok(bytes)) = (place, bytes) {
            place.forget();
            bytes.forget();
        }
        let (caller, answer) = oneshot::channel();
        self.send(packet, Some(cost), Some(caller)).map_err(|cause| {
            let kind = ClientErrorKind::Disconnected;
            ClientError::disconnected(operation, path, kind, cause)
        })?;
        Ok(Waiter { core: self.clone(), operation, path: path.clone(), answer, arrived: None })
    }

    /// Closes a handle that nobody needs; nobody waits for the answer, and it takes no place among
    /// the requests in flight (there are never more of these than handles were opened).
    pub(super) fn close_unasked(&self, handle: &[u8]) {
        // A dead connection has no handles.
        let _ = self.send(Packet::new(Operation::Close).string(handle), None, None);
    }

    fn send(
        &self,
        packet: Packet,
        cost: Option<u32>,
        caller: Option<oneshot::Sender<Outcome>>,
    ) -> Result<(), Arc<DisconnectCause>> {
        let operation = packet.operation;
        let mut table = locked(&self.table);
        if let Some(cause) = self.dead() {
            return Err(cause);
        }
        while table.waiting.contains_key(&table.next) {
            table.next = table.next.wrapping_add(1);
        }
        let id = table.next;
        table.next = id.wrapping_add(1);
        table.slow += usize::from(operation.is_slow());
        let pending = Pending { operation, since: Instant::now(), cost, caller };
        table.waiting.insert(id, pending);
        // Within the lock, so that a connection that dies now takes this request along. The queue
        // is closed only by the end of the writer, which ends the connection too.
        let _ = self.queue.send(packet.seal(id));
        drop(table);
        self.recorder.count(operation);
        Ok(())
    }

    /// Hands a reply to the request with this id. `false` if there is none.
    pub(super) fn deliver(&self, id: u32, reply: Reply) -> bool {
        let mut table = locked(&self.table);
        let Some(pending) = table.waiting.remove(&id) else { return false };
        table.slow -= usize::from(pending.operation.is_slow());
        drop(table);
        // At once, not when the caller takes the reply: a caller that waits for room for its next
        // request would otherwise wait for itself.
        if let Some(cost) = pending.cost {
            self.bytes.add_permits(cost as usize);
            self.requests.add_permits(1);
        }
        let unwanted = match pending.caller {
            Some(caller) => caller.send(Ok(reply)).err().and_then(Result::ok),
            None => Some(reply),
        };
        if let Some(reply) = unwanted {
            self.discard(&reply);
        }
        true
    }

    /// A reply that nobody waits for: a handle in it is closed.
    fn discard(&self, reply: &Reply) {
        if reply.is_handle()
            && let Ok(handle) = reply.handle()
        {
            self.close_unasked(&handle);
        }
    }

    /// Ends the connection: all that wait fail, and all that come later. The first cause stays.
    pub(super) fn kill(&self, cause: DisconnectCause) {
        let cause = Arc::new(cause);
        let mut table = locked(&self.table);
        if self.dead().is_some() {
            return;
        }
        // Within the lock: a request is either in the table now or finds this cause.
        self.dead.send_replace(Some(cause.clone()));
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        self.requests.close();
        self.bytes.close();
        let late = match &*cause {
            DisconnectCause::Silent(limit) => Some(*limit),
            DisconnectCause::Unanswered { after, .. } => Some(*after),
            _ => None,
        };
        for pending in waiting.into_values() {
            let is_late = late.is_some_and(|limit| pending.since.elapsed() >= limit);
            let kind =
                if is_late { ClientErrorKind::Timeout } else { ClientErrorKind::Disconnected };
            if let Some(caller) = pending.caller {
                let _ = caller.send(Err((kind, cause.clone())));
            }
        }
    }

    /// Why the connection ended, if it did.
    pub(super) fn dead(&self) -> Option<Arc<DisconnectCause>> {
        self.dead.borrow().clone()
    }

    /// Waits until the connection is dead.
    pub(super) async fn death(&self) -> Arc<DisconnectCause> {
        let mut dead = self.dead.subscribe();
        let cause = dead.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
        // The sender lives in `self`: this never is the fallback.
        cause.unwrap_or_else(|| Arc::new(DisconnectCause::Stopped))
    }

    /// Notes that bytes moved.
    pub(super) fn progressed(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.progress.store(now, Ordering::Relaxed);
    }

    /// Looks for requests that wait too long, and ends the connection if there are any.
    pub(super) fn watch(&self) {
        let progress = self.start + Duration::from_millis(self.progress.load(Ordering::Relaxed));
        let table = locked(&self.table);
        let Some(oldest) = table.waiting.values().min_by_key(|pending| pending.since) else {
            return;
        };
        let patience = if table.slow > 0 { self.timeout * SLOW_TIMES } else { self.timeout };
        let unanswered = self.timeout * UNANSWERED_TIMES;
        let cause = if oldest.since.max(progress).elapsed() >= patience {
            DisconnectCause::Silent(patience)
        } else if oldest.since.elapsed() >= unanswered {
            DisconnectCause::Unanswered { operation: oldest.operation, after: unanswered }
        } else {
            return;
        };
        drop(table);
        self.kill(cause);
    }
}

/// A request whose reply is still to come. Dropping it is safe: a handle that comes is closed.
#[derive(Debug)]
pub(super) struct Waiter {
    core: Arc<Core>,
    operation: Operation,
    path: Arc<[u8]>,
    answer: oneshot::Receiver<Outcome>,
    arrived: Option<Outcome>,
}

impl Waiter {
    /// Waits for the reply, so that taking it takes no time. This may be dropped and called again.
    pub(super) async fn arrive(&mut self) {
        if self.arrived.is_none() {
            // The sender is dropped unused only with a connection that is gone.
            self.arrived = Some((&mut self.answer).await.unwrap_or_else(|_| {
                let cause = self.core.dead().unwrap_or_else(|| Arc::new(DisconnectCause::Stopped));
                Err((ClientErrorKind::Disconnected, cause))
            }));
        }
    }

    /// Whether the reply is there.
    pub(super) fn is_ready(&self) -> bool {
        self.arrived.is_some() || !self.answer.is_empty()
    }

    /// The reply, of whatever kind.
    async fn reply(&mut self) -> ClientResult<Reply> {
        self.arrive().await;
        match self.arrived.take() {
            Some(Ok(reply)) => Ok(reply),
            Some(Err((kind, cause))) => {
                Err(ClientError::disconnected(self.operation, &self.path, kind, cause))
            }
            None => Err(self.malformed(Malformed("a reply taken twice"))),
        }
    }

    pub(super) fn malformed(&self, what: Malformed) -> ClientError {
        ClientError::malformed(self.operation, &self.path, what)
    }

    /// A reply that is to be something else than a status.
    async fn content(&mut self) -> ClientResult<Reply> {
        let reply = self.reply().await?;
        match reply.status().map_err(|what| self.malformed(what))? {
            None => Ok(reply),
            Some(status) if status.code == 0 => {
                Err(self.malformed(Malformed("a bare success where content is due")))
            }
            Some(status) => Err(ClientError::status(self.operation, &self.path, status)),
        }
    }

    /// The reply of a request that has nothing to tell.
    pub(super) async fn done(mut self) -> ClientResult<()> {
        let reply = self.reply().await?;
        match reply.status().map_err(|what| self.malformed(what))? {
            Some(status) if status.code == 0 => Ok(()),
            Some(status) => Err(ClientError::status(self.operation, &self.path, status)),
            None => Err(self.malformed(Malformed("content where a status is due"))),
        }
    }

    /// The reply, decoded.
    pub(super) async fn get<T>(
        mut self,
        decode: impl FnOnce(Reply) -> Result<T, Malformed>,
    ) -> ClientResult<T> {
        let reply = self.content().await?;
        decode(reply).map_err(|what| self.malformed(what))
    }

    /// As [`Waiter::get`]; `None` at the end of the file or listing.
    pub(super) async fn get_unless_end<T>(
        self,
        decode: impl FnOnce(Reply) -> Result<T, Malformed>,
    ) -> ClientResult<Option<T>> {
        match self.get(decode).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ClientErrorKind::Eof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // Either the reply came before this line and is taken here, or `deliver` finds the channel
        // closed and discards it.
        self.answer.close();
        if let Some(Ok(reply)) = self.arrived.take().or_else(|| self.answer.try_recv().ok()) {
            self.core.discard(&reply);
        }
    }
}
