//! Entries of a snapshot of another repository: they are taken as they are recorded, and only
//! where their content goes is found out.

use std::sync::Arc;

use crate::Result;
use crate::crypto::BlobKind;
use crate::meta::Kind;
use crate::source::{SourceDirectory, SourceEntry};
use crate::tree::{Content, join};

use super::super::files::Item;
use super::super::links::Name;
use super::super::parent::Trust;
use super::super::replay::{Recorded, RecordedRoot};
use super::{RootRun, Slot, State};

impl RootRun<'_> {
    pub(super) fn replayed(
        &mut self,
        source: &RecordedRoot<'_>,
        directory: &Arc<SourceDirectory>,
        parent: &Arc<[u8]>,
        found: SourceEntry,
    ) -> Result<()> {
        let Recorded { entry: recorded, same } = source.recorded(directory, &found.name)?;
        let mut entry = recorded.clone();
        let before = self.before(parent, &found.name);
        let same = match &before {
            Some((old, tree)) => {
                let trusted = match tree.trust {
                    Trust::Always => true,
                    Trust::Recorded => *same,
                    Trust::None | Trust::Metadata => false,
                };
                trusted && self.is_stored(old)?
            }
            None => false,
        };
        let is_file = recorded.metadata.kind == Kind::File;
        if is_file {
            let stats = &mut self.parts.tally.stats;
            *match (same, before.is_some()) {
                (true, _) => &mut stats.files_unchanged,
                (false, true) => &mut stats.files_changed,
                (false, false) => &mut stats.files_new,
            } += 1;
        }
        let old = before.map(|(old, _)| old);
        if !same && let Some(id) = &recorded.xattrs_blob {
            let list = source.attributes(&join(parent, &found.name), id)?;
            let writer = self.parts.context.writer;
            entry.xattrs_blob = Some(writer.put_structure(BlobKind::Attributes, list)?);
        }
        // Names of one file refer to the same content, which is read for the first of them.
        let name = match RecordedRoot::content_key(&recorded.content) {
            Some(key) if recorded.metadata.links > 1 => self.links.note_content(key),
            _ => Name::Only,
        };
        let state = if same {
            if let Some(old) = old {
                entry.content = old.content;
                entry.xattrs_blob = old.xattrs_blob;
            }
            if is_file {
                self.parts.tally.unchanged_bytes += recorded.metadata.size;
            }
            State::Ready
        } else if matches!(recorded.content, Content::None | Content::Inline(_)) {
            State::Ready
        } else if let Name::Later(key) = name {
            State::ContentOf(key)
        } else {
            let number = self.first + self.queue.len() as u64;
            self.request(Item { number, directory: directory.clone(), entry: found })?;
            State::Reading(old.map(|old| old.content))
        };
        let first = match name {
            Name::First(key) => Some(key),
            _ => None,
        };
        self.queue.push_back(Slot::Entry { parent: parent.clone(), entry, state, first });
        Ok(())
    }
}
