//! What programs ask: plans and runs as JSON under `/api/v1`, figures for Prometheus, and whether
//! the console is alive. A token of Settings opens it; sessions of browsers do not.

use askama::Template;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use holdfast_app::jobs::Job;
use holdfast_app::runs::{By, Outcome, Page, Run, RunId};
use holdfast_app::{Problem, times};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure;
use crate::state::{Shared, State as Console};

/// The addresses for programs.
pub(crate) fn routes(state: Shared) -> Router<Shared> {
    let read = Router::new()
        .route("/api/v1/plans", get(plans))
        .route("/api/v1/runs", get(runs))
        .route("/api/v1/runs/{id}", get(run))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(state.clone(), may_read));
    let act = Router::new()
        .route("/api/v1/plans/{name}/run", post(start))
        .route("/api/v1/runs/{id}/cancel", post(cancel))
        .layer(from_fn_with_state(state, may_run));
    read.merge(act).route("/api/v1/openapi.json", get(description))
}

/// `GET /healthz`: alive, whoever asks.
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /api/v1/openapi.json`
async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("../assets/openapi.json"))
        .into_response()
}

async fn may_read(State(state): State<Shared>, request: Request, next: Next) -> Response {
    match scope(&state, request.headers()) {
        Ok(_) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

async fn may_run(State(state): State<Shared>, request: Request, next: Next) -> Response {
    match scope(&state, request.headers()) {
        Ok(scope) if scope == "run" => next.run(request).await,
        Ok(_) => answer(StatusCode::FORBIDDEN, "this token may read, and nothing else"),
        Err(refusal) => refusal,
    }
}

/// What the token of a request may do; else what to answer.
#[expect(clippy::result_large_err, reason = "an answer is large, and made once")]
fn scope(state: &Console, headers: &HeaderMap) -> Result<String, Response> {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|text| text.strip_prefix("Bearer "));
    let scope = token.map(|token| state.accounts.scope(token.trim()));
    match scope {
        Some(Ok(Some(scope))) => Ok(scope),
        Some(Err(problem)) => Err(refused(&problem)),
        _ => {
            let text = "send a token of the console's settings: Authorization: Bearer …";
            let mut refusal = answer(StatusCode::UNAUTHORIZED, text);
            let challenge = http::HeaderValue::from_static("Bearer");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            Err(refusal)
        }
    }
}

fn answer(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "problem": { "message": message } }))).into_response()
}

fn refused(problem: &Problem) -> Response {
    let body = json!({ "problem": {
        "class": problem.class.name(),
        "message": problem.message,
        "causes": problem.causes,
        "hints": problem.hints,
    }});
    (failure::status(problem.class), Json(body)).into_response()
}

async fn blocking(
    state: Shared,
    work: impl FnOnce(&Console) -> Result<Value, Problem> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(move || work(&state)).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(problem)) => refused(&problem),
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "a part of the console broke off"),
    }
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
struct Which {
    plan: Option<String>,
    verb: Option<String>,
    outcome: Option<String>,
    before: Option<RunId>,
    limit: Option<u32>,
}

/// `GET /api/v1/runs`
async fn runs(State(state): State<Shared>, Query(which): Query<Which>) -> Response {
    blocking(state, move |state| {
        let page = Page {
            plan: which.plan,
            verb: which.verb,
            outcome: which.outcome.map(|name| Outcome::from_name(&name)),
            before: which.before,
            limit: Some(which.limit.unwrap_or(100).min(1000)),
            ..Page::default()
        };
        let runs = state.runner.history().runs(&page)?;
        Ok(json!({ "runs": runs.iter().map(Run::to_json).collect::<Vec<_>>() }))
    })
    .await
}

/// `GET /api/v1/runs/{id}`
async fn run(State(state): State<Shared>, Path(id): Path<RunId>) -> Response {
    blocking(state, move |state| {
        let mut run = state.runner.history().run(id)?.to_json();
        if let (Some(live), Some(object)) = (state.runner.live(id), run.as_object_mut()) {
            object.insert("progress".into(), serde_json::to_value(live).unwrap_or_default());
        }
        Ok(run)
    })
    .await
}

/// `POST /api/v1/plans/{name}/run`
async fn start(State(state): State<Shared>, Path(name): Path<String>) -> Response {
    blocking(state, move |state| {
        let id = state.runner.start(Job::Plan(name), By::Console)?;
        Ok(json!({ "run": id }))
    })
    .await
}

/// `POST /api/v1/runs/{id}/cancel`
async fn cancel(State(state): State<Shared>, Path(id): Path<RunId>) -> Response {
    blocking(state, move |state| {
        state.runner.cancel(id)?;
        Ok(json!({ "run": id }))
    })
    .await
}

/// A plan's figures.
#[derive(Debug)]
struct Figures {
    plan: String,
    last_good: f64,
    last_seconds: f64,
    failing: u8,
    stored: u64,
}

#[derive(Template)]
#[template(path = "metrics.txt", escape = "none")]
struct Metrics {
    plans: Vec<Figures>,
    at_work: usize,
}

/// `GET /metrics`
async fn metrics(State(state): State<Shared>) -> Response {
    let figures = tokio::task::spawn_blocking(move || figures(&state)).await;
    match figures {
        Ok(Ok(metrics)) => match metrics.render() {
            Ok(text) => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                ([(header::CONTENT_TYPE, kind)], text).into_response()
            }
            Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "the figures cannot be written"),
        },
        Ok(Err(problem)) => refused(&problem),
        Err(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "a part of the console broke off"),
    }
}

fn figures(state: &Console) -> Result<Metrics, Problem> {
    let config = state.paths.load_config()?;
    let history = state.runner.history();
    let mut plans = Vec::new();
    for name in config.plan_names() {
        let good = history.last(&name, "backup", true)?;
        let last = history.last(&name, "backup", false)?;
        plans.push(Figures {
            last_good: good.as_ref().map_or(0.0, |run| run.started as f64 / 1e9),
            last_seconds: last.as_ref().and_then(Run::took).map_or(0.0, |took| took.as_secs_f64()),
            failing: last.as_ref().is_some_and(|run| !run.outcome.is_good()).into(),
            stored: last.map_or(0, |run| run.report.number("bytes_stored")),
            // A label's value may hold anything but these.
            plan: name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " "),
        });
    }
    Ok(Metrics { plans, at_work: history.open_runs()?.len() })
}
