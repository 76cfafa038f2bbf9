//! Entries as the kernel wants to hear of them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo};
use holdfast_engine::meta::{Kind, Time};
use holdfast_engine::tree::Entry;

/// What programs are advised to read at once.
const BLOCK: u32 = 128 << 10;

pub(crate) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
    }
}

/// All that `stat` tells. Access times are not recorded: they are the modification's.
pub(crate) fn attributes(number: u64, entry: &Entry) -> FileAttr {
    let metadata = &entry.metadata;
    let mtime = system_time(metadata.mtime);
    let is_directory = metadata.kind == Kind::Directory;
    let size = match metadata.kind {
        Kind::Symlink => entry.target.len() as u64,
        _ => metadata.size,
    };
    let stored = match entry.extents.is_empty() {
        true => size,
        false => entry.extents.iter().map(|extent| extent.length).sum(),
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        // Fewer than the size needs tell that there are holes.
        blocks: stored.div_ceil(512),
        atime: mtime,
        mtime,
        ctime: metadata.ctime.map_or(mtime, system_time),
        crtime: mtime,
        kind: file_type(metadata.kind),
        perm: u16::try_from(metadata.mode & 0o7777).unwrap_or(0),
        // How many directories are in a directory is not recorded; 1 says so.
        nlink: if is_directory { 1 } else { metadata.links.max(1) },
        uid: metadata.owner.uid,
        gid: metadata.owner.gid,
        rdev: metadata.device.map_or(0, |(major, minor)| device(major, minor)),
        blksize: BLOCK,
        flags: 0,
    }
}

/// A device number in the kernel's 32 bits.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = match time.seconds < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into())))
        .unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use holdfast_engine::meta::{Extent, Metadata};

    use super::*;

    #[test]
    fn times_before_1970_and_device_numbers_and_holes() {
        let time = |seconds, nanos| system_time(Time { seconds, nanos });
        assert_eq!(time(-1, 250_000_000), UNIX_EPOCH - Duration::from_millis(750));
        assert_eq!(time(1, 5), UNIX_EPOCH + Duration::new(1, 5));
        assert_eq!(device(8, 1), 0x0801);
        assert_eq!(device(0x123, 0x45678), 0x4561_2378);
        let metadata = Metadata { size: 1 << 30, ..Metadata::default() };
        let extents = vec![Extent { offset: 0, length: 513 }];
        let sparse = Entry { metadata, extents, ..Entry::default() };
        assert_eq!(attributes(2, &sparse).blocks, 2);
    }
}
