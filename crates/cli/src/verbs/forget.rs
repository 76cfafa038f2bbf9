//! `forget`: removes snapshots, by id at once, or by rules ([`rules`]) after a look at what they
//! would do.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::select::{Spec, Which};
use holdfast_app::text::plural;
use holdfast_app::times::local;
use holdfast_engine::Error;
use holdfast_engine::format::snapshot::Snapshot;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::ops::forget::{ForgetOptions, forget};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use serde::Serialize;

use super::tag;
use crate::args::Narrowing;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;

mod rules;

pub(crate) use rules::{Rules, by_rules};

/// Remove snapshots: by id at once, or by rules
///
/// With rules nothing is removed without --apply: it is shown which snapshots would stay and why.
/// Rules keep what any of them keeps, each group by itself; pinned snapshots stay (`keep`), and
/// those of interrupted runs until a complete one has followed. What only forgotten snapshots held
/// stays in the repository until its space is reclaimed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast at /mnt/disk/backups forget 1a2b3c4d
  holdfast forget 1a2b3c4d 5e6f7a8b
  holdfast forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12
  holdfast forget --host web1 --keep-within 30d --keep-yearly all --apply")]
pub(crate) struct Forget {
    /// Ids, starts of ids, latest or latest~N
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Forget what was named, even if it is pinned
    #[arg(long, requires = "snapshots")]
    force: bool,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    narrowing: Narrowing,
}

#[derive(Serialize)]
struct Forgotten {
    forgotten: Vec<String>,
}

pub(crate) fn run(context: &Context, options: &Forget) -> Result {
    if options.snapshots.is_empty() {
        return by_rules(context, &options.rules, &options.narrowing);
    }
    if !options.rules.is_unused() {
        return Err(Problem::usage("name snapshots, or say rules, not both at once").into());
    }
    let specs = tag::whole(&options.snapshots)?;
    for spec in &specs {
        // "The newest with this tag" is too easily another one than was thought of.
        if !matches!(spec.which, Which::Selector(_)) {
            return Err(Problem::usage(format!("forget takes ids, not {}", spec.text))
                .hint(format!("to see ids: {}", context.line("ls")))
                .into());
        }
    }
    let filter = options.narrowing.filter()?;
    let repository = context.open()?;
    let (all, notes) = context.snapshots(&repository)?;
    // All are found before the first is removed.
    let chosen = match tag::find(&specs, &all, &filter) {
        Err(Failure::Engine(error @ Error::NoSuchSnapshot { .. })) => {
            let mut hidden = repository.shut_out_snapshots()?;
            hidden.extend(unreadable(&specs, &notes));
            also(&hidden, &specs, &all, &filter).map_err(|_| Failure::Engine(error))?
        }
        other => other?,
    };
    let ids: Vec<_> = chosen.iter().map(|info| info.id).collect();
    let left = all.iter().filter(|info| !ids.contains(&info.id)).count() as u64;
    let forgotten = remove(context, &repository, ids, options.force)?;
    if context.ui.is_json() {
        context.ui.event("summary", &Forgotten { forgotten })?;
    }
    context.ui.summary(&format!("{} left", plural(left, "snapshot", "snapshots")))?;
    Ok(Outcome::Done)
}

/// Snapshots that cannot be read and are named by their whole ids: a few digits are too easily
/// meant for another one.
fn unreadable(specs: &[Spec], notes: &Notes) -> Vec<SnapshotInfo> {
    let is_named =
        |id: &SnapshotId| specs.iter().any(|spec| spec.which == Which::Selector(id.to_string()));
    let named = notes.lost().map(|(id, _)| id).filter(is_named);
    named.map(|id| SnapshotInfo { id, record: Snapshot::default() }).collect()
}

/// The snapshots that words name, those included that nobody sees any more: their sessions were
/// shut out, or they cannot be read.
fn also(
    hidden: &[SnapshotInfo],
    specs: &[Spec],
    all: &[SnapshotInfo],
    filter: &Filter,
) -> Result<Vec<SnapshotInfo>> {
    let find = |spec: &Spec| {
        let spec = std::slice::from_ref(spec);
        tag::find(spec, all, filter).or_else(|_| tag::find(spec, hidden, filter))
    };
    Ok(specs.iter().map(find).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Removes snapshots and tells of each; the ids of those that are gone.
fn remove(
    context: &Context,
    repository: &Repository,
    snapshots: Vec<SnapshotId>,
    force: bool,
) -> Result<Vec<String>> {
    let mut forgotten = Vec::with_capacity(snapshots.len());
    let options = ForgetOptions { snapshots, force };
    let mut unwritten = None;
    let result = forget(repository, &options, interrupt::watch(), &mut |info| {
        forgotten.push(info.id.to_string());
        let what = match info.record.time {
            0 => "(it could not be read)".to_owned(),
            _ => format!("of {}", local(info.record.time)),
        };
        let line = format!("forgot {} {what}", info.id.short());
        context.ui.summary(&line).map_err(|e| {
            unwritten = Some(e);
            Error::Interrupted
        })
    });
    match unwritten {
        Some(error) => Err(Failure::Output(error)),
        None => Ok(result.map(|()| forgotten)?),
    }
}
