//! The options of one location, checked, with a getter for each type. Secrets are fetched when
//! they are asked for, not before.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::keys::{self, Form, Key, Kind, Type};
use super::secret;
pub use super::secret::is_reference;
use super::values::{self, Base, Setting};
use crate::command::CommandLine;
use crate::problem::{Class, Problem};

/// Options of one location.
#[derive(Clone, Default)]
pub struct Options {
    /// By name as written. `location` and `title` are not among them.
    settings: BTreeMap<String, Setting>,
    /// Whose they are, for messages: `@nas`, or empty.
    owner: String,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Options of {:?} ", self.owner)?;
        f.debug_set().entries(self.settings.keys()).finish()
    }
}

impl Options {
    /// No options. `owner` is used in messages.
    pub fn new(owner: impl Into<String>) -> Self {
        Self { settings: BTreeMap::new(), owner: owner.into() }
    }

    /// The options of `-o KEY=VALUE`. Literal secrets are refused.
    /// `home` is what `~/` means; other paths begin at the current directory.
    pub fn from_words(words: &[String], home: Option<PathBuf>) -> Result<Self, Problem> {
        let base = Base { home, directory: crate::location::absolute(Path::new(".")) };
        let mut options = Self::new("");
        for word in words {
            let Some((name, text)) = word.split_once('=') else {
                return Err(
                    Problem::usage("-o takes KEY=VALUE").hint("for instance -o connections=8")
                );
            };
            let (key, form) = known(name.trim())?;
            if matches!(key.name, "location" | "title") {
                return Err(Problem::usage(format!("{} is no option of a location", key.name))
                    .hint("write the location itself: holdfast at LOCATION …"));
            }
            if key.value.is_secret() && form == Form::Value && !is_reference(text) {
                let name = key.name;
                let file = match key.has_file_form() {
                    true => format!("{name}_file=FILE, "),
                    false => "key_file=FILE, ".into(),
                };
                return Err(Problem::usage(format!(
                    "-o {name}=… is refused: everybody on this machine could read it in the \
                     list of processes"
                ))
                .hint(format!("write {file}{name}_command=COMMAND or {name}=env:VARIABLE"))
                .hint(format!(
                    "or keep it in the configuration: holdfast config repository set NAME {name}"
                )));
            }
            let kind = form.value(key.value);
            let setting = values::write(kind, text)
                .and_then(|value| values::read(kind, &value, &base))
                .map_err(|what| Problem::usage(format!("-o {name} {what}")))?;
            options.set(name.trim(), key, setting);
        }
        Ok(options)
    }

    /// Sets a limit: `limit_upload` and `limit_download` in bytes a second, or `connections`.
    pub fn set_limit(&mut self, name: &str, number: u64) {
        self.settings.insert(name.to_owned(), Setting::Number(number));
    }

    /// Adds a setting in place of what the same option said in any form.
    fn set(&mut self, name: &str, key: &'static Key, setting: Setting) {
        self.settings.retain(|other, _| !is_same_secret(other, key));
        self.settings.insert(name.to_owned(), setting);
    }

    /// Adds a setting of the file; two forms of one secret are a problem.
    pub(super) fn add(
        &mut self,
        name: &str,
        key: &'static Key,
        setting: Setting,
    ) -> Result<(), Problem> {
        if let Some(other) = self.settings.keys().find(|other| is_same_secret(other, key)) {
            let text = format!("{} has both {other} and {name}", self.owner);
            return Err(Problem::new(Class::Configuration, text).hint("keep one of them"));
        }
        self.settings.insert(name.to_owned(), setting);
        Ok(())
    }

    /// These, and `others` in place of what they say as well.
    #[must_use]
    pub fn overridden_by(mut self, others: &Self) -> Self {
        for (name, setting) in &others.settings {
            if let Some((key, _)) = keys::find(name) {
                self.set(name, key, setting.clone());
            }
        }
        self
    }

    /// Refuses options of other kinds of location.
    pub fn check_kind(&self, kind: Kind) -> Result<(), Problem> {
        for name in self.settings.keys() {
            if let Some((key, _)) = keys::find(name)
                && !key.applies_to(kind)
            {
                return Err(wrong_kind(name, key, kind));
            }
        }
        Ok(())
    }

    fn setting(&self, name: &str, accepts: impl Fn(Type) -> bool) -> Option<&Setting> {
        debug_assert!(
            keys::find(name).is_some_and(|(key, form)| form != Form::Value || accepts(key.value)),
            "{name} is no option of this type"
        );
        self.settings.get(name)
    }

    /// Whether the option is given, a secret in any of its forms.
    pub fn has(&self, name: &str) -> bool {
        let forms = [name.to_owned(), format!("{name}_file"), format!("{name}_command")];
        let of_this = |form: &String| keys::find(form).is_some_and(|(key, _)| key.name == name);
        forms.iter().filter(|form| of_this(form)).any(|form| self.settings.contains_key(form))
    }

    /// A text option.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.setting(name, |kind| matches!(kind, Type::Text | Type::Lines))? {
            Setting::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A path of this machine, absolute. Also `X_file` of a secret X.
    pub fn path(&self, name: &str) -> Option<&Path> {
        match self.setting(name, |kind| kind == Type::Path)? {
            Setting::Path(path) => Some(path),
            _ => None,
        }
    }

    /// A switch; `None` if it is not given.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.setting(name, |kind| kind == Type::Bool)? {
            Setting::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    /// A switch, with the default of the table (false where that is none).
    pub fn is_on(&self, name: &str) -> bool {
        let default = || keys::find(name).is_some_and(|(key, _)| key.default == "true");
        self.flag(name).unwrap_or_else(default)
    }

    /// A number, or bytes a second.
    pub fn number(&self, name: &str) -> Option<u64> {
        let accepts = |kind| matches!(kind, Type::Number(..) | Type::Rate);
        match self.setting(name, accepts)? {
            Setting::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A length of time.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.setting(name, |kind| kind == Type::Duration)? {
            Setting::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// A command. Also `X_command` of a secret X.
    pub fn command(&self, name: &str) -> Option<&CommandLine> {
        match self.setting(name, |kind| kind == Type::Words)? {
            Setting::Command(command) => Some(command),
            _ => None,
        }
    }

    /// A secret, from wherever it is kept: fetched now, so that a command of the user may run.
    /// `Ok(None)`: it is not given.
    pub fn secret(&self, name: &str) -> Result<Option<Zeroizing<String>>, Problem> {
        debug_assert!(keys::find(name).is_some_and(|(key, _)| key.value.is_secret()), "{name}");
        let forms = [Form::Value, Form::File, Form::Command].map(|form| (form.name(name), form));
        // The file of a key is an option of its own.
        let of_this =
            |(written, form): &&(String, Form)| keys::find(written).is_some_and(|f| f.1 == *form);
        let mut forms = forms.iter().filter(of_this);
        let found = forms.find_map(|(form, _)| self.settings.get_key_value(form));
        let Some((form, setting)) = found else { return Ok(None) };
        let text = secret::fetch(&self.named(form), setting)?;
        Ok(Some(with_lines(name, text)))
    }

    fn named(&self, name: &str) -> String {
        match self.owner.as_str() {
            "" => name.to_owned(),
            owner => format!("{name} of {owner}"),
        }
    }
}

/// The option that `name` means.
pub fn known(name: &str) -> Result<(&'static Key, Form), Problem> {
    keys::find(name).ok_or_else(|| {
        let shown = crate::text::printable(name.as_bytes());
        let problem = Problem::usage(format!("there is no option {shown}"));
        let problem = match keys::nearest(name) {
            Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
            None => problem,
        };
        problem.hint("all options: docs/configuration.md, or holdfast config repository set --help")
    })
}

/// What to say of an option of another kind of location.
pub(super) fn wrong_kind(name: &str, key: &Key, kind: Kind) -> Problem {
    let kinds: Vec<_> = key.kinds.iter().map(ToString::to_string).collect();
    let text =
        format!("{name} is an option of {} locations, and this one is {kind}", kinds.join(" and "));
    Problem::usage(text)
}

/// Whether `other`, a name as written, says the same option as `key`. The pasted key and its
/// file are two ways to say one thing as well.
pub(super) fn is_same_secret(other: &str, key: &Key) -> bool {
    let canonical = |name| if name == "key_file" { "key" } else { name };
    keys::find(other).is_some_and(|(other, _)| canonical(other.name) == canonical(key.name))
}

/// A secret of several lines, whichever way the lines' ends came in.
fn with_lines(name: &str, text: Zeroizing<String>) -> Zeroizing<String> {
    let has_lines = keys::find(name).is_some_and(|(key, _)| key.value.has_lines());
    if !has_lines {
        return text;
    }
    let text = Zeroizing::new(text.replace("\r\n", "\n"));
    let text = match text.trim_end().contains('\n') {
        true => text,
        false => Zeroizing::new(text.replace("\\r", "").replace("\\n", "\n")),
    };
    Zeroizing::new(format!("{}\n", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_file(text: &str) -> Result<Options, Problem> {
        let attempt = || -> Result<crate::Config, Box<dyn std::error::Error>> {
            let dir = tempfile::tempdir()?;
            let path = dir.path().join("config.toml");
            std::fs::write(&path, format!("[repository.nas]\n{text}"))?;
            Ok(crate::Config::load(&path, Some("/home/a".into()))?)
        };
        attempt().map_err(|e| Problem::usage(e.to_string()))?.expect("nas")?.options()
    }

    #[test]
    fn getters_give_what_the_type_says() -> Result<(), Problem> {
        let options = of_file(
            "location = 'sftp://h/x'\nport = 22\ntimeout = '500ms'\nuse_agent = false\n\
             limit_upload = '10M'\nkey_file = '~/.ssh/id'\nssh_command = ['ssh', '-x']\n\
             shell_path = '~/x'\n",
        )?;
        assert_eq!(options.number("port"), Some(22));
        assert_eq!(options.number("limit_upload"), Some(10 << 20));
        assert_eq!(options.duration("timeout"), Some(Duration::from_millis(500)));
        assert_eq!(
            (options.flag("use_agent"), options.flag("disable_hash_check")),
            (Some(false), None)
        );
        assert_eq!(
            (options.is_on("allow_insecure_ciphers"), options.is_on("use_tls")),
            (false, true)
        );
        assert_eq!(options.path("key_file"), Some(Path::new("/home/a/.ssh/id")));
        // A path on the server is no path of ours.
        assert_eq!(options.text("shell_path"), Some("~/x"));
        let words = vec!["ssh".to_owned(), "-x".to_owned()];
        assert_eq!(options.command("ssh_command"), Some(&CommandLine::Words(words)));
        assert_eq!(
            (options.has("port"), options.has("host"), options.text("host")),
            (true, false, None)
        );
        // The key's file is read by whoever uses it.
        assert_eq!(options.secret("key")?, None);
        Ok(())
    }

    #[test]
    fn a_secret_comes_from_wherever_it_is_kept() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("secret");
        std::fs::write(&file, "from file\r\n")?;
        let secret = |text: &str| -> Result<Option<String>, Problem> {
            Ok(of_file(text)?.secret("password")?.map(|text| text.to_string()))
        };
        assert_eq!(secret("")?, None);
        assert_eq!(secret("password = 'x'")?.as_deref(), Some("x"));
        let by_file = format!("password_file = '{}'", file.display());
        assert_eq!(secret(&by_file)?.as_deref(), Some("from file"));
        assert_eq!(secret("password_command = 'echo \"a b\"'")?.as_deref(), Some("a b"));
        let words = "password_command = ['printf', '%s', 'a;b']";
        assert_eq!(secret(words)?.as_deref(), Some("a;b"));
        assert_eq!(secret("password = 'env:PATH'")?, std::env::var("PATH").ok());
        for (text, part) in [
            ("password = 'env:HOLDFAST_NOT_SET'", "HOLDFAST_NOT_SET is not set"),
            ("password_command = 'true'", "it is empty"),
            ("password_command = 'false'", "exit status: 1"),
            ("password_file = '/nonexistent'", "password_file of @nas"),
        ] {
            assert!(secret(text).is_err_and(|p| p.to_string().contains(part)), "{text}");
        }
        Ok(())
    }

    #[test]
    fn a_pasted_key_has_its_lines_whichever_way_it_came() -> Result<(), Problem> {
        for text in [
            "key = \"\"\"\n-----BEGIN\nabc==\n-----END\n\"\"\"",
            "key = '-----BEGIN\\nabc==\\n-----END'",
            "key = '-----BEGIN\\r\\nabc==\\r\\n-----END\\n'",
            "key = \"-----BEGIN\\r\\nabc==\\r\\n-----END\"",
            "key_command = \"printf '%s\\\\n' -----BEGIN abc== -----END\"",
        ] {
            let key = of_file(text)?.secret("key")?.map(|key| key.to_string());
            assert_eq!(key.as_deref(), Some("-----BEGIN\nabc==\n-----END\n"), "{text}");
        }
        Ok(())
    }

    #[test]
    fn the_command_line_takes_the_place_of_every_form() -> Result<(), Problem> {
        let words = ["password_command=echo theirs".to_owned(), "connections=8".to_owned()];
        let over = Options::from_words(&words, None)?;
        let merged =
            of_file("password_file = '/x'\nconnections = 2\nport = 1")?.overridden_by(&over);
        assert_eq!(merged.secret("password")?.map(|t| t.to_string()).as_deref(), Some("theirs"));
        assert_eq!((merged.number("connections"), merged.number("port")), (Some(8), Some(1)));
        assert!(!merged.has("key") && merged.path("password_file").is_none());
        let key_file = Options::from_words(&["key_file=/k".to_owned()], None)?;
        let merged = of_file("key = 'pasted'")?.overridden_by(&key_file);
        assert_eq!((merged.secret("key")?, merged.path("key_file")), (None, Some(Path::new("/k"))));
        Ok(())
    }

    #[test]
    fn nothing_shows_a_secret() -> Result<(), Problem> {
        let options = of_file("password = 'hunter2'\nkey_command = 'echo hunter2'")?;
        let secret = options.secret("password")?;
        assert!(secret.is_some());
        assert!(!format!("{options:?}").contains("hunter2"), "{options:?}");
        for words in ["password=hunter2", "key=hunter2", "port=hunter2", "hunter2"] {
            let refused = Options::from_words(&[words.to_owned()], None);
            assert!(refused.is_err_and(|p| !format!("{p:?}").contains("hunter2")), "{words}");
        }
        Ok(())
    }
}
