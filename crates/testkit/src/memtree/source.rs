//! A tree in memory as a source. The walk's order is the contract's; troubles let single paths
//! fail or change under the reader, and a log tells what was read, so that tests can assert that
//! unchanged files were not.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use holdfast_engine::meta::{Extent, Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult, WalkBatch,
};

use super::{MemoryTree, Node, ROOT, join};
use crate::{lock, show};

/// File system number of all entries.
const DEVICE: u64 = 7;

/// What a source meets at one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The walk cannot examine the entry: an error in its directory's batch.
    Unexaminable,
    /// The directory cannot be listed: an error in its batch, or of the walk for the root.
    Unlistable,
    /// The file can be listed, not opened (`PermissionDenied`).
    Unreadable,
    /// Attributes and link target cannot be read; the content can.
    NoAttributes,
    /// It was removed after it was listed: everything says `NotFound`.
    Vanished,
    /// It became another kind of file after it was listed: `Changed`.
    Replaced,
    /// Reading fails from this byte on (`Io`).
    BadFrom(u64),
    /// The file is written to while it is read, the first so many times: parts read at different
    /// moments do not fit together, and the metadata afterwards differs. Then it rests.
    Changing(u32),
    /// So many bytes were appended after the file was listed.
    Grown(usize),
    /// The file was cut to so many bytes after it was listed.
    Cut(usize),
}

/// A method that was called on a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A walk began.
    Walk,
    /// Attributes of an entry, not through an open file.
    Details(Vec<u8>),
    /// A small file read whole.
    ReadSmall(Vec<u8>),
    /// A file opened.
    Open(Vec<u8>),
}

#[derive(Debug, Default)]
struct Seen {
    log: Vec<Access>,
    // How often a changing file was read.
    changes: BTreeMap<Vec<u8>, u32>,
}

/// A source over a tree in memory. Clones share the log.
#[derive(Debug, Clone)]
pub struct MemorySource {
    tree: Arc<MemoryTree>,
    batch: usize,
    seen: Arc<Mutex<Seen>>,
}

impl MemorySource {
    /// A source over `tree`.
    pub fn new(tree: MemoryTree) -> Self {
        Self { tree: Arc::new(tree), batch: 1000, seen: Arc::default() }
    }

    /// The most entries in one batch.
    pub fn with_batch(mut self, entries: usize) -> Self {
        self.batch = entries.max(1);
        self
    }

    /// What was called so far, but not reads of open files.
    pub fn log(&self) -> Vec<Access> {
        lock(&self.seen).log.clone()
    }

    /// How many files were opened or read whole so far.
    pub fn files_read(&self) -> usize {
        let is_read = |access: &&Access| matches!(access, Access::ReadSmall(_) | Access::Open(_));
        lock(&self.seen).log.iter().filter(is_read).count()
    }

    fn record(&self, access: Access) {
        lock(&self.seen).log.push(access);
    }

    fn entry(&self, name: &[u8], number: u64) -> SourceEntry {
        let node = &self.tree.inodes[&number];
        SourceEntry {
            name: name.to_vec(),
            metadata: node.metadata.clone(),
            device: DEVICE,
            sparse: node.extents.is_some(),
        }
    }

    fn walk_directory(
        &self,
        number: u64,
        path: &[u8],
        sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let directory = Arc::new(SourceDirectory { path: path.to_vec(), handle: None });
        let batch = |entries, errors| WalkBatch {
            directory: Arc::clone(&directory),
            entries,
            errors,
            excluded: 0,
        };
        let trouble = self.tree.troubles.get(path);
        if matches!(trouble, Some(Trouble::Unlistable | Trouble::Vanished)) {
            let error = match trouble {
                Some(Trouble::Vanished) => error(SourceErrorKind::NotFound, "list", path),
                _ => error(SourceErrorKind::PermissionDenied, "list", path),
            };
            return sink(batch(Vec::new(), vec![error]));
        }
        let (mut entries, mut errors, mut directories) = (Vec::new(), Vec::new(), Vec::new());
        for (name, child) in &self.tree.inodes[&number].children {
            let child_path = join(path, name);
            if self.tree.troubles.get(&child_path) == Some(&Trouble::Unexaminable) {
                errors.push(error(SourceErrorKind::PermissionDenied, "stat", &child_path));
                continue;
            }
            if entries.len() == self.batch {
                let full = (std::mem::take(&mut entries), std::mem::take(&mut errors));
                sink(batch(full.0, full.1))?;
            }
            entries.push(self.entry(name, *child));
            if self.tree.inodes[child].metadata.kind == Kind::Directory {
                directories.push((*child, child_path));
            }
        }
        // An empty directory has its batch too: it says that the listing came to its end.
        sink(batch(entries, errors))?;
        directories.iter().try_for_each(|(child, path)| self.walk_directory(*child, path, sink))
    }

    /// The inode as the reader finds it now.
    fn open_now(&self, path: &[u8], operation: &'static str) -> SourceResult<OpenFile> {
        let Some(node) = self.tree.node(path) else {
            return Err(error(SourceErrorKind::NotFound, operation, path));
        };
        let mut file = OpenFile {
            path: path.to_vec(),
            node: node.clone(),
            bad_from: u64::MAX,
            changing: false,
            no_attributes: false,
            reads: 0,
        };
        let kind = match self.tree.troubles.get(path) {
            Some(Trouble::Unreadable | Trouble::Unexaminable) => SourceErrorKind::PermissionDenied,
            Some(Trouble::Vanished) => SourceErrorKind::NotFound,
            Some(Trouble::Replaced) => SourceErrorKind::Changed,
            _ if node.metadata.kind != Kind::File => SourceErrorKind::Changed,
            trouble => {
                match trouble {
                    Some(Trouble::NoAttributes) => file.no_attributes = true,
                    Some(Trouble::BadFrom(offset)) => file.bad_from = *offset,
                    Some(Trouble::Changing(times)) => {
                        let mut seen = lock(&self.seen);
                        let changes = seen.changes.entry(path.to_vec()).or_default();
                        file.changing = *changes < *times;
                        *changes = changes.saturating_add(1);
                    }
                    Some(Trouble::Grown(by)) => {
                        Arc::make_mut(&mut file.node.content)
                            .extend((0..*by).map(|i| b"grown "[i % 6]));
                        file.node.extents = None;
                        file.move_times(1);
                    }
                    Some(Trouble::Cut(to)) => {
                        Arc::make_mut(&mut file.node.content).truncate(*to);
                        file.node.extents = None;
                        file.move_times(1);
                    }
                    _ => {}
                }
                return Ok(file);
            }
        };
        Err(error(kind, operation, path))
    }
}

fn error(kind: SourceErrorKind, operation: &'static str, path: &[u8]) -> SourceError {
    SourceError { kind, operation, path: show(path), source: None }
}

impl Source for MemorySource {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        self.record(Access::Walk);
        match self.tree.troubles.get(&b""[..]) {
            Some(Trouble::Unlistable | Trouble::Unexaminable) => {
                return Err(error(SourceErrorKind::PermissionDenied, "list", b""));
            }
            Some(Trouble::Vanished) => return Err(error(SourceErrorKind::NotFound, "list", b"")),
            _ => {}
        }
        let root = WalkBatch {
            directory: Arc::new(SourceDirectory { path: Vec::new(), handle: None }),
            entries: vec![self.entry(b"", ROOT)],
            errors: Vec::new(),
            excluded: 0,
        };
        if sink(root).is_continue() && self.tree.inodes[&ROOT].metadata.kind == Kind::Directory {
            let _ended_early = self.walk_directory(ROOT, b"", sink);
        }
        Ok(())
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        const WHAT: &str = "read attributes of";
        let path = join(&directory.path, &entry.name);
        self.record(Access::Details(path.clone()));
        let kind = match self.tree.troubles.get(&path) {
            Some(Trouble::NoAttributes) => SourceErrorKind::Io,
            Some(Trouble::Vanished) => SourceErrorKind::NotFound,
            Some(Trouble::Replaced) => SourceErrorKind::Changed,
            _ => match self.tree.node(&path) {
                Some(node) => return Ok(details(node)),
                None => SourceErrorKind::NotFound,
            },
        };
        Err(error(kind, WHAT, &path))
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let path = join(&directory.path, &entry.name);
        self.record(Access::ReadSmall(path.clone()));
        let mut file = self.open_now(&path, "read")?;
        if file.node.content.len() > limit {
            return Err(error(SourceErrorKind::Changed, "read", &path));
        }
        let start = into.len();
        into.resize(start + file.node.content.len(), 0);
        match file.read_at(0, &mut into[start..]) {
            Ok(length) => into.truncate(start + length),
            Err(error) => {
                into.truncate(start);
                return Err(error);
            }
        }
        Ok(SmallRead { details: SourceFile::details(&mut file)?, metadata: file.metadata()? })
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile>> {
        let path = join(&directory.path, &entry.name);
        self.record(Access::Open(path.clone()));
        Ok(Box::new(self.open_now(&path, "read")?))
    }
}

fn details(node: &Node) -> Details {
    Details { xattrs: node.xattrs.clone(), target: node.target.clone() }
}

struct OpenFile {
    path: Vec<u8>,
    node: Node,
    bad_from: u64,
    changing: bool,
    no_attributes: bool,
    reads: u32,
}

impl OpenFile {
    fn move_times(&mut self, by: u32) {
        let metadata = &mut self.node.metadata;
        metadata.size = self.node.content.len() as u64;
        metadata.mtime.seconds += i64::from(by);
        metadata.ctime = Some(metadata.mtime.max(metadata.ctime.unwrap_or_default()));
    }
}

impl SourceFile for OpenFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        let content = &self.node.content;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let length = buffer.len().min(content.len() - start);
        if self.bad_from < (start + length) as u64 {
            return Err(error(SourceErrorKind::Io, "read", &self.path));
        }
        buffer[..length].copy_from_slice(&content[start..start + length]);
        if self.changing {
            // Every read finds other bytes, and later metadata shows that something was written.
            self.reads += 1;
            let salt = self.reads as u8;
            buffer[..length].iter_mut().step_by(64).for_each(|b| *b = b.wrapping_add(salt));
            self.move_times(1);
        }
        Ok(length)
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        Ok(self.node.extents.clone())
    }

    fn details(&mut self) -> SourceResult<Details> {
        if self.no_attributes {
            return Err(error(SourceErrorKind::Io, "read attributes of", &self.path));
        }
        Ok(details(&self.node))
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        Ok(self.node.metadata.clone())
    }
}
