//! Looking into snapshots: a directory page by page, and files by name over all snapshots. Names of
//! files say much of their owner, so that this needs what a restore needs.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::json::{Entry, Version};
use holdfast_app::{Problem, catalogue};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::find::find;
use serde::Deserialize;
use serde_json::json;

use super::ask::{Asked, At, path};
use super::describe::{Type, may, must};
use super::shapes::{ENTRY, PATH_BYTES, VERSION};
use super::{Operation, opened, value};
use crate::accounts::Scope;
use crate::names::{escape, unescape};
use crate::pages::browse::folder::{Entries, Folder, Order, join};
use crate::pages::find::Asked as Wanted;
use crate::state::Shared;

/// Versions that one search lists where nothing else is asked for, and at most.
const LIMIT: (usize, usize) = (1000, 10_000);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages/{name}/snapshots/{id}/files",
            Scope::Restore,
            "A directory of a snapshot, page by page",
            list,
        )
        .query(&[
            may("path", Type::Text, "The directory; / holds the snapshot's places"),
            PATH_BYTES,
            may("sort", Type::Text, "name, size or time; - before it turns it round"),
            may("q", Type::Text, "Only names with this in them"),
            may("next", Type::Text, "Where to go on, as the page before said"),
        ])
        .answer(&[
            must("entries", Type::Objects(ENTRY), "What is in it"),
            may("next", Type::Text, "Where to go on; null: these were the last"),
            may("all", Type::Whole, "How many fit; null where not all were read"),
        ]),
        Operation::get(
            "/api/v1/storages/{name}/find",
            Scope::Restore,
            "Versions of files by name, size and time, over all complete snapshots",
            search,
        )
        .query(&[
            may("q", Type::Text, "A part of the name, or a pattern"),
            may("below", Type::Text, "Only at and below this absolute path"),
            may("kind", Type::Text, "file or dir"),
            may("larger", Type::Text, "Only files larger than 4096, 10M, …"),
            may("newer", Type::Text, "Only what was modified after that"),
            may("limit", Type::Whole, "At most so many: 1000, at most 10000"),
        ])
        .answer(&[
            must("versions", Type::Objects(VERSION), "What was found"),
            must("all", Type::Whole, "How many there are"),
            must("snapshots", Type::Whole, "Snapshots that were searched"),
            must("unread", Type::Whole, "Parts of trees that could not be read"),
        ]),
    ]
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Where {
    path: Option<String>,
    path_bytes: Option<String>,
    sort: String,
    q: String,
    next: String,
}

/// Where a page begins: after an entry, or after so many.
fn begin(next: &str) -> Result<(Vec<u8>, usize), Problem> {
    let bad = || Problem::usage("next is not what a page said").hint("send it as it was given");
    match next.split_at_checked(1) {
        None if next.is_empty() => Ok((Vec::new(), 0)),
        Some(("a", after)) => Ok((unescape(after), 0)),
        Some(("n", number)) => Ok((Vec::new(), number.parse().map_err(|_| bad())?)),
        None | Some(_) => Err(bad()),
    }
}

/// `GET /api/v1/storages/{name}/snapshots/{id}/files`
async fn list(
    State(state): State<Shared>,
    At((name, id)): At<(String, String)>,
    Asked(place): Asked<Where>,
) -> Response {
    opened(state, name, false, move |_, open| {
        let folder = path(place.path.as_deref(), place.path_bytes.as_deref())?;
        let folder = folder.unwrap_or_else(|| b"/".to_vec());
        let order = match place.sort.as_str() {
            "" | "name" | "-name" | "size" | "-size" | "time" | "-time" => {
                Order::parse(&place.sort)
            }
            other => {
                let shown = holdfast_app::text::printable(other.as_bytes());
                return Err(Problem::usage(format!("a directory is not sorted by {shown}"))
                    .hint("sort is name, size or time, perhaps with - before it"));
            }
        };
        let (after, from) = begin(&place.next)?;
        let only = place.q.trim().to_lowercase();
        let reader = open.reader();
        let found = Folder::find(&reader, open.snapshot(&id)?, &folder)?;
        let found = found.entries(&Entries { order, only, after, from })?;
        let next = match (&found.after, found.from) {
            (Some(after), _) => Some(format!("a{}", escape(after))),
            (None, Some(from)) => Some(format!("n{from}")),
            (None, None) => None,
        };
        let mut entries = Vec::with_capacity(found.rows.len());
        for (entry, sum) in &found.rows {
            let full = join(&folder, &entry.name);
            let mut row = value(Entry::new(&full, &entry.metadata, &entry.target, &entry.error))?;
            if let Some(row) = row.as_object_mut()
                && entry.metadata.kind == holdfast_engine::meta::Kind::Directory
            {
                let below = sum.map(|sum| json!({ "files": sum.files, "bytes": sum.bytes }));
                row.insert("below".into(), json!(below));
            }
            entries.push(row);
        }
        Ok(json!({ "entries": entries, "next": next, "all": found.all }))
    })
    .await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct What {
    q: String,
    below: String,
    kind: String,
    larger: String,
    newer: String,
    limit: Option<usize>,
}

/// `GET /api/v1/storages/{name}/find`
async fn search(
    State(state): State<Shared>,
    At(name): At<String>,
    Asked(what): Asked<What>,
) -> Response {
    opened(state, name, false, move |_, open| {
        let limit = what.limit.map_or(LIMIT.0, |limit| limit.clamp(1, LIMIT.1));
        let What { q, below, kind, larger, newer, .. } = what;
        if !matches!(kind.as_str(), "" | "file" | "dir") {
            return Err(Problem::usage("that is no kind to look for").hint("kind is file or dir"));
        }
        let wanted = Wanted { q, below, kind, larger, newer, ..Wanted::default() };
        if wanted.is_empty() {
            return Err(
                Problem::usage("nothing says what to look for").hint("send q, larger or newer")
            );
        }
        let mut snapshots = open.snapshots.clone();
        snapshots.retain(|info| !info.record.partial);
        let reader = open.reader();
        let (options, interrupt) = (wanted.options()?, Interrupt::new());
        let report = find(&reader, &snapshots, &options, &NoMonitor, &interrupt)
            .map_err(|e| catalogue::explain(&e, None))?;
        let all = report.found.iter().map(|found| found.versions.len()).sum::<usize>();
        let versions = report.found.iter().flat_map(|found| {
            found.versions.iter().map(|version| value(Version::new(&found.path, version)))
        });
        Ok(json!({
            "versions": versions.take(limit).collect::<Result<Vec<_>, _>>()?,
            "all": all,
            "snapshots": report.snapshots,
            "unread": report.unread,
        }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_where_the_one_before_ended() -> Result<(), Problem> {
        assert_eq!(begin("")?, (Vec::new(), 0));
        assert_eq!(begin(&format!("a{}", escape(b"f\xffx")))?, (b"f\xffx".to_vec(), 0));
        assert_eq!(begin("n200")?, (Vec::new(), 200));
        assert!(begin("n").is_err() && begin("x").is_err() && begin("\u{fc}").is_err());
        Ok(())
    }
}
