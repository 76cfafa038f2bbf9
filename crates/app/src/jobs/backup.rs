//! A backup: of places to a repository, one snapshot for each origin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::monitor::{Interrupt, Monitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, Parent, backup};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::writer::WriterOptions;

use super::plan::may_pass;
use super::{Failures, Limits, Work, drill, host, program, user};
use crate::ask::Nobody;
use crate::catalogue;
use crate::open::SourceContext;
use crate::problem::Problem;
use crate::resolve::{Place, Resolved};
use crate::roots::{self, Origin};
use crate::runs::{Level, ProblemRecord, Report};
use crate::seal::seal;
use crate::times;

/// How often what was done so far is kept, so that a run that is killed costs no more than this.
pub const PARTIAL_EVERY: Duration = Duration::from_secs(300);

/// A backup that asks nobody.
#[derive(Debug, Clone, Default)]
pub struct Backup {
    /// The plan that it is of, if any. It and its locations go into the snapshot, without secrets.
    pub plan: Option<String>,
    /// The repository, as a location.
    pub repository: String,
    /// Copies of the repository, as locations: they are never part of a backup.
    pub mirrors: Vec<String>,
    /// What to back up, as locations.
    pub places: Vec<String>,
    /// Rules as in .gitignore of what to leave out.
    pub exclude: Vec<String>,
    /// Leave out files of more bytes.
    pub exclude_larger_than: Option<u64>,
    /// Leave out directories that are marked as caches.
    pub exclude_caches: bool,
    /// Do not go into other file systems.
    pub one_file_system: bool,
    /// Tags of the snapshots.
    pub tags: Vec<String>,
    /// How fast.
    pub limits: Limits,
}

/// What is done of a backup that may be tried several times.
#[derive(Debug, Default)]
pub(super) struct Done {
    report: Report,
    /// Origins with a snapshot, or with a problem that does not pass: no try comes back to them.
    over: BTreeSet<(&'static str, Option<String>)>,
    /// The first problem of those that do not pass.
    problem: Option<Problem>,
    /// What could not be saved before the origin that failed last: that is tried again.
    before: Option<Failures>,
}

impl Done {
    /// What came of it: the snapshots that were made, with what went wrong first; if there are none,
    /// that alone.
    pub(super) fn end(
        self,
        work: &Work<'_>,
        tried: Result<(), Problem>,
    ) -> Result<Report, Problem> {
        let Some(problem) = self.problem.or(tried.err()) else { return Ok(self.report) };
        if self.report.snapshots.is_empty() {
            return Err(problem);
        }
        if work.interrupt.is_raised() {
            return Ok(self.report);
        }
        work.watch.log(Level::Error, &problem.to_string());
        Ok(Report { problem: Some(ProblemRecord::from(&problem)), ..self.report })
    }
}

/// Runs a backup.
pub fn run(work: &Work<'_>, options: &Backup) -> Result<Report, Problem> {
    let mut done = Done::default();
    let tried = attempt(work, options, &mut done);
    done.end(work, tried)
}

/// Backs up what `done` lacks. An origin that fails keeps no other from being backed up; the first
/// problem that may pass is returned.
pub(super) fn attempt(work: &Work<'_>, options: &Backup, done: &mut Done) -> Result<(), Problem> {
    if let Some(before) = done.before.take() {
        work.watch.forget_since(before);
    }
    let access = work.paths.access(Arc::new(Nobody));
    let place = options.limits.place(work.paths, &options.repository)?;
    let mut origins: BTreeMap<_, Vec<Resolved>> = BTreeMap::new();
    for text in &options.places {
        let source = options.limits.place(work.paths, text)?;
        if source.place == Place::Stream {
            return Err(Problem::usage(
                "standard input cannot be backed up without a command line",
            ));
        }
        origins.entry(source.place.origin()).or_default().push(source);
    }
    let mut never: Vec<PathBuf> = work.paths.cache.iter().cloned().collect();
    never.extend(place.local("repository").ok().map(PathBuf::from));
    for text in &options.mirrors {
        // A copy of the repository in a backup would grow with each run.
        let mirror = options.limits.place(work.paths, text)?;
        never.extend(mirror.local("repository").ok().map(PathBuf::from));
    }
    never.push(drill::scratches(&work.paths.state));
    let source = LocalSourceOptions {
        excludes: options.exclude.clone(),
        exclude_larger_than: options.exclude_larger_than,
        exclude_caches: options.exclude_caches,
        one_file_system: options.one_file_system,
        never,
        threads: 0,
    };
    let context = SourceContext { options: &source, repository: Some(&place), access: &access };
    let repository = work.paths.open_repository(&place, &access)?;
    let mut settings = Settings {
        tags: options.tags.clone(),
        excludes: options.exclude.clone(),
        ..Settings::default()
    };
    let sealed = options.plan.as_ref().map(|name| {
        let config = work.paths.load_config()?;
        seal(&config, &config.plan(name)?, &access)
    });
    settings.plan = sealed.transpose()?.unwrap_or_default();
    let one = |places: &[Resolved]| -> Result<Report, Problem> {
        let plan = roots::plan(places, "stdin", &context)?;
        plan.notes.iter().for_each(|note| work.watch.note(note));
        let mut report = Report::default();
        for origin in plan.origins {
            let made = snapshot(&repository, origin, &settings, work.watch, work.interrupt)
                .map_err(|e| catalogue::explain(&e, Some(options.repository.as_ref())))?;
            report.merge(report_of(&made));
        }
        Ok(report)
    };
    let are_several = origins.len() > 1;
    let mut first = None;
    origins.retain(|origin, _| !done.over.contains(origin));
    let last = origins.keys().next_back().cloned();
    for (origin, places) in origins {
        let before = work.watch.failures();
        let problem = match one(&places) {
            Ok(report) => {
                done.report.merge(report);
                done.over.insert(origin);
                if work.interrupt.is_raised() {
                    break;
                }
                continue;
            }
            Err(problem) if work.interrupt.is_raised() => return Err(problem),
            Err(problem) => problem,
        };
        if are_several {
            work.watch.log(Level::Warning, &problem.to_string());
        }
        // What of it could not be read is found again. Where nothing came after it, it counts until
        // then.
        match Some(&origin) == last.as_ref() {
            true => done.before = Some(before),
            false => work.watch.forget_since(before),
        }
        if may_pass(problem.class) {
            first.get_or_insert(problem);
        } else {
            done.over.insert(origin);
            done.problem.get_or_insert(problem);
        }
    }
    first.map_or(Ok(()), Err)
}

/// What the history keeps of a backup.
pub fn report_of(done: &BackupReport) -> Report {
    let stats = &done.stats;
    let mut report = Report::default();
    report.snapshots.extend(done.snapshot.map(|id| id.to_string()));
    for (name, number) in [
        ("files", done.sum.files),
        ("directories", done.sum.directories),
        ("bytes", done.sum.bytes),
        ("files_new", stats.files_new),
        ("files_changed", stats.files_changed),
        ("files_unchanged", stats.files_unchanged),
        ("bytes_read", stats.bytes_read),
        ("bytes_new", stats.bytes_new),
        ("bytes_stored", stats.bytes_stored),
        ("excluded", stats.excluded),
        ("errors", done.errors),
    ] {
        report.add(name, number);
    }
    report
}

/// What holds for all snapshots of a backup.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Tags, in any order.
    pub tags: Vec<String>,
    /// Description.
    pub description: String,
    /// Keep them for ever.
    pub pinned: bool,
    /// Name of the host, in place of that of each origin.
    pub host: Option<String>,
    /// What to compare with.
    pub parent: Parent,
    /// Find out what would be stored, and store nothing.
    pub dry_run: bool,
    /// Make no snapshot if nothing has changed.
    pub skip_if_unchanged: bool,
    /// The plan that asks for it, sealed.
    pub plan: String,
    /// Exclude rules in force, for the record.
    pub excludes: Vec<String>,
    /// How to write.
    pub writer: WriterOptions,
}

/// Backs up one origin.
pub fn snapshot(
    repository: &Repository,
    origin: Origin,
    settings: &Settings,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> holdfast_engine::Result<BackupReport> {
    let mut tags = settings.tags.clone();
    tags.retain(|tag| !tag.is_empty());
    tags.sort();
    tags.dedup();
    let options = BackupOptions {
        roots: origin.roots,
        host: settings.host.clone().or(origin.host).unwrap_or_else(host),
        user: user(),
        kind: origin.kind.into(),
        tags,
        description: settings.description.clone(),
        pinned: settings.pinned,
        program: program(),
        process: std::process::id(),
        time: times::now(),
        excludes: settings.excludes.clone(),
        plan: settings.plan.clone(),
        parent: settings.parent,
        dry_run: settings.dry_run,
        skip_if_unchanged: settings.skip_if_unchanged,
        partial_every: Some(PARTIAL_EVERY),
        renew_every: Some(PARTIAL_EVERY),
        writer: settings.writer,
    };
    backup(repository, &options, monitor, interrupt)
}
