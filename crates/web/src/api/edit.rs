//! Plans as they are configured: read, made, replaced, switched and removed. The checks are those of
//! the command line and of the console. Hooks are neither shown nor taken: who holds a token must not
//! start programs, and a command may hold a secret. A passphrase goes in and never comes out.

use axum::extract::State;
use axum::response::Response;
use holdfast_app::plans::Plan;
use holdfast_app::{Config, Location, Problem, adopt, secrets};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::ask::{At, Sent};
use super::describe::{Field, Type, may, must};
use super::{Answer, Operation, blocking};
use crate::accounts::Scope;
use crate::state::{Shared, State as Console};

const BYTES: Type = Type::Either(&[Type::Text, Type::Whole]);

const CHECK: &[Field] = &[
    must("data", Type::Text, "How much of the data is read: 5%"),
    may("schedule", Type::Text, "When; null: after each run"),
];

const RETRY: &[Field] = &[
    must("times", Type::Whole, "How often after the first time"),
    must("wait", Type::Text, "The wait before the first of them; it doubles"),
];

const DRILL: &[Field] = &[
    must("schedule", Type::Text, "When"),
    may("files", Type::Whole, "Files in the sample"),
    may("bytes", BYTES, "At most so many bytes in all"),
];

/// The keys of a plan but its hooks; null and what is left out mean what holds anyway.
const PLAN: &[Field] = &[
    may("title", Type::Text, "What people call it"),
    may("enabled", Type::Flag, "Whether its schedules count"),
    may("sources", Type::Texts, "What is backed up: paths from the root, or locations"),
    may("exclude", Type::Texts, "What is left out, by rules as in .gitignore"),
    may("exclude_larger_than", BYTES, "Files of more than this are left out"),
    may("exclude_caches", Type::Flag, "Leave out directories marked with CACHEDIR.TAG"),
    may("one_file_system", Type::Flag, "Do not go into other file systems"),
    may("repository", Type::Text, "Where to: the name of a storage, or a location"),
    may("tags", Type::Texts, "Tags of its snapshots, beside plan:NAME"),
    may("schedule", Type::Text, "When it runs"),
    may("timezone", Type::Text, "Time zone of its schedules"),
    may("jitter", Type::Text, "Spread its runs over so much time after they are due"),
    may("catch_up", Type::Flag, "Whether a missed run is made up for"),
    may("overlap", Type::Text, "skip or queue, if the run before is still at work"),
    may("wait_for_network", Type::Text, "How long a run waits for the network"),
    may(
        "keep",
        Type::Map(&Type::Either(&[Type::Whole, Type::Text, Type::Texts])),
        "Which of its snapshots stay, by rule: last, daily, within, …",
    ),
    may(
        "gc",
        Type::Either(&[Type::Flag, Type::Text]),
        "Free what forgotten snapshots leave: true after each run, or a schedule",
    ),
    may("check", Type::Object(CHECK), "Check the repository"),
    may("mirror", Type::Texts, "Repositories to which its snapshots are copied"),
    may("retry", Type::Object(RETRY), "How often a run is tried again"),
    may("limit_upload", BYTES, "Send no more than this a second"),
    may("limit_download", BYTES, "Receive no more than this a second"),
    may("notify", Type::Map(&Type::Texts), "Channels, and what each is told of"),
    may("drill", Type::Object(DRILL), "Restore a sample and compare it"),
];

const ANSWER: &[Field] = &[
    must("name", Type::Text, "Its name"),
    must("plan", Type::Object(PLAN), "What it says beyond what holds anyway"),
    must("hooks", Type::Whole, "Commands around its runs; they stay, and are not shown"),
    may("problem", Type::Text, "What it lacks, or contradicts itself in"),
];

const SAYS: Field =
    must("plan", Type::Object(PLAN), "What it says; what is left out, holds anyway");
const PASSPHRASE: Field = may(
    "passphrase",
    Type::Text,
    "Opens its repository once, for a key file of the service; it is not kept",
);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/plans/{name}", Scope::Read, "A plan as it is configured", one)
            .answer(ANSWER),
        Operation::post("/api/v1/plans", Scope::Admin, "Makes a plan", create)
            .body(&[
                must("name", Type::Text, "Its name, or a title to make one from"),
                SAYS,
                PASSPHRASE,
            ])
            .answer(ANSWER),
        Operation::put(
            "/api/v1/plans/{name}",
            Scope::Admin,
            "Replaces what a plan says; its hooks stay",
            replace,
        )
        .body(&[SAYS, PASSPHRASE])
        .answer(ANSWER),
        Operation::delete(
            "/api/v1/plans/{name}",
            Scope::Admin,
            "Removes a plan; its snapshots and its history stay",
            remove,
        )
        .answer(&[must("removed", Type::Text, "Its name")]),
        Operation::post(
            "/api/v1/plans/{name}/enable",
            Scope::Admin,
            "Lets its schedules count",
            enable,
        )
        .answer(ANSWER),
        Operation::post(
            "/api/v1/plans/{name}/disable",
            Scope::Admin,
            "Lets its schedules count no more; it can still be run",
            disable,
        )
        .answer(ANSWER),
    ]
}

/// A plan as answers have it.
fn told(config: &Config, name: &str) -> Result<Value, Problem> {
    let plan = config.plan_as_written(name)?;
    let problem = plan.validate().and_then(|()| plan.check_places(config)).err();
    let mut says = plan.to_json();
    if let Some(says) = says.as_object_mut() {
        says.remove("name");
        says.remove("hooks");
    }
    let hooks = &plan.hooks;
    let hooks = [&hooks.before, &hooks.after, &hooks.success, &hooks.failure];
    Ok(json!({
        "name": plan.name,
        "plan": says,
        "hooks": hooks.iter().map(|commands| commands.len()).sum::<usize>(),
        "problem": problem.map(|problem| problem.message),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    name: String,
    plan: Map<String, Value>,
    passphrase: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replaced {
    plan: Map<String, Value>,
    passphrase: Option<String>,
}

/// The plan that was sent, on top of what there was before.
fn read(mut plan: Plan, sent: &Map<String, Value>) -> Result<Plan, Problem> {
    for (key, value) in sent {
        if key == "hooks" {
            return Err(Problem::usage("hooks are not taken from programs")
                .hint("they stand in the configuration file, and stay as they are there"));
        }
        plan.set_json(key, value)?;
    }
    let mirrors = plan.mirror_locations();
    let places = plan.sources.iter().chain(&mirrors).chain(std::iter::once(&plan.repository));
    for text in places.filter(|text| text.contains('/') || text.as_str() == "-") {
        check_place(text)?;
    }
    for text in &plan.sources {
        check_place(text)?;
    }
    Ok(plan)
}

/// Refuses what would mean something else to the service than to who sent it.
fn check_place(text: &str) -> Result<(), Problem> {
    let shown = holdfast_app::text::printable(text.as_bytes());
    match Location::parse(text.as_ref())? {
        Location::Stream => Err(Problem::usage("standard input cannot stand in a plan")),
        Location::Local(_) if !text.starts_with('/') && !text.contains("://") => {
            Err(Problem::usage(format!("the path {shown} is not given from the root"))
                .hint("write it like /home/anna"))
        }
        _ => Ok(()),
    }
}

/// Gives the service a key file for the plan's repository, if a passphrase was sent. The plan was
/// checked before.
fn unlock(state: &Console, plan: &Plan, sent: Option<String>) -> Result<(), Problem> {
    let Some(text) = sent.map(Zeroizing::new) else { return Ok(()) };
    if text.is_empty() {
        return Err(Problem::usage("the passphrase is empty")
            .hint("leave it out where the repository opens by itself"));
    }
    let secret = secrets::passphrase(&text, "the request")?;
    match Location::parse(plan.repository_location().as_ref())? {
        Location::Named { name, .. } => adopt::adopt(&state.paths, &name, secret).map(drop),
        _ => Err(Problem::usage("only the repository of a named storage can be opened for a plan")
            .hint("make it one: holdfast config repository set NAME location LOCATION")),
    }
}

fn edit<T>(
    state: &Console,
    change: impl FnOnce(&mut Config) -> Result<T, Problem>,
) -> Result<T, Problem> {
    Config::edit(&state.paths.config, state.paths.home.clone(), change)
}

/// `GET /api/v1/plans/{name}`
async fn one(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| told(&state.paths.load_config()?, &name)).await
}

/// `POST /api/v1/plans`
async fn create(State(state): State<Shared>, Sent(made): Sent<Made>) -> Response {
    blocking(state, move |state| {
        let plan = read(Plan::new(&made.name), &made.plan)?;
        // All is checked before anything is done.
        state.paths.load_config()?.create_plan(&plan)?;
        unlock(state, &plan, made.passphrase)?;
        let (name, body) = edit(state, |config| {
            let name = config.create_plan(&plan)?.name;
            Ok((name.clone(), told(config, &name)?))
        })?;
        Ok(Answer::of(format!("made the plan {name}"), body))
    })
    .await
}

/// `PUT /api/v1/plans/{name}`
async fn replace(
    State(state): State<Shared>,
    At(name): At<String>,
    Sent(sent): Sent<Replaced>,
) -> Response {
    blocking(state, move |state| {
        let replaced = |config: &mut Config| {
            let hooks = config.plan_as_written(&name)?.hooks;
            let plan = read(Plan { hooks, ..Plan::new(&name) }, &sent.plan)?;
            config.change_plan(&plan)?;
            Ok(plan)
        };
        let plan = replaced(&mut state.paths.load_config()?)?;
        unlock(state, &plan, sent.passphrase)?;
        let body = edit(state, |config| {
            replaced(config)?;
            told(config, &name)
        })?;
        Ok(Answer::of(format!("changed the plan {name}"), body))
    })
    .await
}

/// `DELETE /api/v1/plans/{name}`
async fn remove(State(state): State<Shared>, At(name): At<String>) -> Response {
    blocking(state, move |state| {
        edit(state, |config| config.remove_plan(&name))?;
        Ok(Answer::of(format!("removed the plan {name}"), json!({ "removed": name })))
    })
    .await
}

/// `POST /api/v1/plans/{name}/enable`
async fn enable(State(state): State<Shared>, At(name): At<String>) -> Response {
    switch(state, name, true).await
}

/// `POST /api/v1/plans/{name}/disable`
async fn disable(State(state): State<Shared>, At(name): At<String>) -> Response {
    switch(state, name, false).await
}

async fn switch(state: Shared, name: String, enabled: bool) -> Response {
    blocking(state, move |state| {
        let body = edit(state, |config| {
            let plan = config.plan_as_written(&name)?;
            config.change_plan(&Plan { enabled, ..plan })?;
            told(config, &name)
        })?;
        let what = if enabled { "enabled" } else { "disabled" };
        Ok(Answer::of(format!("{what} the plan {name}"), body))
    })
    .await
}

#[cfg(test)]
mod tests {
    use holdfast_app::plans::keys::KEYS;

    use super::*;

    #[test]
    fn all_keys_of_a_plan_are_described_but_its_hooks() {
        let known: Vec<_> = KEYS.iter().map(|key| key.name).filter(|key| *key != "hooks").collect();
        let described: Vec<_> = PLAN.iter().map(Field::name).collect();
        assert_eq!(described, known);
    }
}
