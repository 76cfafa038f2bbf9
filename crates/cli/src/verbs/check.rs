//! `check`.
use crate::context::Context;
use crate::failure::Result;
use clap::Args;
/// Check
#[derive(Debug, Args)]
pub(crate) struct Check {}
pub(crate) fn run(_context: &Context, _options: &Check) -> Result {
    Err(holdfast_app::Problem::usage("not built yet").into())
}
