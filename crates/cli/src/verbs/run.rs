//! `run`: a plan now, in the same way and with the same history as the service runs it.

use std::time::Duration;

use clap::Args;
use holdfast_app::jobs::Job;
use holdfast_app::problem::{Class, Problem};
use holdfast_app::runner::broadcast::error::TryRecvError;
use holdfast_app::runner::{Options, Runner, What};
use holdfast_app::runs::{By, Level, Outcome as Ended, ProblemRecord, Run as Record, RunId};
use holdfast_app::text::{count, duration, plural, size};

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::progress::Progress;

/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// Run a plan now
///
/// Works without the service, for instance from cron; both keep one history, and never run the same
/// plan at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast run home
  30 2 * * *  holdfast run home --quiet     (a line of crontab)")]
pub(crate) struct Run {
    /// The plan
    plan: String,
}

pub(crate) fn run(context: &Context, options: &Run) -> Result {
    follow(context, Job::Plan(options.plan.clone()))
}

/// Runs a job to its end, shows how far it is, and tells what came of it.
pub(crate) fn follow(context: &Context, job: Job) -> Result {
    context.expect_named_config()?;
    context.refuse_what_plans_say("a run of a plan")?;
    let runner = Runner::new(context.paths()?, Options::default())?;
    let mut events = runner.subscribe();
    let interrupt = interrupt::watch();
    let run = runner.start(job, By::Command)?;
    let progress = Progress::new(&context.ui);
    let mut asked = 0;
    // The last error: if it is what ended the run, it is told at the end, with what helps.
    let mut held: Option<String> = None;
    loop {
        let wanted = u8::from(interrupt.is_raised()) + u8::from(interrupt.is_immediate());
        for _ in asked..wanted {
            // It may just have ended.
            let _ = runner.cancel(run);
        }
        asked = asked.max(wanted);
        match events.try_recv().map(|event| event.what) {
            Ok(What::Progress(now)) => progress.show(&now),
            Ok(What::Log(line)) => progress.suspend(|| {
                if let Some(text) = held.take() {
                    context.ui.warn(&text)?;
                }
                match line.level {
                    Level::Info => context.ui.note(&line.text)?,
                    Level::Warning => context.ui.warn(&line.text)?,
                    Level::Error => held = Some(line.text),
                }
                Ok::<_, std::io::Error>(())
            })?,
            Ok(What::Ended(_)) | Err(TryRecvError::Closed) => break,
            Ok(What::Queued | What::Started) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty) => std::thread::sleep(LOOK),
        }
    }
    progress.finish();
    runner.wait(run);
    tell(context, &runner, run, held)
}

fn tell(context: &Context, runner: &Runner, run: RunId, last: Option<String>) -> Result {
    let record = runner.history().run(run)?;
    let problem = record.report.problem.as_ref();
    if let Some(text) = last
        && problem.is_none_or(|problem| !text.starts_with(&problem.message))
    {
        context.ui.warn(&text)?;
    }
    if context.ui.is_json() {
        context.ui.event("run", &record.to_json())?;
    }
    for line in lines(&record) {
        context.ui.summary(&line)?;
    }
    Ok(match record.outcome {
        Ended::Ok => Outcome::Done,
        Ended::Warnings => Outcome::Incomplete,
        Ended::Cancelled => Outcome::Interrupted,
        _ => return Err(problem_of(&record).into()),
    })
}

/// What a run did, in words.
pub(crate) fn lines(run: &Record) -> Vec<String> {
    let report = &run.report;
    let mut lines = Vec::new();
    if report.numbers.contains_key("files_new") {
        lines.push(format!(
            "files   {} new, {} changed, {} unchanged; {} in all",
            count(report.number("files_new")),
            count(report.number("files_changed")),
            count(report.number("files_unchanged")),
            size(report.number("bytes")),
        ));
        lines.push(format!(
            "bytes   {} read, {} new, {} stored",
            size(report.number("bytes_read")),
            size(report.number("bytes_new")),
            size(report.number("bytes_stored")),
        ));
    }
    for (name, one, many) in [
        ("snapshots_forgotten", "snapshot forgotten", "snapshots forgotten"),
        ("snapshots_copied", "snapshot copied", "snapshots copied"),
        ("drill_files", "file restored", "files restored"),
        ("drill_differing", "of them not as it should be", "of them not as they should be"),
    ] {
        if let Some(number) = report.numbers.get(name).filter(|number| **number > 0) {
            lines.push(plural(*number, one, many));
        }
    }
    for id in &report.snapshots {
        lines.push(format!("snapshot {}", id.get(..8).unwrap_or(id)));
    }
    let took = run.took().map(|took| format!(" in {}", duration(took))).unwrap_or_default();
    lines.push(format!("run {}: {}{took}", run.id, run.outcome.name()));
    lines
}

/// What ended a run, as it was told when it did.
fn problem_of(run: &Record) -> Problem {
    let fallback =
        || Problem::new(Class::Internal, format!("run {} {}", run.id, run.outcome.name()));
    run.report.problem.as_ref().map_or_else(fallback, ProblemRecord::to_problem)
}
