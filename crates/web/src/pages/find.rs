//! Find: files by name over all snapshots, grouped by path, each version with where it is.

use std::collections::HashMap;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::get;
use holdfast_app::text::{count, parse_size, plural, printable, shell_word, size};
use holdfast_app::times::now;
use holdfast_app::{Problem, catalogue, patterns, times};
use holdfast_engine::meta::Kind;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::find::{FindOptions, Found, find};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::view::normalize;
use serde::Deserialize;

use super::snapshots::{Storage, encode, location};
use super::unlock::{Refused, with};
use crate::names::{self, escape, line, parent};
use crate::opened::Open;
use crate::state::Shared;
use crate::view::{Frame, Nav, View, html};
use crate::words;

/// Paths that are shown.
const SHOWN: usize = 200;
/// Versions of a path that are shown.
const VERSIONS: usize = 20;

/// The addresses.
pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/find", get(show)).route("/find/{at}", get(found))
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Asked {
    pub(crate) at: String,
    pub(crate) q: String,
    pub(crate) below: String,
    pub(crate) kind: String,
    pub(crate) larger: String,
    pub(crate) newer: String,
}

impl Asked {
    pub(crate) fn is_empty(&self) -> bool {
        [&self.q, &self.larger, &self.newer].into_iter().all(|text| text.trim().is_empty())
    }

    /// The pattern that the words mean: a part of a name, unless they say more.
    fn pattern(&self) -> Option<String> {
        let words = self.q.trim();
        if words.is_empty() {
            return None;
        }
        Some(match words.contains(['*', '?', '[', '{', '/', '\\']) {
            true => words.to_owned(),
            false => format!("*{words}*"),
        })
    }

    fn query(&self) -> String {
        [
            ("q", &self.q),
            ("below", &self.below),
            ("kind", &self.kind),
            ("larger", &self.larger),
            ("newer", &self.newer),
        ]
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("&{name}={}", encode(value)))
        .collect()
    }

    fn words(&self) -> String {
        let mut words = "find -i".to_owned();
        if let Some(pattern) = self.pattern() {
            words.push_str(&format!(" {}", shell_word(pattern)));
        }
        for (name, value) in [
            ("below", &self.below),
            ("type", &self.kind),
            ("larger", &self.larger),
            ("newer", &self.newer),
        ] {
            if !value.trim().is_empty() {
                words.push_str(&format!(" --{name} {}", shell_word(value.trim())));
            }
        }
        words
    }

    pub(crate) fn options(&self) -> Result<FindOptions, Problem> {
        let set = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
        let larger = set(&self.larger).map(|text| {
            parse_size(&text).ok_or_else(|| {
                Problem::usage(format!("{text} is no size")).hint("write 4096, 100K, 10M or 1.5G")
            })
        });
        let newer = set(&self.newer).map(|text| {
            times::parse(&text).ok_or_else(|| {
                Problem::usage(format!("{text} is no time"))
                    .hint("write 2026-11-20, \"2 days ago\" or yesterday")
            })
        });
        let kinds = match self.kind.as_str() {
            "file" => vec![Kind::File],
            "dir" => vec![Kind::Directory],
            _ => Vec::new(),
        };
        let pattern: Vec<_> = self.pattern().into_iter().collect();
        Ok(FindOptions {
            below: set(&self.below).map(|path| normalize(path.as_bytes())),
            path: patterns::path_test(&pattern, true)?,
            kinds,
            larger: larger.transpose()?,
            newer: newer.transpose()?,
            ..FindOptions::default()
        })
    }
}

#[derive(Template)]
#[template(path = "find.html")]
struct Page {
    frame: Frame,
    at: String,
    storages: Vec<Storage>,
    asked: Asked,
    query: Option<String>,
}

/// `GET /find`
async fn show(view: View, Query(mut asked): Query<Asked>) -> Result<Response, Refused> {
    let (at, storages) = match location(&view, &asked.at, "Find", Nav::Find).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    asked.at.clone_from(&at);
    let frame = view.frame("Find", Nav::Find, &line(&at, &asked.words()));
    let query = (!asked.is_empty()).then(|| asked.query());
    Ok(html(&Page { frame, at, storages, asked, query }))
}

#[derive(Debug)]
struct Version {
    what: String,
    changed: String,
    held: String,
    href: String,
    restore: String,
}

#[derive(Debug)]
struct Hit {
    path: String,
    href: String,
    icon: &'static str,
    versions: Vec<Version>,
    more: String,
}

#[derive(Template)]
#[template(path = "found.html")]
struct Results {
    at: String,
    told: String,
    hits: Vec<Hit>,
    more: String,
    unread: String,
}

/// `GET /find/{at}?q=…`: the results, a part of the page.
async fn found(
    view: View,
    Path(at): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refused> {
    let results = with(&view, &at, false, move |_, open| search(open, &asked)).await?;
    Ok(html(&results))
}

fn search(open: &Open, asked: &Asked) -> Result<Results, Problem> {
    let options = asked.options()?;
    let reader = open.reader();
    let mut snapshots = open.snapshots.clone();
    snapshots.retain(|info| !info.record.partial);
    let report = find(&reader, &snapshots, &options, &NoMonitor, &Interrupt::new())
        .map_err(|e| catalogue::explain(&e, None))?;
    let by_id: HashMap<_, _> = snapshots.iter().map(|info| (info.id, info)).collect();
    let all = report.found.len();
    let versions: u64 = report.found.iter().map(|found| found.versions.len() as u64).sum();
    let told = format!(
        "{} of {}, in {} searched",
        plural(versions, "version", "versions"),
        plural(all as u64, "path", "paths"),
        plural(report.snapshots, "snapshot", "snapshots"),
    );
    let hits = report.found.iter().take(SHOWN).map(|found| hit(open, &by_id, found)).collect();
    let more = match all.saturating_sub(SHOWN) {
        0 => String::new(),
        more => {
            format!("{} further paths fit: say more of the name, or a folder.", count(more as u64))
        }
    };
    let unread = match report.unread {
        0 => String::new(),
        unread => format!(
            "{} could not be read, so that something may be missing: check the repository.",
            plural(unread, "part of the trees", "parts of the trees")
        ),
    };
    Ok(Results { at: open.name.clone(), told, hits, more, unread })
}

fn hit(
    open: &Open,
    by_id: &HashMap<holdfast_engine::hash::SnapshotId, &SnapshotInfo>,
    found: &Found,
) -> Hit {
    let (at, now) = (&open.name, now());
    let (file, folder) = (escape(&found.path), escape(parent(&found.path)));
    let mut is_folder = false;
    let mut versions = Vec::new();
    // The newest first.
    for version in found.versions.iter().rev().take(VERSIONS) {
        let m = &version.metadata;
        let last = version.snapshots.iter().filter_map(|run| by_id.get(&run.last));
        let Some(last) = last.max_by_key(|info| info.record.time) else { continue };
        is_folder = m.kind == Kind::Directory;
        let held: u64 = version.snapshots.iter().map(|run| run.count).sum();
        let id = last.id;
        versions.push(Version {
            what: if m.kind == Kind::File { size(m.size) } else { m.kind.name().to_owned() },
            changed: words::moment(m.mtime.total_nanos(), now),
            held: format!(
                "in {}, last {}",
                plural(held, "snapshot", "snapshots"),
                words::moment(last.record.time, now)
            ),
            href: names::link(at, &id.to_string(), &found.path, is_folder),
            restore: format!("/restore/{at}/{id}?path={folder}&pick={file}"),
        });
    }
    let more = match found.versions.len().saturating_sub(VERSIONS) {
        0 => String::new(),
        more => format!("{} older versions", count(more as u64)),
    };
    Hit {
        path: printable(&found.path),
        href: versions.first().map(|version| version.href.clone()).unwrap_or_default(),
        icon: if is_folder { "i-folder" } else { "i-file" },
        versions,
        more,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_parts_of_names_unless_they_say_more() {
        let pattern = |q: &str| Asked { q: q.into(), ..Asked::default() }.pattern();
        assert_eq!(pattern(" report "), Some("*report*".into()));
        assert_eq!(pattern("*.jpg"), Some("*.jpg".into()));
        assert_eq!(pattern("anna/x"), Some("anna/x".into()));
        assert_eq!(pattern("  "), None);
    }
}
