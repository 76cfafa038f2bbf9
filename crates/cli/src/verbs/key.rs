//! `key`: the passphrases and key files that open the repository. Each has a slot of its own;
//! changing one rewrites none of the data.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use holdfast_app::json::Slot;
use holdfast_app::secrets::{Sources, read_or_make_key_file};
use holdfast_app::text::{printable, printable_os};
use holdfast_app::times::{self, local};
use holdfast_app::{Class, Problem, catalogue, kit};
use holdfast_engine::Error;
use holdfast_engine::format::keyslot::{Cost, KeySlot, Secret};
use holdfast_engine::hash::RecordId;
use holdfast_engine::repo::Repository;
use holdfast_engine::storage::ObjectName;
use serde::Serialize;

use crate::context::{Context, host};
use crate::failure::{Outcome, Result};
use crate::ui::table::{Align, Table};

/// List, add, change and remove the secrets that open the repository
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  holdfast key list
  holdfast key add --new-key-file /root/holdfast.key --label server
  holdfast key passwd
  holdfast key recovery-kit --output kit.txt
  holdfast key remove 1a2b3c4d")]
pub(crate) enum Key {
    /// List the key slots
    List,
    /// Add a passphrase, asked for twice, or a key file
    Add(New),
    /// Replace the passphrase that opened the repository by a new one
    Passwd(New),
    /// Make a page to print, with a key of its own, that brings the repository back
    ///
    /// It says where the repository is and how to get files back, and holds a new key and a copy of
    /// `config`, in lines that can be typed in. The key has a slot of its own: removing that makes
    /// the page worthless.
    RecoveryKit {
        /// Write it to this new file, which only you can read, not to standard output
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Remove a key slot, unless it is the last one
    Remove {
        /// Id of the slot, or its start
        #[arg(value_name = "SLOT")]
        slot: String,
    },
}

/// The new secret.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// Use this key file; it is made if it does not exist
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// What to call it in `key list`
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
}

#[derive(Serialize)]
struct Changed {
    added: Option<String>,
    removed: Option<String>,
}

pub(crate) fn run(context: &Context, key: &Key) -> Result {
    let (repository, secret) = context.open_with_secret()?;
    if !repository.config().is_encrypted() {
        return Err(
            Problem::new(Class::NotEncrypted, "an unencrypted repository has no keys").into()
        );
    }
    match key {
        Key::List => return list(context, &repository),
        Key::Add(new) => {
            let id = add(context, &repository, new)?;
            context.ui.summary(&format!("key slot {} added", id.short()))?;
            changed(context, Some(id), None)?;
        }
        Key::Passwd(new) => {
            let old = slot_of(&repository, secret.as_ref())?;
            let id = add(context, &repository, new)?;
            repository.remove_slot(old)?;
            let (new, old_id) = (id.short(), old.short());
            context.ui.summary(&format!("key slot {new} takes the place of {old_id}"))?;
            changed(context, Some(id), Some(old))?;
        }
        Key::RecoveryKit { output } => recovery_kit(context, &repository, output.as_deref())?,
        Key::Remove { slot } => {
            let id = repository.find_slot(slot)?;
            repository.remove_slot(id)?;
            context.ui.summary(&format!("key slot {} removed", id.short()))?;
            changed(context, None, Some(id))?;
        }
    }
    Ok(Outcome::Done)
}

fn changed(context: &Context, added: Option<RecordId>, removed: Option<RecordId>) -> Result<()> {
    if context.ui.is_json() {
        let text = |id: Option<RecordId>| id.map(|id| id.to_string());
        context.ui.event("summary", &Changed { added: text(added), removed: text(removed) })?;
    }
    Ok(())
}

fn list(context: &Context, repository: &Repository) -> Result {
    let mut table = Table::new(&[
        ("SLOT", Align::Left),
        ("KIND", Align::Left),
        ("CREATED", Align::Left),
        ("HOST", Align::Left),
        ("LABEL", Align::Left),
    ]);
    for slot in repository.slots()? {
        if context.ui.is_json() {
            context.ui.row("key", &Slot::from(&slot))?;
            continue;
        }
        let (created, host, text) = match slot.label {
            Some(label) => (local(label.created), label.host, label.text),
            None => (String::new(), String::new(), "opens nothing: damaged, or left over".into()),
        };
        let (host, text) = (printable(host.as_bytes()), printable(text.as_bytes()));
        table.add(vec![slot.id.short(), slot.kind.into(), created, host, text]);
    }
    if !context.ui.is_json() {
        table.write(&mut *context.ui.out())?;
    }
    Ok(Outcome::Done)
}

fn add(context: &Context, repository: &Repository, new: &New) -> Result<RecordId> {
    let secret = match (&new.new_key_file, &new.new_passphrase_file) {
        (Some(path), _) => {
            let (secret, made) = read_or_make_key_file(path)?;
            if made {
                context.ui.note(&format!("made the key file {}", printable_os(path)))?;
            }
            secret
        }
        (None, Some(path)) => {
            let sources = Sources::default().with_passphrase_file(Some(path.clone()));
            sources.find()?.ok_or_else(|| Problem::usage("no new passphrase"))?
        }
        (None, None) => ask(context, repository)?,
    };
    let label = match (&new.label, &new.new_key_file) {
        (Some(label), _) => label.clone(),
        (None, Some(path)) => path.file_name().map(printable_os).unwrap_or_default(),
        (None, None) => String::new(),
    };
    Ok(repository.add_slot(&secret, Cost::default(), &label, &host(), times::now())?)
}

fn recovery_kit(context: &Context, repository: &Repository, output: Option<&Path>) -> Result<()> {
    if output.is_none() && context.ui.is_json() {
        return Err(Problem::usage("a recovery kit is a page of text, not JSON")
            .hint("say --output FILE")
            .into());
    }
    let file = output.map(|path| {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        file.map(|file| (file, path)).map_err(|e| catalogue::io("make", path, &e))
    });
    let file = file.transpose()?;
    let result = make_kit(context, repository, file.as_ref().map(|(file, path)| (file, *path)));
    if let (Err(_), Some((_, path))) = (&result, &file) {
        let _ = std::fs::remove_file(path);
    }
    result
}

/// Adds the slot and writes the page; without the page there is no slot.
fn make_kit(
    context: &Context,
    repository: &Repository,
    file: Option<(&File, &Path)>,
) -> Result<()> {
    let kit::Kit { slot: id, text: page } = kit::make(repository, &host())?;
    let written: Result<()> = match file {
        Some((mut file, path)) => file
            .write_all(page.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|e| catalogue::io("write", path, &e).into()),
        None => {
            let mut out = context.ui.out();
            // Even if the reader has had enough: what it got is no kit.
            out.write_all(page.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|e| catalogue::io("write to", "standard output", &e).into())
        }
    };
    if let Err(failure) = written {
        repository.remove_slot(id)?;
        return Err(failure);
    }
    if let Some((_, path)) = file {
        let shown = printable_os(path);
        context.ui.summary(&format!("key slot {} added; its kit is {shown}", id.short()))?;
        context.ui.summary("  print it, keep it apart from the backups, and delete the file")?;
    }
    changed(context, Some(id), None)
}

/// The slot that this secret opens.
fn slot_of(repository: &Repository, secret: Option<&Secret>) -> Result<RecordId> {
    // It opened just now; somebody removed it since.
    let mut failure = Error::NoSuchSlot { id: "of this secret".into() };
    if let Some(secret) = secret {
        for slot in repository.slots()? {
            let name = ObjectName::key(slot.id);
            let bytes = repository.storage().get(&name).map_err(Error::from);
            let stored = bytes.and_then(|bytes| {
                KeySlot::parse(&bytes).map_err(|what| Error::damaged(&name, what))
            });
            match stored.map(|stored| stored.unwrap(secret, repository.id(), slot.id)) {
                Ok(Ok(Some(_))) => return Ok(slot.id),
                Ok(_) => {}
                // One that cannot be read may be another's.
                Err(error) => failure = error,
            }
        }
    }
    Err(failure.into())
}

fn ask(context: &Context, repository: &Repository) -> Result<Secret> {
    let prompt = format!("New passphrase for repository {}: ", repository.location());
    context.ask_new(&prompt)?.ok_or_else(|| {
        Problem::new(Class::PassphraseNeeded, "there is no terminal to ask for a new passphrase")
            .hint("say --new-passphrase-file FILE or --new-key-file FILE")
            .into()
    })
}
