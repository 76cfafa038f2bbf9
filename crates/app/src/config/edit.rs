//! Changes to the configuration, each as small as what was asked for: all else in the file stays
//! as it was written.

use std::path::{Path, PathBuf};

use toml_edit::{Item, Table, TableLike, Value};

use super::file::Editing;
use super::options::{is_same_secret, known, wrong_kind};
use super::{Config, read_location, values};
use crate::config::keys::{Kind, Type};
use crate::location::{Location, absolute};
use crate::problem::{Class, Problem};
use crate::text::{printable, shell_word};

/// What an edit did beside what was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The entry's name.
    pub name: String,
    /// The entry was made.
    pub created: bool,
    /// Other forms of the same secret that went.
    pub replaced: Vec<String>,
    /// The default was this entry; it follows, or is no more.
    pub default: bool,
    /// Plans that follow.
    pub plans: Vec<String>,
}

/// A name from what was typed, and the title if it was no name: `Office NAS SFTP` becomes
/// `office-nas-sftp`.
pub fn name_of(text: &str) -> Result<(String, Option<String>), Problem> {
    let text = text.trim();
    let text = text.strip_prefix('@').unwrap_or(text);
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = |name: &str| name.starts_with(char::is_alphanumeric);
    if starts_well(text) && text.chars().all(is_name) {
        return Ok((text.to_owned(), None));
    }
    let lower = text.to_lowercase();
    let parts: Vec<_> = lower
        .split(|c: char| !is_name(c))
        .map(|part| part.trim_matches(['-', '.']))
        .filter(|part| !part.is_empty())
        .collect();
    let name = parts.join("-");
    if !starts_well(&name) || text.contains(char::is_control) {
        let shown = printable(text.as_bytes());
        return Err(Problem::usage(format!("{shown:?} is no name")).hint(
            "a name has letters, digits, `-`, `_` and `.`, and begins with a letter or digit",
        ));
    }
    Ok((name, Some(text.to_owned())))
}

impl Config {
    /// Changes the file at `path` by `change`, under a lock. Nothing is written if it fails.
    pub fn edit<T>(
        path: &Path,
        home: Option<PathBuf>,
        change: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let mut editing = Editing::start(path)?;
        let found = std::mem::take(&mut editing.found.document);
        let before = found.to_string();
        let mut config = Self::new(path, found, Some(editing.found.mode), home)?;
        let answer = change(&mut config)?;
        let after = config.document.to_string();
        // The empty line above a table is not wanted once nothing stands above it.
        let after = if before.starts_with('\n') { &after } else { after.trim_start_matches('\n') };
        if after != before {
            editing.write(after)?;
        }
        Ok(answer)
    }

    pub(super) fn repositories_mut(&mut self) -> Result<&mut dyn TableLike, Problem> {
        self.tables_mut("repository")
    }

    /// The table of this name that holds tables; made if need be.
    pub(crate) fn tables_mut(&mut self, name: &str) -> Result<&mut dyn TableLike, Problem> {
        let mut fresh = Table::new();
        // No header of its own: [repository.NAME] says it all.
        fresh.set_implicit(true);
        let item = self.document.entry(name).or_insert(Item::Table(fresh));
        item.as_table_like_mut()
            .ok_or_else(|| Problem::new(Class::Configuration, format!("{name} must be a table")))
    }

    pub(super) fn entry_mut(&mut self, name: &str) -> Result<&mut dyn TableLike, Problem> {
        self.expect(name)?;
        let item = self.repositories_mut()?.get_mut(name).and_then(Item::as_table_like_mut);
        item.ok_or_else(|| Problem::new(Class::Configuration, format!("{name} must be a table")))
    }

    /// The name of an entry that is there: `text` may also be its title.
    pub fn existing(&self, text: &str) -> Result<String, Problem> {
        let by_title = || {
            self.names().into_iter().find(|name| {
                self.entry(name).and_then(|entry| entry.title()).is_some_and(|t| t == text.trim())
            })
        };
        let (name, _) = name_of(text)?;
        if self.entry(&name).is_some() {
            return Ok(name);
        }
        by_title().map_or_else(|| self.expect(&name).map(|entry| entry.name().to_owned()), Ok)
    }

    /// Makes an entry. `text` is a name or a title.
    pub fn create(&mut self, text: &str) -> Result<Changed, Problem> {
        let (name, title) = name_of(text)?;
        if self.entry(&name).is_some() {
            let word = shell_word(&name);
            let text = format!("there is a location {name} already");
            return Err(Problem::new(Class::AlreadyExists, text)
                .hint(format!("to see it: holdfast config repository show {word}"))
                .hint(format!("to change it: holdfast config repository set {word} KEY VALUE")));
        }
        let mut table = Table::new();
        if let Some(title) = title {
            table.insert("title", Item::Value(title.into()));
        }
        self.repositories_mut()?.insert(&name, Item::Table(table));
        Ok(Changed { name, created: true, ..Changed::default() })
    }

    /// Sets an option. An entry that is not there is made.
    pub fn set(&mut self, text: &str, option: &str, value: &str) -> Result<Changed, Problem> {
        let (key, form) = known(option)?;
        let refused = |what: String| Problem::usage(format!("{option} {what}"));
        let value = match key.name {
            "location" => self.location_to_keep(value)?,
            "host" | "username" => {
                let what = if key.name == "host" { "host" } else { "user" };
                crate::location::url::name(value.as_bytes(), what)?.into()
            }
            _ => to_keep(form.value(key.value), value)?.map_err(refused)?,
        };
        let mut changed = match self.existing(text) {
            Ok(name) => Changed { name, ..Changed::default() },
            Err(_) => self.create(text)?,
        };
        let name = changed.name.clone();
        if key.name != "location"
            && let Some(kind) = self.entry(&name).and_then(|entry| entry.kind())
            && !key.applies_to(kind)
            && !(key.name == "host" && kind == Kind::Local)
        {
            return Err(self.kind_problem(&name, option, kind));
        }
        let table = self.entry_mut(&name)?;
        let others: Vec<_> = table
            .iter()
            .map(|(other, _)| other.to_owned())
            .filter(|other| other != option && is_same_secret(other, key))
            .collect();
        for other in &others {
            table.remove(other);
        }
        changed.replaced = others;
        put(table, option, value);
        if matches!(key.name, "location" | "host") {
            self.check_kinds(&name)?;
        }
        Ok(changed)
    }

    /// A location that is typed now and must mean the same later.
    fn location_to_keep(&self, text: &str) -> Result<Value, Problem> {
        Ok(match read_location(text, &self.base)? {
            Location::Local(_) if !text.contains("://") => path_to_keep(text)?.into(),
            _ => text.into(),
        })
    }

    /// Whether all options of an entry fit its kind.
    fn check_kinds(&self, name: &str) -> Result<(), Problem> {
        let entry = self.expect(name)?;
        let Some(kind) = entry.kind() else { return Ok(()) };
        for line in entry.lines() {
            if let Ok((key, _)) = known(&line.name)
                && !key.applies_to(kind)
            {
                return Err(self.kind_problem(name, &line.name, kind));
            }
        }
        Ok(())
    }

    fn kind_problem(&self, name: &str, option: &str, kind: Kind) -> Problem {
        let Ok((key, _)) = known(option) else { return Problem::usage(option) };
        let problem = wrong_kind(option, key, kind);
        let word = shell_word(name);
        let is_there = self.entry(name).is_some_and(|e| e.lines().iter().any(|l| l.name == option));
        if is_there {
            return problem.hint(format!(
                "take it out first: holdfast config repository unset {word} {option}"
            ));
        }
        match kind {
            Kind::Local if key.applies_to(Kind::Sftp) => problem.hint(format!(
                "if the path is on another machine, set its host first: \
                 holdfast config repository set {word} host HOST"
            )),
            _ => problem,
        }
    }

    /// Takes an option out.
    pub fn unset(&mut self, text: &str, option: &str) -> Result<Changed, Problem> {
        let name = self.existing(text)?;
        if self.entry_mut(&name)?.remove(option).is_none() {
            let known = self.expect(&name)?.lines().into_iter().map(|line| line.name);
            let shown = printable(option.as_bytes());
            let problem = Problem::new(Class::Configuration, format!("{name} has no {shown}"));
            return Err(match super::keys::nearest_of(option, known) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint(format!(
                    "to see it: holdfast config repository show {}",
                    shell_word(name)
                )),
            });
        }
        if option == "host" {
            self.check_kinds(&name)?;
        }
        Ok(Changed { name, ..Changed::default() })
    }

    /// Takes an entry out, unless a plan needs it. What is stored there stays.
    pub fn remove(&mut self, text: &str) -> Result<Changed, Problem> {
        let name = self.existing(text)?;
        let plans = self.plans_using(&name, None);
        if !plans.is_empty() {
            let text = format!("{name} is used by the plans {}", plans.join(", "));
            return Err(Problem::new(Class::Configuration, text)
                .hint("change these first: holdfast plan edit NAME --to @OTHER"));
        }
        self.repositories_mut()?.remove(&name);
        let default = self.default_name() == Some(&name);
        if default {
            self.document.remove("default");
        }
        Ok(Changed { name, default, ..Changed::default() })
    }

    /// Gives an entry another name. The default and plans follow; a title is kept.
    pub fn rename(&mut self, old: &str, new: &str) -> Result<Changed, Problem> {
        let old = self.existing(old)?;
        let (new, title) = name_of(new)?;
        if new != old && self.entry(&new).is_some() {
            let text = format!("there is a location {new} already");
            return Err(Problem::new(Class::AlreadyExists, text));
        }
        if new != old {
            rename_key(self.repositories_mut()?, &old, &new);
        }
        if let Some(title) = title {
            put(self.entry_mut(&new)?, "title", title.into());
        }
        let default = self.default_name() == Some(&old);
        if default && new != old {
            self.set_default(&new)?;
        }
        let plans = self.plans_using(&old, Some(&new));
        Ok(Changed { name: new, default, plans, ..Changed::default() })
    }

    /// Makes an entry the default repository.
    pub fn set_default(&mut self, text: &str) -> Result<Changed, Problem> {
        let name = self.existing(text)?;
        put(self.document.as_table_mut(), "default", name.clone().into());
        Ok(Changed { name, default: true, ..Changed::default() })
    }

    /// No default repository any more; which it was.
    pub fn unset_default(&mut self) -> Option<String> {
        let name = self.default_name().map(String::from);
        self.document.remove("default");
        name
    }

    /// The plans that use the entry `name`.
    pub fn plans_of(&mut self, name: &str) -> Vec<String> {
        self.plans_using(name, None)
    }

    /// The plans that use `name`. With `new`, they use that from now on.
    fn plans_using(&mut self, name: &str, new: Option<&str>) -> Vec<String> {
        let mut found = Vec::new();
        let plans = self.document.get_mut("plan").and_then(Item::as_table_like_mut);
        for (plan, item) in plans.into_iter().flat_map(|plans| plans.iter_mut()) {
            let Some(plan_table) = item.as_table_like_mut() else { continue };
            let mut uses = false;
            if let Some(value) = plan_table.get_mut("repository").and_then(Item::as_value_mut) {
                uses |= follow(value, name, new, false);
            }
            for (key, needs_at) in [("sources", true), ("mirror", false)] {
                let places = plan_table.get_mut(key).and_then(Item::as_array_mut);
                for value in places.into_iter().flat_map(|places| places.iter_mut()) {
                    uses |= follow(value, name, new, needs_at);
                }
            }
            if uses {
                found.push(plan.get().to_owned());
            }
        }
        found
    }
}

/// What to write into the file for a value that was typed. The inner error says what it must be.
pub(crate) fn to_keep(kind: Type, text: &str) -> Result<Result<Value, String>, Problem> {
    Ok(match kind {
        Type::Path => values::write(kind, &path_to_keep(text)?),
        _ => values::write(kind, text),
    })
}

/// A path typed on a command line is relative to where it was typed, and must mean the same
/// later.
fn path_to_keep(text: &str) -> Result<String, Problem> {
    if text.is_empty() || text.starts_with('/') || text == "~" || text.starts_with("~/") {
        return Ok(text.to_owned());
    }
    let path = absolute(Path::new(text)).into_os_string().into_string();
    path.map_err(|_| Problem::usage("a path in the configuration must be UTF-8"))
}

/// Whether a plan's value means the entry `name`; with `new`, it is changed to mean that.
fn follow(value: &mut Value, name: &str, new: Option<&str>, needs_at: bool) -> bool {
    let Some(text) = value.as_str() else { return false };
    let (at, rest) = match text.strip_prefix('@') {
        Some(rest) => ("@", rest),
        None if needs_at => return false,
        None => ("", text),
    };
    let end = rest.find(':').unwrap_or(rest.len());
    let (found, below) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if found != name {
        return false;
    }
    if let Some(new) = new {
        let decor = value.decor().clone();
        let fresh = format!("{at}{new}{below}");
        *value = fresh.into();
        *value.decor_mut() = decor;
    }
    true
}

/// Sets a value; one that was there keeps the spaces and the comment around it.
pub(crate) fn put(table: &mut dyn TableLike, name: &str, value: Value) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// Renames a table within its parent; its header stays where it is in the file.
pub(crate) fn rename_key(parent: &mut dyn TableLike, old: &str, new: &str) {
    let decor = parent.key(old).map(|key| (key.leaf_decor().clone(), key.dotted_decor().clone()));
    let Some(item) = parent.remove(old) else { return };
    parent.insert(new, item);
    if let (Some((leaf, dotted)), Some(mut key)) = (decor, parent.key_mut(new)) {
        *key.leaf_decor_mut() = leaf;
        *key.dotted_decor_mut() = dotted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, change: impl FnOnce(&mut Config) -> Result<Changed, Problem>) -> String {
        let attempt = || -> Result<String, Box<dyn std::error::Error>> {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("config.toml");
            std::fs::write(&path, text)?;
            Config::edit(&path, None, change)?;
            Ok(std::fs::read_to_string(&path)?)
        };
        attempt().unwrap_or_else(|e| e.to_string())
    }

    #[test]
    fn names_come_from_titles() -> Result<(), Problem> {
        let name = |text: &str| name_of(text).map(|(name, title)| (name, title.is_some()));
        assert_eq!(name("s3-krepository")?, ("s3-krepository".into(), false));
        assert_eq!(name("@NAS_2.home")?, ("NAS_2.home".into(), false));
        assert_eq!(name(" Office  NAS (SFTP)! ")?, ("office-nas-sftp".into(), true));
        assert_eq!(name("Büro: Keller")?, ("büro-keller".into(), true));
        assert_eq!(name("-x")?, ("x".into(), true));
        for bad in ["", "@", "...", "a\tb"] {
            assert!(name_of(bad).is_err(), "{bad}");
        }
        Ok(())
    }

    #[test]
    fn every_way_to_write_a_table_can_be_edited() {
        let set = |text: &str| edited(text, |config| config.set("a", "title", "x"));
        assert_eq!(set(""), "[repository.a]\ntitle = \"x\"\n");
        assert_eq!(set("[repository]\n"), "[repository]\n\n[repository.a]\ntitle = \"x\"\n");
        assert_eq!(
            set("repository = { a = { location = \"/a\" } }\n"),
            "repository = { a = { location = \"/a\" , title = \"x\" } }\n"
        );
        assert_eq!(
            set("repository.a.location = \"/a\"\n"),
            "repository.a.location = \"/a\"\nrepository.a.title = \"x\"\n"
        );
        assert_eq!(
            set("[repository.\"a\"]\ntitle = 'y' # z\n"),
            "[repository.\"a\"]\ntitle = \"x\" # z\n"
        );
        let renamed = edited("repository.a.location = \"/a\"\n", |c| c.rename("a", "b c"));
        assert_eq!(renamed, "repository.b-c.location = \"/a\"\nrepository.b-c.title = \"b c\"\n");
        assert_eq!(set("repository = 1\n").lines().count(), 1);
    }

    #[test]
    fn what_is_not_ours_stays() {
        let text =
            "[plan.x]\nsources = [ \"@a\",\n  \"@ab\" ] # c\nrepository='@a'\n[repository.a]\n";
        let renamed = edited(text, |config| config.rename("a", "b"));
        let expected =
            "[plan.x]\nsources = [ \"@b\",\n  \"@ab\" ] # c\nrepository=\"@b\"\n[repository.b]\n";
        assert_eq!(renamed, expected);
    }
}
