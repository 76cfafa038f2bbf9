//! Answers to the kernel. What it asks of a snapshot never changes, so that it may keep the answers;
//! the lists of snapshots do.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::{
    Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyXattr, Request,
};
use holdfast_engine::error::chain_text;
use holdfast_engine::meta::{Kind, Xattr};
use holdfast_engine::tree::Entry;
use holdfast_engine::tree::content::read_xattrs;
use holdfast_engine::{Error, Result};

use crate::ahead::Ahead;
use crate::attributes::{attributes, file_type};
use crate::content::OpenFile;
use crate::directory::{FIRST, Give, OpenDirectory};
use crate::inodes::Inodes;
use crate::library::Library;
use crate::node::{Node, ROOT};
use crate::view::Spot;

/// How long the kernel may keep what it was told of something in a snapshot.
const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// The same for what may be another tomorrow: which snapshots there are.
const SHORT: Duration = Duration::from_secs(1);

/// Requests that the kernel may make on its own, reading ahead, before it waits for answers.
const BACKGROUND: u16 = 64;

/// Files of which it is remembered that their damage was told.
const TOLD: usize = 16 << 10;

/// Numbers of `lseek` that the kernel hands on.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The file system.
#[derive(Debug)]
pub(crate) struct HoldfastFs {
    library: Arc<Library>,
    inodes: Inodes,
    ahead: Ahead,
    files: Handles<OpenFile>,
    directories: Handles<OpenDirectory>,
    told: Mutex<HashSet<u64>>,
}

/// What is open, by handle.
#[derive(Debug)]
struct Handles<T> {
    open: Mutex<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Handles<T> {
    fn new() -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, opened: T) -> FileHandle {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, Arc::new(opened));
        FileHandle(number)
    }

    fn get(&self, handle: FileHandle) -> std::result::Result<Arc<T>, Errno> {
        self.lock().get(&handle.0).cloned().ok_or(Errno::EBADF)
    }

    fn close(&self, handle: FileHandle) {
        self.lock().remove(&handle.0);
    }
}

type Answer<T> = std::result::Result<T, Errno>;

impl HoldfastFs {
    /// The file system with `top` at its root.
    pub(crate) fn new(library: Arc<Library>, top: Node) -> std::io::Result<Self> {
        Ok(Self {
            ahead: Ahead::start(&library)?,
            library,
            inodes: Inodes::new(top),
            files: Handles::new(),
            directories: Handles::new(),
            told: Mutex::default(),
        })
    }

    /// What a failure is to the kernel; it is told in words once for each file.
    fn failed(&self, number: u64, name: &str, error: &Error) -> Errno {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= TOLD {
            told.clear();
        }
        if told.insert(number) {
            self.library.tell_unreadable(name, &chain_text(error));
        }
        Errno::EIO
    }

    fn node(&self, number: INodeNo) -> Answer<Node> {
        self.inodes.get(number.0).ok_or(Errno::ESTALE)
    }

    fn try_entry(&self, number: INodeNo, node: &Node) -> Answer<Entry> {
        match node.entry(&self.library) {
            Ok(entry) => entry.ok_or(Errno::ENOENT),
            Err(error) => Err(self.failed(number.0, &node.shown(), &error)),
        }
    }

    fn entry(&self, number: INodeNo) -> Answer<(Node, Entry)> {
        let node = self.node(number)?;
        let entry = self.try_entry(number, &node)?;
        Ok((node, entry))
    }

    /// How long the kernel may keep what it is told of what is in this directory.
    fn lifetime(parent: &Node) -> &'static Duration {
        if matches!(parent, Node::Entry(..)) { &LONG } else { &SHORT }
    }

    fn find(&self, parent: &Node, name: &[u8]) -> Result<Option<(Node, Entry)>> {
        let library = &*self.library;
        match parent {
            Node::Link(..) => Ok(None),
            Node::Shelf(shelf) => {
                let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
                let Some(item) = library.shelves().find(shelf, name) else { return Ok(None) };
                let node = Node::of_item(shelf, name, item);
                Ok(node.entry(library)?.map(|entry| (node, entry)))
            }
            Node::Entry(view, spot) => {
                let Some(child) = view.child(spot, name) else { return Ok(None) };
                let entry = view.entry(library, &child)?;
                Ok(entry.map(|entry| (Node::of_entry(view, child, &entry), entry)))
            }
        }
    }

    fn xattrs(&self, number: INodeNo) -> Answer<Vec<Xattr>> {
        let (node, entry) = self.entry(number)?;
        let Some(id) = &entry.xattrs_blob else { return Ok(entry.xattrs) };
        self.library
            .reading(|reader| read_xattrs(reader, id))
            .map_err(|error| self.failed(number.0, &node.shown(), &error))
    }

    fn open_file(&self, number: INodeNo) -> Answer<FileHandle> {
        let (node, entry) = self.entry(number)?;
        if entry.metadata.kind != Kind::File {
            return Err(Errno::EINVAL);
        }
        if let Node::Entry(view, Spot::Within(root, path)) = &node
            && let Ok(tree) = view.tree(*root)
            && let Ok(Some(cursor)) = self.library.lookup(&tree, path)
        {
            self.ahead.opened(&self.library, &cursor);
        }
        Ok(self.files.add(OpenFile::new(node.shown(), entry)))
    }

    fn read_file(
        &self,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u32,
    ) -> Answer<Vec<u8>> {
        let file = self.files.get(handle)?;
        let read = file.read(&self.library, offset, length as usize);
        let bytes = read.map_err(|error| self.failed(number.0, &file.name, &error))?;
        let end = offset.saturating_add(bytes.len() as u64);
        file.read_on(&self.library, &self.ahead, offset, end);
        Ok(bytes)
    }

    fn open_directory(&self, number: INodeNo) -> Answer<FileHandle> {
        let node = self.node(number)?;
        let opened = OpenDirectory::new(&self.library, &node);
        let opened = opened.map_err(|error| self.failed(number.0, &node.shown(), &error))?;
        Ok(self.directories.add(opened))
    }

    /// Lists a directory from a number on. What was given before something could not be read
    /// counts; the next call comes to the failure.
    fn list(&self, number: INodeNo, handle: FileHandle, from: u64, give: Give<'_>) -> Answer<()> {
        let opened = self.directories.get(handle)?;
        let mut given = false;
        let listed = opened.each(&self.library, from.max(FIRST), &mut |next, name, node, entry| {
            given = true;
            give(next, name, node, entry)
        });
        match listed {
            Err(error) if !given => {
                let name = self.node(number).map_or_else(|_| String::new(), |node| node.shown());
                Err(self.failed(number.0, &name, &error))
            }
            _ => Ok(()),
        }
    }
}

/// The two names that every directory has, for whoever lists it from `offset` on.
fn dots(number: INodeNo, offset: u64) -> impl Iterator<Item = (INodeNo, u64, &'static str)> {
    // The kernel knows better than we what is above.
    let both = [(number, 1, "."), (INodeNo(ROOT), FIRST, "..")];
    both.into_iter().skip(usize::try_from(offset).unwrap_or(usize::MAX))
}

fn send(bytes: &[u8], size: u32, reply: ReplyXattr) {
    match u32::try_from(bytes.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(_) => reply.error(Errno::E2BIG),
    }
}

impl Filesystem for HoldfastFs {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            // An older kernel does without.
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let node = match self.node(parent) {
            Ok(node) => node,
            Err(errno) => return reply.error(errno),
        };
        match self.find(&node, name.as_bytes()) {
            Ok(Some((found, entry))) => {
                let number = self.inodes.remember(found);
                let attributes = attributes(number, &entry);
                reply.entry(Self::lifetime(&node), &attributes, Generation(0));
            }
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(self.failed(parent.0, &node.shown(), &error)),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.inodes.forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.entry(number) {
            Ok((node, entry)) => {
                reply.attr(Self::lifetime(&node), &attributes(number.0, &entry));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.entry(number) {
            Ok((_, entry)) => reply.data(&entry.target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_file(number) {
            Ok(handle) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH;
                reply.opened(handle, flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_file(number, handle, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle);
        reply.ok();
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let file = match self.files.get(handle) {
            Ok(file) => file,
            Err(errno) => return reply.error(errno),
        };
        let found = match (u64::try_from(offset), whence) {
            (Ok(offset), SEEK_DATA | SEEK_HOLE) => file.seek(offset, whence == SEEK_DATA),
            _ => return reply.error(Errno::EINVAL),
        };
        match found.and_then(|found| i64::try_from(found).ok()) {
            Some(found) => reply.offset(found),
            None => reply.error(Errno::ENXIO),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(number) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        for (number, next, name) in dots(number, offset) {
            if reply.add(number, next, FileType::Directory, name) {
                return reply.ok();
            }
        }
        let listed = self.list(number, handle, offset, &mut |next, name, node, entry| {
            let kind = file_type(entry.metadata.kind);
            reply.add(INodeNo(node.number()), next, kind, OsStr::from_bytes(name))
        });
        match listed {
            Err(errno) if offset > 0 => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let parent = match self.entry(number) {
            Ok(parent) => parent,
            Err(errno) => return reply.error(errno),
        };
        let lifetime = Self::lifetime(&parent.0);
        let dot = attributes(number.0, &parent.1);
        for (number, next, name) in dots(number, offset) {
            if reply.add(number, next, name, lifetime, &dot, Generation(0)) {
                return reply.ok();
            }
        }
        let listed = self.list(number, handle, offset, &mut |next, name, node, entry| {
            let known = self.inodes.remember(node);
            let attributes = attributes(known, entry);
            let name = OsStr::from_bytes(name);
            let is_full =
                reply.add(INodeNo(known), next, name, lifetime, &attributes, Generation(0));
            if is_full {
                // The kernel was not told.
                self.inodes.forget(known, 1);
            }
            is_full
        });
        match listed {
            Err(errno) if offset > 0 => reply.error(errno),
            _ => reply.ok(),
        }
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.directories.close(handle);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.xattrs(number) {
            Ok(xattrs) => match xattrs.iter().find(|x| x.name == name.as_bytes()) {
                Some(found) => send(&found.value, size, reply),
                None => reply.error(Errno::ENODATA),
            },
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        match self.xattrs(number) {
            Ok(xattrs) => {
                let names = xattrs.iter().flat_map(|x| x.name.iter().copied().chain([0]));
                send(&names.collect::<Vec<u8>>(), size, reply);
            }
            Err(errno) => reply.error(errno),
        }
    }
}
