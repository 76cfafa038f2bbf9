//! Listing one directory: names read and sorted, each examined, the filters asked. Big directories
//! are examined in pieces, so that neither memory nor a single thread has to take them whole.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use holdfast_engine::meta::{Kind, Owner};
use holdfast_engine::source::{SourceDirectory, SourceEntry, SourceError, WalkBatch};
use rustix::fs::{FileType, OFlags, RawDir, Statx};
use rustix::io::Errno;

use super::{Inner, directory};
use crate::filter::{CACHE_SIGNATURE, CACHE_TAG};
use crate::local::metadata::{device, is_sparse, metadata, stat_at};

/// Names of one directory in one piece of memory, sorted by bytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: usize,
    /// With the NUL at the end.
    length: u16,
    kind: FileType,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    fn name(bytes: &[u8], span: Span) -> &[u8] {
        bytes.get(span.start..span.start + usize::from(span.length)).unwrap_or_default()
    }

    fn read(&mut self, fd: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Errno> {
        self.bytes.clear();
        self.spans.clear();
        let mut entries = RawDir::new(fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
            self.spans.push(Span { start: self.bytes.len(), length, kind: entry.file_type() });
            self.bytes.extend_from_slice(name);
        }
        let bytes = &self.bytes;
        // The NUL at the end sorts below every other byte, so a prefix still comes first.
        self.spans.sort_unstable_by(|a, b| Self::name(bytes, *a).cmp(Self::name(bytes, *b)));
        Ok(())
    }

    fn contains(&self, name: &[u8]) -> bool {
        let find = |span: &Span| {
            let found = Self::name(&self.bytes, *span);
            found.get(..found.len().saturating_sub(1)).unwrap_or_default().cmp(name)
        };
        self.spans.binary_search_by(find).is_ok()
    }
}

/// What one thread uses again for each directory.
pub(super) struct Scratch {
    buffer: Vec<u8>,
    names: Names,
    path: Vec<u8>,
    owner: Arc<Owner>,
}

impl Scratch {
    pub(super) fn new(source: &Inner) -> Self {
        Self {
            buffer: Vec::with_capacity(64 << 10),
            names: Names::default(),
            path: Vec::new(),
            owner: source.owners.get(0, 0),
        }
    }
}

/// A directory found, to be listed in its turn.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) directory: Arc<SourceDirectory>,
    /// It lies on another file system, and the walk keeps to one.
    pub(super) foreign: bool,
}

/// One batch and what follows from it.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) batch: WalkBatch,
    pub(super) directories: Vec<Found>,
    /// All names of the directory, if there are more than this piece examined.
    pub(super) rest: Option<Arc<Names>>,
}

/// The walk's constants.
#[derive(Debug)]
pub(super) struct Lister<'a> {
    pub(super) source: &'a Inner,
    /// The root's file system, if the walk keeps to it.
    pub(super) only_device: Option<u64>,
    /// What must never be read, by device and inode.
    pub(super) never: Vec<(u64, u64)>,
    /// Most entries in a batch.
    pub(super) piece: usize,
}

impl Lister<'_> {
    /// Lists a directory and examines its first entries.
    pub(super) fn list(
        &self,
        at: &Arc<SourceDirectory>,
        scratch: &mut Scratch,
    ) -> Result<Piece, SourceError> {
        let fail = |e| self.source.error("list", &self.source.shown(&at.path, b""), e);
        let fd = self.source.handle(at).fd().map_err(fail)?;
        scratch.names.read(&fd, scratch.buffer.spare_capacity_mut()).map_err(fail)?;
        let mut names = std::mem::take(&mut scratch.names);
        let is_tagged = names.contains(CACHE_TAG.as_bytes());
        if self.source.options.exclude_caches && is_tagged && is_cache(&fd) {
            let mut piece = self.piece(at, 0);
            piece.batch.excluded = names.len() as u64;
            scratch.names = names;
            return Ok(piece);
        }
        if names.len() <= self.piece {
            let piece = self.examine_names(at, &fd, &names, 0, scratch);
            scratch.names = names;
            return Ok(piece);
        }
        names.bytes.shrink_to_fit();
        names.spans.shrink_to_fit();
        let names = Arc::new(names);
        let mut piece = self.examine_names(at, &fd, &names, 0, scratch);
        piece.rest = Some(names);
        Ok(piece)
    }

    /// Examines the entries from the `from`th on.
    pub(super) fn examine(
        &self,
        at: &Arc<SourceDirectory>,
        names: &Names,
        from: usize,
        scratch: &mut Scratch,
    ) -> Result<Piece, SourceError> {
        let fd = self.source.handle(at).fd();
        let fd = fd.map_err(|e| self.source.error("list", &self.source.shown(&at.path, b""), e))?;
        Ok(self.examine_names(at, &fd, names, from, scratch))
    }

    fn piece(&self, at: &Arc<SourceDirectory>, capacity: usize) -> Piece {
        let batch = WalkBatch {
            directory: Arc::clone(at),
            entries: Vec::with_capacity(capacity),
            errors: Vec::new(),
            excluded: 0,
        };
        Piece { batch, directories: Vec::new(), rest: None }
    }

    fn examine_names(
        &self,
        at: &Arc<SourceDirectory>,
        fd: &OwnedFd,
        names: &Names,
        from: usize,
        scratch: &mut Scratch,
    ) -> Piece {
        let to = names.len().min(from + self.piece);
        let mut piece = self.piece(at, to - from);
        scratch.path.clear();
        scratch.path.extend_from_slice(&at.path);
        if !at.path.is_empty() {
            scratch.path.push(b'/');
        }
        let prefix = scratch.path.len();
        for span in names.spans.get(from..to).unwrap_or_default() {
            let Ok(name) = CStr::from_bytes_with_nul(Names::name(&names.bytes, *span)) else {
                continue;
            };
            if self.source.filter.has_rules() {
                scratch.path.truncate(prefix);
                scratch.path.extend_from_slice(name.to_bytes());
            }
            // Before the look at it: what is excluded may well be so because a look fails.
            let known = span.kind != FileType::Unknown;
            if known && self.source.filter.excludes(&scratch.path, span.kind.is_dir()) {
                piece.batch.excluded += 1;
                continue;
            }
            match stat_at(fd, name) {
                Ok(stat) => self.add(&mut piece, name.to_bytes(), &stat, !known, scratch),
                Err(Errno::NOENT) => {}
                Err(e) => {
                    let path = self.source.shown(&at.path, name.to_bytes());
                    piece.batch.errors.push(self.source.error("stat", &path, e));
                }
            }
        }
        piece
    }

    fn add(
        &self,
        piece: &mut Piece,
        name: &[u8],
        stat: &Statx,
        ask_filter: bool,
        scratch: &mut Scratch,
    ) {
        if (scratch.owner.uid, scratch.owner.gid) != (stat.stx_uid, stat.stx_gid) {
            scratch.owner = self.source.owners.get(stat.stx_uid, stat.stx_gid);
        }
        let metadata = metadata(stat, Arc::clone(&scratch.owner));
        let device = device(stat);
        let is_directory = metadata.kind == Kind::Directory;
        let filter = &self.source.filter;
        if self.never.contains(&(device, metadata.inode))
            || (metadata.kind == Kind::File && filter.excludes_size(metadata.size))
            || (ask_filter && filter.excludes(&scratch.path, is_directory))
        {
            piece.batch.excluded += 1;
            return;
        }
        if is_directory {
            let parent = &piece.batch.directory;
            let handle = self.source.handle(parent).child(name);
            let directory = Arc::new(SourceDirectory {
                path: crate::join(&parent.path, name),
                handle: Some(handle),
            });
            let foreign = self.only_device.is_some_and(|only| only != device);
            piece.directories.push(Found { directory, foreign });
        }
        let sparse = is_sparse(stat);
        piece.batch.entries.push(SourceEntry { name: name.to_vec(), metadata, device, sparse });
    }
}

fn is_cache(directory: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut start = [0; CACHE_SIGNATURE.len()];
    directory::open_quietly(directory.as_fd(), CACHE_TAG, flags)
        .and_then(|file| crate::local::temporary::pread_full(file.as_fd(), &mut start, 0))
        .is_ok_and(|_| start == CACHE_SIGNATURE)
}
