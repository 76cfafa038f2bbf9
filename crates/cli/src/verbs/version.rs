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
    commit: Option<&'static str>,
    format: u8,
    system: &'static str,
    machine: &'static str,
}

/// What the program was built from, if whoever built it said so: nothing else of the building
/// machine goes into the program, so that two builds of the same are the same.
const COMMIT: Option<&str> = option_env!("HOLDFAST_COMMIT");

pub(crate) fn run(context: &Context, _options: &Version) -> Result {
    let answer = Answer {
        version: env!("CARGO_PKG_VERSION"),
        commit: COMMIT,
        format: holdfast_engine::format::VERSION,
        system: std::env::consts::OS,
        machine: std::env::consts::ARCH,
    };
    if context.ui.is_json() {
        context.ui.event("version", &answer)?;
    } else {
        let Answer { version, commit, format, system, machine } = answer;
        let commit = commit.map_or_else(String::new, |commit| format!("{commit}, "));
        let text = format!("holdfast {version} ({commit}format {format}, {system} {machine})");
        context.ui.line(&text)?;
    }
    Ok(Outcome::Done)
}
