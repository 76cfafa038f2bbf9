//! Files with several names: the first name found is read, the later ones share what it came to.

use std::collections::HashMap;

use crate::meta::{Extent, Kind, Metadata};
use crate::source::SourceEntry;
use crate::tree::{Content, Entry, join};

/// Device and inode; of what is copied from a snapshot, a hash of where its content is.
pub(super) type LinkKey = (u64, u64);

/// Files of a snapshot that are remembered. One that is not is only read once more.
const REMEMBERED: usize = 1 << 18;

/// Where a name stands among the names of its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    /// The only one, as far as is known.
    Only,
    /// The first of several.
    First(LinkKey),
    /// A later one.
    Later(LinkKey),
}

#[derive(Debug)]
struct Linked {
    path: Vec<u8>,
    first: Option<(Metadata, Content, Vec<Extent>, String)>,
    left: u32,
}

/// The files of which more names may come.
#[derive(Debug, Default)]
pub(super) struct Links(HashMap<LinkKey, Linked>);

impl Links {
    /// Notes a name, and in `entry` which name came first.
    pub(super) fn note(&mut self, parent: &[u8], found: &SourceEntry, entry: &mut Entry) -> Name {
        let metadata = &found.metadata;
        if metadata.links < 2 || metadata.kind == Kind::Directory || metadata.inode == 0 {
            return Name::Only;
        }
        let key = (found.device, metadata.inode);
        if let Some(linked) = self.0.get(&key) {
            entry.hard_link = linked.path.clone();
            return Name::Later(key);
        }
        let path = join(parent, &found.name);
        self.0.insert(key, Linked { path, first: None, left: metadata.links - 1 });
        Name::First(key)
    }

    /// Notes a file of a snapshot, where names of one file are known by the content they refer to.
    /// How many of them come is not known: it stays remembered.
    pub(super) fn note_content(&mut self, key: LinkKey) -> Name {
        if self.0.contains_key(&key) {
            return Name::Later(key);
        }
        if self.0.len() >= REMEMBERED {
            return Name::Only;
        }
        self.0.insert(key, Linked { path: Vec::new(), first: None, left: u32::MAX });
        Name::First(key)
    }

    /// Where the content of the first name went; `None` if that never came to anything.
    pub(super) fn content(&self, key: LinkKey) -> Option<Content> {
        let (_, content, ..) = self.0.get(&key)?.first.as_ref()?;
        Some(content.clone())
    }

    /// What the first name came to.
    pub(super) fn first_is_done(&mut self, key: LinkKey, entry: &Entry) {
        if let Some(linked) = self.0.get_mut(&key) {
            linked.first = Some((
                entry.metadata.clone(),
                entry.content.clone(),
                entry.extents.clone(),
                entry.error.clone(),
            ));
        }
    }

    /// Gives a later name what the first came to; false if that never came to anything. The last
    /// name ends the memory of the file.
    pub(super) fn share(&mut self, key: LinkKey, entry: &mut Entry) -> bool {
        let Some(linked) = self.0.get(&key) else { return false };
        let shared = match &linked.first {
            Some((metadata, content, extents, error)) => {
                // Size and times must fit the content, which was read after this name was listed.
                entry.metadata = metadata.clone();
                entry.content = content.clone();
                entry.extents = extents.clone();
                entry.error = error.clone();
                true
            }
            None => false,
        };
        self.pass(key);
        shared
    }

    /// Notes a later name that needs nothing of the first. The last name ends the memory of the
    /// file.
    pub(super) fn pass(&mut self, key: LinkKey) {
        let Some(linked) = self.0.get_mut(&key) else { return };
        linked.left = linked.left.saturating_sub(1);
        if linked.left == 0 {
            self.0.remove(&key);
        }
    }
}
