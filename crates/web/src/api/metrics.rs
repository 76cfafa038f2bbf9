//! Figures for Prometheus.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use holdfast_app::runs::Run;
use holdfast_app::{Class, Problem};
use http::header;

use super::{Operation, broken, refused};
use crate::accounts::Scope;
use crate::state::{Shared, State as Console};

pub(super) fn operation() -> Operation {
    let summary = "Figures for Prometheus, in its text format 0.0.4";
    Operation::get("/metrics", Scope::Read, summary, metrics).media(&["text/plain"])
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
    let text = tokio::task::spawn_blocking(move || {
        let failed = |e| Problem::new(Class::Internal, "the figures cannot be written").cause(e);
        figures(&state)?.render().map_err(failed)
    });
    match text.await {
        Ok(Ok(text)) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Ok(Err(problem)) => refused(&problem),
        Err(e) => refused(&broken(&e)),
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
