//! `serve`: the service, which runs plans when they are due.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::location::absolute;
use holdfast_app::paths::Paths;
use holdfast_app::runner::broadcast::{self, error::TryRecvError};
use holdfast_app::runner::{Event, Options, Runner, What};
use holdfast_app::service::unit::Unit;
use holdfast_app::service::{Service, SystemClock, Told};
use holdfast_app::text::{plural, printable_os};
use holdfast_web::{Certificates, Console, Tls};
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
/// How often the files of the certificate are looked at.
const REREAD: Duration = Duration::from_secs(60);

/// Run plans when they are due, for good
///
/// Runs that were missed while it did not run are recorded, and made up for once. Changes of the
/// configuration are seen within seconds. A signal ends it: what is at work keeps what it has done.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast serve
  sudo holdfast serve --install-unit       (of the machine: files of everybody)
  holdfast serve --install-unit            (of yourself)
  holdfast serve --listen 0.0.0.0:9847 --host backup.example.com \\
      --tls-cert /etc/letsencrypt/live/backup.example.com/fullchain.pem \\
      --tls-key /etc/letsencrypt/live/backup.example.com/privkey.pem")]
pub(crate) struct Serve {
    /// Runs at once; the others wait
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    concurrent: u16,
    /// Serve the console here: an address and a port
    ///
    /// Elsewhere than on this machine itself only with a password, and with TLS: its own, or that of
    /// a proxy in front.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = Console::loopback(PORT))]
    listen: SocketAddr,
    /// Serve no console
    #[arg(long, conflicts_with_all = ["listen", "behind_proxy", "host", "tls_cert", "tls_self_signed"])]
    no_console: bool,
    /// Speak TLS with the certificate in this file (PEM), followed by those between it and its
    /// authority
    ///
    /// It is read anew, with its key, within a minute after the files changed, and at SIGHUP.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of that certificate (PEM), not encrypted, readable by no stranger
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Speak TLS with a certificate made here, of which browsers warn
    ///
    /// It is kept in the state directory. Compare the fingerprint that is shown at the start with the
    /// one that the browser shows.
    #[arg(long, conflicts_with = "tls_cert")]
    tls_self_signed: bool,
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
    // A slip must not serve no plans for good.
    context.expect_named_config()?;
    context.refuse_what_plans_say("the service")?;
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
            tls: options.tls(),
            is_foreground: false,
        })?),
    };
    let certificates = console.as_ref().and_then(Console::certificates);
    if let Some(console) = &console {
        let text = format!("the console is at {}; to open it: holdfast ui", console.root());
        context.ui.note(&text)?;
    }
    if let Some(certificates) = &certificates {
        interrupt::reread_on_hangup();
        tell_fingerprint(&context.ui, certificates)?;
    }
    let mut events = runner.subscribe();
    let ui = &context.ui;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The console, where there is one, is served beside this by a thread of its own.
        scope.spawn(|| watch(ui, &runner, &mut events, &ended));
        scope.spawn(|| renew(ui, certificates.as_deref(), &ended));
        service.run(&|| interrupt.is_raised(), &mut |told| {
            let _ = tell(ui, &told);
        });
        drop(console);
        close(ui, &runner);
        ended.store(true, Ordering::SeqCst);
    });
    Ok(Outcome::Done)
}

impl Serve {
    /// With what the console speaks TLS itself.
    fn tls(&self) -> Option<Tls> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (absolute(certificate), absolute(key));
                Some(Tls::Files { certificate, key })
            }
            _ => self.tls_self_signed.then_some(Tls::SelfSigned),
        }
    }
}

/// What somebody needs who is to trust a certificate that nobody vouches for.
fn tell_fingerprint(ui: &Ui, certificates: &Certificates) -> std::io::Result<()> {
    if !certificates.is_self_signed() {
        return Ok(());
    }
    ui.note("browsers will warn of its certificate, which nobody vouches for; its SHA-256 is")?;
    ui.note(&format!("  {}", certificates.fingerprint()))
}

/// Looks for a new certificate now and then, and when it is asked to.
fn renew(ui: &Ui, certificates: Option<&Certificates>, ended: &AtomicBool) {
    let Some(certificates) = certificates else { return };
    let mut looked = Instant::now();
    while !ended.load(Ordering::SeqCst) {
        std::thread::sleep(LOOK);
        let is_asked = interrupt::was_hung_up();
        if !is_asked && looked.elapsed() < REREAD {
            continue;
        }
        looked = Instant::now();
        // Where nothing can be told, the certificate counts all the same.
        let _ = match certificates.refresh() {
            Ok(true) => ui
                .note("the console shows a new certificate")
                .and_then(|()| tell_fingerprint(ui, certificates)),
            Ok(false) if is_asked => ui.note("the certificate of the console has not changed"),
            Ok(false) => Ok(()),
            Err(problem) => tell(ui, &Told::Wrong(problem)),
        };
    }
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

/// A path as a unit can name it.
fn in_unit(path: &Path) -> std::result::Result<String, Problem> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control));
    text.map(String::from).ok_or_else(|| {
        Problem::usage(format!("a unit cannot name {}", printable_os(path)))
            .hint("only text without control characters can stand in it")
    })
}

/// The variables of a unit: what says now where things are. A unit of the machine has places of its
/// own, but for what `is_set`; that of a user begins without the variables of the session (XDG_…) by
/// which they were found, and would look elsewhere.
fn environment(
    paths: &Paths,
    is_root: bool,
    is_set: &dyn Fn(&str) -> bool,
) -> std::result::Result<Vec<(String, String)>, Problem> {
    let all = [
        ("HOLDFAST_CONFIG", Some(&paths.config)),
        ("HOLDFAST_STATE_DIR", Some(&paths.state)),
        ("HOLDFAST_CACHE_DIR", paths.cache.as_ref()),
    ];
    let wanted = all.into_iter().filter(|(name, _)| !is_root || is_set(name));
    wanted
        .filter_map(|(name, path)| Some((name, path?)))
        .map(|(name, path)| Ok((name.to_owned(), in_unit(path)?)))
        .collect()
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
    if let Some(Tls::Files { certificate, key }) = options.tls() {
        for (option, path) in [("--tls-cert", certificate), ("--tls-key", key)] {
            arguments.extend([option.to_owned(), in_unit(&path)?]);
        }
    }
    if options.tls_self_signed {
        arguments.push("--tls-self-signed".into());
    }
    if options.behind_proxy {
        arguments.push("--behind-proxy".into());
    }
    arguments.extend(options.host.iter().flat_map(|name| ["--host".to_owned(), name.clone()]));
    let global = &context.global;
    for (option, is_given) in [("--background", global.background), ("--no-cache", global.no_cache)]
    {
        arguments.extend(is_given.then(|| option.to_owned()));
    }
    let is_root = rustix::process::geteuid().is_root();
    let is_set = |name: &str| {
        let is_written = match name {
            "HOLDFAST_CONFIG" => global.config.is_some(),
            "HOLDFAST_CACHE_DIR" => global.cache_dir.is_some(),
            _ => false,
        };
        is_written || variable(name).is_some()
    };
    let environment = environment(&context.paths()?, is_root, &is_set)?;
    let unit = Unit {
        program,
        is_root,
        arguments,
        environment,
        low_port: !options.no_console && options.listen.port() < 1024,
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_a_user_names_what_the_session_said() -> std::result::Result<(), Problem> {
        let paths = Paths {
            config: "/xdg/config.toml".into(),
            state: "/xdg/state".into(),
            cache: Some("/c".into()),
            home: None,
        };
        let names = |paths: &Paths, is_root, set: &str| {
            let all = environment(paths, is_root, &|name| name == set)?;
            Ok::<_, Problem>(
                all.into_iter().map(|(name, value)| name + "=" + &value).collect::<Vec<_>>(),
            )
        };
        let all: Vec<String> = names(&paths, false, "")?;
        let expected = [
            "HOLDFAST_CONFIG=/xdg/config.toml",
            "HOLDFAST_STATE_DIR=/xdg/state",
            "HOLDFAST_CACHE_DIR=/c",
        ];
        assert_eq!(all, expected);
        let root: Vec<String> = names(&paths, true, "HOLDFAST_STATE_DIR")?;
        assert_eq!(root, ["HOLDFAST_STATE_DIR=/xdg/state"]);
        let without: Vec<String> = names(&Paths { cache: None, ..paths.clone() }, false, "")?;
        assert_eq!(without.len(), 2);
        let odd = Paths { state: "/a\nb".into(), ..paths };
        assert!(environment(&odd, false, &|_| false).is_err());
        Ok(())
    }
}
