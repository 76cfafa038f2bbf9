//! `prune`: a word of other programs for two things. It says which of them it does here, and does
//! that: it forgets by rules.

use clap::Args;
use holdfast_app::Problem;

use super::forget::{self, Rules};
use crate::args::Narrowing;
use crate::context::Context;
use crate::failure::Result;

/// The same as `forget` with rules
///
/// In other programs this word also means to reclaim space: that is `gc` here.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast prune --keep-daily 7 --keep-weekly 5
  holdfast prune --keep-daily 7 --keep-weekly 5 --apply")]
pub(crate) struct Prune {
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    narrowing: Narrowing,
}

pub(crate) fn run(context: &Context, options: &Prune) -> Result {
    if options.rules.is_empty() {
        return Err(Problem::usage("prune means two things: forget snapshots, or reclaim space")
            .hint(format!("to forget by rules: {}", context.line("forget --keep-daily 7")))
            .hint(format!("to reclaim the space of what was forgotten: {}", context.line("gc")))
            .into());
    }
    context.ui.note("prune forgets snapshots by rules, as forget does; gc reclaims the space")?;
    forget::by_rules(context, &options.rules, &options.narrowing)
}
