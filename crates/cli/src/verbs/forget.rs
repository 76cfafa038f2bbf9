//! `forget`: removes snapshots by id, at once. Retention rules will come to this verb as well.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::select::{Spec, Which};
use holdfast_app::text::plural;
use holdfast_app::times::local;
use holdfast_engine::repo::snapshots::Filter;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Remove snapshots, at once
///
/// What only they held stays in the repository until its space is reclaimed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast at /mnt/disk/backups forget 1a2b3c4d
  holdfast forget 1a2b3c4d 5e6f7a8b
  holdfast forget latest~3")]
pub(crate) struct Forget {
    /// Ids, starts of ids, latest or latest~N
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
}

#[derive(Serialize)]
struct Forgotten {
    forgotten: Vec<String>,
}

pub(crate) fn run(context: &Context, options: &Forget) -> Result {
    let mut specs = Vec::with_capacity(options.snapshots.len());
    for text in &options.snapshots {
        let spec = Spec::parse(text)?;
        // "The newest with this tag" is too easily another one than was thought of.
        if !matches!(spec.which, Which::Selector(_)) || spec.path.is_some() {
            return Err(Problem::usage(format!("forget takes ids, not {}", spec.text))
                .hint(format!("to see ids: {}", context.line("ls")))
                .into());
        }
        specs.push(spec);
    }
    let repository = context.open()?;
    let all = repository.snapshots()?;
    let mut chosen = Vec::with_capacity(specs.len());
    // All are found before the first is removed.
    for spec in &specs {
        let info = spec.find(all.clone(), &Filter::default())?;
        if !chosen.iter().any(|c: &holdfast_engine::repo::snapshots::SnapshotInfo| c.id == info.id)
        {
            chosen.push(info);
        }
    }
    for info in &chosen {
        repository.forget(info.id)?;
        let (id, time) = (info.id.short(), local(info.record.time));
        context.ui.summary(&format!("forgot {id} of {time}"))?;
    }
    if context.ui.is_json() {
        let forgotten = chosen.iter().map(|info| info.id.to_string()).collect();
        context.ui.event("summary", &Forgotten { forgotten })?;
    }
    let left = (all.len() - chosen.len()) as u64;
    context.ui.summary(&format!("{} left", plural(left, "snapshot", "snapshots")))?;
    Ok(Outcome::Done)
}
