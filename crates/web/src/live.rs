//! Events for open pages. A page follows topics over one stream; an event replaces
//! the part of the page that its name means. A stream that broke off goes on after the last event
//! it had, as long as that is remembered; else the page is told to load its parts again.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::Query;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use holdfast_app::{Problem, random};
use holdfast_engine::hash::to_hex;

use crate::state::Shared;
use crate::view::View;

/// Events that are remembered for streams that broke off.
const REMEMBERED: usize = 1024;
/// Silence after which a comment tells both ends that the stream is alive.
const BREATH: Duration = Duration::from_secs(15);
/// How often a stream looks whether its session has ended by its age or by another process.
const LOOK: Duration = Duration::from_secs(5);

/// What becomes of the part of a page that an event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// Its content is replaced.
    Replace,
    /// The page as a whole is not what it was.
    Reload,
}

/// An event for pages that follow `topic`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Message {
    #[serde(skip)]
    id: u64,
    #[serde(skip)]
    topic: String,
    /// `data-live` of the part that changes.
    part: String,
    change: Change,
    html: String,
}

/// All streams of a console.
#[derive(Debug)]
pub(crate) struct Hub {
    /// Ids of another run of the program mean nothing now.
    epoch: String,
    sender: Mutex<Option<broadcast::Sender<Arc<Message>>>>,
    past: Mutex<(u64, VecDeque<Arc<Message>>)>,
}

impl Hub {
    pub(crate) fn new() -> Result<Self, Problem> {
        Ok(Self {
            epoch: to_hex(&random::<6>()?),
            sender: Mutex::new(Some(broadcast::Sender::new(REMEMBERED))),
            past: Mutex::default(),
        })
    }

    /// Tells pages that follow `topic` that `part` of them becomes `html`.
    pub(crate) fn tell(&self, topic: &str, part: &str, change: Change, html: String) {
        let mut past = lock(&self.past);
        past.0 += 1;
        let message =
            Arc::new(Message { id: past.0, topic: topic.into(), part: part.into(), change, html });
        past.1.push_back(message.clone());
        if past.1.len() > REMEMBERED {
            past.1.pop_front();
        }
        // Sent under the lock, so that events arrive in order. Nobody listening is fine.
        if let Some(sender) = &*lock(&self.sender) {
            let _ = sender.send(message);
        }
    }

    /// Where streams are now: a page that was made here misses nothing that comes later.
    pub(crate) fn position(&self) -> String {
        format!("{}-{}", self.epoch, lock(&self.past).0)
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        lock(&self.sender).take();
    }

    /// What was told after the event `last`, and what will be. `None` in front: `last` is not
    /// remembered.
    fn follow(&self, last: Option<&str>) -> Option<(Past, broadcast::Receiver<Arc<Message>>)> {
        let past = lock(&self.past);
        let receiver = lock(&self.sender).as_ref()?.subscribe();
        let Some(last) = last else { return Some((Past::Known(current(&past.1)), receiver)) };
        let id = last.strip_prefix(&self.epoch).and_then(|rest| rest.strip_prefix('-'));
        let known = id
            .and_then(|id| id.parse::<u64>().ok())
            .filter(|id| *id <= past.0 && past.1.front().is_none_or(|oldest| oldest.id <= id + 1));
        let past = match known {
            Some(id) => Past::Known(past.1.iter().filter(|m| m.id > id).cloned().collect()),
            None => Past::Lost(current(&past.1)),
        };
        Some((past, receiver))
    }

    fn event(&self, message: &Message) -> Event {
        let data = serde_json::to_string(message).unwrap_or_default();
        Event::default().id(format!("{}-{}", self.epoch, message.id)).data(data)
    }

    fn reload(&self) -> Event {
        let id = lock(&self.past).0;
        self.event(&Message {
            id,
            topic: String::new(),
            part: String::new(),
            change: Change::Reload,
            html: String::new(),
        })
    }

    /// An event that says where a stream begins, so that it can go on from there.
    fn hello(&self) -> Event {
        Event::default().id(self.position()).event("hello").data("")
    }
}

/// The last event of each part: what a page that just opened may have missed.
fn current(past: &VecDeque<Arc<Message>>) -> Vec<Arc<Message>> {
    let mut seen = HashSet::new();
    let parts = past.iter().rev().filter(|m| m.change == Change::Replace);
    let newest = parts.filter(|m| seen.insert((&m.topic, &m.part)));
    let mut current: Vec<_> = newest.cloned().collect();
    current.reverse();
    current
}

enum Past {
    Known(Vec<Arc<Message>>),
    /// With the last event of each part, for pages that are not loaded again.
    Lost(Vec<Arc<Message>>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Follow {
    /// Topics with commas between.
    #[serde(default)]
    topics: String,
    /// The last event of a stream that the page closed itself.
    last: Option<String>,
}

/// `GET /events`: the stream of a tab. It ends with the session that asked for it.
pub(crate) async fn events(
    view: View,
    Query(follow): Query<Follow>,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let state = view.state.clone();
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let last = last.or(follow.last.as_deref());
    let topics: HashSet<String> = follow.topics.split(',').map(String::from).collect();
    let (first, receiver) = match state.hub.follow(last) {
        None => (Vec::new(), None),
        Some((past, receiver)) => {
            let (messages, end) = match past {
                Past::Lost(current) => (current, Some(state.hub.reload())),
                Past::Known(messages) => (messages, last.is_none().then(|| state.hub.hello())),
            };
            let wanted = messages.iter().filter(|m| topics.contains(&m.topic));
            let wanted = wanted.map(|message| state.hub.event(message));
            (wanted.chain(end).collect(), Some(receiver))
        }
    };
    let following = receiver.map(|receiver| Following {
        ends: state.accounts.ends(),
        session: view.session.hash,
        state,
        topics,
        receiver,
        look: Instant::now() + LOOK,
    });
    let coming = stream::unfold(following, |following| async move {
        let mut following = following?;
        let event = following.next().await?;
        Some((event, Some(following)))
    });
    Sse::new(stream::iter(first).chain(coming).map(Ok))
        .keep_alive(KeepAlive::new().interval(BREATH))
}

/// A stream at work.
struct Following {
    state: Shared,
    session: String,
    ends: watch::Receiver<()>,
    topics: HashSet<String>,
    receiver: broadcast::Receiver<Arc<Message>>,
    /// When to look next whether the session is open.
    look: Instant,
}

impl Following {
    /// The next event; `None` once the session or the console has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                // Nothing more is told to a session that has ended.
                biased;
                ended = self.ends.changed() => {
                    ended.ok()?;
                    self.check()?;
                }
                () = tokio::time::sleep_until(self.look) => self.check()?,
                received = self.receiver.recv() => match received {
                    Ok(message) if self.topics.contains(&message.topic) => {
                        return Some(self.state.hub.event(&message));
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Some(self.state.hub.reload()),
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }

    /// `None` if the session has ended.
    fn check(&mut self) -> Option<()> {
        self.look = Instant::now() + LOOK;
        // Accounts that cannot be read let nobody in either.
        self.state.accounts.is_open(&self.session).unwrap_or(false).then_some(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(hub: &Hub, last: Option<String>) -> Option<Vec<u64>> {
        match hub.follow(last.as_deref())?.0 {
            Past::Known(messages) => Some(messages.iter().map(|m| m.id).collect()),
            Past::Lost(_) => None,
        }
    }

    #[test]
    fn a_stream_goes_on_where_it_broke_off_or_says_that_it_cannot() -> Result<(), Problem> {
        let hub = Hub::new()?;
        for _ in 0..3 {
            hub.tell("t", "p", Change::Replace, String::new());
        }
        let id = |id: u64| Some(format!("{}-{id}", hub.epoch));
        hub.tell("t", "q", Change::Replace, String::new());
        assert_eq!(after(&hub, None), Some(vec![3, 4]));
        assert_eq!(after(&hub, id(1)), Some(vec![2, 3, 4]));
        assert_eq!(after(&hub, id(4)), Some(vec![]));
        assert_eq!(after(&hub, id(5)), None);
        assert_eq!(after(&hub, Some("other-1".into())), None);
        for _ in 0..REMEMBERED {
            hub.tell("t", "p", Change::Replace, String::new());
        }
        assert_eq!(after(&hub, id(3)), None);
        let lost = hub.follow(id(3).as_deref());
        let newest = 4 + REMEMBERED as u64;
        assert!(matches!(lost, Some((Past::Lost(now), _)) if now.iter().all(|m| m.id == newest)));
        assert_eq!(after(&hub, id(4)).map(|ids| ids.len()), Some(REMEMBERED));
        Ok(())
    }
}
