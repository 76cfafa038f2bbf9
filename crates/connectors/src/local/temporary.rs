//! Temporary files: their names, and putting one in its final place without replacing what may
//! stand there.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// What temporary names in a storage start with. The dot keeps them out of listings.
pub(super) const PREFIX: &str = ".tmp-";

/// A name no other process uses: unique in this process, random between processes and hosts
/// (several may write to one directory through a network file system).
fn fresh_name(prefix: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNTER.fetch_add(1, Ordering::Relaxed));
    hasher.write_u32(std::process::id());
    format!("{prefix}{:016x}", hasher.finish())
}

/// Makes a temporary file in `directory`, its name starting with `prefix`, open for writing.
pub(super) fn create(directory: BorrowedFd<'_>, prefix: &str) -> Result<(OwnedFd, String), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    loop {
        let name = fresh_name(prefix);
        match rustix::fs::openat(directory, &name, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::EXIST) => {}
            other => return other.map(|fd| (fd, name)),
        }
    }
}

/// Moves `from` to `to` unless something stands there (`EXIST`).
pub(super) fn rename_fresh(
    from_directory: BorrowedFd<'_>,
    from: &str,
    to_directory: BorrowedFd<'_>,
    to: &[u8],
) -> Result<(), Errno> {
    match rustix::fs::renameat_with(from_directory, from, to_directory, to, RenameFlags::NOREPLACE)
    {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        answer => return answer,
    }
    match rustix::fs::linkat(from_directory, from, to_directory, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(from_directory, from, AtFlags::empty()),
        // A file system without hard links as well (FAT): a look before the leap is what is left.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) => {
            match rustix::fs::statat(to_directory, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(from_directory, from, to_directory, to),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    }
}

/// Writes all of `bytes` at the file's position.
pub(super) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads into the whole of `buffer` from `offset` as far as the file reaches.
pub(super) fn pread_full(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Errno> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(file, rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
