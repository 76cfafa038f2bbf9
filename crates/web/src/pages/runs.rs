//! Runs: what was done, what is at work now, and a page for each that moves while it works.

pub(crate) mod live;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::Problem;
use holdfast_app::runs::{Level, Outcome, Page as Which, ProblemRecord, Run, RunId};
use holdfast_app::text::{count, duration, plural, size};
use http::HeaderMap;
use serde::Deserialize;

use crate::failure::{Failure, Note};
use crate::pages::go;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words::{self, Sign};

/// Runs on one page of the list.
const PAGE: u32 = 50;
/// Lines of a log that a page shows.
const LINES: i64 = 500;

/// The addresses of runs.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/runs", get(list))
        .route("/runs/{id}", get(show))
        .route("/runs/{id}/cancel", post(cancel))
        .route("/runs/{id}/log", get(log))
}

/// A run as a row of a list.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: RunId,
    pub(crate) what: String,
    pub(crate) verb: String,
    pub(crate) place: String,
    pub(crate) sign: Sign,
    pub(crate) when: String,
    pub(crate) took: String,
    pub(crate) told: String,
    pub(crate) is_open: bool,
}

impl Row {
    /// `title` is what people call the run's plan.
    pub(crate) fn new(run: &Run, title: Option<String>, now: i64) -> Self {
        let report = &run.report;
        let told = match &report.problem {
            Some(problem) => problem.message.clone(),
            None if run.verb == "backup" && !run.outcome.is_open() => format!(
                "{}, {} new",
                plural(report.number("files"), "file", "files"),
                size(report.number("bytes_stored"))
            ),
            None => String::new(),
        };
        Self {
            id: run.id,
            what: title.or_else(|| run.plan.clone()).unwrap_or_else(|| run.verb.clone()),
            verb: run.verb.clone(),
            place: run.place.clone(),
            sign: words::sign(run.outcome),
            when: words::moment(run.started, now),
            took: run.took().map(duration).unwrap_or_default(),
            told,
            is_open: run.outcome.is_open(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct Filter {
    #[serde(default)]
    outcome: String,
    #[serde(default)]
    plan: String,
    before: Option<RunId>,
}

#[derive(Template)]
#[template(path = "runs.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
    outcome: String,
    plan: String,
    /// Where the next page begins.
    older: Option<RunId>,
}

/// `GET /runs`
async fn list(view: View, Query(filter): Query<Filter>) -> Result<Response, Failure> {
    let (outcome, plan) = (filter.outcome.clone(), filter.plan.clone());
    // Made first: what happens while the rows are read is told after it.
    let frame = view.frame("Runs", Nav::Runs, "holdfast runs");
    let rows = view
        .blocking(move |state| {
            let chosen = |name: &String| (!name.is_empty()).then(|| name.clone());
            let which = Which {
                plan: chosen(&filter.plan),
                outcome: chosen(&filter.outcome).map(|name| Outcome::parse(&name)).transpose()?,
                before: filter.before,
                limit: Some(PAGE),
                ..Which::default()
            };
            let titles = state.titles();
            let now = holdfast_app::times::now();
            let runs = state.runner.history().runs(&which)?;
            let row = |run: &Run| Row::new(run, titles.of(run.plan.as_deref()), now);
            Ok::<_, Problem>(runs.iter().map(row).collect::<Vec<_>>())
        })
        .await?;
    let full = rows.len() == PAGE as usize;
    let older = rows.last().filter(|_| full).map(|row| row.id);
    Ok(html(&List { frame, rows, outcome, plan, older }))
}

/// A figure with what stands below it.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) beside: String,
}

/// Errors of one class.
#[derive(Debug)]
struct Errors {
    class: String,
    count: String,
    first: String,
    message: String,
    more: Vec<String>,
}

/// A line of the log.
#[derive(Debug)]
struct Line {
    time: String,
    class: &'static str,
    level: &'static str,
    text: String,
}

#[derive(Template)]
#[template(path = "run.html")]
struct Page {
    frame: Frame,
    id: RunId,
    title: String,
    plan: Option<String>,
    verb: String,
    place: String,
    by: &'static str,
    when: String,
    took: String,
    sign: Sign,
    is_open: bool,
    /// Asked to end already.
    is_ending: bool,
    live: String,
    figures: Vec<Figure>,
    phases: Vec<(String, String)>,
    note: Option<Note>,
    /// What stays of a run that somebody ended; empty if nobody did.
    stays: &'static str,
    errors: Vec<Errors>,
    /// Lines of the log before those that are shown.
    unshown: String,
    lines: Vec<Line>,
    snapshots: Vec<String>,
}

impl From<&ProblemRecord> for Note {
    fn from(problem: &ProblemRecord) -> Self {
        Self::from(&problem.to_problem())
    }
}

/// `GET /runs/{id}`
async fn show(view: View, Path(id): Path<RunId>) -> Result<Response, Failure> {
    let frame = view.frame(&format!("Run {id}"), Nav::Runs, &format!("holdfast runs show {id}"));
    let page = view
        .blocking(move |state| {
            let run = state.runner.history().run(id)?;
            // What ended a run is said last.
            let last = state.runner.history().last_line(id)?;
            let first = last - LINES + 1;
            let lines = state.runner.history().log_lines(id, first, None)?;
            let now = holdfast_app::times::now();
            let title = state.titles().of(run.plan.as_deref());
            let live = live::part(&state.runner, id);
            let errors = run.report.errors.iter().map(|class| {
                let sample = class.samples.first();
                Errors {
                    class: class.class.clone(),
                    count: count(class.count),
                    first: sample.map(|s| s.what.clone()).unwrap_or_default(),
                    message: sample.map(|s| s.message.clone()).unwrap_or_default(),
                    more: class.samples.iter().skip(1).map(|s| s.what.clone()).collect(),
                }
            });
            let line = |(_, line): (i64, holdfast_app::runs::LogLine)| {
                let (class, level) = match line.level {
                    Level::Info => ("", "info"),
                    Level::Warning => ("warn", "warn"),
                    Level::Error => ("bad", "error"),
                };
                Line { time: words::clock(line.time), class, level, text: line.text }
            };
            Ok::<_, Problem>(Page {
                frame,
                id,
                title: title.or(run.plan.clone()).unwrap_or_else(|| run.verb.clone()),
                plan: run.plan.clone(),
                verb: run.verb.clone(),
                place: run.place.clone(),
                by: words::by(run.by),
                when: words::moment(run.started, now),
                took: run.took().map(duration).unwrap_or_default(),
                sign: words::sign(run.outcome),
                is_open: run.outcome.is_open(),
                is_ending: state.runner.is_ending(&run),
                live,
                figures: figures(&run),
                phases: phases(&run),
                note: run.report.problem.as_ref().map(Note::from),
                stays: stays(&run),
                errors: errors.collect(),
                unshown: match u64::try_from(first - 1) {
                    Ok(0) | Err(_) => String::new(),
                    Ok(lines) => plural(lines, "earlier line", "earlier lines"),
                },
                lines: lines.into_iter().map(line).collect(),
                snapshots: run
                    .report
                    .snapshots
                    .iter()
                    .map(|id| id.chars().take(8).collect())
                    .collect(),
            })
        })
        .await?;
    Ok(html(&page))
}

/// What stays of a run that somebody ended.
fn stays(run: &Run) -> &'static str {
    match (run.outcome, run.verb.as_str(), run.report.snapshots.is_empty()) {
        (Outcome::Cancelled, "backup", false) => {
            "What it had finished stays, as a partial snapshot that the next run goes on from. No \
             older snapshot was touched."
        }
        (Outcome::Cancelled, "backup", true) => {
            "It ended before it had finished anything: there is no snapshot of it. No older \
             snapshot was touched."
        }
        (Outcome::Cancelled, "restore", _) => {
            "Files that it had written stay, each of them whole. Restored once more, it goes on \
             from there."
        }
        (Outcome::Cancelled, ..) => "It ended in good order, and can be run again at any time.",
        _ => "",
    }
}

/// The phases of a run and how long they took. A step stands by itself only where it had none.
fn phases(run: &Run) -> Vec<(String, String)> {
    let all = &run.report.phases;
    let is_whole = |name: &str| {
        let inside =
            |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'));
        all.iter().any(|other| inside(&other.name))
    };
    let phases = all.iter().filter(|phase| !is_whole(&phase.name));
    let shown = phases.map(|phase| {
        let name = phase.name.rsplit('/').next().unwrap_or(&phase.name).to_owned();
        (name, duration(std::time::Duration::from_millis(phase.millis)))
    });
    shown.collect()
}

/// What a run that ended did, in figures; those that are 0 are left out, files and bytes aside.
fn figures(run: &Run) -> Vec<Figure> {
    if matches!(run.verb.as_str(), "restore" | "preview") {
        return super::restore::figures(run);
    }
    let report = &run.report;
    let mut figures = Vec::new();
    let mut add =
        |name, value: String, beside: String| figures.push(Figure { name, value, beside });
    let number = |name: &str| report.number(name);
    if report.numbers.contains_key("files") {
        let beside = match (number("files_new"), number("files_changed")) {
            (0, 0) => "none new or changed".to_owned(),
            (new, changed) => format!("{} new, {} changed", count(new), count(changed)),
        };
        add("Files", count(number("files")), beside);
        add("Size", size(number("bytes")), format!("{} read", size(number("bytes_read"))));
        let before = format!("{} before compression", size(number("bytes_new")));
        add("New in storage", size(number("bytes_stored")), before);
    }
    for (key, name) in [
        ("snapshots_forgotten", "Snapshots forgotten"),
        ("excluded", "Left out"),
        ("errors", "Not saved"),
        ("missed", "Runs missed"),
    ] {
        if number(key) > 0 {
            add(name, count(number(key)), String::new());
        }
    }
    if number("bytes_freed") > 0 {
        add("Freed", size(number("bytes_freed")), String::new());
    }
    figures
}

/// `POST /runs/{id}/cancel`
async fn cancel(
    view: View,
    headers: HeaderMap,
    Path(id): Path<RunId>,
) -> Result<Response, Failure> {
    view.blocking(move |state| state.runner.cancel(id)).await?;
    Ok(go(&headers, &format!("/runs/{id}")))
}

/// `GET /runs/{id}/log`: the whole log as text.
async fn log(view: View, Path(id): Path<RunId>) -> Result<Response, Failure> {
    use axum::response::IntoResponse;
    use http::header;
    let text = view
        .blocking(move |state| {
            state.runner.history().run(id)?;
            let lines = state.runner.history().log_lines(id, 0, None)?;
            let line = |(_, line): (i64, holdfast_app::runs::LogLine)| {
                let time = holdfast_app::times::rfc3339(line.time);
                format!("{time} {} {}\n", line.level.name(), line.text)
            };
            Ok::<_, Problem>(lines.into_iter().map(line).collect::<String>())
        })
        .await?;
    let fields = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"run-{id}.log\"")),
    ];
    Ok((fields, text).into_response())
}
