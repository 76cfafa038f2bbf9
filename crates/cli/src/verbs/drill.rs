//! `drill`: whether what a plan stored comes back.

use clap::Args;
use holdfast_app::jobs::Job;

use super::run::follow;
use crate::context::Context;
use crate::failure::Result;

/// Restore a sample of a plan's newest snapshot and compare it
///
/// Files chosen by chance are restored to a scratch directory, read there, compared with what the
/// snapshot says, and removed. With `drill` in the plan it happens by itself.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast drill home
  holdfast plan edit home --set 'drill={ schedule = \"monthly on 1 at 06:00\" }'")]
pub(crate) struct Drill {
    /// The plan
    plan: String,
}

pub(crate) fn run(context: &Context, options: &Drill) -> Result {
    follow(context, Job::Drill(options.plan.clone()))
}
