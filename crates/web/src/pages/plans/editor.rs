//! The editor of a plan: a page with all that a plan can say, and saving it. Hooks are shown and
//! never taken from a browser.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::Response;
use holdfast_app::jobs::Job;
use holdfast_app::plans::{Event, Overlap, Plan};
use holdfast_app::runs::By;
use holdfast_app::schedule::Schedule;
use holdfast_app::text::{self, shell_word};
use holdfast_app::{Config, Problem};
use http::HeaderMap;
use serde::Deserialize;

use super::form::{Fields, is_same_place, read};
use super::preview::{self, Preview};
use crate::failure::{Failure, Note};
use crate::pages::go;
use crate::posted::Posted;
use crate::view::{Frame, Nav, View, html};

/// A storage to choose.
#[derive(Debug)]
struct Choice {
    name: String,
    title: String,
    chosen: bool,
    /// Snapshots are copied to it.
    mirrors: bool,
}

/// A channel, and of what it tells.
#[derive(Debug)]
struct Channel {
    name: String,
    title: String,
    events: Vec<(&'static str, bool)>,
}

#[derive(Template)]
#[template(path = "plan.html")]
struct Page {
    frame: Frame,
    /// Its name, if it is there already.
    entry: Option<String>,
    plan: Plan,
    note: Option<Note>,
    storages: Vec<Choice>,
    /// Its repository, if that has no name here.
    elsewhere: String,
    /// Places that it is copied to and that have no name.
    unnamed: Vec<String>,
    fields: Fields,
    channels: Vec<Channel>,
    /// When, and which command.
    hooks: Vec<(&'static str, String)>,
    /// The file says that hooks may run.
    allows_hooks: bool,
    preview: Preview,
}

impl Page {
    /// A key as it is typed.
    fn text(&self, key: &str) -> String {
        self.plan.text(key)
    }

    /// When a hook that takes too long is ended.
    fn patience(&self) -> String {
        text::duration(self.plan.hooks.timeout)
    }

    /// Whether one of these keys says something, so that their part is better seen.
    fn says(&self, keys: &[&str]) -> bool {
        keys.iter().any(|key| !self.text(key).is_empty())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct To {
    #[serde(default)]
    to: String,
}

/// `GET /add-plan?to=…`
pub(super) async fn add(view: View, Query(to): Query<To>) -> Result<Response, Failure> {
    let line = "holdfast plan create NAME --to @STORAGE PLACE";
    let frame = view.frame("Add plan", Nav::Plans, line);
    let page = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            let mut plan = Plan::new("");
            plan.repository = match to.to.is_empty() {
                true => config.default_name().unwrap_or_default().to_owned(),
                false => to.to,
            };
            plan.schedule = "daily at 02:30".parse::<Schedule>().ok();
            for (rule, value) in [("daily", "7"), ("weekly", "5"), ("monthly", "12")] {
                plan.keep.set(rule, value)?;
            }
            Ok::<_, Problem>(page(frame, &config, None, plan, None))
        })
        .await?;
    Ok(html(&page))
}

/// `GET /plans/{name}`
pub(super) async fn edit(view: View, Path(name): Path<String>) -> Result<Response, Failure> {
    let line = format!("holdfast plan show {}", shell_word(&name));
    let mut frame = view.frame(&name, Nav::Plans, &line);
    let page = view
        .blocking(move |state| {
            let config = state.paths.load_config()?;
            let plan = config.plan_as_written(&name)?;
            frame.title = plan.shown().to_owned();
            let note = plan.validate().and_then(|()| plan.check_places(&config)).err();
            Ok::<_, Problem>(page(frame, &config, Some(name), plan, note.as_ref().map(Note::from)))
        })
        .await?;
    Ok(html(&page))
}

fn page(
    frame: Frame,
    config: &Config,
    entry: Option<String>,
    plan: Plan,
    note: Option<Note>,
) -> Page {
    let chosen = plan.repository_location();
    let named: Vec<_> = config
        .names()
        .into_iter()
        .map(|name| Choice {
            title: config.entry(&name).and_then(|e| e.title()).unwrap_or(&name).to_owned(),
            chosen: chosen == format!("@{name}"),
            mirrors: plan.mirror.iter().any(|text| is_same_place(text, &name)),
            name,
        })
        .collect();
    let is_named = |text: &str| named.iter().any(|choice| is_same_place(&choice.name, text));
    let elsewhere = match is_named(&plan.repository) {
        true => String::new(),
        false => plan.repository.clone(),
    };
    let unnamed = plan.mirror.iter().filter(|text| !is_named(text)).cloned().collect();
    let tells = |name: &str, event: Event| {
        plan.notify.iter().any(|notify| notify.channel == name && notify.events.contains(&event))
    };
    let channel = |name: String| Channel {
        events: Event::ALL.map(|event| (event.name(), tells(&name, event))).to_vec(),
        title: config
            .channel(&name)
            .ok()
            .and_then(|channel| channel.title)
            .unwrap_or_else(|| name.clone()),
        name,
    };
    let kinds = [
        ("before", &plan.hooks.before),
        ("after", &plan.hooks.after),
        ("on success", &plan.hooks.success),
        ("on failure", &plan.hooks.failure),
    ];
    let hooks = kinds.into_iter().flat_map(|(when, commands)| {
        commands.iter().map(move |words| {
            let words: Vec<_> = words.iter().map(shell_word).collect();
            (when, words.join(" "))
        })
    });
    Page {
        fields: Fields::of(&plan),
        channels: config.channel_names().into_iter().map(channel).collect(),
        hooks: hooks.collect(),
        allows_hooks: config.allows_hooks(),
        preview: preview::of(&plan),
        storages: named,
        elsewhere,
        unnamed,
        frame,
        entry,
        plan,
        note,
    }
}

/// `POST /plan-form/save`
pub(super) async fn save(
    view: View,
    headers: HeaderMap,
    posted: Posted,
) -> Result<Response, Failure> {
    let run_now = posted.text("then") == "run";
    let run = view
        .blocking(move |state| {
            let home = state.paths.home.clone();
            let (name, renamed) =
                Config::edit(&state.paths.config, home, |config| save_to(config, &posted))?;
            if let Some(old) = renamed {
                state.runner.history().rename_plan(&old, &name)?;
            }
            if run_now {
                state.runner.start(Job::Plan(name), By::Console).map(Some)
            } else {
                Ok(None)
            }
        })
        .await?;
    Ok(go(&headers, &run.map_or_else(|| "/plans".into(), |id| format!("/runs/{id}"))))
}

/// The plan's name now, and before if that was another.
fn save_to(config: &mut Config, posted: &Posted) -> Result<(String, Option<String>), Problem> {
    let title = posted.text("title").trim();
    let entry = posted.text("entry");
    if entry.is_empty() {
        if title.is_empty() {
            return Err(Problem::usage("the plan has no name yet")
                .hint("any text will do, such as Home folders"));
        }
        let plan = read(Plan::new(title), posted)?;
        return Ok((config.create_plan(&Plan { title: None, ..plan })?.name, None));
    }
    let before = config.plan_as_written(entry)?;
    let is_new_name = !title.is_empty() && title != before.shown();
    let name = if is_new_name { config.rename_plan(entry, title)? } else { entry.to_owned() };
    let before = config.plan_as_written(&name)?;
    let kept = before.title.clone();
    config.change_plan(&Plan { title: kept, ..read(before, posted)? })?;
    let old = (name != entry).then(|| entry.to_owned());
    Ok((name, old))
}
