//! The scheduler: runs what plans say when they say it, as long as the process lives. What was due
//! while nobody was there is recorded as missed, and made up for once. [`Scheduler::tick`] does one
//! round and knows no clock; [`Service`] has the clock, and one thread for the rounds.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue;
use crate::config::Config;
use crate::jobs::Job;
use crate::plans::{Event, Overlap, Part, Plan};
use crate::problem::{Class, Problem};
use crate::runner::{IfBusy, Runner};
use crate::runs::{By, History, Missed, NewRun, Outcome, Run, RunId};
use crate::schedule::{Calendar, Overdue};
use crate::times;

#[cfg(test)]
mod tests;
pub mod unit;

/// What is later than this was missed: the process was not there, or the machine slept.
const GRACE: i64 = 5 * 60 * SECOND;
/// A change of the configuration is seen after so long.
const LOOK: i64 = 10 * SECOND;
/// A clock that was set back by more than this must not stop everything until it is there again. By
/// less, it is waited for, so that nothing runs twice.
const SET_BACK: i64 = 3600 * SECOND;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 24 * 3600 * SECOND;

/// Begins jobs: a [`Runner`], or what a test has in its place.
pub trait Begin: Send + Sync {
    /// As [`Runner::start_due`].
    fn begin(&self, job: Job, by: By, due: Option<i64>, if_busy: IfBusy) -> Result<RunId, Problem>;
}

impl Begin for Runner {
    fn begin(&self, job: Job, by: By, due: Option<i64>, if_busy: IfBusy) -> Result<RunId, Problem> {
        self.start_due(job, by, due, if_busy)
    }
}

/// What a round found worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The configuration was read, with so many plans that are scheduled.
    Read(usize),
    /// Something of it makes no sense, and is left out until it does.
    Wrong(Problem),
    /// Runs did not take place: the run that records it.
    Missed(RunId, String),
    /// The history forgot what is old.
    Rotated(usize),
}

/// Decides what is to be run.
#[derive(Debug)]
pub struct Scheduler<B> {
    begin: B,
    history: Arc<History>,
    config: std::path::PathBuf,
    home: Option<std::path::PathBuf>,
    /// What the file looked like when it was read.
    seen: Option<Seen>,
    plans: Vec<Plan>,
    rotated: i64,
}

/// What tells one version of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// `changed` moves with its permissions, too: a file that can be read now is read.
    File {
        inode: u64,
        length: u64,
        changed: (i64, i64),
    },
}

impl Seen {
    fn of(path: &Path) -> Self {
        path.metadata().map_or(Self::Nothing, |metadata| Self::File {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl<B: Begin> Scheduler<B> {
    /// A scheduler of the plans in this configuration.
    pub fn new(begin: B, history: Arc<History>, paths: &crate::paths::Paths) -> Self {
        let (config, home) = (paths.config.clone(), paths.home.clone());
        Self { begin, history, config, home, seen: None, plans: Vec::new(), rotated: 0 }
    }

    /// Begins what is due at `now` (nanoseconds since the epoch); when to look again.
    pub fn tick(&mut self, now: i64, tell: &mut dyn FnMut(Told)) -> Result<i64, Problem> {
        self.reload(tell)?;
        let mut next = now.saturating_add(LOOK);
        for plan in self.plans.clone() {
            for (part, calendar) in plan.calendars() {
                match self.look(&plan, part, &calendar, now, tell) {
                    Ok(Some(at)) => next = next.min(at),
                    Ok(None) => {}
                    Err(problem) => tell(Told::Wrong(problem)),
                }
            }
        }
        if now.saturating_sub(self.rotated) > DAY {
            self.rotated = now;
            match self.history.rotate(now)? {
                0 => {}
                number => tell(Told::Rotated(number)),
            }
        }
        Ok(next)
    }

    /// Reads the configuration if it was changed. One that cannot be read changes nothing.
    fn reload(&mut self, tell: &mut dyn FnMut(Told)) -> Result<(), Problem> {
        let seen = Seen::of(&self.config);
        if self.seen == Some(seen) {
            return Ok(());
        }
        self.seen = Some(seen);
        let config = match Config::load(&self.config, self.home.clone()) {
            Ok(config) => config,
            Err(problem) => {
                tell(Told::Wrong(problem));
                return Ok(());
            }
        };
        let (mut plans, mut armed) = (Vec::new(), Vec::new());
        for (name, plan) in config.plans() {
            match plan {
                Ok(plan) if plan.enabled => {
                    let parts = plan.calendars().into_iter();
                    armed.extend(parts.map(|(part, _)| (name.clone(), part.name())));
                    plans.push(plan);
                }
                Ok(_) => {}
                // It stays armed: what it misses while it makes no sense is missed.
                Err(problem) => {
                    armed.extend(Part::ALL.map(|part| (name.clone(), part.name())));
                    tell(Told::Wrong(problem));
                }
            }
        }
        // What was not taken over is read again.
        self.history.disarm_all_but(&armed).inspect_err(|_| self.seen = None)?;
        tell(Told::Read(plans.iter().filter(|plan| !plan.calendars().is_empty()).count()));
        self.plans = plans;
        Ok(())
    }

    /// Begins a part of a plan if it is due; when it is due next.
    fn look(
        &self,
        plan: &Plan,
        part: Part,
        calendar: &Calendar,
        now: i64,
        tell: &mut dyn FnMut(Told),
    ) -> Result<Option<i64>, Problem> {
        let last = self.history.armed(&plan.name, part.name(), &calendar.fingerprint(), now)?;
        let last = match last.saturating_sub(now) > SET_BACK {
            true => {
                self.history.advance(&plan.name, part.name(), now)?;
                now
            }
            false => last,
        };
        if let Some(overdue) = calendar.overdue(last, now)? {
            self.due(plan, part, &overdue, now, tell)?;
            self.history.advance(&plan.name, part.name(), overdue.last.nominal)?;
        }
        Ok(calendar.next(now, 1)?.first().copied())
    }

    fn due(
        &self,
        plan: &Plan,
        part: Part,
        overdue: &Overdue,
        now: i64,
        tell: &mut dyn FnMut(Told),
    ) -> Result<(), Problem> {
        let is_late = now.saturating_sub(overdue.last.at) > GRACE;
        let missed = if is_late { overdue.count } else { overdue.count - 1 };
        if missed > 0 {
            let last = if is_late { overdue.last.at } else { overdue.first.at.max(now - GRACE) };
            let text = match is_late && !plan.catch_up {
                true => "nobody was there to run it; it runs when it is due next",
                false => "nobody was there to run it; it is made up for now",
            };
            let problem = Problem::new(Class::Interrupted, text)
                .hint("the machine was off or asleep, or `holdfast serve` did not run");
            let missed = Missed { count: missed, first: overdue.first.at, last, problem };
            self.missed(plan, part, &missed, tell)?;
        }
        let by = match is_late {
            true if !plan.catch_up => return Ok(()),
            true => By::CatchUp,
            false => By::Schedule,
        };
        let if_busy = self.if_busy(plan, part)?;
        let at = overdue.last.at;
        match self.begin.begin(Job::of_part(plan, part), by, Some(at), if_busy) {
            Ok(_) => Ok(()),
            Err(problem) => {
                let missed = Missed { count: 1, first: at, last: at, problem };
                self.missed(plan, part, &missed, tell)
            }
        }
    }

    /// Whether a part that is due waits for what else of its plan is at work. One of its own kind that
    /// waits already is enough, and of one that is at work the plan says what it means for backups.
    fn if_busy(&self, plan: &Plan, part: Part) -> Result<IfBusy, Problem> {
        let open = self.history.open_runs()?;
        let is_same = |run: &&Run| run.plan.as_ref() == Some(&plan.name) && run.verb == part.name();
        let mut same = open.iter().filter(is_same);
        let may_queue = part == Part::Backup && plan.overlap == Overlap::Queue;
        let waits = match may_queue {
            true => same.all(|run| run.outcome != Outcome::Queued),
            false => same.next().is_none(),
        };
        Ok(if waits { IfBusy::Wait } else { IfBusy::Refuse })
    }

    fn missed(
        &self,
        plan: &Plan,
        part: Part,
        missed: &Missed,
        tell: &mut dyn FnMut(Told),
    ) -> Result<(), Problem> {
        let new = NewRun {
            plan: Some(plan.name.clone()),
            verb: part.name().into(),
            place: plan.repository_location(),
            by: By::Schedule,
            due: Some(missed.first),
        };
        let run = self.history.missed(&new, missed)?;
        tell(Told::Missed(run, plan.name.clone()));
        Ok(())
    }

    /// Runs again what a crash cut off, once: a run that was itself made up for is left alone.
    pub fn make_up(&self) -> Result<(), Problem> {
        for plan in self.plans.iter().filter(|plan| plan.catch_up && plan.schedule.is_some()) {
            let last = self.history.last(&plan.name, Part::Backup.name(), false)?;
            let is_cut_off =
                |run: &Run| run.outcome == Outcome::Interrupted && run.by == By::Schedule;
            if let Some(run) = last.filter(is_cut_off) {
                let job = Job::Plan(plan.name.clone());
                match self.begin.begin(job, By::CatchUp, run.due, IfBusy::Refuse) {
                    // It is at work again by now: all is well.
                    Err(problem) if problem.class != Class::Busy => return Err(problem),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Says that a service is at work in a state directory, as long as it is held.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "what is held is the lock")] File);

impl Lock {
    /// Takes it; [`Class::Busy`] if another process has it.
    pub fn take(state: &Path) -> Result<Self, Problem> {
        let path = state.join("serve.lock");
        let failed = |e: std::io::Error| catalogue::io("open", &path, &e);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                let text =
                    "another holdfast of this user serves already: two would run every plan twice";
                Err(Problem::new(Class::Busy, text)
                    .hint("to see what it does: holdfast runs")
                    .hint("if systemd runs it: systemctl status holdfast"))
            }
            Err(TryLockError::Error(e)) => Err(failed(e)),
        }
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Nanoseconds since the epoch.
    fn now(&self) -> i64;
    /// Waits so long, or shorter.
    fn sleep(&self, time: Duration);
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        times::now()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// The scheduler with its clock.
#[derive(Debug)]
pub struct Service<C> {
    scheduler: Scheduler<Runner>,
    clock: C,
    _lock: Lock,
}

/// The clock is looked at so often, so that a machine that wakes up is noticed.
const BEAT: Duration = Duration::from_secs(1);

impl<C: Clock> Service<C> {
    /// A service over `runner`; refused while another is at work.
    pub fn new(runner: &Runner, clock: C) -> Result<Self, Problem> {
        let lock = Lock::take(&runner.paths().state)?;
        let scheduler = Scheduler::new(runner.clone(), runner.history().clone(), runner.paths());
        Ok(Self { scheduler, clock, _lock: lock })
    }

    /// Does rounds until `ends` says so. What goes wrong is told, and the next round comes anyway.
    pub fn run(&mut self, ends: &dyn Fn() -> bool, tell: &mut dyn FnMut(Told)) {
        let runner = self.scheduler.begin.clone();
        let tell = &mut |told: Told| {
            if let Told::Missed(run, _) = &told
                && let Err(problem) = runner.notify(*run, Event::Missed)
            {
                tell(Told::Wrong(problem));
            }
            tell(told);
        };
        let mut is_first = true;
        while !ends() {
            let now = self.clock.now();
            let mut round = || -> Result<i64, Problem> {
                let history = runner.history();
                history.reconcile()?;
                for run in history.untold()? {
                    runner.notify(run, Event::Failure)?;
                }
                let next = self.scheduler.tick(now, tell)?;
                if std::mem::take(&mut is_first) {
                    self.scheduler.make_up()?;
                }
                Ok(next)
            };
            let next = round().unwrap_or_else(|problem| {
                tell(Told::Wrong(problem));
                now.saturating_add(LOOK)
            });
            while !ends() && (now..next).contains(&self.clock.now()) {
                self.clock.sleep(BEAT);
            }
        }
    }
}
