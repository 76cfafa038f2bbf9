//! Runs jobs: each in a thread of its own, a few at once, one at a time of each plan, all of them in
//! the history from begin to end. Whoever wants to watch subscribes; whoever wants it to end cancels,
//! also from another process.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_engine::monitor::Interrupt;
pub use tokio::sync::broadcast;

use crate::config::Config;
use crate::jobs::{Job, Watch, Work, drill};
use crate::notify;
use crate::paths::Paths;
use crate::plans;
use crate::problem::{Class, Problem};
use crate::runs::{
    By, History, Level, LogLine, NewRun, Outcome, Owner, ProblemRecord, Report, Run, RunId,
};
use crate::times;

mod recorder;
#[cfg(test)]
pub(crate) mod tests;

pub use recorder::{Progress, Recorder};

/// How often the history learns what is at work, and looks for who wants it to end.
const BEAT: Duration = Duration::from_secs(1);
/// Events that a slow listener may be behind before it loses the oldest.
const EVENTS: usize = 1024;

/// Something that happened to a run.
#[derive(Debug, Clone)]
pub struct Event {
    /// Which.
    pub run: RunId,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// It waits for its turn.
    Queued,
    /// It began its work.
    Started,
    /// It is this far; at most four times a second, and when a phase begins.
    Progress(Box<Progress>),
    /// It said something.
    Log(LogLine),
    /// It ended.
    Ended(Outcome),
}

/// How to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Runs at once; at least one.
    pub concurrent: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { concurrent: 2 }
    }
}

/// What becomes of a run whose plan is at work already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfBusy {
    /// It is refused.
    Refuse,
    /// It waits.
    Wait,
}

/// Runs jobs. Clones are the same runner; the last one that goes lets what is at work finish.
#[derive(Debug, Clone)]
pub struct Runner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Paths,
    history: Arc<History>,
    owner: Owner,
    options: Options,
    state: Mutex<State>,
    /// Somebody's turn may have come.
    turn: Condvar,
    /// Ends that the history has not taken yet.
    unended: Mutex<Vec<(RunId, Outcome, Report)>>,
    /// The configuration as it was when it made sense last: who is to be told of what.
    config: Mutex<Option<Arc<Config>>>,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<RunId, Arc<Live>>,
    /// Runs that ended, and of which somebody is being told.
    telling: BTreeSet<RunId>,
    is_closed: bool,
}

/// A run that is to end.
#[derive(Debug)]
struct Live {
    plan: Option<String>,
    interrupt: Interrupt,
    recorder: Recorder,
    is_running: AtomicBool,
    /// Its plan is at work in another process.
    is_blocked: AtomicBool,
    /// It is to end because the process is: nobody meant this run.
    is_closed: AtomicBool,
}

impl Live {
    fn runs(&self) -> bool {
        self.is_running.load(Ordering::SeqCst)
    }

    /// How a run that was to end ended: the service makes up for one that nobody meant to end.
    fn cut_short(&self) -> (Outcome, Option<Problem>) {
        if !self.is_closed.load(Ordering::SeqCst) {
            return (Outcome::Cancelled, None);
        }
        let text = "holdfast was told to end while it ran, or waited for its turn";
        let problem = Problem::new(Class::Interrupted, text)
            .hint("what was stored stays, and the next run goes on from it");
        (Outcome::Interrupted, Some(problem))
    }
}

impl State {
    /// The queued run that may begin: the oldest whose plan is not at work, as far as it is known.
    fn next(&self, concurrent: usize) -> Option<RunId> {
        let running = || self.live.values().filter(|live| live.runs());
        if running().count() >= concurrent.max(1) {
            return None;
        }
        let is_free = |live: &Live| {
            let is_blocked = live.is_blocked.load(Ordering::SeqCst);
            live.plan.is_none() || !is_blocked && running().all(|other| other.plan != live.plan)
        };
        let mut queued = self.live.iter().filter(|(_, live)| !live.runs());
        queued.find(|(_, live)| is_free(live)).map(|(run, _)| *run)
    }
}

impl Runner {
    /// A runner over the history of `paths`. Runs of processes that are gone become interrupted.
    pub fn new(paths: Paths, options: Options) -> Result<Self, Problem> {
        let history = Arc::new(History::open(&paths.state)?);
        history.reconcile()?;
        // Where cron runs the plans, nobody else does it.
        history.rotate(times::now())?;
        drill::sweep(&paths.state);
        let owner = history.own()?;
        let (events, _) = broadcast::channel(EVENTS);
        let (state, turn) = (Mutex::default(), Condvar::new());
        let (unended, config) = (Mutex::default(), Mutex::default());
        let inner = Inner { paths, history, owner, options, state, turn, unended, config, events };
        let inner = Arc::new(inner);
        let weak = Arc::downgrade(&inner);
        spawn("history", move || beat(&weak))?;
        Ok(Self(inner))
    }

    /// Where things are.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// The history.
    pub fn history(&self) -> &Arc<History> {
        &self.0.history
    }

    /// Begins a job. It waits while as many as may are at work; if its plan is, it is refused with
    /// [`Class::Busy`].
    pub fn start(&self, job: Job, by: By) -> Result<RunId, Problem> {
        self.start_due(job, by, None, IfBusy::Refuse)
    }

    /// Begins a job that was `due` then (nanoseconds since the epoch), or by hand.
    pub fn start_due(
        &self,
        job: Job,
        by: By,
        due: Option<i64>,
        if_busy: IfBusy,
    ) -> Result<RunId, Problem> {
        let inner = &self.0;
        let described = job.describe(&inner.paths)?;
        let new = NewRun { by, due, ..described };
        let mut state = inner.state();
        if state.is_closed {
            return Err(Problem::new(Class::Busy, "holdfast is ending: no run begins any more"));
        }
        // A process that was killed must not keep its plan busy.
        inner.history.reconcile()?;
        let run = inner.history.begin(&new, &inner.owner, if_busy == IfBusy::Refuse)?;
        let live = Arc::new(Live {
            plan: new.plan,
            interrupt: Interrupt::new(),
            recorder: Recorder::new(run, inner.events.clone()),
            is_running: false.into(),
            is_blocked: false.into(),
            is_closed: false.into(),
        });
        state.live.insert(run, live.clone());
        drop(state);
        inner.tell(run, What::Queued);
        let worker = inner.clone();
        let of = live.clone();
        let spawned = spawn("run", move || worker.run(run, &of, &job));
        if let Err(problem) = spawned {
            inner.ended(run, &live, Outcome::Failed, Some(&problem));
            return Err(problem);
        }
        Ok(run)
    }

    /// Ends a run: in good order, keeping what was done; asked again, at once. A run of another
    /// process is asked through the history.
    pub fn cancel(&self, run: RunId) -> Result<(), Problem> {
        let found = self.0.state().live.get(&run).cloned();
        match found {
            Some(live) => {
                live.interrupt.raise();
                self.0.turn.notify_all();
                Ok(())
            }
            None => match self.0.history.ask_to_cancel(run)? {
                Some(_) => Ok(()),
                None => {
                    let outcome = self.0.history.run(run)?.outcome.name();
                    let text = format!("run {run} is not at work: it is {outcome}");
                    Err(Problem::usage(text))
                }
            },
        }
    }

    /// Whether a run was asked to end: here, or through the history.
    pub fn is_ending(&self, run: &Run) -> bool {
        let state = self.0.state();
        run.cancel > 0 || state.live.get(&run.id).is_some_and(|live| live.interrupt.is_raised())
    }

    /// Runs at work that are not of this process; those of processes that are gone become
    /// interrupted.
    pub fn others(&self) -> Result<Vec<Run>, Problem> {
        self.0.history.reconcile()?;
        let open = self.0.history.open_runs()?;
        let state = self.0.state();
        Ok(open.into_iter().filter(|run| !state.live.contains_key(&run.id)).collect())
    }

    /// How far a run is, if it is at work: also one of another process, which tells every second.
    pub fn live(&self, run: RunId) -> Option<Progress> {
        if let Some(live) = self.0.state().live.get(&run) {
            return Some(live.recorder.progress());
        }
        let run = self.0.history.run(run).ok().filter(|run| run.outcome.is_open())?;
        serde_json::from_str(run.progress.as_deref()?).ok()
    }

    /// Everything that happens to runs of this process from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// Lets no run begin any more, cancels those at work, and waits for them, at most so long.
    /// Whether all ended.
    pub fn close(&self, patience: Duration) -> bool {
        let mut state = self.0.state();
        state.is_closed = true;
        for live in state.live.values() {
            // To one that ends already, a second time would mean "at once".
            if !live.interrupt.is_raised() {
                live.is_closed.store(true, Ordering::SeqCst);
                live.interrupt.raise();
            }
        }
        self.0.turn.notify_all();
        let until = Instant::now() + patience;
        while !state.live.is_empty() || !state.telling.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            let waited = self.0.turn.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Tells who wants to know that a run did not take place, or was cut off by a crash.
    pub fn notify(&self, run: RunId, event: plans::Event) -> Result<(), Problem> {
        let inner = self.0.clone();
        spawn("notify", move || inner.notify(run, event)).map(drop)
    }

    /// Waits until a run of this process ended, and who wants to know was told.
    pub fn wait(&self, run: RunId) {
        let mut state = self.0.state();
        while state.live.contains_key(&run) || state.telling.contains(&run) {
            state = self.0.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, run: RunId, what: What) {
        // Nobody may be listening.
        let _ = self.events.send(Event { run, what });
    }

    /// The whole life of a run in its thread.
    fn run(self: &Arc<Self>, run: RunId, live: &Live, job: &Job) {
        if !self.wait_for_turn(run, live) {
            let (outcome, problem) = live.cut_short();
            return self.ended(run, live, outcome, problem.as_ref());
        }
        if let Err(problem) = self.history.start(run) {
            return self.ended(run, live, Outcome::Failed, Some(&problem));
        }
        self.tell(run, What::Started);
        // The work does not wait for a server that does not answer.
        let teller = self.clone();
        let told = spawn("notify", move || teller.notify(run, plans::Event::Start));
        let work = Work { paths: &self.paths, watch: &live.recorder, interrupt: &live.interrupt };
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| job.run(&work)));
        let result = result.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
            Err(Problem::new(Class::Internal, "a fault of the program ended the run").cause(text))
        });
        // Who hears of the begin hears of it before the end.
        match told.map(JoinHandle::join) {
            Ok(Ok(()) | Err(_)) => {}
            Err(problem) => live.recorder.log(Level::Warning, &problem.to_string()),
        }
        let is_cancelled = live.interrupt.is_raised();
        match result {
            Ok(done) if is_cancelled => {
                live.recorder.merge(done);
                let (outcome, problem) = live.cut_short();
                self.ended(run, live, outcome, problem.as_ref());
            }
            Ok(done) => {
                let outcome = match done.problem {
                    Some(_) => Outcome::Failed,
                    None if done.number("errors") > 0 || live.recorder.has_errors() => {
                        Outcome::Warnings
                    }
                    None => Outcome::Ok,
                };
                live.recorder.merge(done);
                self.ended(run, live, outcome, None);
            }
            Err(_) if is_cancelled => {
                let (outcome, problem) = live.cut_short();
                self.ended(run, live, outcome, problem.as_ref());
            }
            Err(problem) => self.ended(run, live, Outcome::Failed, Some(&problem)),
        }
    }

    /// Waits until a run may begin; `false` if it is to end first.
    fn wait_for_turn(&self, run: RunId, live: &Live) -> bool {
        let mut state = self.state();
        loop {
            if live.interrupt.is_raised() {
                return false;
            }
            if state.next(self.options.concurrent) == Some(run) {
                if self.is_plan_free(run, live) {
                    live.is_running.store(true, Ordering::SeqCst);
                    return true;
                }
                // The others need not wait for that.
                live.is_blocked.store(true, Ordering::SeqCst);
            }
            let waited = self.turn.wait_timeout(state, BEAT);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            live.is_blocked.store(false, Ordering::SeqCst);
        }
    }

    /// Whether no process runs the plan of this run.
    fn is_plan_free(&self, run: RunId, live: &Live) -> bool {
        if live.plan.is_none() {
            return true;
        }
        let _ = self.history.reconcile();
        let open = self.history.open_runs().unwrap_or_default();
        open.iter().all(|other| other.id >= run || other.plan != live.plan)
    }

    fn ended(&self, run: RunId, live: &Live, outcome: Outcome, problem: Option<&Problem>) {
        if let Some(problem) = problem {
            live.recorder.log(Level::Error, &problem.to_string());
        }
        let (report, lines) = live.recorder.finish(problem.map(ProblemRecord::from));
        // What a full disk keeps from being written is written when it can be: an end above all,
        // since a run without one keeps its plan busy.
        let _ = self.history.log(run, &lines);
        if self.history.end(run, outcome, &report).is_err() {
            self.unended().push((run, outcome, report));
        }
        // Of an interrupted run the next service tells, which also makes up for it.
        let event = notify::event_of(outcome).filter(|_| outcome != Outcome::Interrupted);
        // Before the next one can begin.
        self.tell(run, What::Ended(outcome));
        let mut state = self.state();
        state.live.remove(&run);
        if event.is_some() {
            state.telling.insert(run);
        }
        drop(state);
        self.turn.notify_all();
        // Whoever waits for his turn does not wait for a server that does not answer.
        if let Some(event) = event {
            self.notify(run, event);
            self.state().telling.remove(&run);
            self.turn.notify_all();
        }
    }

    fn unended(&self) -> MutexGuard<'_, Vec<(RunId, Outcome, Report)>> {
        self.unended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration; while it makes no sense, as it was before.
    fn config(&self) -> Result<Arc<Config>, Problem> {
        let mut last = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        match self.paths.load_config() {
            Ok(config) => Ok(last.insert(Arc::new(config)).clone()),
            Err(problem) => last.clone().ok_or(problem),
        }
    }

    /// Tells who wants to know. What does not come through is in the log of deliveries.
    fn notify(&self, run: RunId, event: plans::Event) {
        let told = self.config().and_then(|config| {
            let run = self.history.run(run)?;
            notify::tell(&config, &self.history, &run, event)
        });
        if let Err(problem) = told {
            let (time, text) = (times::now(), format!("nobody could be told of it: {problem}"));
            let _ = self.history.log(run, &[LogLine { time, level: Level::Warning, text }]);
        }
    }
}

/// Keeps the history up to date, as long as there is a runner.
fn beat(inner: &Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        let live: Vec<_> =
            inner.state().live.iter().map(|(run, live)| (*run, live.clone())).collect();
        for (run, live) in live {
            let (progress, report, lines) = live.recorder.beat();
            let progress = serde_json::to_string(&progress).unwrap_or_default();
            if inner.history.log(run, &lines).is_err() {
                live.recorder.put_back(lines);
            }
            let asked = inner.history.update(run, &progress, &report).unwrap_or(0);
            // Each time that another process asks counts once.
            for _ in live.recorder.heeded(asked)..asked {
                live.interrupt.raise();
                inner.turn.notify_all();
            }
        }
        inner
            .unended()
            .retain(|(run, outcome, report)| inner.history.end(*run, *outcome, report).is_err());
        drop(inner);
        std::thread::sleep(BEAT);
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Problem> {
    let spawned = std::thread::Builder::new().name(name.into()).spawn(body);
    spawned.map_err(|e| crate::catalogue::io("start", "a thread", &e))
}
