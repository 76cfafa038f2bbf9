//! A backup: of places to a repository, one snapshot for each origin.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::monitor::{Interrupt, Monitor};
use holdfast_engine::ops::backup::{BackupOptions, BackupReport, Parent, backup};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::writer::WriterOptions;

use super::{Limits, Work, drill, host, program, user};
use crate::ask::Nobody;
use crate::catalogue;
use crate::open::SourceContext;
use crate::problem::Problem;
use crate::resolve::Place;
use crate::roots::{self, Origin};
use crate::runs::Report;
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

/// Runs a backup.
pub fn run(work: &Work<'_>, options: &Backup) -> Result<Report, Problem> {
    let access = work.paths.access(Arc::new(Nobody));
    let place = options.limits.place(work.paths, &options.repository)?;
    let mut places = Vec::with_capacity(options.places.len());
    for text in &options.places {
        let source = options.limits.place(work.paths, text)?;
        if source.place == Place::Stream {
            return Err(Problem::usage(
                "standard input cannot be backed up without a command line",
            ));
        }
        places.push(source);
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
    let plan = roots::plan(&places, "stdin", &context)?;
    for note in &plan.notes {
        work.watch.note(note);
    }
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
    let mut report = Report::default();
    for origin in plan.origins {
        let done = snapshot(&repository, origin, &settings, work.watch, work.interrupt)
            .map_err(|e| catalogue::explain(&e, Some(options.repository.as_ref())))?;
        let is_partial = done.partial;
        report.merge(report_of(&done));
        if is_partial || work.interrupt.is_raised() {
            break;
        }
    }
    Ok(report)
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
