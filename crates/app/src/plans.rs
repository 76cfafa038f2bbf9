//! Plans: what is backed up, where to, when, and what follows. They are the `[plan.NAME]` tables of
//! the configuration, read and checked in [`keys`], and written so that comments stay in [`edit`].

use std::time::Duration;

use crate::config::Config;
use crate::problem::{Class, Problem};
use crate::retention::Retention;
use crate::retention::group::PLAN_TAG;
use crate::schedule::{Calendar, Schedule};
use crate::text::{printable, shell_word};

mod edit;
pub mod keys;
#[cfg(test)]
mod tests;

/// What a run waits for the network, if nothing else is said.
const NETWORK_WAIT: Duration = Duration::from_secs(5 * 60);

/// A plan. All of it was checked on its own; whether its locations are there is asked by
/// [`Plan::check_places`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its name in the configuration, on the command line and in the history.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// Whether its schedules count. By hand it can always be run.
    pub enabled: bool,
    /// Locations to back up, as they are written.
    pub sources: Vec<String>,
    /// Rules as in .gitignore of what to leave out.
    pub exclude: Vec<String>,
    /// Leave out files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Leave out directories that are marked as caches.
    pub exclude_caches: bool,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// The repository: name of a location, or any location. Empty in a new plan.
    pub repository: String,
    /// Tags of its snapshots. The plan's name is not among them; see [`Plan::tag`].
    pub tags: Vec<String>,
    /// When it runs; `None`: by hand, or by cron.
    pub schedule: Option<Schedule>,
    /// Name of the time zone of all its schedules; `None` for that of the machine.
    pub timezone: Option<String>,
    /// Its runs are spread over so much time after they are due.
    pub jitter: Duration,
    /// Whether a run that was missed (the machine slept or was off) is made up for, once.
    pub catch_up: bool,
    /// What becomes of a run that is due while the one before is still at work.
    pub overlap: Overlap,
    /// How long a run waits until its places over a network can be reached.
    pub wait_for_network: Duration,
    /// Which of its snapshots stay. Without rules all do.
    pub keep: Retention,
    /// When space is freed that forgotten snapshots leave.
    pub gc: Follows,
    /// What of the repository is checked, and when.
    pub check: Option<Check>,
    /// Repositories to which its snapshots are copied after each run, as locations.
    pub mirror: Vec<String>,
    /// How often a run is tried again.
    pub retry: Retry,
    /// Send no more bytes a second.
    pub limit_upload: Option<u64>,
    /// Receive no more bytes a second.
    pub limit_download: Option<u64>,
    /// Commands around its runs. They run only where the file says `hooks = true`.
    pub hooks: Hooks,
    /// Who is told of what.
    pub notify: Vec<Notify>,
    /// When a sample is restored and compared.
    pub drill: Option<Drill>,
}

impl Plan {
    /// A plan that holds nothing but its name and what holds where nothing is said.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: None,
            enabled: true,
            sources: Vec::new(),
            exclude: Vec::new(),
            exclude_larger_than: None,
            exclude_caches: false,
            one_file_system: false,
            repository: String::new(),
            tags: Vec::new(),
            schedule: None,
            timezone: None,
            jitter: Duration::ZERO,
            catch_up: true,
            overlap: Overlap::Skip,
            wait_for_network: NETWORK_WAIT,
            keep: Retention::default(),
            gc: Follows::Never,
            check: None,
            mirror: Vec::new(),
            retry: Retry::default(),
            limit_upload: None,
            limit_download: None,
            hooks: Hooks::default(),
            notify: Vec::new(),
            drill: None,
        }
    }

    /// What to call it: its title, or else its name.
    pub fn shown(&self) -> &str {
        self.title.as_deref().unwrap_or(&self.name)
    }

    /// The tag by which its snapshots are known, so that its rules never touch those of others.
    pub fn tag(&self) -> String {
        format!("{PLAN_TAG}{}", self.name)
    }

    /// The repository as a location: `@name` where a name is written.
    pub fn repository_location(&self) -> String {
        as_location(&self.repository)
    }

    /// The repositories of its copies, as locations.
    pub fn mirror_locations(&self) -> Vec<String> {
        self.mirror.iter().map(|text| as_location(text)).collect()
    }

    /// When its backups run.
    pub fn calendar(&self) -> Option<Calendar> {
        Some(self.on(self.schedule.clone()?, Part::Backup))
    }

    /// Everything of it that is scheduled.
    pub fn calendars(&self) -> Vec<(Part, Calendar)> {
        let gc = match &self.gc {
            Follows::On(schedule) => Some(schedule.clone()),
            Follows::Never | Follows::Run => None,
        };
        let check = self.check.as_ref().and_then(|check| check.schedule.clone());
        let drill = self.drill.as_ref().map(|drill| drill.schedule.clone());
        let parts = [
            (Part::Backup, self.schedule.clone()),
            (Part::Gc, gc),
            (Part::Check, check),
            (Part::Drill, drill),
        ];
        let calendar =
            |(part, schedule): (Part, Option<Schedule>)| Some((part, self.on(schedule?, part)));
        parts.into_iter().filter_map(calendar).collect()
    }

    fn on(&self, schedule: Schedule, part: Part) -> Calendar {
        let name = format!("{} {}", self.name, part.name());
        Calendar { schedule, zone: self.timezone.clone(), jitter: self.jitter, name }
    }

    /// Refuses what contradicts itself, or lacks what a run needs.
    pub fn validate(&self) -> Result<(), Problem> {
        let lacks = |what: &str, example: &str| {
            self.problem(format!("{what} not set")).hint(format!("for instance {example}"))
        };
        if self.sources.is_empty() {
            return Err(lacks("its sources are", "sources = [\"/home/anna\"]"));
        }
        if self.repository.is_empty() {
            return Err(lacks("its repository is", "repository = \"office-nas\""));
        }
        for mirror in self.mirror_locations() {
            if mirror == self.repository_location() {
                let text = format!("its mirror {mirror} is its repository");
                return Err(self.problem(text));
            }
        }
        for (_, calendar) in self.calendars() {
            calendar.check().map_err(|problem| Problem {
                class: Class::Configuration,
                message: format!("[plan.{}]: {}", printable(self.name.as_bytes()), problem.message),
                ..problem
            })?;
        }
        Ok(())
    }

    /// Refuses a plan whose named locations are not in the configuration.
    pub fn check_places(&self, config: &Config) -> Result<(), Problem> {
        let all = self.sources.iter().cloned();
        let all = all.chain([self.repository_location()]).chain(self.mirror_locations());
        for text in all {
            crate::resolve::Resolved::new(
                &crate::location::Location::parse(text.as_ref())?,
                Some(config),
                &crate::config::Options::default(),
            )
            .map_err(|problem| {
                let message = format!("plan {}: {}", self.name, problem.message);
                blamed_on_plan(Problem { message, ..problem })
            })?;
        }
        Ok(())
    }

    /// Whether the channels that it tells are there, but for those that `before` told already.
    pub fn check_channels(&self, config: &Config, before: &[Notify]) -> Result<(), Problem> {
        let known = |name: &str| {
            config.has_channel(name) || before.iter().any(|notify| notify.channel == name)
        };
        match self.notify.iter().find(|notify| !known(&notify.channel)) {
            Some(notify) => config.channel(&notify.channel).map(drop).map_err(blamed_on_plan),
            None => Ok(()),
        }
    }

    fn problem(&self, text: impl std::fmt::Display) -> Problem {
        let name = printable(self.name.as_bytes());
        Problem::new(Class::Configuration, format!("[plan.{name}]: {text}"))
    }
}

/// Where a plan names what is not there, it is the plan that is wrong.
fn blamed_on_plan(problem: Problem) -> Problem {
    match problem.class {
        Class::NoSuchName => Problem { class: Class::Configuration, ..problem },
        _ => problem,
    }
}

/// A location where a name alone may stand.
fn as_location(text: &str) -> String {
    match text.starts_with('@') || text.contains('/') {
        true => text.to_owned(),
        false => format!("@{text}"),
    }
}

/// What of a plan is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Its backup and what follows it.
    Backup,
    /// Freeing space.
    Gc,
    /// Checking the repository.
    Check,
    /// Restoring a sample.
    Drill,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Backup, Self::Gc, Self::Check, Self::Drill];

    /// Its name in the history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Gc => "gc",
            Self::Check => "check",
            Self::Drill => "drill",
        }
    }
}

/// What becomes of a run that is due while the one before is still at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is recorded as missed.
    Skip,
    /// It waits, and runs right after.
    Queue,
}

/// When something that follows backups is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// Never.
    Never,
    /// After each run.
    Run,
    /// On a schedule of its own.
    On(Schedule),
}

/// A check of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// How much of the data is read, in percent: 0 for the structure alone.
    pub data: u8,
    /// When; `None`: after each run.
    pub schedule: Option<Schedule>,
}

/// How often a run is tried again after something that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often after the first time.
    pub times: u32,
    /// The wait before the first of them; it doubles, up to an hour.
    pub wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { times: 3, wait: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The wait before the `n`th try after the first one, from 0 on; `None` once it was tried as
    /// often as asked for.
    pub fn wait(&self, n: u32) -> Option<Duration> {
        const MOST: Duration = Duration::from_secs(3600);
        let wait = self.wait.checked_mul(1 << n.min(16)).unwrap_or(MOST);
        (n < self.times).then_some(wait.min(MOST))
    }
}

/// Commands around a run: each a program and its arguments, never a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Before it; if one fails, the run fails.
    pub before: Vec<Vec<String>>,
    /// After it, however it ended.
    pub after: Vec<Vec<String>>,
    /// After it ended well, warnings included.
    pub success: Vec<Vec<String>>,
    /// After it failed.
    pub failure: Vec<Vec<String>>,
    /// What takes longer is ended.
    pub timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            before: Vec::new(),
            after: Vec::new(),
            success: Vec::new(),
            failure: Vec::new(),
            timeout: Duration::from_secs(10 * 60),
        }
    }
}

impl Hooks {
    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        [&self.before, &self.after, &self.success, &self.failure].iter().all(|of| of.is_empty())
    }
}

/// A channel, and what it is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    /// Name of a `[channel.NAME]`.
    pub channel: String,
    /// Of these events.
    pub events: Vec<Event>,
}

/// What is worth a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A run began.
    Start,
    /// It ended well.
    Success,
    /// It ended, but something could not be read.
    Warnings,
    /// It failed, or was interrupted by a crash.
    Failure,
    /// It did not take place.
    Missed,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Start, Self::Success, Self::Warnings, Self::Failure, Self::Missed];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Success => "success",
            Self::Warnings => "warnings",
            Self::Failure => "failure",
            Self::Missed => "missed",
        }
    }
}

/// A restore drill: a sample of the newest snapshot is restored to a scratch directory, and
/// compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drill {
    /// When.
    pub schedule: Schedule,
    /// Files in the sample.
    pub files: u64,
    /// At most so many bytes in all.
    pub bytes: u64,
}

impl Drill {
    /// Files and bytes of a drill, if nothing else is said.
    pub const USUAL: (u64, u64) = (20, 1 << 30);

    /// A drill of the usual size.
    pub fn new(schedule: Schedule) -> Self {
        let (files, bytes) = Self::USUAL;
        Self { schedule, files, bytes }
    }
}

impl Config {
    /// The names of all plans, in the file's order.
    pub fn plan_names(&self) -> Vec<String> {
        let tables = self.plan_tables();
        tables.map(|(name, _)| name.to_owned()).collect()
    }

    /// All plans; each that cannot be read with what is wrong with it.
    pub fn plans(&self) -> Vec<(String, Result<Plan, Problem>)> {
        let plan = |name: String| {
            let plan = self.plan(&name);
            (name, plan)
        };
        self.plan_names().into_iter().map(plan).collect()
    }

    /// The plan of this name, checked.
    pub fn plan(&self, name: &str) -> Result<Plan, Problem> {
        let plan = self.plan_as_written(name)?;
        plan.validate()?;
        Ok(plan)
    }

    /// The plan of this name even where it lacks something.
    pub fn plan_as_written(&self, name: &str) -> Result<Plan, Problem> {
        let found = self.plan_tables().find(|(known, _)| *known == name);
        let (_, table) = found.ok_or_else(|| self.no_plan(name))?;
        keys::read_plan(name, table, self)
    }

    fn no_plan(&self, name: &str) -> Problem {
        let shown = printable(name.as_bytes());
        let path = crate::text::printable_os(self.path());
        let text = format!("there is no plan {shown} in the configuration {path}");
        let problem = Problem::new(Class::NoSuchName, text);
        let problem = match crate::config::keys::nearest_of(name, self.plan_names().into_iter()) {
            Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
            None => problem,
        };
        let problem = match self.plan_names().is_empty() {
            true => problem,
            false => problem.hint("to see what there is: holdfast plan list"),
        };
        problem
            .hint(format!("to make it: holdfast plan create {} --to @NAME PLACE", shell_word(name)))
    }
}
