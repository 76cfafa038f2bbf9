//! Storages: named locations as cards, their form, the staged test, and what stands there.

mod apply;
mod form;
mod keys;
pub(crate) mod ready;
mod trial;

use std::sync::Arc;
use std::time::Instant;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query};
use axum::response::Response;
use axum::routing::{get, post};
use holdfast_app::adopt::{self, Found};
use holdfast_app::ask::Nobody;
use holdfast_app::config::keys::Kind;
use holdfast_app::text::{plural, shell_word, size};
use holdfast_app::times::local;
use holdfast_app::{Class, Config, Location, Options, Problem, Resolved};
use http::HeaderMap;
use serde::Deserialize;

pub(crate) use self::form::label;
use self::form::{Control, Form, PROVIDERS, Provider};
pub(crate) use self::trial::Trials;
use crate::failure::{Failure, Note};
use crate::pages::{go, start};
use crate::posted::Posted;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};

/// The addresses of storages.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/storages", get(list))
        .route("/add-storage", get(add))
        .route("/storages/{name}", get(edit))
        .route("/storages/{name}/state", get(state))
        .route("/storages/{name}/room", get(room))
        .route("/storages/{name}/test", post(test_saved))
        .route("/storages/{name}/remove", post(remove))
        .route("/storages/{name}/ready", get(ready::show))
        .route("/storages/{name}/create", post(ready::create))
        .route("/storages/{name}/open", post(ready::open))
        .route("/storages/{name}/kit", post(ready::kit))
        .route("/storage-form/test", post(test_typed))
        .route("/storage-form/save", post(save))
        .route("/storage-form/key", post(keys::look))
        .route("/storage-form/new-key", post(keys::make))
        .route("/trials/{id}", post(trial::answer))
}

/// A storage as its card shows it.
#[derive(Debug)]
struct Card {
    name: String,
    title: String,
    location: String,
    icon: &'static str,
    plans: Vec<String>,
    is_default: bool,
    note: Option<Note>,
}

#[derive(Template)]
#[template(path = "storages.html")]
struct List {
    frame: Frame,
    cards: Vec<Card>,
}

/// `GET /storages`
async fn list(view: View) -> Result<Response, Failure> {
    let cards = view
        .blocking(|state| {
            let mut config = state.paths.load_config()?;
            let names = config.names();
            Ok::<_, Problem>(names.iter().map(|name| card(&mut config, name)).collect())
        })
        .await?;
    let frame = view.frame("Storages", Nav::Storages, "holdfast config repository list");
    Ok(html(&List { frame, cards }))
}

fn card(config: &mut Config, name: &str) -> Card {
    let plans = config.plans_of(name);
    let entry = config.entry(name);
    let title = entry.and_then(|entry| entry.title()).unwrap_or(name).to_owned();
    let icon = match entry.and_then(|entry| entry.kind()) {
        Some(Kind::Sftp) => "i-net",
        Some(Kind::S3) => "i-cloud",
        _ => "i-disk",
    };
    let resolved = resolved(config, name);
    let location = match &resolved {
        Ok(place) => place.to_string(),
        Err(_) => entry.and_then(|entry| entry.shown_location()).unwrap_or_default(),
    };
    let is_default = config.default_name() == Some(name);
    let note = resolved.err().as_ref().map(Note::from);
    Card { name: name.to_owned(), title, location, icon, plans, is_default, note }
}

fn resolved(config: &Config, name: &str) -> Result<Resolved, Problem> {
    let location = Location::Named { name: name.to_owned(), below: Vec::new() };
    Resolved::new(&location, Some(config), &Options::default())
}

/// What stands at a storage, found out just now.
#[derive(Template)]
#[template(path = "storage-state.html")]
struct Stands {
    name: String,
    state: &'static str,
    icon: &'static str,
    word: String,
    facts: Vec<(&'static str, String)>,
    note: Option<Note>,
    /// What to do there next: "create", "open" or nothing.
    next: &'static str,
}

/// `GET /storages/{name}/state`: a part of the card, measured live.
async fn state(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let stands = view.blocking(move |state| Ok::<_, Problem>(stands(state, name))).await?;
    Ok(html(&stands))
}

fn stands(state: &State, name: String) -> Stands {
    let since = Instant::now();
    let found = adopt::look(&state.paths, &name).and_then(|found| {
        let snapshots = match &found {
            Found::Open(repository) => {
                let listed = repository.snapshots_with_notes();
                Some(listed.map_err(|e| holdfast_app::catalogue::explain(&e, None))?.0)
            }
            _ => None,
        };
        Ok((found, snapshots))
    });
    let took = format!("{} ms", since.elapsed().as_millis());
    let base = |state, icon, word: &str| Stands {
        name: name.clone(),
        state,
        icon,
        word: word.to_owned(),
        facts: vec![("Answered in", took.clone())],
        note: None,
        next: "",
    };
    let mut stands = match found {
        Ok((_, Some(snapshots))) => {
            let mut stands = base("ok", "i-ok", "Ready");
            let complete = snapshots.iter().filter(|s| !s.record.partial);
            let count = complete.clone().count() as u64;
            let newest = complete.map(|s| s.record.time).max();
            let newest = newest.map_or_else(|| "none yet".to_owned(), local);
            stands.facts.push(("Repository", plural(count, "snapshot", "snapshots")));
            stands.facts.push(("Newest", newest));
            stands
        }
        Ok((Found::Vacant, _)) => {
            Stands { next: "create", ..base("idle", "i-todo", "No repository yet") }
        }
        Ok(_) => Stands { next: "open", ..base("warn", "i-lock", "Asks for its passphrase") },
        Err(problem) if problem.class == Class::NotARepository => {
            let mut stands = base("idle", "i-folder", "Reachable");
            stands.facts.push(("Holds", "other files, no repository: it can be a source".into()));
            stands
        }
        Err(problem) => {
            let note = Some(Note::from(&problem));
            return Stands {
                note,
                facts: Vec::new(),
                ..base("bad", "i-bad", problem.class.name())
            };
        }
    };
    if let Ok(Some(free)) = free(state, &name) {
        stands.facts.push(("Free", size(free)));
    } else if stands.state == "ok"
        && let Ok(stored) = stored(state, &name)
    {
        stands.facts.push(("Stored", size(stored)));
    }
    stands
}

/// Bytes that are free at a storage; `None` if it does not tell.
fn free(state: &State, name: &str) -> Result<Option<u64>, Problem> {
    let place = resolved(&state.paths.load_config()?, name)?;
    holdfast_app::room::free(&place, &state.paths.access(Arc::new(Nobody)))
}

/// Bytes that the repository of a storage takes there.
fn stored(state: &State, name: &str) -> Result<u64, Problem> {
    let open = match state.shelf.open(&state.paths, name, false) {
        Err(problem) if problem.class == Class::NoRepository => {
            state.accounts.remember(name, None)?;
            return Err(problem);
        }
        open => open?,
    };
    let found = state.measure(&open)?;
    Ok(found.stored + found.index)
}

/// What a storage holds and how much is free there, for a line on Home.
#[derive(Template)]
#[template(path = "storage-room.html")]
struct Room {
    stored: String,
    free: String,
    /// Why neither can be told.
    class: &'static str,
}

/// `GET /storages/{name}/room`: a part of Home, measured live.
async fn room(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let room = view
        .blocking(move |state| {
            let (stored, free) = (stored(state, &name), free(state, &name));
            Ok::<_, Problem>(Room {
                class: match (&stored, &free) {
                    (Err(problem), Err(_) | Ok(None)) => problem.class.name(),
                    _ => "",
                },
                stored: stored.map(size).unwrap_or_default(),
                free: free.ok().flatten().map(size).unwrap_or_default(),
            })
        })
        .await?;
    Ok(html(&room))
}

/// The form alone, as a part of the first start.
#[derive(Template)]
#[template(path = "storage-fields.html")]
struct Fields {
    frame: Frame,
    form: Form,
    then: &'static str,
    providers: &'static [Provider],
}

/// `GET /start/storage?kind=…`: the form of a new storage as a part of the first start.
pub(crate) async fn fields(view: View, Query(kinds): Query<Kinds>) -> Result<Response, Failure> {
    let form = Form::new(apply::kind(&kinds.kind)?);
    let frame = view.frame("", Nav::None, "");
    Ok(html(&Fields { frame, form, then: "start", providers: &PROVIDERS }))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Kinds {
    #[serde(default)]
    kind: String,
}

#[derive(Template)]
#[template(path = "storage-form.html")]
struct Page {
    frame: Frame,
    form: Form,
    /// "start" where the form is a part of the first start.
    then: &'static str,
    providers: &'static [Provider],
    plans: Vec<String>,
}

#[derive(Template)]
#[template(path = "add-storage.html")]
struct Add {
    frame: Frame,
}

/// `GET /add-storage?kind=…`
async fn add(view: View, Query(kinds): Query<Kinds>) -> Result<Response, Failure> {
    if kinds.kind.is_empty() {
        let line = "holdfast config repository create NAME";
        return Ok(html(&Add { frame: view.frame("Add storage", Nav::Storages, line) }));
    }
    let kind = apply::kind(&kinds.kind)?;
    let example = match kind {
        Kind::Local => "/mnt/disk/backups",
        Kind::Sftp => "sftp://USER@HOST/DIRECTORY",
        Kind::S3 => "s3://ENDPOINT/BUCKET",
    };
    let line = format!("holdfast config repository set NAME location {example}");
    let frame = view.frame("Add storage", Nav::Storages, &line);
    let form = Form::new(kind);
    Ok(html(&Page { frame, form, then: "", providers: &PROVIDERS, plans: Vec::new() }))
}

/// `GET /storages/{name}`
async fn edit(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let line = format!("holdfast config repository show {}", shell_word(&name));
    let (form, plans) = view
        .blocking(move |state| {
            let mut config = state.paths.load_config()?;
            let plans = config.plans_of(&name);
            Ok::<_, Problem>((Form::of(&config, &name)?, plans))
        })
        .await?;
    let frame = view.frame(&form.title, Nav::Storages, &line);
    Ok(html(&Page { frame, form, then: "", providers: &PROVIDERS, plans }))
}

/// `POST /storage-form/test`: tests what is typed, without saving it.
async fn test_typed(view: View, posted: Posted) -> Result<Response, Failure> {
    let unsaved = match posted.text("then") {
        "start" => trial::Unsaved::Start,
        _ => trial::Unsaved::Form,
    };
    let place = view
        .blocking(move |state| {
            let mut config = state.paths.load_config()?;
            let name = apply::apply(&mut config, &posted)?;
            resolved(&config, &name)
        })
        .await?;
    trial::start(&view, place, Some(unsaved)).await
}

/// `POST /storages/{name}/test`
async fn test_saved(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let place = view.blocking(move |state| resolved(&state.paths.load_config()?, &name)).await?;
    trial::start(&view, place, None).await
}

/// `POST /storage-form/save`
async fn save(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    let is_new = posted.text("entry").is_empty();
    let is_start = posted.text("then") == "start";
    let name = view
        .blocking(move |state| {
            Config::edit(&state.paths.config, state.paths.home.clone(), |config| {
                let name = apply::apply(config, &posted)?;
                // What cannot be understood together is not saved either.
                resolved(config, &name)?;
                Ok(name)
            })
        })
        .await?;
    if is_start {
        return start::chosen(&view, name).await;
    }
    Ok(go(&headers, &if is_new { format!("/storages/{name}/ready") } else { "/storages".into() }))
}

/// `POST /storages/{name}/remove`
async fn remove(
    view: View,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    view.blocking(move |state| {
        Config::edit(&state.paths.config, state.paths.home.clone(), |config| config.remove(&name))
    })
    .await?;
    Ok(go(&headers, "/storages"))
}
