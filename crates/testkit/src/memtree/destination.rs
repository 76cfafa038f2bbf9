//! A tree in memory as a destination. It behaves as a file system does where that matters to a
//! restore: work in a directory moves its mtime, replacing breaks hard links, links are not
//! followed. Paths can be told to refuse, and attributes to be beyond what can be set.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};

use holdfast_engine::destination::{
    Attributes, Destination, DestinationError, DestinationErrorKind, DestinationFile,
    DestinationResult, Unset,
};
use holdfast_engine::meta::{Extent, Kind, Metadata, Xattr};

use super::{MemoryTree, Node, ROOT};
use crate::{lock, show};

use DestinationErrorKind as E;

struct State {
    tree: MemoryTree,
    prepared: bool,
    refusals: BTreeMap<Vec<u8>, DestinationErrorKind>,
    specials: bool,
    links: Option<DestinationErrorKind>,
    unset: Unset,
    free: Option<u64>,
    writes: usize,
}

/// A destination in memory. Clones share the tree.
#[derive(Clone)]
pub struct MemoryDestination(Arc<Mutex<State>>);

impl fmt::Debug for MemoryDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDestination")
    }
}

impl Default for MemoryDestination {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDestination {
    /// A destination that is not there before `prepare`.
    pub fn new() -> Self {
        Self::with(MemoryTree::new(), false)
    }

    /// A destination that holds a tree already.
    pub fn over(tree: MemoryTree) -> Self {
        Self::with(tree, true)
    }

    fn with(tree: MemoryTree, prepared: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            tree,
            prepared,
            refusals: BTreeMap::new(),
            specials: true,
            links: None,
            unset: Unset::default(),
            free: None,
            writes: 0,
        })))
    }

    /// Lets everything that would change what stands at `path` fail.
    pub fn refuse(&self, path: impl AsRef<[u8]>, kind: DestinationErrorKind) {
        lock(&self.0).refusals.insert(path.as_ref().to_vec(), kind);
    }

    /// Makes this a place where there can be no devices, FIFOs or sockets.
    pub fn refuse_specials(&self) {
        lock(&self.0).specials = false;
    }

    /// Lets hard links fail.
    pub fn refuse_links(&self, kind: DestinationErrorKind) {
        lock(&self.0).links = Some(kind);
    }

    /// Declares attributes that cannot be set here: they are left as they are, and reported.
    pub fn set_unset(&self, unset: Unset) {
        lock(&self.0).unset = unset;
    }

    /// What `free_space` answers. Writes do not count against it.
    pub fn set_free_space(&self, free: Option<u64>) {
        lock(&self.0).free = free;
    }

    /// How many changes were made so far, attributes included.
    pub fn changes(&self) -> usize {
        lock(&self.0).writes
    }

    /// A copy of what stands there.
    pub fn tree(&self) -> MemoryTree {
        lock(&self.0).tree.clone()
    }

    /// What stands there.
    pub fn into_tree(self) -> MemoryTree {
        self.tree()
    }
}

fn error(kind: DestinationErrorKind, operation: &'static str, path: &[u8]) -> DestinationError {
    DestinationError { kind, operation, path: show(path), source: None }
}

impl State {
    /// Fails if a path leads through something that is no directory, or if there is none yet.
    fn look(&self, what: &'static str, path: &[u8]) -> DestinationResult<Option<&Node>> {
        check(path);
        if !self.prepared {
            return if path.is_empty() { Ok(None) } else { Err(error(E::NotFound, what, path)) };
        }
        let parents = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(i, _)| i);
        for parent in std::iter::once(0).filter(|_| !path.is_empty()).chain(parents) {
            match self.tree.node(&path[..parent]) {
                None => return Err(error(E::NotFound, what, path)),
                Some(node) if node.metadata.kind != Kind::Directory => {
                    // ENOTDIR, or ELOOP for a link.
                    return Err(error(E::Io, what, path));
                }
                Some(_) => {}
            }
        }
        Ok(self.tree.node(path))
    }

    fn existing(&self, what: &'static str, path: &[u8]) -> DestinationResult<&Node> {
        self.look(what, path)?.ok_or_else(|| error(E::NotFound, what, path))
    }

    /// Before every change: refusals, and the count.
    fn change(&mut self, what: &'static str, path: &[u8]) -> DestinationResult<()> {
        self.look(what, path)?;
        if let Some(kind) = self.refusals.get(path) {
            return Err(error(*kind, what, path));
        }
        self.writes += 1;
        Ok(())
    }

    /// Makes room for a new entry: fails or, with `replace`, removes a non-directory.
    fn clear(&mut self, what: &'static str, path: &[u8], replace: bool) -> DestinationResult<()> {
        match self.look(what, path)? {
            None if path.is_empty() => Err(error(E::NotFound, what, path)),
            None => Ok(()),
            Some(node) if replace && node.metadata.kind != Kind::Directory && !path.is_empty() => {
                self.tree.remove(path);
                Ok(())
            }
            Some(_) => Err(error(E::AlreadyExists, what, path)),
        }
    }

    fn place(&mut self, path: &[u8], node: Node, attributes: Option<Attributes<'_>>) -> Unset {
        self.tree.place(path, node);
        attributes.map(|a| self.set(path, a)).unwrap_or_default()
    }

    /// Sets what can be set and says what was asked for and cannot be.
    fn set(&mut self, path: &[u8], attributes: Attributes<'_>) -> Unset {
        let cannot = self.unset;
        let wanted = attributes.metadata;
        let metadata = &mut self.tree.node_mut(path).metadata;
        let mut unset = Unset::default();
        if !cannot.owner {
            metadata.owner = Arc::clone(&wanted.owner);
        } else {
            unset.owner = metadata.owner != wanted.owner;
        }
        if !cannot.mode {
            metadata.mode = wanted.mode & 0o7777;
        } else {
            unset.mode = metadata.mode != wanted.mode;
        }
        if !cannot.times {
            metadata.mtime = wanted.mtime;
        } else {
            unset.times = true;
        }
        let is_acl = |xattr: &Xattr| xattr.name.starts_with(b"system.posix_acl_");
        let may = |xattr: &&Xattr| if is_acl(xattr) { !cannot.acls } else { !cannot.xattrs };
        unset.acls = cannot.acls && attributes.xattrs.iter().any(is_acl);
        unset.xattrs = cannot.xattrs && attributes.xattrs.iter().any(|x| !is_acl(x));
        let mut xattrs: Vec<Xattr> = attributes.xattrs.iter().filter(may).cloned().collect();
        xattrs.sort();
        self.tree.node_mut(path).xattrs = xattrs;
        unset
    }
}

/// The caller promised to hand over no such path; a test that sees one must not go on.
fn check(path: &[u8]) {
    let bad = |name: &[u8]| name.is_empty() || name == b"." || name == b".." || name.contains(&0);
    let any = !path.is_empty() && path.split(|c| *c == b'/').any(bad);
    assert!(!any, "a path that no caller may hand over: {}", show(path));
}

impl Destination for MemoryDestination {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn prepare(&self) -> DestinationResult<()> {
        let mut state = lock(&self.0);
        if state.tree.inodes[&ROOT].metadata.kind != Kind::Directory {
            return Err(error(E::AlreadyExists, "create", b""));
        }
        state.prepared = true;
        Ok(())
    }

    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>> {
        let state = lock(&self.0);
        match state.look("stat", path) {
            Ok(node) => Ok(node.map(|n| n.metadata.clone())),
            Err(error) if error.kind == E::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>> {
        let state = lock(&self.0);
        let node = state.existing("list", path)?;
        if node.metadata.kind != Kind::Directory {
            return Err(error(E::Io, "list", path));
        }
        // Backwards: file systems promise no order.
        Ok(node.children.keys().rev().cloned().collect())
    }

    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool> {
        let mut state = lock(&self.0);
        match state.look("create", path)? {
            Some(node) if node.metadata.kind == Kind::Directory => return Ok(false),
            Some(_) => return Err(error(E::AlreadyExists, "create", path)),
            None => {}
        }
        state.change("create", path)?;
        state.clear("create", path, false)?;
        let mut node = Node::new(Kind::Directory);
        node.metadata.mode = 0o700;
        state.place(path, node, None);
        Ok(true)
    }

    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset> {
        let mut state = lock(&self.0);
        state.change("write", path)?;
        state.clear("write", path, replace)?;
        let mut node = Node::new(Kind::File);
        node.metadata.size = content.len() as u64;
        node.content = Arc::new(content.to_vec());
        Ok(state.place(path, node, Some(attributes)))
    }

    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>> {
        let mut state = lock(&self.0);
        state.change("create", path)?;
        match state.look("create", path)? {
            Some(node) if !replace || node.metadata.kind == Kind::Directory => {
                return Err(error(E::AlreadyExists, "create", path));
            }
            _ => {}
        }
        Ok(Box::new(MemoryFile {
            destination: self.clone(),
            path: path.to_vec(),
            replace,
            written: Mutex::new((vec![0; size as usize], Vec::new())),
        }))
    }

    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn Read + Send>> {
        let state = lock(&self.0);
        let node = state.existing("read", path)?;
        if node.metadata.kind != Kind::File {
            return Err(error(E::Io, "read", path));
        }
        Ok(Box::new(Cursor::new(node.content.to_vec())))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset> {
        let mut state = lock(&self.0);
        state.change("create", path)?;
        state.clear("create", path, false)?;
        let mut node = Node::new(Kind::Symlink);
        node.metadata.size = target.len() as u64;
        node.target = target.to_vec();
        Ok(state.place(path, node, Some(attributes)))
    }

    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>> {
        Ok(lock(&self.0).existing("read", path)?.target.clone())
    }

    fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> DestinationResult<()> {
        let mut state = lock(&self.0);
        if state.existing("link", existing)?.metadata.kind == Kind::Directory {
            return Err(error(E::PermissionDenied, "link", path));
        }
        if let Some(kind) = state.links {
            return Err(error(kind, "link", path));
        }
        state.change("link", path)?;
        state.clear("link", path, false)?;
        state.tree.hard_link(path, existing);
        Ok(())
    }

    fn make_special(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let mut state = lock(&self.0);
        let kind = attributes.metadata.kind;
        if !state.specials || matches!(kind, Kind::File | Kind::Directory | Kind::Symlink) {
            return Err(error(E::Unsupported, "create", path));
        }
        state.change("create", path)?;
        state.clear("create", path, false)?;
        let mut node = Node::new(kind);
        node.metadata.device = attributes.metadata.device;
        Ok(state.place(path, node, Some(attributes)))
    }

    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let mut state = lock(&self.0);
        state.existing("set attributes of", path)?;
        state.change("set attributes of", path)?;
        Ok(state.set(path, attributes))
    }

    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>> {
        Ok(lock(&self.0).existing("read attributes of", path)?.xattrs.clone())
    }

    fn remove(&self, path: &[u8]) -> DestinationResult<()> {
        let mut state = lock(&self.0);
        let node = state.existing("remove", path)?;
        if !node.children.is_empty() || path.is_empty() {
            return Err(error(E::AlreadyExists, "remove", path));
        }
        state.change("remove", path)?;
        state.tree.remove(path);
        Ok(())
    }

    fn free_space(&self) -> DestinationResult<Option<u64>> {
        Ok(lock(&self.0).free)
    }
}

struct MemoryFile {
    destination: MemoryDestination,
    path: Vec<u8>,
    replace: bool,
    // Content, and the extents written, in the order of writing.
    written: Mutex<(Vec<u8>, Vec<Extent>)>,
}

impl DestinationFile for MemoryFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DestinationResult<()> {
        lock(&self.destination.0).change("write", &self.path)?;
        let mut written = lock(&self.written);
        let start = offset as usize;
        let place = start.checked_add(bytes.len()).and_then(|end| written.0.get_mut(start..end));
        // Writing past the announced size is a mistake of the caller.
        let place = place.ok_or_else(|| error(E::Io, "write", &self.path))?;
        place.copy_from_slice(bytes);
        written.1.push(Extent { offset, length: bytes.len() as u64 });
        Ok(())
    }

    fn finish(self: Box<Self>, attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let Self { destination, path, replace, written } = *self;
        let (content, extents) = std::mem::take(&mut *lock(&written));
        let mut state = lock(&destination.0);
        state.change("write", &path)?;
        state.clear("write", &path, replace)?;
        let mut node = Node::new(Kind::File);
        node.metadata.size = content.len() as u64;
        let extents = merge(extents);
        let full = [Extent { offset: 0, length: content.len() as u64 }];
        let has_holes = !content.is_empty() && extents != full;
        let mut unset = Unset::default();
        if has_holes && !state.unset.sparse {
            node.extents = Some(extents);
        }
        unset.sparse = has_holes && state.unset.sparse;
        node.content = Arc::new(content);
        unset.merge(state.place(&path, node, Some(attributes)));
        Ok(unset)
    }
}

/// Sorted extents without overlap, neighbours joined.
fn merge(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_by_key(|extent| extent.offset);
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents.into_iter().filter(|extent| extent.length > 0) {
        let end = extent.offset + extent.length;
        match merged.last_mut() {
            Some(last) if last.offset + last.length >= extent.offset => {
                last.length = last.length.max(end - last.offset);
            }
            _ => merged.push(extent),
        }
    }
    merged
}
