//! A repository: its size over time, what deduplication saves, checks, gc with a preview, and what
//! opens it ([`keys`]).

mod chart;
mod keys;

use askama::Template;
use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::Problem;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::check::Check;
use holdfast_app::jobs::gc::Gc;
use holdfast_app::runs::By;
use holdfast_app::text::{count, duration, plural, printable, size};
use holdfast_app::times::now;
use http::HeaderMap;

use self::chart::Chart;
use super::unlock::{Refused, with};
use crate::names::line;
use crate::opened::Open;
use crate::pages::go;
use crate::posted::Posted;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};
use crate::words::{self, Sign};

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/repository/{at}", get(show))
        .route("/repository/{at}/figures", get(figures))
        .route("/repository/{at}/gc", get(gc_preview).post(start_gc))
        .route("/repository/{at}/check", post(start_check))
        .route("/repository/{at}/keys", get(keys::list).post(keys::add))
        .route("/repository/{at}/keys/remove", post(keys::remove))
}

/// The last check in the history.
#[derive(Debug)]
struct Checked {
    run: i64,
    when: String,
    sign: Sign,
    told: String,
}

#[derive(Template)]
#[template(path = "repository.html")]
struct Page {
    frame: Frame,
    at: String,
    title: String,
    location: String,
    encrypted: bool,
    snapshots: String,
    warnings: Vec<String>,
    chart: Option<Chart>,
    checked: Option<Checked>,
}

/// `GET /repository/{at}`
async fn show(view: View, Path(at): Path<String>) -> Result<Response, Refused> {
    let own = view.clone();
    let page = with(&view, &at, true, move |state, open| page(&own, state, open)).await?;
    Ok(html(&page))
}

fn page(view: &View, state: &State, open: &Open) -> Result<Page, Problem> {
    let at = open.name.clone();
    let frame =
        view.frame(&format!("{}, repository", open.title), Nav::Storages, &line(&at, "info"));
    Ok(Page {
        frame,
        title: open.title.clone(),
        location: printable(open.repository.location().as_bytes()),
        encrypted: open.repository.config().is_encrypted(),
        snapshots: plural(open.snapshots.len() as u64, "snapshot", "snapshots"),
        warnings: open.warnings.clone(),
        chart: Chart::of(&open.snapshots),
        checked: checked(state, &at)?,
        at,
    })
}

/// The newest check of this repository that ended or is at work.
fn checked(state: &State, at: &str) -> Result<Option<Checked>, Problem> {
    let run = state.runner.history().last_check(&format!("@{at}"), false)?;
    Ok(run.map(|run| Checked {
        run: run.id,
        when: words::moment(run.ended.unwrap_or(run.started), now()),
        sign: words::sign(run.outcome),
        told: match (&run.report.problem, run.outcome.is_good()) {
            (Some(problem), _) => problem.message.clone(),
            (None, true) => format!(
                "{} and {}, {} read and compared. No damage.",
                plural(run.report.number("snapshots_checked"), "snapshot", "snapshots"),
                plural(run.report.number("packs_checked"), "pack", "packs"),
                size(run.report.number("bytes_checked")),
            ),
            (None, false) => String::new(),
        },
    }))
}

#[derive(Template)]
#[template(path = "repository-figures.html")]
struct Figures {
    figures: Vec<(&'static str, String, String)>,
}

/// `GET /repository/{at}/figures`: a part of the page, for which the storage is listed.
async fn figures(view: View, Path(at): Path<String>) -> Result<Response, Refused> {
    let found = with(&view, &at, false, move |state, open| state.measure(open)).await?;
    let times = |ratio: f64| format!("{ratio:.1} ×");
    let saved = found.logical.bytes.saturating_sub(found.plain());
    let figures = vec![
        (
            "Stored",
            size(found.stored + found.index),
            format!("in {}", plural(found.packs, "pack", "packs")),
        ),
        (
            "All snapshots, full size",
            size(found.logical.bytes),
            plural(found.snapshots, "snapshot", "snapshots"),
        ),
        (
            "Saved by deduplication",
            times(found.deduplication()),
            format!("{} not stored twice", size(saved)),
        ),
        ("Saved by compression", times(found.compression()), "zstd".to_owned()),
        ("Different pieces", count(found.blobs()), format!("{} plain", size(found.plain()))),
    ];
    Ok(html(&Figures { figures }))
}

#[derive(Template)]
#[template(path = "gc-preview.html")]
struct Preview {
    at: String,
    csrf: String,
    frees: String,
    nothing: bool,
    facts: Vec<(&'static str, String)>,
    waits: Vec<String>,
    shut_out: Vec<String>,
}

/// `GET /repository/{at}/gc`: what a gc would do, a part of the page.
async fn gc_preview(view: View, Path(at): Path<String>) -> Result<Response, Refused> {
    let csrf = view.session.csrf.clone();
    let name = at.clone();
    let plan = with(&view, &at, false, move |_, open| open.gc_plan()).await?;
    let amount = |amount: holdfast_engine::ops::gc::Amount| {
        format!("{}, {}", size(amount.bytes), plural(amount.count, "pack", "packs"))
    };
    let mut facts = vec![("Needed", size(plan.needed))];
    for (name, what) in [
        ("Not needed at all", plan.dead),
        ("Of interrupted runs", plan.orphans),
        ("Condemned before", plan.condemned),
        ("Mostly not needed", plan.sparse),
        ("Of running backups, left alone", plan.young),
    ] {
        if what.count > 0 {
            facts.push((name, amount(what)));
        }
    }
    if plan.moved > 0 {
        facts.push(("Copied out of them", size(plan.moved)));
    }
    let session = |session: &holdfast_engine::repo::sessions::OpenSession| {
        let text = |text: &str| printable(text.as_bytes());
        format!(
            "{} on {}, process {}, alive {} ago",
            text(&session.verb),
            text(&session.host),
            session.process,
            duration(session.silent)
        )
    };
    Ok(html(&Preview {
        at: name,
        csrf,
        frees: size(plan.frees()),
        nothing: plan.frees() == 0,
        facts,
        waits: plan.open.iter().map(session).collect(),
        shut_out: plan.shut_out.iter().map(session).collect(),
    }))
}

/// `POST /repository/{at}/gc`
async fn start_gc(
    view: View,
    headers: HeaderMap,
    Path(at): Path<String>,
) -> Result<Response, Refused> {
    let run = with(&view, &at, false, move |state, open| {
        let gc = Gc { repository: open.target(), ..Gc::default() };
        state.runner.start(Job::Gc(gc), By::Console)
    })
    .await?;
    Ok(go(&headers, &format!("/runs/{run}")))
}

/// How much of the data is read, in percent.
fn share(text: &str) -> Result<u8, Problem> {
    text.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| {
        let shown = printable(text.as_bytes());
        Problem::usage(format!("{shown:?} is no share of the data in percent"))
            .hint("write 0 (structure alone) to 100")
    })
}

/// `POST /repository/{at}/check`
async fn start_check(
    view: View,
    headers: HeaderMap,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Refused> {
    let run = with(&view, &at, false, move |state, open| {
        let data = share(posted.text("data"))?;
        let check = Check { repository: open.target(), data, ..Check::default() };
        state.runner.start(Job::Check(check), By::Console)
    })
    .await?;
    Ok(go(&headers, &format!("/runs/{run}")))
}
