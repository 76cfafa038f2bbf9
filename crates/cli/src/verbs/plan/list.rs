//! Showing plans: all of them, one of them, and when they run next.

use holdfast_app::plans::{Part, Plan};
use holdfast_app::runs::{History, Page};
use holdfast_app::text::{printable, size};
use holdfast_app::times::{local, now, rfc3339};
use holdfast_app::{Config, Problem};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};
use crate::verbs::runs;

/// Runs that `show` lists.
const LAST: u32 = 10;

#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    plan: serde_json::Value,
    next: Vec<String>,
    last: Option<serde_json::Value>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Due<'a> {
    plan: &'a str,
    what: &'static str,
    at: String,
}

fn config(context: &Context) -> Result<Config> {
    context.expect_named_config()?;
    let config = context.paths()?.load_config()?;
    context.warn_of(&config)?;
    Ok(config)
}

/// When the backups of a plan run next; none if it is not enabled.
fn next_of(plan: &Plan, count: usize) -> std::result::Result<Vec<i64>, Problem> {
    match plan.calendar().filter(|_| plan.enabled) {
        Some(calendar) => calendar.next(now(), count),
        None => Ok(Vec::new()),
    }
}

pub(super) fn list(context: &Context) -> Result {
    let config = config(context)?;
    let history = History::open(&context.paths()?.state)?;
    let columns = ["NAME", "SCHEDULE", "NEXT", "LAST", "OUTCOME", "TO", "NOTE"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for (name, plan) in config.plans() {
        let last = history.last(&name, "backup", false)?;
        let shown = match &plan {
            Ok(plan) => {
                let next = next_of(plan, 1)?;
                let first = next.first().copied();
                if context.ui.is_json() {
                    let row = Row {
                        plan: plan.to_json(),
                        next: next.into_iter().map(rfc3339).collect(),
                        last: last.as_ref().map(holdfast_app::runs::Run::to_json),
                        problem: None,
                    };
                    context.ui.row("plan", &row)?;
                    continue;
                }
                let schedule = plan.schedule.as_ref().map(ToString::to_string);
                let note = match plan.enabled {
                    true => plan.title.clone().unwrap_or_default(),
                    false => "disabled".into(),
                };
                [
                    schedule.unwrap_or_else(|| "by hand".into()),
                    first.map(local).unwrap_or_default(),
                    plan.repository_location(),
                    note,
                ]
            }
            Err(problem) => {
                if context.ui.is_json() {
                    let row = Row {
                        plan: serde_json::json!({ "name": name }),
                        next: Vec::new(),
                        last: last.as_ref().map(holdfast_app::runs::Run::to_json),
                        problem: Some(problem.to_string()),
                    };
                    context.ui.row("plan", &row)?;
                    continue;
                }
                let note = format!("wrong: {}", problem.message);
                [String::new(), String::new(), String::new(), note]
            }
        };
        let [schedule, next, to, note] = shown;
        let began = last.as_ref().map(|run| local(run.started)).unwrap_or_default();
        let outcome = last.map(|run| run.outcome.name().to_owned()).unwrap_or_default();
        let row = [name, schedule, next, began, outcome, to, note];
        table.add(row.iter().map(|text| printable(text.as_bytes())).collect());
    }
    if context.ui.is_json() {
        return Ok(Outcome::Done);
    }
    if table.is_empty() {
        context.ui.note("no plans; to make one: holdfast plan create NAME --to @LOCATION PLACE")?;
    } else {
        table.write(&mut *context.ui.out())?;
    }
    Ok(Outcome::Done)
}

pub(super) fn show(context: &Context, name: &str) -> Result {
    let config = config(context)?;
    let plan = config.plan_as_written(name)?;
    let problem = plan.validate().and_then(|()| plan.check_places(&config)).err();
    let next = next_of(&plan, 5).unwrap_or_default();
    let history = History::open(&context.paths()?.state)?;
    let page = Page { plan: Some(name.to_owned()), limit: Some(LAST), ..Page::default() };
    let last = history.runs(&page)?;
    if context.ui.is_json() {
        let row = Row {
            plan: plan.to_json(),
            next: next.into_iter().map(rfc3339).collect(),
            last: last.first().map(holdfast_app::runs::Run::to_json),
            problem: problem.map(|problem| problem.to_string()),
        };
        context.ui.row("plan", &row)?;
        return Ok(Outcome::Done);
    }
    for line in plan.to_toml().lines() {
        context.ui.line(&printable(line.as_bytes()))?;
    }
    if !next.is_empty() {
        context.ui.line("\nnext runs:")?;
        next.into_iter().try_for_each(|at| context.ui.line(&format!("  {}", local(at))))?;
    }
    if !last.is_empty() {
        context.ui.line("\nlast runs:")?;
        runs::table(&last).write(&mut *context.ui.out())?;
        let newest = last.iter().find(|run| run.report.number("bytes") > 0);
        if let Some(run) = newest {
            context.ui.line(&format!("\nsize: {}", size(run.report.number("bytes"))))?;
        }
    }
    if let Some(problem) = problem {
        context.ui.flush()?;
        context.ui.warn(&problem.to_string())?;
        for hint in &problem.hints {
            context.ui.note(&format!("  hint: {hint}"))?;
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn next(context: &Context, name: Option<&str>, number: usize) -> Result {
    let config = config(context)?;
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => config.plan_names(),
    };
    let mut due: Vec<(i64, String, Part)> = Vec::new();
    for name in &names {
        let plan = config.plan(name)?;
        for (part, calendar) in plan.calendars().into_iter().filter(|_| plan.enabled) {
            let times = calendar.next(now(), number)?;
            due.extend(times.into_iter().map(|at| (at, plan.name.clone(), part)));
        }
    }
    due.sort();
    let mut table =
        Table::new(&[("AT", Align::Left), ("PLAN", Align::Left), ("WHAT", Align::Left)]);
    for (at, plan, part) in due.into_iter().take(number) {
        if context.ui.is_json() {
            context.ui.row("due", &Due { plan: &plan, what: part.name(), at: rfc3339(at) })?;
        } else {
            table.add(vec![local(at), plan, part.name().into()]);
        }
    }
    if context.ui.is_json() {
        return Ok(Outcome::Done);
    }
    if table.is_empty() {
        context.ui.note("nothing is scheduled")?;
    } else {
        table.write(&mut *context.ui.out())?;
    }
    Ok(Outcome::Done)
}
