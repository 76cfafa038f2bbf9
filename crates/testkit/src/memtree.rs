//! Trees in memory: a model with all metadata that tests build, change and compare, that is read
//! through [`MemorySource`] and written through [`MemoryDestination`]. Paths are relative, names
//! joined by `/`, the empty path is the root, as in the engine's contracts. Inodes have numbers,
//! and hard links are several names of one number, so that nothing about links is special.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_engine::meta::{Extent, Kind, Metadata, Owner, Time, Xattr};

use crate::clock::START;
use crate::compare::{CompareOptions, Listing};
use crate::show;

mod destination;
mod generate;
mod source;
mod write;

pub use destination::MemoryDestination;
pub use source::{MemorySource, Trouble};
pub use write::{Omitted, acl_for_mode};

/// Number of the root's inode.
const ROOT: u64 = 2;

/// An inode.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Metadata. Inode number, links and size are kept right by the tree.
    pub metadata: Metadata,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Content of a regular file, holes as zeros.
    pub content: Arc<Vec<u8>>,
    /// Where a sparse file has data; `None` for a file without holes.
    pub extents: Option<Vec<Extent>>,
    children: BTreeMap<Vec<u8>, u64>,
}

impl Node {
    fn new(kind: Kind) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink => 0o777,
            _ => 0o644,
        };
        let owner = Owner { uid: 1000, gid: 1000, user: "alice".into(), group: "alice".into() };
        let metadata = Metadata { kind, mode, owner: Arc::new(owner), ..Metadata::default() };
        Self { metadata, ..Self::default() }
    }

    /// Bytes that the content occupies: all but the holes.
    pub fn allocated(&self) -> u64 {
        match &self.extents {
            Some(extents) => extents.iter().map(|extent| extent.length).sum(),
            None => self.content.len() as u64,
        }
    }
}

/// A tree in memory. Cloning is cheap: contents are shared.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    inodes: BTreeMap<u64, Node>,
    next_inode: u64,
    now: Time,
    troubles: BTreeMap<Vec<u8>, Trouble>,
}

impl Default for MemoryTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTree {
    /// A tree of an empty directory.
    pub fn new() -> Self {
        Self::with_root(Node::new(Kind::Directory))
    }

    /// A tree that is a single file.
    pub fn single_file(content: &[u8]) -> Self {
        let mut tree = Self::with_root(Node::new(Kind::File));
        tree.set_content(b"", content.to_vec());
        tree
    }

    fn with_root(root: Node) -> Self {
        let mut tree = Self {
            inodes: BTreeMap::new(),
            next_inode: ROOT,
            now: START,
            troubles: BTreeMap::new(),
        };
        tree.add_inode(root);
        tree
    }

    /// The time of the last change; every change is a little later than the one before.
    pub fn now(&self) -> Time {
        self.now
    }

    fn tick(&mut self) -> Time {
        self.now = Time::from_total_nanos(self.now.total_nanos() + 1_000_003);
        self.now
    }

    fn add_inode(&mut self, mut node: Node) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        let now = self.tick();
        node.metadata.inode = number;
        node.metadata.links = if node.metadata.kind == Kind::Directory { 2 } else { 1 };
        node.metadata.mtime = now;
        node.metadata.ctime = Some(now);
        self.inodes.insert(number, node);
        number
    }

    fn number(&self, path: &[u8]) -> Option<u64> {
        let mut at = ROOT;
        for name in path.split(|c| *c == b'/').filter(|_| !path.is_empty()) {
            at = *self.inodes.get(&at)?.children.get(name)?;
        }
        Some(at)
    }

    /// What stands at `path`.
    pub fn node(&self, path: impl AsRef<[u8]>) -> Option<&Node> {
        self.inodes.get(&self.number(path.as_ref())?)
    }

    /// What stands at `path`, to be changed; its ctime moves. Panics if nothing does.
    pub fn node_mut(&mut self, path: impl AsRef<[u8]>) -> &mut Node {
        let path = path.as_ref();
        let now = self.tick();
        let number = self.number(path).unwrap_or_else(|| panic!("no {}", show(path)));
        let node = self.inodes.get_mut(&number).expect("names lead to inodes");
        node.metadata.ctime = Some(now);
        node
    }

    /// The content of a regular file. Panics if there is none.
    pub fn content(&self, path: impl AsRef<[u8]>) -> &[u8] {
        let path = path.as_ref();
        let node = self.node(path).unwrap_or_else(|| panic!("no {}", show(path)));
        assert_eq!(node.metadata.kind, Kind::File, "{}", show(path));
        &node.content
    }

    /// Every path but the root's, parents first.
    pub fn paths(&self) -> Vec<Vec<u8>> {
        let mut paths = Vec::new();
        self.collect(ROOT, &[], &mut paths);
        paths
    }

    fn collect(&self, number: u64, path: &[u8], into: &mut Vec<Vec<u8>>) {
        for (name, child) in &self.inodes[&number].children {
            let path = join(path, name);
            into.push(path.clone());
            self.collect(*child, &path, into);
        }
    }

    /// Paths of one kind, the root's not among them.
    pub fn paths_of(&self, kind: Kind) -> Vec<Vec<u8>> {
        let is = |path: &Vec<u8>| self.node(path).is_some_and(|n| n.metadata.kind == kind);
        self.paths().into_iter().filter(is).collect()
    }

    fn touch_directory(&mut self, number: u64) {
        let now = self.tick();
        let directory = self.inodes.get_mut(&number).expect("a directory");
        directory.metadata.mtime = now;
        directory.metadata.ctime = Some(now);
        let subdirectories = self.inodes[&number]
            .children
            .values()
            .filter(|child| self.inodes[child].metadata.kind == Kind::Directory)
            .count();
        self.inodes.get_mut(&number).expect("a directory").metadata.links =
            2 + subdirectories as u32;
    }

    /// Number of the parent directory, made with its parents if need be, and the last name.
    fn make_parent(&mut self, path: &[u8]) -> (u64, Vec<u8>) {
        assert!(!path.is_empty(), "the root stands already");
        let (parent, name) = split(path);
        assert!(!name.is_empty() && name != b"." && name != b"..", "bad path {}", show(path));
        let number = match self.number(parent) {
            Some(number) => number,
            None => self.place(parent, Node::new(Kind::Directory)),
        };
        let kind = self.inodes[&number].metadata.kind;
        assert_eq!(kind, Kind::Directory, "{} is no directory", show(parent));
        (number, name.to_vec())
    }

    /// Puts a new inode at `path`, making parents. Panics if the place is taken.
    fn place(&mut self, path: &[u8], node: Node) -> u64 {
        let (parent, name) = self.make_parent(path);
        let number = self.add_inode(node);
        self.link(parent, name, number, path);
        number
    }

    fn link(&mut self, parent: u64, name: Vec<u8>, number: u64, path: &[u8]) {
        let children = &mut self.inodes.get_mut(&parent).expect("a directory").children;
        assert!(children.insert(name, number).is_none(), "{} is taken", show(path));
        self.touch_directory(parent);
    }

    /// Makes a directory. Like all that follow: parents are made if need be, and a taken place or
    /// a parent that is no directory panics.
    pub fn directory(&mut self, path: impl AsRef<[u8]>) -> &mut Self {
        self.place(path.as_ref(), Node::new(Kind::Directory));
        self
    }

    /// Makes a regular file.
    pub fn file(&mut self, path: impl AsRef<[u8]>, content: impl Into<Vec<u8>>) -> &mut Self {
        self.place(path.as_ref(), Node::new(Kind::File));
        self.set_content(path.as_ref(), content.into());
        self
    }

    /// Makes a sparse file: data at the given offsets, holes elsewhere.
    pub fn sparse_file(
        &mut self,
        path: impl AsRef<[u8]>,
        size: usize,
        data: &[(usize, Vec<u8>)],
    ) -> &mut Self {
        let mut content = vec![0; size];
        let mut extents = Vec::new();
        for (offset, bytes) in data {
            content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            extents.push(Extent { offset: *offset as u64, length: bytes.len() as u64 });
        }
        self.file(path.as_ref(), content);
        self.node_mut(path).extents = Some(extents);
        self
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> &mut Self {
        let mut node = Node::new(Kind::Symlink);
        node.target = target.as_ref().to_vec();
        node.metadata.size = node.target.len() as u64;
        self.place(path.as_ref(), node);
        self
    }

    /// Makes a device, FIFO or socket.
    pub fn special(
        &mut self,
        path: impl AsRef<[u8]>,
        kind: Kind,
        device: Option<(u32, u32)>,
    ) -> &mut Self {
        let mut node = Node::new(kind);
        node.metadata.device = device;
        self.place(path.as_ref(), node);
        self
    }

    /// Makes another name for what stands at `existing`, which must not be a directory.
    pub fn hard_link(&mut self, path: impl AsRef<[u8]>, existing: impl AsRef<[u8]>) -> &mut Self {
        let path = path.as_ref();
        let node = self.node_mut(existing);
        assert_ne!(node.metadata.kind, Kind::Directory, "hard link to a directory");
        node.metadata.links += 1;
        let number = node.metadata.inode;
        let (parent, name) = self.make_parent(path);
        self.link(parent, name, number, path);
        self
    }

    /// Replaces the content of a regular file; mtime and ctime move, holes are gone.
    pub fn set_content(&mut self, path: impl AsRef<[u8]>, content: Vec<u8>) -> &mut Self {
        let node = self.node_mut(path);
        assert_eq!(node.metadata.kind, Kind::File);
        node.metadata.size = content.len() as u64;
        node.metadata.mtime = node.metadata.ctime.unwrap_or_default();
        node.content = Arc::new(content);
        node.extents = None;
        self
    }

    /// Removes what stands at `path` with all below it. Panics if nothing does.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) -> &mut Self {
        let path = path.as_ref();
        let (parent, name) = split(path);
        let parent = self.number(parent).unwrap_or_else(|| panic!("no {}", show(path)));
        let children = &mut self.inodes.get_mut(&parent).expect("a directory").children;
        let number = children.remove(name).unwrap_or_else(|| panic!("no {}", show(path)));
        self.touch_directory(parent);
        self.unlink(number);
        self
    }

    fn unlink(&mut self, number: u64) {
        let now = self.tick();
        let node = self.inodes.get_mut(&number).expect("names lead to inodes");
        node.metadata.ctime = Some(now);
        if node.metadata.kind != Kind::Directory && node.metadata.links > 1 {
            node.metadata.links -= 1;
            return;
        }
        let node = self.inodes.remove(&number).expect("just seen");
        for child in node.children.into_values() {
            self.unlink(child);
        }
    }

    /// Gives what stands at `from` the name `to`, which must be free and not below `from`.
    pub fn rename(&mut self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) -> &mut Self {
        let (from, to) = (from.as_ref(), to.as_ref());
        assert!(!to.starts_with(&join(from, b"")), "{} is below {}", show(to), show(from));
        assert!(self.node(to).is_none(), "{} is taken", show(to));
        let number = self.node_mut(from).metadata.inode;
        let (to_parent, to_name) = self.make_parent(to);
        let (from_parent, from_name) = split(from);
        let from_parent = self.number(from_parent).expect("a parent");
        self.inodes.get_mut(&from_parent).expect("a parent").children.remove(from_name);
        self.touch_directory(from_parent);
        self.link(to_parent, to_name, number, to);
        self
    }

    /// Lets sources of this tree (and of its clones from now on) meet trouble at `path`.
    pub fn trouble(&mut self, path: impl AsRef<[u8]>, trouble: Trouble) -> &mut Self {
        self.troubles.insert(path.as_ref().to_vec(), trouble);
        self
    }

    /// Lifts all troubles.
    pub fn clear_troubles(&mut self) -> &mut Self {
        self.troubles.clear();
        self
    }

    /// A source of the tree as it is now. Later changes of the tree do not reach it.
    pub fn source(&self) -> MemorySource {
        MemorySource::new(self.clone())
    }

    /// Differences to another tree, one a line, none if they are the same.
    pub fn differences(&self, other: &Self, options: &CompareOptions) -> Vec<String> {
        Listing::of_memory(self).differences(&Listing::of_memory(other), options)
    }

    /// Panics with all differences if the trees are not the same.
    pub fn assert_same(&self, other: &Self, options: &CompareOptions) {
        Listing::of_memory(self).assert_same(&Listing::of_memory(other), options);
    }
}

/// `directory/name`, or `name` at the root.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// The parent directory and the last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests;
