//! What differs between two snapshots: in numbers, and page by page. The pages name files, and so
//! need what a restore needs.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::json::{Change, Differences};
use holdfast_app::{Problem, catalogue};
use holdfast_engine::Error;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::diff::{DiffOptions, diff};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use serde::Deserialize;
use serde_json::json;

use super::ask::{Asked, At, path};
use super::describe::{Field, Type, may, must};
use super::shapes::{CHANGE, PATH_BYTES};
use super::{Operation, opened, value};
use crate::accounts::Scope;
use crate::opened::Open;
use crate::state::Shared;

/// Differences on one page where nothing else is asked for, and at most.
const LIMIT: (usize, usize) = (1000, 10_000);

const BEFORE: Field = may(
    "before",
    Type::Text,
    "The earlier snapshot, by the begin of its id; else the one before of the same places",
);
const AFTER: Field = may("after", Type::Text, "The later one; else the latest");

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages/{name}/compare",
            Scope::Read,
            "How much differs between two snapshots",
            compare,
        )
        .query(&[BEFORE, AFTER])
        .answer(&[
            must("before", Type::Text, "Id of the earlier snapshot"),
            must("after", Type::Text, "Id of the later one"),
            must("added", Type::Whole, "Entries only in the later"),
            must("removed", Type::Whole, "Entries only in the earlier"),
            must("changed", Type::Whole, "Entries whose content or type differs"),
            must(
                "touched",
                Type::Whole,
                "Entries that differ in owner, permissions or times alone",
            ),
            must("unknown", Type::Whole, "Entries that could not be compared"),
            must("bytes_added", Type::Whole, "Bytes of new files, and of changed ones now"),
            must("bytes_removed", Type::Whole, "Bytes of gone files, and of changed ones before"),
        ]),
        Operation::get(
            "/api/v1/storages/{name}/changes",
            Scope::Restore,
            "What differs between two snapshots, page by page",
            changes,
        )
        .query(&[
            BEFORE,
            AFTER,
            may("path", Type::Text, "Only at and below this absolute path"),
            PATH_BYTES,
            may("from", Type::Whole, "How many to pass over"),
            may("limit", Type::Whole, "At most so many: 1000, at most 10000"),
        ])
        .answer(&[
            must("before", Type::Text, "Id of the earlier snapshot"),
            must("after", Type::Text, "Id of the later one"),
            must("changes", Type::Objects(CHANGE), "What differs, in the order of the tree"),
            may("next", Type::Whole, "`from` of the next page; null: there is none"),
        ]),
    ]
}

/// The two snapshots that are meant.
fn both<'a>(
    open: &'a Open,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<(&'a SnapshotInfo, &'a SnapshotInfo), Problem> {
    let after = open.snapshot(after.unwrap_or("latest"))?;
    let before = match before {
        Some(id) => open.snapshot(id)?,
        None => open.before(after.id).ok_or_else(|| {
            let short = after.id.short();
            Problem::usage(format!("there is no snapshot of the same places before {short}"))
                .hint("say which to compare it with: before=ID")
        })?,
    };
    Ok((before, after))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Two {
    before: Option<String>,
    after: Option<String>,
}

/// `GET /api/v1/storages/{name}/compare`
async fn compare(
    State(state): State<Shared>,
    At(name): At<String>,
    Asked(two): Asked<Two>,
) -> Response {
    opened(state, name, true, move |_, open| {
        let (before, after) = both(open, two.before.as_deref(), two.after.as_deref())?;
        let (options, interrupt) = (DiffOptions::default(), Interrupt::new());
        let reader = open.reader();
        let totals =
            diff(&reader, before, after, &options, &NoMonitor, &interrupt, &mut |_| Ok(()))
                .map_err(|e| catalogue::explain(&e, None))?;
        let mut told = value(Differences::from(&totals))?;
        if let Some(told) = told.as_object_mut() {
            told.insert("before".into(), before.id.to_string().into());
            told.insert("after".into(), after.id.to_string().into());
        }
        Ok(told)
    })
    .await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Which {
    before: Option<String>,
    after: Option<String>,
    path: Option<String>,
    path_bytes: Option<String>,
    from: usize,
    limit: Option<usize>,
}

/// `GET /api/v1/storages/{name}/changes`
async fn changes(
    State(state): State<Shared>,
    At(name): At<String>,
    Asked(which): Asked<Which>,
) -> Response {
    opened(state, name, true, move |_, open| {
        let (before, after) = both(open, which.before.as_deref(), which.after.as_deref())?;
        let limit = which.limit.map_or(LIMIT.0, |limit| limit.clamp(1, LIMIT.1));
        let options =
            DiffOptions { path: path(which.path.as_deref(), which.path_bytes.as_deref())? };
        let (mut passed, mut found, mut has_more) = (0, Vec::new(), false);
        let reader = open.reader();
        let (monitor, interrupt) = (NoMonitor, Interrupt::new());
        let all = diff(&reader, before, after, &options, &monitor, &interrupt, &mut |change| {
            if passed < which.from {
                passed += 1;
            } else if found.len() < limit {
                found.push(Change::from(&change));
            } else {
                // The page is full: nothing more need be read.
                has_more = true;
                return Err(Error::Interrupted);
            }
            Ok(())
        });
        match all {
            Err(Error::Interrupted) if has_more => {}
            all => drop(all.map_err(|e| catalogue::explain(&e, None))?),
        }
        Ok(json!({
            "before": before.id.to_string(),
            "after": after.id.to_string(),
            "changes": value(found)?,
            "next": has_more.then(|| which.from.saturating_add(limit)),
        }))
    })
    .await
}
