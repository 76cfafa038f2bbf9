//! `keep`: pins snapshots, so that no rule forgets them, and unpins them.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::times::local;
use holdfast_engine::repo::notes::Change;

use super::tag;
use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Keep snapshots for ever, or no longer
///
/// A pinned snapshot stays whatever rules say, until it is unpinned.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast keep 1a2b3c4d
  holdfast at /mnt/disk/backups keep latest tag:before-upgrade
  holdfast keep --remove 1a2b3c4d")]
pub(crate) struct Keep {
    /// Ids, starts of ids, latest, latest~N, tag:NAME or a time
    #[arg(required = true, value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Unpin them
    #[arg(long)]
    remove: bool,
}

pub(crate) fn run(context: &Context, options: &Keep) -> Result {
    let change = Change { pinned: Some(!options.remove), ..Change::default() };
    tag::annotate(context, &options.snapshots, &change, &|info, changed| {
        let what = match (options.remove, changed) {
            (false, true) => "pinned",
            (false, false) => "was pinned already",
            (true, true) => "unpinned",
            (true, false) => "was not pinned",
        };
        format!("{} of {}: {what}", info.id.short(), local(info.record.time))
    })?;
    Ok(Outcome::Done)
}
