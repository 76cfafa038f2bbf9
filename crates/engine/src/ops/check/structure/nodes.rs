//! Nodes of trees and totals trees: keys rise and lie where the node above says, counts agree,
//! and the content that entries refer to is in the index at the right length.

use std::sync::atomic::Ordering;

use prost::Message;

use crate::crypto::BlobKind;
use crate::format::tree::{Group, Node, TotalsNode};
use crate::hash::BlobId;
use crate::meta::Kind;
use crate::repo::index::Place;
use crate::tree::entry::{Content, Entry};
use crate::tree::read::{PathEntry, leaf_entries};
use crate::tree::{compare_keys, compare_post_order};
use crate::{Error, Result};

use super::super::fault_text;
use super::{Job, Key, Subtree, Walk, subtrees};

/// Higher than any tree can become.
const MAX_LEVEL: u32 = 32;

type Checked<T> = std::result::Result<T, String>;

impl Walk<'_> {
    pub(super) fn subtree(&self, subtree: &Subtree, more: &mut Vec<Job>) -> Result<()> {
        let Some(bytes) = self.fetch(subtree.kind, &subtree.id)? else { return Ok(()) };
        let checked = match subtree.kind {
            BlobKind::Totals => check_totals(subtree, &bytes),
            _ => match Node::decode(&bytes[..]).map_err(|e| e.to_string()) {
                Ok(node) if node.level == 0 => match check_leaf(subtree, node) {
                    Ok(entries) => {
                        self.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
                        return self.contents(&subtree.id, &entries, more);
                    }
                    Err(what) => Err(what),
                },
                Ok(node) => check_inner(subtree, node),
                Err(what) => Err(what),
            },
        };
        match checked {
            Ok(children) => more.extend(children.into_iter().map(Job::Tree)),
            Err(what) => self.bad_blob(subtree.kind, &subtree.id, what),
        }
        Ok(())
    }

    /// Checks what the entries of a leaf refer to.
    fn contents(&self, leaf: &BlobId, entries: &[PathEntry], more: &mut Vec<Job>) -> Result<()> {
        let mut last_bundle = None;
        for found in entries {
            let entry = &found.entry;
            let wrong = |what: &str| {
                let path = found.path().escape_ascii().to_string();
                self.bad_blob(BlobKind::Node, leaf, format!("{path}: {what}"));
            };
            if let Some(id) = entry.xattrs_blob {
                more.push(Job::Attributes(id));
            }
            if let Err(what) = check_sense(entry) {
                wrong(what);
            }
            let length = content_length(entry);
            match &entry.content {
                Content::None | Content::Inline(_) => {}
                Content::Member { bundle, number, .. } => {
                    let place = match last_bundle {
                        Some((last, place)) if last == *bundle => place,
                        _ => self.locate(BlobKind::Bundle, bundle)?,
                    };
                    last_bundle = Some((*bundle, place));
                    let Some(place) = place else { continue };
                    if *number >= place.members {
                        wrong("its bundle has no such member");
                    } else if place.hollow && !self.holds(bundle, &place, *number)? {
                        wrong("gc dropped it from its bundle, though it is still needed");
                    }
                }
                Content::Chunks(chunks) => {
                    for chunk in chunks {
                        let Some(place) = self.locate(BlobKind::Chunk, &chunk.id)? else {
                            continue;
                        };
                        if place.plain != chunk.length {
                            wrong("a chunk is not as long as the index says");
                        }
                    }
                    let sum: u64 = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
                    if sum != length && entry.error.is_empty() {
                        wrong("its chunks are not as long as the file");
                    }
                }
                Content::List(id) => {
                    // A file that changed while it was read may be of another length.
                    let length = if entry.error.is_empty() { length } else { super::lists::ANY };
                    more.push(Job::List { id: *id, level: None, length });
                }
            }
        }
        Ok(())
    }

    /// Whether a bundle that gc took members out of still has this one, which only reading tells.
    /// One that cannot be read is a finding of its own.
    fn holds(&self, bundle: &BlobId, place: &Place, number: u32) -> Result<bool> {
        match self.context.reader.bundle(bundle, number) {
            Ok(_) => Ok(true),
            Err(Error::MissingBlob { .. }) => Ok(false),
            Err(error) => self.bad_read(place, error).map(|()| true),
        }
    }
}

/// Bytes of content: all of a file, or what lies in the extents of a sparse one.
fn content_length(entry: &Entry) -> u64 {
    if entry.extents.is_empty() {
        return entry.metadata.size;
    }
    entry.extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length))
}

/// What can be said of an entry alone.
fn check_sense(entry: &Entry) -> std::result::Result<(), &'static str> {
    let is_file = entry.metadata.kind == Kind::File;
    if !is_file && (entry.content != Content::None || !entry.extents.is_empty()) {
        return Err("it has content and is no file");
    }
    let length = content_length(entry);
    match &entry.content {
        // What could not be read says why.
        Content::None if is_file && length > 0 && entry.error.is_empty() => {
            Err("its content is nowhere, and no error says why")
        }
        Content::Inline(bytes) if bytes.len() as u64 != length && entry.error.is_empty() => {
            Err("its content is not as long as the file")
        }
        _ => Ok(()),
    }
}

fn check_leaf(subtree: &Subtree, node: Node) -> Checked<Vec<PathEntry>> {
    check_level(subtree, node.level)?;
    if !node.children.is_empty() {
        return Err("it is a leaf and has children".into());
    }
    if !node.bundles.len().is_multiple_of(32) {
        return Err("its table of bundles has the wrong length".into());
    }
    check_groups(&node.groups, node.entries.len())?;
    let entries = leaf_entries(&subtree.id, node)
        .map_err(|e| fault_text(e).unwrap_or_else(|e| e.to_string()))?;
    let mut last: Option<&PathEntry> = None;
    for entry in &entries {
        if last.is_some_and(|last| last.compare(entry).is_ge()) {
            return Err("its entries are not in order".into());
        }
        last = Some(entry);
    }
    let key = |e: &PathEntry| (e.parent.to_vec(), e.entry.name.clone());
    let (first, last) = (entries.first().map(key), last.map(key));
    check_range(subtree, first, last, entries.len() as u64, tree_order)?;
    Ok(entries)
}

fn check_inner(subtree: &Subtree, node: Node) -> Checked<Vec<Subtree>> {
    check_level(subtree, node.level)?;
    if !node.entries.is_empty() || !node.groups.is_empty() {
        return Err("it has children and entries".into());
    }
    let first = node.children.first().map(|c| (c.parent.clone(), c.name.clone()));
    let last = node.children.last().map(|c| (c.parent.clone(), c.name.clone()));
    let sum = node.children.iter().fold(0, |sum: u64, c| sum.saturating_add(c.entries));
    check_range(subtree, first, last, sum, tree_order)?;
    subtrees(subtree, node.level, node.children, tree_order)
}

fn check_totals(subtree: &Subtree, bytes: &[u8]) -> Checked<Vec<Subtree>> {
    let node = TotalsNode::decode(bytes).map_err(|e| e.to_string())?;
    check_level(subtree, node.level)?;
    if node.level > 0 {
        if !node.lines.is_empty() || !node.groups.is_empty() {
            return Err("it has children and lines".into());
        }
        let first = node.children.first().map(|c| (c.parent.clone(), c.name.clone()));
        let last = node.children.last().map(|c| (c.parent.clone(), c.name.clone()));
        let sum = node.children.iter().fold(0, |sum: u64, c| sum.saturating_add(c.entries));
        check_range(subtree, first, last, sum, totals_order)?;
        return subtrees(subtree, node.level, node.children, totals_order);
    }
    check_groups(&node.groups, node.lines.len())?;
    let count = node.lines.len() as u64;
    let mut lines = node.lines.into_iter();
    let (mut first, mut last) = (None, None);
    for group in node.groups {
        for line in lines.by_ref().take(group.count as usize) {
            let key = (group.parent.clone(), line.name);
            if last.as_ref().is_some_and(|last| totals_order(last, &key).is_ge()) {
                return Err("its lines are not in order".into());
            }
            first.get_or_insert_with(|| key.clone());
            last = Some(key);
        }
    }
    check_range(subtree, first, last, count, totals_order)?;
    Ok(Vec::new())
}

fn tree_order(a: &Key, b: &Key) -> std::cmp::Ordering {
    compare_keys((&a.0, &a.1), (&b.0, &b.1))
}

fn totals_order(a: &Key, b: &Key) -> std::cmp::Ordering {
    if a.0 == b.0 { a.1.cmp(&b.1) } else { compare_post_order(&a.0, &b.0) }
}

fn check_level(subtree: &Subtree, level: u32) -> Checked<()> {
    if subtree.level.is_some_and(|expected| expected != level) || level > MAX_LEVEL {
        return Err("its level is wrong".into());
    }
    Ok(())
}

fn check_groups(groups: &[Group], items: usize) -> Checked<()> {
    let sum: u64 = groups.iter().map(|group| u64::from(group.count)).sum();
    if sum != items as u64 || groups.iter().any(|group| group.count == 0) {
        return Err("its groups do not fit what it holds".into());
    }
    Ok(())
}

fn check_range(
    subtree: &Subtree,
    first: Option<Key>,
    last: Option<Key>,
    entries: u64,
    order: impl Fn(&Key, &Key) -> std::cmp::Ordering,
) -> Checked<()> {
    let (Some(first), Some(last)) = (first, last) else { return Err("it is empty".into()) };
    if subtree.low.as_ref().is_some_and(|low| **low != first) {
        return Err("it does not start where the node above says".into());
    }
    if subtree.high.as_ref().is_some_and(|high| order(&last, high).is_ge()) {
        return Err("it reaches beyond the node after it".into());
    }
    if subtree.entries.is_some_and(|expected| expected != entries) {
        return Err("it does not hold as many entries as the node above says".into());
    }
    Ok(())
}
