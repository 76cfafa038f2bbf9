//! The walk: tasks list directories ahead of the consumer, who gets them in tree order.
//!
//! What is to be listed lies on a stack, next in tree order on top, so that what is wanted soonest
//! is asked for first. Nothing new is begun while enough lies ready. What the consumer waits for
//! is begun in any case, so there is always progress.

use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use holdfast_engine::meta::Kind;
use holdfast_engine::source::{
    SourceDirectory, SourceError, SourceErrorKind, SourceResult, WalkBatch,
};
use tokio::task::JoinSet;

use super::Inner;
use super::list::{Lister, Listing};
use crate::locked;

/// Directories that are listed at once.
const LISTINGS: usize = 64;
/// Bytes of entries that may lie ready before no more are asked for.
const AHEAD: usize = 8 << 20;
/// What a directory costs besides its entries, so that empty ones count as well.
const DIRECTORY_COST: usize = 512;
/// Entries in a batch.
const BATCH: usize = 1024;

/// A directory to be listed.
#[derive(Debug)]
struct Job {
    directory: Arc<SourceDirectory>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting,
    Running,
    Done(SourceResult<Outcome>),
    Taken,
}

#[derive(Debug)]
struct Outcome {
    listing: Listing,
    /// Directories found, in order.
    directories: Vec<Arc<Job>>,
}

impl Job {
    fn new(directory: Arc<SourceDirectory>) -> Arc<Self> {
        Arc::new(Self { directory, state: Mutex::new(State::Waiting) })
    }

    /// True for the one who shall do it.
    fn claim(&self) -> bool {
        let mut state = locked(&self.state);
        let is_waiting = matches!(*state, State::Waiting);
        if is_waiting {
            *state = State::Running;
        }
        is_waiting
    }
}

fn cost(outcome: &SourceResult<Outcome>) -> usize {
    outcome.as_ref().map_or(0, |o| o.listing.cost()) + DIRECTORY_COST
}

#[derive(Debug, Default)]
struct Queue {
    /// The next in tree order is the last.
    stack: Vec<Arc<Job>>,
    running: usize,
    /// Cost of what is done and not yet consumed.
    ahead: usize,
    tasks: JoinSet<()>,
    /// The walk is over.
    stop: bool,
}

#[derive(Debug)]
struct Walk {
    lister: Lister,
    queue: Mutex<Queue>,
    done: Condvar,
}

impl Walk {
    /// Begins what may be begun.
    fn begin_more(self: &Arc<Self>, queue: &mut Queue) {
        while queue.running < LISTINGS && queue.ahead < AHEAD {
            let Some(job) = queue.stack.pop() else { return };
            if job.claim() {
                self.begin(queue, job);
            }
        }
    }

    fn begin(self: &Arc<Self>, queue: &mut Queue, job: Arc<Job>) {
        if queue.stop {
            return;
        }
        queue.running += 1;
        while queue.tasks.try_join_next().is_some() {}
        let finish = Finish { walk: Arc::clone(self), job, outcome: None };
        let task = async move {
            let listed = finish.walk.lister.list(&finish.job.directory).await;
            finish.with(listed);
        };
        queue.tasks.spawn_on(task, self.lister.inner.pool.runtime());
    }

    /// The job's outcome, once it is there.
    fn obtain(self: &Arc<Self>, job: &Arc<Job>) -> SourceResult<Outcome> {
        let mut queue = locked(&self.queue);
        if job.claim() {
            self.begin(&mut queue, Arc::clone(job));
        }
        loop {
            let mut state = locked(&job.state);
            if let State::Done(_) = *state
                && let State::Done(outcome) = std::mem::replace(&mut *state, State::Taken)
            {
                queue.ahead = queue.ahead.saturating_sub(cost(&outcome));
                self.begin_more(&mut queue);
                return outcome;
            }
            drop(state);
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands out a directory, and notes what lies below it.
    fn deliver(
        &self,
        job: &Job,
        outcome: Outcome,
        sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let inner = &self.lister.inner;
        for batch in outcome.listing.batches(inner, &job.directory, BATCH) {
            for entry in &batch.entries {
                if entry.metadata.kind == Kind::Symlink {
                    inner.links.note(inner.path(&job.directory.path, &entry.name));
                }
            }
            sink(batch)?;
        }
        ControlFlow::Continue(())
    }
}

/// Reports what a task came to, even if it dies.
struct Finish {
    walk: Arc<Walk>,
    job: Arc<Job>,
    outcome: Option<SourceResult<Outcome>>,
}

impl Finish {
    fn with(mut self, listed: SourceResult<Listing>) {
        self.outcome = Some(listed.map(|listing| {
            let directories = listing.directories(&self.job.directory);
            Outcome { listing, directories: directories.into_iter().map(Job::new).collect() }
        }));
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let died = std::io::Error::other("a task of the walk died");
            let path = self.walk.lister.inner.path(&self.job.directory.path, b"");
            Err(SourceError::from_io("list", String::from_utf8_lossy(&path), died))
        });
        let mut queue = locked(&self.walk.queue);
        queue.running -= 1;
        queue.ahead += cost(&outcome);
        if let Ok(outcome) = &outcome {
            queue.stack.extend(outcome.directories.iter().rev().cloned());
        }
        *locked(&self.job.state) = State::Done(outcome);
        self.walk.begin_more(&mut queue);
        self.walk.done.notify_all();
    }
}

/// Ends the tasks when the consumer is done, however it ends.
struct StopAtEnd<'a>(&'a Walk);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        let mut queue = locked(&self.0.queue);
        queue.stop = true;
        queue.stack.clear();
        let tasks = std::mem::take(&mut queue.tasks);
        drop(queue);
        // Aborts them. Not under the lock, which what they report takes.
        drop(tasks);
    }
}

/// Walks the tree below `root`, beginning with `first`, the root's own batch. A connection that is
/// lost for good is an error of the whole, wherever it comes.
pub(super) fn walk(
    inner: Arc<Inner>,
    never: Vec<Vec<u8>>,
    root: Arc<SourceDirectory>,
    first: WalkBatch,
    sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
) -> SourceResult<()> {
    let lister = Lister { inner, never };
    let walk = Arc::new(Walk { lister, queue: Mutex::default(), done: Condvar::new() });
    let _stop = StopAtEnd(&walk);
    let mut job = Job::new(root);
    // Before anything is handed out: a root that cannot be listed is an error of the whole.
    let mut outcome = walk.obtain(&job)?;
    if sink(first).is_break() {
        return Ok(());
    }
    let mut open = Vec::new();
    loop {
        let mut directories = std::mem::take(&mut outcome.directories);
        if walk.deliver(&job, outcome, sink).is_break() {
            return Ok(());
        }
        directories.reverse();
        open.push(directories);
        job = loop {
            let Some(directories) = open.last_mut() else { return Ok(()) };
            match directories.pop() {
                Some(job) => break job,
                None => open.pop(),
            };
        };
        outcome = match walk.obtain(&job) {
            Err(error) if error.kind == SourceErrorKind::Unreachable => return Err(error),
            Err(error) => Outcome { listing: Listing::failed(error), directories: Vec::new() },
            Ok(outcome) => outcome,
        };
    }
}
