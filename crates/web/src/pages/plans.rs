//! Plans: the list, and what is done to them from there. The editor has a folder of its own.

mod editor;
mod folders;
mod form;
mod preview;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::jobs::Job;
use holdfast_app::plans::Plan;
use holdfast_app::runs::By;
use holdfast_app::{Config, Problem};
use http::HeaderMap;

use super::home::last_backup;
use crate::failure::{Failure, Note};
use crate::pages::go;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};
use crate::words::{self, Sign};

/// The addresses of plans.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/plans", get(list))
        .route("/add-plan", get(editor::add))
        .route("/plans/{name}", get(editor::edit))
        .route("/plans/{name}/run", post(run))
        .route("/plans/{name}/remove", post(remove))
        .route("/plan-form/save", post(editor::save))
        .route("/plan-form/preview", post(preview::show))
        .route("/plan-form/folders", post(folders::show))
}

/// A plan as a row.
#[derive(Debug)]
struct Row {
    name: String,
    title: String,
    sources: String,
    repository: String,
    schedule: String,
    next: String,
    sign: Option<Sign>,
    last: String,
    run: Option<i64>,
    note: Option<Note>,
}

#[derive(Template)]
#[template(path = "plans.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
}

/// `GET /plans`
async fn list(view: View) -> Result<Response, Failure> {
    // Made first: what happens while the rows are read is told after it.
    let frame = view.frame("Plans", Nav::Plans, "holdfast plan list");
    let rows = view
        .blocking(|state| {
            let config = state.paths.load_config()?;
            let row =
                |(name, plan): (String, Result<Plan, Problem>)| row(state, &config, name, plan);
            config.plans().into_iter().map(row).collect::<Result<Vec<_>, Problem>>()
        })
        .await?;
    Ok(html(&List { frame, rows }))
}

fn row(
    state: &State,
    config: &Config,
    name: String,
    plan: Result<Plan, Problem>,
) -> Result<Row, Problem> {
    let now = holdfast_app::times::now();
    let last = last_backup(state.runner.history(), &name)?;
    let base = Row {
        title: name.clone(),
        name,
        sources: String::new(),
        repository: String::new(),
        schedule: String::new(),
        next: String::new(),
        sign: last.as_ref().map(|run| words::sign(run.outcome)),
        last: last.as_ref().map(|run| words::moment(run.started, now)).unwrap_or_default(),
        run: last.as_ref().map(|run| run.id),
        note: None,
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(problem) => return Ok(Row { note: Some(Note::from(&problem)), ..base }),
    };
    let (schedule, next) = match (plan.enabled, plan.calendar()) {
        (false, _) => ("switched off".to_owned(), String::new()),
        (true, None) => ("by hand".to_owned(), String::new()),
        (true, Some(calendar)) => {
            let next = calendar.next(now, 1)?.first().map(|due| words::moment(*due, now));
            (calendar.schedule.to_string(), next.unwrap_or_default())
        }
    };
    let repository = title_of(config, &plan.repository_location());
    let title = plan.shown().to_owned();
    Ok(Row { title, sources: plan.sources.join(", "), repository, schedule, next, ..base })
}

/// What people call the location of a plan.
fn title_of(config: &Config, location: &str) -> String {
    let named = location.strip_prefix('@').filter(|name| config.entry(name).is_some());
    named.map_or(location, |name| config.title_of(name)).to_owned()
}

/// `POST /plans/{name}/run`
async fn run(
    view: View,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let id = view.blocking(move |state| state.runner.start(Job::Plan(name), By::Console)).await?;
    Ok(go(&headers, &format!("/runs/{id}")))
}

/// `POST /plans/{name}/remove`
async fn remove(
    view: View,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    view.blocking(move |state| {
        Config::edit(&state.paths.config, state.paths.home.clone(), |config| {
            config.remove_plan(&name)
        })
    })
    .await?;
    Ok(go(&headers, "/plans"))
}
