//! `mount`: the repository, or one snapshot of it, as a read-only file system.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use holdfast_app::Problem;
use holdfast_app::select::Spec;
use holdfast_app::text::{plural, printable_os, shell_word};
use holdfast_mount::{Events, Memory, Options, Subject, check_directory};
use serde::Serialize;

use crate::args::Selection;
use crate::context::Context;
use crate::failure::{Failure, Outcome, Result};
use crate::interrupt;
use crate::ui::Ui;

/// How soon a signal is noticed, or that somebody unmounted it.
const GLANCE: Duration = Duration::from_millis(50);

/// Show snapshots as a read-only file system
#[derive(Debug, Args)]
#[command(after_help = "\
Below DIRECTORY, which has to be empty:
  snapshots/ID/…      every snapshot, with all that it holds
  latest              the newest one
  hosts/HOST/TIME     the snapshots of a host, and `latest` among them
  tags/TAG/TIME       the snapshots with a tag, and `latest` among them
  times/TIME          all of them

Snapshots that are made meanwhile appear. With SNAPSHOT, DIRECTORY is that one alone, or the \
directory PATH in it.

It stays in the foreground until DIRECTORY is unmounted: by Ctrl-C, by SIGTERM, or from elsewhere \
by `umount DIRECTORY` (`fusermount3 -u DIRECTORY` where that needs root). To have it in the \
background: `holdfast mount DIRECTORY &`. A file that is damaged gives an I/O error when it is \
read, and a line here that says why; in the end the exit code is 3.

Only who mounts it may look, and may read everything, whatever permissions were recorded. \
Programs do not start with another's rights, and devices do not open.

Examples:
  mkdir /mnt/backups; holdfast at @nas mount /mnt/backups
  holdfast mount --tag home --host nas ~/backups
  holdfast mount latest:/etc /mnt/etc")]
pub(crate) struct Mount {
    /// An empty directory; before it, if only one snapshot is wanted, that
    #[arg(required = true, num_args = 1..=2, value_name = "[SNAPSHOT[:/PATH]] DIRECTORY")]
    what: Vec<OsString>,
    #[command(flatten)]
    selection: Selection,
    /// Let other users look too, as far as the recorded permissions let them
    #[arg(long)]
    allow_other: bool,
}

#[derive(Serialize)]
struct MountedRow<'a> {
    directory: &'a str,
}

#[derive(Serialize)]
struct UnmountedRow<'a> {
    directory: &'a str,
    unreadable: u64,
    in_use: bool,
}

/// Tells of what goes wrong as it comes.
#[derive(Debug)]
struct Teller(Ui);

impl Events for Teller {
    fn unreadable(&self, what: &str, why: &str) {
        // Who does not listen any more has unmounted it or does not care.
        let _ = self.0.problem(what, why);
    }

    fn trouble(&self, message: &str) {
        let _ = self.0.warn(message);
    }
}

impl From<holdfast_mount::Failure> for Failure {
    fn from(failure: holdfast_mount::Failure) -> Self {
        match failure {
            holdfast_mount::Failure::Engine(error) => Self::Engine(error),
            holdfast_mount::Failure::Problem(problem) => Self::Problem(problem),
        }
    }
}

pub(crate) fn run(context: &Context, options: &Mount) -> Result {
    let (spec, directory) = match &options.what[..] {
        [directory] => (None, directory),
        [spec, directory] => (Some(Spec::parse(spec)?), directory),
        _ => return Err(Problem::usage("say where to mount").into()),
    };
    let directory = PathBuf::from(directory);
    let shown = printable_os(&directory);
    check_directory(&directory)?;
    let filter = options.selection.filter()?;
    let repository = context.open()?;
    let subject = match spec {
        None => Subject::All(filter),
        Some(spec) => {
            let snapshot = context.snapshot(&repository, &spec, &filter)?;
            Subject::One(Box::new(snapshot), spec.path.unwrap_or_else(|| b"/".to_vec()))
        }
    };
    let interrupt = interrupt::watch();
    let memory = context.memory()?.map_or_else(Memory::default, Memory::within);
    let how = Options { allow_other: options.allow_other, memory };
    let teller = Arc::new(Teller(context.ui.another()));
    let mounted = holdfast_mount::mount(repository, subject, &directory, how, teller)?;
    if context.ui.is_json() {
        context.ui.event("mounted", &MountedRow { directory: &shown })?;
    } else {
        let word = shell_word(&directory);
        context.ui.note(&format!("mounted at {shown}; Ctrl-C or umount {word} ends it"))?;
    }
    while !interrupt.is_raised() && !mounted.is_over() {
        std::thread::sleep(GLANCE);
    }
    let ended = mounted.unmount();
    if context.ui.is_json() {
        let (unreadable, in_use) = (ended.unreadable, ended.in_use);
        context.ui.event("unmounted", &UnmountedRow { directory: &shown, unreadable, in_use })?;
    } else if ended.in_use {
        context.ui.warn(&format!("{shown} is still in use: to whoever is in it, it fails now"))?;
    }
    if ended.unreadable == 0 {
        return Ok(Outcome::Done);
    }
    if !context.ui.is_json() {
        let many = plural(ended.unreadable, "file or directory", "files or directories");
        context
            .ui
            .warn(&format!("{many} could not be read; {}", context.line("check --read-data")))?;
    }
    Ok(Outcome::Incomplete)
}
