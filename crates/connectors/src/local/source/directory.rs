//! Handles of the directories being walked. However deep or wide a tree is, only so many are open
//! at once: the oldest is closed, and opened again name by name from the nearest one above that
//! is still open, never following a link.

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::locked;

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Opens without leaving a trace in the access time, where we may.
pub(super) fn open_quietly<P: rustix::path::Arg + Copy>(
    at: BorrowedFd<'_>,
    path: P,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(at, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner and root may ask for that.
        Err(Errno::PERM) => rustix::fs::openat(at, path, flags, Mode::empty()),
        answer => answer,
    }
}

/// The directories that are open, oldest first.
#[derive(Debug)]
pub(super) struct Handles {
    root: PathBuf,
    limit: usize,
    open: Mutex<VecDeque<Weak<Directory>>>,
}

impl Handles {
    pub(super) fn new(root: &Path, limit: usize) -> Arc<Self> {
        Arc::new(Self { root: root.into(), limit: limit.max(2), open: Mutex::default() })
    }

    /// The root's directory, not opened yet.
    pub(super) fn root(self: &Arc<Self>) -> Arc<Directory> {
        Arc::new(Directory {
            handles: Arc::clone(self),
            parent: None,
            name: Vec::new(),
            fd: Mutex::new(None),
        })
    }

    /// The directory at a path relative to the root, not opened yet.
    pub(super) fn at(self: &Arc<Self>, path: &[u8]) -> Arc<Directory> {
        let names = path.split(|b| *b == b'/').filter(|name| !name.is_empty());
        names.fold(self.root(), |parent, name| parent.child(name))
    }

    fn remember(&self, directory: &Arc<Directory>) {
        let surplus = {
            let mut open = locked(&self.open);
            open.push_back(Arc::downgrade(directory));
            if open.len() > self.limit { open.pop_front() } else { None }
        };
        if let Some(oldest) = surplus.and_then(|d| d.upgrade()) {
            oldest.close();
        }
    }

    /// Closes all that can be opened again. True if there was anything.
    pub(super) fn close_all(&self) -> bool {
        let open = std::mem::take(&mut *locked(&self.open));
        let closed = open.iter().filter_map(Weak::upgrade).filter(|d| d.close()).count();
        closed > 0
    }

    fn open(&self, at: Option<&OwnedFd>, name: &[u8]) -> Result<OwnedFd, Errno> {
        use std::os::fd::AsFd;
        let open = || match at {
            Some(fd) => open_quietly(fd.as_fd(), name, FLAGS),
            None => open_quietly(CWD, self.root.as_path(), FLAGS),
        };
        match open() {
            Err(Errno::MFILE | Errno::NFILE) if self.close_all() => open(),
            answer => answer,
        }
    }
}

/// A directory of the source, open or not.
#[derive(Debug)]
pub(super) struct Directory {
    handles: Arc<Handles>,
    parent: Option<Arc<Self>>,
    name: Vec<u8>,
    fd: Mutex<Option<Arc<OwnedFd>>>,
}

impl Directory {
    /// A directory in this one, not opened yet.
    pub(super) fn child(self: &Arc<Self>, name: &[u8]) -> Arc<Self> {
        Arc::new(Self {
            handles: Arc::clone(&self.handles),
            parent: Some(Arc::clone(self)),
            name: name.to_vec(),
            fd: Mutex::new(None),
        })
    }

    /// Its handle, opened now if need be.
    pub(super) fn fd(self: &Arc<Self>) -> Result<Arc<OwnedFd>, Errno> {
        let mut closed = Vec::new();
        let mut at = self;
        let mut fd = loop {
            if let Some(fd) = &*locked(&at.fd) {
                break Some(Arc::clone(fd));
            }
            closed.push(at);
            match &at.parent {
                Some(parent) => at = parent,
                None => break None,
            }
        };
        // Those on the way are kept as well: what comes next likely lies beside or above.
        while let Some(directory) = closed.pop() {
            let opened = Arc::new(self.handles.open(fd.as_deref(), &directory.name)?);
            *locked(&directory.fd) = Some(Arc::clone(&opened));
            self.handles.remember(directory);
            fd = Some(opened);
        }
        fd.ok_or(Errno::BADF)
    }

    fn close(&self) -> bool {
        locked(&self.fd).take().is_some()
    }
}

impl Drop for Directory {
    /// Not by recursion: a tree may be deeper than our stack.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(mut directory) = next.and_then(Arc::into_inner) {
            next = directory.parent.take();
        }
    }
}
