//! Home: is all well, what happened, what comes next, and what is to do.

pub(crate) mod totals;

use askama::Template;
use axum::response::{IntoResponse, Redirect, Response};
use holdfast_app::plans::{Part, Plan};
use holdfast_app::runs::{Day, History, Outcome, Page, Run};
use holdfast_app::text::plural;
use holdfast_app::{Config, Problem, times};
use jiff::tz::TimeZone;

use self::totals::Totals;
use crate::failure::{Failure, Note};
use crate::state::State;
use crate::view::{Frame, Nav, View, html};
use crate::words::{self, Sign};

/// Days of a strip.
const DAYS: u32 = 30;
/// Width of a day in the strip's own units.
const STEP: usize = 11;
/// Runs to come that are listed.
const NEXT: usize = 6;

/// A plan on Home.
#[derive(Debug)]
struct Row {
    name: String,
    title: String,
    sign: Option<Sign>,
    last: String,
    run: Option<i64>,
    is_open: bool,
    next: String,
    is_off: bool,
    strip: Vec<(&'static str, usize)>,
    label: String,
    why: String,
}

/// A plan's restore drill.
#[derive(Debug)]
struct Proof {
    title: String,
    sign: Sign,
    when: String,
}

/// What is to be seen to first.
#[derive(Debug)]
struct Attention {
    title: String,
    note: Note,
    run: i64,
    plan: String,
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    frame: Frame,
    /// Class, icon and sentence.
    verdict: (&'static str, &'static str, String),
    newest: String,
    rows: Vec<Row>,
    attention: Option<Attention>,
    next: Vec<(String, String, String)>,
    proofs: Vec<Proof>,
    /// Name and title of the storages that plans write to.
    storages: Vec<(String, String)>,
    totals: Totals,
    from: String,
    /// The console runs only as long as a command does.
    is_foreground: bool,
}

/// `GET /`
pub(crate) async fn show(view: View) -> Result<Response, Failure> {
    let frame = view.frame("Home", Nav::Home, "holdfast runs --number 30");
    let home = view.blocking(move |state| home(state, frame)).await?;
    Ok(match home {
        Some(home) => html(&home),
        None => Redirect::to("/start").into_response(),
    })
}

/// `None`: there is nothing yet, and the first start is the page to show.
fn home(state: &State, frame: Frame) -> Result<Option<Home>, Problem> {
    let config = state.paths.load_config()?;
    let plans = config.plans();
    if plans.is_empty() {
        return Ok(None);
    }
    let (now, zone) = (times::now(), TimeZone::system());
    let history = state.runner.history();
    let mut rows = Vec::new();
    let mut standings = Vec::new();
    let mut attention = None;
    for (name, plan) in &plans {
        let days = history.days(name, "backup", DAYS, now, &zone)?;
        let last = last_backup(history, name)?;
        let telling = telling(history, name)?;
        let good = history.last(name, "backup", true)?;
        let standing = Standing::of(plan, telling.as_ref().map(|run| run.outcome));
        let title = plan.as_ref().map_or(name.as_str(), Plan::shown).to_owned();
        if standing == Standing::Failing && attention.is_none() {
            attention = telling.as_ref().and_then(|run| {
                let note = Note::from(run.report.problem.as_ref()?);
                let (title, plan) = (title.clone(), name.clone());
                Some(Attention { title, note, run: run.id, plan })
            });
        }
        standings.push((title.clone(), standing, good.map(|run| run.started)));
        rows.push(row(name, title, plan.as_ref().ok(), last.as_ref(), &days, now)?);
    }
    let newest = standings.iter().filter_map(|(_, _, good)| *good).max();
    let newest = newest.map_or_else(String::new, |time| {
        format!("Newest backup {}, {}.", words::moment(time, now), words::relative(time, now))
    });
    let first = now - i64::from(DAYS - 1) * 86_400 * 1_000_000_000;
    let storages = storages(&config, &plans);
    Ok(Some(Home {
        totals: Totals::of(state, &plans, &storages, now)?,
        frame,
        verdict: verdict(&standings, now),
        newest,
        attention,
        next: next(&plans, now)?,
        proofs: proofs(history, &plans, now)?,
        storages,
        from: words::day(first),
        rows,
        is_foreground: state.is_foreground,
    }))
}

fn backups(plan: &str, limit: u32) -> Page {
    let (plan, verb) = (Some(plan.to_owned()), Some("backup".to_owned()));
    Page { plan, verb, limit: Some(limit), ..Page::default() }
}

/// The last run of a plan's backup, one at work included.
pub(super) fn last_backup(history: &History, plan: &str) -> Result<Option<Run>, Problem> {
    Ok(history.runs(&backups(plan, 1))?.into_iter().next())
}

/// The last run that says how a plan does. What is at work or was ended by hand says nothing: the
/// one before counts, also where that failed.
fn telling(history: &History, plan: &str) -> Result<Option<Run>, Problem> {
    let mut which = backups(plan, 10);
    loop {
        let runs = history.runs(&which)?;
        let Some(oldest) = runs.last().map(|run| run.id) else { return Ok(None) };
        let tells = |run: &Run| !run.outcome.is_open() && run.outcome != Outcome::Cancelled;
        if let Some(run) = runs.into_iter().find(tells) {
            return Ok(Some(run));
        }
        which.before = Some(oldest);
    }
}

/// Whether a plan does what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Holds,
    /// Nothing was saved yet, and nothing failed.
    New,
    Warned,
    Failing,
    /// The configuration does not say what it should.
    Broken,
    /// It is switched off, and holds nothing.
    Off,
}

impl Standing {
    /// `outcome` is that of the last run that tells.
    fn of(plan: &Result<Plan, Problem>, outcome: Option<Outcome>) -> Self {
        match plan {
            Err(_) => return Self::Broken,
            Ok(plan) if !plan.enabled => return Self::Off,
            Ok(_) => {}
        }
        match outcome {
            Some(Outcome::Ok) => Self::Holds,
            Some(Outcome::Warnings) => Self::Warned,
            Some(Outcome::Failed | Outcome::Interrupted | Outcome::Missed) => Self::Failing,
            None | Some(Outcome::Queued | Outcome::Running | Outcome::Cancelled) => Self::New,
        }
    }
}

/// One sentence for all plans: class, icon, text.
fn verdict(
    plans: &[(String, Standing, Option<i64>)],
    now: i64,
) -> (&'static str, &'static str, String) {
    let of = |wanted: &[Standing]| plans.iter().filter(|(_, s, _)| wanted.contains(s)).count();
    let off = of(&[Standing::Off]);
    let all = plans.len() - off;
    let failing = plans.iter().find(|(_, s, _)| matches!(s, Standing::Failing | Standing::Broken));
    if let Some((title, standing, good)) = failing {
        let what = match (standing, good) {
            (Standing::Broken, _) => format!("{title} cannot run as it is written."),
            (_, None) => format!("{title} has never been saved."),
            (_, Some(good)) => {
                format!("{title} was last saved {}.", words::relative(*good, now))
            }
        };
        let hold = of(&[Standing::Holds, Standing::Warned]);
        let text = if all == 1 {
            what
        } else {
            format!("{hold} of {} hold. {what}", plural(all as u64, "plan", "plans"))
        };
        return ("is-bad", "i-bad", text);
    }
    if let Some((title, ..)) = plans.iter().find(|(_, s, _)| *s == Standing::Warned) {
        let text = match of(&[Standing::Warned]) {
            1 => format!("{title} was saved, but not all of it could be read."),
            count => format!("{count} plans were saved, but not all of them could be read."),
        };
        return ("is-warn", "i-warn", text);
    }
    let on = match off {
        0 => String::new(),
        off => format!(" {} switched off.", plural(off as u64, "plan is", "plans are")),
    };
    match of(&[Standing::New]) {
        0 if all == 0 => ("is-warn", "i-todo", format!("Nothing is saved by itself.{on}")),
        0 if all == 1 => ("is-ok", "i-ok", format!("Your plan holds.{on}")),
        0 => ("is-ok", "i-ok", format!("All {all} plans hold.{on}")),
        new if new == all => ("is-warn", "i-todo", "Nothing has been saved yet.".into()),
        new => {
            let text =
                format!("What ran holds. {} never ran yet.", plural(new as u64, "plan", "plans"));
            ("is-warn", "i-todo", text)
        }
    }
}

fn row(
    name: &str,
    title: String,
    plan: Option<&Plan>,
    last: Option<&Run>,
    days: &[Day],
    now: i64,
) -> Result<Row, Problem> {
    let calendar = plan.filter(|plan| plan.enabled).and_then(Plan::calendar);
    let next = match calendar {
        Some(calendar) => calendar.next(now, 1)?.first().map(|due| words::moment(*due, now)),
        None => None,
    };
    let shape = |day: &Day| match day.outcome {
        None | Some(Outcome::Queued | Outcome::Running | Outcome::Cancelled) => "d-idle",
        Some(Outcome::Ok) => "d-ok",
        Some(Outcome::Warnings) => "d-warn",
        Some(Outcome::Failed | Outcome::Interrupted) => "d-bad",
        Some(Outcome::Missed) => "d-miss",
    };
    let strip: Vec<_> = days.iter().enumerate().map(|(i, day)| (shape(day), i * STEP)).collect();
    let counted = |shape: &str| strip.iter().filter(|(s, _)| *s == shape).count();
    let parts =
        [("d-ok", "ok"), ("d-warn", "with warnings"), ("d-bad", "failed"), ("d-miss", "missed")];
    let parts = parts.iter().map(|(shape, word)| (counted(shape), word)).filter(|(n, _)| *n > 0);
    let parts: Vec<_> = parts.map(|(n, word)| format!("{n} {word}")).collect();
    let label = match parts.is_empty() {
        true => format!("{title}, the last {DAYS} days: no runs"),
        false => format!("{title}, the last {DAYS} days: {}", parts.join(", ")),
    };
    let bad = |wanted: &[Outcome]| -> Vec<String> {
        let days = days.iter().filter(|day| day.outcome.is_some_and(|o| wanted.contains(&o)));
        days.map(|day| day.date.strftime("%-d %b").to_string()).collect()
    };
    let mut why = Vec::new();
    let failed = bad(&[Outcome::Failed, Outcome::Interrupted]);
    if !failed.is_empty() {
        let cause = last.and_then(|run| run.report.problem.as_ref());
        let cause = cause.map(|problem| format!(": {}", problem.message)).unwrap_or_default();
        why.push(format!("{} failed{cause}", failed.join(", ")));
    }
    let missed = bad(&[Outcome::Missed]);
    if !missed.is_empty() {
        why.push(format!("{} missed", missed.join(", ")));
    }
    Ok(Row {
        name: name.to_owned(),
        sign: last.map(|run| words::sign(run.outcome)),
        last: last.map(|run| words::moment(run.started, now)).unwrap_or_default(),
        run: last.map(|run| run.id),
        is_open: last.is_some_and(|run| run.outcome.is_open()),
        next: next.unwrap_or_default(),
        is_off: plan.is_some_and(|plan| !plan.enabled),
        why: if why.is_empty() { String::new() } else { format!("{}.", why.join(". ")) },
        title,
        strip,
        label,
    })
}

/// What comes next, of all plans: title, when, in how long.
fn next(
    plans: &[(String, Result<Plan, Problem>)],
    now: i64,
) -> Result<Vec<(String, String, String)>, Problem> {
    let mut due = Vec::new();
    for plan in plans.iter().filter_map(|(_, plan)| plan.as_ref().ok()) {
        for (part, calendar) in plan.calendars().into_iter().filter(|_| plan.enabled) {
            let title = match part {
                Part::Backup => plan.shown().to_owned(),
                other => format!("{}, {}", plan.shown(), other.name()),
            };
            due.extend(calendar.next(now, 1)?.into_iter().map(|time| (time, title.clone())));
        }
    }
    due.sort();
    due.truncate(NEXT);
    let said = |(time, title)| (title, words::moment(time, now), words::relative(time, now));
    Ok(due.into_iter().map(said).collect())
}

/// The storages that plans write to, in the file's order.
fn storages(config: &Config, plans: &[(String, Result<Plan, Problem>)]) -> Vec<(String, String)> {
    let plans = plans.iter().filter_map(|(_, plan)| plan.as_ref().ok());
    let places = plans
        .flat_map(|plan| plan.mirror_locations().into_iter().chain([plan.repository_location()]));
    let places: Vec<_> = places.collect();
    let names = config.names().into_iter();
    let used = names.filter(|name| places.iter().any(|place| *place == format!("@{name}")));
    used.map(|name| {
        let title = config.entry(&name).and_then(|entry| entry.title()).unwrap_or(&name).to_owned();
        (name, title)
    })
    .collect()
}

fn proofs(
    history: &History,
    plans: &[(String, Result<Plan, Problem>)],
    now: i64,
) -> Result<Vec<Proof>, Problem> {
    let mut proofs = Vec::new();
    for (name, plan) in plans {
        let Ok(plan) = plan else { continue };
        let any = history.last(name, "drill", false)?;
        let good = history.last(name, "drill", true)?;
        if any.is_none() && plan.drill.is_none() {
            continue;
        }
        let sign = any.as_ref().map(|run| words::sign(run.outcome));
        let sign = sign.unwrap_or_else(|| words::sign(Outcome::Queued));
        let when =
            good.map_or_else(|| "never yet".to_owned(), |run| words::relative(run.started, now));
        proofs.push(Proof { title: plan.shown().to_owned(), sign, when });
    }
    Ok(proofs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_app::runs::{By, NewRun, Report};

    #[test]
    fn the_verdict_names_what_fails_before_all_else() {
        let said = |plans: &[(&str, Standing, Option<i64>)]| {
            let plans: Vec<_> = plans.iter().map(|(t, s, g)| ((*t).to_owned(), *s, *g)).collect();
            verdict(&plans, 3 * 86_400 * 1_000_000_000)
        };
        assert_eq!(said(&[("A", Standing::Holds, Some(1))]).2, "Your plan holds.");
        let (class, _, text) = said(&[
            ("A", Standing::Holds, Some(1)),
            ("B", Standing::Warned, Some(1)),
            ("C", Standing::Failing, Some(0)),
        ]);
        assert_eq!(
            (class, text.as_str()),
            ("is-bad", "2 of 3 plans hold. C was last saved 3 days ago.")
        );
        assert_eq!(said(&[("A", Standing::Failing, None)]).2, "A has never been saved.");
        assert_eq!(said(&[("A", Standing::Warned, Some(1))]).0, "is-warn");
        assert_eq!(said(&[("A", Standing::New, None)]).2, "Nothing has been saved yet.");
        let off = ("B", Standing::Off, Some(1));
        let (class, _, text) = said(&[("A", Standing::Holds, Some(1)), off]);
        assert_eq!((class, text.as_str()), ("is-ok", "Your plan holds. 1 plan is switched off."));
        assert_eq!(said(&[off]).0, "is-warn");
    }

    #[test]
    fn a_run_that_was_cancelled_does_not_hide_one_that_failed()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let history = History::open(dir.path())?;
        let owner = history.own()?;
        let run = |outcome: Outcome| -> Result<(), Problem> {
            let new = NewRun {
                plan: Some("p".into()),
                verb: "backup".into(),
                place: "@nas".into(),
                by: By::Console,
                due: None,
            };
            let id = history.begin(&new, &owner, false)?;
            if outcome.is_open() { Ok(()) } else { history.end(id, outcome, &Report::default()) }
        };
        let standing = |plan: &Result<Plan, Problem>| -> Result<Standing, Problem> {
            Ok(Standing::of(plan, telling(&history, "p")?.map(|run| run.outcome)))
        };
        let plan = Ok(Plan::new("p"));
        assert_eq!(standing(&plan)?, Standing::New);
        run(Outcome::Ok)?;
        run(Outcome::Failed)?;
        for _ in 0..12 {
            run(Outcome::Cancelled)?;
        }
        run(Outcome::Queued)?;
        assert_eq!(standing(&plan)?, Standing::Failing);
        assert_eq!(standing(&Ok(Plan { enabled: false, ..Plan::new("p") }))?, Standing::Off);
        run(Outcome::Warnings)?;
        assert_eq!(standing(&plan)?, Standing::Warned);
        Ok(())
    }
}
