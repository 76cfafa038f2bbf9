//! When a file is taken as unchanged: nothing that a write to it would change has changed, and all
//! that the parent's entry refers to is still stored.

use crate::Result;
use crate::source::SourceEntry;
use crate::tree::chunks::{self, Part};
use crate::tree::{Content, Entry};

use super::RootRun;

impl RootRun<'_> {
    /// Whether what the parent's entry refers to can still be referred to.
    pub(super) fn is_stored(&mut self, old: &Entry) -> Result<bool> {
        let writer = self.parts.context.writer;
        if old.xattrs_blob.is_some_and(|id| !writer.is_stored(&id)) {
            return Ok(false);
        }
        Ok(match &old.content {
            Content::None | Content::Inline(_) => true,
            Content::Member { bundle, .. } => match self.checked_bundle {
                Some((checked, stored)) if checked == *bundle => stored,
                _ => {
                    let stored = writer.is_stored(bundle);
                    self.checked_bundle = Some((*bundle, stored));
                    stored
                }
            },
            Content::Chunks(chunks) => chunks.iter().all(|chunk| writer.is_stored(&chunk.id)),
            content @ Content::List(_) => {
                let mut all = true;
                let read = chunks::visit(self.parts.reader, content, &mut |part| {
                    all &= match part {
                        Part::Node(id) => writer.is_stored(&id),
                        Part::Chunk(chunk) => writer.is_stored(&chunk.id),
                    };
                    Ok(())
                });
                read.is_ok() && all
            }
        })
    }
}

/// Whether a file needs no reading: nothing that a write to it would change has changed.
pub(super) fn is_unchanged(old: &Entry, found: &SourceEntry) -> bool {
    let (a, b) = (&old.metadata, &found.metadata);
    a.kind == b.kind
        && a.size == b.size
        && a.mtime == b.mtime
        && a.ctime == b.ctime
        && a.inode == b.inode
        && a.mode == b.mode
        && a.device == b.device
        && old.error.is_empty()
}
