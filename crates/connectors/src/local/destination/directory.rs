//! Handles of the destination's directories, opened so that no link on the way is followed, and
//! what was learnt of the files made in each.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::locked;

/// Directories held open at once.
const OPEN_DIRECTORIES: usize = 256;

const FLAGS: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a file looks like that was just made in a directory. Mask, default ACLs, a set-group-id
/// bit and mount options have their say in it; the first file of a mode shows it for the others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) asked_mode: u32,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// It inherited an ACL.
    pub(super) acl: bool,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) fd: OwnedFd,
    fresh: Mutex<Vec<Fresh>>,
}

impl Directory {
    fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self { fd, fresh: Mutex::default() })
    }

    /// What files asked for with this mode come out as, found out by `look` at the first of them.
    pub(super) fn fresh(
        &self,
        asked_mode: u32,
        look: impl FnOnce() -> Result<Fresh, Errno>,
    ) -> Result<Fresh, Errno> {
        let known = locked(&self.fresh).iter().find(|f| f.asked_mode == asked_mode).copied();
        if let Some(fresh) = known {
            return Ok(fresh);
        }
        let fresh = look()?;
        locked(&self.fresh).push(fresh);
        Ok(fresh)
    }
}

/// The directories used last.
#[derive(Debug, Default)]
pub(super) struct Directories {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    root: Option<Arc<Directory>>,
    open: HashMap<Vec<u8>, (Arc<Directory>, u64)>,
    clock: u64,
}

impl Directories {
    /// Sets the destination itself, forgetting all handles.
    pub(super) fn set_root(&self, fd: OwnedFd) {
        let mut state = locked(&self.state);
        state.open.clear();
        state.root = Some(Directory::new(fd));
    }

    /// The destination itself, if it is open.
    pub(super) fn root(&self) -> Option<Arc<Directory>> {
        locked(&self.state).root.clone()
    }

    /// The directory at `path` below `root`.
    pub(super) fn get(&self, root: &Directory, path: &[u8]) -> Result<Arc<Directory>, Errno> {
        {
            let mut state = locked(&self.state);
            state.clock += 1;
            let now = state.clock;
            if let Some((directory, used)) = state.open.get_mut(path) {
                *used = now;
                return Ok(Arc::clone(directory));
            }
        }
        let directory = Directory::new(open(&root.fd, path)?);
        let mut state = locked(&self.state);
        if state.open.len() >= OPEN_DIRECTORIES {
            let oldest = state.open.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(path, _)| path.clone()) {
                state.open.remove(&oldest);
            }
        }
        let now = state.clock;
        // Another thread may have been faster; one handle for all keeps what is learnt together.
        let (directory, _) = state.open.entry(path.to_vec()).or_insert((directory, now));
        Ok(Arc::clone(directory))
    }

    /// Forgets a directory that is no more, or of which what was learnt no longer holds.
    pub(super) fn forget(&self, path: &[u8]) {
        let mut state = locked(&self.state);
        state.open.remove(path);
        if path.is_empty()
            && let Some(root) = &state.root
        {
            locked(&root.fresh).clear();
        }
    }
}

/// Opens the directory at `path` below `root`, following no link: `LOOP` or `NOTDIR`.
fn open(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, path, FLAGS, Mode::empty(), resolve) {
        // An old kernel, a sandbox, or a path longer than the kernel takes in one piece.
        Err(Errno::NOSYS | Errno::PERM | Errno::NAMETOOLONG | Errno::AGAIN) => by_names(root, path),
        answer => answer,
    }
}

fn by_names(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut at: Option<OwnedFd> = None;
    for name in path.split(|b| *b == b'/') {
        if matches!(name, b"" | b"." | b"..") {
            return Err(Errno::INVAL);
        }
        let from = at.as_ref().unwrap_or(root);
        at = Some(rustix::fs::openat(from.as_fd(), name, FLAGS, Mode::empty())?);
    }
    at.ok_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_link_is_followed_either_way() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
        let root = rustix::fs::open(scratch.path(), FLAGS, Mode::empty()).unwrap();
        for open in [open, by_names] {
            assert!(open(&root, b"a/b").is_ok());
            assert!(open(&root, b"link").is_err());
            assert!(open(&root, b"link/b").is_err());
            assert!(open(&root, b"../x").is_err());
            assert_eq!(open(&root, b"a/c").unwrap_err(), Errno::NOENT);
        }
    }
}
