//! `man`: manual pages, made from the same texts as `--help`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap_mangen::Man as Page;
use holdfast_app::{Problem, catalogue};

use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Print a manual page, or write all of them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast man backup | man -l -
  holdfast man --to /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The verb it is about, and the verb below that; without: the whole program
    #[arg(conflicts_with = "to")]
    verb: Vec<String>,
    /// Write the page of every verb into this directory
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub(crate) fn run(context: &Context, options: &Man) -> Result {
    let mut command = crate::args::command();
    command.build();
    if let Some(directory) = &options.to {
        let failed = |e| catalogue::io("write to", directory, &e);
        std::fs::create_dir_all(directory).map_err(failed)?;
        write_all(&command, directory).map_err(failed)?;
        return Ok(Outcome::Done);
    }
    let mut found = &command;
    for verb in &options.verb {
        found = found.find_subcommand(verb).ok_or_else(|| {
            Problem::usage(format!("there is no verb {verb}")).hint("to see all: holdfast --help")
        })?;
    }
    let mut text = Vec::new();
    Page::new(found.clone()).render(&mut text)?;
    context.ui.out().write_all(&text)?;
    Ok(Outcome::Done)
}

/// A page for a command and for each below it.
fn write_all(command: &clap::Command, directory: &std::path::Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_all(below, directory)?;
    }
    Page::new(command.clone()).generate_to(directory).map(drop)
}
