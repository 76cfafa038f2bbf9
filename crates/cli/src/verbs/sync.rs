//! `sync`: copies the snapshots that another repository lacks, to it or from it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use clap::{Args, ValueEnum};
use holdfast_app::jobs::backup::PARTIAL_EVERY;
use holdfast_app::select::Spec;
use holdfast_app::text::{count, plural, printable, size};
use holdfast_app::times::{local, now};
use holdfast_app::{Class, Problem};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::ops::backup::BackupReport;
use holdfast_engine::ops::sync::{Sync as Syncing, SyncOptions, SyncReport};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Serialize;

use super::backup::writer_options;
use crate::args::{OtherSecret, Selection};
use crate::context::{Context, host, line_at};
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;

/// Copy snapshots to or from another repository
///
/// Copies what the one repository holds and the other lacks; their storages, passphrases and keys
/// may differ. Snapshots that are there already are left alone, and so are those that only the
/// target holds. Data goes through this machine, is verified on its way, and what the target holds
/// already is not sent. A sync that was interrupted goes on where it ended when it is run again.
#[derive(Debug, Args)]
#[command(after_help = "\
The other repository opens with what the configuration says of it, else with what opens this one, \
else its passphrase is asked for.

Examples:
  holdfast at /mnt/disk/backups sync to @nas
  holdfast at @mys3 sync to @nas --tag home
  holdfast at /mnt/disk/backups sync from sftp://anna@nas/backups latest
  holdfast sync to /mnt/usb/backups --other-passphrase-file ~/usb.pass --dry-run")]
pub(crate) struct Sync {
    /// Whether the other repository is the target or the source
    #[arg(value_enum, value_name = "to|from", hide_possible_values = true)]
    direction: Direction,
    /// The other repository
    #[arg(value_name = "LOCATION")]
    other: OsString,
    /// Ids, starts of ids, latest, tag:TAG, …; all complete ones if none is named
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    secret: OtherSecret,
    /// Say which snapshots would be copied, and copy none
    #[arg(long)]
    dry_run: bool,
    /// none, fast, default, better, max, or a zstd level
    #[arg(long, value_name = "LEVEL")]
    compression: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Which way snapshots go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    /// To the other repository
    To,
    /// From the other repository
    From,
}

#[derive(Serialize)]
struct Copied {
    snapshot: String,
    copy: Option<String>,
    dry_run: bool,
    partial: bool,
    files: u64,
    bytes: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Summary {
    from: String,
    to: String,
    dry_run: bool,
    interrupted: bool,
    chosen: u64,
    present: u64,
    copied: u64,
    failed: Vec<Failed>,
    bytes_read: u64,
    bytes_new: u64,
    bytes_stored: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Failed {
    snapshot: String,
    reason: String,
}

pub(crate) fn run(context: &Context, options: &Sync) -> Result {
    let started = Instant::now();
    let specs = specs(options)?;
    let filter = options.selection.filter()?;
    let sync_options = SyncOptions {
        host: host(),
        process: std::process::id(),
        time: now(),
        partial_every: Some(PARTIAL_EVERY),
        renew_every: Some(PARTIAL_EVERY),
        writer: writer_options(context, options.compression.as_deref(), None)?,
    };
    let place = context.other(&options.other)?;
    let own = context.open()?;
    let other =
        context.open_other(&place, &options.secret).map_err(|e| of_other(e, &options.other))?;
    let (from, to, of_source) = match options.direction {
        Direction::To => (&own, &other, context.at()),
        Direction::From => (&other, &own, Some(options.other.as_os_str())),
    };
    let mut sync = Syncing::between(from, to)?;
    for (location, problem) in sync.problems() {
        context.ui.warn(&format!("{location}: {problem}; going on without it"))?;
    }
    let is_hurt = !sync.problems().is_empty();
    let candidates = sync.candidates();
    let mut chosen = BTreeSet::new();
    for spec in &specs {
        let found = spec.find(candidates.to_vec(), &filter);
        let found = found.map_err(|error| {
            let problem = Failure::from(error).explain(of_source);
            problem.hint("snapshots of interrupted runs are not copied")
        })?;
        chosen.insert(found.id);
    }
    if specs.is_empty() {
        let admitted = candidates.iter().filter(|s| filter.admits(&s.record));
        chosen.extend(admitted.map(|s| s.id));
    }
    let missing = sync.missing(&chosen);
    if options.dry_run {
        for snapshot in &missing {
            tell_one(context, snapshot, None)?;
        }
        let report = SyncReport::default();
        tell(context, options, (from, to), (&chosen, &missing), &report, started)?;
        return Ok(if is_hurt { Outcome::Damage } else { Outcome::Done });
    }
    let report = if missing.is_empty() {
        SyncReport::default()
    } else {
        context.ui.note(
            "the repositories have different keys: what is copied is cut and identified anew",
        )?;
        let index = context.index(from)?;
        let progress = Progress::new(&context.ui);
        let mut told = Ok(());
        let report = sync.run(
            &index,
            &missing,
            &sync_options,
            &progress,
            interrupt::watch(),
            &mut |snapshot, report| {
                let telling = progress.suspend(|| tell_one(context, snapshot, Some(report)));
                told = std::mem::replace(&mut told, Ok(())).and(telling);
            },
        );
        progress.finish();
        told?;
        report?
    };
    tell(context, options, (from, to), (&chosen, &missing), &report, started)?;
    if report.interrupted {
        return Ok(Outcome::Interrupted);
    }
    Ok(if report.failed.is_empty() && !is_hurt { Outcome::Done } else { Outcome::Damage })
}

fn specs(options: &Sync) -> Result<Vec<Spec>> {
    if options.selection.partial {
        return Err(Problem::usage("snapshots of interrupted runs are not copied")
            .hint("run the backup again: the snapshot that completes it can be")
            .into());
    }
    let mut specs = Vec::with_capacity(options.snapshots.len());
    for text in &options.snapshots {
        let spec = Spec::parse(text)?;
        if spec.path.is_some() {
            return Err(Problem::usage("sync copies whole snapshots, not paths in them")
                .hint(format!("leave out what follows {}", printable(spec.text.as_bytes())))
                .into());
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// Explains why the other repository, at `place`, could not be opened.
pub(crate) fn of_other(failure: Failure, place: &OsStr) -> Failure {
    if matches!(failure, Failure::Output(_)) {
        return failure;
    }
    let mut problem = failure.explain(Some(place));
    match problem.class {
        Class::PassphraseNeeded | Class::WrongPassphrase => {
            problem.hints.retain(|hint| !hint.contains("--key-file"));
            problem = problem.hint(
                "say --other-passphrase-file FILE or --other-key-file FILE for this repository",
            );
        }
        Class::NotEncrypted => {
            problem.hints.retain(|hint| !hint.contains("--no-encryption"));
            problem =
                problem.hint("if it was created with --no-encryption, say --other-no-encryption");
        }
        _ => {}
    }
    problem.into()
}

fn tell_one(
    context: &Context,
    snapshot: &SnapshotInfo,
    report: Option<&BackupReport>,
) -> Result<()> {
    let ui = &context.ui;
    let stats = report.map(|report| report.stats).unwrap_or_default();
    let copy = report.and_then(|report| report.snapshot);
    let sum = report.map_or_else(|| snapshot.record.sum(), |report| report.sum);
    let partial = report.is_some_and(|report| report.partial);
    if ui.is_json() {
        ui.event(
            "copy",
            &Copied {
                snapshot: snapshot.id.to_string(),
                copy: copy.map(|id| id.to_string()),
                dry_run: report.is_none(),
                partial,
                files: sum.files,
                bytes: sum.bytes,
                bytes_read: stats.bytes_read,
                bytes_new: stats.bytes_new,
                bytes_stored: stats.bytes_stored,
                seconds: stats.nanos as f64 / 1e9,
            },
        )?;
    }
    let (id, time) = (snapshot.id.short(), local(snapshot.record.time));
    let holds = format!("{} in {} files", size(sum.bytes), count(sum.files));
    let Some(copy) = copy.filter(|_| !partial) else {
        // What became of a partial one is said at the end.
        let line = format!("{id} of {time} would be copied: {holds}");
        return if report.is_none() { Ok(ui.summary(&line)?) } else { Ok(()) };
    };
    let (read, stored) = (size(stats.bytes_read), size(stats.bytes_stored));
    let line =
        format!("{id} of {time} copied as {}: {holds}; {read} read, {stored} stored", copy.short());
    ui.summary(&line)?;
    Ok(ui.flush()?)
}

fn tell(
    context: &Context,
    options: &Sync,
    (from, to): (&Repository, &Repository),
    (chosen, missing): (&BTreeSet<SnapshotId>, &[SnapshotInfo]),
    report: &SyncReport,
    started: Instant,
) -> Result<()> {
    let ui = &context.ui;
    let whole = report.copied.iter().filter(|copy| !copy.report.partial).count() as u64;
    let present = (chosen.len() - missing.len()) as u64;
    let total = |field: fn(&BackupReport) -> u64| -> u64 {
        report.copied.iter().map(|copy| field(&copy.report)).sum()
    };
    if ui.is_json() {
        let failed = report.failed.iter();
        let failed = failed
            .map(|f| Failed { snapshot: f.from.to_string(), reason: f.reason.clone() })
            .collect();
        ui.event(
            "summary",
            &Summary {
                from: from.location(),
                to: to.location(),
                dry_run: options.dry_run,
                interrupted: report.interrupted,
                chosen: chosen.len() as u64,
                present,
                copied: whole,
                failed,
                bytes_read: total(|report| report.stats.bytes_read),
                bytes_new: total(|report| report.stats.bytes_new),
                bytes_stored: total(|report| report.stats.bytes_stored),
                seconds: started.elapsed().as_secs_f64(),
            },
        )?;
    }
    let snapshots = |number| plural(number, "snapshot", "snapshots");
    let there = match present {
        0 => String::new(),
        1 => "; 1 was there already".into(),
        many => format!("; {} were there already", count(many)),
    };
    if chosen.is_empty() {
        ui.summary(&format!("{} holds no snapshot to copy", from.location()))?;
    } else if options.dry_run {
        let number = snapshots(missing.len() as u64);
        ui.summary(&format!("dry run: {number} would be copied{there}"))?;
    } else {
        ui.summary(&format!("{} copied to {}{there}", snapshots(whole), to.location()))?;
    }
    if report.interrupted {
        ui.warn("interrupted; what was done is kept")?;
        ui.warn("run the same sync again: it goes on from there")?;
    }
    if !report.failed.is_empty() {
        let number = snapshots(report.failed.len() as u64);
        ui.warn(&format!("{number} not copied, because of damage in {}", from.location()))?;
        let at: Option<&OsStr> = match options.direction {
            Direction::To => context.at(),
            Direction::From => Some(&options.other),
        };
        ui.warn(&format!("to see how far it goes: {}", line_at(at, "check --read-data")))?;
    }
    Ok(())
}
