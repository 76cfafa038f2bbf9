//! `recover`: the configuration of a lost machine, from a repository and its passphrase alone.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;

use clap::Args;
use holdfast_app::ask::Nobody;
use holdfast_app::config::keys;
use holdfast_app::open::open_storage;
use holdfast_app::paths::Paths;
use holdfast_app::seal::{AcceptedKey, HostKeys, Recovered, Sealed, find};
use holdfast_app::text::{plural, printable, shell_word};
use holdfast_app::times::local;
use holdfast_app::{Ask, Class, Config, Problem, Resolved, unattended};
use holdfast_engine::repo::{Repository, open};
use serde::Serialize;

use crate::args::Global;
use crate::context::{Context, home};
use crate::failure::{Failure, Outcome, Result};
use crate::ui::prompt::Terminal;

/// Rebuild plans and named locations from a repository
///
/// Each run of a plan stores the plan, its locations and their accepted host keys in its snapshot,
/// without secrets and without anything that would run a command. This shows what the newest
/// snapshots say, asks whether to add it to the configuration, and asks for the secrets. What is
/// there already stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast recover sftp://backup@nas.example.com/volume1/holdfast
  holdfast at @office-nas recover
  holdfast recover /mnt/disk/backups --dry-run")]
pub(crate) struct Recover {
    /// The repository; the same as `at LOCATION`
    #[arg(value_name = "LOCATION", conflicts_with = "at")]
    location: Option<OsString>,
    /// Plans of this machine alone, where the repository holds those of several
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Show what would be added, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Add it without asking
    #[arg(long)]
    yes: bool,
}

/// A plan that could not be added, and why.
#[derive(Serialize)]
struct Refused {
    plan: String,
    problem: String,
}

#[derive(Serialize)]
struct Summary<'a> {
    dry_run: bool,
    plans: &'a [String],
    refused: &'a [Refused],
    locations: &'a [String],
    kept: &'a [String],
    secrets: Vec<String>,
    channels: &'a [String],
    hooks: &'a [String],
    host_keys: Vec<String>,
}

pub(crate) fn run(context: &Context, options: &Recover) -> Result {
    let Some(location) = &options.location else { return recover(context, options) };
    let global = Global { at: Some(location.clone()), ..context.global.clone() };
    let inner = Context::new(global);
    // What to type next names the place that was named here.
    recover(&inner, options).map_err(|failure| match failure {
        Failure::Output(_) => failure,
        failure => failure.explain(inner.at()).into(),
    })
}

fn recover(context: &Context, options: &Recover) -> Result {
    let ui = &context.ui;
    let repository = context.open()?;
    let (mut found, problems) = find(&context.snapshots(&repository)?.0);
    problems.iter().try_for_each(|problem| ui.warn(&problem.to_string()))?;
    if found.is_empty() {
        return Err(Problem::new(Class::NoSuchSnapshot, "no snapshot there was made by a plan")
            .hint(format!("to restore files: {}", context.line("restore latest --to DIR")))
            .into());
    }
    let several = choose_host(context, options, &mut found)?;
    for sealed in &found {
        let name = printable(sealed.name.as_bytes());
        let host = match sealed.host.as_str() {
            "" => String::new(),
            host => format!(" of {}", printable(host.as_bytes())),
        };
        ui.say(&format!("# plan {name}{host}, as of {}", local(sealed.time)))?;
        sealed.shown().lines().try_for_each(|line| ui.say(&printable(line.as_bytes())))?;
        ui.say("")?;
    }
    if let (false, Some(problem)) = (options.dry_run, several) {
        return Err(problem.into());
    }
    if options.dry_run {
        ui.summary("dry run: nothing was changed")?;
        return tell(context, &Recovered::default(), &[], &HostKeys::default(), true);
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
    let (done, refused) = Config::edit(&path, home(), |config| {
        let mut done = Recovered::default();
        let add = |sealed: &Sealed| match sealed.add_to(config, &mut done) {
            Ok(()) => None,
            Err(problem) => {
                Some(Refused { plan: sealed.name.clone(), problem: problem.to_string() })
            }
        };
        // One of a newer version, say, must not keep the others from coming back.
        let refused: Vec<_> = found.iter().filter_map(add).collect();
        Ok((done, refused))
    })?;
    for Refused { plan, problem } in &refused {
        ui.warn(&format!("the plan {plan} was not added: {problem}"))?;
    }
    for plan in &done.plans {
        ui.summary(&format!("added the plan {plan}"))?;
    }
    done.kept
        .iter()
        .try_for_each(|kept| ui.note(&format!("the {kept} is there already, and stays")))?;
    let is_refused = |sealed: &&Sealed| refused.iter().any(|of| of.plan == sealed.name);
    let host_keys = accept_host_keys(context, found.iter().filter(|sealed| !is_refused(sealed)))?;
    ask_secrets(context, &done)?;
    enroll(context, &repository, &done)?;
    let own = holdfast_app::jobs::host();
    if let Some(other) = found.iter().find(|of| of.host != own && done.plans.contains(&of.name)) {
        context.ui.note(&format!(
            "this machine is not called {}: what was made there stays, whatever the rules of the plans \
             say, until it is forgotten by hand",
            printable(other.host.as_bytes())
        ))?;
    }
    for plan in &done.hooks {
        ui.warn(&format!("the plan {plan} had hooks: they are not in the repository"))?;
        let word = shell_word(plan);
        ui.note(&format!("  hint: holdfast plan edit {word} --set 'hooks={{ before = [[…]] }}'"))?;
    }
    for channel in &done.channels {
        ui.warn(&format!("notifications go to {channel}, which the configuration lacks"))?;
    }
    tell(context, &done, &refused, &host_keys, false)
}

/// The host keys that were accepted for the places of these plans are known here from now on.
fn accept_host_keys<'a>(
    context: &Context,
    plans: impl Iterator<Item = &'a Sealed>,
) -> Result<HostKeys> {
    let (config, access) = (context.paths()?.load_config()?, context.access());
    let mut done = HostKeys::default();
    for sealed in plans {
        if let Err(problem) = sealed.accept_host_keys(&config, &access, &mut done) {
            context.ui.warn(&problem.to_string())?;
        }
    }
    for key in &done.accepted {
        context.ui.summary(&format!("accepted the host key of {}", key.shown()))?;
    }
    for key in &done.differing {
        context.ui.warn(&format!(
            "the host key of {} was left out: this machine knows another for that host",
            key.shown()
        ))?;
    }
    for key in &done.unused {
        context.ui.note(&format!(
            "the host key of {} was left out: by no name that this machine knows is it needed",
            key.shown()
        ))?;
    }
    Ok(done)
}

/// Leaves the plans of one machine: the one that was named, or this one. Where several others are
/// there, none is left out, and that is returned as a problem.
fn choose_host(
    context: &Context,
    options: &Recover,
    found: &mut Vec<Sealed>,
) -> Result<Option<Problem>> {
    let hosts: BTreeSet<String> = found.iter().map(|sealed| sealed.host.clone()).collect();
    let shown = |hosts: &BTreeSet<String>| {
        let names = hosts.iter().map(|host| printable(host.as_bytes()));
        names.collect::<Vec<_>>().join(", ")
    };
    let own = holdfast_app::jobs::host();
    let chosen = match &options.host {
        Some(host) if !hosts.contains(host) => {
            let text = format!("no plan there is of a machine {}", printable(host.as_bytes()));
            let problem = Problem::new(Class::NoSuchSnapshot, text);
            return Err(problem.hint(format!("there are some of: {}", shown(&hosts))).into());
        }
        Some(host) => host.clone(),
        None if hosts.len() > 1 && hosts.contains(&own) => own,
        None if hosts.len() > 1 => {
            let text = format!("the plans are of several machines: {}", shown(&hosts));
            return Ok(Some(Problem::usage(text).hint("say whose you want: --host NAME")));
        }
        None => return Ok(None),
    };
    found.retain(|sealed| sealed.host == chosen);
    if hosts.len() > 1 {
        let others: BTreeSet<_> = hosts.into_iter().filter(|host| *host != chosen).collect();
        context.ui.note(&format!("plans of other machines are left out: {}", shown(&others)))?;
    }
    Ok(None)
}

/// Asks for what was left out. Nothing typed: it stays out, and is named.
fn ask_secrets(context: &Context, done: &Recovered) -> Result<()> {
    for (location, key) in &done.secrets {
        // The service's own key is made anew; a command is for who edits the file.
        let is_asked =
            !matches!(key.as_str(), "repository_key_file" | "ssh_command" | "passphrase");
        let has_lines =
            keys::find(key).is_some_and(|(key, form)| form.value(key.value).has_lines());
        let answer = match is_asked {
            true if has_lines => Terminal.secret_lines(&format!(
                "{key} of @{location} (paste it, then Ctrl-D if it does not end; Ctrl-D alone to set \
                 it later): "
            ))?,
            true => Terminal.secret(&format!("{key} of @{location} (empty to set it later): "))?,
            false => None,
        };
        let answer = answer.filter(|answer| !answer.trim().is_empty());
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
        if is_repository(&paths, &place, repository, context)? {
            if let Some(path) = unattended::enroll(&paths, name, repository)? {
                let path = holdfast_app::text::printable_os(path);
                context.ui.summary(&format!("made the key file {path} for @{name}"))?;
            }
        } else if done.secrets.iter().any(|(of, key)| {
            of == name && matches!(key.as_str(), "passphrase" | "repository_key_file")
        }) {
            context.ui.warn(&format!("nothing says what opens the repository @{name}"))?;
            context.ui.note(&format!("  hint: {}", paths.typed_once(&format!("@{name}"))))?;
        }
    }
    Ok(())
}

/// Whether the repository that was recovered from is at this place, however that is written.
fn is_repository(
    paths: &Paths,
    place: &Resolved,
    repository: &Repository,
    context: &Context,
) -> Result<bool> {
    if place.to_string() == context.location()?.to_string() {
        return Ok(true);
    }
    // One that asks for something is left to whoever names it.
    let storage = open_storage(place, &paths.access(Arc::new(Nobody)));
    Ok(storage.is_ok_and(|storage| {
        open::probe(&*storage).is_ok_and(|found| found.id() == Some(*repository.id()))
    }))
}

fn tell(
    context: &Context,
    done: &Recovered,
    refused: &[Refused],
    hosts: &HostKeys,
    dry_run: bool,
) -> Result {
    if context.ui.is_json() {
        let secrets = done.secrets.iter().map(|(name, key)| format!("{name}.{key}")).collect();
        let Recovered { locations, plans, kept, channels, hooks, .. } = done;
        let host_keys = hosts.accepted.iter().map(AcceptedKey::shown).collect();
        let summary = Summary {
            dry_run,
            plans,
            refused,
            locations,
            kept,
            secrets,
            channels,
            hooks,
            host_keys,
        };
        context.ui.event("summary", &summary)?;
    }
    if !done.plans.is_empty() {
        context.ui.summary("  to see when they run:  holdfast plan list")?;
        context.ui.summary("  to run them by themselves:  holdfast serve --install-unit")?;
    }
    Ok(if refused.is_empty() { Outcome::Done } else { Outcome::Incomplete })
}
