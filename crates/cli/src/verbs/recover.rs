//! `recover`: the configuration of a lost machine, from a repository and its passphrase alone.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::seal::{Recovered, find};
use holdfast_app::text::{plural, printable, shell_word};
use holdfast_app::times::local;
use holdfast_app::{Ask, Class, Config, Problem, unattended};
use holdfast_engine::repo::Repository;
use serde::Serialize;

use crate::args::Global;
use crate::context::{Context, home};
use crate::failure::{Outcome, Result};
use crate::ui::prompt::Terminal;

/// Rebuild plans and named locations from a repository
///
/// Each run of a plan stores the plan and its locations in its snapshot, without secrets and without
/// anything that would run a command. This shows what the newest snapshots say, asks whether to add
/// it to the configuration, and asks for the secrets. What is there already stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast recover sftp://backup@nas.example.com/volume1/holdfast
  holdfast at @office-nas recover
  holdfast recover /mnt/disk/backups --dry-run")]
pub(crate) struct Recover {
    /// The repository; the same as `at LOCATION`
    #[arg(value_name = "LOCATION", conflicts_with = "at")]
    location: Option<OsString>,
    /// Show what would be added, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Add it without asking
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Summary<'a> {
    dry_run: bool,
    plans: &'a [String],
    locations: &'a [String],
    kept: &'a [String],
    secrets: Vec<String>,
    channels: &'a [String],
}

pub(crate) fn run(context: &Context, options: &Recover) -> Result {
    let Some(location) = &options.location else { return recover(context, options) };
    let global = Global { at: Some(location.clone()), ..context.global.clone() };
    recover(&Context::new(global), options)
}

fn recover(context: &Context, options: &Recover) -> Result {
    let ui = &context.ui;
    let repository = context.open()?;
    let (found, problems) = find(&context.snapshots(&repository)?.0);
    problems.iter().try_for_each(|problem| ui.warn(&problem.to_string()))?;
    if found.is_empty() {
        return Err(Problem::new(Class::NoSuchSnapshot, "no snapshot there was made by a plan")
            .hint(format!("to restore files: {}", context.line("restore latest --to DIR")))
            .into());
    }
    for sealed in &found {
        let name = printable(sealed.name.as_bytes());
        ui.say(&format!("# plan {name}, as of {}", local(sealed.time)))?;
        sealed.shown().lines().try_for_each(|line| ui.say(&printable(line.as_bytes())))?;
        ui.say("")?;
    }
    if options.dry_run {
        ui.summary("dry run: nothing was changed")?;
        return tell(context, &Recovered::default(), true);
    }
    let question =
        format!("Add {} to the configuration?", plural(found.len() as u64, "plan", "plans"));
    match options
        .yes
        .then_some(true)
        .map_or_else(|| Terminal.confirm(&question), |yes| Ok(Some(yes)))?
    {
        Some(true) => {}
        Some(false) => {
            ui.summary("nothing was changed")?;
            return Ok(Outcome::Done);
        }
        None => {
            return Err(Problem::usage("nobody is there to say whether this is right")
                .hint("look at it with --dry-run, then say --yes")
                .into());
        }
    }
    let path = context.config_path()?;
    let done = Config::edit(&path, home(), |config| {
        let mut done = Recovered::default();
        found.iter().try_for_each(|sealed| sealed.add_to(config, &mut done))?;
        Ok(done)
    })?;
    for plan in &done.plans {
        ui.summary(&format!("added the plan {plan}"))?;
    }
    done.kept
        .iter()
        .try_for_each(|kept| ui.note(&format!("the {kept} is there already, and stays")))?;
    ask_secrets(context, &done)?;
    enroll(context, &repository, &done)?;
    for channel in &done.channels {
        ui.warn(&format!("notifications go to {channel}, which the configuration lacks"))?;
    }
    tell(context, &done, false)
}

/// Asks for what was left out. Nothing typed: it stays out, and is named.
fn ask_secrets(context: &Context, done: &Recovered) -> Result<()> {
    for (location, key) in &done.secrets {
        // The service's own key is made anew; a command is for who edits the file.
        let is_asked =
            !matches!(key.as_str(), "repository_key_file" | "ssh_command" | "passphrase");
        let prompt = format!("{key} of @{location} (empty to set it later): ");
        let answer = match is_asked {
            true => Terminal.secret(&prompt)?.filter(|answer| !answer.is_empty()),
            false => None,
        };
        match answer {
            Some(answer) => {
                Config::edit(&context.config_path()?, home(), |config| {
                    config.set(location, key, &answer).map(drop)
                })?;
            }
            None if key == "repository_key_file" || key == "passphrase" => {}
            None => {
                let word = shell_word(location);
                context.ui.warn(&format!("{key} of @{location} is not set"))?;
                let line = format!("holdfast config repository set {word} {key}");
                context.ui.note(&format!("  hint: {line}"))?;
            }
        }
    }
    Ok(())
}

/// Lets the service open the repository that was recovered from; the others are opened by `plan
/// edit NAME --to`.
fn enroll(context: &Context, repository: &Repository, done: &Recovered) -> Result<()> {
    let paths = context.paths()?;
    let config = paths.load_config()?;
    for name in &done.locations {
        let place = match paths.resolve(format!("@{name}").as_ref(), &config) {
            Ok(place) => place,
            Err(problem) => {
                context.ui.warn(&problem.to_string())?;
                continue;
            }
        };
        if place.to_string() == context.location()?.to_string() {
            if let Some(path) = unattended::enroll(&paths, name, repository)? {
                let path = holdfast_app::text::printable_os(path);
                context.ui.summary(&format!("made the key file {path} for @{name}"))?;
            }
        } else if done.secrets.iter().any(|(of, key)| {
            of == name && matches!(key.as_str(), "passphrase" | "repository_key_file")
        }) {
            let word = shell_word(format!("@{name}"));
            context.ui.warn(&format!("nothing says what opens the repository @{name}"))?;
            context.ui.note(&format!("  hint: holdfast plan edit PLAN --to {word} asks for it"))?;
        }
    }
    Ok(())
}

fn tell(context: &Context, done: &Recovered, dry_run: bool) -> Result {
    if context.ui.is_json() {
        let secrets = done.secrets.iter().map(|(name, key)| format!("{name}.{key}")).collect();
        let Recovered { locations, plans, kept, channels, .. } = done;
        context
            .ui
            .event("summary", &Summary { dry_run, plans, locations, kept, secrets, channels })?;
    }
    if !done.plans.is_empty() {
        context.ui.summary("  to see when they run:  holdfast plan list")?;
        context.ui.summary("  to run them by themselves:  holdfast serve --install-unit")?;
    }
    Ok(Outcome::Done)
}
