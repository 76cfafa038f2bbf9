//! `restore`: from a snapshot to a directory, or back to where things were.

use std::ffi::{OsStr, OsString};

use clap::{Args, ValueEnum};
use holdfast_app::jobs::restore::{check_in_place, unset_names};
use holdfast_app::open::open_destination;
use holdfast_app::select::Spec;
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::{Ask, Class, Problem, patterns, roots};
use holdfast_connectors::local::destination::LocalDestinationOptions;
use holdfast_engine::destination::Destination;
use holdfast_engine::ops::restore::{Overwrite, RestoreOptions, RestoreReport, preview, restore};
use holdfast_engine::repo::{Index, Repository};
use holdfast_engine::storage::ObjectName;
use serde::Serialize;

use crate::args::Selection;
use crate::context::{Context, host};
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;
use crate::ui::prompt::Terminal;
use crate::verbs::warm_up;

/// Restore files from a snapshot
///
/// Without a path all paths are made again below the target; SNAPSHOT:/etc puts what is in /etc
/// right into it. Without --to the target is a new ./holdfast-ID. Every byte is verified. A
/// restore that was interrupted goes on where it ended when it is run again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast restore                  the newest snapshot, to ./holdfast-ID
  holdfast restore -to /tmp/restore abc123:/etc
  holdfast restore latest --in-place --include /home/anna/Documents
  holdfast restore \"2 days ago\" -to /tmp/x --dry-run")]
pub(crate) struct Restore {
    /// A snapshot, and a path in it
    #[arg(value_name = "SNAPSHOT[:/PATH]", default_value = "latest", hide_default_value = true)]
    snapshot: OsString,
    /// Directory to restore to, or another location
    #[arg(long, value_name = "LOCATION", conflicts_with = "in_place")]
    to: Option<OsString>,
    /// Write to the original paths, after a preview
    #[arg(long)]
    in_place: bool,
    /// Do not ask after the preview
    #[arg(long)]
    yes: bool,
    /// When to replace what is there
    #[arg(long, value_name = "RULE", value_enum, default_value_t = When::IfChanged)]
    overwrite: When,
    /// Remove what the snapshot does not hold from directories that are restored
    #[arg(long)]
    delete: bool,
    /// Find out what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Have archived packs that are needed brought back first, to be readable for so many days
    ///
    /// For storage classes such as GLACIER. Only if all of them can be read, anything is restored;
    /// else it says how many are on their way, exits with 14, and the same command is to be run
    /// again later. Packs of files that are there already are not asked for.
    #[arg(
        long,
        value_name = "DAYS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "7",
        value_parser = clap::value_parser!(u32).range(1..=365),
        conflicts_with = "dry_run"
    )]
    warm_up: Option<u32>,
    /// Only what fits this .gitignore rule; may be repeated
    #[arg(long, value_name = "RULE")]
    include: Vec<String>,
    /// Not what fits this .gitignore rule; may be repeated
    #[arg(long, value_name = "RULE")]
    exclude: Vec<String>,
    /// Take owners by number even where their names have other numbers
    #[arg(long)]
    numeric_ids: bool,
    /// Compare the content of files that seem unchanged
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    selection: Selection,
}

/// When to replace what is there.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum When {
    /// Always
    Always,
    /// If kind, size or time differ
    IfChanged,
    /// If the snapshot's is newer
    IfNewer,
    /// Never
    Never,
}

#[derive(Serialize)]
struct Summary {
    snapshot: String,
    target: String,
    dry_run: bool,
    interrupted: bool,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    created: u64,
    replaced: u64,
    unchanged: u64,
    skipped: u64,
    deleted: u64,
    failures: u64,
    unset: Vec<&'static str>,
    free_space: Option<u64>,
}

pub(crate) fn run(context: &Context, options: &Restore) -> Result {
    let filter = options.selection.filter()?;
    let spec = Spec::parse(&options.snapshot)?;
    let local = LocalDestinationOptions { numeric_ids: options.numeric_ids };
    let open = |to: &OsStr| -> Result<_> {
        Ok(open_destination(&context.place(to)?, local, &context.access())?)
    };
    let to = options.to.as_deref().map(open).transpose()?;
    let chosen = patterns::restore_filter(&options.include, &options.exclude)
        .map_err(|e| roots::bad_rule(&e))?;
    let repository = context.open()?;
    let (snapshots, index) = context.snapshots_and_index(&repository)?;
    let snapshot = spec.find(snapshots, &filter)?;
    if options.in_place {
        check_in_place(&snapshot)?;
    }
    let id = snapshot.id.short();
    let destination = match to {
        Some(destination) => destination,
        None if options.in_place => open("/".as_ref())?,
        None => open(format!("./holdfast-{id}").as_ref())?,
    };
    let mut restore_options = RestoreOptions::new(snapshot);
    restore_options.path = spec.path;
    restore_options.in_place = options.in_place;
    restore_options.overwrite = match options.overwrite {
        When::Always => Overwrite::Always,
        When::IfChanged => Overwrite::IfChanged,
        When::IfNewer => Overwrite::IfNewer,
        When::Never => Overwrite::Never,
    };
    restore_options.delete = options.delete;
    restore_options.dry_run = options.dry_run;
    restore_options.verify = options.verify;
    restore_options.filter = chosen;
    if let Some(memory) = context.memory()? {
        // A third of what is read with is kept beside it.
        restore_options.memory = memory / 4 * 3;
    }
    let job = Job { context, repository: &repository, index: &index, options, destination };
    if options.in_place && !options.dry_run && !options.yes {
        job.confirm(&restore_options)?;
    }
    if let Some(days) = options.warm_up {
        job.warm_up(&restore_options, days)?;
    }
    job.run(&restore_options)
}

/// A restore that is all worked out.
struct Job<'a> {
    context: &'a Context,
    repository: &'a Repository,
    index: &'a Index,
    options: &'a Restore,
    destination: Box<dyn Destination>,
}

impl Job<'_> {
    /// Shows what would be done and asks whether to do it.
    fn confirm(&self, restore_options: &RestoreOptions) -> Result<()> {
        let ui = &self.context.ui;
        if !Terminal.is_there() {
            let text =
                "a restore to the original paths must be confirmed, and there is no terminal";
            return Err(Problem::usage(text)
                .hint("look at it with --dry-run, then run it with --yes")
                .into());
        }
        let progress = Progress::new(ui);
        let report = preview(
            self.repository,
            self.index,
            restore_options,
            &*self.destination,
            &progress,
            interrupt::watch(),
        )?;
        progress.finish();
        let record = &restore_options.snapshot.record;
        if record.host != host() {
            let other = printable(record.host.as_bytes());
            ui.say(&format!("This snapshot is of {other}, not of this machine."))?;
        }
        ui.say(&format!(
            "Would write {} ({}), {} of them in place of others, and delete {}.",
            plural(report.files + report.others, "file", "files"),
            size(report.bytes),
            count(report.replaced),
            count(report.deleted),
        ))?;
        match interrupt::while_asking(|| Terminal.confirm("Write to the original paths?"))? {
            Some(true) => Ok(()),
            _ => Err(Problem::new(Class::Interrupted, "nothing was written").into()),
        }
    }

    /// Has what is needed brought back from archives. Fails if it is not there yet.
    fn warm_up(&self, restore_options: &RestoreOptions, days: u32) -> Result<()> {
        let listing = RestoreOptions { list_packs: true, ..restore_options.clone() };
        // What is wrong with single files, the restore tells.
        let progress = Progress::without_problems(&self.context.ui);
        let report = preview(
            self.repository,
            self.index,
            &listing,
            &*self.destination,
            &progress,
            interrupt::watch(),
        );
        progress.finish();
        let names: Vec<_> = report?.packs.into_iter().map(ObjectName::pack).collect();
        warm_up::bring_back(self.repository, &names, days)
    }

    fn run(&self, restore_options: &RestoreOptions) -> Result {
        let progress = Progress::new(&self.context.ui);
        let interrupt = interrupt::watch();
        let result = restore(
            self.repository,
            self.index,
            restore_options,
            &*self.destination,
            &progress,
            interrupt,
        );
        progress.finish();
        let report = result?;
        self.tell(restore_options, &report)?;
        Ok(match () {
            () if interrupt.is_raised() => Outcome::Interrupted,
            () if report.failures > 0 => Outcome::Incomplete,
            () => Outcome::Done,
        })
    }

    fn tell(&self, restore_options: &RestoreOptions, report: &RestoreReport) -> Result<()> {
        let ui = &self.context.ui;
        let interrupted = interrupt::watch().is_raised();
        let target = printable(self.destination.location().as_bytes());
        let unset = unset_names(report.unset);
        if ui.is_json() {
            return Ok(ui.event(
                "summary",
                &Summary {
                    snapshot: restore_options.snapshot.id.to_string(),
                    target,
                    dry_run: self.options.dry_run,
                    interrupted,
                    files: report.files,
                    directories: report.directories,
                    others: report.others,
                    bytes: report.bytes,
                    created: report.created,
                    replaced: report.replaced,
                    unchanged: report.unchanged,
                    skipped: report.skipped,
                    deleted: report.deleted,
                    failures: report.failures,
                    unset,
                    free_space: report.free_space,
                },
            )?);
        }
        let verb = if self.options.dry_run { "would restore" } else { "restored" };
        ui.summary(&format!(
            "{verb} {}, {}, {} to {}",
            plural(report.files, "file", "files"),
            plural(report.directories, "directory", "directories"),
            size(report.bytes),
            shell_word(target),
        ))?;
        let parts = [
            (report.others, "link or special file", "links and special files"),
            (report.replaced, "replaced", "replaced"),
            (report.unchanged, "unchanged", "unchanged"),
            (report.skipped, "left as it was", "left as they were"),
            (report.deleted, "deleted", "deleted"),
        ];
        for (number, one, many) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            ui.summary(&format!("  {}", plural(number, one, many)))?;
        }
        let met = report.files + report.others + report.unchanged + report.skipped;
        if !self.options.include.is_empty() && met + report.failures == 0 {
            ui.note("no file fits what --include says")?;
        }
        if !unset.is_empty() {
            let hint = if report.unset.owner { " (owners need root)" } else { "" };
            ui.note(&format!("could not be set: {}{hint}", unset.join(", ")))?;
        }
        if report.failures > 0 {
            let what = plural(report.failures, "entry", "entries");
            let nothing = report.files + report.others + report.unchanged == 0;
            let rest = if nothing { "" } else { "; all the rest is there" };
            ui.warn(&format!("{what} could not be restored{rest}"))?;
            if report.lacking {
                let check = self.context.line("check --read-data");
                ui.note(&format!("  hint: to see how far it goes: {check}"))?;
                ui.note("  hint: what can be done: docs/recovery.md")?;
            }
        }
        if interrupted {
            ui.warn("interrupted; run the same command again: it goes on where this one ended")?;
        }
        Ok(())
    }
}
