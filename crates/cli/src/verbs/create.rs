//! `create`: makes a repository, encrypted unless it is said otherwise.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use holdfast_app::secrets::read_or_make_key_file;
use holdfast_app::text::{printable_os, shell_word};
use holdfast_app::{Class, Problem, times};
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::repo::{CreateOptions, Repository, open};
use holdfast_engine::storage::Storage;
use serde::Serialize;

use crate::context::{Context, host};
use crate::failure::{Outcome, Result};

/// Make a repository
///
/// It is encrypted. Its passphrase is asked for twice, or taken from --passphrase-file or the
/// environment; with --key-file it opens with a key file instead, which is made if it does not
/// exist. Whoever loses all of these loses the backups.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  holdfast at /mnt/disk/backups create
  holdfast create                                   in ~/.holdfast
  holdfast at /srv/backups create --key-file ~/holdfast.key
  holdfast at /srv/backups create --no-encryption
  holdfast at /mnt/disk/backups create --parity")]
pub(crate) struct Create {
    /// Store with each pack what heals up to 3 % of it
    ///
    /// Takes about 4 % more space. `repair parity` switches it on later.
    #[arg(long)]
    parity: bool,
}

#[derive(Serialize)]
struct Created {
    repository: String,
    location: String,
    encrypted: bool,
    parity: bool,
}

pub(crate) fn run(context: &Context, options: &Create) -> Result {
    let storage = context.storage()?;
    let repository = make(context, storage, options.parity)?;
    let sources = context.secret_sources()?;
    let key_file = sources.key_file().map(|(path, _)| path);
    if let Some(path) = key_file {
        context.ui.summary(&format!("  keep a copy of {} somewhere else", printable_os(path)))?;
    }
    tell_next(context, repository.config().is_encrypted(), key_file)?;
    Ok(Outcome::Done)
}

/// Makes the repository after a look at the place, so that nobody thinks up a passphrase for
/// nothing.
pub(crate) fn make(
    context: &Context,
    storage: Arc<dyn Storage>,
    parity: bool,
) -> Result<Repository> {
    open::check_vacant(&*storage)?;
    let location = storage.location();
    let secrets = if context.global.no_encryption {
        Vec::new()
    } else {
        vec![new_secret(context, &location)?]
    };
    let options = CreateOptions {
        secrets,
        host: host(),
        time: times::now(),
        parity,
        cache: context.cache(),
        ..CreateOptions::default()
    };
    let repository = open::create(storage, options)?;
    let encrypted = repository.config().is_encrypted();
    let id = repository.id().to_string();
    if context.ui.is_json() {
        let event = Created { repository: id, location, encrypted, parity };
        context.ui.event("summary", &event)?;
    } else {
        let how = if encrypted { "encrypted" } else { "NOT encrypted" };
        let short = repository.id().short();
        let parity = if parity { ", with parity" } else { "" };
        context.ui.summary(&format!("repository {short} created at {location}, {how}{parity}"))?;
    }
    Ok(repository)
}

fn new_secret(context: &Context, location: &str) -> Result<(Secret, String)> {
    let sources = context.secret_sources()?;
    if let Some((path, true)) = sources.key_file() {
        let (secret, made) = read_or_make_key_file(path)?;
        if made {
            context.ui.note(&format!("made the key file {}", printable_os(path)))?;
        }
        return Ok((secret, label(path.file_name().map(printable_os))));
    }
    if let Some(secret) = sources.find()? {
        return Ok((secret, label(None)));
    }
    let prompt = format!("New passphrase for repository {location}: ");
    match context.ask_new(&prompt)? {
        Some(secret) => Ok((secret, label(None))),
        None => Err(Problem::new(
            Class::PassphraseNeeded,
            "a new repository needs a passphrase, and there is no terminal to ask for one",
        )
        .hint(context.line("create --key-file FILE"))
        .hint(context.line("create --passphrase-file FILE"))
        .hint("or set HOLDFAST_PASSPHRASE or HOLDFAST_PASSPHRASE_COMMAND")
        .into()),
    }
}

fn label(name: Option<String>) -> String {
    name.unwrap_or_else(|| "created with the repository".into())
}

fn tell_next(context: &Context, encrypted: bool, key_file: Option<&Path>) -> Result<()> {
    let ui = &context.ui;
    if encrypted && key_file.is_none() {
        ui.summary("  without the passphrase nobody can read it, you included: write it down")?;
    }
    ui.summary(&format!("  to back up:             {}", context.line("backup PLACE")))?;
    let in_options = context.location()?.options.clone();
    let is_configured = in_options.has("passphrase") || in_options.has("repository_key_file");
    match key_file {
        // Whoever configured the secret is not asked.
        _ if encrypted && is_configured => {}
        Some(path) => ui.summary(&format!(
            "  to open it:             export HOLDFAST_KEY_FILE={}",
            shell_word(holdfast_app::location::absolute(path))
        ))?,
        None if encrypted => ui.summary(
            "  to be asked no more:    export HOLDFAST_PASSPHRASE_COMMAND='pass show holdfast'\n\
             \x20                         or HOLDFAST_PASSPHRASE_FILE=FILE",
        )?,
        None => {
            ui.summary(&format!(
                "  to open it:             {} --no-encryption",
                context.line("…")
            ))?;
        }
    }
    if encrypted {
        let line = context.line("key add --new-key-file FILE");
        ui.summary(&format!("  to add a second key:    {line}"))?;
    }
    Ok(())
}
