//! Two trees walked in step. Each side has a cursor: a stack of nodes not yet read and the
//! entries of the leaf at hand. Where the same node comes next on both sides it is skipped.

use std::cmp::Ordering;

use crate::hash::BlobId;
use crate::repo::BlobReader;
use crate::repo::snapshots::is_within;
use crate::tree::read::{PathEntry, TreeReader, leaf_entries, read_node};
use crate::tree::{compare_keys, compare_paths};
use crate::{Error, Result};

use super::Output;

/// A node that was not read yet.
struct Pending {
    id: BlobId,
    level: Option<u32>,
    /// Its first key; empty for the root, which starts before everything.
    parent: Vec<u8>,
    name: Vec<u8>,
}

struct Cursor<'a> {
    reader: &'a BlobReader<'a>,
    /// Directory below which to stay.
    within: &'a [u8],
    /// The next one last. They follow on `leaf`.
    pending: Vec<Pending>,
    leaf: std::iter::Peekable<std::vec::IntoIter<PathEntry>>,
}

/// What comes next on one side.
enum Next {
    Entry,
    Node,
    End,
}

impl<'a> Cursor<'a> {
    fn new(reader: &'a BlobReader<'a>, root: Option<BlobId>, within: &'a [u8]) -> Self {
        let start = |id| Pending { id, level: None, parent: Vec::new(), name: Vec::new() };
        let pending = root.map(start).into_iter().collect();
        Self { reader, within, pending, leaf: Vec::new().into_iter().peekable() }
    }

    fn next(&mut self) -> Next {
        match (self.leaf.peek(), self.pending.last()) {
            (Some(_), _) => Next::Entry,
            (None, Some(_)) => Next::Node,
            (None, None) => Next::End,
        }
    }

    /// First key of what comes next.
    fn key(&mut self) -> (&[u8], &[u8]) {
        match (self.leaf.peek(), self.pending.last()) {
            (Some(found), _) => (&found.parent, &found.entry.name),
            (None, Some(node)) => (&node.parent, &node.name),
            (None, None) => (b"", b""),
        }
    }

    fn node(&self) -> Option<&Pending> {
        self.pending.last()
    }

    /// Reads the node that comes next, and puts what it holds in its place.
    fn expand(&mut self) -> Result<()> {
        let Some(next) = self.pending.pop() else { return Ok(()) };
        let damaged = |what: &str| Error::damaged(format!("tree node {}", next.id.short()), what);
        let node = read_node(self.reader, &next.id)?;
        if next.level.is_some_and(|level| level != node.level) || node.level > 32 {
            return Err(damaged("its level is wrong"));
        }
        if node.level == 0 {
            let mut entries = leaf_entries(&next.id, node)?;
            if !self.within.is_empty() {
                entries.retain(|e| is_within(&e.parent, self.within));
            }
            self.leaf = entries.into_iter().peekable();
            return Ok(());
        }
        let level = Some(node.level - 1);
        let mut starts = node.children.iter().map(|child| &child.parent).skip(1);
        let mut wanted = Vec::with_capacity(node.children.len());
        for child in &node.children {
            // It holds keys from its first up to the first of the one after it.
            let next = starts.next();
            let is_past = !is_within(&child.parent, self.within)
                && compare_paths(&child.parent, self.within).is_gt();
            let is_before = next.is_some_and(|next| {
                !is_within(next, self.within) && compare_paths(next, self.within).is_lt()
            });
            wanted.push(self.within.is_empty() || !(is_past || is_before));
        }
        for (child, _) in node.children.into_iter().zip(wanted).rev().filter(|(_, wanted)| *wanted)
        {
            let id = BlobId::from_slice(&child.id).ok_or_else(|| damaged("a child has no id"))?;
            self.pending.push(Pending { id, level, parent: child.parent, name: child.name });
        }
        Ok(())
    }
}

/// Gives the differences of two trees, either of which may not be there, at and below `within`.
pub(super) fn diff(
    reader: &BlobReader<'_>,
    [before, after]: [Option<BlobId>; 2],
    within: &[u8],
    output: &mut Output<'_>,
) -> Result<()> {
    if before == after {
        return Ok(());
    }
    if !within.is_empty() {
        // The directory's own entry lies among those of its parent.
        let own = |id: Option<BlobId>| match id {
            Some(id) => TreeReader::new(reader, id).lookup(within),
            None => Ok(None),
        };
        match (own(before)?, own(after)?) {
            (Some(a), Some(b)) => pair(a, b, output)?,
            (Some(a), None) => output.only(a, false)?,
            (None, Some(b)) => output.only(b, true)?,
            (None, None) => {}
        }
    }
    let mut a = Cursor::new(reader, before, within);
    let mut b = Cursor::new(reader, after, within);
    loop {
        let order = match (a.next(), b.next()) {
            (Next::End, Next::End) => return Ok(()),
            (Next::End, _) => Ordering::Greater,
            (_, Next::End) => Ordering::Less,
            _ => compare_keys(a.key(), b.key()),
        };
        match (a.next(), b.next()) {
            (Next::Node, Next::Node) => step(&mut a, &mut b, order)?,
            // A node that starts at a key or before it may hold that key.
            (Next::Node, _) if order.is_le() => a.expand()?,
            (_, Next::Node) if order.is_ge() => b.expand()?,
            _ => {
                let old = if order.is_le() { a.leaf.next() } else { None };
                let new = if order.is_ge() { b.leaf.next() } else { None };
                match (old, new) {
                    (Some(old), Some(new)) => pair(old, new, output)?,
                    (Some(old), None) => output.only(old, false)?,
                    (None, Some(new)) => output.only(new, true)?,
                    (None, None) => return Err(Error::Worker("diff".into())),
                }
            }
        }
    }
}

/// Both sides come to a node.
fn step(a: &mut Cursor<'_>, b: &mut Cursor<'_>, order: Ordering) -> Result<()> {
    let (Some(one), Some(other)) = (a.node(), b.node()) else {
        // One side is at its end.
        return if a.node().is_some() { a.expand() } else { b.expand() };
    };
    if one.id == other.id {
        a.pending.pop();
        b.pending.pop();
        return Ok(());
    }
    // The higher one is opened first, so that equal nodes below get to face each other; of nodes
    // of one height, the one that starts first; and both if they start together. A root tells its
    // height only when it is read.
    let higher = match (one.level, other.level) {
        (Some(x), Some(y)) => y.cmp(&x),
        (x, y) => x.is_some().cmp(&y.is_some()),
    };
    match higher.then(order) {
        Ordering::Less => a.expand(),
        Ordering::Greater => b.expand(),
        Ordering::Equal => {
            a.expand()?;
            b.expand()
        }
    }
}

fn pair(before: PathEntry, after: PathEntry, output: &mut Output<'_>) -> Result<()> {
    let content = before.entry.content_differs(&after.entry);
    output.both(before, after, content)
}
