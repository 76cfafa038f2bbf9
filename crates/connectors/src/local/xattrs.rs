//! Extended attributes, POSIX ACLs among them, as raw bytes: read by descriptor where one is
//! open, else by the way through `/proc/self/fd`, which follows nothing.

use std::os::fd::{AsRawFd, BorrowedFd};

use holdfast_engine::meta::Xattr;
use rustix::buffer::spare_capacity;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Whose attributes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// Of an open file or directory.
    File(BorrowedFd<'a>),
    /// Of what stands at a path; if that is a symbolic link, of the link.
    Path(&'a [u8]),
}

/// A path to `name` in the open `directory` that no rename above it can lead astray.
pub(super) fn path_in(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Whether an attribute is a POSIX ACL.
pub(super) fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

impl Of<'_> {
    fn list_into(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::File(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Path(path) => rustix::fs::llistxattr(path, buffer),
        }
    }

    fn get_into(self, name: &[u8], buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        match self {
            Self::File(fd) => rustix::fs::fgetxattr(fd, name, spare_capacity(buffer)),
            Self::Path(path) => rustix::fs::lgetxattr(path, name, spare_capacity(buffer)),
        }
    }

    /// The NUL-terminated names.
    fn names(self) -> Result<Vec<u8>, Errno> {
        // Enough for nearly all; most files have none, and then nothing is allocated.
        let mut small = [0; 512];
        match self.list_into(&mut small) {
            Ok(length) => return Ok(small.get(..length).unwrap_or_default().to_vec()),
            Err(Errno::RANGE) => {}
            Err(e) => return Err(e),
        }
        // 64 KiB is the kernel's own limit; some file systems answer ERANGE no matter what.
        let mut buffer = vec![0; 65_536];
        let length = self.list_into(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }

    fn value(self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = Vec::with_capacity(256);
        match self.get_into(name, &mut value) {
            Err(Errno::RANGE) => {}
            answer => return answer.map(|_| value),
        }
        value.reserve_exact(65_536);
        self.get_into(name, &mut value)?;
        value.shrink_to_fit();
        Ok(value)
    }

    /// All attributes sorted by name. `NOTSUP`: the file system has none at all.
    pub(super) fn read(self) -> Result<Vec<Xattr>, Errno> {
        let names = self.names()?;
        let mut xattrs = Vec::new();
        for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
            match self.value(name) {
                Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
                // Removed since it was listed, or listed though it cannot be had (some FUSE).
                Err(Errno::NODATA | Errno::NOTSUP) => {}
                Err(e) => return Err(e),
            }
        }
        xattrs.sort_unstable();
        Ok(xattrs)
    }

    /// Sets one attribute.
    pub(super) fn set(self, xattr: &Xattr) -> Result<(), Errno> {
        let (name, value) = (xattr.name.as_slice(), xattr.value.as_slice());
        match self {
            Self::File(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Path(path) => rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()),
        }
    }

    /// Removes one attribute.
    pub(super) fn remove(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Self::File(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Path(path) => rustix::fs::lremovexattr(path, name),
        }
    }
}
