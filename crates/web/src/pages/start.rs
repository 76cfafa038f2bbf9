//! The first start, on one page: what, where, the passphrase and its kit, when; then the first
//! backup runs.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::jobs::Job;
use holdfast_app::plans::Plan;
use holdfast_app::runs::By;
use holdfast_app::text::printable_os;
use holdfast_app::{Config, Problem};
use http::HeaderMap;
use serde::Deserialize;

use super::storages;
use crate::failure::Failure;
use crate::pages::go;
use crate::posted::Posted;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};

/// What is left out of a home directory unless somebody wants it: what programs make again.
const CACHES: [&str; 6] = [
    ".cache/",
    "node_modules/",
    ".local/share/Trash/",
    "__pycache__/",
    ".npm/",
    ".cargo/registry/",
];

/// The addresses of the first start.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/start", get(show))
        .route("/start/storage", get(storages::fields))
        .route("/start/chosen", get(choose))
        .route("/start/passphrase", get(passphrase))
        .route("/start/go", post(begin))
}

#[derive(Template)]
#[template(path = "start.html")]
struct Page {
    frame: Frame,
    /// The folder to begin with.
    home: String,
    storages: Vec<(String, String)>,
}

/// `GET /start`
async fn show(view: View) -> Result<Response, Failure> {
    let (home, storages) = view
        .blocking(|state| {
            let config = state.paths.load_config()?;
            let title = |name: String| (name.clone(), config.title_of(&name).to_owned());
            let storages = config.names().into_iter().map(title).collect();
            let home = state.paths.home.as_ref().map(printable_os).unwrap_or_default();
            Ok::<_, Problem>((home, storages))
        })
        .await?;
    let frame =
        view.frame("First backup", Nav::None, "holdfast plan create NAME --to @STORAGE PLACE");
    Ok(html(&Page { frame, home, storages }))
}

#[derive(Debug, Deserialize)]
struct To {
    to: String,
}

#[derive(Template)]
#[template(path = "start-chosen.html")]
struct Chosen {
    name: String,
    title: String,
    location: String,
}

/// `GET /start/chosen?to=…`: a storage that is there already.
async fn choose(view: View, Query(to): Query<To>) -> Result<Response, Failure> {
    chosen(&view, to.to).await
}

/// The part of the page that stands for a chosen storage.
pub(crate) async fn chosen(view: &View, name: String) -> Result<Response, Failure> {
    let chosen = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            let place = state.paths.resolve(format!("@{name}").as_ref(), &config)?;
            let title = config.title_of(&name).to_owned();
            Ok::<_, Problem>(Chosen { title, location: place.to_string(), name })
        })
        .await?;
    Ok(html(&chosen))
}

/// `GET /start/passphrase?to=…`: what opens the repository there, or makes one.
async fn passphrase(view: View, Query(to): Query<To>) -> Result<Response, Failure> {
    storages::ready::part(&view, to.to).await
}

/// `POST /start/go`: makes the plan, and runs it.
async fn begin(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    let id = view
        .blocking(move |state| {
            let to = posted.text("to");
            if to.is_empty() {
                return Err(Problem::usage("nothing says yet where the backup goes")
                    .hint("answer the second question: choose or add a storage, and save it"));
            }
            let mut plan = Plan::new("First backup");
            let lines = posted.text("sources").lines().map(str::trim);
            plan.sources = lines.filter(|line| !line.is_empty()).map(String::from).collect();
            if plan.sources.is_empty() {
                return Err(Problem::usage("nothing says yet what is to be safe")
                    .hint("answer the first question: write at least one folder"));
            }
            if posted.text("caches") == "true" {
                plan.exclude = CACHES.map(String::from).to_vec();
                plan.exclude_caches = true;
            }
            plan.repository = to.to_owned();
            plan.schedule = Some(match posted.text("when") {
                "hourly" => "hourly".parse()?,
                "own" => posted.text("own").parse()?,
                _ => "daily at 02:30".parse()?,
            });
            for (rule, value) in
                [("hourly", "24"), ("daily", "7"), ("weekly", "5"), ("monthly", "12")]
            {
                plan.keep.set(rule, value)?;
            }
            // What cannot be opened unattended would fail in the night.
            let config = state.paths.load_config()?;
            let place = state.paths.resolve(format!("@{to}").as_ref(), &config)?;
            let access = state.paths.access(std::sync::Arc::new(holdfast_app::ask::Nobody));
            state.paths.open_repository(&place, &access)?;
            let home = state.paths.home.clone();
            let made = Config::edit(&state.paths.config, home, |config| config.create_plan(&plan))?;
            state.runner.start(Job::Plan(made.name), By::Console)
        })
        .await?;
    Ok(go(&headers, &format!("/runs/{id}")))
}
