//! What opens a repository and where it comes from: options, the environment, a command, or a
//! person asked. Nothing here is ever printed or passed on a command line.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use holdfast_engine::format::keyslot::Secret;
use zeroize::Zeroizing;

use crate::problem::{Class, Problem};
use crate::text::{printable_os, shell_word};

/// Asks a person; the command line and the console each have their own way.
pub trait Ask {
    /// Shows `prompt` and reads a line without echo. `Ok(None)`: there is nobody to ask.
    fn secret(&self, prompt: &str) -> std::io::Result<Option<Zeroizing<String>>>;
}

/// Where a secret may come from, first come first served in the order of the fields.
#[derive(Default, Clone)]
pub struct Sources {
    /// `--key-file`.
    pub key_file: Option<PathBuf>,
    /// `--passphrase-file`.
    pub passphrase_file: Option<PathBuf>,
    /// `HOLDFAST_PASSPHRASE`.
    pub passphrase: Option<Zeroizing<String>>,
    /// `HOLDFAST_KEY_FILE`.
    pub environment_key_file: Option<PathBuf>,
    /// `HOLDFAST_PASSPHRASE_FILE`.
    pub environment_passphrase_file: Option<PathBuf>,
    /// `HOLDFAST_PASSPHRASE_COMMAND`, for a shell.
    pub command: Option<OsString>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("key_file", &self.key_file)
            .field("passphrase_file", &self.passphrase_file)
            .finish_non_exhaustive()
    }
}

impl Sources {
    /// Fills in what the environment says.
    #[must_use]
    pub fn with_environment(mut self, environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| environment(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        // An empty passphrase stays, to be refused: the variable was meant to hold one.
        self.passphrase = environment("HOLDFAST_PASSPHRASE")
            .map(|text| Zeroizing::new(text.to_string_lossy().into_owned()));
        self.environment_key_file = path("HOLDFAST_KEY_FILE");
        self.environment_passphrase_file = path("HOLDFAST_PASSPHRASE_FILE");
        self.command = environment("HOLDFAST_PASSPHRASE_COMMAND").filter(|v| !v.is_empty());
        self
    }

    /// The secret, if any source has one; nobody is asked.
    pub fn find(&self) -> Result<Option<Secret>, Problem> {
        if let Some(path) = &self.key_file {
            return read_key_file(path).map(Some);
        }
        if let Some(path) = &self.passphrase_file {
            return read_passphrase_file(path).map(Some);
        }
        if let Some(text) = &self.passphrase {
            return passphrase(text, "HOLDFAST_PASSPHRASE").map(Some);
        }
        if let Some(path) = &self.environment_key_file {
            return read_key_file(path).map(Some);
        }
        if let Some(path) = &self.environment_passphrase_file {
            return read_passphrase_file(path).map(Some);
        }
        self.command.as_ref().map(run_command).transpose()
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

/// Reads a key file: 32 bytes, or 64 hexadecimal digits.
pub fn read_key_file(path: &Path) -> Result<Secret, Problem> {
    let bytes = std::fs::read(path).map_err(|e| {
        let problem = unreadable("key file", path, &e);
        if e.kind() == std::io::ErrorKind::NotFound {
            return problem.hint("check the path; `create` and `key add` make new key files");
        }
        problem
    })?;
    let bytes = Zeroizing::new(bytes);
    if let Ok(key) = <[u8; 32]>::try_from(&bytes[..]) {
        return Ok(Secret::KeyFile(Zeroizing::new(key)));
    }
    let hex = std::str::from_utf8(&bytes).ok().map(str::trim).and_then(from_hex);
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
    let key = holdfast_engine::crypto::random::<32>()
        .map_err(|e| Problem::new(Class::Internal, "the system gives no random bytes").cause(e))?;
    let key = Zeroizing::new(key);
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

fn run_command(command: &OsString) -> Result<Secret, Problem> {
    let failed = |cause: String| {
        Problem::new(Class::KeyUnreadable, "HOLDFAST_PASSPHRASE_COMMAND gave no passphrase")
            .cause(cause)
            .hint("run the command by itself to see what is wrong")
    };
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env_remove("HOLDFAST_PASSPHRASE")
        .stderr(Stdio::inherit())
        .stdin(Stdio::inherit())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let bytes = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed("it is not text".into()))?;
    passphrase(without_newline(text), "HOLDFAST_PASSPHRASE_COMMAND")
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
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
        let mut sources = Sources::default().with_environment(&environment);
        assert_eq!(bytes(&sources).as_deref(), Some("from command"));
        sources.environment_passphrase_file = Some(file.clone());
        assert_eq!(bytes(&sources).as_deref(), Some("from file"));
        sources.passphrase = Some(Zeroizing::new("from variable".into()));
        assert_eq!(bytes(&sources).as_deref(), Some("from variable"));
        sources.passphrase_file = Some(file);
        assert_eq!(bytes(&sources).as_deref(), Some("from file"));
        assert!(passphrase("", "x").is_err());
        assert!(Sources::default().find()?.is_none());
        Ok(())
    }
}
