//! `config repository set`: the value is typed, asked for, or read from standard input.

use clap::Args;
use holdfast_app::config::{name_of, options, reference};
use holdfast_app::text::shell_word;

use super::done;
use crate::context::Context;
use crate::failure::Result;
use crate::ui::value::{Secretive, ask};

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
    let kind = form.value(key.value);
    let value = match &set.value {
        Some(value) => value.0.clone(),
        None => ask(context, &name, &set.key, kind, &format!("… set NAME {} VALUE", set.key))?,
    };
    let changed = context.edit_config(|config| config.set(&set.name, &set.key, &value))?;
    let name = &changed.name;
    if changed.created {
        context.ui.summary(&format!("made the location {name}"))?;
    }
    context.ui.summary(&format!("set {} of {name}", set.key))?;
    for other in &changed.replaced {
        context.ui.note(&format!("{other} is gone: {} takes its place", set.key))?;
    }
    if kind.is_secret() && set.value.is_some() && !options::is_reference(&value) {
        let (word, option) = (shell_word(name), &set.key);
        context.ui.note(&format!(
            "the {option} may now be in your shell's history; to be asked for it instead:\n  \
             holdfast config repository set {word} {option}"
        ))?;
    }
    done(context, &changed)
}
