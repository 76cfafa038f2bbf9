//! Snapshots: listed, narrowed, one by itself, what is said of it, and forgetting, with a look at
//! what it would do first.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::Problem;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::forget::Forget;
use holdfast_app::json::{Path, Snapshot};
use holdfast_app::runs::By;
use holdfast_engine::ops::forget::protection;
use holdfast_engine::repo::notes::Change;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ask::{Asked, At, Sent, path};
use super::describe::{RUN, Type, may, must};
use super::shapes::SNAPSHOT;
use super::{Answer, Operation, opened, value};
use crate::accounts::Scope;
use crate::pages::snapshots::plan_tag;
use crate::state::Shared;

/// Snapshots on one page of a list where nothing else is asked for, and at most.
const LIMIT: (usize, usize) = (100, 1000);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages/{name}/snapshots",
            Scope::Read,
            "Snapshots of a repository, the newest first",
            list,
        )
        .query(&[
            may("plan", Type::Text, "Only those of this plan"),
            may("tag", Type::Text, "Only those with this tag; several: commas between"),
            may("host", Type::Text, "Only those of this machine"),
            may("path", Type::Text, "Only those that hold this absolute path"),
            may("partial", Type::Flag, "Also those of interrupted runs"),
            may("from", Type::Whole, "How many to pass over"),
            may("limit", Type::Whole, "At most so many: 100, at most 1000"),
        ])
        .answer(&[
            must("snapshots", Type::Objects(SNAPSHOT), "Each without unread"),
            must("all", Type::Whole, "How many there are"),
            may("next", Type::Whole, "`from` of the next page; null: there is none"),
            must("warnings", Type::Texts, "What cannot be read of index and notes"),
        ]),
        Operation::get(
            "/api/v1/storages/{name}/snapshots/{id}",
            Scope::Read,
            "A snapshot, by the begin of its id, or latest",
            one,
        )
        .answer(SNAPSHOT),
        Operation::post(
            "/api/v1/storages/{name}/snapshots/{id}",
            Scope::Admin,
            "Changes what is said of a snapshot; what is left out stays",
            change,
        )
        .body(&[
            may("tags", Type::Texts, "All its tags from now on"),
            may("description", Type::Text, "Empty takes it away"),
            may("pinned", Type::Flag, "Whether rules keep it for ever"),
        ])
        .answer(SNAPSHOT),
        Operation::post(
            "/api/v1/storages/{name}/forget",
            Scope::Admin,
            "Forgets snapshots, as a run; with dry_run says what that would do",
            forget,
        )
        .body(&[
            must("snapshots", Type::Texts, "Which: ids, or their begins"),
            may("dry_run", Type::Flag, "Only look"),
        ])
        .answer(&[
            RUN,
            may("snapshots", Type::Objects(SNAPSHOT), "Those to go; `kept` says why one may not"),
            may("stay", Type::Whole, "How many snapshots stay"),
            may("bytes_freed", Type::Whole, "What only they hold, about"),
        ]),
    ]
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    plan: Option<String>,
    tag: Option<String>,
    host: Option<String>,
    path: Option<String>,
    #[serde(default)]
    partial: bool,
    #[serde(default)]
    from: usize,
    limit: Option<usize>,
}

impl Which {
    fn filter(&self) -> Result<Filter, Problem> {
        let tags = self.tag.iter().flat_map(|tags| tags.split(','));
        let mut tags: Vec<String> = tags.filter(|tag| !tag.is_empty()).map(String::from).collect();
        tags.extend(self.plan.as_deref().map(plan_tag));
        Ok(Filter {
            tags,
            host: self.host.clone(),
            path: path(self.path.as_deref(), None)?,
            until: None,
            partial: self.partial,
        })
    }
}

/// `GET /api/v1/storages/{name}/snapshots`
async fn list(
    State(state): State<Shared>,
    At(name): At<String>,
    Asked(which): Asked<Which>,
) -> Response {
    opened(state, name, true, move |_, open| {
        let filter = which.filter()?;
        let limit = which.limit.map_or(LIMIT.0, |limit| limit.clamp(1, LIMIT.1));
        let fitting = open.snapshots.iter().rev().filter(|info| filter.admits(&info.record));
        let fitting: Vec<_> = fitting.collect();
        let page = fitting.iter().skip(which.from).take(limit);
        let page = page.map(|info| value(Snapshot::from(*info)));
        let end = which.from.saturating_add(limit);
        Ok(json!({
            "snapshots": page.collect::<Result<Vec<_>, _>>()?,
            "all": fitting.len(),
            "next": (end < fitting.len()).then_some(end),
            "warnings": open.warnings,
        }))
    })
    .await
}

/// A snapshot with what could not be read of it.
fn whole(info: &SnapshotInfo) -> Result<Value, Problem> {
    let mut whole = value(Snapshot::from(info))?;
    let mut unread = Vec::new();
    for file in &info.record.unread {
        let mut entry = value(Path::new(&file.path))?;
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("reason".into(), file.reason.clone().into());
        }
        unread.push(entry);
    }
    if let Some(whole) = whole.as_object_mut() {
        whole.insert("unread".into(), unread.into());
    }
    Ok(whole)
}

/// `GET /api/v1/storages/{name}/snapshots/{id}`
async fn one(State(state): State<Shared>, At((name, id)): At<(String, String)>) -> Response {
    opened(state, name, true, move |_, open| whole(open.snapshot(&id)?)).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    tags: Option<Vec<String>>,
    description: Option<String>,
    pinned: Option<bool>,
}

/// `POST /api/v1/storages/{name}/snapshots/{id}`
async fn change(
    State(state): State<Shared>,
    At((name, id)): At<(String, String)>,
    Sent(said): Sent<Said>,
) -> Response {
    opened(state, name, true, move |state, open| {
        let info = open.snapshot(&id)?;
        let change = Change {
            replace_tags: said.tags.is_some(),
            add_tags: said.tags.unwrap_or_default(),
            description: said.description,
            pinned: said.pinned,
            ..Change::default()
        };
        open.annotate(info, &change)?;
        let now = state.shelf.open(&state.paths, &open.name, true)?;
        let body = whole(now.snapshot(&info.id.to_string())?)?;
        Ok(Answer::of(format!("changed the snapshot {} of {}", info.id.short(), open.name), body))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Going {
    #[serde(default)]
    snapshots: Vec<String>,
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/storages/{name}/forget`
async fn forget(
    State(state): State<Shared>,
    At(name): At<String>,
    Sent(going): Sent<Going>,
) -> Response {
    opened(state, name, true, move |state, open| {
        if going.snapshots.is_empty() {
            return Err(Problem::usage("nothing says which snapshots to forget")
                .hint("send their ids: {\"snapshots\": [\"…\"]}"));
        }
        let ids: Vec<&str> = going.snapshots.iter().map(String::as_str).collect();
        let chosen = open.chosen(&ids)?;
        if going.dry_run {
            let rows = chosen.iter().map(|info| {
                let mut row = value(Snapshot::from(*info))?;
                if let Some(row) = row.as_object_mut() {
                    row.insert("kept".into(), json!(protection(info, &open.notes)));
                }
                Ok(row)
            });
            return Ok(Answer::from(json!({
                "snapshots": rows.collect::<Result<Vec<_>, Problem>>()?,
                "stay": open.snapshots.len().saturating_sub(chosen.len()),
                "bytes_freed": open.freed(&chosen)?,
            })));
        }
        let snapshots: Vec<_> = chosen.iter().map(|info| info.id).collect();
        let shorts: Vec<_> = snapshots.iter().map(|id| id.short()).collect();
        let job = Job::Forget(Forget { from: open.target(), snapshots });
        let run = state.runner.start(job, By::Console)?;
        let done = format!("forgot {} of {}, run {run}", shorts.join(", "), open.name);
        Ok(Answer::of(done, json!({ "run": run })))
    })
    .await
}
