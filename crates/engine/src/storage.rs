//! The storage contract: where a repository's objects live. Connectors implement [`Storage`];
//! retry, limits, recording and faults are wrappers of the same trait.

use std::fmt;
use std::time::Duration;

use crate::hash::{ObjectId, RecordId, SnapshotId};

/// A folder of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Folder {
    /// Key slots.
    Keys,
    /// Packs, below 256 folders named after the first two digits.
    Packs,
    /// Index segments.
    Index,
    /// Snapshots.
    Snapshots,
    /// Annotations of snapshots.
    Notes,
    /// Leases of running sessions.
    Sessions,
    /// Fences and their confirmations.
    Fences,
    /// Packs and segments on their way out.
    Condemned,
    /// Said of the repository after it was made.
    Settings,
    /// Parity of packs.
    Parity,
}

impl Folder {
    /// Every folder.
    pub const ALL: [Self; 10] = [
        Self::Keys,
        Self::Packs,
        Self::Index,
        Self::Snapshots,
        Self::Notes,
        Self::Sessions,
        Self::Fences,
        Self::Condemned,
        Self::Settings,
        Self::Parity,
    ];

    /// Its name, without a slash.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Packs => "packs",
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Notes => "notes",
            Self::Sessions => "sessions",
            Self::Fences => "fences",
            Self::Condemned => "condemned",
            Self::Settings => "settings",
            Self::Parity => "parity",
        }
    }

    /// Whether its objects lie one folder deeper (`packs/ab/…`, `sessions/<id>/…`).
    pub fn is_nested(self) -> bool {
        matches!(self, Self::Packs | Self::Notes | Self::Sessions)
    }
}

/// An object's name: lower-case letters, digits, `.` and `-` in one to three parts divided by `/`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectName(String);

impl ObjectName {
    /// The repository's parameters.
    pub fn config() -> Self {
        Self("config".into())
    }
    /// A key slot.
    pub fn key(id: RecordId) -> Self {
        Self(format!("keys/{id}"))
    }
    /// A pack.
    pub fn pack(id: ObjectId) -> Self {
        let id = id.to_string();
        Self(format!("packs/{}/{id}", id.get(..2).unwrap_or("00")))
    }
    /// An index segment.
    pub fn index(id: ObjectId) -> Self {
        Self(format!("index/{id}"))
    }
    /// A snapshot.
    pub fn snapshot(id: SnapshotId) -> Self {
        Self(format!("snapshots/{id}"))
    }
    /// An annotation of a snapshot.
    pub fn note(snapshot: SnapshotId, id: RecordId) -> Self {
        Self(format!("notes/{snapshot}/{id}"))
    }
    /// The `part`th renewal of a session's lease (0 opens it).
    pub fn session(id: SnapshotId, part: u32) -> Self {
        Self(format!("sessions/{id}/{part}"))
    }
    /// The end of a session.
    pub fn session_end(id: SnapshotId) -> Self {
        Self(format!("sessions/{id}/end"))
    }
    /// Says that the snapshot of a session was forgotten.
    pub fn session_forgotten(id: SnapshotId) -> Self {
        Self(format!("sessions/{id}/forgotten"))
    }
    /// The fence of a session.
    pub fn fence(id: SnapshotId) -> Self {
        Self(format!("fences/{id}"))
    }
    /// The confirmation of a session's fence.
    pub fn fence_confirmed(id: SnapshotId) -> Self {
        Self(format!("fences/{id}.confirmed"))
    }
    /// A list of packs and segments on their way out.
    pub fn condemned(id: RecordId) -> Self {
        Self(format!("condemned/{id}"))
    }

    /// Something said of the repository after it was made.
    pub fn setting(id: RecordId) -> Self {
        Self(format!("settings/{id}"))
    }

    /// Parity of a pack.
    pub fn parity(id: ObjectId) -> Self {
        Self(format!("parity/{id}"))
    }

    /// Checks a name that came from a listing. `None` if it can be no object's name.
    pub fn parse(text: &str) -> Option<Self> {
        let part_is_valid = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        };
        let parts = text.split('/').count();
        (text.len() <= 200 && parts <= 3 && text.split('/').all(part_is_valid))
            .then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn base(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a listing tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Name.
    pub name: ObjectName,
    /// Size in bytes.
    pub size: u64,
    /// When the storage says it was written, in seconds since the Unix epoch.
    pub modified: i64,
}

/// What kind of failure it was: callers decide on this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StorageErrorKind {
    /// No such object.
    NotFound,
    /// An object of that name is already there.
    AlreadyExists,
    /// The storage refused the operation.
    PermissionDenied,
    /// No space or quota left.
    NoSpace,
    /// The storage is read-only.
    ReadOnly,
    /// The medium failed (I/O error).
    Io,
    /// The storage could not be reached, or did not answer in time.
    Unreachable,
    /// The connector cannot do this.
    Unsupported,
    /// The object is archived, and has to be brought back before it can be read.
    Cold,
    /// A fault injected by a test.
    Injected,
}

/// A storage operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {object}")]
pub struct StorageError {
    /// What kind of failure.
    pub kind: StorageErrorKind,
    /// What was tried: "read", "write", "list", "delete", "stat", "sync",
    /// "verify".
    pub operation: &'static str,
    /// The object or folder, with the storage's location as a person would write it.
    pub object: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StorageError {
    /// An error without a further cause.
    pub fn new(kind: StorageErrorKind, operation: &'static str, object: impl Into<String>) -> Self {
        Self { kind, operation, object: object.into(), source: None }
    }

    /// An error caused by an I/O error, its kind taken from there.
    pub fn from_io(
        operation: &'static str,
        object: impl Into<String>,
        source: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind as E;
        let kind = match source.kind() {
            E::NotFound => StorageErrorKind::NotFound,
            E::AlreadyExists => StorageErrorKind::AlreadyExists,
            E::PermissionDenied => StorageErrorKind::PermissionDenied,
            E::StorageFull | E::QuotaExceeded => StorageErrorKind::NoSpace,
            E::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
            E::TimedOut | E::ConnectionRefused | E::ConnectionReset => {
                StorageErrorKind::Unreachable
            }
            _ => StorageErrorKind::Io,
        };
        Self { kind, operation, object: object.into(), source: Some(Box::new(source)) }
    }

    /// Whether the object was simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StorageErrorKind::NotFound
    }
}

/// Result of a storage operation.
pub type StorageResult<T> = std::result::Result<T, StorageError>;

/// A store of write-once objects.
///
/// What every implementation promises:
/// * An object appears whole or not at all, under its final name, and is never changed after.
/// * When [`put`](Storage::put), [`Upload::finish`] or [`delete`](Storage::delete) has answered,
///   every later `get`, `stat` and `list` sees it, and the effect survives a power failure (as
///   far as the medium can promise that).
/// * An object that is present throughout a listing appears in it. A listing that cannot be
///   completed is an error, never a shorter list.
/// * Temporary objects never appear in listings, and objects whose names are not valid
///   [`ObjectName`]s are left out.
/// * Reading never writes.
///
/// Methods may be called from several threads at once.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The location as a person would write it, without secrets.
    fn location(&self) -> String;

    /// Makes what must exist before the first object (directories). Fine if already there.
    fn prepare(&self) -> StorageResult<()>;

    /// Stores an object under a fresh name. If the name is taken: `AlreadyExists`, where the
    /// storage can tell; the object that was there stays as it was.
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()>;

    /// Starts an object whose name is not known yet.
    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>>;

    /// The whole object.
    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>>;

    /// Replaces `into` by the `length` bytes from `offset`. Fewer bytes there: `Io`.
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()>;

    /// Calls `each` for every object of the folder, in no particular order.
    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()>;

    /// Size and time of an object.
    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo>;

    /// Removes an object. One that is not there: `NotFound`.
    fn delete(&self, name: &ObjectName) -> StorageResult<()>;

    /// The SHA-256 of each of these objects, computed where they are stored, from what is stored:
    /// nothing is sent but the result. `None` for an object where that was not possible (it is
    /// missing, or cannot be read); `None` for all if this storage cannot do it. A call may take
    /// as long as reading the objects, so it should be about some dozens.
    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        let _ = names;
        Ok(None)
    }

    /// How many requests at once serve this storage well.
    fn concurrency(&self) -> usize {
        2
    }

    /// What suits uploads here.
    fn uploads(&self) -> UploadHint {
        UploadHint::default()
    }

    /// Removes temporary objects that were last written longer ago than `age`: what writers that
    /// died left behind. How many there were.
    fn reap(&self, age: Duration) -> StorageResult<u64> {
        let _ = age;
        Ok(0)
    }

    /// Asks for archived objects to be readable for `days`, as far as nobody has asked before, and
    /// says how many are still archived. Where nothing is ever archived, all can be read at once.
    fn warm_up(&self, names: &[ObjectName], days: u32) -> StorageResult<Warmth> {
        let _ = days;
        Ok(Warmth { warm: names.len() as u64, ..Warmth::default() })
    }

    /// Keeps these objects from being deleted for as long again as when they were stored, if much
    /// of that time has passed. How many that were; `None` if nothing is kept so here.
    fn extend_retention(&self, objects: &[ObjectInfo]) -> StorageResult<Option<u64>> {
        let _ = objects;
        Ok(None)
    }

    /// How long another computer may go on seeing what was there before a change that has been
    /// answered here. Zero for a storage that keeps its promise to all; more for a network file
    /// system whose clients cache directories.
    fn settle(&self) -> Duration {
        Duration::ZERO
    }
}

/// How many of some objects can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warmth {
    /// At once.
    pub warm: u64,
    /// Not yet: they are on their way out of the archive.
    pub cold: u64,
    /// Of these, for how many it was asked just now.
    pub asked: u64,
    /// How long it usually takes until the last of them is there.
    pub wait: Duration,
}

/// How uploads are best made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadHint {
    /// Bytes that an upload should have at most; `None`: any number. A storage that cannot write a
    /// little at a time holds an upload in memory until it is finished.
    pub longest: Option<u32>,
    /// Uploads that are best finished at once.
    pub at_once: usize,
}

impl Default for UploadHint {
    fn default() -> Self {
        Self { longest: None, at_once: 1 }
    }
}

/// An object being written. Dropping it leaves nothing behind that a listing would show.
pub trait Upload: Send {
    /// Says that the object holds content of files alone: it may lie where reading takes long to
    /// begin. Storages without such places take no notice.
    fn may_be_cold(&mut self) {}

    /// Adds bytes at the end.
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()>;

    /// Makes the object durable and visible under `name`, which must be fresh; if it is taken,
    /// `AlreadyExists`.
    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_checked() {
        for good in ["config", "keys/ab", "packs/ab/abcd", "fences/ab.confirmed"] {
            assert!(ObjectName::parse(good).is_some(), "{good}");
        }
        for bad in ["", "/", "a/", "/a", "../a", "a/../b", "A", "a b", ".tmp", "a/b/c/d", "é"] {
            assert!(ObjectName::parse(bad).is_none(), "{bad}");
        }
    }
}
