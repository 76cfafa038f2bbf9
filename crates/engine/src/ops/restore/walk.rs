//! Reading the tree in windows of bounded memory, with the caller's filter and owner map applied.

use std::collections::HashMap;
use std::sync::Arc;

use crate::meta::{Kind, Metadata, Owner, Xattr};
use crate::repo::snapshots::is_within;
use crate::tree::read::Entries;
use crate::tree::{Content, Entry, PathEntry, join};
use crate::{Error, Result};

use super::Choice;
use super::select::Part;
use super::state::{Run, concerns_all};

/// Entries and bytes of plan after which a window ends. Two windows are in memory at once.
const ENTRIES: usize = 32 << 10;
const BYTES: usize = 16 << 20;

/// A directory to make, and to give its attributes at the end.
#[derive(Debug)]
pub(super) struct Directory {
    /// Number of its part.
    pub(super) part: u32,
    /// Path below the destination.
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) xattrs_blob: Option<crate::hash::BlobId>,
    /// It was not there before.
    pub(super) fresh: bool,
    /// It is there, and things can go into it.
    pub(super) usable: bool,
}

impl Directory {
    pub(super) fn new(part: u32, path: Vec<u8>, entry: Entry) -> Self {
        let Entry { metadata, xattrs, xattrs_blob, .. } = entry;
        Self { part, path, metadata, xattrs, xattrs_blob, fresh: false, usable: false }
    }
}

/// Anything but a directory.
#[derive(Debug)]
pub(super) struct Item {
    /// Number of its group.
    pub(super) group: u32,
    pub(super) entry: Entry,
}

/// A run of items with the same parent.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) part: u32,
    /// Path of the parent in the tree.
    pub(super) parent: Arc<[u8]>,
    /// The part consists of this one item: its place is the part's prefix.
    top: bool,
    /// Nothing can stand in that directory yet.
    pub(super) fresh: bool,
    /// Nothing can be written there.
    pub(super) blocked: bool,
}

/// Some of the entries to restore, in tree order.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) directories: Vec<Directory>,
    pub(super) items: Vec<Item>,
    pub(super) groups: Vec<Group>,
    weight: usize,
}

impl Window {
    /// The group of an item.
    pub(super) fn group(&self, item: &Item) -> Option<&Group> {
        self.groups.get(item.group as usize)
    }

    /// Puts the destination path of an item into `into`.
    pub(super) fn path(&self, parts: &[Part<'_>], item: &Item, into: &mut Vec<u8>) {
        into.clear();
        let Some(group) = self.group(item) else { return };
        let Some(part) = parts.get(group.part as usize) else { return };
        if group.top {
            into.extend_from_slice(&part.prefix);
        } else {
            part.destination(&group.parent, &item.entry.name, into);
        }
    }

    /// The absolute path of an item at the origin.
    pub(super) fn origin(&self, parts: &[Part<'_>], item: &Item) -> Vec<u8> {
        let mut path = Vec::new();
        self.path(parts, item, &mut path);
        let part = self.group(item).and_then(|group| parts.get(group.part as usize));
        part.map_or_else(|| path.clone(), |part| part.origin(&path))
    }

    /// Finds out what became of the directories that the items go to.
    pub(super) fn look_up_parents(&mut self, run: &Run<'_>, parts: &[Part<'_>]) {
        let mut path = Vec::new();
        for group in &mut self.groups {
            let Some(part) = parts.get(group.part as usize) else { continue };
            part.destination(&group.parent, b"", &mut path);
            if group.top {
                path = crate::tree::split(&part.prefix).0.to_vec();
            }
            group.fresh = run.fresh.covers(&path);
            group.blocked = run.blocked.covers(&path);
        }
    }
}

/// A directory on the way to the entries at hand.
#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    choice: Choice,
    /// It is on the list of directories to make.
    listed: bool,
}

/// Reads the parts one after the other.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    run: &'a Run<'a>,
    parts: &'a [Part<'a>],
    part: usize,
    entries: Option<Entries<'a>>,
    chain: Vec<Level>,
    owners: HashMap<Arc<Owner>, Arc<Owner>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(run: &'a Run<'a>, parts: &'a [Part<'a>]) -> Self {
        Self { run, parts, part: 0, entries: None, chain: Vec::new(), owners: HashMap::new() }
    }

    /// The next window; `None` after the last.
    pub(super) fn next_window(&mut self) -> Result<Option<Window>> {
        let mut window = Window::default();
        while window.items.len() + window.directories.len() < ENTRIES
            && window.weight < BYTES
            && !self.run.is_stopping()
        {
            let Some(part) = self.parts.get(self.part) else { break };
            if self.entries.is_none() {
                self.start(part, &mut window);
            }
            if !self.next_leaf(part, &mut window)? {
                self.entries = None;
                self.part += 1;
            }
        }
        let is_empty = window.items.is_empty() && window.directories.is_empty();
        let at_end = self.part >= self.parts.len() || self.run.is_stopping();
        Ok((!is_empty || !at_end).then_some(window))
    }

    fn start(&mut self, part: &'a Part<'a>, window: &mut Window) {
        self.chain.clear();
        self.entries = Some(part.tree.below(&part.start));
        if part.top.metadata.kind != Kind::Directory {
            self.push_item(window, part.start.as_slice().into(), part.top.clone(), true);
            return;
        }
        let listed = part.choice == Choice::Take;
        self.chain.push(Level { path: part.start.clone(), choice: part.choice, listed });
        if listed {
            self.push_directory(window, part.prefix.clone(), part.top.clone());
        }
    }

    /// Takes the entries of the next leaf. False at the end of the part.
    fn next_leaf(&mut self, part: &Part<'_>, window: &mut Window) -> Result<bool> {
        let Some(entries) = &mut self.entries else { return Ok(false) };
        if part.top.metadata.kind != Kind::Directory {
            return Ok(false);
        }
        let leaf = match entries.next_leaf() {
            Ok(Some(leaf)) => leaf,
            Ok(None) => return Ok(false),
            Err(error) if concerns_all(&error) => return Err(error),
            Err(error) => {
                // The leaves behind it are still to be had.
                self.run.fail(&part.base, error);
                return Ok(true);
            }
        };
        let mut last: Option<(Arc<[u8]>, bool)> = None;
        for found in leaf {
            if found.entry.name.is_empty() {
                continue;
            }
            let wanted = match &last {
                Some((parent, wanted)) if Arc::ptr_eq(parent, &found.parent) => *wanted,
                _ => {
                    let inside = part.start.is_empty() || is_within(&found.parent, &part.start);
                    if !inside {
                        return Ok(false);
                    }
                    let wanted = self.run.options.filter.is_none() || self.enter(part, &found);
                    last = Some((found.parent.clone(), wanted));
                    wanted
                }
            };
            if wanted {
                self.take(part, found, window)?;
            }
        }
        Ok(true)
    }

    /// Asks the filter about the directories that lead to an entry. False if one is left out.
    fn enter(&mut self, part: &Part<'_>, found: &PathEntry) -> bool {
        let Some(filter) = &self.run.options.filter else { return true };
        let parent = &found.parent[..];
        while self.chain.len() > 1
            && self.chain.last().is_some_and(|level| !is_within(parent, &level.path))
        {
            self.chain.pop();
        }
        let mut path = Vec::new();
        loop {
            let Some(level) = self.chain.last() else { return false };
            if level.choice == Choice::Skip {
                return false;
            }
            if level.path.len() >= parent.len() {
                return true;
            }
            let known = if level.path.is_empty() { 0 } else { level.path.len() + 1 };
            let rest = parent.get(known..).unwrap_or_default();
            let end = rest.iter().position(|c| *c == b'/').unwrap_or(rest.len());
            let next = parent.get(..known + end).unwrap_or_default().to_vec();
            part.destination(&next, b"", &mut path);
            let choice = filter(&part.origin(&path), true);
            // A directory that is wanted is listed when its own entry is met, before any below.
            self.chain.push(Level { path: next, choice, listed: choice == Choice::Take });
        }
    }

    fn take(&mut self, part: &Part<'_>, found: PathEntry, window: &mut Window) -> Result<()> {
        let is_directory = found.entry.metadata.kind == Kind::Directory;
        if let Some(filter) = &self.run.options.filter {
            let mut path = Vec::new();
            part.destination(&found.parent, &found.entry.name, &mut path);
            if filter(&part.origin(&path), is_directory) != Choice::Take {
                return Ok(());
            }
            self.list_way(part, window)?;
        }
        if is_directory {
            let mut path = Vec::new();
            part.destination(&found.parent, &found.entry.name, &mut path);
            self.push_directory(window, path, found.entry);
        } else {
            self.push_item(window, found.parent, found.entry, false);
        }
        Ok(())
    }

    /// Lists the directories that were only entered so far, now that something in them is
    /// wanted. Their entries are long past, so they are looked up: rare, and bounded in memory.
    fn list_way(&mut self, part: &Part<'_>, window: &mut Window) -> Result<()> {
        if self.chain.iter().all(|level| level.listed) {
            return Ok(());
        }
        let mut chain = std::mem::take(&mut self.chain);
        for level in chain.iter_mut().filter(|level| !level.listed) {
            level.listed = true;
            let mut path = Vec::new();
            part.destination(&level.path, b"", &mut path);
            match part.tree.lookup(&level.path) {
                Ok(Some(found)) => self.push_directory(window, path, found.entry),
                Ok(None) => {}
                Err(error) if concerns_all(&error) => return Err(error),
                Err(error) => self.run.fail(&part.origin(&path), error),
            }
        }
        self.chain = chain;
        Ok(())
    }

    fn push_directory(&mut self, window: &mut Window, path: Vec<u8>, mut entry: Entry) {
        window.weight += 512 + path.len();
        self.map_owner(&mut entry);
        window.directories.push(Directory::new(self.part as u32, path, entry));
    }

    fn push_item(&mut self, window: &mut Window, parent: Arc<[u8]>, mut entry: Entry, top: bool) {
        window.weight += 512 + entry.name.len() + parent.len();
        window.weight += match &entry.content {
            Content::Inline(bytes) => bytes.len(),
            Content::Chunks(chunks) => 36 * chunks.len(),
            _ => 0,
        };
        self.map_owner(&mut entry);
        let part = self.part as u32;
        let same = window.groups.last().is_some_and(|group| {
            group.part == part && (Arc::ptr_eq(&group.parent, &parent) || group.parent == parent)
        });
        if !same {
            window.groups.push(Group { part, parent, top, fresh: false, blocked: false });
        }
        window.items.push(Item { group: window.groups.len() as u32 - 1, entry });
    }

    fn map_owner(&mut self, entry: &mut Entry) {
        let Some(map) = &self.run.options.owners else { return };
        let owner = &mut entry.metadata.owner;
        let mapped = self.owners.entry(owner.clone());
        *owner = mapped.or_insert_with_key(|owner| Arc::new(map(owner))).clone();
    }
}

/// The owner of an entry that is restored outside of a walk.
pub(super) fn map_owner(run: &Run<'_>, metadata: &mut Metadata) {
    if let Some(map) = &run.options.owners {
        metadata.owner = Arc::new(map(&metadata.owner));
    }
}

/// Whether `path` of the tree is taken by the filter, by way of all directories above it.
pub(super) fn is_taken(run: &Run<'_>, part: &Part<'_>, path: &[u8], is_directory: bool) -> bool {
    let inside = part.start.is_empty() || is_within(path, &part.start);
    if !inside {
        return false;
    }
    let Some(filter) = &run.options.filter else { return true };
    let mut destination = Vec::new();
    let known = part.start.len() + usize::from(!part.start.is_empty());
    let ends = path.iter().enumerate().skip(known).filter(|(_, c)| **c == b'/').map(|(at, _)| at);
    for end in ends {
        part.destination(path.get(..end).unwrap_or_default(), b"", &mut destination);
        if filter(&part.origin(&destination), true) == Choice::Skip {
            return false;
        }
    }
    part.destination(path, b"", &mut destination);
    filter(&part.origin(&destination), is_directory) == Choice::Take
}

/// The tree path of an item.
pub(super) fn tree_path(window: &Window, item: &Item) -> Vec<u8> {
    let parent = window.group(item).map(|group| group.parent.clone()).unwrap_or_default();
    join(&parent, &item.entry.name)
}

/// What is wrong with a part that is not there: cannot happen, and is not worth a panic.
pub(super) fn no_part() -> Error {
    Error::Worker("restore plan".into())
}
