//! A snapshot as one tree of absolute paths: what lies in its roots, and the directories above
//! them.

use std::sync::Arc;

use holdfast_app::text::printable;
use holdfast_engine::format::snapshot::{Ancestor, Root, Snapshot};
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::meta::{Kind, Metadata, Time};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::view::{self, Located};
use holdfast_engine::tree::{Entry, entry, join};
use holdfast_engine::{Error, Result};

use crate::library::Library;

/// A snapshot that is shown.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) id: SnapshotId,
    pub(crate) record: Snapshot,
}

/// A place in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Spot {
    /// In a root: the number of the root, and the path relative to it.
    Within(u32, Vec<u8>),
    /// Above the roots: an absolute path.
    Above(Vec<u8>),
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|c| *c == b'/').filter(|name| !name.is_empty())
}

impl View {
    pub(crate) fn new(info: SnapshotInfo) -> Arc<Self> {
        Arc::new(Self { id: info.id, record: info.record })
    }

    /// Where an absolute path lies. `None` if no root has to do with it.
    pub(crate) fn spot(&self, path: &[u8]) -> Option<Spot> {
        Some(match view::locate(&self.record, path)? {
            Located::Above(_) => Spot::Above(view::normalize(path)),
            Located::Within { root, path } => {
                let number = self.record.roots.iter().position(|r| r.path == root.path)?;
                Spot::Within(u32::try_from(number).ok()?, path)
            }
        })
    }

    fn root(&self, number: u32) -> Result<&Root> {
        let root = self.record.roots.get(number as usize);
        root.ok_or_else(|| Error::damaged("snapshot", "a root is not there"))
    }

    /// The root node of a root's tree.
    pub(crate) fn tree(&self, number: u32) -> Result<BlobId> {
        view::root_id(self.root(number)?)
    }

    /// `SNAPSHOT:/path`, as commands take it.
    pub(crate) fn shown(&self, spot: &Spot) -> String {
        let path = match spot {
            Spot::Above(path) => path.clone(),
            Spot::Within(number, path) => {
                let root = self.root(*number).map_or(&b"/"[..], |root| &root.path);
                view::absolute(root, path, b"")
            }
        };
        format!("{}:{}", self.id.short(), printable(&path))
    }

    /// What stands at a place.
    pub(crate) fn entry(&self, library: &Library, spot: &Spot) -> Result<Option<Entry>> {
        match spot {
            Spot::Above(path) => self.ancestor(path).map(Some),
            Spot::Within(number, path) => {
                let found = library.lookup(&self.tree(*number)?, path)?;
                Ok(found.and_then(|cursor| cursor.entry().map(|found| found.entry.clone())))
            }
        }
    }

    /// Where `name` in the directory at a place would be.
    pub(crate) fn child(&self, spot: &Spot, name: &[u8]) -> Option<Spot> {
        match spot {
            Spot::Within(number, path) => Some(Spot::Within(*number, join(path, name))),
            Spot::Above(path) => self.spot(&view::absolute(path, b"", name)),
        }
    }

    /// The names in a directory above the roots.
    pub(crate) fn names_above(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let depth = names(path).count();
        let mut found: Vec<Vec<u8>> = match view::locate(&self.record, path) {
            Some(Located::Above(roots)) => roots
                .iter()
                .filter_map(|root| names(&root.path).nth(depth))
                .map(<[u8]>::to_vec)
                .collect(),
            _ => Vec::new(),
        };
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A directory above the roots, as it was when the snapshot was made, if that was noted.
    fn ancestor(&self, path: &[u8]) -> Result<Entry> {
        let number = names(path).count().checked_sub(1);
        let recorded = number.and_then(|number| match view::locate(&self.record, path) {
            Some(Located::Above(roots)) => roots.iter().find_map(|root| root.ancestors.get(number)),
            _ => None,
        });
        if let Some(Ancestor { entry: Some(record), owner: Some(owner) }) = recorded {
            return entry::decode_alone(record.clone(), owner.clone())
                .map_err(|what| Error::damaged("snapshot", what));
        }
        Ok(directory(self.record.time))
    }
}

/// A directory that is only a way to something, of this time in nanoseconds since the epoch.
pub(crate) fn directory(time: i64) -> Entry {
    let mtime = Time::from_total_nanos(time);
    let metadata = Metadata { kind: Kind::Directory, mode: 0o755, mtime, ..Metadata::default() };
    Entry { metadata, ..Entry::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_from_the_top_to_every_root() {
        let root = |path: &[u8]| Root { path: path.to_vec(), ..Root::default() };
        let roots = vec![root(b"/etc"), root(b"/home/anna"), root(b"/home/bert")];
        let record = Snapshot { roots, ..Snapshot::default() };
        let view = View { id: SnapshotId::default(), record };
        assert_eq!(view.names_above(b"/"), [b"etc".to_vec(), b"home".to_vec()]);
        assert_eq!(view.names_above(b"/home"), [b"anna".to_vec(), b"bert".to_vec()]);
        let top = Spot::Above(b"/".to_vec());
        assert_eq!(view.spot(b"/"), Some(top.clone()));
        assert_eq!(view.child(&top, b"etc"), Some(Spot::Within(0, Vec::new())));
        let home = view.child(&top, b"home");
        assert_eq!(home, Some(Spot::Above(b"/home".to_vec())));
        let bert = home.and_then(|home| view.child(&home, b"bert"));
        assert_eq!(bert, Some(Spot::Within(2, Vec::new())));
        let file = bert.and_then(|bert| view.child(&bert, b"x"));
        assert_eq!(file, Some(Spot::Within(2, b"x".to_vec())));
        assert_eq!(view.child(&top, b"var"), None);
        assert_eq!(file.map(|file| view.shown(&file)).as_deref(), Some("00000000:/home/bert/x"));
    }
}
