//! Building trees from a sorted stream of entries, in memory that does not grow with the tree.
//!
//! A node ends where a keyed hash of the last key says so, with a chance in proportion to the
//! entry's size: so nodes have a mean size whatever the entries are, an edit moves no boundary,
//! and an insertion only those beside it.

use std::sync::Arc;

use prost::Message;

use crate::crypto::{BlobKind, Keys};
use crate::format::config::Config;
use crate::format::tree::{Child, Group, Node};
use crate::hash::BlobId;
use crate::{Error, Result};

use super::compare_keys;
use super::entry::{Entry, Tables, encode_owner};

/// Where finished nodes go: stores a blob of structure and returns its id.
pub type PutNode<'a> = &'a dyn Fn(BlobKind, Vec<u8>) -> Result<BlobId>;

/// Where nodes end.
#[derive(Debug, Clone, Copy)]
pub struct NodeLimits {
    min: usize,
    span: u64,
    max: usize,
}

impl NodeLimits {
    /// The limits that a repository's config sets.
    pub fn of(config: &Config) -> Self {
        Self {
            min: config.node_min as usize,
            span: u64::from(config.node_avg.saturating_sub(config.node_min)).max(1),
            max: config.node_max as usize,
        }
    }

    /// Whether a node of `length` bytes ends after an item of `size` bytes with this key.
    pub(super) fn ends_after(
        &self,
        keys: &Keys,
        level: u32,
        (parent, name): (&[u8], &[u8]),
        length: usize,
        size: usize,
    ) -> bool {
        if length >= self.max {
            return true;
        }
        if length < self.min {
            return false;
        }
        // Sizes are rounded, so that a number that grows by a digit moves nothing.
        let weight = (size as u64).next_multiple_of(64).min(self.span);
        (keys.tree_cut(level, parent, name) >> 32) * self.span < weight << 32
    }
}

/// The inner nodes above a row of leaves, of either sort of tree.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    kind: BlobKind,
    limits: NodeLimits,
    rows: Vec<(Vec<Child>, usize)>,
}

impl Levels {
    pub(super) fn new(kind: BlobKind, limits: NodeLimits) -> Self {
        Self { kind, limits, rows: Vec::new() }
    }

    /// Adds a finished node of level `level`.
    pub(super) fn add(
        &mut self,
        keys: &Keys,
        put: PutNode<'_>,
        level: u32,
        child: Child,
    ) -> Result<()> {
        let row = level as usize;
        if self.rows.len() <= row {
            self.rows.resize_with(row + 1, Default::default);
        }
        let Some((children, length)) = self.rows.get_mut(row) else { return Ok(()) };
        let size = child.encoded_len() + 4;
        *length += size;
        let ends = children.len() > 1
            && self.limits.ends_after(keys, level + 1, (&child.parent, &child.name), *length, size);
        children.push(child);
        if ends { self.close(keys, put, level) } else { Ok(()) }
    }

    fn close(&mut self, keys: &Keys, put: PutNode<'_>, level: u32) -> Result<()> {
        let Some(row) = self.rows.get_mut(level as usize) else { return Ok(()) };
        let (children, _) = std::mem::take(row);
        let Some(first) = children.first() else { return Ok(()) };
        let (parent, name) = (first.parent.clone(), first.name.clone());
        let entries = children.iter().map(|c| c.entries).sum();
        let bytes = match self.kind {
            BlobKind::Totals => {
                crate::format::tree::TotalsNode { level: level + 1, children, ..Default::default() }
                    .encode_to_vec()
            }
            _ => Node { level: level + 1, children, ..Node::default() }.encode_to_vec(),
        };
        let id = put(self.kind, bytes)?.as_bytes().to_vec();
        self.add(keys, put, level + 1, Child { parent, name, id, entries })
    }

    /// Closes all rows; the root's id, or `None` if nothing was added.
    pub(super) fn finish(mut self, keys: &Keys, put: PutNode<'_>) -> Result<Option<BlobId>> {
        let mut level = 0;
        loop {
            let above = self.rows.len() > level as usize + 1;
            match self.rows.get(level as usize).map_or(&[][..], |row| &row.0) {
                [only] if !above => return Ok(BlobId::from_slice(&only.id)),
                [] if !above => return Ok(None),
                _ => self.close(keys, put, level)?,
            }
            level += 1;
        }
    }
}

/// Builds one tree. A copy can be ended early: the tree so far.
#[derive(Debug, Clone)]
pub struct TreeBuilder {
    keys: Arc<Keys>,
    limits: NodeLimits,
    levels: Levels,
    node: Node,
    tables: Tables,
    length: usize,
    last: (Arc<[u8]>, Vec<u8>),
    first: Option<(Vec<u8>, Vec<u8>)>,
}

impl TreeBuilder {
    /// A builder of a tree with these keys and limits.
    pub fn new(keys: Arc<Keys>, limits: NodeLimits) -> Self {
        Self {
            keys,
            limits,
            levels: Levels::new(BlobKind::Node, limits),
            node: Node::default(),
            tables: Tables::default(),
            length: 0,
            last: (Arc::from(&b""[..]), Vec::new()),
            first: None,
        }
    }

    /// Adds the next entry of the directory `parent`. Keys must rise.
    pub fn add(&mut self, put: PutNode<'_>, parent: &Arc<[u8]>, entry: Entry) -> Result<()> {
        let name = entry.name.clone();
        let started = self.first.is_some() || !self.levels.rows.is_empty();
        if started && compare_keys((&self.last.0, &self.last.1), (parent, &name)).is_ge() {
            return Err(Error::Worker(format!(
                "the source's order is wrong at {}",
                String::from_utf8_lossy(&super::join(parent, &name))
            )));
        }
        let record = self.tables.encode(entry);
        let mut size = record.encoded_len() + 3;
        match self.node.groups.last_mut() {
            Some(group) if group.parent == parent[..] => group.count += 1,
            _ => {
                size += parent.len() + 6;
                self.node.groups.push(Group { parent: parent.to_vec(), count: 1 });
            }
        }
        self.first.get_or_insert_with(|| (parent.to_vec(), name.clone()));
        self.node.entries.push(record);
        self.length += size;
        let ends = self.limits.ends_after(&self.keys, 0, (parent, &name), self.length, size);
        self.last = (parent.clone(), name);
        if ends { self.close(put) } else { Ok(()) }
    }

    fn close(&mut self, put: PutNode<'_>) -> Result<()> {
        let Some((parent, name)) = self.first.take() else { return Ok(()) };
        let tables = std::mem::take(&mut self.tables);
        let mut node = std::mem::take(&mut self.node);
        self.length = 0;
        node.owners = tables.owners.iter().map(|o| encode_owner(o)).collect();
        node.bundles = tables.bundles.iter().flat_map(|id| *id.as_bytes()).collect();
        let entries = node.entries.len() as u64;
        let id = put(BlobKind::Node, node.encode_to_vec())?.as_bytes().to_vec();
        self.levels.add(&self.keys, put, 0, Child { parent, name, id, entries })
    }

    /// Ends the tree; its root, or `None` if nothing was added.
    pub fn finish(mut self, put: PutNode<'_>) -> Result<Option<BlobId>> {
        self.close(put)?;
        self.levels.finish(&self.keys, put)
    }
}
