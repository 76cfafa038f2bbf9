//! The configuration: named locations with their options, and which of them is the default. A
//! TOML file that people and programs edit; whatever is not ours to change stays as it was
//! written, comments included.

mod edit;
mod export;
pub(crate) mod file;
pub mod import;
pub mod keys;
pub mod options;
pub mod reference;
pub(crate) mod secret;
pub(crate) mod values;

use std::fmt;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, Item, TableLike};

pub use self::edit::{Changed, name_of};
pub(crate) use self::edit::{put, rename_key, to_keep};
pub(crate) use self::export::bare;
pub use self::file::locate;
use self::keys::{Form, Key, Kind};
pub use self::options::Options;
pub use self::values::{Base, duration, rate};
use crate::location::Location;
use crate::problem::{Class, Problem};
use crate::text::printable;

/// What stands for a secret wherever one would be shown.
pub const MASK: &str = "********";

/// The configuration as it was read.
pub struct Config {
    path: PathBuf,
    document: DocumentMut,
    /// Permission bits; `None` if there is no file.
    mode: Option<u32>,
    base: Base,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The document holds secrets.
        f.debug_struct("Config").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file at `path`; one that is not there is empty. `home` is what `~/` means.
    pub fn load(path: &Path, home: Option<PathBuf>) -> Result<Self, Problem> {
        let (document, mode) = match file::read(path)? {
            Some(found) => (found.document, Some(found.mode)),
            None => (DocumentMut::new(), None),
        };
        Self::new(path, document, mode, home)
    }

    fn new(
        path: &Path,
        document: DocumentMut,
        mode: Option<u32>,
        home: Option<PathBuf>,
    ) -> Result<Self, Problem> {
        let directory = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let config = Self { path: path.into(), document, mode, base: Base { home, directory } };
        config.check_outline()?;
        Ok(config)
    }

    /// What is neither `default` nor a table that we know is refused: it may be a slip.
    fn check_outline(&self) -> Result<(), Problem> {
        const KNOWN: [&str; 5] = ["default", "hooks", "repository", "plan", "channel"];
        for (name, item) in self.document.iter() {
            let fits = match name {
                "default" => item.is_str(),
                "hooks" => item.is_bool(),
                _ => item.is_table_like() || item.is_none(),
            };
            if KNOWN.contains(&name) && fits {
                self.check_entries(name, item)?;
                continue;
            }
            let shown = printable(name.as_bytes());
            if KNOWN.contains(&name) {
                let what = match name {
                    "default" => "text in quotes",
                    "hooks" => "true or false",
                    _ => "a table",
                };
                return Err(self.problem(format!("{shown} must be {what}")));
            }
            let problem = self.problem(format!("{shown} is nothing that a configuration holds"));
            let known = KNOWN.iter().map(ToString::to_string);
            return Err(match keys::nearest_of(name, known) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint(
                    "it holds `default`, `hooks`, [repository.NAME], [plan.NAME] and [channel.NAME]",
                ),
            });
        }
        Ok(())
    }

    /// What is no table below `repository`, `plan` or `channel` would be passed over.
    fn check_entries(&self, name: &str, item: &Item) -> Result<(), Problem> {
        let mut entries = item.as_table_like().into_iter().flat_map(TableLike::iter);
        let stray = entries.find(|(_, item)| !item.is_table_like() && !item.is_none());
        let Some((entry, _)) = stray else { return Ok(()) };
        let (shown, name) = (printable(entry.as_bytes()), printable(name.as_bytes()));
        Err(self
            .problem(format!("{name}.{shown} must be a table of its own"))
            .hint(format!("written as [{name}.NAME], in single brackets, above its lines")))
    }

    fn problem(&self, text: impl fmt::Display) -> Problem {
        let shown = crate::text::printable_os(&self.path);
        Problem::new(Class::Configuration, format!("{shown}: {text}"))
    }

    /// Where it is, or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file.
    pub fn exists(&self) -> bool {
        self.mode.is_some()
    }

    /// What to warn about: others can read the file, or write it.
    pub fn warning(&self) -> Option<String> {
        let shown = crate::text::printable_os(&self.path);
        let word = crate::text::shell_word(&self.path);
        match self.mode? {
            mode if mode & 0o022 != 0 => {
                Some(format!("others can change the configuration {shown}: chmod 600 {word}"))
            }
            mode if mode & 0o077 != 0 => {
                Some(format!("others can read the configuration {shown}: chmod 600 {word}"))
            }
            _ => None,
        }
    }

    /// The name of the default repository.
    pub fn default_name(&self) -> Option<&str> {
        let name = self.document.get("default")?.as_str()?;
        Some(name.strip_prefix('@').unwrap_or(name))
    }

    /// Whether commands of plans may run: only who edits the file decides that.
    pub fn allows_hooks(&self) -> bool {
        self.document.get("hooks").and_then(Item::as_bool).unwrap_or(false)
    }

    /// What paths in it are relative to.
    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    pub(crate) fn document(&self) -> &DocumentMut {
        &self.document
    }

    fn repositories(&self) -> Option<&dyn TableLike> {
        self.document.get("repository").and_then(Item::as_table_like)
    }

    /// The names of all locations, in the file's order.
    pub fn names(&self) -> Vec<String> {
        let tables = self.repositories().into_iter().flat_map(TableLike::iter);
        tables.filter(|(_, item)| item.is_table_like()).map(|(name, _)| name.to_owned()).collect()
    }

    /// The entry of this name.
    pub fn entry(&self, name: &str) -> Option<Entry<'_>> {
        let (name, item) = self.repositories()?.get_key_value(name)?;
        Some(Entry { config: self, name: name.get(), table: item.as_table_like()? })
    }

    /// What people call the location of this name: its title, or else the name.
    pub fn title_of<'a>(&'a self, name: &'a str) -> &'a str {
        self.entry(name).and_then(|entry| entry.title()).unwrap_or(name)
    }

    /// The entry of this name; if there is none, a problem that says what there is.
    pub fn expect(&self, name: &str) -> Result<Entry<'_>, Problem> {
        self.entry(name).ok_or_else(|| {
            let shown = printable(name.as_bytes());
            let path = crate::text::printable_os(&self.path);
            let text = format!("there is no location {shown} in the configuration {path}");
            let problem = Problem::new(Class::NoSuchName, text);
            let problem = match keys::nearest_of(name, self.names().into_iter()) {
                Some(nearest) => problem.hint(format!("did you mean @{nearest}?")),
                None => problem,
            };
            let problem = match self.names().is_empty() {
                true => problem,
                false => problem.hint("to see what there is: holdfast config repository list"),
            };
            let word = crate::text::shell_word(name);
            problem.hint(format!(
                "to make it: holdfast config repository set {word} location LOCATION"
            ))
        })
    }
}

/// A line of an entry, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The option's name as written.
    pub name: String,
    /// Its value as TOML; a secret is [`MASK`].
    pub value: String,
    /// Its value as text.
    pub text: String,
}

/// A named location of the configuration.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    config: &'a Config,
    name: &'a str,
    table: &'a dyn TableLike,
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({:?})", self.name)
    }
}

impl<'a> Entry<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// What people call it.
    pub fn title(&self) -> Option<&'a str> {
        self.table.get("title")?.as_str()
    }

    fn location_text(&self) -> Option<&'a str> {
        self.table.get("location")?.as_str()
    }

    /// The location as it is written, with no password.
    pub fn shown_location(&self) -> Option<String> {
        self.location_text().map(|text| printable(without_password(text).as_bytes()))
    }

    /// The location itself, absolute if it is local.
    pub fn location(&self) -> Result<Location, Problem> {
        let shown = printable(self.name.as_bytes());
        let set = format!("holdfast config repository set {shown} location LOCATION");
        let Some(text) = self.location_text() else {
            let text = format!("the location of {shown} is not set");
            return Err(Problem::new(Class::Configuration, text).hint(set));
        };
        read_location(text, &self.config.base).map_err(|problem| Problem {
            class: Class::Configuration,
            message: format!("the location of {shown}: {}", problem.message),
            ..problem
        })
    }

    /// What kind of location it is; `None` while `location` is not set, or makes no sense.
    pub fn kind(&self) -> Option<Kind> {
        Some(match read_location(self.location_text()?, &self.config.base).ok()? {
            // The fields of a form: the directory here, the host beside it.
            Location::Local(_) if self.table.contains_key("host") => Kind::Sftp,
            Location::Local(_) => Kind::Local,
            Location::Sftp(_) => Kind::Sftp,
            Location::S3(_) => Kind::S3,
            Location::Stream | Location::Named { .. } => return None,
        })
    }

    /// All it holds, secrets masked. What is no known option may be a misspelt secret.
    pub fn lines(&self) -> Vec<Shown> {
        let line = |(name, item): (&str, &Item)| {
            let value = item.as_value();
            let text = value.and_then(|value| value.as_str());
            let known = keys::find(name);
            let is_open = match known {
                Some((key, Form::Value)) if key.value.is_secret() => {
                    text.is_some_and(options::is_reference)
                }
                known => known.is_some(),
            };
            let value = match (value, text) {
                _ if !is_open => toml_edit::Value::from(MASK),
                (_, Some(text)) if name == "location" => {
                    toml_edit::Value::from(without_password(text))
                }
                (Some(value), _) => value.clone().decorated("", ""),
                (None, _) => toml_edit::Value::from("…"),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), String::from);
            Shown { name: name.to_owned(), value: value.to_string(), text }
        };
        self.table.iter().map(line).collect()
    }

    /// The options, all of them checked. The first problem is the one reported.
    pub fn options(&self) -> Result<Options, Problem> {
        let owner = format!("@{}", self.name);
        let mut options = Options::new(&owner);
        let at = |problem: Problem| Problem {
            class: Class::Configuration,
            message: format!(
                "[repository.{}]: {}",
                printable(self.name.as_bytes()),
                problem.message
            ),
            ..problem
        };
        for (name, item) in self.table.iter() {
            let (key, form) = options::known(name).map_err(at)?;
            let setting = self
                .setting(key, form, item)
                .map_err(|what| at(Problem::usage(format!("{name} {what}"))))?;
            if !matches!(key.name, "title" | "location") {
                options.add(name, key, setting).map_err(at)?;
            }
        }
        if let Some(kind) = self.kind() {
            options.check_kind(kind).map_err(at)?;
        }
        Ok(options)
    }

    fn setting(&self, key: &Key, form: Form, item: &Item) -> Result<values::Setting, String> {
        let value = item.as_value().ok_or("must be a value, not a table")?;
        values::read(form.value(key.value), value, &self.config.base)
    }
}

/// A location as the file holds it: relative paths begin at the file's directory.
fn read_location(text: &str, base: &Base) -> Result<Location, Problem> {
    Ok(match Location::parse(text.as_ref())? {
        Location::Local(path) => {
            let path = match text.contains("://") {
                true => path,
                false => base.path(text),
            };
            Location::Local(path)
        }
        Location::Stream | Location::Named { .. } => {
            return Err(Problem::usage("a named location is a path, sftp:// or s3://"));
        }
        other => other,
    })
}

/// A location as it may be shown. One with a password in it is refused, but may stand in a file
/// that was edited by hand.
fn without_password(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) if rest.contains('@') && Location::parse(text.as_ref()).is_err() => {
            format!("{scheme}://{MASK}")
        }
        _ => text.to_owned(),
    }
}
