//! Remotes of rclone's configuration as named locations of ours. What has no equal here is named,
//! so that nobody believes that it still holds; secrets are moved and never shown.

mod alias;
mod obscure;
mod rclone;
mod s3;
mod sftp;

use toml_edit::Table;
use zeroize::Zeroizing;

use self::rclone::Section;
pub use self::rclone::{Remotes, default_file};
use super::keys;
use super::{Config, name_of};
use crate::location::Location;
use crate::problem::{Class, Problem};
use crate::text::{printable, shell_word};

/// A remote that was asked for: `NAME`, or `NAME:PATH` for a path on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The remote's name in rclone's configuration.
    pub remote: String,
    /// The path as rclone takes it: `bucket/prefix`, `/absolute`, `below/home`; may be empty.
    pub path: String,
}

impl Wish {
    /// What was typed.
    pub fn parse(text: &str) -> Self {
        let (remote, path) = text.split_once(':').unwrap_or((text, ""));
        Self { remote: remote.to_owned(), path: path.to_owned() }
    }
}

/// What became of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is a named location now.
    Imported,
    /// It is a named location now, in place of one that was there.
    Replaced,
    /// A location of that name was there already, and stays.
    Exists,
    /// It is nothing that we can reach.
    LeftOut,
}

/// A remote and what became of it. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name in rclone's configuration.
    pub remote: String,
    /// The name of the location.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Options that were set, in order.
    pub options: Vec<String>,
    /// Options of rclone that have no equal here.
    pub ignored: Vec<String>,
    /// What is worth knowing: why it was left out, what is to be done.
    pub notes: Vec<String>,
}

/// A remote in our own words.
#[derive(Default)]
struct Draft {
    /// Options, the location among them if it is known.
    settings: Vec<(&'static str, Zeroizing<String>)>,
    notes: Vec<String>,
    /// The location without what was not said; empty if nothing misses.
    incomplete: Option<Incomplete>,
}

/// A location that lacks its last part.
struct Incomplete {
    /// What is known of it: `s3://endpoint`.
    begin: String,
    /// What to write behind it: `BUCKET`.
    rest: &'static str,
}

impl Draft {
    fn set(&mut self, option: &'static str, value: impl Into<Zeroizing<String>>) {
        self.settings.push((option, value.into()));
    }

    fn set_if(&mut self, option: &'static str, value: Option<Zeroizing<String>>) {
        if let Some(value) = value {
            self.set(option, value);
        }
    }
}

/// Why a remote is left out.
type Reason = String;

impl Config {
    /// Takes over the remotes that are wished for, or all. One that was wished for must succeed;
    /// of all the others, those that cannot be taken are told of. An entry that is there is kept,
    /// or with `replace` changed; its title, passphrase and limits stay.
    pub fn import(
        &mut self,
        remotes: &Remotes,
        wishes: &[Wish],
        replace: bool,
    ) -> Result<Vec<Imported>, Problem> {
        if !wishes.is_empty() {
            let strict = |wish: &Wish| must_succeed(self.import_one(remotes, wish, replace)?);
            return wishes.iter().map(strict).collect();
        }
        let all: Vec<_> = remotes.names().map(|name| Wish::parse(&format!("{name}:"))).collect();
        all.iter().map(|wish| self.import_one(remotes, wish, replace)).collect()
    }

    fn import_one(
        &mut self,
        remotes: &Remotes,
        wish: &Wish,
        replace: bool,
    ) -> Result<Imported, Problem> {
        let mut section = remotes.expect(&wish.remote)?;
        let title = section.take("description");
        let mut imported = Imported {
            remote: wish.remote.clone(),
            name: String::new(),
            fate: Fate::LeftOut,
            options: Vec::new(),
            ignored: Vec::new(),
            notes: Vec::new(),
        };
        let (draft, ignored) = match draft(remotes, section, &wish.path) {
            Ok(drafted) => drafted,
            Err(reason) => {
                imported.notes.push(reason);
                return Ok(imported);
            }
        };
        let (name, title_of_name) = match name_of(&wish.remote) {
            Ok(names) => names,
            Err(problem) => {
                imported.notes.push(problem.to_string());
                return Ok(imported);
            }
        };
        imported.name.clone_from(&name);
        let is_there = self.entry(&name).is_some();
        if is_there && !replace {
            imported.fate = Fate::Exists;
            imported
                .notes
                .push(format!("there is a location {name} already; --replace changes it"));
            return Ok(imported);
        }
        let before = self.document.clone();
        let title = title.map(|title| title.to_string()).or(title_of_name);
        if let Err(problem) = self.write_draft(&name, is_there, &draft, title) {
            self.document = before;
            imported.notes.push(problem.to_string());
            return Ok(imported);
        }
        imported.fate = if is_there { Fate::Replaced } else { Fate::Imported };
        imported.options = draft.settings.iter().map(|(name, _)| (*name).to_owned()).collect();
        imported.ignored = ignored;
        imported.notes = draft.notes;
        if let Some(Incomplete { begin, rest }) = draft.incomplete
            && self.entry(&name).is_some_and(|entry| entry.shown_location().is_none())
        {
            let word = shell_word(&name);
            imported.notes.push(format!(
                "it is complete with: holdfast config repository set {word} location {begin}/{rest}"
            ));
        }
        Ok(imported)
    }

    fn write_draft(
        &mut self,
        name: &str,
        is_there: bool,
        draft: &Draft,
        title: Option<String>,
    ) -> Result<(), Problem> {
        if is_there {
            self.take_out_connection(name, draft)?;
        } else {
            self.repositories_mut()?.insert(name, toml_edit::Item::Table(Table::new()));
            if let Some(title) = title {
                self.set(name, "title", title.trim())?;
            }
        }
        for (option, value) in &draft.settings {
            self.set(name, option, value)?;
        }
        let entry = self.expect(name)?;
        entry.options().map(|_| ())
    }

    /// Takes out what says how to get there. What opens the repository there stays, and a location
    /// that the draft does not complete, if it is on the same server.
    fn take_out_connection(&mut self, name: &str, draft: &Draft) -> Result<(), Problem> {
        let entry = self.expect(name)?;
        let keeps_location = match (&draft.incomplete, entry.shown_location()) {
            (Some(Incomplete { begin, .. }), Some(now)) => now.starts_with(&format!("{begin}/")),
            _ => false,
        };
        let goes = |option: &str| match keys::find(option) {
            Some((key, _)) if key.name == "location" => !keeps_location,
            Some((key, _)) => !key.kinds.is_empty(),
            None => false,
        };
        let names: Vec<_> = entry.lines().into_iter().map(|line| line.name).collect();
        let table = self.entry_mut(name)?;
        for option in names.iter().filter(|option| goes(option)) {
            table.remove(option);
        }
        Ok(())
    }
}

/// What was asked for by name must be done.
fn must_succeed(imported: Imported) -> Result<Imported, Problem> {
    let shown = printable(imported.remote.as_bytes());
    let class = match imported.fate {
        Fate::Imported | Fate::Replaced => return Ok(imported),
        Fate::Exists => Class::AlreadyExists,
        Fate::LeftOut => Class::Unsupported,
    };
    let why = imported.notes.join("; ");
    Err(Problem::new(class, format!("{shown} cannot be imported: {why}"))
        .hint("nothing was changed"))
}

/// A section in our own words, and which of its options are left.
fn draft(
    remotes: &Remotes,
    mut section: Section,
    path: &str,
) -> Result<(Draft, Vec<String>), Reason> {
    let kind = section.take("type").map(|kind| kind.to_string()).unwrap_or_default();
    let draft = match kind.as_str() {
        "sftp" => sftp::draft(&mut section, path)?,
        "s3" => s3::draft(&mut section, path)?,
        "local" => local(path)?,
        "alias" => return alias::draft(remotes, section, path),
        "crypt" => {
            return Err(
                "type crypt: Holdfast encrypts by itself; import the remote that it wraps".into()
            );
        }
        "b2" | "google cloud storage" | "swift" => {
            return Err(format!(
                "type {kind} is not known; use the S3 interface of that service (docs/s3.md)"
            ));
        }
        "" => return Err("it has no type".into()),
        other => {
            let shown = printable(other.as_bytes());
            return Err(format!("type {shown} is not known; sftp, s3, local and alias are"));
        }
    };
    Ok((draft, section.left()))
}

fn local(path: &str) -> Result<Draft, Reason> {
    if path.is_empty() {
        return Err("a local remote names no path; import it as NAME:/path".into());
    }
    let mut draft = Draft::default();
    draft.set("location", path.to_owned());
    Ok(draft)
}

/// The location that `text` is, if it is one on the network.
fn parse_location(text: &str) -> Result<Location, Reason> {
    Location::parse(text.as_ref()).map_err(|problem| problem.to_string())
}

#[cfg(test)]
mod tests;
