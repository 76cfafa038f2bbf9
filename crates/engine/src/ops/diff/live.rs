//! A snapshot against its source as it is now: the source's walk and the stored tree are merged,
//! since both are in the same order.
//!
//! Content counts as changed when a file's size or modification time differ, as a backup would
//! see it. If content is to be read, that decides instead: the file is hashed in the pieces that
//! the snapshot recorded, so that the repository's content need not be read (but for sparse files).

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::crypto::BlobKind;
use crate::meta::Kind;
use crate::monitor::{Interrupt, Monitor};
use crate::repo::BlobReader;
use crate::repo::snapshots::{SnapshotInfo, is_within};
use crate::source::{Source, SourceDirectory, SourceEntry, SourceFile, WalkBatch};
use crate::tree::chunks;
use crate::tree::content::read_content;
use crate::tree::entry::{Content, Entry};
use crate::tree::read::{Entries, PathEntry};
use crate::tree::view;
use crate::{Error, Result};

use super::{DiffTotals, Each, Output};

/// A root as it is now.
#[derive(Debug, Clone)]
pub struct LiveRoot {
    /// Its absolute path: that of the snapshot's root to compare with.
    pub path: Vec<u8>,
    /// What reads it.
    pub source: Arc<dyn Source>,
}

/// How to compare with a source.
#[derive(Debug, Clone, Copy, Default)]
pub struct LiveOptions {
    /// Compare extended attributes too, which must be asked for entry by entry. Those stored out
    /// of line are not compared. Link targets always are.
    pub attributes: bool,
    /// Read files of equal size to tell whether their content differs.
    pub content: bool,
}

/// Compares a snapshot with what is there now. Roots of the snapshot that are not in `roots` are
/// left out.
pub fn diff_live(
    reader: &BlobReader<'_>,
    before: &SnapshotInfo,
    roots: &[LiveRoot],
    options: LiveOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
    each: Each<'_>,
) -> Result<DiffTotals> {
    let mut output = Output::new(monitor, interrupt, each);
    for live in roots {
        let stored = before.record.roots.iter().find(|root| root.path == live.path);
        let stored = stored.ok_or_else(|| Error::NoSuchPath {
            snapshot: before.id.short(),
            path: String::from_utf8_lossy(&live.path).into_owned(),
        })?;
        output.root.clone_from(&live.path);
        let mut merge = Merge {
            reader,
            source: &*live.source,
            options,
            stored: view::tree(reader, stored)?.entries().peekable(),
            unlisted: BTreeSet::new(),
            output: &mut output,
        };
        let mut failure = None;
        let walked = live.source.walk(&mut |batch| match merge.batch(batch) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        walked?;
        merge.removed_before(None)?;
    }
    Ok(output.totals)
}

struct Merge<'a, 'b> {
    reader: &'a BlobReader<'a>,
    source: &'a dyn Source,
    options: LiveOptions,
    stored: Peekable<Entries<'a>>,
    /// Directories that could not be listed, or not whole.
    unlisted: BTreeSet<Vec<u8>>,
    output: &'a mut Output<'b>,
}

impl Merge<'_, '_> {
    fn batch(&mut self, batch: WalkBatch) -> Result<()> {
        for error in &batch.errors {
            self.output.monitor.problem(&error.path, &error.text());
        }
        if !batch.errors.is_empty() {
            self.unlisted.insert(batch.directory.path.clone());
        }
        let parent: Arc<[u8]> = batch.directory.path.clone().into();
        for entry in batch.entries {
            let live = PathEntry { parent: parent.clone(), entry: bare(&entry) };
            self.removed_before(Some(&live))?;
            match self.stored.next_if(|s| s.as_ref().map_or(true, |s| s.compare(&live).is_eq())) {
                Some(stored) => self.both(stored?, live, &batch.directory, &entry)?,
                None => self.output.only(live, true)?,
            }
        }
        Ok(())
    }

    /// What the snapshot holds before `live` and is not there any more.
    fn removed_before(&mut self, live: Option<&PathEntry>) -> Result<()> {
        let is_before = |stored: &Result<PathEntry>| match (stored, live) {
            (Ok(stored), Some(live)) => stored.compare(live).is_lt(),
            _ => true,
        };
        while let Some(stored) = self.stored.next_if(is_before) {
            let stored = stored?;
            if self.unlisted.iter().any(|directory| is_within_any(&stored.parent, directory)) {
                self.output.totals.unknown += 1;
            } else {
                self.output.only(stored, false)?;
            }
        }
        Ok(())
    }

    fn both(
        &mut self,
        stored: PathEntry,
        mut live: PathEntry,
        directory: &SourceDirectory,
        found: &SourceEntry,
    ) -> Result<()> {
        let (old, new) = (&stored.entry, &mut live.entry);
        let same_kind = old.metadata.kind == new.metadata.kind;
        let is_link = new.metadata.kind == Kind::Symlink;
        let mut is_unknown = false;
        new.xattrs.clone_from(&old.xattrs);
        new.xattrs_blob = old.xattrs_blob;
        new.target.clone_from(&old.target);
        if same_kind && (is_link || self.options.attributes) {
            match self.source.details(directory, found) {
                Ok(details) => {
                    new.target = details.target;
                    if self.options.attributes && old.xattrs_blob.is_none() {
                        new.xattrs = details.xattrs;
                    }
                }
                Err(error) => {
                    self.output.monitor.problem(&error.path, &error.text());
                    is_unknown = true;
                }
            }
        }
        let by_stat = match new.metadata.kind {
            Kind::File => {
                old.metadata.size != new.metadata.size || old.metadata.mtime != new.metadata.mtime
            }
            Kind::Symlink => old.target != new.target,
            _ => false,
        };
        let is_read = self.options.content
            && same_kind
            && new.metadata.kind == Kind::File
            && old.metadata.size == new.metadata.size;
        let mut content = by_stat;
        if is_read {
            match self.content_differs(old, directory, found)? {
                Some(differs) => content = differs,
                None => is_unknown = true,
            }
        }
        self.output.totals.unknown += u64::from(is_unknown);
        self.output.both(stored, live, content)
    }

    /// Whether a file's bytes differ; `None` if it cannot be read.
    fn content_differs(
        &self,
        old: &Entry,
        directory: &SourceDirectory,
        found: &SourceEntry,
    ) -> Result<Option<bool>> {
        let told = |error: crate::source::SourceError| {
            self.output.monitor.problem(&error.path, &error.text());
        };
        let mut file = match self.source.open(directory, found) {
            Ok(file) => LiveFile { file, offset: 0, bytes: Vec::new() },
            Err(error) => {
                told(error);
                return Ok(None);
            }
        };
        match self.compare(old, &mut file) {
            Ok(differs) => Ok(Some(differs)),
            Err(Error::Source(error)) => {
                told(error);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn compare(&self, old: &Entry, file: &mut LiveFile) -> Result<bool> {
        let keys = self.reader.repository().keys();
        let interrupt = self.output.interrupt;
        let mut differs = false;
        if !old.extents.is_empty() {
            read_content(self.reader, old, &mut |bytes| {
                differs = differs || file.next(bytes.len())? != bytes;
                if interrupt.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
            })?;
            return Ok(differs);
        }
        match &old.content {
            Content::None => Ok(old.metadata.size > 0),
            Content::Inline(bytes) => Ok(file.next(bytes.len())? != bytes),
            Content::Member { hash, .. } => {
                let length = usize::try_from(old.metadata.size).unwrap_or(usize::MAX);
                // Bundled files are small; a length that is not cannot be one's.
                if length > 64 << 20 {
                    return Ok(true);
                }
                Ok(keys.member_hash(file.next(length)?) != *hash)
            }
            content @ (Content::Chunks(_) | Content::List(_)) => {
                chunks::for_each(self.reader, content, &mut |chunk| {
                    if !differs {
                        let bytes = file.next(chunk.length as usize)?;
                        differs = keys.blob_id(BlobKind::Chunk, bytes) != chunk.id;
                    }
                    if interrupt.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
                })?;
                Ok(differs)
            }
        }
    }
}

/// An entry as a walk finds it.
fn bare(found: &SourceEntry) -> Entry {
    Entry { name: found.name.clone(), metadata: found.metadata.clone(), ..Entry::default() }
}

fn is_within_any(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || is_within(path, directory)
}

/// A file read from its start to its end.
struct LiveFile<'a> {
    file: Box<dyn SourceFile + 'a>,
    offset: u64,
    bytes: Vec<u8>,
}

impl LiveFile<'_> {
    /// The next bytes, fewer if the file ends.
    fn next(&mut self, length: usize) -> Result<&[u8]> {
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while let Some(rest) = self.bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = self.file.read_at(self.offset, rest)?;
            if read == 0 {
                break;
            }
            filled += read;
            self.offset += read as u64;
        }
        self.bytes.truncate(filled);
        Ok(&self.bytes)
    }
}
