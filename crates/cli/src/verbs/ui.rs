//! `ui`: opens the console in the browser: that of a service that is at work, else one of its own
//! for as long as the command runs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use clap::{Args, Subcommand};
use holdfast_app::catalogue;
use holdfast_app::location::Location;
use holdfast_app::problem::{Class, Problem};
use holdfast_app::runner::{self, Runner};
use holdfast_app::service::{Service, SystemClock};
use holdfast_app::text::printable_os;
use holdfast_engine::format::keyslot::Secret;
use holdfast_web::{Accounts, Console, Options};
use serde::Serialize;

use super::serve;
use crate::context::{Context, host, variable};
use crate::failure::{Outcome, Result};
use crate::interrupt;

/// The port of the console, unless another is asked for.
pub(crate) const PORT: u16 = 9847;

/// Open the console in the browser
///
/// Prints an address that opens the console once, and opens it where there is a desktop. If `serve`
/// is at work, its console is opened. Else the command serves one, to this machine alone, and runs
/// plans when they are due, until it ends. With `at @NAME` it
/// begins with the snapshots of that repository.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast ui
  holdfast ui --no-open --port 9090
  holdfast at @nas ui
  holdfast ui reset-password")]
pub(crate) struct Ui {
    #[command(subcommand)]
    what: Option<What>,
    /// Listen on this port; 0 takes any free one
    #[arg(long, default_value_t = PORT)]
    port: u16,
    /// Only print the address
    #[arg(long)]
    no_open: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Set a new password for the console, asked for twice
    ///
    /// The second factor is turned off, all sessions end, and tokens of programs are taken away.
    /// Whoever can write the state directory may do it.
    ResetPassword,
}

#[derive(Serialize)]
struct Opened<'a> {
    url: &'a str,
}

pub(crate) fn run(context: &Context, options: &Ui) -> Result {
    if let Some(What::ResetPassword) = options.what {
        return reset_password(context);
    }
    let name = name(context)?;
    let lead = |url: String| match &name {
        Some(name) => holdfast_web::to_snapshots(&url, name),
        None => url,
    };
    let paths = context.paths()?;
    if let Some(url) = holdfast_web::running(&paths.state)? {
        tell(context, options, &paths.state, &lead(url))?;
        context.ui.note("the console of the service at work; this address works once")?;
        return Ok(Outcome::Done);
    }
    let runner = Runner::new(paths, runner::Options::default())?;
    let state = runner.paths().state.clone();
    // Where a service without a console is at work, plans are its business.
    let mut service = match Service::new(&runner, SystemClock) {
        Ok(service) => Some(service),
        Err(problem) if problem.class == Class::Busy => None,
        Err(problem) => return Err(problem.into()),
    };
    let console = Console::start(Options {
        runner: runner.clone(),
        listen: Console::loopback(options.port),
        machine: host(),
        hosts: Vec::new(),
        is_behind_proxy: false,
        tls: None,
        is_foreground: service.is_some(),
    })?;
    let interrupt = interrupt::watch();
    tell(context, options, &state, &lead(console.one_time_url()?))?;
    context.ui.note("this address works once; Ctrl-C ends the console")?;
    match &mut service {
        Some(service) => service.run(&|| interrupt.is_raised(), &mut |told| {
            let _ = serve::tell(&context.ui, &told);
        }),
        None => console.wait(interrupt),
    }
    drop(console);
    serve::close(&context.ui, &runner);
    Ok(Outcome::Done)
}

/// Shows the address, and opens it where there is a desktop.
fn tell(context: &Context, options: &Ui, state: &Path, url: &str) -> Result<()> {
    if context.ui.is_json() {
        context.ui.event("console", &Opened { url })?;
    } else {
        context.ui.line(&format!("The console is open at {url}"))?;
    }
    context.ui.flush()?;
    if !options.no_open && !context.ui.is_json() && has_desktop() {
        open(state, url)?;
    }
    Ok(())
}

fn reset_password(context: &Context) -> Result {
    let secret = context.ask_new("New password of the console: ")?.ok_or_else(|| {
        Problem::new(Class::PassphraseNeeded, "there is no terminal to ask for a new password")
            .hint("run it in a terminal on the console's machine")
    })?;
    let Secret::Passphrase(bytes) = secret else {
        return Err(Problem::usage("a password is typed").into());
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::usage("a password is text"))?;
    let accounts = Accounts::open(&context.paths()?.state)?;
    accounts.reset(text)?;
    context.ui.summary(
        "the console has a new password; the second factor is off, all sessions ended, and the \
         tokens of programs are gone",
    )?;
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
