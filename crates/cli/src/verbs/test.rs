//! `test`: every step on the way to a place, one by one.

use std::ffi::OsString;

use clap::Args;
use holdfast_app::connection_test::{self, Step};
use holdfast_app::{Resolved, json};

use crate::context::Context;
use crate::failure::{Outcome, Result};
use crate::ui::Ui;

/// Test a location step by step: name, connection, host key, sign-in, directory, speed
///
/// The first step that fails says what is wrong. A small file is written, read, renamed and
/// deleted. Without a location, the repository's is tested.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast test sftp://anna@nas/volume1/backups
  holdfast test @office-nas
  holdfast config repository test office-nas")]
pub(crate) struct Test {
    /// What to test
    #[arg(value_name = "LOCATION")]
    location: Option<OsString>,
}

pub(crate) fn run(context: &Context, options: &Test) -> Result {
    let place = match &options.location {
        Some(text) => context.place(text)?,
        None => context.location()?.clone(),
    };
    run_on(context, &place)
}

/// Tests a place that was resolved already.
pub(crate) fn run_on(context: &Context, place: &Resolved) -> Result {
    let ui = &context.ui;
    // A line that cannot be written shows when the output is flushed.
    let tell = |step: Step| drop(show(ui, step));
    connection_test::run(place, &context.access(), &tell)?;
    context.ui.summary(&format!("{place} works."))?;
    Ok(Outcome::Done)
}

fn show(ui: &Ui, step: Step) -> std::io::Result<()> {
    let step = json::Step::from(step);
    if ui.is_json() {
        return ui.event("step", &step);
    }
    let json::Step { step: name, outcome, detail, seconds } = step;
    let detail = if detail.is_empty() { detail } else { format!("  {detail}") };
    let millis = (seconds * 1000.0) as u64;
    ui.line(&format!("{name:<11} {outcome:<7} {millis:>6} ms{detail}"))?;
    ui.flush()
}
