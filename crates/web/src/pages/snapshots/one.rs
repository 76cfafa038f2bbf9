//! A single snapshot: what it holds, what could not be read, and what is said of it.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;
use holdfast_app::text::{count, duration, plural, printable, size};
use holdfast_app::times::{local, now};
use holdfast_engine::repo::notes::Change;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use http::HeaderMap;

use super::browse;
use crate::names::line;
use crate::opened::Open;
use crate::pages::go;
use crate::pages::unlock::{Refused, with};
use crate::posted::Posted;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// Unread files that the page names.
const NAMED: usize = 200;

/// What the page shows.
#[derive(Debug)]
struct Shown {
    title: String,
    id: String,
    short: String,
    when: String,
    partial: bool,
    pinned: bool,
    tags: String,
    description: String,
    facts: Vec<(&'static str, String)>,
    places: Vec<(String, String)>,
    unread: Vec<(String, String)>,
    unread_all: String,
    unread_more: bool,
    before: Option<String>,
}

#[derive(Template)]
#[template(path = "snapshot.html")]
struct Page {
    frame: Frame,
    at: String,
    shown: Shown,
}

/// `GET /snapshots/{at}/{id}`
pub(super) async fn show(
    view: View,
    Path((at, id)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let name = at.clone();
    let shown = with(&view, &at, false, move |_, open| {
        let info = open.snapshot(&id)?;
        Ok(shown(open, info, &name))
    })
    .await?;
    let line = line(&at, &format!("info {}", shown.short));
    let frame = view.frame(&format!("Snapshot {}", shown.short), Nav::Snapshots, &line);
    Ok(html(&Page { frame, at, shown }))
}

fn shown(open: &Open, info: &SnapshotInfo, at: &str) -> Shown {
    let record = &info.record;
    let sum = record.sum();
    let text = |text: &str| printable(text.as_bytes());
    let mut facts = vec![
        ("Taken", local(record.time)),
        ("Host", text(&record.host)),
        ("By", format!("{}, {}", text(&record.user), text(&record.program))),
        (
            "Holds",
            format!(
                "{}, {}, {}",
                plural(sum.files, "file", "files"),
                plural(sum.directories, "folder", "folders"),
                size(sum.bytes)
            ),
        ),
    ];
    if let Some(stats) = &record.stats {
        let (new, changed) = (count(stats.files_new), count(stats.files_changed));
        facts.push(("Against the one before", format!("{new} new, {changed} changed")));
        let (read, stored) = (size(stats.bytes_read), size(stats.bytes_stored));
        let time = duration(std::time::Duration::from_nanos(stats.nanos));
        facts.push(("Read and stored", format!("{read} read, {stored} stored, in {time}")));
    }
    if !record.excludes.is_empty() {
        facts.push(("Left out", text(&record.excludes.join("  "))));
    }
    let id = info.id.to_string();
    let places =
        record.roots.iter().map(|root| (printable(&root.path), browse(at, &id, &root.path)));
    let unread = record.unread.iter().take(NAMED);
    Shown {
        title: open.title.clone(),
        short: info.id.short(),
        when: words::moment(record.time, now()),
        partial: record.partial,
        pinned: record.pinned,
        tags: text(&record.tags.join(", ")),
        description: text(&record.description),
        facts,
        places: places.collect(),
        unread: unread.map(|u| (printable(&u.path), text(&u.reason))).collect(),
        unread_all: plural(sum.errors, "file", "files"),
        unread_more: sum.errors > NAMED.min(record.unread.len()) as u64,
        before: open.before(info.id).map(|info| info.id.to_string()),
        id,
    }
}

/// `POST /snapshots/{at}/{id}`: tags, description and pin as the form says.
pub(super) async fn save(
    view: View,
    headers: HeaderMap,
    Path((at, id)): Path<(String, String)>,
    posted: Posted,
) -> Result<Response, Refused> {
    let address = format!("/snapshots/{at}/{id}");
    with(&view, &at, true, move |state, open| {
        let tags = posted.text("tags").split([',', ' ']).map(str::trim);
        let change = Change {
            replace_tags: true,
            add_tags: tags.filter(|tag| !tag.is_empty()).map(String::from).collect(),
            description: Some(posted.text("description").trim().to_owned()),
            pinned: Some(posted.text("pinned") == "true"),
            ..Change::default()
        };
        open.annotate(open.snapshot(&id)?, &change)?;
        // The page that comes next shows it as it is then.
        state.shelf.open(&state.paths, &open.name, true).map(drop)
    })
    .await?;
    Ok(go(&headers, &address))
}
