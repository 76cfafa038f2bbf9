//! `ui`: opens the console in the browser, for as long as the command runs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use clap::Args;
use holdfast_app::runner::{self, Runner};
use holdfast_app::text::printable_os;
use holdfast_app::{Location, Problem, catalogue};
use holdfast_web::{Console, Options};
use serde::Serialize;

use crate::context::{Context, host, variable};
use crate::failure::{Outcome, Result};
use crate::interrupt;

/// Open the console in the browser
///
/// Prints an address that opens the console once, and opens it where there is a desktop. The
/// console listens on this machine alone, and ends with the command. With `at @NAME` it begins with
/// the snapshots of that repository.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast ui
  holdfast ui --no-open --port 9090
  holdfast at @nas ui")]
pub(crate) struct Ui {
    /// Listen on this port; 0 takes any free one
    #[arg(long, default_value_t = 9847)]
    port: u16,
    /// Only print the address
    #[arg(long)]
    no_open: bool,
}

#[derive(Serialize)]
struct Opened<'a> {
    url: &'a str,
}

pub(crate) fn run(context: &Context, options: &Ui) -> Result {
    let name = name(context)?;
    let runner = Runner::new(context.paths()?, runner::Options::default())?;
    let state = runner.paths().state.clone();
    let listen = Console::loopback(options.port);
    let console = Console::start(Options { runner, listen, machine: host(), is_foreground: true })?;
    let interrupt = interrupt::watch();
    let url = match &name {
        Some(name) => console.one_time_url_at(name)?,
        None => console.one_time_url()?,
    };
    if context.ui.is_json() {
        context.ui.event("console", &Opened { url: &url })?;
    } else {
        context.ui.line(&format!("The console is open at {url}"))?;
        context.ui.note("this address works once; Ctrl-C ends the console")?;
    }
    context.ui.flush()?;
    if !options.no_open && !context.ui.is_json() && has_desktop() {
        open(&state, &url)?;
    }
    console.wait(interrupt);
    Ok(Outcome::Done)
}

/// The name of the repository that the command line means, if it means one.
fn name(context: &Context) -> Result<Option<String>> {
    let Some(at) = context.at() else { return Ok(None) };
    match Location::parse(at)? {
        Location::Named { name, .. } => {
            let config = context.config()?;
            config.map_or(Ok(()), |config| config.expect(&name).map(drop))?;
            Ok(Some(name))
        }
        _ => {
            let shown = printable_os(at);
            Err(Problem::usage(format!(
                "the console knows repositories by their names, not {shown}"
            ))
            .hint(format!("give it one: holdfast config repository set NAME location {shown}"))
            .hint("then: holdfast at @NAME ui")
            .into())
        }
    }
}

fn has_desktop() -> bool {
    variable("DISPLAY").is_some() || variable("WAYLAND_DISPLAY").is_some()
}

/// Has the desktop open it. Through a page of our own that only this user can read, since others
/// can see the arguments of a process. Where there is nothing to open pages with, the printed
/// address is what there is.
fn open(state: &Path, url: &str) -> Result<()> {
    let page = state.join("open.html");
    let failed = |e: &std::io::Error| catalogue::io("write", &page, e);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|e| failed(&e))?;
    let mut file = std::fs::OpenOptions::new();
    let mut file = file
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&page)
        .map_err(|e| failed(&e))?;
    let text = format!(
        "<!doctype html><meta http-equiv=\"refresh\" content=\"0;url={url}\"><title>Holdfast</title>"
    );
    file.write_all(text.as_bytes()).map_err(|e| failed(&e))?;
    let quiet = std::process::Stdio::null;
    let started = std::process::Command::new("xdg-open")
        .arg(&page)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn();
    if let Ok(mut child) = started {
        std::thread::spawn(move || child.wait());
    }
    Ok(())
}
