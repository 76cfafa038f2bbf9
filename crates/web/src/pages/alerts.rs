//! Alerts: who is told when something goes wrong, a test of each channel, and what was sent.

mod form;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::{Config, Problem, notify, times};

use crate::failure::{Failure, Note};
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// Deliveries that are shown.
const SENT: u32 = 50;

/// The addresses of alerts.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/alerts", get(list))
        .route("/alerts/{name}/test", post(test))
        .route("/add-channel", get(form::add))
        .route("/channels/{name}", get(form::edit))
        .route("/channels/{name}/remove", post(form::remove))
        .route("/channel-form/save", post(form::save))
        .route("/channel-form/test", post(form::test))
}

#[derive(Debug)]
struct Row {
    name: String,
    title: String,
    kind: &'static str,
    plans: Vec<String>,
    note: Option<Note>,
}

#[derive(Debug)]
struct Sent {
    when: String,
    channel: String,
    event: String,
    plan: String,
    error: String,
}

#[derive(Template)]
#[template(path = "alerts.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    sent: Vec<Sent>,
}

#[derive(Template)]
#[template(path = "alert-tested.html")]
struct Tested {
    name: String,
}

/// `GET /alerts`
async fn list(view: View) -> Result<Response, Failure> {
    let frame = view.frame("Alerts", Nav::Alerts, "holdfast channel list");
    let page = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            let rows = config.channel_names().into_iter().map(|name| row(&config, name)).collect();
            let now = times::now();
            let sent = state.runner.history().deliveries(Some(SENT))?;
            let sent = sent.into_iter().map(|sent| Sent {
                when: words::moment(sent.time, now),
                channel: sent.channel,
                event: sent.event,
                plan: sent.plan.unwrap_or_default(),
                error: sent.error.unwrap_or_default(),
            });
            Ok::<_, Problem>(Page { frame, rows, sent: sent.collect() })
        })
        .await?;
    Ok(html(&page))
}

fn row(config: &Config, name: String) -> Row {
    let plans = told(config, &name);
    match config.channel(&name) {
        Ok(channel) => Row {
            title: channel.title.unwrap_or_else(|| name.clone()),
            kind: channel.kind.name(),
            note: None,
            name,
            plans,
        },
        Err(problem) => {
            Row { title: name.clone(), kind: "", note: Some(Note::from(&problem)), name, plans }
        }
    }
}

/// The plans that tell a channel of something.
fn told(config: &Config, name: &str) -> Vec<String> {
    let plans = config.plans().into_iter().filter_map(|(_, plan)| plan.ok());
    let plans = plans.filter(|plan| plan.notify.iter().any(|notify| notify.channel == name));
    plans.map(|plan| plan.shown().to_owned()).collect()
}

/// `POST /alerts/{name}/test`
async fn test(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let name = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            notify::test(&config, state.runner.history(), &name)?;
            Ok::<_, Problem>(name)
        })
        .await?;
    Ok(html(&Tested { name }))
}
