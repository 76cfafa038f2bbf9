//! `runs`: the history of what ran by itself, from the console, or by `run`.

use std::time::Duration;

use clap::{Args, Subcommand};
use holdfast_app::runner::{Options, Runner};
use holdfast_app::runs::{History, Outcome as Ended, Page, Run, RunId};
use holdfast_app::text::{count, duration, printable, size};
use holdfast_app::times::{local, rfc3339};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// Show the history of runs
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  holdfast runs --plan home
  holdfast runs --outcome failed
  holdfast runs show 214
  holdfast runs cancel 214"
)]
pub(crate) struct Runs {
    #[command(subcommand)]
    what: Option<What>,
    /// Only runs of this plan
    #[arg(long, value_name = "PLAN")]
    plan: Option<String>,
    /// Only runs that ended so: ok, warnings, failed, cancelled, interrupted, missed; or running
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// The newest N of them; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20)]
    number: u32,
}

/// What to do with a run.
#[derive(Debug, Subcommand)]
enum What {
    /// Show a run: what it did, what went wrong, and its log
    Show {
        /// Its number
        run: RunId,
    },
    /// End a run, whoever began it: in good order; a second time, at once
    Cancel {
        /// Its number
        run: RunId,
    },
}

#[derive(Serialize)]
struct Line {
    run: RunId,
    time: String,
    level: &'static str,
    message: String,
}

#[derive(Serialize)]
struct Done {
    run: RunId,
    done: &'static str,
}

pub(crate) fn run(context: &Context, options: &Runs) -> Result {
    let paths = context.paths()?;
    match &options.what {
        Some(What::Cancel { run }) => {
            Runner::new(paths, Options::default())?.cancel(*run)?;
            context.ui.summary(&format!("run {run} is asked to end"))?;
            if context.ui.is_json() {
                context.ui.event("summary", &Done { run: *run, done: "asked to end" })?;
            }
            Ok(Outcome::Done)
        }
        Some(What::Show { run }) => show(context, &reconciled(&paths.state)?, *run),
        None => list(context, options, &reconciled(&paths.state)?),
    }
}

/// The history, in which nothing is at work that is not.
fn reconciled(state: &std::path::Path) -> Result<History> {
    let history = History::open(state)?;
    history.reconcile()?;
    Ok(history)
}

fn list(context: &Context, options: &Runs, history: &History) -> Result {
    let outcome = options.outcome.as_deref().map(Ended::parse);
    let page = Page {
        plan: options.plan.clone(),
        outcome: outcome.transpose()?,
        limit: (options.number > 0).then_some(options.number),
        ..Page::default()
    };
    let runs = history.runs(&page)?;
    if context.ui.is_json() {
        runs.iter().try_for_each(|run| context.ui.row("run", &run.to_json()))?;
        return Ok(Outcome::Done);
    }
    match runs.is_empty() {
        true => context.ui.note("no runs")?,
        false => table(&runs).write(&mut *context.ui.out())?,
    }
    Ok(Outcome::Done)
}

/// Runs as rows, the newest first.
pub(crate) fn table(runs: &[Run]) -> Table {
    let mut table = Table::new(&[
        ("RUN", Align::Right),
        ("PLAN", Align::Left),
        ("WHAT", Align::Left),
        ("BEGAN", Align::Left),
        ("TOOK", Align::Right),
        ("OUTCOME", Align::Left),
        ("STORED", Align::Right),
        ("NOTE", Align::Left),
    ]);
    for run in runs {
        let report = &run.report;
        let stored = report.numbers.get("bytes_stored").map(|bytes| size(*bytes));
        let missed = report.number("missed");
        let note = match (&report.problem, report.number("errors")) {
            _ if missed > 1 => {
                format!("{} times, the last at {}", count(missed), local(run.ended.unwrap_or(0)))
            }
            (Some(problem), _) => problem.message.clone(),
            (None, 0) => String::new(),
            (None, errors) => format!("{} unread", count(errors)),
        };
        table.add(vec![
            run.id.to_string(),
            printable(run.plan.as_deref().unwrap_or_default().as_bytes()),
            run.verb.clone(),
            local(run.started),
            run.took().map(duration).unwrap_or_default(),
            run.outcome.name().into(),
            stored.unwrap_or_default(),
            printable(note.as_bytes()),
        ]);
    }
    table
}

fn show(context: &Context, history: &History, id: RunId) -> Result {
    let run = history.run(id)?;
    let log = history.log_lines(id, 0, None)?;
    if context.ui.is_json() {
        context.ui.row("run", &run.to_json())?;
        for (_, line) in log {
            let (time, level) = (rfc3339(line.time), line.level.name());
            context.ui.row("log", &Line { run: id, time, level, message: line.text })?;
        }
        return Ok(Outcome::Done);
    }
    let ui = &context.ui;
    let plan = run.plan.as_ref().map(|plan| format!(" of plan {plan}")).unwrap_or_default();
    ui.line(&format!("run {id}: {}{plan} to {}, by {}", run.verb, run.place, run.by.name()))?;
    ui.line(&format!("began   {}", local(run.started)))?;
    if let Some(ended) = run.ended {
        ui.line(&format!("ended   {}", local(ended)))?;
    }
    super::run::lines(&run).into_iter().try_for_each(|line| ui.line(&line))?;
    for phase in &run.report.phases {
        let took = duration(Duration::from_millis(phase.millis));
        ui.line(&format!("  {:<24} {took}", phase.name))?;
    }
    for class in &run.report.errors {
        ui.line(&format!("{}: {}", class.class, count(class.count)))?;
        for sample in &class.samples {
            ui.line(&format!("  {}: {}", printable(sample.what.as_bytes()), sample.message))?;
        }
    }
    if let Some(problem) = &run.report.problem {
        ui.line(&format!("why     {}", problem.message))?;
        problem.causes.iter().try_for_each(|cause| ui.line(&format!("  because: {cause}")))?;
        problem.hints.iter().try_for_each(|hint| ui.line(&format!("  hint: {hint}")))?;
    }
    for (_, line) in log {
        ui.line(&format!("{}  {:<7}  {}", local(line.time), line.level.name(), line.text))?;
    }
    Ok(Outcome::Done)
}
