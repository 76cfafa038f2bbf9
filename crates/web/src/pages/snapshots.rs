//! Snapshots: what there is of each day, narrowed by filters; picked ones are compared, kept,
//! forgotten. [`days`] groups them, [`one`] is the page of a single one, [`forget`] shows the effect
//! before the act.

mod days;
mod forget;
mod one;

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use holdfast_app::text::{count, plural, printable, shell_word, size};
use holdfast_app::unattended::is_ready;
use holdfast_app::{Problem, times};
use holdfast_engine::repo::notes::Change;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use holdfast_engine::tree::view::normalize;
use http::HeaderMap;
use serde::Deserialize;

use super::unlock::{Refused, with};
use crate::names::{self, line};
use crate::opened::Open;
use crate::pages::go;
use crate::posted::Posted;
use crate::record::Unchanged;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// Snapshots on one page of the list.
const PAGE: usize = 100;

/// The addresses of snapshots.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/snapshots", get(list))
        .route("/snapshots/{at}/picked", post(picked))
        .route("/snapshots/{at}/{id}", get(one::show).post(one::save))
        .route("/forget/{at}", get(forget::show).post(forget::start))
        .route("/forget/{at}/freed", get(forget::freed_part))
}

/// A named location, for choices.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) name: String,
    pub(crate) title: String,
}

/// All named locations: the default one first, then those whose repositories open by themselves.
pub(crate) fn storages(state: &State) -> Result<Vec<Storage>, Problem> {
    let config = state.paths.load_config()?;
    let is_ready = |name: &str| {
        let place = state.paths.resolve(format!("@{name}").as_ref(), &config);
        place.is_ok_and(|place| is_ready(&place))
    };
    let mut names = config.names();
    names
        .sort_by_cached_key(|name| (config.default_name() != Some(name.as_str()), !is_ready(name)));
    let storage = |name: String| Storage { title: config.title_of(&name).to_owned(), name };
    Ok(names.into_iter().map(storage).collect())
}

/// A page of a repository when there is none yet.
#[derive(Template)]
#[template(path = "no-storage.html")]
struct NoStorage {
    frame: Frame,
    heading: &'static str,
}

/// The location that an address names, or the first one; where there is none at all, the page that
/// says so. Errors: it names one that is not there. What passes stands in addresses of the page.
pub(crate) async fn location(
    view: &View,
    at: &str,
    heading: &'static str,
    nav: Nav,
) -> Result<Result<(String, Vec<Storage>), Response>, Refused> {
    let storages = view.blocking(storages).await?;
    let first = storages.first().map(|storage| storage.name.clone());
    Ok(match (at, first) {
        (_, None) => {
            let frame = view.frame(heading, nav, "holdfast config repository create NAME");
            Err(html(&NoStorage { frame, heading }))
        }
        ("", Some(first)) => Ok((first, storages)),
        (at, _) => {
            let name = at.to_owned();
            view.blocking(move |state| state.paths.load_config()?.expect(&name).map(drop)).await?;
            Ok((at.to_owned(), storages))
        }
    })
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Asked {
    at: String,
    plan: String,
    tag: String,
    host: String,
    path: String,
    partial: String,
    from: usize,
}

impl Asked {
    fn filter(&self) -> Filter {
        let mut tags: Vec<String> =
            self.tag.split([',', ' ']).filter(|tag| !tag.is_empty()).map(String::from).collect();
        if !self.plan.is_empty() {
            tags.push(plan_tag(&self.plan));
        }
        let set = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Filter {
            tags,
            host: set(self.host.trim()),
            path: set(self.path.trim()).map(|path| normalize(path.as_bytes())),
            until: None,
            partial: false,
        }
    }

    /// The same question with another beginning.
    fn address(&self, from: usize, partial: bool) -> String {
        let mut address = format!("/snapshots?at={}", self.at);
        for (name, value) in
            [("plan", &self.plan), ("tag", &self.tag), ("host", &self.host), ("path", &self.path)]
        {
            if !value.is_empty() {
                address.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        if partial {
            address.push_str("&partial=1");
        }
        if from > 0 {
            address.push_str(&format!("&from={from}"));
        }
        address
    }

    fn words(&self) -> String {
        let mut words = "ls".to_owned();
        for tag in self.filter().tags {
            words.push_str(&format!(" --tag {}", shell_word(tag)));
        }
        for (name, value) in [("host", self.host.trim()), ("path", self.path.trim())] {
            if !value.is_empty() {
                words.push_str(&format!(" --{name} {}", shell_word(value)));
            }
        }
        if !self.partial.is_empty() {
            words.push_str(" --partial");
        }
        words
    }
}

/// The tag of a plan's snapshots.
pub(crate) fn plan_tag(plan: &str) -> String {
    format!("{}{plan}", holdfast_app::retention::group::PLAN_TAG)
}

/// Text in a query.
pub(crate) fn encode(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
    text.bytes()
        .map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") })
        .collect()
}

/// A snapshot as a row.
#[derive(Debug)]
struct Row {
    /// A heading before it, if it begins a group.
    group: Option<String>,
    time: String,
    id: String,
    short: String,
    files: String,
    size: String,
    added: String,
    unread: String,
    pinned: bool,
    partial: bool,
    tags: Vec<String>,
    description: String,
}

fn row(info: &SnapshotInfo) -> Row {
    let record = &info.record;
    let sum = record.sum();
    let unread = match sum.errors {
        0 => String::new(),
        errors => format!("{} unread", plural(errors, "file", "files")),
    };
    let shown = |text: &String| printable(text.as_bytes());
    Row {
        group: None,
        time: String::new(),
        id: info.id.to_string(),
        short: info.id.short(),
        files: count(sum.files),
        size: size(sum.bytes),
        added: record.stats.as_ref().map(|stats| size(stats.bytes_stored)).unwrap_or_default(),
        unread,
        pinned: record.pinned,
        partial: record.partial,
        tags: record.tags.iter().map(shown).collect(),
        description: shown(&record.description),
    }
}

#[derive(Template)]
#[template(path = "snapshots.html")]
struct List {
    frame: Frame,
    at: String,
    storages: Vec<Storage>,
    plans: Vec<String>,
    asked: Asked,
    narrowed: bool,
    sub: String,
    rows: Vec<Row>,
    hidden: Option<(String, String)>,
    newer: Option<String>,
    older: Option<(String, String)>,
    warnings: Vec<String>,
    any: bool,
}

/// What the list shows.
struct Shown {
    sub: String,
    rows: Vec<Row>,
    partial: usize,
    older: usize,
    plans: Vec<String>,
    warnings: Vec<String>,
    any: bool,
}

/// `GET /snapshots`
async fn list(view: View, Query(mut asked): Query<Asked>) -> Result<Response, Refused> {
    let (at, storages) = match location(&view, &asked.at, "Snapshots", Nav::Snapshots).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    asked.at.clone_from(&at);
    let question = asked.clone();
    let shown = with(&view, &at, true, move |state, open| {
        let plans = state.paths.load_config()?.plans().into_iter().map(|(name, _)| name).collect();
        Ok(shown(open, &question, plans))
    })
    .await?;
    let frame = view.frame("Snapshots", Nav::Snapshots, &line(&at, &asked.words()));
    let empty = |text: &String| text.trim().is_empty();
    let narrowed = ![&asked.plan, &asked.tag, &asked.host, &asked.path].into_iter().all(empty);
    let is_hidden = shown.partial > 0 && asked.partial.is_empty();
    let hidden = is_hidden.then(|| {
        let what = plural(shown.partial as u64, "partial snapshot", "partial snapshots");
        (format!("{what} of interrupted runs not shown."), asked.address(0, true))
    });
    let partial = !asked.partial.is_empty();
    let older = (shown.older > 0).then(|| {
        (
            format!("{} older", count(shown.older as u64)),
            asked.address(asked.from.saturating_add(PAGE), partial),
        )
    });
    let newer = (asked.from > 0).then(|| asked.address(asked.from.saturating_sub(PAGE), partial));
    Ok(html(&List {
        frame,
        at,
        storages,
        plans: shown.plans,
        asked,
        narrowed,
        sub: shown.sub,
        rows: shown.rows,
        hidden,
        newer,
        older,
        warnings: shown.warnings,
        any: shown.any,
    }))
}

fn shown(open: &Open, asked: &Asked, plans: Vec<String>) -> Shown {
    let filter = asked.filter();
    let with_partial = Filter { partial: true, ..filter.clone() };
    let all = open.snapshots.iter().rev();
    let fitting: Vec<_> = all
        .filter(|info| match asked.partial.is_empty() {
            true => filter.admits(&info.record),
            false => with_partial.admits(&info.record) && info.record.partial,
        })
        .collect();
    let admitted =
        |filter: &Filter| open.snapshots.iter().filter(|info| filter.admits(&info.record)).count();
    let partial = admitted(&with_partial) - admitted(&filter);
    let now = times::now();
    let sub = match (fitting.first(), fitting.last()) {
        (Some(newest), Some(oldest)) => format!(
            "{} of {} in {}. Newest: {}. Oldest: {}.",
            count(fitting.len() as u64),
            count(open.snapshots.len() as u64),
            open.title,
            words::moment(newest.record.time, now),
            words::moment(oldest.record.time, now),
        ),
        _ => format!("None of {} in {}.", count(open.snapshots.len() as u64), open.title),
    };
    let page: Vec<_> = fitting.iter().skip(asked.from).take(PAGE).copied().collect();
    let mut rows: Vec<_> = page.iter().map(|info| row(info)).collect();
    let times: Vec<_> = page.iter().map(|info| info.record.time).collect();
    for (row, day) in rows.iter_mut().zip(days::days(&times, now)) {
        row.group = day.group;
        row.time = day.time;
    }
    let older = fitting.len().saturating_sub(asked.from.saturating_add(PAGE));
    Shown {
        sub,
        rows,
        partial,
        older,
        plans,
        warnings: open.warnings.clone(),
        any: !open.snapshots.is_empty(),
    }
}

/// `POST /snapshots/{at}/picked`: what is to be done with those that were picked.
async fn picked(
    view: View,
    headers: HeaderMap,
    Path(at): Path<String>,
    posted: Posted,
) -> Result<Response, Refused> {
    // The page that it leads to says what comes of it.
    let on = |to: &str| (Extension(Unchanged), Redirect::to(to)).into_response();
    let picks: Vec<String> = posted.all("pick").map(encode).collect();
    let to = encode(&at);
    if picks.is_empty() {
        return Err(Problem::usage("no snapshot is picked")
            .hint("go back, and mark those that are meant")
            .into());
    }
    match posted.text("do") {
        "compare" => match &picks[..] {
            [after, before] => Ok(on(&format!("/compare?at={to}&a={before}&b={after}"))),
            [only] => Ok(on(&format!("/compare?at={to}&b={only}"))),
            _ => Err(Problem::usage("more than two snapshots are picked")
                .hint("go back, and pick the two to compare")
                .into()),
        },
        "forget" => {
            let picks: String = picks.iter().map(|pick| format!("&pick={pick}")).collect();
            Ok(on(&format!("/forget/{to}?{}", picks.trim_start_matches('&'))))
        }
        "keep" => {
            let name = at.clone();
            with(&view, &name, true, move |_, open| {
                let ids: Vec<&str> = picks.iter().map(String::as_str).collect();
                let change = Change { pinned: Some(true), ..Change::default() };
                for info in open.chosen(&ids)? {
                    open.annotate(info, &change)?;
                }
                Ok(())
            })
            .await?;
            Ok(go(&headers, &format!("/snapshots?at={}", encode(&at))))
        }
        _ => Err(Problem::usage("nothing says what is to be done with what is picked")
            .hint("go back, and press Keep, Forget or Compare")
            .into()),
    }
}

/// The link to a snapshot's files.
pub(crate) fn browse(at: &str, id: &str, path: &[u8]) -> String {
    format!("/browse/{at}/{id}?path={}", names::escape(path))
}
