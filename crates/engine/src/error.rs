//! The engine's errors: named situations with typed ids. What to do about each is said in one
//! place, the catalogue of the `app` crate.

use crate::destination::DestinationError;
use crate::hash::SnapshotId;
use crate::source::SourceError;
use crate::storage::{StorageError, StorageErrorKind};

/// Result of an engine operation.
pub type Result<T> = std::result::Result<T, Error>;

/// What stopped an operation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The destination failed.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// There is no repository at the location.
    #[error("no repository at {location}")]
    NoRepository {
        /// Where it was looked for.
        location: String,
        /// What the storage said, if it was asked for an object and has none.
        answer: Option<Box<StorageError>>,
    },
    /// There are snapshots or keys of a repository at the location, and no config.
    #[error("no repository at {location}: its snapshots or keys are there, and its config is not")]
    ConfigLost {
        /// Where it was looked for.
        location: String,
    },
    /// `create` found a repository.
    #[error("there is already a repository at {location}")]
    RepositoryExists {
        /// Where it was to be made.
        location: String,
    },
    /// `create` found something that is not a repository.
    #[error("{location} is not empty and holds no repository")]
    NotEmpty {
        /// Where it was to be made.
        location: String,
    },
    /// No key slot opens with what was given.
    #[error("{} with this {what}", match slots {
        1 => format!("{location} does not open"),
        _ => format!("none of the {slots} key slots of {location} opens"),
    })]
    WrongKey {
        /// The repository.
        location: String,
        /// How many slots there are of the tried kind.
        slots: usize,
        /// "passphrase" or "key file".
        what: &'static str,
    },
    /// A passphrase or key was given, and the repository is not encrypted.
    #[error("{location} is not encrypted, though a passphrase or key was given for it")]
    UnexpectedlyUnencrypted {
        /// The repository.
        location: String,
    },
    /// The repository is encrypted, and neither passphrase nor key was given.
    #[error("{location} is encrypted")]
    KeyNeeded {
        /// The repository.
        location: String,
    },
    /// The last key slot cannot be removed.
    #[error("key slot {id} is the last one: without it nobody could open the repository again")]
    LastSlot {
        /// The slot.
        id: String,
    },
    /// No key slot of that id.
    #[error("there is no key slot {id}")]
    NoSuchSlot {
        /// What was asked for.
        id: String,
    },
    /// The repository is of a newer format, or uses a feature this program does not know.
    #[error("{location} needs a newer holdfast: {what}")]
    NewerFormat {
        /// The repository.
        location: String,
        /// What is not known here.
        what: String,
    },
    /// An object's bytes are not what they must be.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the local cache is not what it was when it was opened. Nothing is wrong with the
    /// repository: the cache is made anew by the next command.
    #[error("the cache {path} was damaged and {}", if *removed { "has been removed" } else { "could not be removed" })]
    DamagedCache {
        /// The file.
        path: String,
        /// Whether it is gone now.
        removed: bool,
    },
    /// Something refers to a blob that no index entry with a present pack describes.
    #[error("blob {id} is missing: no pack that is present holds it")]
    MissingBlob {
        /// The blob, in hexadecimal.
        id: String,
    },
    /// No snapshot matches.
    #[error("no snapshot matches {selector}")]
    NoSuchSnapshot {
        /// What was asked for.
        selector: String,
    },
    /// An id prefix fits several snapshots.
    #[error("{prefix} fits {} snapshots: {}", matches.len(), matches.iter().map(SnapshotId::short).collect::<Vec<_>>().join(", "))]
    AmbiguousSnapshot {
        /// The prefix.
        prefix: String,
        /// The snapshots it fits.
        matches: Vec<SnapshotId>,
    },
    /// A snapshot that is to be kept for ever was to be forgotten.
    #[error("snapshot {} {why}", snapshot.short())]
    Kept {
        /// The snapshot.
        snapshot: SnapshotId,
        /// "is pinned", or that nobody can tell.
        why: &'static str,
    },
    /// The snapshot holds no such path.
    #[error("snapshot {snapshot} holds no {path}")]
    NoSuchPath {
        /// The snapshot.
        snapshot: String,
        /// The path.
        path: String,
    },
    /// This session was shut out by gc before it could commit.
    #[error("this session was shut out by a gc that took it for dead")]
    Fenced,
    /// The user interrupted the operation.
    #[error("interrupted")]
    Interrupted,
    /// An argument does not make sense.
    #[error("{0}")]
    Usage(String),
    /// A thread of the operation died.
    #[error("a worker stopped unexpectedly: {0}")]
    Worker(String),
}

impl Error {
    /// Whether it concerns what was to be read alone: it is damaged or gone, or lies where the
    /// medium fails, and other files and snapshots may be well.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::MissingBlob { .. } => true,
            Self::Storage(e) => {
                matches!(e.kind, StorageErrorKind::NotFound | StorageErrorKind::Io)
            }
            _ => false,
        }
    }

    /// Damage found in `object`.
    pub fn damaged(object: impl ToString, what: impl ToString) -> Self {
        Self::Damaged { object: object.to_string(), what: what.to_string() }
    }
}

/// An error and its causes in one line, each said once.
pub fn chain_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
