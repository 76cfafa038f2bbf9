//! Small files that other trees hold already, by the hash of their content: read from the newest
//! trees of the repository, and only when a run brings enough new files to make that worthwhile.

use std::collections::{HashMap, HashSet};

use crate::Result;
use crate::error::chain_text;
use crate::hash::{BlobId, MemberHash};
use crate::monitor::Monitor;
use crate::repo::BlobReader;
use crate::tree::Content;
use crate::tree::read::{leaf_entries, read_node};

/// Entries that are read for each new file, at most. Reading one costs about a microsecond;
/// compressing and storing a small file about a hundred.
const WORTH: u64 = 256;

/// Files that are remembered (24 bytes each).
const REMEMBERED: usize = 2 << 20;

/// A tree that may hold files of equal content.
#[derive(Debug, Clone, Copy)]
pub(super) struct OtherTree {
    pub(super) root: BlobId,
    /// Entries in it.
    pub(super) entries: u64,
}

struct Known {
    hash: MemberHash,
    /// Number in `bundles`.
    bundle: u32,
    member: u32,
}

/// What is known, or could be.
pub(super) struct KnownFiles<'a> {
    reader: &'a BlobReader<'a>,
    /// Trees not read yet, the most promising first.
    trees: Vec<OtherTree>,
    entries: u64,
    bundles: Vec<BlobId>,
    /// Sorted by hash.
    files: Vec<Known>,
}

impl<'a> KnownFiles<'a> {
    pub(super) fn new(reader: &'a BlobReader<'a>, trees: Vec<OtherTree>) -> Self {
        let entries = trees.iter().map(|tree| tree.entries).sum();
        Self { reader, trees, entries, bundles: Vec::new(), files: Vec::new() }
    }

    /// Whether there is a tree to read.
    pub(super) fn has_trees(&self) -> bool {
        !self.trees.is_empty()
    }

    /// Whether so many new files make it worthwhile to read the trees now.
    pub(super) fn are_worth(&self, new: u64) -> bool {
        self.has_trees() && new.saturating_mul(WORTH) >= self.entries
    }

    /// Reads the trees. One that cannot be read is told of and left out: it is missed by nobody
    /// but a few bytes of storage.
    pub(super) fn load(&mut self, monitor: &dyn Monitor) {
        let mut seen = HashSet::new();
        let mut numbers = HashMap::new();
        for tree in std::mem::take(&mut self.trees) {
            if let Err(error) = self.read(tree.root, &mut seen, &mut numbers) {
                monitor.problem("tree of another snapshot", &chain_text(&error));
            }
        }
        // Of equal files the first that was read stays: that of the most promising tree.
        self.files.sort_by_key(|file| file.hash);
        self.files.dedup_by_key(|file| file.hash);
        self.files.shrink_to_fit();
    }

    /// The bundle and the member that a small file of this hash is.
    pub(super) fn find(&self, hash: &MemberHash) -> Option<(BlobId, u32)> {
        let at = self.files.binary_search_by_key(hash, |file| file.hash).ok()?;
        let file = self.files.get(at)?;
        Some((*self.bundles.get(file.bundle as usize)?, file.member))
    }

    fn read(
        &mut self,
        root: BlobId,
        seen: &mut HashSet<BlobId>,
        numbers: &mut HashMap<BlobId, u32>,
    ) -> Result<()> {
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            // Trees share nodes.
            if !seen.insert(id) {
                continue;
            }
            let node = read_node(self.reader, &id)?;
            if node.level > 0 {
                let children = node.children.iter().rev();
                pending.extend(children.filter_map(|child| BlobId::from_slice(&child.id)));
                continue;
            }
            for found in leaf_entries(&id, node)? {
                let Content::Member { bundle, number, hash } = found.entry.content else {
                    continue;
                };
                if self.files.len() >= REMEMBERED {
                    return Ok(());
                }
                let next = self.bundles.len() as u32;
                let bundle = *numbers.entry(bundle).or_insert_with(|| {
                    self.bundles.push(bundle);
                    next
                });
                self.files.push(Known { hash, bundle, member: number });
            }
        }
        Ok(())
    }
}
