//! Reading trees: in order from any key, one path, one directory, or what two trees differ in.

use std::cmp::Ordering;
use std::sync::Arc;

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::{Child, Node};
use crate::hash::BlobId;
use crate::repo::BlobReader;
use crate::{Error, Result};

use super::entry::{self, Entry};
use super::{compare_keys, compare_paths, join, split};

/// An entry with the directory it lies in, relative to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEntry {
    /// Path of its directory; shared by the entries of a node.
    pub parent: Arc<[u8]>,
    /// The entry.
    pub entry: Entry,
}

impl PathEntry {
    /// Path relative to the root.
    pub fn path(&self) -> Vec<u8> {
        join(&self.parent, &self.entry.name)
    }

    /// Order of two entries in a tree.
    pub fn compare(&self, other: &Self) -> Ordering {
        compare_keys((&self.parent, &self.entry.name), (&other.parent, &other.entry.name))
    }
}

fn damaged(id: &BlobId, what: impl ToString) -> Error {
    Error::damaged(format!("tree node {}", id.short()), what)
}

/// Reads and decodes one node.
pub fn read_node(reader: &BlobReader<'_>, id: &BlobId) -> Result<Node> {
    let bytes = reader.read(BlobKind::Node, id)?;
    Node::decode(&bytes[..]).map_err(|e| damaged(id, e))
}

/// The entries of a leaf.
pub fn leaf_entries(id: &BlobId, node: Node) -> Result<Vec<PathEntry>> {
    let owners: Vec<_> = node.owners.into_iter().map(entry::decode_owner).collect();
    if !node.bundles.len().is_multiple_of(32) {
        return Err(damaged(id, "its table of bundles is cut short"));
    }
    let bundles: Vec<_> = node.bundles.chunks_exact(32).filter_map(BlobId::from_slice).collect();
    let mut entries = Vec::with_capacity(node.entries.len());
    let mut records = node.entries.into_iter();
    let mut inode = 0;
    for group in node.groups {
        let parent: Arc<[u8]> = group.parent.into();
        let valid = parent.is_empty()
            || parent.split(|c| *c == b'/').all(|n| !matches!(n, b"" | b"." | b".."));
        if !valid || parent.contains(&0) {
            return Err(damaged(id, "a directory's path is not one"));
        }
        for _ in 0..group.count {
            let record = records.next().ok_or_else(|| damaged(id, "it lacks entries"))?;
            let entry = entry::decode(record, &owners, &bundles, &mut inode)
                .map_err(|what| damaged(id, what))?;
            let entry = PathEntry { parent: parent.clone(), entry };
            if entries.last().is_some_and(|last: &PathEntry| last.compare(&entry).is_ge()) {
                return Err(damaged(id, "its entries are out of order"));
            }
            if entry.entry.name.is_empty() && !parent.is_empty() {
                return Err(damaged(id, "an entry has no name"));
            }
            entries.push(entry);
        }
    }
    if records.next().is_some() {
        return Err(damaged(id, "its groups do not fit its entries"));
    }
    Ok(entries)
}

/// Reads one tree.
#[derive(Debug, Clone, Copy)]
pub struct TreeReader<'a> {
    reader: &'a BlobReader<'a>,
    root: BlobId,
}

impl<'a> TreeReader<'a> {
    /// The tree with this root.
    pub fn new(reader: &'a BlobReader<'a>, root: BlobId) -> Self {
        Self { reader, root }
    }

    /// All entries, in order.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            reader: self.reader,
            pending: vec![(self.root, None)],
            leaf: Vec::new().into_iter(),
            from: None,
            within: None,
        }
    }

    /// What lies below `path`, in order; not `path` itself.
    pub fn below(&self, path: &[u8]) -> Entries<'a> {
        let mut entries = self.entries();
        entries.from = Some((path.to_vec(), Vec::new()));
        entries.within = Some((path.to_vec(), true));
        entries
    }

    /// The entries of one directory, in order. The root itself is not one.
    pub fn list(&self, path: &[u8]) -> impl Iterator<Item = Result<PathEntry>> + use<'a> {
        self.list_from(path, b"")
    }

    /// The entries of one directory from the one called `name`, or where it would be, on.
    pub fn list_from(
        &self,
        path: &[u8],
        name: &[u8],
    ) -> impl Iterator<Item = Result<PathEntry>> + use<'a> {
        let mut entries = self.entries();
        entries.from = Some((path.to_vec(), name.to_vec()));
        entries.within = Some((path.to_vec(), false));
        entries.filter(|e| e.as_ref().map_or(true, |e| !e.entry.name.is_empty()))
    }

    /// The entry at `path`; the root itself for the empty path.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<PathEntry>> {
        let (parent, name) = split(path);
        let mut entries = self.entries();
        entries.from = Some((parent.to_vec(), name.to_vec()));
        match entries.next().transpose()? {
            Some(found) if found.parent[..] == *parent && found.entry.name == name => {
                Ok(Some(found))
            }
            _ => Ok(None),
        }
    }
}

type Key = (Vec<u8>, Vec<u8>);

/// Entries of a tree in order.
#[derive(Debug)]
pub struct Entries<'a> {
    reader: &'a BlobReader<'a>,
    /// Nodes still to read, the next one last, each with its expected level.
    pending: Vec<(BlobId, Option<u32>)>,
    leaf: std::vec::IntoIter<PathEntry>,
    from: Option<Key>,
    within: Option<(Vec<u8>, bool)>,
}

impl Entries<'_> {
    /// The rest of the leaf at hand, or the next leaf: for those who work by batches.
    pub fn next_leaf(&mut self) -> Result<Option<Vec<PathEntry>>> {
        let rest: Vec<_> = self.leaf.by_ref().collect();
        if !rest.is_empty() {
            return Ok(Some(rest));
        }
        while let Some((id, level)) = self.pending.pop() {
            let node = read_node(self.reader, &id)?;
            if level.is_some_and(|level| level != node.level) || node.level > 32 {
                return Err(damaged(&id, "its level is wrong"));
            }
            if node.level > 0 {
                self.push_children(&id, node.level - 1, &node.children)?;
                continue;
            }
            let mut entries = leaf_entries(&id, node)?;
            if let Some((parent, name)) = &self.from {
                let start = entries.partition_point(|e| {
                    compare_keys((&e.parent, &e.entry.name), (parent, name)).is_lt()
                });
                entries.drain(..start);
            }
            if entries.is_empty() {
                continue;
            }
            self.from = None;
            return Ok(Some(entries));
        }
        Ok(None)
    }

    fn push_children(&mut self, id: &BlobId, level: u32, children: &[Child]) -> Result<()> {
        let first = self.from.as_ref().map_or(0, |(parent, name)| {
            // The last child that starts at the key or before it.
            children
                .partition_point(|c| compare_keys((&c.parent, &c.name), (parent, name)).is_le())
                .saturating_sub(1)
        });
        let end = self.within.as_ref().map_or(children.len(), |(path, deep)| {
            children.partition_point(|c| {
                compare_paths(&c.parent, path).is_le() || *deep && is_below(&c.parent, path)
            })
        });
        for child in children.get(first..end).unwrap_or_default().iter().rev() {
            let child =
                BlobId::from_slice(&child.id).ok_or_else(|| damaged(id, "a child has no id"))?;
            self.pending.push((child, Some(level)));
        }
        Ok(())
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || crate::repo::snapshots::is_within(path, directory)
}

impl Iterator for Entries<'_> {
    type Item = Result<PathEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(next) = self.leaf.next() else {
                match self.next_leaf() {
                    Ok(Some(leaf)) => self.leaf = leaf.into_iter(),
                    Ok(None) => return None,
                    Err(e) => {
                        self.pending.clear();
                        return Some(Err(e));
                    }
                }
                continue;
            };
            if let Some((path, deep)) = &self.within {
                let fits = next.parent[..] == path[..] || *deep && is_below(&next.parent, path);
                if !fits {
                    self.pending.clear();
                    self.leaf = Vec::new().into_iter();
                    return None;
                }
                // The root itself has the same key parent as its children.
                if next.entry.name.is_empty() {
                    continue;
                }
            }
            return Some(Ok(next));
        }
    }
}
