//! `diff`.
use crate::context::Context;
use crate::failure::Result;
use clap::Args;
/// Diff
#[derive(Debug, Args)]
pub(crate) struct Diff {}
pub(crate) fn run(_context: &Context, _options: &Diff) -> Result {
    Err(holdfast_app::Problem::usage("not built yet").into())
}
