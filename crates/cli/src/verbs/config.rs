//! `config`: the configuration file and the named locations in it.

mod import;
mod key;
mod set;

use clap::{Args, Subcommand};
use holdfast_app::config::Changed;
use holdfast_app::json::{Location, problem_of};
use holdfast_app::text::{plural, printable, printable_os, shell_word};
use holdfast_app::{Config as File, Problem};
use serde::Serialize;

use self::import::Import;
use self::key::GenerateKey;
use self::set::Set;
use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// Show and change the configuration: named locations
///
/// Without more, says where the configuration is and what it holds. A named location is written
/// @NAME wherever a location goes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast config
  holdfast config repository create \"Office NAS\"
  holdfast config repository set office-nas location sftp://anna@nas/backups
  holdfast config repository set office-nas password
  holdfast config repository list
  holdfast at @office-nas create")]
pub(crate) struct Config {
    #[command(subcommand)]
    what: Option<What>,
}

/// What to show or change.
#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// Named locations; `config remote` is the same
    #[command(subcommand, visible_alias = "remote")]
    Repository(Repository),
}

/// Named locations
#[derive(Debug, Subcommand)]
pub(crate) enum Repository {
    /// Make a named location
    ///
    /// Text that is no name becomes the title: "Office NAS SFTP" makes office-nas-sftp.
    Create {
        /// Letters, digits, `-`, `_` and `.`; or a title
        name: String,
    },
    Set(Set),
    /// Take an option out
    Unset {
        /// Name or title
        name: String,
        /// The option
        key: String,
    },
    /// Show one location, or all of them; secrets are hidden
    Show {
        /// Name or title
        name: Option<String>,
    },
    /// List all locations
    List,
    /// Remove a location from the configuration; what is stored there stays
    Remove {
        /// Name or title
        name: String,
    },
    /// Give a location another name; the default and plans follow
    Rename {
        /// Name or title now
        #[arg(value_name = "OLD")]
        old: String,
        /// Name or title from now on
        #[arg(value_name = "NEW")]
        new: String,
    },
    Import(Import),
    GenerateKey(GenerateKey),
    /// Test a location step by step
    Test {
        /// Name or title
        name: String,
    },
    /// Show or choose the repository of commands that name none
    Default {
        /// Name or title
        name: Option<String>,
        /// Have no default any more
        #[arg(long, conflicts_with = "name")]
        unset: bool,
    },
}

#[derive(Serialize)]
struct Overview {
    path: String,
    exists: bool,
    locations: Vec<String>,
    default: Option<String>,
    cache: Option<String>,
}

/// A named location; secrets are masked.
#[derive(Serialize)]
struct Done<'a> {
    name: &'a str,
    created: bool,
    default: bool,
    replaced: &'a [String],
    plans: &'a [String],
}

#[derive(Serialize)]
struct Default {
    default: Option<String>,
}

pub(crate) fn run(context: &Context, options: &Config) -> Result {
    match &options.what {
        None => overview(context),
        Some(What::Repository(what)) => repository(context, what),
    }
}

fn repository(context: &Context, what: &Repository) -> Result {
    match what {
        Repository::Create { name } => {
            let changed = context.edit_config(|config| config.create(name))?;
            let word = shell_word(&changed.name);
            context.ui.summary(&format!("made the location {}", changed.name))?;
            context.ui.summary(&format!(
                "  next:  holdfast config repository set {word} location LOCATION"
            ))?;
            done(context, &changed)
        }
        Repository::Set(options) => set::run(context, options),
        Repository::Unset { name, key } => {
            let changed = context.edit_config(|config| config.unset(name, key))?;
            context.ui.summary(&format!("took {key} out of {}", changed.name))?;
            done(context, &changed)
        }
        Repository::Show { name } => show(context, name.as_deref()),
        Repository::List => list(context),
        Repository::Import(options) => import::run(context, options),
        Repository::GenerateKey(options) => key::run(context, options),
        Repository::Test { name } => {
            let file =
                context.config()?.ok_or_else(|| Problem::usage("there is no configuration"))?;
            let name = file.existing(name)?;
            super::test::run_on(context, &context.place(format!("@{name}").as_ref())?)
        }
        Repository::Remove { name } => {
            let changed = context.edit_config(|config| config.remove(name))?;
            context.ui.summary(&format!(
                "removed {} from the configuration; what is stored there stays",
                changed.name
            ))?;
            if changed.default {
                context.ui.note("it was the default repository: there is none now")?;
            }
            done(context, &changed)
        }
        Repository::Rename { old, new } => {
            let changed = context.edit_config(|config| config.rename(old, new))?;
            context.ui.summary(&format!("{} is now called {}", old.trim(), changed.name))?;
            if changed.default {
                context.ui.summary("  the default follows")?;
            }
            if !changed.plans.is_empty() {
                let plans = changed.plans.join(", ");
                context.ui.summary(&format!("  plans that follow: {plans}"))?;
            }
            done(context, &changed)
        }
        Repository::Default { name, unset } => default(context, name.as_deref(), *unset),
    }
}

fn done(context: &Context, changed: &Changed) -> Result {
    if context.ui.is_json() {
        let Changed { name, created, replaced, default, plans } = changed;
        let event = Done { name, created: *created, default: *default, replaced, plans };
        context.ui.event("summary", &event)?;
    }
    Ok(Outcome::Done)
}

/// The configuration; a problem if there is no place for one.
fn config(context: &Context) -> Result<&File> {
    let path = context.config_path()?;
    Ok(context.config()?.ok_or_else(|| Problem::usage(format!("no {}", printable_os(path))))?)
}

fn overview(context: &Context) -> Result {
    let config = config(context)?;
    let names = config.names();
    let cache = context.cache().map(printable_os);
    let path = printable_os(config.path());
    if context.ui.is_json() {
        let default = config.default_name().map(String::from);
        let event = Overview { path, exists: config.exists(), locations: names, default, cache };
        context.ui.event("config", &event)?;
        return Ok(Outcome::Done);
    }
    let ui = &context.ui;
    let there = if config.exists() { "" } else { " (not there yet)" };
    ui.line(&format!("configuration  {path}{there}"))?;
    ui.line(&format!("locations      {}", plural(names.len() as u64, "location", "locations")))?;
    let at = match (std::env::var_os("HOLDFAST_REPOSITORY"), config.default_name()) {
        (Some(at), _) if !at.is_empty() => format!("{} (HOLDFAST_REPOSITORY)", printable_os(at)),
        (_, Some(name)) => format!("@{}", printable(name.as_bytes())),
        (_, None) => "~/.holdfast".into(),
    };
    ui.line(&format!("default        {at}"))?;
    ui.line(&format!("cache          {}", cache.unwrap_or_else(|| "none".into())))?;
    ui.summary("\nto see them: holdfast config repository list; all options: docs/configuration.md, or\nholdfast config repository set --help")?;
    Ok(Outcome::Done)
}

fn list(context: &Context) -> Result {
    let config = config(context)?;
    let columns = ["NAME", "KIND", "LOCATION", "TITLE", "NOTE"];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for name in config.names() {
        let Some(entry) = config.entry(&name) else { continue };
        let row = Location::new(config, &entry, false);
        if context.ui.is_json() {
            context.ui.row("location", &row)?;
            continue;
        }
        let mut note = if row.default { "default" } else { "" }.to_owned();
        if row.problem.is_some() {
            let comma = if note.is_empty() { "" } else { ", " };
            note.push_str(&format!("{comma}incomplete or wrong: see `show`"));
        }
        table.add(vec![
            printable(row.name.as_bytes()),
            row.kind.unwrap_or_default(),
            row.location.unwrap_or_default(),
            row.title.map(|title| printable(title.as_bytes())).unwrap_or_default(),
            note,
        ]);
    }
    if context.ui.is_json() {
        return Ok(Outcome::Done);
    }
    if table.is_empty() {
        context.ui.note("no locations; to make one: holdfast config repository create NAME")?;
    } else {
        table.write(&mut *context.ui.out())?;
    }
    Ok(Outcome::Done)
}

fn show(context: &Context, name: Option<&str>) -> Result {
    let config = config(context)?;
    let names = match name {
        Some(text) => vec![config.existing(text)?],
        None => config.names(),
    };
    for (i, name) in names.iter().enumerate() {
        let entry = config.expect(name)?;
        if context.ui.is_json() {
            context.ui.row("location", &Location::new(config, &entry, true))?;
            continue;
        }
        if i > 0 {
            context.ui.line("")?;
        }
        let default = if config.default_name() == Some(name) { "  # the default" } else { "" };
        context.ui.line(&format!("[repository.{}]{default}", printable(name.as_bytes())))?;
        for line in entry.lines() {
            let value = line.value.lines().map(|l| printable(l.as_bytes())).collect::<Vec<_>>();
            let name = printable(line.name.as_bytes());
            context.ui.line(&format!("{name} = {}", value.join("\n")))?;
        }
        if let Some(problem) = problem_of(&entry) {
            context.ui.flush()?;
            context.ui.warn(&problem.to_string())?;
            for hint in &problem.hints {
                context.ui.note(&format!("  hint: {hint}"))?;
            }
        }
    }
    Ok(Outcome::Done)
}

fn default(context: &Context, name: Option<&str>, unset: bool) -> Result {
    let default = match name {
        Some(name) => {
            let name = context.edit_config(|config| config.set_default(name))?.name;
            context.ui.summary(&format!("the default repository is @{name}"))?;
            Some(name)
        }
        None if unset => {
            let was = context.edit_config(|config| Ok(config.unset_default()))?;
            let text = match was {
                Some(name) => format!("@{name} is no default any more"),
                None => "there was no default".into(),
            };
            context.ui.summary(&text)?;
            None
        }
        None => {
            let name = config(context)?.default_name().map(String::from);
            match &name {
                Some(name) => context.ui.line(&format!("@{}", printable(name.as_bytes())))?,
                None => context.ui.note("there is no default; ~/.holdfast is used")?,
            }
            name
        }
    };
    if context.ui.is_json() {
        context.ui.event("summary", &Default { default })?;
    }
    Ok(Outcome::Done)
}
