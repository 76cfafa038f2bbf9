//! `plan`: what is backed up by itself, when and where to. Plans are tables of the configuration;
//! everything here may as well be edited in the file.

mod edit;
mod list;

use clap::{Args, Subcommand};

use self::edit::{Create, Edit};
use crate::context::Context;
use crate::failure::Result;

/// Make, show and change plans: backups that run by themselves
///
/// A plan says what is backed up, where to, when, and what follows. `holdfast serve` runs plans when
/// they are due; `holdfast run PLAN` runs one now, also from cron.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast plan create home --to @office-nas --schedule \"daily at 02:30\" \\
      --keep daily=7,weekly=5,monthly=12 ~/Documents ~/Pictures
  holdfast plan list
  holdfast plan next home
  holdfast plan edit home --schedule \"every 6 hours\" --set jitter=10m")]
pub(crate) struct Plan {
    #[command(subcommand)]
    what: What,
}

/// What to do with plans.
#[derive(Debug, Subcommand)]
enum What {
    Create(Create),
    /// List all plans: when they run next, and how they ended last
    List,
    /// Show a plan: what it says, its next runs and its last ones
    Show {
        /// The plan
        name: String,
    },
    Edit(Edit),
    /// Give a plan another name; its history follows
    Rename {
        /// Its name now
        #[arg(value_name = "OLD")]
        old: String,
        /// Its name, or title, from now on
        #[arg(value_name = "NEW")]
        new: String,
    },
    /// Remove a plan from the configuration; its snapshots and its history stay
    Remove {
        /// The plan
        name: String,
    },
    /// Let the schedules of a plan count again
    Enable {
        /// The plan
        name: String,
    },
    /// Let no schedule of a plan count; `run` still works
    Disable {
        /// The plan
        name: String,
    },
    /// Show when plans run next
    Next {
        /// The plan; without: all of them
        name: Option<String>,
        /// How many times to show
        #[arg(long, short = 'n', value_name = "N", default_value_t = 5)]
        number: usize,
    },
}

pub(crate) fn run(context: &Context, options: &Plan) -> Result {
    match &options.what {
        What::Create(options) => edit::create(context, options),
        What::List => list::list(context),
        What::Show { name } => list::show(context, name),
        What::Edit(options) => edit::edit(context, options),
        What::Rename { old, new } => edit::rename(context, old, new),
        What::Remove { name } => edit::remove(context, name),
        What::Enable { name } => edit::enable(context, name, true),
        What::Disable { name } => edit::enable(context, name, false),
        What::Next { name, number } => list::next(context, name.as_deref(), *number),
    }
}
