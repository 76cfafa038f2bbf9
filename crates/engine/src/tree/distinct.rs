//! Many trees at once: those of neighbouring snapshots share most of their nodes, and here each
//! node is read once, by several threads. What was found in the leaves is then attributed to all
//! trees that reach it, in steps proportional to the distinct nodes and not to the trees.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::format::tree::Child;
use crate::hash::BlobId;
use crate::repo::BlobReader;
use crate::repo::snapshots::is_within;
use crate::{Error, Result};

use super::read::{PathEntry, leaf_entries, read_node};
use super::{compare_keys, compare_paths, split};

/// A tree to read.
#[derive(Debug, Clone, Copy)]
pub struct Tree {
    /// Its root node.
    pub root: BlobId,
    /// Number of its context: trees whose entries mean the same wherever their nodes are the
    /// same, since they stand at the same path. Nodes are shared within a context.
    pub context: u32,
    /// Number by which the results name it. Neighbours in time should have neighbouring numbers.
    pub number: u32,
}

/// How to read the trees.
pub struct Walk<'a> {
    /// The part of each context that is wanted, relative to its root; empty for all.
    pub within: &'a [Vec<u8>],
    /// Threads that read nodes; 0 for as many as serve.
    pub threads: usize,
    /// Called once for each distinct leaf with its context and those of its entries that are
    /// wanted. Returns numbers that stand for what was found. An error ends the walk.
    pub leaf: &'a (dyn Fn(u32, Vec<PathEntry>) -> Result<Vec<u32>> + Sync),
    /// Called for each node that is damaged or missing; the walk goes on without it.
    pub lost: &'a (dyn Fn(u32, Error) + Sync),
}

impl std::fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// Numbers from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Run {
    /// Adds a run to a list, which may have to be sorted afterwards ([`merge`](Self::merge)).
    fn push(self, to: &mut Vec<Self>) {
        match to.last_mut() {
            Some(last) if last.first <= self.first && self.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(self.last);
            }
            _ => to.push(self),
        }
    }

    /// Sorts runs and joins those that touch.
    pub fn merge(runs: &mut Vec<Self>) {
        let apart = |a: &Self, b: &Self| a.last.saturating_add(1) < b.first;
        if runs.windows(2).all(|w| matches!(w, [a, b] if apart(a, b))) {
            return;
        }
        runs.sort_unstable();
        let mut merged = Vec::with_capacity(runs.len());
        runs.drain(..).for_each(|run| run.push(&mut merged));
        *runs = merged;
    }
}

/// A node that was read: what is below it, numbers of nodes or, in a leaf, of what was found.
#[derive(Debug, Default)]
struct Node {
    /// `None`: it could not be read.
    level: Option<u32>,
    below: Vec<u32>,
}

/// The distinct nodes of the trees.
#[derive(Debug, Default)]
pub struct Distinct {
    nodes: Vec<Node>,
    /// Number of each tree and of its root node.
    roots: Vec<(u32, u32)>,
}

impl Distinct {
    /// Nodes that were read, lost ones among them.
    pub fn nodes(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Calls `each` with what was found in every leaf and the trees that reach it, by their
    /// numbers, in ascending runs that do not touch. The same thing may come several times, from
    /// several leaves.
    pub fn attribute(self, each: &mut dyn FnMut(u32, &[Run])) -> Result<()> {
        let level = |number: u32| self.nodes.get(number as usize).and_then(|node| node.level);
        let mut runs: Vec<Vec<Run>> = Vec::new();
        runs.resize_with(self.nodes.len(), Vec::new);
        for (tree, root) in &self.roots {
            if let Some(runs) = runs.get_mut(*root as usize) {
                Run { first: *tree, last: *tree }.push(runs);
            }
        }
        // From the top, so that all above a node comes before it.
        let mut order: Vec<u32> = (0..self.nodes.len() as u32).collect();
        order.sort_by_key(|number| Reverse(level(*number)));
        for number in order {
            let Some(node) = self.nodes.get(number as usize) else { continue };
            let mut own = runs.get_mut(number as usize).map(std::mem::take).unwrap_or_default();
            Run::merge(&mut own);
            match node.level {
                None => {}
                Some(0) => node.below.iter().for_each(|found| each(*found, &own)),
                Some(above) => {
                    for child in &node.below {
                        if level(*child).is_some_and(|level| level + 1 != above) {
                            return Err(Error::damaged("tree", "a node stands at two levels"));
                        }
                        let Some(runs) = runs.get_mut(*child as usize) else { continue };
                        own.iter().for_each(|run| run.push(runs));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A node to read.
#[derive(Debug, Clone, Copy)]
struct Task {
    number: u32,
    id: BlobId,
    context: u32,
    level: Option<u32>,
}

#[derive(Default)]
struct State {
    seen: HashMap<(u32, BlobId), u32>,
    found: Distinct,
    /// Nodes to read, the next one last: deep first, so that they are read in the order in which
    /// they lie.
    open: Vec<Task>,
    next_tree: usize,
    /// Threads that are reading and may find more.
    active: usize,
    failed: Option<Error>,
}

impl State {
    /// The number of a node, which is put on the list if it is met for the first time.
    fn claim(&mut self, id: BlobId, context: u32, level: Option<u32>) -> u32 {
        let number = self.found.nodes.len() as u32;
        let known = *self.seen.entry((context, id)).or_insert(number);
        if known == number {
            self.found.nodes.push(Node::default());
            self.open.push(Task { number, id, context, level });
        }
        known
    }
}

struct Shared<'a> {
    reader: &'a BlobReader<'a>,
    trees: &'a [Tree],
    walk: &'a Walk<'a>,
    state: Mutex<State>,
    changed: Condvar,
}

/// Lets no thread wait for one that died.
struct Alarm<'a, 'b>(&'a Shared<'b>);

impl Drop for Alarm<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::Worker("tree reader".into()));
        }
    }
}

/// Reads every distinct node of the trees once.
///
/// Memory is taken for every distinct node, some 100 bytes, and for what `leaf` returns.
pub fn read_distinct(reader: &BlobReader<'_>, trees: &[Tree], walk: &Walk<'_>) -> Result<Distinct> {
    let shared = Shared { reader, trees, walk, state: Mutex::default(), changed: Condvar::new() };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = if walk.threads > 0 { walk.threads } else { cores.clamp(2, 8) };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| shared.work())).collect();
        for thread in threads {
            if thread.join().is_err() {
                shared.fail(Error::Worker("tree reader".into()));
            }
        }
    });
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(state.found), Err)
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: Error) {
        self.lock().failed.get_or_insert(error);
        self.changed.notify_all();
    }

    fn work(&self) {
        let _alarm = Alarm(self);
        while let Some(task) = self.next() {
            let read = self.read(&task);
            let mut state = self.lock();
            match read {
                Ok((level, children, found)) => {
                    // The last one that is put on the list is read first.
                    let below = children.iter().rev();
                    let mut below: Vec<u32> = below
                        .map(|id| state.claim(*id, task.context, level.checked_sub(1)))
                        .collect();
                    below.reverse();
                    if let Some(node) = state.found.nodes.get_mut(task.number as usize) {
                        let below = if level == 0 { found } else { below };
                        *node = Node { level: Some(level), below };
                    }
                }
                Err(error) if error.is_local() => {
                    drop(state);
                    (self.walk.lost)(task.context, error);
                    state = self.lock();
                }
                Err(error) => drop(state.failed.get_or_insert(error)),
            }
            state.active -= 1;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next node to read; `None` at the end.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(task) = state.open.pop() {
                state.active += 1;
                return Some(task);
            }
            if let Some(tree) = self.trees.get(state.next_tree) {
                state.next_tree += 1;
                let root = state.claim(tree.root, tree.context, None);
                state.found.roots.push((tree.number, root));
            } else if state.active == 0 {
                return None;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Level, wanted children, and what was found.
    fn read(&self, task: &Task) -> Result<(u32, Vec<BlobId>, Vec<u32>)> {
        let damaged = |what| Error::damaged(format!("tree node {}", task.id.short()), what);
        let node = read_node(self.reader, &task.id)?;
        if task.level.is_some_and(|level| level != node.level) || node.level > 32 {
            return Err(damaged("its level is wrong"));
        }
        let within = self.walk.within.get(task.context as usize).map_or(&[][..], Vec::as_slice);
        let level = node.level;
        if level > 0 {
            let mut wanted = Vec::with_capacity(node.children.len());
            let mut following = node.children.iter().skip(1);
            for child in &node.children {
                if holds(child, following.next(), within) {
                    let id = BlobId::from_slice(&child.id);
                    wanted.push(id.ok_or_else(|| damaged("a child has no id"))?);
                }
            }
            return Ok((level, wanted, Vec::new()));
        }
        let mut entries = leaf_entries(&task.id, node)?;
        if !within.is_empty() {
            let (parent, name) = split(within);
            entries.retain(|e| {
                is_within(&e.parent, within) || e.parent[..] == *parent && e.entry.name == name
            });
        }
        Ok((0, Vec::new(), (self.walk.leaf)(task.context, entries)?))
    }
}

/// Whether the entry at `within`, or any below it, may be in the subtree of `child`, which ends
/// where `next` begins.
fn holds(child: &Child, next: Option<&Child>, within: &[u8]) -> bool {
    if within.is_empty() {
        return true;
    }
    let (parent, name) = split(within);
    let starts_at_or_before = compare_keys((&child.parent, &child.name), (parent, name)).is_le();
    let goes_beyond =
        next.is_none_or(|next| compare_keys((&next.parent, &next.name), (parent, name)).is_gt());
    let is_past = !is_within(&child.parent, within) && compare_paths(&child.parent, within).is_gt();
    let is_before = next.is_some_and(|next| {
        !is_within(&next.parent, within) && compare_paths(&next.parent, within).is_lt()
    });
    starts_at_or_before && goes_beyond || !(is_past || is_before)
}
