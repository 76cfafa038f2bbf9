//! `serve`: the service, which runs plans when they are due.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::runner::broadcast::{self, error::TryRecvError};
use holdfast_app::runner::{Event, Options, Runner, What};
use holdfast_app::service::unit::Unit;
use holdfast_app::service::{Service, SystemClock, Told};
use holdfast_app::text::{plural, printable_os};
use holdfast_web::Console;
use serde::Serialize;

use super::ui::PORT;
use crate::context::{Context, home, host, variable};
use crate::failure::{Outcome, Result};
use crate::interrupt;
use crate::ui::Ui;

/// How long runs have to end in good order before the process goes.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it looks for something to tell.
const LOOK: Duration = Duration::from_millis(100);

/// Run plans when they are due, for good
///
/// Runs that were missed while it did not run are recorded, and made up for once. Changes of the
/// configuration are seen within seconds. A signal ends it: what is at work keeps what it has done.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast serve
  sudo holdfast serve --install-unit       (of the machine: files of everybody)
  holdfast serve --install-unit            (of yourself)")]
pub(crate) struct Serve {
    /// Runs at once; the others wait
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrent: u16,
    /// Serve the console here: an address and a port
    ///
    /// Elsewhere than on this machine itself only with a password, and behind a proxy that speaks
    /// TLS.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = Console::loopback(PORT))]
    listen: SocketAddr,
    /// Serve no console
    #[arg(long, conflicts_with_all = ["listen", "behind_proxy", "host"])]
    no_console: bool,
    /// A proxy in front speaks TLS to browsers, and names them in X-Forwarded-For
    #[arg(long)]
    behind_proxy: bool,
    /// A name by which browsers ask for the console, with its port if it is not the usual one
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Write a systemd unit that runs this, and say how to start it
    #[arg(long)]
    install_unit: bool,
    /// Print that unit
    #[arg(long, conflicts_with = "install_unit")]
    print_unit: bool,
}

#[derive(Serialize)]
struct Line {
    run: i64,
    plan: Option<String>,
    verb: String,
    what: &'static str,
}

pub(crate) fn run(context: &Context, options: &Serve) -> Result {
    if options.install_unit || options.print_unit {
        return install(context, options);
    }
    // From the first moment on, being told to end ends it in good order.
    let interrupt = interrupt::watch();
    let runner =
        Runner::new(context.paths()?, Options { concurrent: usize::from(options.concurrent) })?;
    let mut service = Service::new(&runner, SystemClock)?;
    let console = match options.no_console {
        true => None,
        false => Some(Console::start(holdfast_web::Options {
            runner: runner.clone(),
            listen: options.listen,
            machine: host(),
            hosts: options.host.clone(),
            is_behind_proxy: options.behind_proxy,
            is_foreground: false,
        })?),
    };
    if let Some(console) = &console {
        let text =
            format!("the console is at http://{}; to open it: holdfast ui", console.address());
        context.ui.note(&text)?;
    }
    let mut events = runner.subscribe();
    let ui = &context.ui;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The console, where there is one, is served beside this by a thread of its own.
        scope.spawn(|| watch(ui, &runner, &mut events, &ended));
        service.run(&|| interrupt.is_raised(), &mut |told| {
            let _ = tell(ui, &told);
        });
        drop(console);
        close(ui, &runner);
        ended.store(true, Ordering::SeqCst);
    });
    Ok(Outcome::Done)
}

/// Tells of runs until the service has ended and nothing is left to tell.
fn watch(ui: &Ui, runner: &Runner, events: &mut broadcast::Receiver<Event>, ended: &AtomicBool) {
    loop {
        // Looked at first: what comes before the end is told.
        let is_over = ended.load(Ordering::SeqCst);
        match events.try_recv() {
            Ok(event) => {
                let _ = show(ui, runner, &event);
            }
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty) if !is_over => std::thread::sleep(LOOK),
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

/// Ends what is at work, and says so if that takes too long.
pub(super) fn close(ui: &Ui, runner: &Runner) {
    if !runner.close(PATIENCE) {
        let _ = ui.warn("some runs did not end in time; the next start finds them interrupted");
    }
}

/// Tells of what the scheduler found.
pub(super) fn tell(ui: &Ui, told: &Told) -> std::io::Result<()> {
    match told {
        Told::Read(number) => ui.note(&format!(
            "serving {}",
            plural(*number as u64, "scheduled plan", "scheduled plans")
        )),
        Told::Wrong(problem) => {
            ui.warn(&problem.to_string())?;
            problem.hints.iter().try_for_each(|hint| ui.note(&format!("  hint: {hint}")))
        }
        Told::Missed(run, plan) => ui.warn(&format!("{plan} was missed: run {run}")),
        Told::Rotated(number) => ui
            .note(&format!("the history forgot {}", plural(*number as u64, "old run", "old runs"))),
    }
}

/// A line for each begin and end.
fn show(ui: &Ui, runner: &Runner, event: &Event) -> Result<()> {
    let what = match &event.what {
        What::Started => "running",
        What::Ended(outcome) => outcome.name(),
        What::Queued | What::Progress(_) | What::Log(_) => return Ok(()),
    };
    let Ok(run) = runner.history().run(event.run) else { return Ok(()) };
    if ui.is_json() {
        let line = Line { run: run.id, plan: run.plan, verb: run.verb, what };
        return Ok(ui.event("run-state", &line)?);
    }
    let plan = run.plan.map(|plan| format!(" of {plan}")).unwrap_or_default();
    let why = run.report.problem.filter(|_| what != "running");
    let why = why.map(|problem| format!(": {}", problem.message)).unwrap_or_default();
    Ok(ui.note(&format!("run {}: {}{plan} {what}{why}", run.id, run.verb))?)
}

fn install(context: &Context, options: &Serve) -> Result {
    let program = std::env::current_exe().map_err(|e| {
        Problem::new(holdfast_app::Class::Io, "where this program is cannot be found out").cause(e)
    })?;
    let mut arguments = Vec::new();
    if usize::from(options.concurrent) != Options::default().concurrent {
        arguments.extend(["--concurrent".to_owned(), options.concurrent.to_string()]);
    }
    if options.no_console {
        arguments.push("--no-console".into());
    } else if options.listen != Console::loopback(PORT) {
        arguments.extend(["--listen".to_owned(), options.listen.to_string()]);
    }
    if options.behind_proxy {
        arguments.push("--behind-proxy".into());
    }
    arguments.extend(options.host.iter().flat_map(|name| ["--host".to_owned(), name.clone()]));
    let names = ["HOLDFAST_CONFIG", "HOLDFAST_STATE_DIR", "HOLDFAST_CACHE_DIR"];
    let mut environment: Vec<_> = names
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variable(name)?.into_string().ok()?)))
        .collect();
    if let Some(config) =
        context.global.config.as_ref().and_then(|path| {
            holdfast_app::location::absolute(path).into_os_string().into_string().ok()
        })
    {
        environment.retain(|(name, _)| name != "HOLDFAST_CONFIG");
        environment.push(("HOLDFAST_CONFIG".into(), config));
    }
    let is_root = rustix::process::geteuid().is_root();
    let unit = Unit { program, is_root, arguments, environment };
    if options.print_unit {
        unit.text().lines().try_for_each(|line| context.ui.line(line))?;
        return Ok(Outcome::Done);
    }
    let path = unit.path(home().as_deref())?;
    unit.install(&path)?;
    context.ui.summary(&format!("wrote {}", printable_os(&path)))?;
    context.ui.summary("  to start it, now and from now on:")?;
    unit.next().iter().try_for_each(|line| context.ui.summary(&format!("    {line}")))?;
    Ok(Outcome::Done)
}
