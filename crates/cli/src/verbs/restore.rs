//! `restore`.
use crate::context::Context;
use crate::failure::Result;
use clap::Args;
/// Restore
#[derive(Debug, Args)]
pub(crate) struct Restore {}
pub(crate) fn run(_context: &Context, _options: &Restore) -> Result {
    Err(holdfast_app::Problem::usage("not built yet").into())
}
