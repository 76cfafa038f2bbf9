//! The binary `holdfast`: from words on a command line to an exit code.

mod args;
mod background;
mod context;
#[cfg(test)]
mod docs;
mod failure;
mod interrupt;
mod ui;
mod verbs;

use std::process::ExitCode;

use crate::context::Context;

fn main() -> ExitCode {
    let words = args::normalise::words(std::env::args_os());
    let cli = match args::parse(&words) {
        Ok(cli) => cli,
        Err(error) => return ui::usage(&error, &words),
    };
    if cli.global.background {
        background::begin();
    }
    let context = Context::new(cli.global);
    let result = verbs::run(&context, cli.verb);
    context.finish(result)
}
