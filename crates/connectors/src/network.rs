//! Reaching servers, whatever is spoken to them then: the first address that answers, and pauses
//! between attempts.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why an address could not be connected to. The later, the more it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// No way leads there.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// Something answered: that nobody listens.
    Refused,
}

/// An address that could not be connected to.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) why: Why,
    pub(crate) address: SocketAddr,
    /// What the system said; `None` if it said nothing in time.
    pub(crate) error: Option<io::Error>,
    /// How long was waited for an answer.
    pub(crate) waited: Duration,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => error.fmt(f),
            None => write!(f, "no answer for {:?}", self.waited),
        }
    }
}

/// Connects to the first of these addresses that answers until `end`. Each gets an equal share of
/// what is left of the time, so that one dead address does not eat it all. The error is that which
/// says most; `None` if there are no addresses.
pub(crate) async fn connect(
    addresses: &[SocketAddr],
    end: Instant,
) -> Result<TcpStream, Option<Unanswered>> {
    let mut worst: Option<Unanswered> = None;
    for (at, address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let (why, error) = match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Requests are small and wait for answers: Nagle's algorithm would hold them back.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => (
                match error.kind() {
                    io::ErrorKind::ConnectionRefused => Why::Refused,
                    io::ErrorKind::TimedOut => Why::Timeout,
                    _ => Why::Unreachable,
                },
                Some(error),
            ),
            Err(_) => (Why::Timeout, None),
        };
        if worst.as_ref().is_none_or(|worst| why > worst.why) {
            worst = Some(Unanswered { why, address: *address, error, waited: share });
        }
    }
    Err(worst)
}

/// How long somebody goes on trying.
#[derive(Debug)]
pub struct Patience {
    until: Instant,
    next: Duration,
}

impl Patience {
    /// Patience for so long, from now on; with the first pause.
    pub(crate) fn new(limit: Duration, first_pause: Duration) -> Self {
        Self { until: Instant::now() + limit, next: first_pause }
    }

    /// Waits before the next attempt. `false`: there shall be none.
    pub async fn pause(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let mut random = [0; 2];
        let _ = getrandom::fill(&mut random);
        // Between half of it and all of it, so that many clients do not come back at once.
        let share = 0.5 + f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX) / 2.0;
        tokio::time::sleep(self.next.mul_f64(share)).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}
