//! A file being restored in parts: under a temporary name beside its place until it is finished.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use holdfast_engine::destination::{Attributes, DestinationFile, DestinationResult, Unset};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::attributes::Target;
use super::directory::Directory;
use super::{Inner, TEMPORARY};
use crate::local::temporary;
use crate::locked;

/// A file that has no name of its own yet.
pub(super) struct LocalFile {
    pub(super) inner: Arc<Inner>,
    pub(super) directory: Arc<Directory>,
    pub(super) path: Vec<u8>,
    pub(super) file: OwnedFd,
    /// Held while a thread writes.
    turn: Mutex<()>,
    /// `None` once it has its name.
    pub(super) temporary: Option<String>,
    pub(super) replace: bool,
}

impl LocalFile {
    /// Makes the temporary file for `path`, which lies in `directory`.
    pub(super) fn create(
        inner: &Arc<Inner>,
        directory: Arc<Directory>,
        path: &[u8],
        replace: bool,
    ) -> Result<Self, Errno> {
        let (file, temporary) = temporary::create(directory.fd.as_fd(), TEMPORARY)?;
        Ok(Self {
            inner: Arc::clone(inner),
            directory,
            path: path.to_vec(),
            file,
            turn: Mutex::new(()),
            temporary: Some(temporary),
            replace,
        })
    }

    fn place(&mut self, attributes: Attributes<'_>) -> Result<Unset, Errno> {
        let file = self.file.as_fd();
        let present = Inner::fresh(&self.directory, file, 0o600)?;
        let unset = self.inner.set(Target::File(file), present, attributes)?;
        let (at, name) = (self.directory.fd.as_fd(), super::name_of(&self.path));
        let temporary = self.temporary.as_deref().unwrap_or_default();
        if self.replace {
            rustix::fs::renameat(at, temporary, at, name)?;
        } else {
            temporary::rename_fresh(at, temporary, at, name)?;
        }
        self.temporary = None;
        Ok(unset)
    }
}

impl DestinationFile for LocalFile {
    fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> DestinationResult<()> {
        // The kernel lets one thread at a time write to a file, and the others spin meanwhile: here they
        // sleep, and leave the processor to those who decode.
        let _turn = locked(&self.turn);
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(0) => return Err(self.inner.error("write", &self.path, Errno::IO)),
                Ok(n) => {
                    bytes = bytes.get(n..).unwrap_or_default();
                    offset += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.inner.error("write", &self.path, e)),
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, attributes: Attributes<'_>) -> DestinationResult<Unset> {
        self.place(attributes).map_err(|e| self.inner.error("create", &self.path, e))
    }
}

impl Drop for LocalFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.directory.fd, temporary, AtFlags::empty());
        }
    }
}
