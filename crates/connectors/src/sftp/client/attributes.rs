//! Attributes of files as SFTP version 3 carries them, and of file systems.

use super::wire::{Fields, Malformed, put_string, put_u32};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Attributes of a file: those that a server tells, or those that are to be set. The protocol
/// carries user and group only together, and so the two times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Length in bytes. To set it is to truncate or extend the file.
    pub size: Option<u64>,
    /// User id and group id.
    pub owner: Option<(u32, u32)>,
    /// `st_mode`: the type of the file and its permissions.
    pub permissions: Option<u32>,
    /// Seconds since 1970 of the last access and the last modification. Servers send the low 32
    /// bits of their own times.
    pub times: Option<(u32, u32)>,
    /// Names and values that are not part of the protocol.
    pub extended: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// Permissions alone.
    pub fn with_permissions(permissions: u32) -> Self {
        Self { permissions: Some(permissions), ..Self::default() }
    }

    /// User id.
    pub fn uid(&self) -> Option<u32> {
        self.owner.map(|owner| owner.0)
    }

    /// Group id.
    pub fn gid(&self) -> Option<u32> {
        self.owner.map(|owner| owner.1)
    }

    /// Seconds since 1970 of the last modification.
    pub fn modified(&self) -> Option<u32> {
        self.times.map(|times| times.1)
    }

    /// The type, if the server told the mode and the mode names one.
    pub fn kind(&self) -> Option<FileKind> {
        match self.permissions? & 0o170_000 {
            0o100_000 => Some(FileKind::File),
            0o040_000 => Some(FileKind::Directory),
            0o120_000 => Some(FileKind::Symlink),
            0o010_000 => Some(FileKind::Fifo),
            0o140_000 => Some(FileKind::Socket),
            0o020_000 => Some(FileKind::CharDevice),
            0o060_000 => Some(FileKind::BlockDevice),
            _ => None,
        }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let mut flags = 0;
        for (flag, is_there) in [
            (SIZE, self.size.is_some()),
            (OWNER, self.owner.is_some()),
            (PERMISSIONS, self.permissions.is_some()),
            (TIMES, self.times.is_some()),
            (EXTENDED, !self.extended.is_empty()),
        ] {
            flags |= if is_there { flag } else { 0 };
        }
        put_u32(bytes, flags);
        if let Some(size) = self.size {
            bytes.extend(size.to_be_bytes());
        }
        if let Some((user, group)) = self.owner {
            put_u32(bytes, user);
            put_u32(bytes, group);
        }
        if let Some(permissions) = self.permissions {
            put_u32(bytes, permissions);
        }
        if let Some((accessed, modified)) = self.times {
            put_u32(bytes, accessed);
            put_u32(bytes, modified);
        }
        if !self.extended.is_empty() {
            put_u32(bytes, u32::try_from(self.extended.len()).unwrap_or(u32::MAX));
            for (name, value) in &self.extended {
                put_string(bytes, name);
                put_string(bytes, value);
            }
        }
    }

    /// Flags that the protocol does not know carry nothing in version 3: OpenSSH's client passes
    /// over them as well.
    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let flags = fields.u32()?;
        let mut found = Self::default();
        if flags & SIZE != 0 {
            found.size = Some(fields.u64()?);
        }
        if flags & OWNER != 0 {
            found.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            found.permissions = Some(fields.u32()?);
        }
        if flags & TIMES != 0 {
            found.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            let count = fields.u32()?;
            // Each pair takes eight bytes at least.
            if count as usize > fields.left() / 8 {
                return Err(Malformed("more extended attributes than bytes for them"));
            }
            for _ in 0..count {
                found.extended.push((fields.string()?.to_vec(), fields.string()?.to_vec()));
            }
        }
        Ok(found)
    }
}

/// Size and free space of a file system, as `statvfs` tells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Bytes in a block, for the three numbers of blocks.
    pub fragment_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub blocks_free: u64,
    /// Free blocks that this user may take.
    pub blocks_available: u64,
    /// Files that there can be in all; 0 where the file system does not count them.
    pub files: u64,
    /// Files that this user may still make.
    pub files_available: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
    /// Longest name, in bytes.
    pub longest_name: u64,
}

impl FileSystem {
    /// Bytes that this user may still write.
    pub fn available(&self) -> u64 {
        self.blocks_available.saturating_mul(self.fragment_size)
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.blocks.saturating_mul(self.fragment_size)
    }

    /// Whether this user may write fewer than so many bytes, or make no more files. A file system
    /// that does not count its files says nothing about them.
    pub fn is_full(&self, bytes: u64) -> bool {
        self.available() < bytes || (self.files > 0 && self.files_available == 0)
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let block_size = fields.u64()?;
        let fragment_size = fields.u64()?;
        let (blocks, blocks_free, blocks_available) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (files, _files_free, files_available) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let _id = fields.u64()?;
        let read_only = fields.u64()? & 1 != 0;
        Ok(Self {
            fragment_size: if fragment_size == 0 { block_size } else { fragment_size },
            blocks,
            blocks_free,
            blocks_available,
            files,
            files_available,
            read_only,
            longest_name: fields.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_read_back() {
        let whole = Attributes {
            size: Some(1 << 33),
            owner: Some((1000, 100)),
            permissions: Some(0o100_644),
            times: Some((1, u32::MAX)),
            extended: vec![(b"a@b".to_vec(), b"\xff\0".to_vec()), (Vec::new(), Vec::new())],
        };
        let kinds = [
            whole.clone(),
            Attributes { size: None, ..whole.clone() },
            Attributes { owner: None, ..whole.clone() },
            Attributes { permissions: None, ..whole.clone() },
            Attributes { times: None, ..whole.clone() },
            Attributes { extended: Vec::new(), ..whole },
            Attributes::default(),
        ];
        for attributes in kinds {
            let mut bytes = Vec::new();
            attributes.encode(&mut bytes);
            let mut fields = Fields::new(&bytes);
            assert_eq!(Attributes::decode(&mut fields), Ok(attributes));
            assert!(fields.is_empty());
            for end in 0..bytes.len() {
                let cut = bytes.get(..end).unwrap_or_default();
                assert!(Attributes::decode(&mut Fields::new(cut)).is_err());
            }
        }
    }

    #[test]
    fn only_files_that_are_counted_can_be_used_up() {
        let roomy = FileSystem {
            fragment_size: 4096,
            blocks: 100,
            blocks_free: 50,
            blocks_available: 40,
            files: 1000,
            files_available: 10,
            read_only: false,
            longest_name: 255,
        };
        assert!(!roomy.is_full(40 * 4096) && roomy.is_full(40 * 4096 + 1));
        assert!(FileSystem { files_available: 0, ..roomy }.is_full(0));
        // As btrfs tells it.
        assert!(!FileSystem { files: 0, files_available: 0, ..roomy }.is_full(0));
    }

    #[test]
    fn a_count_of_pairs_that_cannot_be_takes_no_memory() {
        let bytes = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(Attributes::decode(&mut Fields::new(&bytes)).is_err());
    }
}
