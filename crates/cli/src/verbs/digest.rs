//! `digest`.
use crate::context::Context;
use crate::failure::Result;
use clap::Args;
/// Digest
#[derive(Debug, Args)]
pub(crate) struct Digest {}
pub(crate) fn run(_context: &Context, _options: &Digest) -> Result {
    Err(holdfast_app::Problem::usage("not built yet").into())
}
