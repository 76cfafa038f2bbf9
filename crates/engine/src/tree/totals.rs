//! Totals: what lies below every directory, in a second small tree. A directory's totals are
//! known only after all below it, so this tree is in post-order and is built beside the first.

use std::sync::Arc;

use prost::Message;

use crate::crypto::{BlobKind, Keys};
use crate::format::snapshot::Sum;
use crate::format::tree::{Child, Group, TotalsLine, TotalsNode};
use crate::hash::BlobId;
use crate::meta::Kind;
use crate::repo::BlobReader;
use crate::{Error, Result};

use super::build::{Levels, NodeLimits, PutNode};
use super::entry::Entry;
use super::{compare_post_order, split};

#[derive(Debug, Default, Clone)]
struct Open {
    path: Vec<u8>,
    direct: Sum,
    lines: Vec<TotalsLine>,
}

/// Adds up the directories of a tree that is being built.
#[derive(Debug, Clone)]
pub struct TotalsBuilder {
    keys: Arc<Keys>,
    limits: NodeLimits,
    levels: Levels,
    node: TotalsNode,
    length: usize,
    open: Vec<Open>,
    root: Sum,
}

impl TotalsBuilder {
    /// A builder.
    pub fn new(keys: Arc<Keys>, limits: NodeLimits) -> Self {
        Self {
            keys,
            limits,
            levels: Levels::new(BlobKind::Totals, limits),
            node: TotalsNode::default(),
            length: 0,
            open: vec![Open::default()],
            root: Sum::default(),
        }
    }

    /// Counts the next entry of the directory `parent`, in tree order.
    pub fn add(&mut self, put: PutNode<'_>, parent: &[u8], entry: &Entry) -> Result<()> {
        self.enter(put, parent)?;
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let mut sum = Sum { latest: entry.metadata.mtime.total_nanos(), ..Sum::default() };
        match entry.metadata.kind {
            Kind::File => {
                sum.files = 1;
                sum.bytes = entry.metadata.size;
            }
            Kind::Directory => sum.directories = 1,
            _ => sum.others = 1,
        }
        sum.errors = u64::from(!entry.error.is_empty());
        open.direct.add(&sum);
        if entry.metadata.kind == Kind::Directory && !entry.name.is_empty() {
            open.lines.push(TotalsLine { name: entry.name.clone(), ..TotalsLine::default() });
        }
        Ok(())
    }

    /// Records that the directory `path` could not be listed, or an entry in it not examined.
    pub fn error(&mut self, put: PutNode<'_>, path: &[u8], text: &str) -> Result<()> {
        self.enter(put, path)?;
        if let Some(open) = self.open.last_mut() {
            open.direct.errors += 1;
        }
        let above = self.open.len().checked_sub(2).and_then(|i| self.open.get_mut(i));
        if let Some(line) = above.and_then(|open| find_line(open, split(path).1)) {
            line.error = text.to_owned();
        }
        Ok(())
    }

    /// Takes over a line of another totals tree. They come in that tree's order, and nothing else
    /// is counted then.
    pub fn copy(&mut self, put: PutNode<'_>, directory: &[u8], line: TotalsLine) -> Result<()> {
        self.emit(put, directory, line)
    }

    /// Closes directories until `path` lies in the innermost open one, and opens it.
    fn enter(&mut self, put: PutNode<'_>, path: &[u8]) -> Result<()> {
        while self.open.len() > 1
            && self
                .open
                .last()
                .is_some_and(|open| !crate::repo::snapshots::is_within(path, &open.path))
        {
            self.leave(put)?;
        }
        if self.open.last().is_some_and(|open| open.path != path) {
            self.open.push(Open { path: path.to_vec(), ..Open::default() });
        }
        Ok(())
    }

    fn leave(&mut self, put: PutNode<'_>) -> Result<()> {
        let Some(done) = self.open.pop() else { return Ok(()) };
        let mut sum = done.direct;
        for line in &done.lines {
            sum.add(&line.sum.unwrap_or_default());
        }
        match self.open.last_mut() {
            Some(above) => {
                if let Some(line) = find_line(above, split(&done.path).1) {
                    line.sum = Some(sum);
                }
            }
            None => self.root = sum,
        }
        for line in done.lines {
            self.emit(put, &done.path, line)?;
        }
        Ok(())
    }

    fn emit(&mut self, put: PutNode<'_>, parent: &[u8], line: TotalsLine) -> Result<()> {
        let mut size = line.encoded_len() + 3;
        match self.node.groups.last_mut() {
            Some(group) if group.parent == parent => group.count += 1,
            _ => {
                size += parent.len() + 6;
                self.node.groups.push(Group { parent: parent.to_vec(), count: 1 });
            }
        }
        self.length += size;
        let name = line.name.clone();
        self.node.lines.push(line);
        let ends = self.limits.ends_after(&self.keys, u32::MAX, (parent, &name), self.length, size);
        if ends { self.close(put) } else { Ok(()) }
    }

    fn close(&mut self, put: PutNode<'_>) -> Result<()> {
        let node = std::mem::take(&mut self.node);
        self.length = 0;
        let (Some(group), Some(line)) = (node.groups.first(), node.lines.first()) else {
            return Ok(());
        };
        let (parent, name) = (group.parent.clone(), line.name.clone());
        let entries = node.lines.len() as u64;
        let id = put(BlobKind::Totals, node.encode_to_vec())?.as_bytes().to_vec();
        self.levels.add(&self.keys, put, 0, Child { parent, name, id, entries })
    }

    /// Ends the tree; its root (`None` if there is no directory below the root) and the sum of
    /// all.
    pub fn finish(mut self, put: PutNode<'_>) -> Result<(Option<BlobId>, Sum)> {
        while !self.open.is_empty() {
            self.leave(put)?;
        }
        self.close(put)?;
        Ok((self.levels.finish(&self.keys, put)?, self.root))
    }
}

fn find_line<'a>(open: &'a mut Open, name: &[u8]) -> Option<&'a mut TotalsLine> {
    let at = open.lines.binary_search_by(|line| line.name[..].cmp(name)).ok()?;
    open.lines.get_mut(at)
}

/// Totals of the directories in `directory`, by name, from the totals tree with this root.
pub fn children(
    reader: &BlobReader<'_>,
    root: &BlobId,
    directory: &[u8],
) -> Result<Vec<TotalsLine>> {
    let mut found = Vec::new();
    collect(reader, root, directory, 0, &mut found)?;
    Ok(found)
}

/// Calls `each` for every line of a totals tree in order, with the directory it stands in.
pub fn for_each(
    reader: &BlobReader<'_>,
    root: &BlobId,
    each: &mut dyn FnMut(&[u8], TotalsLine) -> Result<()>,
) -> Result<()> {
    let mut pending = vec![(*root, 0)];
    while let Some((id, depth)) = pending.pop() {
        let node = read_node(reader, &id, depth)?;
        for child in node.children.iter().rev() {
            pending.push((child_id(&id, child)?, depth + 1));
        }
        let mut lines = node.lines.into_iter();
        for group in node.groups {
            let run = lines.by_ref().take(group.count as usize);
            run.into_iter().try_for_each(|line| each(&group.parent, line))?;
        }
    }
    Ok(())
}

fn damaged(id: &BlobId, what: impl ToString) -> Error {
    Error::damaged(format!("totals node {}", id.short()), what)
}

fn read_node(reader: &BlobReader<'_>, id: &BlobId, depth: u32) -> Result<TotalsNode> {
    if depth > 32 {
        return Err(damaged(id, "the tree is too deep"));
    }
    let bytes = reader.read(BlobKind::Totals, id)?;
    TotalsNode::decode(&bytes[..]).map_err(|e| damaged(id, e))
}

fn child_id(id: &BlobId, child: &Child) -> Result<BlobId> {
    BlobId::from_slice(&child.id).ok_or_else(|| damaged(id, "a child has no id"))
}

fn collect(
    reader: &BlobReader<'_>,
    id: &BlobId,
    directory: &[u8],
    depth: u32,
    found: &mut Vec<TotalsLine>,
) -> Result<()> {
    let node = read_node(reader, id, depth)?;
    for (i, child) in node.children.iter().enumerate() {
        // A child holds keys from its first up to the next one's first.
        let next = node.children.get(i + 1);
        if compare_post_order(&child.parent, directory).is_gt()
            || next.is_some_and(|n| compare_post_order(&n.parent, directory).is_lt())
        {
            continue;
        }
        collect(reader, &child_id(id, child)?, directory, depth + 1, found)?;
    }
    let mut lines = node.lines.into_iter();
    for group in node.groups {
        let run = lines.by_ref().take(group.count as usize);
        if group.parent == directory {
            found.extend(run);
        } else {
            run.for_each(drop);
        }
    }
    Ok(())
}
