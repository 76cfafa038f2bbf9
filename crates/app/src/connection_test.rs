//! The staged test of a location: every step on the way there by itself, so that the first one
//! that fails says what is wrong. What it writes, it removes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::access::Access;
use crate::location::absolute;
use crate::problem::{Class, Problem};
use crate::random;
use crate::resolve::{Place, Resolved};
use crate::text::size;

mod local;
mod s3;
mod sftp;

/// Bytes written and read for the speed.
const SPEED: usize = 16 << 20;

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// Not possible here, which some uses do not mind.
    Limited,
    /// The test ends here.
    Failed,
}

/// A step that is done.
#[derive(Debug, Clone)]
pub struct Step {
    /// "resolve", "connect", …
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found; may be empty.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

/// Who is told of each step as it ends.
pub type Tell<'a> = &'a (dyn Fn(Step) + Send + Sync);

/// Tests a place. An error says at which stage, and has hints; the steps before it were told.
pub fn run(place: &Resolved, access: &Access, tell: Tell<'_>) -> Result<(), Problem> {
    let steps = Steps { tell, open: Mutex::new(None) };
    let tested = match &place.place {
        Place::Local(path) => local::test(&absolute(path), &steps),
        Place::Sftp(at) => {
            let pool = crate::sftp::pool(at, &place.options, access)?;
            pool.block_on(sftp::test(&pool, &steps))
        }
        Place::S3(at) => s3::test(at, &place.options, &steps),
        Place::Stream => Err(place.refused("place to test")),
    };
    match tested {
        Ok(()) => steps.end(Outcome::Passed, ""),
        Err(_) => steps.end(Outcome::Failed, ""),
    }
    tested
}

/// The step at hand, and those who want to know.
struct Steps<'a> {
    tell: Tell<'a>,
    open: Mutex<Option<(&'static str, Instant)>>,
}

impl Steps<'_> {
    /// Begins a step; the one before has passed.
    fn begin(&self, name: &'static str) {
        self.pass("");
        if let Ok(mut open) = self.open.lock() {
            *open = Some((name, Instant::now()));
        }
    }

    fn pass(&self, detail: impl Into<String>) {
        self.end(Outcome::Passed, detail);
    }

    fn end(&self, outcome: Outcome, detail: impl Into<String>) {
        let open = self.open.lock().ok().and_then(|mut open| open.take());
        let Some((name, since)) = open else { return };
        (self.tell)(Step { name, outcome, detail: detail.into(), took: since.elapsed() });
    }
}

fn rate(bytes: usize, took: Duration) -> String {
    let rate = bytes as f64 / took.as_secs_f64().max(1e-6);
    format!("{}/s", size(rate as u64))
}

fn unique() -> Result<String, Problem> {
    Ok(format!("test-{:016x}", u64::from_le_bytes(random()?)))
}

/// What is said where deleting works.
const CAN_DELETE: &str = "allowed: whoever has this access can delete backups";

/// What is said where deleting is refused, and so `object` stays.
fn cannot_delete(why: &str, object: &str) -> String {
    format!("{why}: it can be backed up to, and nothing can be removed; {object} stays")
}

fn came_back_changed(what: &str) -> Problem {
    Problem::new(Class::Damage, format!("{what} came back with other bytes"))
        .hint("something on the way changes what is sent, or the memory of a machine is bad")
}

/// Bytes that nothing on the way can compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
