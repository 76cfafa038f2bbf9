//! How many requests run at once: eight at first, more while all goes well, half as many when the
//! server asks for fewer.

use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::locked;

/// At first.
const START: usize = 8;
/// At most, unless options say otherwise.
pub(super) const MOST: usize = 64;
/// Answers to requests that were sent before the last step down say nothing new.
const STEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Limiter {
    state: Mutex<State>,
    freed: Notify,
    most: f64,
}

#[derive(Debug)]
struct State {
    active: usize,
    limit: f64,
    /// Before the first step down it grows by one with every answer, after it by one with every
    /// round of answers.
    is_slowed: bool,
    stepped: Option<Instant>,
}

impl Limiter {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        let limit = START.min(most) as f64;
        let state = State { active: 0, limit, is_slowed: false, stepped: None };
        Self { state: Mutex::new(state), freed: Notify::new(), most: most as f64 }
    }

    /// Waits for a turn.
    pub(super) async fn acquire(&self) -> Permit<'_> {
        loop {
            // In line before the look, so that what is freed meanwhile is not missed.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            {
                let mut state = locked(&self.state);
                if (state.active as f64) < state.limit.floor().max(1.0) {
                    state.active += 1;
                    return Permit { limiter: self };
                }
            }
            freed.await;
        }
    }

    /// How many may run now.
    pub(super) fn limit(&self) -> usize {
        locked(&self.state).limit.floor().max(1.0) as usize
    }
}

/// A turn; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    limiter: &'a Limiter,
}

impl Permit<'_> {
    /// The request was answered in time. Only a limit that is used up may grow.
    pub(super) fn went_well(&self) {
        let mut state = locked(&self.limiter.state);
        if state.active as f64 + 1.0 > state.limit {
            let step = if state.is_slowed { 1.0 / state.limit } else { 1.0 };
            state.limit = (state.limit + step).min(self.limiter.most);
            drop(state);
            self.limiter.freed.notify_one();
        }
    }

    /// The server asked for fewer requests.
    pub(super) fn slow_down(&self) {
        let mut state = locked(&self.limiter.state);
        if state.stepped.is_none_or(|when| when.elapsed() >= STEP) {
            state.limit = (state.limit / 2.0).max(1.0);
            state.is_slowed = true;
            state.stepped = Some(Instant::now());
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        locked(&self.limiter.state).active -= 1;
        self.limiter.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many requests at once as may be, which all go well or are all told to slow down.
    async fn round(limiter: &Limiter, is_well: bool) {
        let mut permits = Vec::new();
        for _ in 0..limiter.limit() {
            permits.push(limiter.acquire().await);
        }
        for permit in &permits {
            if is_well { permit.went_well() } else { permit.slow_down() }
        }
    }

    #[tokio::test]
    async fn grows_to_the_most_and_halves() {
        let limiter = Limiter::new(64);
        assert_eq!(limiter.limit(), 8);
        for _ in 0..100 {
            round(&limiter, true).await;
        }
        assert_eq!(limiter.limit(), 64);
        // All of a round are told the same; that is one step.
        round(&limiter, false).await;
        assert_eq!(limiter.limit(), 32);
        round(&limiter, true).await;
        assert!((32..=34).contains(&limiter.limit()), "{}", limiter.limit());
        // One at a time says nothing about many.
        let limiter = Limiter::new(64);
        for _ in 0..100 {
            limiter.acquire().await.went_well();
        }
        assert_eq!(limiter.limit(), 8);
    }

    #[tokio::test]
    async fn no_more_than_the_limit_run() {
        let limiter = Limiter::new(2);
        let (first, _second) = (limiter.acquire().await, limiter.acquire().await);
        let third = tokio::time::timeout(Duration::from_millis(20), limiter.acquire()).await;
        assert!(third.is_err());
        drop(first);
        limiter.acquire().await;
    }
}
