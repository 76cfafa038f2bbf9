//! `backup`: from places to snapshots, one for each origin.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use holdfast_app::jobs::backup::{Settings, snapshot};
use holdfast_app::open::SourceContext;
use holdfast_app::roots::{self, Origin};
use holdfast_app::select::Spec;
use holdfast_app::text::{parse_size, plural, printable, size};
use holdfast_app::{Class, Problem, catalogue};
use holdfast_connectors::local::source::LocalSourceOptions;
use holdfast_engine::compress::Level;
use holdfast_engine::error::chain_text;
use holdfast_engine::ops::backup::{BackupReport, Parent};
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{Repository, open};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::json;
use crate::ui::progress::Progress;
use crate::ui::prompt::Terminal;

/// Back up files and directories
///
/// Places may be paths, other locations (@NAME, sftp://, s3://), or `-` for standard input. What has not changed since
/// the last backup of the same places is not read again. Without a repository at the default
/// place, one is made after asking for a passphrase.
#[derive(Debug, Args)]
#[command(
    after_help = "Exclude rules are written as in .gitignore, relative to each place; an absolute path \
within a place also works.

Examples:
  holdfast at /mnt/disk/backups backup ~/Documents /etc
  holdfast backup -tag home,weekly --exclude '*.o' --exclude-caches ~
  pg_dump shop | holdfast backup --stdin-name shop.sql -"
)]
pub(crate) struct Backup {
    /// What to back up
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<OsString>,
    /// Tag the snapshot; may be repeated, or a list with commas
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Describe the snapshot
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Keep the snapshot for ever: no rule forgets it (see `keep`)
    #[arg(long)]
    pin: bool,
    /// Leave out what matches this .gitignore rule; may be repeated
    #[arg(long, value_name = "RULE")]
    exclude: Vec<String>,
    /// Leave out what matches the rules in this file; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Leave out files of more than this: 10M, 1.5G
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<String>,
    /// Leave out what lies in directories marked with CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Do not go into other file systems
    #[arg(long)]
    one_file_system: bool,
    /// Find out what would be stored, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Compare with this snapshot instead of the newest of the same places
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<OsString>,
    /// Read every file again
    #[arg(long)]
    force: bool,
    /// Make no snapshot if nothing has changed
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Name of this machine in the snapshot
    #[arg(long)]
    host: Option<String>,
    /// What standard input is called in the snapshot
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_name: String,
    /// none, fast, default, better, max, or a zstd level
    #[arg(long, value_name = "LEVEL")]
    compression: Option<String>,
    /// Threads that compress and encrypt
    #[arg(long, value_name = "NUMBER")]
    threads: Option<usize>,
    /// Files that are read at once [as many as suit the place]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=256))]
    read_concurrency: Option<u64>,
}

#[derive(Serialize)]
struct Summary {
    snapshot: Option<String>,
    parent: Option<String>,
    dry_run: bool,
    partial: bool,
    files_new: u64,
    files_changed: u64,
    files_unchanged: u64,
    files: u64,
    directories: u64,
    bytes: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    excluded: u64,
    errors: u64,
    unread: Vec<Unread>,
    seconds: f64,
}

#[derive(Serialize)]
struct Unread {
    #[serde(flatten)]
    path: json::Path,
    reason: String,
}

pub(crate) fn run(context: &Context, options: &Backup) -> Result {
    // All that can be wrong with the words is found before anybody is asked for a passphrase.
    let mut places = Vec::with_capacity(options.places.len());
    for place in &options.places {
        places.push(context.place(place)?);
    }
    let source_options = source_options(context, options)?;
    let mut writer = writer_options(context, options.compression.as_deref(), options.threads)?;
    writer.readers = options.read_concurrency.map_or(0, |n| usize::try_from(n).unwrap_or(0));
    let access = context.access();
    let source_context = SourceContext {
        options: &source_options,
        repository: Some(context.location()?),
        access: &access,
    };
    let plan = roots::plan(&places, &options.stdin_name, &source_context)?;
    for note in &plan.notes {
        context.ui.note(note)?;
    }
    let parent = match &options.parent {
        Some(text) => Some(Spec::parse(text)?),
        None => None,
    };
    let repository = open_or_create(context, options)?;
    let parent = match parent {
        Some(spec) => {
            let filter = Filter { partial: true, ..Filter::default() };
            Parent::Snapshot(context.snapshot(&repository, &spec, &filter)?.id)
        }
        None if options.force => Parent::None,
        None => Parent::Automatic,
    };
    let settings = Settings {
        tags: options.tag.clone(),
        description: options.description.clone().unwrap_or_default(),
        pinned: options.pin,
        host: options.host.clone(),
        parent,
        dry_run: options.dry_run,
        skip_if_unchanged: options.skip_if_unchanged,
        plan: String::new(),
        excludes: source_options.excludes.clone(),
        writer,
    };
    let (mut outcome, mut failed) = (Outcome::Done, None);
    let are_several = plan.origins.len() > 1;
    for origin in plan.origins {
        let name = shown(&origin);
        let progress = Progress::new(&context.ui);
        let result = snapshot(&repository, origin, &settings, &progress, interrupt::watch());
        progress.finish();
        let report = match result {
            Ok(report) => report,
            // The others may be well. What ended the first one that failed ends the command.
            Err(error) if are_several && !interrupt::watch().is_raised() => {
                context.ui.problem(&name, &chain_text(&error))?;
                failed.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        tell(context, options, &report)?;
        if report.partial || interrupt::watch().is_raised() {
            return Ok(Outcome::Interrupted);
        }
        if report.errors > 0 {
            outcome = Outcome::Incomplete;
        }
    }
    failed.map_or(Ok(outcome), |error| Err(error.into()))
}

/// What an origin is called where several are backed up.
fn shown(origin: &Origin) -> String {
    let paths: Vec<_> = origin.roots.iter().map(|root| printable(&root.path)).collect();
    let paths = paths.join(", ");
    origin.host.as_ref().map_or(paths.clone(), |host| format!("{host}:{paths}"))
}

fn source_options(context: &Context, options: &Backup) -> Result<LocalSourceOptions> {
    let mut excludes = Vec::new();
    for path in &options.exclude_file {
        let text = std::fs::read_to_string(path).map_err(|e| catalogue::io("read", path, &e))?;
        excludes.extend(text.lines().map(String::from));
    }
    excludes.retain(|rule| !rule.trim().is_empty() && !rule.starts_with('#'));
    excludes.extend(options.exclude.iter().cloned());
    let exclude_larger_than = options.exclude_larger_than.as_deref().map(|text| {
        parse_size(text).ok_or_else(|| {
            Problem::usage(format!("{text} is no size")).hint("write 500K, 10M or 1.5G")
        })
    });
    let mut never: Vec<PathBuf> = context.cache().into_iter().collect();
    if let Ok(path) = context.location()?.local("repository") {
        never.push(path.to_path_buf());
    }
    Ok(LocalSourceOptions {
        excludes,
        exclude_larger_than: exclude_larger_than.transpose()?,
        exclude_caches: options.exclude_caches,
        one_file_system: options.one_file_system,
        never,
        threads: 0,
    })
}

/// How to write, with what the options of that name say, and within the memory that may be taken.
pub(crate) fn writer_options(
    context: &Context,
    compression: Option<&str>,
    threads: Option<usize>,
) -> Result<WriterOptions> {
    let mut writer = WriterOptions::default();
    if let Some(text) = compression {
        writer.level = Level::parse(text).ok_or_else(|| {
            Problem::usage(format!("{text} is no compression level"))
                .hint("write none, fast, default, better, max, or a number from -7 to 22")
        })?;
    }
    match threads {
        Some(0) => return Err(Problem::usage("--threads 0 would never end").into()),
        Some(threads) => writer.threads = threads.min(256),
        None => {}
    }
    Ok(match context.memory()? {
        Some(memory) => writer.within(memory),
        None => writer,
    })
}

/// Opens the repository. One that nobody named is made on first use.
fn open_or_create(context: &Context, options: &Backup) -> Result<Repository> {
    let storage = context.storage()?;
    if context.is_default_location()?
        && matches!(open::probe(&*storage), Err(holdfast_engine::Error::NoRepository { .. }))
    {
        let location = storage.location();
        if options.dry_run || !Terminal.is_there() {
            return Err(Problem::new(Class::NoRepository, format!("no repository at {location}"))
                .hint(format!("to make one there: {}", context.line("create")))
                .hint("or name another place: holdfast at LOCATION backup …")
                .into());
        }
        context.ui.say(&format!("There is no repository at {location} yet; making one."))?;
        return super::create::make(context, storage, false);
    }
    context.open()
}

fn tell(context: &Context, options: &Backup, report: &BackupReport) -> Result<()> {
    let stats = &report.stats;
    if context.ui.is_json() {
        let unread = report
            .unread
            .iter()
            .map(|u| Unread { path: json::Path::new(&u.path), reason: u.reason.clone() });
        context.ui.event(
            "summary",
            &Summary {
                snapshot: report.snapshot.map(|id| id.to_string()),
                parent: report.parent.map(|id| id.to_string()),
                dry_run: options.dry_run,
                partial: report.partial,
                files_new: stats.files_new,
                files_changed: stats.files_changed,
                files_unchanged: stats.files_unchanged,
                files: report.sum.files,
                directories: report.sum.directories,
                bytes: report.sum.bytes,
                bytes_read: stats.bytes_read,
                bytes_new: stats.bytes_new,
                bytes_stored: stats.bytes_stored,
                excluded: stats.excluded,
                errors: report.errors,
                unread: unread.collect(),
                seconds: stats.nanos as f64 / 1e9,
            },
        )?;
    }
    let ui = &context.ui;
    let count = holdfast_app::text::count;
    ui.summary(&format!(
        "files   {} new, {} changed, {} unchanged; {} in all",
        count(stats.files_new),
        count(stats.files_changed),
        count(stats.files_unchanged),
        size(report.sum.bytes),
    ))?;
    let would = if options.dry_run { "would be stored" } else { "stored" };
    ui.summary(&format!(
        "bytes   {} read, {} new, {} {would}; {}",
        size(stats.bytes_read),
        size(stats.bytes_new),
        size(stats.bytes_stored),
        holdfast_app::text::duration(std::time::Duration::from_nanos(stats.nanos)),
    ))?;
    if stats.excluded > 0 {
        ui.summary(&format!("left out by rules: {}", count(stats.excluded)))?;
    }
    match report.snapshot {
        Some(id) if report.partial => {
            ui.warn(&format!(
                "interrupted; what was done is kept in the partial snapshot {}",
                id.short()
            ))?;
            ui.warn("run the same backup again: it goes on from there")?;
        }
        Some(id) => ui.summary(&format!("snapshot {}", id.short()))?,
        None if report.partial => {
            ui.warn("interrupted before anything was stored; run it again")?;
        }
        None if options.dry_run => ui.summary("dry run: nothing was stored")?,
        None => ui.summary("nothing has changed: no snapshot was made")?,
    }
    if report.errors > 0 {
        let what = plural(report.errors, "entry", "entries");
        ui.warn(&format!("{what} could not be read; the snapshot holds all the rest"))?;
    }
    Ok(())
}
