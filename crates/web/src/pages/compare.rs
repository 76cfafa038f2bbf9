//! Compare: what differs between two snapshots.

use askama::Template;
use axum::Router;
use axum::extract::Query;
use axum::response::Response;
use axum::routing::get;
use holdfast_app::text::{count, printable, size};
use holdfast_app::times::now;
use holdfast_app::{Problem, catalogue};
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::diff::{Change, ChangeKind, DiffOptions, DiffTotals, diff};
use holdfast_engine::tree::Entry;
use holdfast_engine::tree::view::normalize;
use serde::Deserialize;

use super::unlock::{Refused, with};
use crate::names::{self, line, spec, unescape};
use crate::opened::Open;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// Differences that are shown; all are counted.
const SHOWN: usize = 500;

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/compare", get(show))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    at: String,
    a: String,
    b: String,
    path: String,
}

#[derive(Debug)]
struct Row {
    path: String,
    href: String,
    what: &'static str,
    icon: &'static str,
    class: &'static str,
    before: String,
    after: String,
}

#[derive(Debug)]
struct Side {
    short: String,
    id: String,
    when: String,
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Page {
    frame: Frame,
    at: String,
    before: Side,
    after: Side,
    path: String,
    figures: Vec<(&'static str, String, String)>,
    rows: Vec<Row>,
    more: String,
}

/// `GET /compare?at=…&a=…&b=…`; without `a`, with the snapshot before.
async fn show(view: View, Query(asked): Query<Asked>) -> Result<Response, Refused> {
    let own = view.clone();
    let at = asked.at.clone();
    let page = with(&view, &at, false, move |_, open| compare(&own, open, &asked)).await?;
    Ok(html(&page))
}

fn compare(view: &View, open: &Open, asked: &Asked) -> Result<Page, Problem> {
    let mut after = open.snapshot(&asked.b)?;
    let mut before = match asked.a.as_str() {
        "" => open.before(after.id).ok_or_else(|| {
            Problem::usage("there is no snapshot of these places before this one")
                .hint("pick two snapshots in the list, then Compare")
        })?,
        id => open.snapshot(id)?,
    };
    if before.record.time > after.record.time {
        std::mem::swap(&mut before, &mut after);
    }
    let path = (!asked.path.is_empty()).then(|| normalize(&unescape(&asked.path)));
    let options = DiffOptions { path: path.clone() };
    let reader = open.reader();
    let (mut rows, now) = (Vec::new(), now());
    let at = &open.name;
    let totals =
        diff(&reader, before, after, &options, &NoMonitor, &Interrupt::new(), &mut |change| {
            if rows.len() < SHOWN {
                let id = if change.after.is_some() { after.id } else { before.id };
                rows.push(row(at, &id.to_string(), &change, now));
            }
            Ok(())
        })
        .map_err(|e| catalogue::explain(&e, None))?;
    let all = totals.added + totals.removed + totals.changed + totals.touched;
    let more = match all.saturating_sub(SHOWN as u64) {
        0 => String::new(),
        more => format!("{} further differences: say a folder to see them.", count(more)),
    };
    let shown_path = path.as_deref().map(printable).unwrap_or_default();
    let first = match &path {
        Some(path) => spec(&before.id.short(), path),
        None => before.id.short(),
    };
    let words = format!("diff {first} {}", after.id.short());
    let side = |info: &holdfast_engine::repo::snapshots::SnapshotInfo| Side {
        short: info.id.short(),
        id: info.id.to_string(),
        when: words::moment(info.record.time, now),
    };
    Ok(Page {
        frame: view.frame("Compare", Nav::Snapshots, &line(at, &words)),
        before: side(before),
        after: side(after),
        path: shown_path,
        figures: figures(&totals),
        rows,
        more,
        at: at.clone(),
    })
}

fn figures(totals: &DiffTotals) -> Vec<(&'static str, String, String)> {
    vec![
        ("New", count(totals.added), format!("{} with what changed", size(totals.bytes_added))),
        ("Changed", count(totals.changed), String::new()),
        (
            "Gone",
            count(totals.removed),
            format!("{} with what changed", size(totals.bytes_removed)),
        ),
        ("Only rights or times", count(totals.touched), String::new()),
    ]
}

fn row(at: &str, id: &str, change: &Change, now: i64) -> Row {
    let is_folder =
        |entry: &Option<Entry>| entry.as_ref().is_some_and(|e| e.metadata.kind == Kind::Directory);
    let folder = is_folder(&change.after) || is_folder(&change.before);
    let href = names::link(at, id, &change.path, folder);
    let (what, icon, class) = match change.kind {
        ChangeKind::Added => ("new", "i-plus", ""),
        ChangeKind::Removed => ("gone", "i-bad", ""),
        ChangeKind::Modified { kind: true, .. } => ("another type", "i-warn", "warn"),
        ChangeKind::Modified { content: true, .. } => ("changed", "i-back", ""),
        ChangeKind::Modified { .. } => ("rights or times", "i-todo", ""),
    };
    let text = |entry: &Option<Entry>| {
        entry.as_ref().map_or_else(String::new, |entry| {
            let m = &entry.metadata;
            let what = match m.kind {
                Kind::File => size(m.size),
                kind => kind.name().to_owned(),
            };
            format!("{what}, {}", words::moment(m.mtime.total_nanos(), now))
        })
    };
    Row {
        path: printable(&change.path),
        href,
        what,
        icon,
        class,
        before: text(&change.before),
        after: text(&change.after),
    }
}
