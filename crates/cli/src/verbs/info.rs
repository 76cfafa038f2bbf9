//! `info`.
use crate::context::Context;
use crate::failure::Result;
use clap::Args;
/// Info
#[derive(Debug, Args)]
pub(crate) struct Info {}
pub(crate) fn run(_context: &Context, _options: &Info) -> Result {
    Err(holdfast_app::Problem::usage("not built yet").into())
}
