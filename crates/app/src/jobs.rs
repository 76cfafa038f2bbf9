//! What takes longer than a moment: one file a job, each a function that the command line's verb
//! uses as well, wherever both do the same. A [`Runner`](crate::runner::Runner) runs them.

use holdfast_engine::monitor::{Interrupt, Monitor, Phase};

use crate::paths::Paths;
use crate::problem::Problem;
use crate::runs::{By, Level, NewRun, Report};

pub mod backup;
pub mod plan;

/// Something to run.
#[derive(Debug, Clone)]
pub enum Job {
    /// A plan of the configuration: its backup and what follows it.
    Plan(String),
    /// A backup without a plan.
    Backup(backup::Backup),
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
        Ok(match self {
            Self::Plan(name) => {
                let plan = paths.load_config()?.plan(name)?;
                new(Some(name), "backup", plan.repository_location())
            }
            Self::Backup(backup) => new(None, "backup", backup.repository.clone()),
        })
    }

    /// Does it.
    pub(crate) fn run(&self, work: &Work<'_>) -> Result<Report, Problem> {
        match self {
            Self::Plan(name) => plan::run(work, name),
            Self::Backup(backup) => backup::run(work, backup),
        }
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

/// A monitor that also keeps a log, and knows of the steps of a plan.
pub trait Watch: Monitor {
    /// A new step of a plan began.
    fn step(&self, name: &str);

    /// Something for the log.
    fn log(&self, level: Level, text: &str);
}

/// The program's name and version, for the record.
pub fn program() -> String {
    format!("holdfast {}", env!("CARGO_PKG_VERSION"))
}

/// This machine's name.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
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
