//! Forgetting snapshots: which go, which stay and why, and what becomes free, before the act.

use askama::Template;
use axum::extract::{Path, RawQuery};
use axum::response::Response;
use holdfast_app::Problem;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::forget::Forget;
use holdfast_app::runs::By;
use holdfast_app::text::{plural, size};
use holdfast_app::times::now;
use holdfast_engine::ops::forget::protection;
use http::HeaderMap;

use crate::names::line;
use crate::pages::go;
use crate::pages::unlock::{Refused, with};
use crate::posted::Posted;
use crate::view::{Frame, Nav, View, html, pairs};
use crate::words;

#[derive(Debug)]
struct Going {
    id: String,
    short: String,
    when: String,
    size: String,
    /// Why it may not go.
    kept: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "forget.html")]
struct Page {
    frame: Frame,
    at: String,
    title: String,
    going: Vec<Going>,
    any_kept: bool,
    what: String,
    left: String,
    query: String,
}

/// What only they hold.
#[derive(Template)]
#[template(path = "freed.html")]
struct Free {
    bytes: String,
}

fn picks(query: Option<String>) -> Vec<String> {
    let pairs = pairs(query.unwrap_or_default().as_bytes());
    pairs.into_iter().filter(|(name, _)| name == "pick").map(|(_, id)| id).collect()
}

fn strs(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).collect()
}

/// `GET /forget/{at}?pick=…`
pub(super) async fn show(
    view: View,
    Path(at): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let query = query.unwrap_or_default();
    let ids = picks(Some(query.clone()));
    let (title, going, left) = with(&view, &at, true, move |_, open| {
        let chosen = open.chosen(&strs(&ids))?;
        let now = now();
        let going: Vec<_> = chosen
            .iter()
            .map(|info| Going {
                id: info.id.to_string(),
                short: info.id.short(),
                when: words::moment(info.record.time, now),
                size: size(info.record.sum().bytes),
                kept: protection(info, &open.notes),
            })
            .collect();
        let left = open.snapshots.len().saturating_sub(going.len()) as u64;
        Ok((open.title.clone(), going, plural(left, "snapshot stays", "snapshots stay")))
    })
    .await?;
    let shorts: Vec<_> = going.iter().map(|going| going.short.as_str()).collect();
    let frame = view.frame(
        "Forget snapshots",
        Nav::Snapshots,
        &line(&at, &format!("forget {}", shorts.join(" "))),
    );
    let what = plural(going.len() as u64, "snapshot", "snapshots");
    let any_kept = going.iter().any(|going| going.kept.is_some());
    Ok(html(&Page { frame, at, title, going, any_kept, what, left, query }))
}

/// `GET /forget/{at}/freed?pick=…`: a part of that page, which reads the structure of all snapshots.
pub(super) async fn freed_part(
    view: View,
    Path(at): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refused> {
    let ids = picks(query);
    let freed = with(&view, &at, false, move |_, open| open.freed(&open.chosen(&strs(&ids))?));
    Ok(html(&Free { bytes: size(freed.await?) }))
}

/// `POST /forget/{at}`: the act, as a run.
pub(super) async fn start(
    view: View,
    headers: HeaderMap,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Refused> {
    let ids: Vec<String> = posted.all("pick").map(String::from).collect();
    let run = with(&view, &at, true, move |state, open| {
        let snapshots: Vec<_> = open.chosen(&strs(&ids))?.iter().map(|info| info.id).collect();
        if snapshots.is_empty() {
            return Err(Problem::usage("no snapshot is picked"));
        }
        state.runner.start(Job::Forget(Forget { from: open.target(), snapshots }), By::Console)
    })
    .await?;
    Ok(go(&headers, &format!("/runs/{run}")))
}
