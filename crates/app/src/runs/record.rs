//! What the history holds of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::problem::{Class, Problem};
use crate::text::printable;
use crate::times::rfc3339;

/// A run's number.
pub type RunId = i64;

/// How a run ended, or that it did not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It waits for its turn.
    Queued,
    /// It is at work.
    Running,
    /// It did all of it.
    Ok,
    /// It ended, but something could not be read or written.
    Warnings,
    /// It could not be done.
    Failed,
    /// Somebody ended it.
    Cancelled,
    /// Its process is gone: a crash, or the machine went off.
    Interrupted,
    /// It was due and did not take place.
    Missed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Running,
        Self::Ok,
        Self::Warnings,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
        Self::Missed,
    ];

    /// Its name in the database, in JSON and in pages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ok => "ok",
            Self::Warnings => "warnings",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Missed => "missed",
        }
    }

    /// The outcome that somebody typed.
    pub fn parse(name: &str) -> Result<Self, Problem> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            let shown = printable(name.as_bytes());
            Problem::usage(format!("{shown:?} is no outcome")).hint(format!("write one of {names}"))
        })
    }

    /// The outcome of this name; what is none was interrupted in the middle of something.
    pub fn from_name(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|outcome| outcome.name() == name);
        found.unwrap_or(Self::Interrupted)
    }

    /// Whether it is still to end.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// Whether what was to be done is done, at least for the most part.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Ok | Self::Warnings)
    }
}

/// Who began a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// Its schedule.
    Schedule,
    /// A schedule whose time was missed.
    CatchUp,
    /// Somebody in the console.
    Console,
    /// The command line, or cron.
    Command,
}

impl By {
    const ALL: [Self; 4] = [Self::Schedule, Self::CatchUp, Self::Console, Self::Command];

    /// Its name in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::CatchUp => "catch-up",
            Self::Console => "console",
            Self::Command => "command",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|by| by.name() == name).unwrap_or(Self::Command)
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its number.
    pub id: RunId,
    /// Its plan, if it is of one.
    pub plan: Option<String>,
    /// What is done: "backup", "restore", "check", …
    pub verb: String,
    /// The repository, as it is shown.
    pub place: String,
    /// Who began it.
    pub by: By,
    /// When it was due; nanoseconds since the epoch.
    pub due: Option<i64>,
    /// When it began. Of missed runs: when the first of them was due.
    pub started: i64,
    /// When it ended. Of missed runs: when the last of them was due.
    pub ended: Option<i64>,
    /// How.
    pub outcome: Outcome,
    /// How often it was asked to end.
    pub cancel: u8,
    /// What it told last, while it is at work: [`crate::runner::Progress`] as JSON.
    pub progress: Option<String>,
    /// What it did.
    pub report: Report,
}

impl Run {
    /// The run as an object of JSON, times in RFC 3339.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "id": self.id,
            "plan": self.plan,
            "verb": self.verb,
            "place": self.place,
            "by": self.by.name(),
            "due": self.due.map(rfc3339),
            "started": rfc3339(self.started),
            "ended": self.ended.map(rfc3339),
            "outcome": self.outcome.name(),
        });
        let report = serde_json::to_value(&self.report).unwrap_or_default();
        if let (Some(object), serde_json::Value::Object(report)) = (object.as_object_mut(), report)
        {
            object.extend(report);
        }
        object
    }

    /// How long it took; `None` while it is open, and of missed runs.
    pub fn took(&self) -> Option<Duration> {
        let nanos = self.ended?.saturating_sub(self.started);
        let nanos = u64::try_from(nanos).ok().filter(|_| self.outcome != Outcome::Missed)?;
        Some(Duration::from_nanos(nanos))
    }
}

/// What a run did. Fields are added in place: what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Its phases, in order.
    pub phases: Vec<PhaseTime>,
    /// Figures by name: `files`, `bytes`, `files_new`, `files_changed`, `files_unchanged`,
    /// `bytes_read`, `bytes_new`, `bytes_stored`, `excluded`, `errors`, `snapshots_forgotten`,
    /// `bytes_freed`, …
    pub numbers: BTreeMap<String, u64>,
    /// What went wrong with single files or objects.
    pub errors: Vec<ErrorClass>,
    /// Snapshots that it made, whole ids.
    pub snapshots: Vec<String>,
    /// What ended it.
    pub problem: Option<ProblemRecord>,
}

impl Report {
    /// A figure; 0 if it is not there.
    pub fn number(&self, name: &str) -> u64 {
        self.numbers.get(name).copied().unwrap_or(0)
    }

    /// Adds to a figure.
    pub fn add(&mut self, name: &str, number: u64) {
        let entry = self.numbers.entry(name.to_owned()).or_default();
        *entry = entry.saturating_add(number);
    }

    /// Adds what another part of the same run did.
    pub fn merge(&mut self, other: Self) {
        for (name, number) in other.numbers {
            self.add(&name, number);
        }
        self.phases.extend(other.phases);
        self.snapshots.extend(other.snapshots);
        for class in other.errors {
            match self.errors.iter_mut().find(|known| known.class == class.class) {
                Some(known) => {
                    known.count = known.count.saturating_add(class.count);
                    known.samples.extend(class.samples);
                }
                None => self.errors.push(class),
            }
        }
        self.problem = other.problem.or(self.problem.take());
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".into())
    }

    /// A report that cannot be read has nothing in it.
    pub(super) fn from_json(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// A phase of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseTime {
    /// Its name, as in docs/json.md, or the step of a plan.
    pub name: String,
    /// When it began; nanoseconds since the epoch.
    pub began: i64,
    /// How long it took so far, in milliseconds.
    pub millis: u64,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorClass {
    /// What kind, in words: "permission denied".
    pub class: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub samples: Vec<Sample>,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Path or object, printable.
    pub what: String,
    /// What is wrong with it.
    pub message: String,
}

/// A problem as the history keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemRecord {
    /// Name of its class.
    pub class: String,
    /// What happened.
    pub message: String,
    /// How far a connection came.
    #[serde(default)]
    pub stage: Option<String>,
    /// Why, outermost first.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do next.
    #[serde(default)]
    pub hints: Vec<String>,
}

impl ProblemRecord {
    /// The problem again, its stage aside.
    pub fn to_problem(&self) -> Problem {
        Problem {
            class: Class::from_name(&self.class).unwrap_or(Class::Internal),
            message: self.message.clone(),
            stage: None,
            causes: self.causes.clone(),
            hints: self.hints.clone(),
        }
    }
}

impl From<&Problem> for ProblemRecord {
    fn from(problem: &Problem) -> Self {
        Self {
            class: problem.class.name().into(),
            message: problem.message.clone(),
            stage: problem.stage.map(String::from),
            causes: problem.causes.clone(),
            hints: problem.hints.clone(),
        }
    }
}

/// How much a line of a log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// What happens.
    Info,
    /// What should be looked into.
    Warning,
    /// What went wrong.
    Error,
}

impl Level {
    /// Its name in the database and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    pub(super) fn from_name(name: &str) -> Self {
        let all = [Self::Info, Self::Warning];
        all.into_iter().find(|level| level.name() == name).unwrap_or(Self::Error)
    }
}

/// A line of a run's log. Printable, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When; nanoseconds since the epoch.
    pub time: i64,
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub text: String,
}
