//! Plans and runs.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use holdfast_app::jobs::Job;
use holdfast_app::runs::{By, Outcome, Page, Run, RunId};
use holdfast_app::{Problem, times};
use serde::Deserialize;
use serde_json::json;

use super::ask::{Asked, At};
use super::describe::{RUN, Type, may, must};
use super::shapes::{LINE, LISTED, RUN_FIELDS};
use super::{Answer, Operation, blocking};
use crate::accounts::Scope;
use crate::state::Shared;

/// Runs or lines of a log that are listed where nothing else is asked for, and at most.
const LIMIT: (u32, u32) = (100, 1000);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/plans",
            Scope::Read,
            "All plans, with their last and next run",
            plans,
        )
        .answer(&[must("plans", Type::Objects(LISTED), "The plans")]),
        Operation::post("/api/v1/plans/{name}/run", Scope::Run, "Runs a plan now", start)
            .answer(&[RUN]),
        Operation::get("/api/v1/runs", Scope::Read, "Runs, the newest first", runs)
            .query(&[
                may("plan", Type::Text, "Only of this plan"),
                may("verb", Type::Text, "Only of this verb"),
                may("outcome", Type::Text, "Only those that ended so"),
                may("before", Type::Whole, "Only runs with a lower number"),
                may("limit", Type::Whole, "At most so many: 100, at most 1000"),
            ])
            .answer(&[must("runs", Type::Objects(RUN_FIELDS), "The runs")]),
        Operation::get(
            "/api/v1/runs/{id}",
            Scope::Read,
            "A run; with its progress while it is at work",
            run,
        )
        .answer(RUN_FIELDS),
        Operation::get(
            "/api/v1/runs/{id}/log",
            Scope::Read,
            "The log of a run, from a line on",
            log,
        )
        .query(&[
            may("from", Type::Whole, "Number of the first line, which counts from 1"),
            may("limit", Type::Whole, "At most so many: 100, at most 1000"),
        ])
        .answer(&[
            must("lines", Type::Objects(LINE), "The lines"),
            may("next", Type::Whole, "Where to go on; null: these were all so far"),
        ]),
        Operation::post(
            "/api/v1/runs/{id}/cancel",
            Scope::Run,
            "Ends a run in good order; asked again, at once",
            cancel,
        )
        .answer(&[RUN]),
    ]
}

/// `GET /api/v1/plans`
async fn plans(State(state): State<Shared>) -> Response {
    blocking(state, |state| {
        let config = state.paths.load_config()?;
        let (mut plans, now) = (Vec::new(), times::now());
        for (name, plan) in config.plans() {
            let history = state.runner.history();
            let last = history.last(&name, "backup", false)?.map(|run| run.to_json());
            let good = history.last(&name, "backup", true)?;
            let good = good.map(|run| times::rfc3339(run.started));
            let entry = match plan {
                Ok(plan) => {
                    let next = match plan.calendar().filter(|_| plan.enabled) {
                        Some(calendar) => calendar.next(now, 1)?.first().copied(),
                        None => None,
                    };
                    json!({
                        "name": name,
                        "title": plan.title,
                        "enabled": plan.enabled,
                        "sources": plan.sources,
                        "repository": plan.repository_location(),
                        "schedule": plan.schedule.as_ref().map(ToString::to_string),
                        "next": next.map(times::rfc3339),
                        "last_good": good,
                        "last": last,
                    })
                }
                Err(problem) => json!({ "name": name, "problem": problem.message, "last": last }),
            };
            plans.push(entry);
        }
        Ok(json!({ "plans": plans }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    plan: Option<String>,
    verb: Option<String>,
    outcome: Option<String>,
    before: Option<RunId>,
    limit: Option<u32>,
}

fn limit(asked: Option<u32>) -> u32 {
    asked.map_or(LIMIT.0, |limit| limit.clamp(1, LIMIT.1))
}

/// The outcome of this name. Errors: it is none.
fn outcome(name: &str) -> Result<Outcome, Problem> {
    Outcome::ALL.into_iter().find(|outcome| outcome.name() == name).ok_or_else(|| {
        let shown = holdfast_app::text::printable(name.as_bytes());
        Problem::usage(format!("no run ends {shown}"))
            .hint(format!("an outcome is one of {}", Outcome::ALL.map(Outcome::name).join(", ")))
    })
}

/// `GET /api/v1/runs`
async fn runs(State(state): State<Shared>, Asked(which): Asked<Which>) -> Response {
    blocking(state, move |state| {
        let page = Page {
            plan: which.plan,
            verb: which.verb,
            outcome: which.outcome.as_deref().map(outcome).transpose()?,
            before: which.before,
            limit: Some(limit(which.limit)),
            ..Page::default()
        };
        let runs = state.runner.history().runs(&page)?;
        Ok(json!({ "runs": runs.iter().map(Run::to_json).collect::<Vec<_>>() }))
    })
    .await
}

/// `GET /api/v1/runs/{id}`
async fn run(
    State(state): State<Shared>,
    Extension(scope): Extension<Scope>,
    At(id): At<RunId>,
) -> Response {
    blocking(state, move |state| {
        let mut run = state.runner.history().run(id)?.to_json();
        if let (Some(mut live), Some(object)) = (state.runner.live(id), run.as_object_mut()) {
            if scope < Scope::Restore {
                // It is the name of a file.
                live.current.clear();
            }
            object.insert("progress".into(), super::value(live)?);
        }
        Ok(run)
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lines {
    from: Option<i64>,
    limit: Option<u32>,
}

/// `GET /api/v1/runs/{id}/log`
async fn log(
    State(state): State<Shared>,
    At(id): At<RunId>,
    Asked(which): Asked<Lines>,
) -> Response {
    blocking(state, move |state| {
        let history = state.runner.history();
        history.run(id)?;
        let limit = limit(which.limit);
        let mut found = history.log_lines(id, which.from.unwrap_or(0), Some(limit + 1))?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(number, _)| number + 1);
        let lines = found.into_iter().map(|(number, line)| {
            json!({
                "number": number,
                "time": times::rfc3339(line.time),
                "level": line.level.name(),
                "message": line.text,
            })
        });
        Ok(json!({ "lines": lines.collect::<Vec<_>>(), "next": next }))
    })
    .await
}

/// `POST /api/v1/plans/{name}/run`
async fn start(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| {
        let id = state.runner.start(Job::Plan(name.clone()), By::Console)?;
        Ok(Answer::of(format!("ran the plan {name}"), json!({ "run": id })))
    })
    .await
}

/// `POST /api/v1/runs/{id}/cancel`
async fn cancel(State(state): State<Shared>, At(id): At<RunId>) -> Response {
    blocking(state, move |state| {
        state.runner.cancel(id)?;
        Ok(Answer::of(format!("cancelled run {id}"), json!({ "run": id })))
    })
    .await
}
