//! The editor of a plan. The form holds what people set; what it does not show stays as the file
//! says it.

use askama::Template;
use axum::extract::{Path, Query};
use axum::response::Response;
use holdfast_app::jobs::Job;
use holdfast_app::plans::{Check, Drill, Event, Follows, Notify, Overlap, Plan};
use holdfast_app::retention::Retention;
use holdfast_app::runs::By;
use holdfast_app::schedule::Schedule;
use holdfast_app::text::{parse_size, shell_word};
use holdfast_app::{Config, Problem};
use http::HeaderMap;
use serde::Deserialize;
use std::time::Duration;

use super::preview::{self, Preview};
use crate::failure::{Failure, Note};
use crate::pages::go;
use crate::posted::Posted;
use crate::view::{Frame, Nav, View, html};

/// The rules of retention that have a field, and what they are called.
pub(super) const RULES: [(&str, &str); 6] = [
    ("last", "Last"),
    ("hourly", "Hourly"),
    ("daily", "Daily"),
    ("weekly", "Weekly"),
    ("monthly", "Monthly"),
    ("yearly", "Yearly"),
];

/// How often, as the form says it.
#[derive(Debug, Default)]
pub(super) struct When {
    /// "hand", "hourly", "daily", "weekly", "monthly" or "own".
    often: &'static str,
    at: String,
    day: String,
    date: String,
    own: String,
}

/// A storage to choose.
#[derive(Debug)]
struct Choice {
    name: String,
    title: String,
    chosen: bool,
}

/// A channel, and of what it tells.
#[derive(Debug)]
struct Channel {
    name: String,
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
    when: When,
    keep: Vec<(&'static str, &'static str, String)>,
    within: String,
    larger: String,
    jitter: String,
    gc: String,
    check: String,
    drill: String,
    upload: String,
    channels: Vec<Channel>,
    preview: Preview,
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
            page(frame, &config, None, plan, None)
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
            page(frame, &config, Some(name), plan, note.as_ref().map(Note::from))
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
) -> Result<Page, Problem> {
    let chosen = plan.repository_location();
    let storages = config.names().into_iter().map(|name| Choice {
        title: config.entry(&name).and_then(|e| e.title()).unwrap_or(&name).to_owned(),
        chosen: chosen == format!("@{name}"),
        name,
    });
    let pairs = plan.keep.pairs();
    let rule = |name: &str| {
        pairs.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let tells = |name: &str, event: Event| {
        plan.notify.iter().any(|notify| notify.channel == name && notify.events.contains(&event))
    };
    let channel = |name: String| Channel {
        events: Event::ALL.map(|event| (event.name(), tells(&name, event))).to_vec(),
        name,
    };
    let follows = |follows: &Follows| match follows {
        Follows::Never => String::new(),
        Follows::Run => "run".into(),
        Follows::On(schedule) => schedule.to_string(),
    };
    let check = plan.check.as_ref().map(|check| check.data.to_string()).unwrap_or_default();
    Ok(Page {
        storages: storages.collect(),
        when: when(plan.schedule.as_ref()),
        keep: RULES.map(|(name, label)| (name, label, rule(name))).to_vec(),
        within: rule("within"),
        larger: plan.exclude_larger_than.map(|n| n.to_string()).unwrap_or_default(),
        jitter: match plan.jitter.as_secs() / 60 {
            0 => String::new(),
            minutes => minutes.to_string(),
        },
        gc: follows(&plan.gc),
        check,
        drill: plan.drill.as_ref().map(|drill| drill.schedule.to_string()).unwrap_or_default(),
        upload: plan.limit_upload.map(|rate| rate.to_string()).unwrap_or_default(),
        channels: config.channel_names().into_iter().map(channel).collect(),
        preview: preview::of(&plan),
        frame,
        entry,
        plan,
        note,
    })
}

/// A schedule in the fields of the form.
fn when(schedule: Option<&Schedule>) -> When {
    let Some(text) = schedule.map(ToString::to_string) else {
        return When { often: "hand", at: "02:30".into(), ..When::default() };
    };
    let base = When { at: "02:30".into(), day: "sun".into(), date: "1".into(), ..When::default() };
    let one = |at: &str| at.len() == 5 && !at.contains(',');
    if text == "hourly" {
        return When { often: "hourly", ..base };
    }
    if let Some(at) = text.strip_prefix("daily at ").filter(|at| one(at)) {
        return When { often: "daily", at: at.into(), ..base };
    }
    for (start, often) in [("weekly on ", "weekly"), ("monthly on ", "monthly")] {
        let parts = text.strip_prefix(start).and_then(|rest| rest.split_once(" at "));
        if let Some((on, at)) = parts.filter(|(on, at)| one(at) && !on.contains(',')) {
            return match often {
                "weekly" => When { often, day: on.into(), at: at.into(), ..base },
                _ => When { often, date: on.into(), at: at.into(), ..base },
            };
        }
    }
    When { often: "own", own: text, ..base }
}

/// The schedule that a form says; `None`: by hand.
fn schedule(posted: &Posted) -> Result<Option<Schedule>, Problem> {
    let at = posted.text("at").trim();
    let text = match posted.text("often") {
        "hand" => return Ok(None),
        "hourly" => "hourly".to_owned(),
        "daily" => format!("daily at {at}"),
        "weekly" => format!("weekly on {} at {at}", posted.text("day")),
        "monthly" => format!("monthly on {} at {at}", posted.text("date")),
        _ => posted.text("own").trim().to_owned(),
    };
    text.parse().map(Some)
}

/// The plan that a form says, on top of what was there before.
pub(super) fn read(mut plan: Plan, posted: &Posted) -> Result<Plan, Problem> {
    let lines = |field: &str| -> Vec<String> {
        let lines = posted.text(field).lines().map(str::trim);
        lines.filter(|line| !line.is_empty()).map(String::from).collect()
    };
    let ticked = |field: &str| posted.text(field) == "true";
    let number = |field: &str| -> Result<Option<u64>, Problem> {
        match posted.text(field).trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                Problem::usage(format!("{text} is no number")).hint("write digits, or nothing")
            }),
        }
    };
    let bytes = |field: &str| -> Result<Option<u64>, Problem> {
        match posted.text(field).trim() {
            "" => Ok(None),
            text => parse_size(text).filter(|n| *n > 0).map(Some).ok_or_else(|| {
                Problem::usage(format!("{text} is no size")).hint("write 512K, 10M or 2G")
            }),
        }
    };
    let title = posted.text("title").trim();
    plan.title = Some(title.to_owned()).filter(|title| !title.is_empty() && *title != plan.name);
    plan.enabled = !ticked("disabled");
    plan.repository = posted.text("repository").to_owned();
    plan.sources = lines("sources");
    plan.exclude = lines("exclude");
    plan.exclude_larger_than = bytes("larger")?;
    plan.exclude_caches = ticked("exclude_caches");
    plan.one_file_system = ticked("one_file_system");
    plan.schedule = schedule(posted)?;
    let zone = posted.text("timezone").trim();
    plan.timezone = (!zone.is_empty()).then(|| zone.to_owned());
    plan.jitter = Duration::from_secs(number("jitter")?.unwrap_or(0).saturating_mul(60));
    plan.catch_up = ticked("catch_up");
    plan.overlap = if posted.text("overlap") == "queue" { Overlap::Queue } else { Overlap::Skip };
    plan.keep = keep(&plan.keep, posted)?;
    plan.limit_upload = bytes("upload")?;
    plan.gc = match posted.text("gc").trim() {
        "" => Follows::Never,
        "run" => Follows::Run,
        text => Follows::On(text.parse()?),
    };
    plan.check = match number("check")? {
        None => None,
        Some(percent) => Some(Check {
            data: u8::try_from(percent).ok().filter(|p| *p <= 100).ok_or_else(|| {
                Problem::usage(format!("{percent} is no share of the data in percent"))
                    .hint("write 0 (structure alone) to 100")
            })?,
            schedule: plan.check.and_then(|check| check.schedule),
        }),
    };
    plan.drill = match posted.text("drill").trim() {
        "" => None,
        text => {
            let schedule = text.parse()?;
            Some(match plan.drill {
                Some(drill) => Drill { schedule, ..drill },
                None => Drill::new(schedule),
            })
        }
    };
    for channel in posted.all("channel") {
        let events = Event::ALL.into_iter();
        let wanted = |event: &Event| ticked(&format!("notify.{channel}.{}", event.name()));
        let events: Vec<_> = events.filter(wanted).collect();
        plan.notify.retain(|notify| notify.channel != channel);
        if !events.is_empty() {
            plan.notify.push(Notify { channel: channel.to_owned(), events });
        }
    }
    Ok(plan)
}

/// The rules of the form, and those of before that have no field.
fn keep(before: &Retention, posted: &Posted) -> Result<Retention, Problem> {
    let mut keep = Retention::default();
    let has_field = |name: &str| name == "within" || RULES.iter().any(|(rule, _)| *rule == name);
    for (name, value) in before.pairs().into_iter().filter(|(name, _)| !has_field(name)) {
        keep.set(&name, &value)?;
    }
    for name in RULES.map(|(name, _)| name).into_iter().chain(["within"]) {
        let value = posted.text(&format!("keep.{name}")).trim().to_owned();
        if !value.is_empty() && value != "0" {
            keep.set(name, &value)?;
        }
    }
    Ok(keep)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_stands_in_the_fields_that_say_it_and_comes_back() -> Result<(), Problem> {
        for (text, often) in [
            ("hourly", "hourly"),
            ("daily at 02:30", "daily"),
            ("weekly on sun at 03:00", "weekly"),
            ("monthly on 1 at 04:00", "monthly"),
            ("daily at 02:30,14:30", "own"),
            ("weekly on mon,fri at 03:00", "own"),
            ("every 6 hours", "own"),
            ("cron 30 2 * * *", "own"),
        ] {
            let schedule: Schedule = text.parse()?;
            let when = when(Some(&schedule));
            assert_eq!(when.often, often, "{text}");
            let form = format!(
                "often={}&at={}&day={}&date={}&own={}",
                when.often, when.at, when.day, when.date, when.own
            );
            let posted = Posted::new(form.replace(' ', "+").as_bytes());
            assert_eq!(super::schedule(&posted)?.map(|s| s.to_string()).as_deref(), Some(text));
        }
        Ok(())
    }
}
