//! Storages: named locations, what stands there, who depends on them, and their test. Secrets are
//! never read back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use holdfast_app::adopt::{self, Found};
use holdfast_app::ask::Nobody;
use holdfast_app::json::{Location, Step};
use holdfast_app::{Class, Config, Problem, catalogue, connection_test, times};
use serde_json::{Value, json};

use super::ask::At;
use super::describe::{Type, may, must};
use super::shapes::{PROBLEM, STEP, STORAGE};
use super::{Answer, Operation, blocking, problem_json, value};
use crate::accounts::Scope;
use crate::state::Shared;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/v1/storages",
            Scope::Read,
            "All storages: named locations of the configuration",
            list,
        )
        .answer(&[must("storages", Type::Objects(STORAGE), "Each without options")]),
        Operation::get(
            "/api/v1/storages/{name}",
            Scope::Read,
            "A storage as it is configured",
            one,
        )
        .answer(STORAGE),
        Operation::get(
            "/api/v1/storages/{name}/state",
            Scope::Read,
            "What stands at a storage, found out now",
            stands,
        )
        .answer(&[
            must("state", Type::Text, "ready, locked, vacant or other files"),
            must("millis", Type::Whole, "How long it took to answer"),
            may("snapshots", Type::Whole, "Complete snapshots in its repository"),
            may("newest", Type::Text, "When the newest of them was begun"),
        ]),
        Operation::post(
            "/api/v1/storages/{name}/test",
            Scope::Run,
            "Tests a storage step by step: writes, reads and deletes a small file there",
            test,
        )
        .answer(&[
            must("passed", Type::Flag, "Whether it works"),
            must("steps", Type::Objects(STEP), "What was tested"),
            may("problem", Type::Object(PROBLEM), "What ended it"),
        ]),
    ]
}

fn entry(config: &mut Config, name: &str, with_options: bool) -> Result<Value, Problem> {
    let plans = config.plans_of(name);
    let mut entry = value(Location::new(config, &config.expect(name)?, with_options))?;
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("plans".into(), plans.into());
    }
    Ok(entry)
}

/// `GET /api/v1/storages`
async fn list(State(state): State<Shared>) -> Response {
    blocking(state, |state| {
        let mut config = state.paths.load_config()?;
        let names = config.names();
        let entries = names.iter().map(|name| entry(&mut config, name, false));
        Ok(json!({ "storages": entries.collect::<Result<Vec<_>, _>>()? }))
    })
    .await
}

/// `GET /api/v1/storages/{name}`
async fn one(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| entry(&mut state.paths.load_config()?, &name, true)).await
}

/// `GET /api/v1/storages/{name}/state`
async fn stands(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| {
        state.paths.load_config()?.expect(&name)?;
        let since = Instant::now();
        let (word, snapshots, newest) = match adopt::look(&state.paths, &name) {
            Ok(Found::Open(repository)) => {
                let explain = |e| catalogue::explain(&e, None);
                let mut snapshots = repository.snapshots().map_err(explain)?;
                snapshots.retain(|info| !info.record.partial);
                let newest = snapshots.iter().map(|info| info.record.time).max();
                ("ready", Some(snapshots.len()), newest)
            }
            Ok(Found::Locked) => ("locked", None, None),
            Ok(Found::Vacant) => ("vacant", None, None),
            Err(problem) if problem.class == Class::NotARepository => ("other files", None, None),
            Err(problem) => return Err(problem),
        };
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(json!({
            "state": word,
            "millis": millis,
            "snapshots": snapshots,
            "newest": newest.map(times::rfc3339),
        }))
    })
    .await
}

/// `POST /api/v1/storages/{name}/test`. Asks nobody: an unknown host key is a problem.
async fn test(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| {
        let config = state.paths.load_config()?;
        config.expect(&name)?;
        let place = state.paths.resolve(format!("@{name}").as_ref(), &config)?;
        let steps = Mutex::new(Vec::new());
        let tell = |step| {
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(Step::from(step));
        };
        let tested = connection_test::run(&place, &state.paths.access(Arc::new(Nobody)), &tell);
        let steps = steps.into_inner().unwrap_or_else(PoisonError::into_inner);
        let body = json!({
            "passed": tested.is_ok(),
            "steps": value(steps)?,
            "problem": tested.err().as_ref().map(problem_json),
        });
        Ok(Answer::of(format!("tested the storage {name}"), body))
    })
    .await
}
