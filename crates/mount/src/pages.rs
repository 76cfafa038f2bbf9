//! Trees through the cache: decoded nodes are kept, so that looking something up is a few binary
//! searches, and a directory is listed leaf by leaf.

use std::sync::Arc;

use holdfast_engine::hash::BlobId;
use holdfast_engine::meta::{Extent, Xattr};
use holdfast_engine::tree::chunks::{self, List};
use holdfast_engine::tree::read::{leaf_entries, read_node};
use holdfast_engine::tree::{Content, Entry, PathEntry, compare_keys, split};
use holdfast_engine::{Error, Result};

use crate::library::Library;

/// A decoded node.
#[derive(Debug)]
pub(crate) enum Page {
    /// Children in order, each with its first key.
    Inner { level: u32, children: Vec<Branch> },
    /// Entries in order.
    Leaf(Vec<PathEntry>),
    /// A node of a big file's chunk list, and where each of its children ends in what it stands
    /// for.
    List { list: List, ends: Vec<u64> },
}

#[derive(Debug)]
pub(crate) struct Branch {
    parent: Vec<u8>,
    name: Vec<u8>,
    id: BlobId,
}

/// A place in a tree: a leaf, and the number of an entry in it.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    page: Arc<Page>,
    at: usize,
}

fn damaged(id: &BlobId, what: &str) -> Error {
    Error::damaged(format!("tree node {}", id.short()), what)
}

impl Page {
    fn cost(&self) -> usize {
        match self {
            Self::Inner { children, .. } => {
                children.iter().map(|c| size_of::<Branch>() + c.parent.len() + c.name.len()).sum()
            }
            Self::Leaf(entries) => entries.iter().map(|e| cost(&e.entry)).sum(),
            Self::List { ends, .. } => ends.len() * (size_of::<(BlobId, u64)>() + 8),
        }
    }

    fn entries(&self) -> &[PathEntry] {
        match self {
            Self::Leaf(entries) => entries,
            _ => &[],
        }
    }
}

/// About how many bytes an entry takes in memory.
fn cost(entry: &Entry) -> usize {
    let content = match &entry.content {
        Content::Inline(bytes) => bytes.len(),
        Content::Chunks(chunks) => chunks.len() * size_of::<chunks::Part>(),
        _ => 0,
    };
    let xattrs = entry.xattrs.iter().map(|x| size_of::<Xattr>() + x.name.len() + x.value.len());
    size_of::<PathEntry>()
        + entry.name.len()
        + entry.target.len()
        + entry.hard_link.len()
        + entry.extents.len() * size_of::<Extent>()
        + content
        + xattrs.sum::<usize>()
}

impl Cursor {
    /// The entry here.
    pub(crate) fn entry(&self) -> Option<&PathEntry> {
        self.page.entries().get(self.at)
    }

    /// The entries from here to the end of the leaf.
    pub(crate) fn rest(&self) -> &[PathEntry] {
        self.page.entries().get(self.at..).unwrap_or_default()
    }
}

impl Library {
    fn page(&self, id: &BlobId, level: Option<u32>) -> Result<Arc<Page>> {
        let page = self.pages.get(*id, || {
            let node = self.reading(|reader| read_node(reader, id))?;
            let page = if node.level > 0 {
                let child = |child: holdfast_engine::format::tree::Child| {
                    let found = BlobId::from_slice(&child.id);
                    let id = found.ok_or_else(|| damaged(id, "a child has no id"))?;
                    Ok(Branch { parent: child.parent, name: child.name, id })
                };
                let children = node.children.into_iter().map(child).collect::<Result<_>>()?;
                Page::Inner { level: node.level, children }
            } else {
                Page::Leaf(leaf_entries(id, node)?)
            };
            let cost = page.cost();
            Ok((page, cost))
        })?;
        let found = match &*page {
            Page::Inner { level, .. } => *level,
            Page::Leaf(_) => 0,
            Page::List { .. } => return Err(damaged(id, "it is a chunk list")),
        };
        if level.is_some_and(|level| level != found) || found > 32 {
            return Err(damaged(id, "its level is wrong"));
        }
        Ok(page)
    }

    /// The first entry at a key or after it; after it only, if `beyond`.
    pub(crate) fn seek(
        &self,
        root: &BlobId,
        key: (&[u8], &[u8]),
        beyond: bool,
    ) -> Result<Option<Cursor>> {
        self.seek_in(self.page(root, None)?, key, beyond)
    }

    fn seek_in(
        &self,
        page: Arc<Page>,
        key: (&[u8], &[u8]),
        beyond: bool,
    ) -> Result<Option<Cursor>> {
        let Page::Inner { level, children } = &*page else {
            let at = page.entries().partition_point(|e| {
                let order = compare_keys((&e.parent, &e.entry.name), key);
                order.is_lt() || beyond && order.is_eq()
            });
            let is_there = at < page.entries().len();
            return Ok(is_there.then_some(Cursor { page, at }));
        };
        // The last child that starts at the key or before it; what is not in it starts the next.
        let first = children
            .partition_point(|c| compare_keys((&c.parent, &c.name), key).is_le())
            .saturating_sub(1);
        for child in children.get(first..).unwrap_or_default() {
            let found = self.seek_in(self.page(&child.id, Some(level - 1))?, key, beyond)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Where an entry stands; the root itself for the empty path.
    pub(crate) fn lookup(&self, root: &BlobId, path: &[u8]) -> Result<Option<Cursor>> {
        let (parent, name) = split(path);
        let found = self.seek(root, (parent, name), false)?;
        Ok(found.filter(|cursor| {
            cursor.entry().is_some_and(|e| e.parent[..] == *parent && e.entry.name == name)
        }))
    }

    /// The chunk of a listed file that holds the byte `at` of what is stored of it, and where that
    /// chunk begins. `None` after the last one.
    pub(crate) fn listed_chunk(
        &self,
        root: &BlobId,
        at: u64,
    ) -> Result<Option<(holdfast_engine::tree::ChunkRef, u64)>> {
        let (mut id, mut level, mut start) = (*root, None, 0_u64);
        loop {
            let page = self.pages.get(id, || {
                let list = self.reading(|reader| chunks::read_list(reader, &id, level))?;
                let mut end = 0_u64;
                let ends = list.children.iter().map(|(_, length)| {
                    end = end.saturating_add(*length);
                    end
                });
                let page = Page::List { ends: ends.collect(), list };
                let cost = page.cost();
                Ok((page, cost))
            })?;
            let Page::List { list, ends } = &*page else {
                return Err(damaged(&id, "it is no chunk list"));
            };
            let number = ends.partition_point(|end| start.saturating_add(*end) <= at);
            let Some((child, length)) = list.children.get(number) else { return Ok(None) };
            let before = number.checked_sub(1).and_then(|before| ends.get(before));
            start = start.saturating_add(before.copied().unwrap_or(0));
            if list.level == 0 {
                return Ok(Some((chunks::chunk(&id, *child, *length)?, start)));
            }
            (id, level) = (*child, Some(list.level - 1));
        }
    }
}
