//! What takes longer than a moment: one file a job, each a function that the command line's verb
//! uses as well, wherever both do the same. A [`Runner`](crate::runner::Runner) runs them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::monitor::{Interrupt, Monitor, Phase};
use holdfast_engine::repo::Repository;

use crate::ask::Nobody;
use crate::paths::Paths;
use crate::plans::{Part, Plan};
use crate::problem::Problem;
use crate::resolve::Resolved;
use crate::runs::{By, Level, NewRun, Report};
use crate::seal;

pub mod backup;
pub mod check;
pub mod drill;
pub mod forget;
pub mod gc;
pub mod hooks;
mod mirror;
mod network;
pub mod plan;
pub mod restore;
mod retention;
#[cfg(test)]
mod tests;

/// Something to run.
#[derive(Debug, Clone)]
pub enum Job {
    /// A plan of the configuration: its backup and what follows it.
    Plan(String),
    /// A backup without what follows it.
    Backup(backup::Backup),
    /// A restore.
    Restore(restore::Restore),
    /// Forgetting snapshots.
    Forget(forget::Forget),
    /// Freeing space.
    Gc(gc::Gc),
    /// A check of a repository.
    Check(check::Check),
    /// The restore drill of a plan.
    Drill(String),
}

impl Job {
    /// What the history says of it.
    pub(crate) fn describe(&self, paths: &Paths) -> Result<NewRun, Problem> {
        let new = |plan: Option<&str>, verb: &str, place: String| NewRun {
            plan: plan.map(String::from),
            verb: verb.into(),
            place,
            by: By::Command,
            due: None,
        };
        let of_plan = |name: &str, verb: &str| -> Result<NewRun, Problem> {
            let plan = paths.load_config()?.plan(name)?;
            Ok(new(Some(name), verb, plan.repository_location()))
        };
        Ok(match self {
            Self::Plan(name) => of_plan(name, "backup")?,
            Self::Drill(name) => of_plan(name, "drill")?,
            Self::Backup(backup) => {
                new(backup.plan.as_deref(), "backup", backup.repository.clone())
            }
            Self::Restore(restore) => new(None, restore.verb(), restore.from.location.clone()),
            Self::Forget(forget) => new(None, "forget", forget.from.location.clone()),
            Self::Gc(gc) => new(gc.plan.as_deref(), "gc", gc.repository.location.clone()),
            Self::Check(check) => {
                new(check.plan.as_deref(), "check", check.repository.location.clone())
            }
        })
    }

    /// What the schedule of a part of a plan asks for.
    pub fn of_part(plan: &Plan, part: Part) -> Self {
        let (name, limits) = (Some(plan.name.clone()), Limits::of(plan));
        let repository = Target { location: plan.repository_location(), opened: None };
        match part {
            Part::Backup => Self::Plan(plan.name.clone()),
            Part::Drill => Self::Drill(plan.name.clone()),
            Part::Gc => Self::Gc(gc::Gc { plan: name, repository, limits }),
            Part::Check => {
                let data = plan.check.as_ref().map_or(0, |check| check.data);
                Self::Check(check::Check { plan: name, repository, data, limits })
            }
        }
    }

    /// Does it.
    pub(crate) fn run(&self, work: &Work<'_>) -> Result<Report, Problem> {
        match self {
            Self::Plan(name) => plan::run(work, name),
            Self::Backup(backup) => backup::run(work, backup),
            Self::Restore(restore) => restore::run(work, restore),
            Self::Forget(forget) => forget::run(work, forget),
            Self::Gc(gc) => plan::part(work, gc.plan.as_deref(), || gc::run(work, gc)),
            Self::Check(check) => {
                plan::part(work, check.plan.as_deref(), || check::run(work, check))
            }
            Self::Drill(name) => plan::part(work, Some(name.as_str()), || drill::run(work, name)),
        }
    }
}

/// The repository of a job, which somebody may have looked into before.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Its location.
    pub location: String,
    /// The repository, where it is open already: perhaps with a passphrase that is kept nowhere.
    pub opened: Option<Arc<Repository>>,
}

impl Target {
    /// The repository, open; with these limits, unless it was open already.
    fn open(&self, work: &Work<'_>, limits: Limits) -> Result<Arc<Repository>, Problem> {
        if let Some(opened) = &self.opened {
            return Ok(opened.clone());
        }
        let place = limits.place(work.paths, &self.location)?;
        let access = work.paths.access(Arc::new(Nobody));
        Ok(Arc::new(work.paths.open_repository(&place, &access)?))
    }
}

/// How fast a job may be over its places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes a second to be sent at most.
    pub upload: Option<u64>,
    /// Bytes a second to be received at most.
    pub download: Option<u64>,
}

impl Limits {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        Self { upload: plan.limit_upload, download: plan.limit_download }
    }

    /// A location with these limits in place of its own.
    pub(crate) fn place(self, paths: &Paths, text: &str) -> Result<Resolved, Problem> {
        let mut place = paths.resolve(text.as_ref(), &paths.load_config()?)?;
        for (name, limit) in [("limit_upload", self.upload), ("limit_download", self.download)] {
            if let Some(limit) = limit {
                place.options.set_limit(name, limit);
            }
        }
        Ok(place)
    }
}

/// What a job works with.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// Where things are.
    pub paths: &'a Paths,
    /// Who is told how far it is.
    pub watch: &'a dyn Watch,
    /// Whether it is to end.
    pub interrupt: &'a Interrupt,
}

/// What could not be saved up to some moment: how much, and of what kinds.
#[derive(Debug, Clone, Default)]
pub struct Failures(pub(crate) u64, pub(crate) Vec<crate::runs::ErrorClass>);

/// A monitor that also keeps a log, and knows of the steps of a plan.
pub trait Watch: Monitor {
    /// A new step of a plan began.
    fn step(&self, name: &str);

    /// Something for the log.
    fn log(&self, level: Level, text: &str);

    /// What could not be saved so far.
    fn failures(&self) -> Failures;

    /// What could not be saved since `before` counts no more: it is tried again.
    fn forget_since(&self, before: Failures);
}

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Waits; `false` if the run is to end.
fn pause(work: &Work<'_>, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    while !work.interrupt.is_raised() {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
        std::thread::sleep(left.min(LOOK));
    }
    false
}

/// The program's name and version, for the record.
pub fn program() -> String {
    format!("holdfast {}", env!("CARGO_PKG_VERSION"))
}

/// This machine's name.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// Whether this machine's plan made a snapshot. Another machine may have a plan of the same name, and
/// anybody may write its tag: who made it stands in the record of the plan, and without one it is
/// nobody's.
fn is_of_plan(plan: &Plan, snapshot: &Snapshot) -> bool {
    snapshot.tags.contains(&plan.tag()) && seal::host_of(&snapshot.plan) == Some(host())
}

/// Who runs this, as the environment says; else the number.
pub fn user() -> String {
    let named = ["USER", "LOGNAME"].iter().find_map(std::env::var_os);
    named.filter(|name| !name.is_empty()).map_or_else(
        || rustix::process::geteuid().as_raw().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A phase's name in JSON and in the history.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Opening => "opening",
        Phase::Backup => "backup",
        Phase::Copying => "copying",
        Phase::Committing => "committing",
        Phase::Planning => "planning",
        Phase::Restore => "restore",
        Phase::Finishing => "finishing",
        Phase::Archive => "archive",
        Phase::CheckStructure => "check-structure",
        Phase::CheckData => "check-data",
        Phase::Marking => "marking",
        Phase::Repacking => "repacking",
        Phase::Waiting => "waiting",
        Phase::Deleting => "deleting",
        Phase::Repairing => "repairing",
        _ => "working",
    }
}
