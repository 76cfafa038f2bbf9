//! What is known of a file besides its content: the metadata that sources report, trees hold and
//! destinations set.

use std::sync::Arc;

/// Type of a directory entry. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Kind {
    /// Regular file.
    #[default]
    File = 1,
    /// Directory.
    Directory = 2,
    /// Symbolic link.
    Symlink = 3,
    /// Character device.
    CharDevice = 4,
    /// Block device.
    BlockDevice = 5,
    /// Named pipe.
    Fifo = 6,
    /// Socket: recorded, and made anew at restore where the destination can.
    Socket = 7,
}

impl Kind {
    /// Every kind, by number.
    pub const ALL: [Self; 7] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Fifo,
        Self::Socket,
    ];

    /// The kind of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::File,
            2 => Self::Directory,
            3 => Self::Symlink,
            4 => Self::CharDevice,
            5 => Self::BlockDevice,
            6 => Self::Fifo,
            7 => Self::Socket,
            _ => return None,
        })
    }

    /// One letter as `ls -l` shows it.
    pub fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::CharDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }

    /// The name used in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "dir",
            Self::Symlink => "symlink",
            Self::CharDevice => "chardev",
            Self::BlockDevice => "blockdev",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        }
    }
}

/// A point in time: seconds since the Unix epoch and nanoseconds (0 to 999 999 999) after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`.
    pub nanos: u32,
}

impl Time {
    /// Nanoseconds since the epoch; saturates some 292 years away from it.
    pub fn total_nanos(self) -> i64 {
        self.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(self.nanos))
    }

    /// The time this many nanoseconds after the epoch.
    pub fn from_total_nanos(nanos: i64) -> Self {
        Self {
            seconds: nanos.div_euclid(1_000_000_000),
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }
}

/// Who owns an entry. Shared between entries, since few owners own most files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name; empty where unknown.
    pub user: String,
    /// Group name; empty where unknown.
    pub group: String,
}

/// An extended attribute, POSIX ACLs (`system.posix_acl_*`) included, as raw bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Xattr {
    /// Full name with its namespace.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// A run of data in a sparse file, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Extent {
    /// Where the data starts in the file.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

/// What `lstat` tells of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Type.
    pub kind: Kind,
    /// The twelve permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: Arc<Owner>,
    /// Size in bytes; 0 for all but regular files and symbolic links.
    pub size: u64,
    /// Last modification of the content.
    pub mtime: Time,
    /// Last change of the inode; `None` where the source has no such notion.
    pub ctime: Option<Time>,
    /// Inode number, 0 where the source has none.
    pub inode: u64,
    /// Hard links to the inode; 0 counts as 1.
    pub links: u32,
    /// Major and minor number of a device file.
    pub device: Option<(u32, u32)>,
}
