//! What opens a repository and where it comes from: the command line, the environment, the
//! configuration, or else a person is asked. Nothing here is ever printed or passed on a command
//! line.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use holdfast_engine::format::keyslot::Secret;
use zeroize::Zeroizing;

use crate::command::{CommandLine, without_newline};
use crate::config::Options;
use crate::kit;
use crate::problem::{Class, Problem};
use crate::random;
use crate::text::{printable_os, shell_word};

/// One place that a secret may come from.
#[derive(Clone)]
enum Source {
    KeyFile { path: PathBuf, may_make: bool },
    PassphraseFile(PathBuf),
    Variable(Zeroizing<String>),
    Command(CommandLine),
    Options(Options),
}

/// Where the secret of a repository may come from, first come first served.
#[derive(Default, Clone)]
pub struct Sources(Vec<Source>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({})", self.0.len())
    }
}

impl Sources {
    /// Then `--key-file`.
    #[must_use]
    pub fn with_key_file(mut self, path: Option<PathBuf>) -> Self {
        self.0.extend(path.map(|path| Source::KeyFile { path, may_make: true }));
        self
    }

    /// Then `--passphrase-file`.
    #[must_use]
    pub fn with_passphrase_file(mut self, path: Option<PathBuf>) -> Self {
        self.0.extend(path.map(Source::PassphraseFile));
        self
    }

    /// Then what the environment says: `HOLDFAST_PASSPHRASE`, `HOLDFAST_KEY_FILE`,
    /// `HOLDFAST_PASSPHRASE_FILE`, `HOLDFAST_PASSPHRASE_COMMAND` for a shell.
    #[must_use]
    pub fn with_environment(mut self, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        // An empty passphrase stays, to be refused: the variable was meant to hold one.
        let passphrase = environment("HOLDFAST_PASSPHRASE")
            .map(|text| Source::Variable(Zeroizing::new(text.to_string_lossy().into_owned())));
        let key_file = variable("HOLDFAST_KEY_FILE")
            .map(|path| Source::KeyFile { path: path.into(), may_make: false });
        let file =
            variable("HOLDFAST_PASSPHRASE_FILE").map(|path| Source::PassphraseFile(path.into()));
        let command = variable("HOLDFAST_PASSPHRASE_COMMAND")
            .map(|line| Source::Command(CommandLine::Shell(line)));
        self.0.extend([passphrase, key_file, file, command].into_iter().flatten());
        self
    }

    /// Then what options say: `repository_key_file`, or `passphrase` in any of its forms.
    #[must_use]
    pub fn with_options(mut self, options: &Options) -> Self {
        if let Some(path) = options.path("repository_key_file") {
            self.0.push(Source::KeyFile { path: path.into(), may_make: true });
        } else if options.has("passphrase") {
            self.0.push(Source::Options(options.clone()));
        }
        self
    }

    /// Whether there is no source at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key file that [`find`](Self::find) will take, if it takes one, and whether `create`
    /// makes it.
    pub fn key_file(&self) -> Option<(&Path, bool)> {
        match self.0.first()? {
            Source::KeyFile { path, may_make } => Some((path, *may_make)),
            _ => None,
        }
    }

    /// The secret, if any source has one; nobody is asked.
    pub fn find(&self) -> Result<Option<Secret>, Problem> {
        let Some(first) = self.0.first() else { return Ok(None) };
        Ok(Some(match first {
            Source::KeyFile { path, .. } => read_key_file(path)?,
            Source::PassphraseFile(path) => read_passphrase_file(path)?,
            Source::Variable(text) => passphrase(text, "HOLDFAST_PASSPHRASE")?,
            Source::Command(command) => {
                const NAME: &str = "HOLDFAST_PASSPHRASE_COMMAND";
                let text = command.output().map_err(|cause| {
                    Problem::new(Class::KeyUnreadable, format!("{NAME} gave no passphrase"))
                        .cause(cause)
                        .hint("run the command by itself to see what is wrong")
                })?;
                passphrase(&text, NAME)?
            }
            Source::Options(options) => match options.secret("passphrase")? {
                Some(text) => passphrase(&text, "the configuration")?,
                None => return Ok(None),
            },
        }))
    }
}

/// A passphrase, unless it is empty. `from` says where it came from.
pub fn passphrase(text: &str, from: &str) -> Result<Secret, Problem> {
    if text.is_empty() {
        return Err(Problem::new(
            Class::KeyUnreadable,
            format!("the passphrase from {from} is empty"),
        )
        .hint("an empty passphrase protects nothing; say --no-encryption if that is meant"));
    }
    Ok(Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec())))
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Problem {
    let shown = printable_os(path);
    Problem::new(Class::KeyUnreadable, format!("the {what} {shown} cannot be read")).cause(error)
}

fn read_passphrase_file(path: &Path) -> Result<Secret, Problem> {
    let bytes = std::fs::read(path).map_err(|e| unreadable("passphrase file", path, &e))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Problem::new(
            Class::KeyUnreadable,
            format!("the passphrase file {} is not text", printable_os(path)),
        )
        .hint(format!("if it is a key file, say --key-file {}", shell_word(path)))
    })?;
    passphrase(without_newline(text), &printable_os(path))
}

/// Reads a key file: 32 bytes, 64 hexadecimal digits, or the lines of a recovery kit.
pub fn read_key_file(path: &Path) -> Result<Secret, Problem> {
    let bytes = std::fs::read(path).map_err(|e| {
        let problem = unreadable("key file", path, &e);
        if e.kind() == std::io::ErrorKind::NotFound {
            return problem.hint("check the path; `create` and `key add` make new key files");
        }
        if e.kind() == std::io::ErrorKind::IsADirectory {
            return problem.hint("it is a directory: name a file in it");
        }
        problem
    })?;
    let bytes = Zeroizing::new(bytes);
    if let Ok(key) = <[u8; 32]>::try_from(&bytes[..]) {
        return Ok(Secret::KeyFile(Zeroizing::new(key)));
    }
    let text = std::str::from_utf8(&bytes).ok();
    if let Some(key) = text.map(|text| kit::key(text, path)).transpose()?.flatten() {
        return Ok(Secret::KeyFile(key));
    }
    let hex = text.map(str::trim).and_then(from_hex);
    hex.map(Secret::KeyFile).ok_or_else(|| {
        Problem::new(
            Class::KeyUnreadable,
            format!("{} is no key file: it holds {} bytes", printable_os(path), bytes.len()),
        )
        .hint("a key file holds exactly 32 bytes, or 64 hexadecimal digits")
        .hint(format!("if it holds a passphrase, say --passphrase-file {}", shell_word(path)))
    })
}

fn from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Whether anybody but its owner may read a key file.
pub fn is_too_open(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
}

/// The key file at `path`, made of fresh random bytes (0600) if it is not there; whether it was
/// made. What is there is never overwritten.
pub fn read_or_make_key_file(path: &Path) -> Result<(Secret, bool), Problem> {
    let failed = |error: &std::io::Error| {
        let shown = printable_os(path);
        Problem::new(Class::KeyUnreadable, format!("the key file {shown} cannot be made"))
            .cause(error)
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return read_key_file(path).map(|secret| (secret, false));
        }
        Err(e) => return Err(failed(&e)),
    };
    let key = Zeroizing::new(random::<32>()?);
    let written = file.write_all(&*key).and_then(|()| file.sync_all());
    // The name has to be as durable as the repository that will need the file.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = written.and_then(|()| std::fs::File::open(parent)?.sync_all());
    if let Err(e) = written {
        let _ = std::fs::remove_file(path);
        return Err(failed(&e));
    }
    Ok((Secret::KeyFile(key), true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_made_once_and_never_overwritten() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("key");
        let (first, made) = read_or_make_key_file(&path)?;
        assert!(made && !is_too_open(&path));
        let (again, made) = read_or_make_key_file(&path)?;
        assert!(!made);
        let (Secret::KeyFile(first), Secret::KeyFile(again)) = (first, again) else {
            return Err("not a key file".into());
        };
        assert_eq!(first, again);
        std::fs::write(&path, "short")?;
        assert!(read_or_make_key_file(&path).is_err());
        assert_eq!(std::fs::read(&path)?, b"short");
        Ok(())
    }

    #[test]
    fn the_order_of_sources() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("p");
        std::fs::write(&file, "from file\n")?;
        let bytes = |sources: &Sources| match sources.find() {
            Ok(Some(Secret::Passphrase(bytes))) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        };
        let environment = |name: &str| match name {
            "HOLDFAST_PASSPHRASE_COMMAND" => Some("echo from command".into()),
            _ => None,
        };
        let variable = |name: &str| match name {
            "HOLDFAST_PASSPHRASE" => Some("from variable".into()),
            _ => environment(name),
        };
        let given = || Sources::default().with_passphrase_file(Some(file.clone()));
        let words = |word: &str| Options::from_words(&[word.into()], Some("/home/a".into()));
        let options = words("passphrase_command=echo option")?;
        let of_options = Sources::default().with_options(&options);
        assert_eq!(bytes(&of_options).as_deref(), Some("option"));
        let sources = Sources::default().with_environment(&environment).with_options(&options);
        assert_eq!(bytes(&sources).as_deref(), Some("from command"));
        let sources = Sources::default().with_environment(&variable);
        assert_eq!(bytes(&sources).as_deref(), Some("from variable"));
        assert_eq!(bytes(&given().with_environment(&variable)).as_deref(), Some("from file"));
        let key = words("repository_key_file=~/k")?;
        let key_file = Sources::default().with_options(&key);
        assert_eq!(key_file.key_file(), Some((Path::new("/home/a/k"), true)));
        assert_eq!(given().with_options(&key).key_file(), None);
        assert!(passphrase("", "x").is_err());
        assert!(Sources::default().find()?.is_none());
        Ok(())
    }
}
