//! `version`: which program this is, and which format it writes.

use clap::Args;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Print the version
#[derive(Debug, Args)]
pub(crate) struct Version {}

#[derive(Serialize)]
struct Answer {
    version: &'static str,
    format: u32,
    system: &'static str,
    machine: &'static str,
}

/// The repository format that this program writes.
const FORMAT: u32 = 1;

pub(crate) fn run(context: &Context, _options: &Version) -> Result {
    let answer = Answer {
        version: env!("CARGO_PKG_VERSION"),
        format: FORMAT,
        system: std::env::consts::OS,
        machine: std::env::consts::ARCH,
    };
    if context.ui.is_json() {
        context.ui.event("version", &answer)?;
    } else {
        let Answer { version, format, system, machine } = answer;
        context.ui.line(&format!("holdfast {version} (format {format}, {system} {machine})"))?;
    }
    Ok(Outcome::Done)
}
