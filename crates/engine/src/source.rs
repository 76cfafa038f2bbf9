//! The source contract: what is backed up. A [`Source`] is one root (a directory tree, a single
//! file, a bucket prefix); connectors implement it.

use std::any::Any;
use std::fmt;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::meta::{Extent, Metadata, Xattr};

/// What kind of failure reading the source met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SourceErrorKind {
    /// It is not there (any more).
    NotFound,
    /// The user running the backup may not read it.
    PermissionDenied,
    /// It became another kind of file, or grew past the limit, since it was listed.
    Changed,
    /// The medium failed.
    Io,
    /// The source as a whole could not be reached, or did not answer in time: the run is over.
    Unreachable,
}

/// Reading the source failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}")]
pub struct SourceError {
    /// What kind of failure.
    pub kind: SourceErrorKind,
    /// What was tried: "list", "read", "stat", "read attributes of".
    pub operation: &'static str,
    /// The path, as a person would write it.
    pub path: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error caused by an I/O error, its kind taken from there. It concerns this path alone and
    /// so is never [`SourceErrorKind::Unreachable`]: a file on a dead mount is no more than that.
    pub fn from_io(
        operation: &'static str,
        path: impl Into<String>,
        source: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind as E;
        let kind = match source.kind() {
            E::NotFound => SourceErrorKind::NotFound,
            E::PermissionDenied => SourceErrorKind::PermissionDenied,
            _ => SourceErrorKind::Io,
        };
        Self { kind, operation, path: path.into(), source: Some(Box::new(source)) }
    }

    /// This layer and its causes in one line.
    pub fn text(&self) -> String {
        crate::error::chain_text(self)
    }
}

/// Result of a source operation.
pub type SourceResult<T> = std::result::Result<T, SourceError>;

/// A directory that is being walked.
#[derive(Clone)]
pub struct SourceDirectory {
    /// Path relative to the root: names joined by `/`, empty for the root itself.
    pub path: Vec<u8>,
    /// The connector's handle (an open directory, a listing token).
    pub handle: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for SourceDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceDirectory({})", String::from_utf8_lossy(&self.path))
    }
}

/// An entry of a directory as the walk found it.
#[derive(Debug, Clone)]
pub struct SourceEntry {
    /// Name, any bytes but `/` and NUL; empty for the root itself.
    pub name: Vec<u8>,
    /// What `lstat` said.
    pub metadata: Metadata,
    /// File system number: with the inode it tells hard links. Not stored.
    pub device: u64,
    /// Whether the file occupies less than its size, so that asking for extents is worthwhile.
    pub sparse: bool,
}

/// Entries of one directory, sorted by the bytes of their names. A big directory comes in
/// several batches, one after the other.
#[derive(Debug)]
pub struct WalkBatch {
    /// The directory.
    pub directory: Arc<SourceDirectory>,
    /// Its entries, or the next of them.
    pub entries: Vec<SourceEntry>,
    /// Entries of this directory that could not be examined, and the directory itself if it
    /// could not be listed.
    pub errors: Vec<SourceError>,
    /// What the filters left out of this directory.
    pub excluded: u64,
}

/// Metadata beyond `lstat`, asked for only where something changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Extended attributes sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

/// A small file read whole.
#[derive(Debug, Clone)]
pub struct SmallRead {
    /// Extended attributes.
    pub details: Details,
    /// Metadata after reading, to see whether the file changed meanwhile.
    pub metadata: Metadata,
}

/// A small file as it came with others.
#[derive(Debug)]
pub struct SmallFile {
    /// Where its bytes lie in the buffer.
    pub range: Range<usize>,
    /// What was read beside them.
    pub read: SmallRead,
}

/// One root to be backed up.
///
/// The walk's order is the tree's order: the root itself (directory path empty, name empty),
/// then the children of the root sorted by name, then, for each child directory in that order,
/// its children, and so on: children of one directory lie together, and so does each subtree.
pub trait Source: Send + Sync + fmt::Debug {
    /// The root as a person would write it.
    fn location(&self) -> String;

    /// Walks the root in tree order. `sink` may end the walk. A root that cannot be listed is an
    /// error; a directory below it that cannot be is an error in its batch.
    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()>;

    /// Extended attributes and link target of an entry.
    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details>;

    /// Appends a regular file's content to `into`. More than `limit` bytes: `Changed`.
    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead>;

    /// Reads several small files as [`read_small`](Self::read_small) reads one, and returns as
    /// many results, in order. Where each request takes its time, this overlaps them.
    fn read_many(
        &self,
        files: &[(&SourceDirectory, &SourceEntry)],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Vec<SourceResult<SmallFile>> {
        let read = |(directory, entry): &(&SourceDirectory, &SourceEntry)| {
            let start = into.len();
            let read = self.read_small(directory, entry, limit, into)?;
            Ok(SmallFile { range: start..into.len(), read })
        };
        files.iter().map(read).collect()
    }

    /// Whether requests go over a network: then more of them are made at once.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether empty files are read like others, because what [`details`](Self::details) tells
    /// comes with the content, many at once, and would otherwise be asked for one by one.
    fn reads_empty(&self) -> bool {
        false
    }

    /// Opens a regular file for reading by parts. One that became another kind: `Changed`.
    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile + '_>>;
}

/// A regular file of a source, open for reading.
pub trait SourceFile: Send {
    /// Fills `buffer` from `offset` as far as the file reaches; returns the bytes read, fewer
    /// than asked only at the end of the file.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize>;

    /// The file's data extents in order, or `None` if it has no holes (or none are known).
    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>>;

    /// Extended attributes.
    fn details(&mut self) -> SourceResult<Details>;

    /// Metadata now.
    fn metadata(&mut self) -> SourceResult<Metadata>;
}
