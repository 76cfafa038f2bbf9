//! `gc`: gives back the space of what no snapshot needs.

use std::time::{Duration, Instant};

use clap::Args;
use holdfast_app::json::{Count, Planned, Session};
use holdfast_app::text::{count, duration, parse_size, plural, size};
use holdfast_app::times::local;
use holdfast_app::{Problem, config, times};
use holdfast_engine::ops::gc::{Amount, GcOptions, GcPlan, GcReport, PutOff, gc};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::session::Writer;
use holdfast_engine::repo::sessions::OpenSession;
use serde::Serialize;

use super::backup::writer_options;
use crate::context::{Context, host};
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;
use crate::ui::table::{Align, Table};

const MAX_UNUSED: &str = "10%";
const SILENT_AFTER: &str = "24h";

/// Give back the space of what no snapshot needs
///
/// Says what it will free and copy, then does it. It may run at any time, also beside backups:
/// what a running one may need is not deleted before that has ended, by this run if --wait allows
/// or by a later one. Nothing is deleted if anything that a snapshot needs is missing.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast gc
  holdfast gc --dry-run
  holdfast gc --max-unused 5% --max-repack 20G
  holdfast gc --wait 2h")]
pub(crate) struct Gc {
    /// Say what would be freed and copied, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Unneeded data that may stay among what is needed, as a part of all
    #[arg(long, value_name = "PERCENT", default_value = MAX_UNUSED)]
    max_unused: String,
    /// Copy no more than this: 500M, 20G
    #[arg(long, value_name = "SIZE")]
    max_repack: Option<String>,
    /// Begin no further copying after this time: 30m, 2h
    #[arg(long, value_name = "TIME")]
    max_time: Option<String>,
    /// Wait so long for running backups to end, rather than leave the rest to a later gc
    #[arg(long, value_name = "TIME")]
    wait: Option<String>,
    /// Take a session for dead that has given no sign of life for so long
    #[arg(long, value_name = "TIME", default_value = SILENT_AFTER)]
    silent_after: String,
    /// Time for other computers to see changes, on network file systems [default: as the file
    /// system needs]
    #[arg(long, value_name = "TIME")]
    settle: Option<String>,
    /// Threads
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

fn sessions(sessions: &[OpenSession]) -> Vec<Session<'_>> {
    sessions.iter().map(Session::from).collect()
}

#[derive(Serialize)]
struct Summary<'a> {
    dry_run: bool,
    condemned: Count,
    copied: Count,
    deleted: Count,
    segments_written: u64,
    segments_merged: u64,
    segments_deleted: u64,
    reaped: u64,
    locked_again: Option<u64>,
    waiting: Vec<Session<'a>>,
    refused: &'a [String],
    refused_total: u64,
    put_off: Option<&'static str>,
    seconds: f64,
}

impl Default for Gc {
    fn default() -> Self {
        Self {
            dry_run: false,
            max_unused: MAX_UNUSED.into(),
            max_repack: None,
            max_time: None,
            wait: None,
            silent_after: SILENT_AFTER.into(),
            settle: None,
            threads: 0,
        }
    }
}

pub(crate) fn run(context: &Context, options: &Gc) -> Result {
    collect(context, &context.open()?, options)
}

/// Collects in a repository that is open already.
pub(crate) fn collect(context: &Context, repository: &Repository, options: &Gc) -> Result {
    let begun = Instant::now();
    let gc_options = gc_options(context, options)?;
    let progress = Progress::new(&context.ui);
    let mut told = Ok(());
    let result = gc(repository, &gc_options, &progress, interrupt::watch(), &mut |plan| {
        told = progress.suspend(|| tell_plan(context, plan));
    });
    progress.finish();
    let report = result?;
    told?;
    tell(context, &report, options, begun.elapsed())?;
    Ok(Outcome::Done)
}

fn gc_options(context: &Context, options: &Gc) -> Result<GcOptions> {
    let time = |text: &str| {
        config::duration(text).ok_or_else(|| {
            Problem::usage(format!("{text} is no length of time")).hint("write 90s, 30m, 2h or 7d")
        })
    };
    let optional = |text: &Option<String>| text.as_deref().map(time).transpose();
    let max_unused = parse_percent(&options.max_unused).ok_or_else(|| {
        Problem::usage(format!("{} is no part of the whole", options.max_unused))
            .hint("write 10% or 0%")
    })?;
    let max_repack = options.max_repack.as_deref().map(|text| {
        parse_size(text).ok_or_else(|| {
            Problem::usage(format!("{text} is no size")).hint("write 500M, 20G or 1.5T")
        })
    });
    let mut writer = writer_options(context, None, None)?;
    if let Some(memory) = context.memory()? {
        // The other half is for reading.
        writer = writer.within(memory / 2);
    }
    Ok(GcOptions {
        who: Writer {
            host: host(),
            process: std::process::id(),
            verb: "gc".into(),
            time: times::now(),
        },
        max_unused,
        max_repack: max_repack.transpose()?,
        max_time: optional(&options.max_time)?,
        silent_after: time(&options.silent_after)?,
        wait: optional(&options.wait)?.unwrap_or_default(),
        settle: optional(&options.settle)?,
        dry_run: options.dry_run,
        threads: context.reading_threads(options.threads)?,
        writer,
        ..GcOptions::default()
    })
}

/// `10%` or `0.1`, from nothing to all.
fn parse_percent(text: &str) -> Option<f64> {
    let part = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.trim().parse().ok()?,
    };
    (0.0..=1.0).contains(&part).then_some(part)
}

fn tell_plan(context: &Context, plan: &GcPlan) -> Result<()> {
    let ui = &context.ui;
    if ui.is_json() {
        return Ok(ui.event("plan", &Planned::from(plan))?);
    }
    let mut table =
        Table::new(&[("PLAN", Align::Left), ("PACKS", Align::Right), ("SIZE", Align::Right)]);
    let mut row = |what: &str, amount: Amount| {
        if amount.count > 0 {
            table.add(vec![what.into(), count(amount.count), size(amount.bytes)]);
        }
    };
    row("in the repository", plan.packs);
    row("not needed at all", plan.dead);
    row("of interrupted runs", plan.orphans);
    row("condemned by an earlier gc", plan.condemned);
    row("mostly not needed, to be copied from", plan.sparse);
    row("of running backups, left alone", plan.young);
    let mut text = Vec::new();
    table.write(&mut text)?;
    for line in String::from_utf8_lossy(&text).lines() {
        ui.summary(line)?;
    }
    ui.summary(&format!(
        "{} needed; to copy {}, to free about {}; unneeded afterwards {}",
        size(plan.needed),
        size(plan.moved),
        size(plan.frees()),
        size(plan.left),
    ))?;
    for session in &plan.shut_out {
        ui.note(&format!("taken for dead: {}", describe(session)))?;
    }
    for id in &plan.fenced {
        ui.note(&format!(
            "snapshot {} was shut out before it was committed, and is kept until it is forgotten",
            id.short()
        ))?;
    }
    Ok(())
}

fn describe(session: &OpenSession) -> String {
    format!(
        "{} on {} (process {}), begun {}, last sign of life {} ago",
        if session.verb.is_empty() { "a session" } else { &session.verb },
        if session.host.is_empty() { "an unknown host" } else { &session.host },
        session.process,
        local(session.started),
        duration(session.silent),
    )
}

fn tell(context: &Context, report: &GcReport, options: &Gc, time: Duration) -> Result<()> {
    let ui = &context.ui;
    if ui.is_json() {
        let summary = Summary {
            dry_run: options.dry_run,
            condemned: report.condemned.into(),
            copied: report.copied.into(),
            deleted: report.deleted.into(),
            segments_written: report.merged.0,
            segments_merged: report.merged.1,
            segments_deleted: report.segments_deleted,
            reaped: report.reaped,
            locked_again: report.locked_again,
            waiting: sessions(&report.waiting),
            refused: &report.refused,
            refused_total: report.refused_total,
            put_off: report.put_off.map(|why| match why {
                PutOff::Time => "time",
                PutOff::Space => "space",
            }),
            seconds: time.as_secs_f64(),
        };
        return Ok(ui.event("summary", &summary)?);
    }
    if options.dry_run {
        return Ok(ui.summary("nothing was changed (--dry-run)")?);
    }
    if report.copied.count > 0 {
        ui.summary(&format!("copied {} that is needed", size(report.copied.bytes)))?;
    }
    match report.put_off {
        Some(PutOff::Time) => ui.note("the time was up before all was copied: run gc again")?,
        Some(PutOff::Space) => {
            ui.note("there was no space to copy into: run gc again, now that some is free")?;
        }
        None => {}
    }
    for session in &report.waiting {
        ui.line(&format!("waiting for: {}", describe(session)))?;
    }
    if !report.waiting.is_empty() {
        let packs = plural(report.condemned.count + report.plan.condemned.count, "pack", "packs");
        ui.line(&format!("{packs} will be deleted by the next gc after that has ended"))?;
        ui.line("  hint: run gc again then, or say --wait 2h")?;
    }
    if report.refused_total > 0 {
        let objects = plural(report.refused_total, "object", "objects");
        ui.line(&format!("the storage refused to delete {objects}; a later gc tries again"))?;
        for name in &report.refused {
            ui.summary(&format!("  {name}"))?;
        }
        ui.line("  hint: they may be locked for a time, or this credential may not delete")?;
    }
    if let Some(again) = report.locked_again.filter(|again| *again > 0) {
        let objects = plural(again, "object", "objects");
        ui.summary(&format!("{objects} locked again for as long as when they were stored"))?;
    }
    let packs = plural(report.deleted.count, "pack", "packs");
    let freed = size(report.deleted.bytes.saturating_sub(report.copied.bytes));
    ui.summary(&format!("deleted {packs}, freed {freed} in {}", duration(time)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("10%"), Some(0.1));
        assert_eq!(parse_percent("0%"), Some(0.0));
        assert_eq!(parse_percent("0.05"), Some(0.05));
        for bad in ["101%", "-1%", "x", "", "%"] {
            assert_eq!(parse_percent(bad), None, "{bad}");
        }
    }
}
