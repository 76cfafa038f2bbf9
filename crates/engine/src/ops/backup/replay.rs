//! A snapshot of another repository as a source: what `sync` hands to the machinery of a backup.
//! Entries come as they are recorded, errors included. Only where their content goes is made anew,
//! and where the snapshot before this one referred to the same, not even that is read.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use crate::crypto::BlobKind;
use crate::format::snapshot::{Root, Sum};
use crate::hash::BlobId;
use crate::repo::reader::OpenBundle;
use crate::repo::writer::BlobWriter;
use crate::repo::{BlobReader, Repository};
use crate::source::{
    Details, SmallRead, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind,
    SourceFile, SourceResult, WalkBatch,
};
use crate::tree::build::NodeLimits;
use crate::tree::read::Entries;
use crate::tree::totals::{self, TotalsBuilder};
use crate::tree::{Content, Entry, PathEntry, TreeReader, chunks, join};
use crate::{Error, Result};

use super::links::LinkKey;
use super::parent::{Cursor, ParentTree, Trust};
use super::root::Finished;

use content::RecordedFile;

mod content;

/// Locks that keep two threads from fetching one bundle.
const LOCKS: usize = 16;

/// A root of a snapshot of another repository.
#[derive(Debug)]
pub(crate) struct RecordedRoot<'a> {
    reader: &'a BlobReader<'a>,
    path: &'a [u8],
    tree: BlobId,
    totals: Option<BlobId>,
    sum: Sum,
    before: Option<BlobId>,
    locks: [Mutex<()>; LOCKS],
}

/// An entry as it is recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) entry: Entry,
    /// The tree before holds an entry of this key that refers to the same.
    pub(super) same: bool,
}

/// The entries of a batch, sorted by name.
struct Batch(Vec<Recorded>);

impl<'a> RecordedRoot<'a> {
    /// This root. `before` is the tree of the snapshot whose copy is a parent with
    /// [`Trust::Recorded`].
    pub(crate) fn new(
        reader: &'a BlobReader<'a>,
        root: &'a Root,
        before: Option<BlobId>,
    ) -> Result<Self> {
        let tree = BlobId::from_slice(&root.tree)
            .ok_or_else(|| Error::damaged("snapshot", "a root has no tree"))?;
        let totals = BlobId::from_slice(&root.totals);
        let (path, sum) = (&root.path[..], root.sum.unwrap_or_default());
        Ok(Self { reader, path, tree, totals, sum, before, locks: Default::default() })
    }

    /// What is recorded of an entry of the walk.
    pub(super) fn recorded<'d>(
        &self,
        directory: &'d SourceDirectory,
        name: &[u8],
    ) -> SourceResult<&'d Recorded> {
        let batch = directory.handle.as_ref().and_then(|handle| handle.downcast_ref::<Batch>());
        let found = batch.and_then(|Batch(entries)| {
            let at = entries.binary_search_by(|e| e.entry.name[..].cmp(name)).ok()?;
            entries.get(at)
        });
        found.ok_or_else(|| {
            let error = Error::Worker("an entry is not of this walk".into());
            self.lost("read", &join(&directory.path, name), error)
        })
    }

    /// The stored list of attributes that are out of line, of the file at this path.
    pub(super) fn attributes(&self, path: &[u8], id: &BlobId) -> SourceResult<Vec<u8>> {
        let list = self.reader.read(BlobKind::Attributes, id);
        list.map_err(|error| self.lost("read attributes of", path, error))
    }

    /// Gives a finished root the sums that are recorded. They count what could not be listed,
    /// which no entry tells of.
    pub(super) fn take_sums(
        &self,
        to: &Repository,
        writer: &BlobWriter<'_>,
        finished: &mut Finished,
    ) -> Result<()> {
        if let Some(totals) = self.totals.filter(|_| self.sum.errors > 0) {
            let put = |kind, plain| writer.put_structure(kind, plain);
            let limits = NodeLimits::of(to.config());
            let mut builder = TotalsBuilder::new(Arc::new(to.keys().clone()), limits);
            let mut failed = None;
            let read = totals::for_each(self.reader, &totals, &mut |directory, line| {
                builder.copy(&put, directory, line).map_err(|error| {
                    failed = Some(error);
                    Error::Interrupted
                })
            });
            match failed {
                Some(error) => return Err(error),
                None => read.map_err(|error| self.lost("read totals of", b"", error))?,
            }
            finished.totals = builder.finish(&put)?.0;
        }
        finished.sum = self.sum;
        Ok(())
    }

    /// A key of where content is; `None` if it is nowhere but in the entry.
    pub(super) fn content_key(content: &Content) -> Option<LinkKey> {
        let mut hasher = blake3::Hasher::new();
        match content {
            Content::None | Content::Inline(_) => return None,
            Content::Member { bundle, number, .. } => {
                hasher.update(bundle.as_bytes()).update(&number.to_le_bytes());
            }
            Content::Chunks(chunks) => {
                for chunk in chunks {
                    hasher.update(chunk.id.as_bytes());
                }
            }
            Content::List(id) => {
                hasher.update(id.as_bytes());
            }
        }
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *hasher.finalize().as_bytes();
        let half = u64::from_le_bytes;
        Some((half([a, b, c, d, e, f, g, h]), half([i, j, k, l, m, n, o, p])))
    }

    fn batch(&self, parent: &[u8], entries: Vec<Recorded>) -> WalkBatch {
        let found = entries.iter().map(|Recorded { entry, .. }| SourceEntry {
            name: entry.name.clone(),
            metadata: entry.metadata.clone(),
            device: 0,
            sparse: !entry.extents.is_empty(),
        });
        let found = found.collect();
        let handle = Some(Arc::new(Batch(entries)) as _);
        WalkBatch {
            directory: Arc::new(SourceDirectory { path: parent.to_vec(), handle }),
            entries: found,
            errors: Vec::new(),
            excluded: 0,
        }
    }

    /// What the repository could not give: that ends the run, since nothing may be committed that
    /// is less than the snapshot was.
    fn lost(&self, operation: &'static str, path: &[u8], error: Error) -> SourceError {
        let path = join(self.path.strip_suffix(b"/").unwrap_or(self.path), path);
        SourceError {
            kind: SourceErrorKind::Unreachable,
            operation,
            path: String::from_utf8_lossy(if path.is_empty() { b"/" } else { &path }).into_owned(),
            source: Some(Box::new(error)),
        }
    }

    fn bundle(&self, id: &BlobId, number: u32) -> Result<Arc<OpenBundle>> {
        let [first, ..] = *id.as_bytes();
        let lock = self.locks.get(usize::from(first) % LOCKS);
        // Whoever comes second finds it among those that the reader keeps.
        let _one = lock.map(|lock| lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.reader.bundle(id, number)
    }

    /// Appends the content of a file that is small.
    fn append(&self, entry: &Entry, into: &mut Vec<u8>) -> Result<()> {
        match &entry.content {
            Content::None => {}
            Content::Inline(bytes) => into.extend_from_slice(bytes),
            Content::Member { bundle, number, .. } => {
                into.extend_from_slice(self.bundle(bundle, *number)?.member(*number)?);
            }
            Content::Chunks(_) | Content::List(_) => {
                chunks::for_each(self.reader, &entry.content, &mut |chunk| {
                    into.extend(self.reader.read(BlobKind::Chunk, &chunk.id)?);
                    Ok(())
                })?;
            }
        }
        Ok(())
    }
}

/// Content of another length than its entry says is damage.
fn check_length(entry: &Entry, length: u64) -> Result<()> {
    let expected = match entry.extents.is_empty() {
        true => entry.metadata.size,
        false => entry.extents.iter().map(|extent| extent.length).sum(),
    };
    if length == expected || !entry.error.is_empty() {
        return Ok(());
    }
    Err(Error::damaged("entry", format!("its content is {length} bytes, not {expected}")))
}

impl Source for RecordedRoot<'_> {
    fn location(&self) -> String {
        self.reader.repository().location()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        std::thread::scope(|scope| {
            let tree = |root| ParentTree { root, trust: Trust::None, time: 0 };
            let mut before = self.before.map(|root| Cursor::start(scope, self.reader, tree(root)));
            let mut recorded = |found: PathEntry| {
                let key = (&found.parent[..], &found.entry.name[..]);
                // Where the tree before cannot be read, all that follows counts as changed.
                let old = before.as_mut().and_then(|cursor| cursor.find(key, &mut |_| {}));
                let same = old.is_some_and(|old| {
                    let (old, new) = (&old.entry, &found.entry);
                    old.content == new.content && old.xattrs_blob == new.xattrs_blob
                });
                Recorded { entry: found.entry, same }
            };
            let mut leaves = TreeReader::new(self.reader, self.tree).entries();
            let next = |leaves: &mut Entries<'_>| {
                leaves.next_leaf().map_err(|error| self.lost("list", b"", error))
            };
            while let Some(leaf) = next(&mut leaves)? {
                let mut leaf = leaf.into_iter().peekable();
                while let Some(first) = leaf.next() {
                    let parent = first.parent.clone();
                    let mut entries = vec![recorded(first)];
                    while let Some(found) = leaf.next_if(|found| found.parent == parent) {
                        entries.push(recorded(found));
                    }
                    if sink(self.batch(&parent, entries)).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        })
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        let Recorded { entry, .. } = self.recorded(directory, &entry.name)?;
        Ok(Details { xattrs: entry.xattrs.clone(), target: entry.target.clone() })
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        _limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let Recorded { entry, .. } = self.recorded(directory, &entry.name)?;
        let start = into.len();
        self.append(entry, into)
            .and_then(|()| check_length(entry, (into.len() - start) as u64))
            .map_err(|error| self.lost("read", &join(&directory.path, &entry.name), error))?;
        // Its attributes go from entry to entry.
        Ok(SmallRead { details: Details::default(), metadata: entry.metadata.clone() })
    }

    fn is_remote(&self) -> bool {
        !self.reader.repository().is_near()
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile + '_>> {
        let Recorded { entry, .. } = self.recorded(directory, &entry.name)?;
        let path = join(&directory.path, &entry.name);
        match RecordedFile::open(self, entry) {
            Ok(file) => Ok(Box::new(file.at(path))),
            Err(error) => Err(self.lost("read", &path, error)),
        }
    }
}
