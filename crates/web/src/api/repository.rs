//! A repository: its figures, what opens it, checks, and gc with a look at what it would do first.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::jobs::Job;
use holdfast_app::jobs::check::Check;
use holdfast_app::jobs::gc::Gc;
use holdfast_app::json::{Planned, Repository, Slot};
use holdfast_app::runs::By;
use holdfast_app::{Problem, catalogue};
use holdfast_engine::ops::info::info;
use serde::Deserialize;
use serde_json::json;

use super::ask::{At, Sent};
use super::describe::{RUN, Type, may, must};
use super::shapes::{BLOBS, PLANNED, SLOT};
use super::{Answer, Operation, opened, value};
use crate::accounts::Scope;
use crate::state::Shared;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages/{name}/figures",
            Scope::Read,
            "A repository in numbers, for which its storage is listed",
            figures,
        )
        .answer(&[
            must("location", Type::Text, "Where it is"),
            must("id", Type::Text, "Its id"),
            must("created", Type::Text, "When it was made"),
            must("encrypted", Type::Flag, "Whether it is"),
            must("chunk_min", Type::Whole, "Smallest chunk"),
            must("chunk_avg", Type::Whole, "Mean chunk"),
            must("chunk_max", Type::Whole, "Largest chunk"),
            must("snapshots", Type::Whole, "Snapshots"),
            must("partial", Type::Whole, "Of them: those of interrupted runs"),
            must("packs", Type::Whole, "Packs"),
            must("bytes_packs", Type::Whole, "Their bytes"),
            must("segments", Type::Whole, "Index segments"),
            must("bytes_index", Type::Whole, "Their bytes"),
            must("blobs", Type::Whole, "Different pieces"),
            must("bytes_plain", Type::Whole, "Their bytes before compression"),
            must("files", Type::Whole, "Files of all snapshots together"),
            must("bytes_logical", Type::Whole, "Their bytes"),
            must("compression", Type::Number, "Plain bytes for each stored one"),
            must("deduplication", Type::Number, "Bytes of files for each plain one"),
            must("savings", Type::Number, "Both together"),
            must("kinds", Type::Objects(BLOBS), "The same by kind of blob"),
        ]),
        Operation::get(
            "/api/v1/storages/{name}/keys",
            Scope::Admin,
            "The key slots of a repository",
            keys,
        )
        .answer(&[must("keys", Type::Objects(SLOT), "What opens it")]),
        Operation::post(
            "/api/v1/storages/{name}/check",
            Scope::Run,
            "Checks a repository, as a run",
            check,
        )
        .body(&[may("data", Type::Whole, "Percent of the data to read too; 0 if nothing is said")])
        .answer(&[RUN]),
        Operation::post(
            "/api/v1/storages/{name}/gc",
            Scope::Admin,
            "Gives back space, as a run; with dry_run says what that would do",
            gc,
        )
        .body(&[may("dry_run", Type::Flag, "Only look")])
        .answer(&[RUN, may("plan", Type::Object(PLANNED), "What it would do")]),
    ]
}

/// `GET /api/v1/storages/{name}/figures`
async fn figures(State(state): State<Shared>, At(name): At<String>) -> Response {
    opened(state, name, true, |_, open| {
        let found = info(&open.repository, open.index());
        value(Repository::from(&found.map_err(|e| catalogue::explain(&e, None))?))
    })
    .await
}

/// `GET /api/v1/storages/{name}/keys`
async fn keys(State(state): State<Shared>, At(name): At<String>) -> Response {
    opened(state, name, false, |_, open| {
        let slots = open.repository.slots().map_err(|e| catalogue::explain(&e, None))?;
        let slots = slots.iter().map(|slot| value(Slot::from(slot)));
        Ok(json!({ "keys": slots.collect::<Result<Vec<_>, _>>()? }))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Depth {
    #[serde(default)]
    data: u8,
}

/// `POST /api/v1/storages/{name}/check`
async fn check(
    State(state): State<Shared>,
    At(name): At<String>,
    Sent(depth): Sent<Depth>,
) -> Response {
    opened(state, name, false, move |state, open| {
        let data = depth.data;
        if data > 100 {
            return Err(Problem::usage(format!("{data} percent of the data is more than all"))
                .hint("data is 0 to 100"));
        }
        let job = Job::Check(Check { repository: open.target(), data, ..Check::default() });
        let run = state.runner.start(job, By::Console)?;
        Ok(Answer::of(format!("checked {}, run {run}", open.name), json!({ "run": run })))
    })
    .await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Collect {
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/storages/{name}/gc`
async fn gc(
    State(state): State<Shared>,
    At(name): At<String>,
    Sent(collect): Sent<Collect>,
) -> Response {
    opened(state, name, false, move |state, open| {
        if collect.dry_run {
            let plan = open.gc_plan()?;
            return Ok(Answer::from(json!({ "plan": value(Planned::from(&plan))? })));
        }
        let job = Job::Gc(Gc { repository: open.target(), ..Gc::default() });
        let run = state.runner.start(job, By::Console)?;
        Ok(Answer::of(format!("began a gc of {}, run {run}", open.name), json!({ "run": run })))
    })
    .await
}
