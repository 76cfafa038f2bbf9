//! Making and changing plans.

use std::path::Path;

use clap::Args;
use holdfast_app::config::name_of;
use holdfast_app::location::absolute;
use holdfast_app::plans::{Plan, keys};
use holdfast_app::runs::History;
use holdfast_app::text::{printable_os, shell_word};
use holdfast_app::{Config, Location, Problem, unattended};
use serde::Serialize;

use crate::args::OtherSecret;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};

/// Make a plan
///
/// If the repository asks for a passphrase, it is asked for once, and a key file of its own is made
/// and added, so that runs ask nobody. The passphrase is not stored.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Create {
    /// A name, or a title to make one from
    name: String,
    /// What to back up: paths, @NAME, sftp://, s3://
    #[arg(required = true, value_name = "PLACE")]
    places: Vec<String>,
    #[command(flatten)]
    settings: Settings,
}

/// Change a plan
///
/// What is not written stays as it is. PLACEs replace those of the plan.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct Edit {
    /// The plan
    name: String,
    /// What to back up from now on
    #[arg(value_name = "PLACE")]
    places: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    /// Take a key out, so that what holds anyway holds; may be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

/// What a plan says.
#[derive(Debug, Args)]
struct Settings {
    /// The repository: a named location, or any
    #[arg(long, value_name = "LOCATION")]
    to: Option<String>,
    /// What people call it
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// When it runs: "daily at 02:30", "every 6 hours", "weekly on sun at 03:00", "cron 30 2 * * *"
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<String>,
    /// Which snapshots stay: last=N, hourly=N, daily=N, …, within=AGE, with commas
    #[arg(long, value_name = "RULES")]
    keep: Option<String>,
    /// Leave out what matches this .gitignore rule; may be repeated
    #[arg(long, value_name = "RULE")]
    exclude: Vec<String>,
    /// Tag the snapshots; may be repeated, or a list with commas
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Any key of a plan, as in the file: jitter=10m, 'mirror=["attic"]'; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn after_help() -> String {
    format!("Keys of --set:\n{}", keys::summary())
}

#[derive(Serialize)]
struct Done<'a> {
    plan: &'a str,
    done: &'a str,
}

impl Settings {
    fn is_empty(&self) -> bool {
        let texts = [&self.to, &self.title, &self.schedule, &self.keep];
        let lists = [&self.exclude, &self.tag, &self.set];
        texts.iter().all(|text| text.is_none()) && lists.iter().all(|list| list.is_empty())
    }

    /// Changes `plan` to what was written.
    fn apply(&self, plan: &mut Plan, places: &[String]) -> std::result::Result<(), Problem> {
        if !places.is_empty() {
            plan.sources =
                places.iter().map(|text| kept(text)).collect::<std::result::Result<_, _>>()?;
        }
        if let Some(text) = &self.to {
            plan.repository = kept(text)?;
        }
        if let Some(title) = &self.title {
            plan.title = Some(title.clone());
        }
        if let Some(schedule) = &self.schedule {
            plan.schedule = Some(schedule.parse()?);
        }
        if let Some(rules) = &self.keep {
            plan.keep = Default::default();
            for rule in rules.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
                let (name, value) = rule.split_once('=').ok_or_else(|| {
                    Problem::usage(format!("{rule:?} is no rule of --keep"))
                        .hint("for instance --keep daily=7,weekly=5,monthly=12")
                })?;
                plan.keep.set(name.trim(), value)?;
            }
        }
        if !self.exclude.is_empty() {
            plan.exclude.clone_from(&self.exclude);
        }
        if !self.tag.is_empty() {
            plan.tags.clone_from(&self.tag);
        }
        for word in &self.set {
            let (key, value) = word.split_once('=').ok_or_else(|| {
                Problem::usage(format!("{word:?} is not KEY=VALUE"))
                    .hint("for instance --set jitter=10m")
            })?;
            plan.set(key.trim(), value)?;
        }
        Ok(())
    }
}

/// A location that is typed now and must mean the same later.
fn kept(text: &str) -> std::result::Result<String, Problem> {
    Ok(match Location::parse(text.as_ref())? {
        Location::Local(path) if !text.contains("://") => {
            let slash = if text.ends_with('/') && path != Path::new("/") { "/" } else { "" };
            let path = absolute(&path).into_os_string().into_string().map_err(|path| {
                Problem::usage(format!("{} is not UTF-8", printable_os(path)))
                    .hint("a path in the configuration must be")
            })?;
            format!("{path}{slash}")
        }
        Location::Stream => return Err(Problem::usage("standard input cannot stand in a plan")),
        _ => text.to_owned(),
    })
}

pub(super) fn create(context: &Context, options: &Create) -> Result {
    let mut plan = Plan::new(&options.name);
    options.settings.apply(&mut plan, &options.places)?;
    if plan.repository.is_empty() {
        // What commands use that name none.
        plan.repository =
            context.config()?.and_then(Config::default_name).unwrap_or_default().into();
    }
    if plan.repository.is_empty() {
        return Err(Problem::usage("nothing says where the plan backs up to")
            .hint("say --to @NAME; to see the named locations: holdfast config repository list")
            .into());
    }
    // Before anybody is asked for a passphrase.
    plan.validate()?;
    let config = context.paths()?.load_config()?;
    plan.check_places(&config)?;
    plan.check_channels(&config, &[])?;
    if !config.plan_names().contains(&name_of(&plan.name)?.0) {
        prepare(context, &plan)?;
    }
    let plan = context.edit_config(|config| config.create_plan(&plan))?;
    context.ui.summary(&format!("made the plan {}", plan.name))?;
    let word = shell_word(&plan.name);
    let next = match &plan.schedule {
        Some(_) => "holdfast serve runs it when it is due",
        None => "it has no schedule: run it by hand or from cron",
    };
    context.ui.summary(&format!("  {next}"))?;
    context.ui.summary(&format!("  to run it now:  holdfast run {word}"))?;
    done(context, &plan.name, "created")
}

/// Sees to it that its repository and the copies can be opened when nobody is there.
fn prepare(context: &Context, plan: &Plan) -> Result<()> {
    let all = std::iter::once(plan.repository_location()).chain(plan.mirror_locations());
    all.into_iter().try_for_each(|location| prepare_one(context, plan, &location))
}

fn prepare_one(context: &Context, plan: &Plan, location: &str) -> Result<()> {
    let place = context.other(location.as_ref())?;
    if unattended::is_ready(&place) {
        return Ok(());
    }
    let given = OtherSecret {
        other_key_file: context.global.key_file.clone(),
        other_passphrase_file: context.global.passphrase_file.clone(),
        other_no_encryption: false,
    };
    let repository = match context.open_other(&place, &given) {
        Ok(repository) => repository,
        Err(Failure::Engine(holdfast_engine::Error::KeyNeeded { .. })) => {
            context.ui.warn(&format!(
                "{place} asks for a passphrase, and nobody is there to type it: runs will fail \
                 until the configuration says what opens it"
            ))?;
            // With the repository that the plan has nothing of it changes, and copies are looked at
            // as well.
            return Ok(context.ui.warn(&format!(
                "  hint: to type it once: holdfast plan edit {} --to {}",
                shell_word(&plan.name),
                shell_word(plan.repository_location()),
            ))?);
        }
        Err(failure) => return Err(failure),
    };
    if !repository.config().is_encrypted() {
        return Ok(());
    }
    let Some(name) = &place.name else {
        return Err(Problem::usage(format!(
            "a plan runs when nobody is there to type the passphrase of {place}, and only a named \
             location can say what opens it"
        ))
        .hint(format!(
            "make it one: holdfast config repository set NAME location {}",
            shell_word(place.to_string())
        ))
        .hint("then say --to @NAME")
        .into());
    };
    if let Some(path) = unattended::enroll(&context.paths()?, name, &repository)? {
        context.ui.summary(&format!("made the key file {}", printable_os(&path)))?;
        context.ui.summary("  it opens the repository for runs; the passphrase is not stored")?;
    }
    Ok(())
}

pub(super) fn edit(context: &Context, options: &Edit) -> Result {
    if options.places.is_empty() && options.settings.is_empty() && options.unset.is_empty() {
        return Err(Problem::usage("nothing says what to change")
            .hint("for instance --schedule \"daily at 02:30\"")
            .hint(format!("or edit the file: {}", printable_os(context.paths()?.config)))
            .into());
    }
    let changed = |config: &Config| {
        let mut plan = config.plan_as_written(&options.name)?;
        options.unset.iter().try_for_each(|key| plan.unset(key))?;
        options.settings.apply(&mut plan, &options.places)?;
        Ok::<_, Problem>(plan)
    };
    let names_repositories =
        |word: &String| word.starts_with("mirror=") || word.starts_with("repository=");
    if options.settings.to.is_some() || options.settings.set.iter().any(names_repositories) {
        prepare(context, &changed(&context.paths()?.load_config()?)?)?;
    }
    context.edit_config(|config| {
        let plan = changed(config)?;
        config.change_plan(&plan)
    })?;
    context.ui.summary(&format!("changed the plan {}", options.name))?;
    done(context, &options.name, "changed")
}

pub(super) fn enable(context: &Context, name: &str, enabled: bool) -> Result {
    context.edit_config(|config| {
        let plan = config.plan_as_written(name)?;
        config.change_plan(&Plan { enabled, ..plan })
    })?;
    let (text, word) = match enabled {
        true => ("its schedules count from now on", "enabled"),
        false => ("its schedules count no more; `holdfast run` still works", "disabled"),
    };
    context.ui.summary(&format!("plan {name}: {text}"))?;
    done(context, name, word)
}

pub(super) fn rename(context: &Context, old: &str, new: &str) -> Result {
    let new = context.edit_config(|config| config.rename_plan(old, new))?;
    if new != old {
        History::open(&context.paths()?.state)?.rename_plan(old, &new)?;
        context.ui.note(&format!(
            "snapshots made so far keep the tag plan:{old}: rules of {new} do not see them"
        ))?;
    }
    context.ui.summary(&format!("{old} is now called {new}"))?;
    done(context, &new, "renamed")
}

pub(super) fn remove(context: &Context, name: &str) -> Result {
    context.edit_config(|config| config.remove_plan(name))?;
    context.ui.summary(&format!("removed the plan {name}; its snapshots and its history stay"))?;
    done(context, name, "removed")
}

fn done(context: &Context, plan: &str, done: &str) -> Result {
    if context.ui.is_json() {
        context.ui.event("summary", &Done { plan, done })?;
    }
    Ok(Outcome::Done)
}
