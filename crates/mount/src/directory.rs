//! Directories being listed. One of a tree is read leaf by leaf; where each leaf began is noted, so
//! that going on or back costs the same however long the directory is.

use std::sync::{Arc, Mutex, PoisonError};

use holdfast_engine::hash::BlobId;
use holdfast_engine::tree::Entry;
use holdfast_engine::{Error, Result};

use crate::library::Library;
use crate::node::Node;
use crate::view::{Spot, View, directory};

/// Number of the first entry: `.` and `..` come before it.
pub(crate) const FIRST: u64 = 2;

/// Takes an entry: the number of the next one, name, what it is, what it shows. Whether there was
/// no room for it.
pub(crate) type Give<'a> = &'a mut dyn FnMut(u64, &[u8], Node, &Entry) -> bool;

/// An open directory.
#[derive(Debug)]
pub(crate) enum OpenDirectory {
    /// One of ours, or above the roots: all there is.
    Listed(Vec<(Vec<u8>, Node)>),
    /// One of a tree.
    Tree(TreeDirectory),
}

#[derive(Debug)]
pub(crate) struct TreeDirectory {
    view: Arc<View>,
    root: u32,
    tree: BlobId,
    path: Vec<u8>,
    /// Numbers at which leaves begin, with the name before.
    marks: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl OpenDirectory {
    pub(crate) fn new(library: &Library, node: &Node) -> Result<Self> {
        Ok(match node {
            Node::Shelf(shelf) => {
                let shelves = library.shelves();
                let names = shelves.names(shelf).into_iter().filter_map(|name| {
                    let item = shelves.find(shelf, &name)?;
                    let node = Node::of_item(shelf, &name, item);
                    Some((name.into_bytes(), node))
                });
                Self::Listed(names.collect())
            }
            Node::Link(..) => return Err(Error::Usage("a link is no directory".into())),
            Node::Entry(view, Spot::Above(path)) => {
                let spot = Spot::Above(path.clone());
                let names = view.names_above(path).into_iter().filter_map(|name| {
                    let child = view.child(&spot, &name)?;
                    Some((name, Node::Entry(view.clone(), child)))
                });
                Self::Listed(names.collect())
            }
            Node::Entry(view, Spot::Within(root, path)) => Self::Tree(TreeDirectory {
                view: view.clone(),
                root: *root,
                tree: view.tree(*root)?,
                path: path.clone(),
                marks: Mutex::new(vec![(FIRST, Vec::new())]),
            }),
        })
    }

    /// Gives the entries from the one of this number on, until there is no room.
    pub(crate) fn each(&self, library: &Library, from: u64, give: Give<'_>) -> Result<()> {
        let list = match self {
            Self::Tree(tree) => return tree.each(library, from, give),
            Self::Listed(list) => list,
        };
        let skip = usize::try_from(from - FIRST).unwrap_or(usize::MAX);
        for (number, (name, node)) in (from..).zip(list.iter().skip(skip)) {
            // What cannot be read hides nothing that comes after it: who enters it is told.
            let entry = node.entry(library).unwrap_or_else(|_| Some(directory(library.begun())));
            if let Some(entry) = entry
                && give(number + 1, name, node.clone(), &entry)
            {
                break;
            }
        }
        Ok(())
    }
}

impl TreeDirectory {
    fn each(&self, library: &Library, from: u64, give: Give<'_>) -> Result<()> {
        let (mut number, mut before) = self.mark(from);
        while let Some(cursor) = library.seek(&self.tree, (&self.path, &before), true)? {
            for found in cursor.rest() {
                if found.parent[..] != self.path[..] {
                    return Ok(());
                }
                if number >= from {
                    let node = Node::of_listed(&self.view, self.root, found);
                    if give(number + 1, &found.entry.name, node, &found.entry) {
                        return Ok(());
                    }
                }
                number += 1;
            }
            let Some(last) = cursor.rest().last() else { break };
            before = last.entry.name.clone();
            self.add_mark(number, &before);
        }
        Ok(())
    }

    /// The last leaf that begins at `from` or before it.
    fn mark(&self, from: u64) -> (u64, Vec<u8>) {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let after = marks.partition_point(|(number, _)| *number <= from);
        let mark = after.checked_sub(1).and_then(|last| marks.get(last));
        mark.cloned().unwrap_or((FIRST, Vec::new()))
    }

    fn add_mark(&self, number: u64, before: &[u8]) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.last().is_none_or(|(last, _)| *last < number) {
            marks.push((number, before.to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_engine::format::snapshot::{Root, Snapshot};
    use holdfast_engine::repo::CreateOptions;
    use holdfast_engine::repo::open::create;
    use holdfast_engine::repo::snapshots::SnapshotInfo;
    use holdfast_testkit::MemoryStorage;

    use super::*;
    use crate::library::{Events, Memory};

    #[derive(Debug)]
    struct Nobody;

    impl Events for Nobody {
        fn unreadable(&self, _what: &str, _why: &str) {}
        fn trouble(&self, _message: &str) {}
    }

    #[test]
    fn a_root_that_is_lost_hides_none_of_the_others() -> Result<()> {
        let repository = create(Arc::new(MemoryStorage::new()), CreateOptions::default())?;
        let library = Library::new(repository, None, Memory::default(), Arc::new(Nobody))?;
        let root = |path: &[u8], tree| Root {
            path: path.to_vec(),
            tree: vec![tree; 32],
            ..Root::default()
        };
        let roots = vec![root(b"/etc", 1), root(b"/home", 2)];
        let record = Snapshot { roots, ..Snapshot::default() };
        let view = View::new(SnapshotInfo { id: Default::default(), record });
        let top = Node::Entry(view, Spot::Above(b"/".to_vec()));
        let mut names = Vec::new();
        OpenDirectory::new(&library, &top)?.each(&library, FIRST, &mut |_, name, _, entry| {
            names.push((name.to_vec(), entry.metadata.kind));
            false
        })?;
        let directory = holdfast_engine::meta::Kind::Directory;
        assert_eq!(names, [(b"etc".to_vec(), directory), (b"home".to_vec(), directory)]);
        Ok(())
    }
}
