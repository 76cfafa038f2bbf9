//! The destination contract: where a restore goes. Connectors implement [`Destination`];
//! the restore operation decides what to write, when, and in which order.

use std::fmt;

use crate::meta::{Metadata, Time, Xattr};

/// What kind of failure writing met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DestinationErrorKind {
    /// Not there.
    NotFound,
    /// Something else is there already.
    AlreadyExists,
    /// The user running the restore may not write it.
    PermissionDenied,
    /// No space or quota left.
    NoSpace,
    /// The destination cannot hold this kind of entry.
    Unsupported,
    /// The medium failed.
    Io,
    /// The destination could not be reached, or did not answer in time.
    Unreachable,
}

/// Writing to the destination failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct DestinationError {
    /// What kind of failure.
    pub kind: DestinationErrorKind,
    /// What was tried: "create", "write", "remove", "link", …
    pub operation: &'static str,
    /// The path, as a person would write it.
    pub path: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DestinationError {
    /// An error caused by an I/O error, its kind taken from there.
    pub fn from_io(
        operation: &'static str,
        path: impl Into<String>,
        source: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind as E;
        let kind = match source.kind() {
            E::NotFound => DestinationErrorKind::NotFound,
            E::AlreadyExists => DestinationErrorKind::AlreadyExists,
            E::PermissionDenied => DestinationErrorKind::PermissionDenied,
            E::StorageFull | E::QuotaExceeded => DestinationErrorKind::NoSpace,
            E::Unsupported => DestinationErrorKind::Unsupported,
            _ => DestinationErrorKind::Io,
        };
        Self { kind, operation, path: path.into(), source: Some(Box::new(source)) }
    }

    /// This layer and its causes in one line.
    pub fn text(&self) -> String {
        crate::error::chain_text(self)
    }
}

/// Result of a destination operation.
pub type DestinationResult<T> = std::result::Result<T, DestinationError>;

/// Metadata that could not be set. Reported once a restore, not once a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Unset {
    /// Owner or group (needs root).
    pub owner: bool,
    /// Permission bits.
    pub mode: bool,
    /// Extended attributes of any namespace but ACLs.
    pub xattrs: bool,
    /// POSIX ACLs.
    pub acls: bool,
    /// Times.
    pub times: bool,
    /// Fractions of seconds of times; whole seconds were set.
    pub fractions: bool,
    /// Holes were filled with zeros.
    pub sparse: bool,
}

impl Unset {
    /// What either could not set.
    pub fn merge(&mut self, other: Self) {
        self.owner |= other.owner;
        self.mode |= other.mode;
        self.xattrs |= other.xattrs;
        self.acls |= other.acls;
        self.times |= other.times;
        self.fractions |= other.fractions;
        self.sparse |= other.sparse;
    }
}

/// All metadata to be set on an entry.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// Kind, mode, owner (numbers already mapped by the caller), times.
    pub metadata: &'a Metadata,
    /// Extended attributes.
    pub xattrs: &'a [Xattr],
}

/// A place to restore to. Paths are relative to it, names joined by `/`, without empty, `.` or
/// `..` names (the caller has checked); the empty path is the destination itself.
///
/// No method follows a symbolic link in any part of a path below the destination: a link that
/// stands where a directory is expected is an error, so that nothing planted in the target can
/// lead a write outside. Methods may be called from several threads at once, on different paths.
pub trait Destination: Send + Sync + fmt::Debug {
    /// The destination as a person would write it.
    fn location(&self) -> String;

    /// Makes the destination directory itself and its parents, if they are not there.
    fn prepare(&self) -> DestinationResult<()>;

    /// What stands at `path`, itself and not where it leads; `None` if nothing does.
    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>>;

    /// Names in a directory.
    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>>;

    /// Makes a directory, accessible to the restoring user alone until its attributes are set.
    /// True if it was made, false if a directory was already there.
    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool>;

    /// Makes a small regular file with its content and attributes. With `replace`, whatever
    /// non-directory stands there is replaced in one step; without, `AlreadyExists`.
    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset>;

    /// Starts a regular file of `size` bytes, to be written in any order; unwritten parts read as
    /// zeros, as holes where the destination can. It appears under `path` at
    /// [`finish`](DestinationFile::finish). `replace` as in [`write_file`](Self::write_file).
    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>>;

    /// Opens what stands at `path` for reading, to verify it.
    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn std::io::Read + Send>>;

    /// Makes a symbolic link.
    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset>;

    /// Where the symbolic link at `path` leads.
    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>>;

    /// Makes another name for the file at `existing`.
    fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> DestinationResult<()>;

    /// Makes a device, FIFO or socket.
    fn make_special(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset>;

    /// Sets the attributes of what stands at `path` (directories, when all in them is done).
    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset>;

    /// Extended attributes of what stands at `path`.
    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>>;

    /// Removes a non-directory or an empty directory.
    fn remove(&self, path: &[u8]) -> DestinationResult<()>;

    /// Bytes that can still be written, where known.
    fn free_space(&self) -> DestinationResult<Option<u64>>;

    /// How many requests at once serve this destination well, if more than there are cores.
    fn concurrency(&self) -> usize {
        1
    }

    /// Whether an extended attribute of this name, once set, shows in [`xattrs`](Self::xattrs).
    fn keeps_xattr(&self, name: &[u8]) -> bool {
        let _ = name;
        true
    }

    /// What [`stat`](Self::stat) tells when this time was set, where the destination cannot keep
    /// all times. Steps finer than a second that it may have need not be told.
    fn kept_time(&self, time: Time) -> Time {
        time
    }
}

/// A regular file being restored. Several threads may write different parts at once.
/// Dropping it without [`finish`](Self::finish) leaves nothing behind.
pub trait DestinationFile: Send + Sync {
    /// Writes `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DestinationResult<()>;

    /// Sets the attributes and puts the file in its place.
    fn finish(self: Box<Self>, attributes: Attributes<'_>) -> DestinationResult<Unset>;
}
