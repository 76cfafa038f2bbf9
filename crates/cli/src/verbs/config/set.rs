//! `config repository set`: the value is typed, asked for, or read from standard input.

use std::io::{IsTerminal, Read};

use clap::Args;
use holdfast_app::config::keys::{Form, Key};
use holdfast_app::config::{name_of, options, reference};
use holdfast_app::text::{printable, shell_word};
use holdfast_app::{Ask, Problem, catalogue};
use zeroize::Zeroizing;

use super::{done, edit};
use crate::context::Context;
use crate::failure::Result;
use crate::interrupt;
use crate::ui::prompt::Terminal;

/// No value is longer.
const MAX: u64 = 1 << 20;

/// Set an option; a location that is not there is made
///
/// Without VALUE it is asked for, without echo if it is a secret; if standard input is no
/// terminal, it is read from there. A secret on the command line stays in the shell's history.
#[derive(Debug, Args)]
#[command(after_help = help())]
pub(crate) struct Set {
    /// Name or title
    name: String,
    /// The option
    key: String,
    /// Its value
    #[arg(allow_hyphen_values = true)]
    value: Option<Secretive>,
}

/// A value that may be a secret.
#[derive(Clone)]
struct Secretive(Zeroizing<String>);

impl std::fmt::Debug for Secretive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl std::str::FromStr for Secretive {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
}

fn help() -> String {
    format!(
        "Options of a location:\n\n{}\n\nExamples:
  holdfast config repository set nas location sftp://anna@nas/volume1/backups
  holdfast config repository set nas password
  holdfast config repository set nas key < ~/.ssh/id_ed25519
  holdfast config repository set nas passphrase_command 'pass show nas'
  holdfast config repository set mys3 use_tls false",
        reference::summary()
    )
}

pub(super) fn run(context: &Context, set: &Set) -> Result {
    // Nobody is asked for the value of what does not exist.
    let (key, form) = options::known(&set.key)?;
    let (name, _) = name_of(&set.name)?;
    let is_secret = key.value.is_secret() && form == Form::Value;
    let value = match &set.value {
        Some(value) => value.0.clone(),
        None => ask(context, &name, &set.key, key, form)?,
    };
    let changed = edit(context, |config| config.set(&set.name, &set.key, &value))?;
    let name = &changed.name;
    if changed.created {
        context.ui.summary(&format!("made the location {name}"))?;
    }
    context.ui.summary(&format!("set {} of {name}", set.key))?;
    for other in &changed.replaced {
        context.ui.note(&format!("{other} is gone: {} takes its place", set.key))?;
    }
    if is_secret && set.value.is_some() && !options::is_reference(&value) {
        let (word, option) = (shell_word(name), &set.key);
        context.ui.note(&format!(
            "the {option} may now be in your shell's history; to be asked for it instead:\n  \
             holdfast config repository set {word} {option}"
        ))?;
    }
    done(context, &changed)
}

fn ask(
    context: &Context,
    name: &str,
    option: &str,
    key: &Key,
    form: Form,
) -> Result<Zeroizing<String>> {
    let has_lines = key.value.has_lines() && form == Form::Value;
    if !std::io::stdin().is_terminal() {
        return read(option, has_lines);
    }
    let of = printable(format!("{option} of {name}").as_bytes());
    let answer = interrupt::while_asking(|| match () {
        () if has_lines => {
            Terminal.secret_lines(&format!("{of} (paste it, then Ctrl-D if it does not end): "))
        }
        () if key.value.is_secret() && form == Form::Value => Terminal.secret(&format!("{of}: ")),
        () => Terminal.line(&format!("{of}: ")),
    });
    let answer = answer.map_err(|e| catalogue::io("read", "terminal", &e))?;
    context.ui.flush()?;
    match answer {
        Some(answer) if !answer.trim().is_empty() => Ok(answer),
        _ => Err(Problem::usage(format!("no {option} was typed; nothing was changed")).into()),
    }
}

/// The value from standard input, less the line's end.
fn read(option: &str, has_lines: bool) -> Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(MAX)
        .read_to_string(&mut text)
        .map_err(|e| catalogue::io("read", "standard input", &e))?;
    if !has_lines {
        let end = text.trim_end_matches(['\n', '\r']).len();
        text.truncate(end);
    }
    if text.trim().is_empty() {
        return Err(Problem::usage(format!("there is no value for {option}"))
            .hint(format!("write it: … set NAME {option} VALUE; or give it on standard input"))
            .hint("in a terminal it is asked for")
            .into());
    }
    Ok(text)
}
