//! `completions`: what a shell needs to complete command lines.

use std::io::Write;

use clap::Args;
use clap_complete::{Shell, generate};

use crate::context::Context;
use crate::failure::{Outcome, Result};

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast completions bash \\
      > ~/.local/share/bash-completion/completions/holdfast
  holdfast completions zsh > ~/.zfunc/_holdfast
  holdfast completions fish > ~/.config/fish/completions/holdfast.fish")]
pub(crate) struct Completions {
    /// bash, zsh or fish
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

pub(crate) fn run(context: &Context, options: &Completions) -> Result {
    let shell = match options.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    generate(shell, &mut crate::args::command(), "holdfast", &mut script);
    context.ui.out().write_all(&script)?;
    Ok(Outcome::Done)
}
