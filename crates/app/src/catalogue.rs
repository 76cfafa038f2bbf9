//! The one catalogue of errors: from what the engine and its connectors report to a [`Problem`]
//! with causes, and hints that say the next command to type. Command line, JSON output and
//! console show the same.

use std::error::Error as StdError;
use std::ffi::OsStr;

use holdfast_connectors::s3::client::{Class as S3Class, S3Error};
use holdfast_connectors::sftp::client::ClientErrorKind;
use holdfast_connectors::sftp::pool::SftpError;
use holdfast_connectors::sftp::ssh::SshError;
use holdfast_engine::Error;
use holdfast_engine::destination::{DestinationError, DestinationErrorKind};
use holdfast_engine::source::{SourceError, SourceErrorKind};
use holdfast_engine::storage::{StorageError, StorageErrorKind};

use crate::problem::{Class, Problem};
use crate::text::shell_word;

mod s3;
mod ssh;

pub use s3::{s3, s3_stage};
pub(crate) use ssh::key as ssh_key;
pub use ssh::{ssh, stage_name};

/// Explains an engine error. `at` is the repository's location as it can be typed, or `None` if
/// commands find it without.
pub fn explain(error: &Error, at: Option<&OsStr>) -> Problem {
    if let Some(error) = lost_connection(error) {
        return ssh(error);
    }
    if let Some(error) = refused_by_bucket(error) {
        return s3(error);
    }
    let command = Command(at);
    let message = error.to_string();
    match error {
        Error::Storage(e) => storage(e),
        Error::Source(e) => source(e),
        Error::Destination(e) => destination(e),
        Error::NoRepository { location, .. } => Problem::new(Class::NoRepository, message)
            .hint(match location.starts_with('/') {
                true => "if there should be one: check the path, and that its disk is mounted",
                false => "if there should be one: check the path",
            })
            .hint(format!("to make one there: {}", command.line("create"))),
        Error::ConfigLost { .. } => Problem::new(Class::NoRepository, message)
            .hint("if it is on a disk or a share: check that all of it is there")
            .hint(format!(
                "to put config back from a recovery kit: {}",
                command.line("repair config --kit FILE")
            ))
            .hint("what else can be done: docs/recovery.md"),
        Error::RepositoryExists { .. } => Problem::new(Class::RepositoryExists, message)
            .hint(format!("to use it: {}", command.line("backup PLACE")))
            .hint(format!("to see what it holds: {}", command.line("ls"))),
        Error::NotEmpty { .. } => Problem::new(Class::NotARepository, message)
            .hint("choose an empty or a new directory for the repository"),
        Error::WrongKey { what, slots, location } => {
            wrong_key(message, location, what, *slots, &command)
        }
        Error::UnexpectedlyUnencrypted { .. } => Problem::new(Class::NotEncrypted, message)
            .hint("if it was created with --no-encryption, say --no-encryption again")
            .hint("if it was not, somebody has replaced its config: do not back up to it"),
        Error::KeyNeeded { .. } => passphrase_needed(message),
        Error::LastSlot { .. } => Problem::new(Class::LastKey, message)
            .hint(format!("add another one first: {}", command.line("key add"))),
        Error::NoSuchSlot { .. } => Problem::new(Class::NoSuchKey, message)
            .hint(format!("to see the key slots: {}", command.line("key list"))),
        Error::NewerFormat { .. } => Problem::new(Class::NewerFormat, message)
            .hint("install the newest holdfast on this machine"),
        Error::Damaged { object, .. } if object.starts_with("index/") => {
            Problem::new(Class::Damage, message)
                .hint(format!("packs say what it said: {}", command.line("repair index")))
        }
        Error::Damaged { .. } | Error::MissingBlob { .. } => Problem::new(Class::Damage, message)
            .hint(format!("to see how far it goes: {}", command.line("check --read-data"))),
        Error::DamagedCache { path, removed } => Problem::new(Class::Io, message)
            .also(!removed, || format!("delete {path}"))
            .hint("nothing is wrong with the repository: run the same command again"),
        Error::NoSuchSnapshot { selector } => Problem::new(Class::NoSuchSnapshot, message)
            .hint(format!("to see the snapshots: {}", command.line("ls")))
            .also(selector == "latest", || {
                format!("or back up something first: {}", command.line("backup PLACE"))
            }),
        Error::AmbiguousSnapshot { .. } => Problem::new(Class::NoSuchSnapshot, message)
            .hint("write more digits of the id")
            .hint(format!("to see whole ids: {}", command.line("ls --long"))),
        Error::Kept { snapshot, .. } => {
            let id = snapshot.short();
            Problem::new(Class::Pinned, message)
                .hint(format!(
                    "to unpin it first: {}",
                    command.line(&format!("keep --remove {id}"))
                ))
                .hint("or say --force to forget it all the same")
        }
        Error::NoSuchPath { snapshot, .. } => {
            // Where two snapshots were looked into, each may be named.
            let first = snapshot.split(' ').next().unwrap_or_default();
            let line = command.line(&format!("ls {first}:/"));
            Problem::new(Class::NoSuchPath, message).hint(format!("to see what it holds: {line}"))
        }
        Error::Fenced => {
            Problem::new(Class::Fenced, message).hint("nothing is lost: run the same command again")
        }
        Error::Interrupted => Problem::new(Class::Interrupted, message)
            .hint("nothing is broken: run the same command again to go on"),
        Error::Usage(_) => Problem::usage(message),
        Error::Worker(_) => Problem::new(Class::Internal, message)
            .hint("this is a fault in holdfast: please report it with the command you ran"),
        _ => Problem::new(Class::Internal, message),
    }
    .with_causes(error)
}

/// An I/O error on a file of this machine. `operation` is "read", "write", …
pub fn io(operation: &str, path: impl AsRef<OsStr>, error: &std::io::Error) -> Problem {
    use std::io::ErrorKind as E;
    let shown = crate::text::printable_os(path);
    let class = match error.kind() {
        E::NotFound => Class::NoSuchPath,
        E::PermissionDenied => Class::PermissionDenied,
        E::StorageFull | E::QuotaExceeded => Class::NoSpace,
        E::ReadOnlyFilesystem => Class::ReadOnly,
        E::AlreadyExists => Class::AlreadyExists,
        _ => Class::Io,
    };
    let what = describe(class, operation, &shown);
    let problem = Problem::new(class, what).cause(error);
    match (class, error.kind()) {
        (Class::NoSuchPath, _) => problem.hint("check the path"),
        (Class::AlreadyExists, _) => problem.hint("choose another name, or take it away first"),
        (_, E::NotADirectory) => problem.hint(NOT_A_DIRECTORY),
        (_, E::IsADirectory) => problem.hint("it is a directory: name a file"),
        _ => problem,
    }
}

/// A request to an SFTP server failed. `operation` is "read", "write", …
pub fn sftp(error: &SftpError, operation: &str, object: &str) -> Problem {
    use ClientErrorKind as K;
    let request = match error {
        SftpError::Ssh(error) => return ssh(error),
        SftpError::Request(request) => request,
    };
    let class = match request.kind {
        K::NotFound => Class::NoSuchPath,
        K::PermissionDenied => Class::PermissionDenied,
        K::AlreadyExists | K::NotEmpty => Class::AlreadyExists,
        K::NoSpace => Class::NoSpace,
        K::Unsupported => Class::Unsupported,
        K::Disconnected => Class::Unreachable,
        K::Timeout => Class::Timeout,
        _ => Class::Io,
    };
    let problem = Problem::new(class, describe(class, operation, object));
    let words =
        request.status.as_ref().map(|status| crate::text::printable(status.message.as_bytes()));
    let problem = match words.filter(|words| !words.is_empty()) {
        Some(words) => problem.cause(format!("the server says: {words}")),
        None => problem.cause(crate::text::printable(request.to_string().as_bytes())),
    };
    match class {
        Class::PermissionDenied => problem
            .hint("give the user of the SSH sign-in the right to it, or sign in as another one"),
        Class::NoSpace => problem.hint("free some space there, or raise the quota"),
        Class::NoSuchPath => problem.hint("check the path as the server shows it: sftp user@host"),
        _ => problem,
    }
}

/// The command is encrypted and nobody could be asked.
pub fn passphrase_needed(message: impl Into<String>) -> Problem {
    Problem::new(Class::PassphraseNeeded, message)
        .hint("run it in a terminal to be asked for the passphrase")
        .hint("or set HOLDFAST_PASSPHRASE_FILE, HOLDFAST_PASSPHRASE_COMMAND or HOLDFAST_KEY_FILE")
        .hint("or say --passphrase-file FILE or --key-file FILE")
}

/// How commands for a repository are written.
struct Command<'a>(Option<&'a OsStr>);

impl Command<'_> {
    fn line(&self, rest: &str) -> String {
        match self.0 {
            Some(at) => format!("holdfast at {} {rest}", shell_word(at)),
            None => format!("holdfast {rest}"),
        }
    }
}

fn wrong_key(
    message: String,
    location: &str,
    what: &str,
    slots: usize,
    command: &Command<'_>,
) -> Problem {
    if slots == 0 {
        let (other, option) = match what {
            "passphrase" => ("a key file", "--key-file FILE"),
            _ => ("a passphrase", "no --key-file"),
        };
        return Problem::new(Class::WrongPassphrase, format!("{location} has no {what}"))
            .hint(format!("it opens with {other}: say {option}"));
    }
    let list = command.line("key list");
    let problem = Problem::new(Class::WrongPassphrase, message);
    let problem = match what {
        "passphrase" => problem.hint("check keyboard layout and capitals, and try again"),
        _ => problem.hint("check that it is the key file of this repository"),
    };
    problem.hint(format!("on a machine where it opens, {list} shows which secrets there are"))
}

fn describe(class: Class, operation: &str, object: &str) -> String {
    match class {
        Class::PermissionDenied => format!("no permission to {operation} {object}"),
        Class::NoSpace => format!("no space left to {operation} {object}"),
        Class::NoSuchPath => format!("cannot {operation} {object}: it is not there"),
        Class::ReadOnly => format!("cannot {operation} {object}: the file system is read-only"),
        Class::Unreachable => format!("cannot reach {object} to {operation} it"),
        Class::AlreadyExists => format!("cannot {operation} {object}: it is already there"),
        _ => format!("cannot {operation} {object}"),
    }
}

/// What a connector said of an error.
fn cause(error: &Error) -> Option<&(dyn StdError + Send + Sync + 'static)> {
    match error {
        Error::Storage(e) => e.source.as_deref(),
        Error::Source(e) => e.source.as_deref(),
        Error::Destination(e) => e.source.as_deref(),
        _ => None,
    }
}

/// The request to a bucket below an error. It knows more than the error above it.
fn refused_by_bucket(error: &Error) -> Option<&S3Error> {
    if let Error::NoRepository { answer, .. } = error {
        // Where the bucket itself is missing, that is what to say.
        let error: &S3Error = answer.as_ref()?.source.as_ref()?.downcast_ref()?;
        return (error.class == S3Class::NoSuchBucket).then_some(error);
    }
    cause(error)?.downcast_ref()
}

/// The failed connection below an error, if that is what happened: the rest follows from it.
fn lost_connection(error: &Error) -> Option<&SshError> {
    match cause(error)?.downcast_ref() {
        Some(SftpError::Ssh(error)) => Some(error),
        _ => None,
    }
}

fn storage(error: &StorageError) -> Problem {
    use StorageErrorKind as K;
    let class = match error.kind {
        K::NotFound => Class::NoSuchPath,
        K::AlreadyExists => Class::AlreadyExists,
        K::PermissionDenied => Class::PermissionDenied,
        K::NoSpace => Class::NoSpace,
        K::ReadOnly => Class::ReadOnly,
        K::Unreachable => Class::Unreachable,
        K::Unsupported => Class::Unsupported,
        K::Cold => Class::ColdObject,
        _ => Class::Io,
    };
    let problem = Problem::new(class, describe(class, error.operation, &error.object));
    match class {
        Class::PermissionDenied if error.operation == "delete" => problem.hint(
            "who signs in there may add and not delete, as a machine that only backs up should: \
             do it with the rights of whoever looks after the repository",
        ),
        Class::PermissionDenied => problem
            .hint("run it as the user who owns the repository, or give yourself the right to it"),
        Class::NoSpace => problem.hint(
            "free some space there; what was written so far is kept, so the next backup \
                   goes on where this one ended",
        ),
        Class::ReadOnly => problem.hint("mount it writable, or choose another place"),
        Class::NoSuchPath => problem.hint("check that the disk with the repository is mounted"),
        Class::Io if is_below_a_file(error) => problem.hint(NOT_A_DIRECTORY),
        Class::Io => problem.hint("look at the system's log (dmesg) for errors of the medium"),
        _ => problem,
    }
}

/// What to do where a file stands in the way.
const NOT_A_DIRECTORY: &str = "it is a file, or lies below one: name a directory";

fn is_below_a_file(error: &StorageError) -> bool {
    let cause = error.source.as_deref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotADirectory)
}

fn source(error: &SourceError) -> Problem {
    use SourceErrorKind as K;
    let class = match error.kind {
        K::NotFound => Class::NoSuchPath,
        K::PermissionDenied => Class::PermissionDenied,
        K::Changed => Class::Changed,
        K::Unreachable => Class::Unreachable,
        _ => Class::Io,
    };
    let problem = Problem::new(class, describe(class, error.operation, &error.path));
    match class {
        Class::NoSuchPath => problem.hint("check the path"),
        Class::PermissionDenied => problem.hint("run the backup as a user who may read it"),
        _ => problem,
    }
}

fn destination(error: &DestinationError) -> Problem {
    use DestinationErrorKind as K;
    let class = match error.kind {
        K::NotFound => Class::NoSuchPath,
        K::AlreadyExists => Class::AlreadyExists,
        K::PermissionDenied => Class::PermissionDenied,
        K::NoSpace => Class::NoSpace,
        K::Unsupported => Class::Unsupported,
        K::Unreachable => Class::Unreachable,
        _ => Class::Io,
    };
    let problem = Problem::new(class, describe(class, error.operation, &error.path));
    match class {
        Class::PermissionDenied => {
            problem.hint("restore to a directory of your own with --to DIR, or run it as root")
        }
        Class::NoSpace => problem
            .hint("free some space and run the same command again: it goes on where it ended"),
        Class::AlreadyExists => problem.hint("restore to another directory, or take it away first"),
        _ => problem,
    }
}

/// Words of a server may not steer the terminal.
fn clean(text: &str) -> String {
    crate::text::printable(text.trim().as_bytes())
}

/// Adds the causes below `error`, each said once.
fn causes_of(mut problem: Problem, error: &dyn StdError) -> Problem {
    let mut next = error.source();
    while let Some(cause) = next {
        let text = clean(&cause.to_string());
        if !problem.message.contains(&text) && !problem.causes.contains(&text) {
            problem.causes.push(text);
        }
        next = cause.source();
    }
    problem
}

impl Problem {
    fn also(self, condition: bool, hint: impl FnOnce() -> String) -> Self {
        if condition { self.hint(hint()) } else { self }
    }

    /// Adds the causes below `error`, each said once.
    fn with_causes(mut self, error: &Error) -> Self {
        // The first layers of these are transparent: their text is the message already.
        let mut next: Option<&(dyn StdError + 'static)> = match error {
            Error::Storage(e) => e.source(),
            Error::Source(e) => e.source(),
            Error::Destination(e) => e.source(),
            other => other.source(),
        };
        while let Some(cause) = next {
            let text = cause.to_string();
            if !self.message.ends_with(&text) && !self.causes.contains(&text) {
                self.causes.push(text);
            }
            next = cause.source();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_says_what_next() {
        let at = OsStr::new("/my repo");
        let location = || "/my repo".to_owned();
        let no = Error::NoRepository { location: location(), answer: None };
        let problem = explain(&no, Some(at));
        assert_eq!((problem.exit_code(), problem.class.name()), (10, "no repository"));
        let check = "if there should be one: check the path, and that its disk is mounted";
        assert_eq!(problem.hints, [check, "to make one there: holdfast at '/my repo' create"]);
        let wrong = Error::WrongKey { location: location(), slots: 2, what: "passphrase" };
        assert_eq!(explain(&wrong, None).exit_code(), 12);
        let damaged = Error::damaged("config", "its MAC is wrong");
        assert_eq!(explain(&damaged, None).exit_code(), 13);
        let all = [
            no,
            wrong,
            damaged,
            Error::KeyNeeded { location: location() },
            Error::RepositoryExists { location: location() },
            Error::NotEmpty { location: location() },
            Error::NoSuchSnapshot { selector: "latest".into() },
            Error::NoSuchPath { snapshot: "abcd".into(), path: "/x".into() },
            Error::DamagedCache { path: "/cache/table".into(), removed: true },
            Error::Fenced,
            Error::LastSlot { id: "ab".into() },
            Error::Kept { snapshot: Default::default(), why: "is pinned" },
        ];
        for error in all {
            assert!(!explain(&error, None).hints.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn causes_are_said_once_and_the_operation_is_named() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = Error::from(StorageError::from_io("write", "/r/packs", denied));
        let problem = explain(&error, None);
        assert_eq!(problem.class, Class::PermissionDenied);
        assert_eq!(problem.message, "no permission to write /r/packs");
        assert_eq!(problem.causes, ["permission denied"]);
    }
}
