//! The configuration file itself: where it is, how it is read, and how it is written without
//! losing what another program writes at the same time.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use toml_edit::{DocumentMut, TomlError};

use super::keys;
use crate::cache::{own_directory, path_in};
use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::text::printable_os;

/// How long to wait for another program that edits the file.
const PATIENCE: Duration = Duration::from_secs(10);
/// A configuration has no more bytes.
const MAX: u64 = 8 << 20;
/// Symbolic links followed to the file.
const LINKS: usize = 32;

/// Where the configuration is: what was asked for, else `HOLDFAST_CONFIG`, else what belongs to
/// this user. `None` if there is no home to keep one in.
pub fn locate(
    asked: Option<PathBuf>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    is_root: bool,
) -> Option<PathBuf> {
    match asked.or_else(|| path_in(environment, "HOLDFAST_CONFIG")) {
        Some(path) => Some(crate::location::absolute(&path)),
        None if is_root => Some(PathBuf::from("/etc/holdfast/config.toml")),
        None => Some(own_directory(environment, "XDG_CONFIG_HOME", ".config")?.join("config.toml")),
    }
}

/// What was found in the file.
pub(super) struct Found {
    pub(super) document: DocumentMut,
    /// Permission bits.
    pub(super) mode: u32,
}

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Found>, Problem> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("read", path, &e)),
    };
    read_open(path, &file).map(Some)
}

fn read_open(path: &Path, file: &File) -> Result<Found, Problem> {
    let metadata = file.metadata().map_err(|e| failed("read", path, &e))?;
    if !metadata.is_file() || metadata.len() > MAX {
        let text = format!("{} is no configuration file", printable_os(path));
        return Err(Problem::new(Class::Configuration, text));
    }
    let mut bytes = Vec::new();
    file.take(MAX).read_to_end(&mut bytes).map_err(|e| failed("read", path, &e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let before = e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|c| **c == b'\n').count() + 1;
        let shown = printable_os(path);
        Problem::new(Class::Configuration, format!("{shown}, line {line}: it is not UTF-8 text"))
    })?;
    let document = text.parse().map_err(|e| not_toml(path, &text, &e))?;
    Ok(Found { document, mode: metadata.permissions().mode() & 0o7777 })
}

fn failed(operation: &str, path: &Path, error: &std::io::Error) -> Problem {
    catalogue::io(operation, path, error)
}

/// What to say of a file that is not TOML: line, column and the line, but no value that is or
/// may be a secret.
fn not_toml(path: &Path, text: &str, error: &TomlError) -> Problem {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let number = before.matches('\n').count() + 1;
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    let shown = printable_os(path);
    let what = error.message().lines().collect::<Vec<_>>().join(", ");
    Problem::new(Class::Configuration, format!("{shown}, line {number}, column {column}: {what}"))
        .cause(format!("the line is: {}", without_secret(line)))
        .hint("text needs quotes: key = \"value\"")
        .hint(format!("edit it: ${{EDITOR:-vi}} {}", crate::text::shell_word(path)))
}

/// A line of the file that can be shown to anybody. It may as well be the inside of a key.
fn without_secret(line: &str) -> String {
    const MASK: &str = "********";
    let trimmed = line.trim();
    if trimmed.starts_with('[') && !trimmed.contains('=') {
        return crate::text::printable(trimmed.as_bytes());
    }
    let Some((name, value)) = trimmed.split_once('=') else { return MASK.into() };
    let name = name.trim();
    match keys::find(name) {
        Some((key, keys::Form::Value)) if !key.value.is_secret() && is_plain(key.name, value) => {
            crate::text::printable(trimmed.as_bytes())
        }
        Some(_) => format!("{name} = {MASK}"),
        None if matches!(name, "default") => crate::text::printable(trimmed.as_bytes()),
        None => MASK.into(),
    }
}

/// Whether nothing else stands on the line, and no password in a location.
fn is_plain(name: &str, value: &str) -> bool {
    let may_hold_password = name == "location" && value.contains('@');
    !may_hold_password && !value.contains('=')
}

/// The configuration file, open and held against other editors until it is dropped.
pub(super) struct Editing {
    /// Where the file itself is: links are followed.
    target: PathBuf,
    file: File,
    made: bool,
    pub(super) found: Found,
}

impl Editing {
    /// Opens the file, making it and its directory if need be, and waits for other editors.
    pub(super) fn start(path: &Path) -> Result<Self, Problem> {
        let target = follow(path)?;
        if let Some(directory) = target.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(|e| failed("make", directory, &e))?;
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let made = !target.exists();
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&target)
                .map_err(|e| failed("write", &target, &e))?;
            if !lock(&file, &target, until)? {
                continue;
            }
            let found = read_open(&target, &file)?;
            return Ok(Self { target, file, made, found });
        }
    }

    /// Puts `text` in place of what the file holds: all of it or nothing.
    pub(super) fn write(mut self, text: &str) -> Result<(), Problem> {
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        let attempt = || -> std::io::Result<()> {
            let metadata = self.file.metadata()?;
            let mut fresh = tempfile::Builder::new()
                .prefix(".config.toml.")
                .permissions(PermissionsExt::from_mode(0o600))
                .tempfile_in(directory)?;
            fresh.write_all(text.as_bytes())?;
            let owner = fresh.as_file().metadata()?;
            if (owner.uid(), owner.gid()) != (metadata.uid(), metadata.gid()) {
                std::os::unix::fs::fchown(
                    fresh.as_file(),
                    Some(metadata.uid()),
                    Some(metadata.gid()),
                )?;
            }
            // A wider mode is the user's own choice: it is warned about, not changed.
            fresh.as_file().set_permissions(metadata.permissions())?;
            fresh.as_file().sync_all()?;
            fresh.persist(&self.target).map_err(|e| e.error)?;
            File::open(directory)?.sync_all()
        };
        attempt().map_err(|e| failed("write", &self.target, &e))?;
        self.made = false;
        Ok(())
    }
}

impl Drop for Editing {
    fn drop(&mut self) {
        // Nothing was written to what was made for the lock alone.
        if self.made {
            let _ = std::fs::remove_file(&self.target);
        }
    }
}

/// Takes the lock. False: the file was replaced meanwhile, and must be opened again.
fn lock(file: &File, path: &Path, until: Instant) -> Result<bool, Problem> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let text = format!("another program is editing {}", printable_os(path));
                return Err(Problem::new(Class::Busy, text).hint("try again when it is done"));
            }
            Err(e) => return Err(failed("lock", path, &e.into())),
        }
    }
    let ours = file.metadata().map_err(|e| failed("lock", path, &e))?;
    let same = path.metadata().is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino()));
    Ok(same)
}

/// Where a chain of symbolic links ends, there or not: a configuration kept elsewhere stays
/// there.
fn follow(path: &Path) -> Result<PathBuf, Problem> {
    let mut at = path.to_path_buf();
    for _ in 0..LINKS {
        match std::fs::read_link(&at) {
            Ok(next) => at = at.parent().unwrap_or(Path::new("/")).join(next),
            Err(_) => return Ok(at),
        }
    }
    let text = format!("{} leads in a circle of symbolic links", printable_os(path));
    Err(Problem::new(Class::Configuration, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_choice() {
        let environment = |name: &str| match name {
            "HOME" => Some("/home/a".into()),
            "HOLDFAST_CONFIG" => Some("/var".into()),
            _ => None,
        };
        let home = |name: &str| (name == "HOME").then(|| "/home/a".into());
        let xdg = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "/xdg".into());
        let none = |_: &str| None;
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(locate(at("/c"), &environment, true), at("/c"));
        assert_eq!(locate(None, &environment, true), at("/var"));
        assert_eq!(locate(None, &home, true), at("/etc/holdfast/config.toml"));
        assert_eq!(locate(None, &home, false), at("/home/a/.config/holdfast/config.toml"));
        assert_eq!(locate(None, &xdg, false), at("/xdg/holdfast/config.toml"));
        assert_eq!(locate(None, &none, false), None);
    }

    #[test]
    fn what_is_not_toml_is_shown_with_its_place_and_without_secrets()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        let problem = |text: &str| {
            std::fs::write(&path, text).ok()?;
            read(&path).err()
        };
        for (text, place, shown) in [
            ("[repository.nas]\npassword = hunter2\n", "line 2, column 12", "password = ********"),
            ("[repository.nas]\nport = 2x2\n", "line 2, column 8", "port = 2x2"),
            ("[repository.nas\n", "line 1", "[repository.nas"),
            ("[repository.nas]\npassword = \"hunter2\n", "line 2", "password = ********"),
            ("[repository.nas]\npasswrod = hunter2\n", "line 2", "********"),
            ("[r] password = \"hunter2\"\n", "line 1", "********"),
            ("[repository.nas]\nkey = \"\"\"\nhunter2==\nhunter2\n", "line ", "********"),
            ("[repository.nas]\nkey = '\nhunter2==\n", "line ", "********"),
            ("[repository.nas]\nport = 1 password = hunter2\n", "line 2", "port = ********"),
            ("x=[\nhunter2==\n", "line ", "********"),
            ("[a]\npassword='hunter2'\npassword='hunter2'\n", "line 3", "password = ********"),
            ("location = sftp://a:hunter2@h/x", "line 1", "location = ********"),
        ] {
            let problem = problem(text).ok_or(text)?;
            assert!(problem.message.contains(place), "{text}: {problem:?}");
            assert_eq!(problem.causes, [format!("the line is: {shown}")], "{text}");
            assert!(!format!("{problem:?}").contains("hunter2"), "{text}: {problem:?}");
        }
        std::fs::write(&path, b"title = \"\xff\"")?;
        assert!(read(&path).is_err_and(|p| p.message.contains("line 1: it is not UTF-8")));
        Ok(())
    }

    #[test]
    fn links_are_written_through_and_failed_edits_leave_nothing()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let link = dir.path().join("config.toml");
        std::os::unix::fs::symlink("there/real.toml", &link)?;
        Editing::start(&link)?;
        let real = dir.path().join("there/real.toml");
        assert!(!real.exists());
        Editing::start(&link)?.write("default = \"x\"\n")?;
        assert_eq!(std::fs::read_to_string(&real)?, "default = \"x\"\n");
        assert!(link.is_symlink());
        assert_eq!(real.metadata()?.permissions().mode() & 0o777, 0o600);
        let there = dir.path().join("there");
        assert_eq!(there.metadata()?.permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(there)?.count(), 1);
        std::fs::write(&real, "not toml")?;
        assert!(Editing::start(&link).is_err());
        assert_eq!(std::fs::read_to_string(&real)?, "not toml");
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle)?;
        assert!(Editing::start(&circle).is_err_and(|p| p.message.contains("circle")));
        Ok(())
    }

    #[test]
    fn a_file_that_was_replaced_meanwhile_is_opened_again() -> Result<(), Box<dyn std::error::Error>>
    {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "")?;
        let old = File::open(&path)?;
        std::fs::write(dir.path().join("new"), "")?;
        std::fs::rename(dir.path().join("new"), &path)?;
        assert!(!lock(&old, &path, Instant::now())?);
        let held = Editing::start(&path)?;
        let other = File::open(&path)?;
        let busy = lock(&other, &path, Instant::now());
        assert!(busy.is_err_and(|p| p.class == Class::Busy));
        drop(held);
        assert!(lock(&other, &path, Instant::now())?);
        Ok(())
    }
}
