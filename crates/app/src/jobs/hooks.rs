//! Commands around the runs of a plan: a program and its arguments, never a shell. They run only
//! where the configuration file itself allows it.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::Work;
use crate::config::Config;
use crate::plans::{Hooks, Plan};
use crate::problem::{Class, Problem};
use crate::runs::Level;
use crate::text::{duration, printable, printable_os, shell_word};

/// Lines of a command's output that the log takes; the rest is counted.
const LINES: usize = 1000;
/// Bytes of one line.
const LINE: u64 = 4096;
/// How long a command that was asked to end may take to do so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the rest of its output may take to come.
const REST: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// Refuses a plan with commands where the file does not allow them: without them its backups may
/// not be what they are thought to be.
pub fn allow(plan: &Plan, config: &Config) -> Result<(), Problem> {
    if plan.hooks.is_empty() || config.allows_hooks() {
        return Ok(());
    }
    let path = printable_os(config.path());
    let text =
        format!("the plan {} has hooks, and the configuration does not allow them", plan.name);
    Err(Problem::new(Class::Configuration, text)
        .hint(format!("if they are yours, write `hooks = true` at the top of {path}"))
        .hint(format!(
            "or take them out: holdfast plan edit {} --unset hooks",
            shell_word(&plan.name)
        )))
}

/// What a command learns of the run, as variables of its environment.
pub type Facts<'a> = &'a [(&'a str, String)];

/// Runs commands one after the other; the first that fails is the last. `ends` says whether a run
/// that is to end ends them, too.
pub fn run(
    work: &Work<'_>,
    hooks: &Hooks,
    commands: &[Vec<String>],
    facts: Facts<'_>,
    ends: bool,
) -> Result<(), Problem> {
    commands.iter().try_for_each(|words| one(work, hooks.timeout, words, facts, ends))
}

fn one(
    work: &Work<'_>,
    timeout: Duration,
    words: &[String],
    facts: Facts<'_>,
    ends: bool,
) -> Result<(), Problem> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    if ends && work.interrupt.is_raised() {
        return Err(Problem::new(Class::Interrupted, "the run was ended before its hooks"));
    }
    let shown = words.iter().map(shell_word).collect::<Vec<_>>().join(" ");
    work.watch.log(Level::Info, &format!("hook: {shown}"));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what it starts ends with it.
        .process_group(0)
        .envs(facts.iter().map(|(name, value)| (*name, value)));
    for name in ["HOLDFAST_PASSPHRASE", "HOLDFAST_PASSPHRASE_COMMAND"] {
        command.env_remove(name);
    }
    let failed = |text: String| Problem::new(Class::Hook, format!("the hook {shown} {text}"));
    let mut child = command.spawn().map_err(|e| failed("could not be started".into()).cause(e))?;
    let lines = listen(&mut child);
    let until = Instant::now() + timeout;
    let status = loop {
        drain(work, &lines);
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(e) => return Err(failed("cannot be waited for".into()).cause(e)),
        }
        if ends && work.interrupt.is_raised() {
            end(&mut child);
            return Err(Problem::new(Class::Interrupted, format!("the hook {shown} was ended")));
        }
        if Instant::now() >= until {
            end(&mut child);
            drain(work, &lines);
            return Err(failed(format!("took longer than {}", duration(timeout)))
                .hint("give it more time: hooks = { timeout = \"1h\", … }"));
        }
        std::thread::sleep(LOOK);
    };
    // To the end of its output, which what it left running may keep open.
    let until = Instant::now() + REST;
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        work.watch.log(Level::Info, &format!("  {line}"));
    }
    match status.success() {
        true => Ok(()),
        false => Err(failed(ended(status)).hint("its output is in the log of the run")),
    }
}

fn ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("ended with code {code}"),
        None => status.to_string(),
    }
}

/// Lines of both outputs, printable, as they come.
fn listen(child: &mut Child) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::sync_channel(64);
    let outputs: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.stderr.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
    ];
    for output in outputs.into_iter().flatten() {
        let send = send.clone();
        // Ends with the output. Where no thread can be had, the output is closed.
        let _ = std::thread::Builder::new().name("hook".into()).spawn(move || {
            let mut output = BufReader::new(output);
            let mut count = 0;
            loop {
                let mut line = Vec::new();
                match output.by_ref().take(LINE).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => count += 1,
                }
                let line = match count {
                    0..=LINES => printable(line.strip_suffix(b"\n").unwrap_or(&line)),
                    n if n == LINES + 1 => "… more output is not kept".into(),
                    // Read on, so that it does not wait for somebody who listens.
                    _ => continue,
                };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
    }
    receive
}

fn drain(work: &Work<'_>, lines: &mpsc::Receiver<String>) {
    while let Ok(line) = lines.try_recv() {
        work.watch.log(Level::Info, &format!("  {line}"));
    }
}

/// Ends a command and all it started.
fn end(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let signal = |signal| {
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(LOOK);
    }
    signal(Signal::KILL);
    let _ = child.wait();
}
