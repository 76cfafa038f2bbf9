//! A TCP proxy on a loopback port that makes a network out of a wire: it adds latency without
//! limiting throughput, or limits it, cuts connections, stalls, refuses new ones, and counts bytes.
//!
//! Every connection has two lines, one for each direction. A line is a bounded queue of bytes, each
//! with the time at which it is due: one thread reads into it, another writes what is due.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lock;

/// Most bytes on their way in one direction of one connection: 640 MB/s at 100 ms.
const LINE: usize = 64 << 20;
/// Most bytes that are due and that the receiver does not take. Less than [`LINE`], so that a
/// receiver that is slow slows the sender down, as it does without a proxy.
const OVERDUE: usize = 1 << 20;
/// Bytes read at once.
const CHUNK: usize = 64 << 10;
/// How far a sender may be ahead of a link with a rate: what waits in front of it.
const AHEAD: Duration = Duration::from_millis(100);

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From those who connect to the proxy, to the server behind it.
    Up,
    /// From the server.
    Down,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    target: SocketAddr,
    listening: Mutex<Listening>,
    listening_changed: Condvar,
    weather: Mutex<Weather>,
    weather_changed: Condvar,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    accepted: AtomicU64,
    cuts: AtomicU64,
    delivered: [AtomicU64; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listening {
    Yes,
    Stopping,
    No,
    Starting,
    /// The proxy ends.
    Never,
}

#[derive(Debug, Default)]
struct Weather {
    latency: Duration,
    /// Bytes a second in each direction, of all connections together.
    rate: Option<f64>,
    /// When the link has sent what it took, in each direction.
    free: [Option<Instant>; 2],
    stalled: bool,
    cuts: [Option<CutPlan>; 2],
    /// Whence the last bytes came, and how often it was the server after the other side.
    last: Option<Direction>,
    answers: u64,
}

/// Cut after `left` bytes; and then `times` more, each after `every` bytes.
#[derive(Debug, Clone, Copy)]
struct CutPlan {
    left: u64,
    every: u64,
    times: u32,
}

impl Weather {
    /// Sends so many bytes: when the link has sent them, and when they arrive.
    fn send(&mut self, direction: Direction, bytes: usize) -> (Instant, Instant) {
        self.answers += u64::from((self.last, direction) == (Some(Direction::Up), Direction::Down));
        self.last = Some(direction);
        let now = Instant::now();
        let sent = self.rate.map_or(now, |rate| {
            let free = &mut self.free[direction as usize];
            let begins = free.map_or(now, |free| free.max(now));
            let sent = begins + Duration::from_secs_f64(bytes as f64 / rate);
            *free = Some(sent);
            sent
        });
        (sent, sent + self.latency)
    }
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    lines: [Line; 2],
}

#[derive(Debug, Default)]
struct Line {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// The sender sends no more.
    ended: bool,
    /// The connection is cut: what is on its way is lost.
    cut: bool,
}

impl Proxy {
    /// Listens on a free loopback port, for connections to `target`.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target,
            listening: Mutex::new(Listening::Yes),
            listening_changed: Condvar::new(),
            weather: Mutex::default(),
            weather_changed: Condvar::new(),
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            delivered: Default::default(),
        });
        let of_thread = state.clone();
        let listener = Some(thread::spawn(move || of_thread.listen(listener, address)));
        Ok(Self { address, state, listener })
    }

    /// Where to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How long bytes are on their way, in each direction: half of what a round trip takes longer.
    /// Holds for bytes that come from now on. Making a connection takes no longer.
    pub fn set_latency(&self, one_way: Duration) {
        lock(&self.state.weather).latency = one_way;
    }

    /// How many bytes pass a second, in each direction and of all connections together.
    pub fn set_rate(&self, bytes_per_second: f64) {
        lock(&self.state.weather).rate = Some(bytes_per_second);
    }

    /// Stops (or goes on) forwarding, without closing anything.
    pub fn set_stalled(&self, stalled: bool) {
        lock(&self.state.weather).stalled = stalled;
        self.state.weather_changed.notify_all();
    }

    /// Refuses (or takes again) new connections, as a port where nobody listens does. Those that
    /// are open stay. When this returns it is so.
    pub fn set_refusing(&self, refusing: bool) {
        let (reached, on_the_way) = if refusing {
            (Listening::No, Listening::Stopping)
        } else {
            (Listening::Yes, Listening::Starting)
        };
        if *lock(&self.state.listening) != reached {
            self.change_listening(on_the_way);
        }
        let mut listening = lock(&self.state.listening);
        while *listening != reached {
            let waited = self.state.listening_changed.wait(listening);
            listening = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Cuts all connections now; what is on its way is lost. Returns how many there were.
    pub fn cut_all(&self) -> usize {
        self.state.cut_all()
    }

    /// Cuts all connections when so many more bytes were delivered in this direction, by all
    /// connections together. Replaces what was planned before for this direction.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.cut_every(direction, bytes, 1);
    }

    /// Cuts all connections each time when so many bytes were delivered in this direction, so many
    /// times in all; 0 cuts no more.
    pub fn cut_every(&self, direction: Direction, bytes: u64, times: u32) {
        let plan = CutPlan { left: bytes, every: bytes, times: times.saturating_sub(1) };
        lock(&self.state.weather).cuts[direction as usize] = (times > 0).then_some(plan);
    }

    /// Bytes delivered in this direction so far.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.state.delivered[direction as usize].load(Ordering::SeqCst)
    }

    /// Connections that were taken so far.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        lock(&self.state.connections).len()
    }

    /// How many times connections were cut, by a call or by plan, while some were open.
    pub fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }

    /// How often the server has answered what had been sent to it: with some latency, and one
    /// connection at a time, the number of answers that were waited for one after the other.
    pub fn answers(&self) -> u64 {
        lock(&self.state.weather).answers
    }

    fn change_listening(&self, to: Listening) {
        let before = std::mem::replace(&mut *lock(&self.state.listening), to);
        self.state.listening_changed.notify_all();
        if before == Listening::Yes {
            // Wakes the thread that accepts. Whether it connects does not matter.
            let _ = TcpStream::connect(self.address);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change_listening(Listening::Never);
        self.state.cut_all();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        // One that was accepted in between.
        self.state.cut_all();
    }
}

impl State {
    fn listen(self: Arc<Self>, listener: TcpListener, address: SocketAddr) {
        let mut listener = Some(listener);
        loop {
            let accepted = listener.as_ref().map(TcpListener::accept);
            let mut listening = lock(&self.listening);
            match (*listening, accepted) {
                (Listening::Yes, Some(Ok((client, _)))) => {
                    drop(listening);
                    let state = self.clone();
                    thread::spawn(move || state.connect(client));
                }
                (Listening::Yes, _) => {}
                (Listening::Starting, _) => match TcpListener::bind(address) {
                    Ok(again) => {
                        listener = Some(again);
                        *listening = Listening::Yes;
                        self.listening_changed.notify_all();
                    }
                    // Taken by a connection of another for a moment.
                    Err(_) => {
                        drop(listening);
                        thread::sleep(Duration::from_millis(1));
                    }
                },
                (Listening::Stopping, accepted) => {
                    drop((accepted, listener.take()));
                    *listening = Listening::No;
                    self.listening_changed.notify_all();
                }
                (Listening::No, _) => {
                    let woken = self.listening_changed.wait(listening);
                    drop(woken.unwrap_or_else(PoisonError::into_inner));
                }
                (Listening::Never, _) => return,
            }
        }
    }

    fn connect(self: Arc<Self>, client: TcpStream) {
        let number = self.accepted.fetch_add(1, Ordering::SeqCst);
        // A server that is not there closes what was just opened: nothing else can be said.
        let Ok(server) = TcpStream::connect(self.target) else { return };
        for socket in [&client, &server] {
            // Held back packets would add to the latency.
            let _ = socket.set_nodelay(true);
        }
        let connection = Arc::new(Connection { client, server, lines: Default::default() });
        lock(&self.connections).insert(number, connection.clone());
        // The proxy may have ended meanwhile.
        if *lock(&self.listening) == Listening::Never {
            self.cut_all();
        }
        thread::scope(|scope| {
            for direction in [Direction::Up, Direction::Down] {
                let (state, connection) = (&self, &connection);
                scope.spawn(move || state.collect(connection, direction));
                scope.spawn(move || state.deliver(connection, direction));
            }
        });
        lock(&self.connections).remove(&number);
    }

    /// Reads into the line.
    fn collect(&self, connection: &Connection, direction: Direction) {
        let line = &connection.lines[direction as usize];
        let (mut from, _) = connection.ends(direction);
        let mut buffer = vec![0; CHUNK];
        while line.has_room() {
            self.while_stalled(line);
            let chunk = match from.read(&mut buffer) {
                Ok(n @ 1..) => buffer[..n].to_vec(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) | Err(_) => break,
            };
            let (sent, due) = lock(&self.weather).send(direction, chunk.len());
            let mut queue = lock(&line.queue);
            queue.bytes += chunk.len();
            queue.chunks.push_back((due, chunk));
            line.changed.notify_all();
            drop(queue);
            thread::sleep(sent.saturating_duration_since(Instant::now()).saturating_sub(AHEAD));
        }
        lock(&line.queue).ended = true;
        line.changed.notify_all();
    }

    /// Writes what is due.
    fn deliver(&self, connection: &Connection, direction: Direction) {
        let line = &connection.lines[direction as usize];
        let (_, mut to) = connection.ends(direction);
        while let Some(chunk) = line.due() {
            self.while_stalled(line);
            if line.is_cut() {
                break;
            }
            let (allowed, cut) = self.allowance(direction, chunk.len());
            // Before anybody can have seen them.
            self.delivered[direction as usize].fetch_add(allowed as u64, Ordering::SeqCst);
            if to.write_all(&chunk[..allowed]).is_err() {
                connection.lose();
                connection.close();
                break;
            }
            line.took(chunk.len());
            if cut {
                self.cut_all();
            }
        }
        // Whoever waits for the end hears it, and may still send in the other direction.
        let _ = to.shutdown(Shutdown::Write);
    }

    /// How many of these bytes may be delivered, and whether there is a cut behind them.
    fn allowance(&self, direction: Direction, bytes: usize) -> (usize, bool) {
        let mut weather = lock(&self.weather);
        let planned = &mut weather.cuts[direction as usize];
        let Some(plan) = planned else { return (bytes, false) };
        if plan.left > bytes as u64 {
            plan.left -= bytes as u64;
            return (bytes, false);
        }
        let allowed = plan.left as usize;
        *planned = plan.times.checked_sub(1).map(|times| CutPlan {
            left: plan.every,
            every: plan.every,
            times,
        });
        (allowed, true)
    }

    fn while_stalled(&self, line: &Line) {
        let mut weather = lock(&self.weather);
        while weather.stalled && !line.is_cut() {
            let waited = self.weather_changed.wait(weather);
            weather = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn cut_all(&self) -> usize {
        let connections: Vec<_> = lock(&self.connections).values().cloned().collect();
        let cut = connections.iter().filter(|connection| connection.lose()).count();
        // Before anybody can have seen it.
        if cut > 0 {
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        for connection in connections {
            connection.close();
        }
        // Under the lock: nobody is between looking at a line and waiting.
        let _weather = lock(&self.weather);
        self.weather_changed.notify_all();
        cut
    }
}

impl Connection {
    /// Where bytes of this direction come from, and where they go.
    fn ends(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::Up => (&self.client, &self.server),
            Direction::Down => (&self.server, &self.client),
        }
    }

    /// Loses what is on its way in both directions, and all that comes. `false` if that was so.
    fn lose(&self) -> bool {
        let mut was_open = false;
        for line in &self.lines {
            let mut queue = lock(&line.queue);
            was_open |= !queue.cut;
            queue.cut = true;
            queue.chunks.clear();
            line.changed.notify_all();
        }
        was_open
    }

    fn close(&self) {
        for socket in [&self.client, &self.server] {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Line {
    /// Waits until more may be read. `false` if nothing is read any more.
    fn has_room(&self) -> bool {
        let mut queue = lock(&self.queue);
        loop {
            if queue.cut {
                return false;
            }
            let overdue = queue.chunks.front().is_none_or(|(due, _)| *due <= Instant::now());
            if queue.bytes < if overdue { OVERDUE } else { LINE } {
                return true;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for bytes that are due. `None` if there are no more.
    fn due(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.cut {
                return None;
            }
            match queue.chunks.front().map(|(due, _)| due.duration_since(Instant::now())) {
                Some(Duration::ZERO) => return queue.chunks.pop_front().map(|(_, chunk)| chunk),
                Some(wait) => {
                    let waited = self.changed.wait_timeout(queue, wait);
                    queue = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None if queue.ended => return None,
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// So many bytes were delivered; until then they count.
    fn took(&self, bytes: usize) {
        lock(&self.queue).bytes -= bytes;
        self.changed.notify_all();
    }

    fn is_cut(&self) -> bool {
        lock(&self.queue).cut
    }
}

#[cfg(test)]
mod tests;
