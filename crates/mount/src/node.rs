//! What an inode number stands for, and which number that is: always the same for the same thing,
//! in this mount and in every other.

use std::sync::Arc;

use holdfast_engine::Result;
use holdfast_engine::hash::Sha256;
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::tree::{Entry, PathEntry};

use crate::library::Library;
use crate::shelves::{Item, Shelf};
use crate::view::{Spot, View, directory};

/// The number of the topmost directory.
pub(crate) const ROOT: u64 = 1;

/// What stands behind an inode number.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// A directory of ours.
    Shelf(Shelf),
    /// A link of ours: on which shelf, under which name, and where it leads.
    Link(Shelf, String, String),
    /// Something in a snapshot; a file with several names by the first of them.
    Entry(Arc<View>, Spot),
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Shelf(a), Self::Shelf(b)) => a == b,
            (Self::Link(a, b, c), Self::Link(x, y, z)) => (a, b, c) == (x, y, z),
            (Self::Entry(a, x), Self::Entry(b, y)) => a.id == b.id && x == y,
            _ => false,
        }
    }
}

impl Node {
    /// What `item` of this name on `shelf` is.
    pub(crate) fn of_item(shelf: &Shelf, name: &str, item: Item) -> Self {
        match item {
            Item::Shelf(shelf) => Self::Shelf(shelf),
            Item::Link(target) => Self::Link(shelf.clone(), name.to_owned(), target),
            Item::Snapshot(view) => {
                let top = view.spot(b"/").unwrap_or(Spot::Above(b"/".to_vec()));
                Self::Entry(view, top)
            }
        }
    }

    /// What an entry at a place in a snapshot is.
    pub(crate) fn of_entry(view: &Arc<View>, spot: Spot, entry: &Entry) -> Self {
        let spot = match spot {
            Spot::Within(root, _) if !entry.hard_link.is_empty() => {
                Spot::Within(root, entry.hard_link.clone())
            }
            other => other,
        };
        Self::Entry(view.clone(), spot)
    }

    /// The same for an entry of a directory that is listed.
    pub(crate) fn of_listed(view: &Arc<View>, root: u32, found: &PathEntry) -> Self {
        let path = match found.entry.hard_link.is_empty() {
            true => found.path(),
            false => found.entry.hard_link.clone(),
        };
        Self::Entry(view.clone(), Spot::Within(root, path))
    }

    /// What it shows of itself.
    pub(crate) fn entry(&self, library: &Library) -> Result<Option<Entry>> {
        Ok(match self {
            Self::Shelf(_) => Some(directory(library.begun())),
            Self::Link(_, _, target) => {
                let target = target.clone().into_bytes();
                let metadata = Metadata {
                    kind: Kind::Symlink,
                    mode: 0o777,
                    size: target.len() as u64,
                    ..directory(library.begun()).metadata
                };
                Some(Entry { target, metadata, ..Entry::default() })
            }
            Self::Entry(view, spot) => view.entry(library, spot)?,
        })
    }

    /// How to call it where something is wrong with it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Shelf(shelf) => format!("{shelf:?}"),
            Self::Link(_, name, _) => name.clone(),
            Self::Entry(view, spot) => view.shown(spot),
        }
    }

    /// Its inode number, unless that is taken by something else: nothing below 2.
    pub(crate) fn number(&self) -> u64 {
        let mut hash = Sha256::default();
        let mut add = |part: &[u8]| {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        };
        match self {
            Self::Shelf(shelf) => add(format!("{shelf:?}").as_bytes()),
            Self::Link(shelf, name, target) => {
                add(format!("{shelf:?}").as_bytes());
                add(name.as_bytes());
                add(target.as_bytes());
            }
            Self::Entry(view, spot) => {
                add(view.id.as_bytes());
                match spot {
                    Spot::Above(path) => add(path),
                    Spot::Within(root, path) => {
                        add(&root.to_le_bytes());
                        add(path);
                    }
                }
            }
        }
        let id = hash.finish();
        let bytes = id.as_bytes().first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes).max(ROOT + 1)
    }
}
