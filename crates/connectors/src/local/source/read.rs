//! Reading files of the source: small ones in one go, others by parts, with their holes.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use holdfast_engine::meta::{Extent, Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallRead, SourceDirectory, SourceEntry, SourceError, SourceErrorKind, SourceFile,
    SourceResult,
};
use rustix::buffer::spare_capacity;
use rustix::fs::{Advice, CWD, FileType, OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use super::{Inner, directory::open_quietly};
use crate::local::metadata::{device, kind, stat_of};
use crate::local::temporary::pread_full;
use crate::local::xattrs::Of;

/// Not blocking: a FIFO put in a file's place must not hold up the backup.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// More extents than this are merged across the smallest holes: a list of millions would cost
/// more than the zeros it saves.
const MOST_EXTENTS: usize = 10_000;

fn is_regular(stat: &Statx) -> bool {
    FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile
}

fn became_another_kind(path: String) -> SourceError {
    SourceError { kind: SourceErrorKind::Changed, operation: "read", path, source: None }
}

impl Inner {
    fn open_entry(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<OwnedFd> {
        let opened = if entry.name.is_empty() {
            open_quietly(CWD, self.root.as_path(), FLAGS)
        } else {
            self.handle(directory).fd().and_then(|fd| {
                let open = || open_quietly(fd.as_fd(), entry.name.as_slice(), FLAGS);
                match open() {
                    // Directories can be opened again later.
                    Err(Errno::MFILE | Errno::NFILE) if self.handles.close_all() => open(),
                    answer => answer,
                }
            })
        };
        // A socket or a device without a driver: no such device or address.
        opened.map_err(|e| match e {
            Errno::NXIO => became_another_kind(self.shown(&directory.path, &entry.name)),
            e => self.error("read", &self.shown(&directory.path, &entry.name), e),
        })
    }

    /// Appends the file's content. One look after reading tells all there is to know: what kind
    /// of file it was, and whether it grew meanwhile.
    pub(super) fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let shown = || self.shown(&directory.path, &entry.name);
        let file = self.open_entry(directory, entry)?;
        let start = into.len();
        let read = self.read_whole(&file, entry.metadata.size, limit, into);
        let stat = read.and_then(|()| stat_of(&file)).map_err(|e| match e {
            // What a directory, a FIFO and the like answer.
            Errno::ISDIR | Errno::AGAIN => became_another_kind(shown()),
            e => self.error("read", &shown(), e),
        });
        let outcome = stat.and_then(|stat| {
            if !is_regular(&stat) || into.len() - start > limit {
                return Err(became_another_kind(shown()));
            }
            let details = self.details_of(&file, device(&stat), shown)?;
            Ok(SmallRead { details, metadata: self.owners.metadata(&stat) })
        });
        if outcome.is_err() {
            into.truncate(start);
        }
        outcome
    }

    fn read_whole(
        &self,
        file: &OwnedFd,
        size: u64,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let start = into.len();
        // One more than there should be: a short read then says that this was all.
        let expected = usize::try_from(size).unwrap_or(usize::MAX).min(limit);
        into.reserve(expected + 1);
        loop {
            let room = into.capacity() - into.len();
            match rustix::io::read(file, spare_capacity(into)) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    let total = into.len() - start;
                    if total > limit || (n < room && total == expected) {
                        return Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
            if into.capacity() == into.len() {
                into.reserve(64 << 10);
            }
        }
    }

    /// Opens a regular file for reading by parts.
    pub(super) fn open_file(
        self: &Arc<Self>,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<LocalFile> {
        let path = self.shown(&directory.path, &entry.name);
        let fd = self.open_entry(directory, entry)?;
        let stat = stat_of(&fd).map_err(|e| self.error("read", &path, e))?;
        if !is_regular(&stat) {
            return Err(became_another_kind(path));
        }
        // A hint; where it means nothing, nothing is lost.
        let _ = rustix::fs::fadvise(&fd, 0, None, Advice::Sequential);
        Ok(LocalFile { inner: Arc::clone(self), fd, path, device: device(&stat) })
    }

    fn details_of(
        &self,
        fd: &OwnedFd,
        device: u64,
        shown: impl Fn() -> String,
    ) -> SourceResult<Details> {
        if self.has_no_xattrs(device) {
            return Ok(Details::default());
        }
        match Of::File(fd.as_fd()).read() {
            Ok(xattrs) => Ok(Details { xattrs, target: Vec::new() }),
            Err(Errno::NOTSUP) => {
                self.remember_no_xattrs(device);
                Ok(Details::default())
            }
            Err(e) => Err(self.error("read attributes of", &shown(), e)),
        }
    }
}

/// A file of the source, open.
#[derive(Debug)]
pub(super) struct LocalFile {
    inner: Arc<Inner>,
    fd: OwnedFd,
    path: String,
    device: u64,
}

impl LocalFile {
    fn error(&self, operation: &'static str, errno: Errno) -> SourceError {
        self.inner.error(operation, &self.path, errno)
    }
}

impl SourceFile for LocalFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        pread_full(self.fd.as_fd(), buffer, offset).map_err(|e| self.error("read", e))
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        match extents(&self.fd) {
            Ok(extents) => Ok(extents),
            // The file system does not know.
            Err(Errno::INVAL | Errno::NOTSUP) => Ok(None),
            Err(e) => Err(self.error("read", e)),
        }
    }

    fn details(&mut self) -> SourceResult<Details> {
        self.inner.details_of(&self.fd, self.device, || self.path.clone())
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        let stat = stat_of(&self.fd).map_err(|e| self.error("stat", e))?;
        if kind(&stat) != Kind::File {
            return Err(became_another_kind(self.path.clone()));
        }
        Ok(self.inner.owners.metadata(&stat))
    }
}

fn extents(file: &OwnedFd) -> Result<Option<Vec<Extent>>, Errno> {
    let mut extents: Vec<Extent> = Vec::new();
    let size = stat_of(file)?.stx_size;
    let mut at = 0;
    while at < size {
        let data = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e),
        };
        let hole = match rustix::fs::seek(file, SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => hole,
            // Cut off meanwhile; what is there now is found when it is read.
            Ok(_) | Err(Errno::NXIO) => break,
            Err(e) => return Err(e),
        };
        extents.push(Extent { offset: data, length: hole - data });
        at = hole;
        // Merged on the way, so that the list never gets long.
        if extents.len() >= 4 * MOST_EXTENTS {
            merge_smallest_holes(&mut extents, MOST_EXTENTS);
        }
    }
    merge_smallest_holes(&mut extents, MOST_EXTENTS);
    let whole = matches!(extents.as_slice(), [one] if one.offset == 0 && one.length >= size);
    Ok((!whole && size > 0).then_some(extents))
}

/// Fills the smallest holes until at most `most` extents are left.
fn merge_smallest_holes(extents: &mut Vec<Extent>, most: usize) {
    let surplus = extents.len().saturating_sub(most);
    if surplus == 0 {
        return;
    }
    let hole = |a: &Extent, b: &Extent| b.offset.saturating_sub(a.offset + a.length);
    let mut holes: Vec<u64> =
        extents.iter().zip(extents.iter().skip(1)).map(|(a, b)| hole(a, b)).collect();
    if surplus > holes.len() {
        return;
    }
    let (_, limit, _) = holes.select_nth_unstable(surplus - 1);
    let limit = *limit;
    let mut left = surplus;
    let mut merged: Vec<Extent> = Vec::with_capacity(most);
    for next in extents.drain(..) {
        match merged.last_mut() {
            Some(last) if left > 0 && hole(last, &next) <= limit => {
                last.length = next.offset + next.length - last.offset;
                left -= 1;
            }
            _ => merged.push(next),
        }
    }
    *extents = merged;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smallest_holes_are_filled() {
        let extent = |offset, length| Extent { offset, length };
        let mut extents = vec![extent(0, 1), extent(2, 1), extent(100, 1), extent(103, 7)];
        merge_smallest_holes(&mut extents, 4);
        assert_eq!(extents.len(), 4);
        merge_smallest_holes(&mut extents, 3);
        assert_eq!(extents, [extent(0, 3), extent(100, 1), extent(103, 7)]);
        merge_smallest_holes(&mut extents, 2);
        assert_eq!(extents, [extent(0, 3), extent(100, 10)]);
        merge_smallest_holes(&mut extents, 1);
        assert_eq!(extents, [extent(0, 110)]);
    }
}
