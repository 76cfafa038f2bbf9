//! The walk: a few threads list directories ahead of the consumer, who gets them in tree order.
//!
//! What is to be listed lies on a stack, next in tree order on top, so that the threads work on
//! what is wanted soonest. They stop when enough entries lie ready. The consumer never waits for
//! a directory that nobody has begun: it lists it itself, so there is always progress.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holdfast_engine::source::{SourceDirectory, SourceError, SourceResult, WalkBatch};

use super::list::{Found, Lister, Names, Piece, Scratch};
use crate::{empty_batch, locked};

/// How many entries may lie ready at most (each some 200 bytes), before the threads pause.
const AHEAD: usize = 16 << 10;
/// What a directory costs besides its entries, so that empty ones count as well.
const DIRECTORY_COST: usize = 4;

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;

/// One batch to be made.
struct Job {
    directory: Arc<SourceDirectory>,
    work: Work,
    state: AtomicU8,
    outcome: Mutex<Option<SourceResult<Outcome>>>,
}

enum Work {
    /// List the directory.
    List,
    /// Leave out what it holds.
    Leave,
    /// Examine the names from this one on.
    Examine(Arc<Names>, usize),
}

struct Outcome {
    batch: WalkBatch,
    /// Directories found, in order.
    directories: Vec<Arc<Job>>,
    /// The rest of this directory, in order.
    rest: Vec<Arc<Job>>,
}

impl Job {
    fn new(directory: Arc<SourceDirectory>, work: Work) -> Arc<Self> {
        Arc::new(Self { directory, work, state: AtomicU8::new(WAITING), outcome: Mutex::new(None) })
    }

    fn of(found: Found) -> Arc<Self> {
        let work = if found.foreign { Work::Leave } else { Work::List };
        Self::new(found.directory, work)
    }

    /// True for the one who shall do it.
    fn claim(&self) -> bool {
        let order = Ordering::AcqRel;
        self.state.compare_exchange(WAITING, RUNNING, order, Ordering::Acquire).is_ok()
    }

    /// What is handed out where the job could not be done.
    fn failed(&self, error: SourceError) -> Outcome {
        let mut batch = empty_batch(&self.directory);
        batch.errors.push(error);
        Outcome { batch, directories: Vec::new(), rest: Vec::new() }
    }

    fn run(&self, lister: &Lister<'_>, scratch: &mut Scratch) -> SourceResult<Outcome> {
        let piece = match &self.work {
            Work::List => lister.list(&self.directory, scratch)?,
            Work::Examine(names, from) => lister.examine(&self.directory, names, *from, scratch)?,
            Work::Leave => {
                let mut batch = empty_batch(&self.directory);
                batch.excluded = 1;
                Piece { batch, directories: Vec::new(), rest: None }
            }
        };
        let rest = piece.rest.map_or_else(Vec::new, |names| {
            let starts = (lister.piece..names.len()).step_by(lister.piece);
            let job = |from| {
                let work = Work::Examine(Arc::clone(&names), from);
                Self::new(Arc::clone(&self.directory), work)
            };
            starts.map(job).collect()
        });
        let directories = piece.directories.into_iter().map(Self::of).collect();
        Ok(Outcome { batch: piece.batch, directories, rest })
    }
}

#[derive(Default)]
struct Queue {
    /// The next in tree order is the last.
    stack: Vec<Arc<Job>>,
    /// Cost of what is done and not yet consumed.
    ahead: usize,
    /// Threads waiting for work.
    idle: usize,
    /// The consumer waits for a job that a thread has begun.
    wanted: bool,
    /// The walk is over.
    stop: bool,
}

struct Pool<'a> {
    lister: &'a Lister<'a>,
    queue: Mutex<Queue>,
    work: Condvar,
    done: Condvar,
}

fn cost(outcome: &SourceResult<Outcome>) -> usize {
    outcome.as_ref().map_or(0, |o| o.batch.entries.len()) + DIRECTORY_COST
}

impl Pool<'_> {
    /// Puts what follows from an outcome on the stack: first the rest of the directory; its
    /// subdirectories come only after all of it, and then the consumer adds them.
    fn push(queue: &mut Queue, outcome: &Outcome) -> usize {
        let next = if outcome.rest.is_empty() { &outcome.directories } else { &outcome.rest };
        queue.stack.extend(next.iter().rev().cloned());
        next.len()
    }

    fn work_off(&self) {
        // Even if this thread dies: nobody may wait for it then.
        let _stop = StopOnPanic(self);
        let mut scratch = Scratch::new(self.lister.source);
        let mut queue = locked(&self.queue);
        loop {
            if queue.stop {
                return;
            }
            let job = if queue.ahead < AHEAD { queue.stack.pop() } else { None };
            let Some(job) = job else {
                queue.idle += 1;
                queue = wait(&self.work, queue);
                queue.idle -= 1;
                continue;
            };
            if !job.claim() {
                continue;
            }
            drop(queue);
            let outcome = job.run(self.lister, &mut scratch);
            queue = locked(&self.queue);
            queue.ahead += cost(&outcome);
            if let Ok(outcome) = &outcome
                && !matches!(job.work, Work::Examine(..))
            {
                // One of the new jobs is ours.
                let others = Self::push(&mut queue, outcome).saturating_sub(1);
                self.wake(&queue, others);
            }
            *locked(&job.outcome) = Some(outcome);
            job.state.store(DONE, Ordering::Release);
            if queue.wanted {
                queue.wanted = false;
                self.done.notify_one();
            }
        }
    }

    fn wake(&self, queue: &Queue, jobs: usize) {
        if queue.ahead < AHEAD {
            for _ in 0..jobs.min(queue.idle) {
                self.work.notify_one();
            }
        }
    }

    /// The job's outcome, from the thread that did it or by doing it now.
    fn obtain(&self, job: &Job, scratch: &mut Scratch) -> SourceResult<Outcome> {
        if job.claim() {
            let outcome = job.run(self.lister, scratch)?;
            if !matches!(job.work, Work::Examine(..)) {
                let mut queue = locked(&self.queue);
                let jobs = Self::push(&mut queue, &outcome);
                self.wake(&queue, jobs);
            }
            return Ok(outcome);
        }
        let mut queue = locked(&self.queue);
        while job.state.load(Ordering::Acquire) != DONE && !queue.stop {
            queue.wanted = true;
            queue = wait(&self.done, queue);
        }
        let outcome = locked(&job.outcome).take().unwrap_or_else(|| {
            let died = std::io::Error::other("a thread of the walk died");
            let path = self.lister.source.shown(&job.directory.path, b"");
            Err(SourceError::from_io("list", path, died))
        });
        let before = queue.ahead;
        queue.ahead = before.saturating_sub(cost(&outcome));
        // Not at every entry taken, but when it is worth waking up for.
        if queue.idle > 0 && before >= AHEAD / 2 && queue.ahead < AHEAD / 2 {
            self.work.notify_all();
        }
        outcome
    }

    /// Hands out a directory, all of its pieces, and notes what lies below it.
    fn deliver(
        &self,
        outcome: Outcome,
        open: &mut Vec<std::vec::IntoIter<Arc<Job>>>,
        scratch: &mut Scratch,
        sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Outcome { batch, mut directories, rest } = outcome;
        sink(batch)?;
        if !rest.is_empty() {
            for job in rest {
                let piece = self.obtain(&job, scratch).unwrap_or_else(|e| job.failed(e));
                directories.extend(piece.directories);
                sink(piece.batch)?;
            }
            self.queue_directories(&directories);
        }
        if !directories.is_empty() {
            open.push(directories.into_iter());
        }
        ControlFlow::Continue(())
    }

    fn queue_directories(&self, directories: &[Arc<Job>]) {
        let mut queue = locked(&self.queue);
        queue.stack.extend(directories.iter().rev().cloned());
        self.wake(&queue, directories.len());
    }

    fn stop(&self) {
        locked(&self.queue).stop = true;
        self.work.notify_all();
        self.done.notify_all();
    }
}

struct StopOnPanic<'a>(&'a Pool<'a>);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

/// Ends the threads when the consumer is done, however it ends.
struct StopAtEnd<'a>(&'a Pool<'a>);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn wait<'a>(condition: &Condvar, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
    condition.wait(queue).unwrap_or_else(PoisonError::into_inner)
}

/// Walks the tree below `root`, beginning with `first`, the root's own batch.
pub(super) fn walk(
    lister: &Lister<'_>,
    threads: usize,
    root: Arc<SourceDirectory>,
    first: WalkBatch,
    sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
) -> SourceResult<()> {
    let pool = Pool { lister, queue: Mutex::default(), work: Condvar::new(), done: Condvar::new() };
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&pool);
        let mut scratch = Scratch::new(lister.source);
        // Before anything is handed out: a root that cannot be listed is an error of the whole.
        let mut outcome = pool.obtain(&Job::new(root, Work::List), &mut scratch)?;
        for _ in 0..threads {
            scope.spawn(|| pool.work_off());
        }
        if sink(first).is_break() {
            return Ok(());
        }
        let mut open = Vec::new();
        loop {
            if pool.deliver(outcome, &mut open, &mut scratch, sink).is_break() {
                return Ok(());
            }
            let Some(job) = next_job(&mut open) else { return Ok(()) };
            outcome = pool.obtain(&job, &mut scratch).unwrap_or_else(|e| job.failed(e));
        }
    })
}

/// The next directory in tree order.
fn next_job(open: &mut Vec<std::vec::IntoIter<Arc<Job>>>) -> Option<Arc<Job>> {
    loop {
        if let Some(job) = open.last_mut()?.next() {
            return Some(job);
        }
        open.pop();
    }
}
