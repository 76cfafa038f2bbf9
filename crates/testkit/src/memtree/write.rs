//! Writing a tree in memory to disk, as a fixture for tests of connectors and of the whole
//! program. What the user or the file system cannot make is left out and counted.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use holdfast_engine::meta::{Extent, Kind};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};

use super::{MemoryTree, Node};

/// What could not be made, and how often: owners and devices without root, attributes that the
/// file system does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Omitted(pub BTreeMap<&'static str, usize>);

impl Omitted {
    fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl MemoryTree {
    /// Writes the tree to disk; its root becomes `root`, which must be an empty directory or not
    /// there. Files with several names become hard links, and directories get their times last.
    pub fn write_to(&self, root: &Path) -> io::Result<Omitted> {
        let mut omitted = Omitted::default();
        let mut first_names: BTreeMap<u64, PathBuf> = BTreeMap::new();
        let mut directories = Vec::new();
        for path in std::iter::once(Vec::new()).chain(self.paths()) {
            let Some(node) = self.node(&path) else { continue };
            let at = if path.is_empty() {
                root.to_path_buf()
            } else {
                root.join(OsStr::from_bytes(&path))
            };
            let what = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", at.display()))
            };
            if node.metadata.kind == Kind::Directory {
                fs::create_dir_all(&at).map_err(what)?;
                directories.push((at, node));
                continue;
            }
            if let Some(existing) = first_names.get(&node.metadata.inode) {
                fs::hard_link(existing, &at).map_err(what)?;
                continue;
            }
            if !make(&at, node).map_err(what)? {
                omitted.add("devices");
                continue;
            }
            set_attributes(&at, node, &mut omitted).map_err(what)?;
            first_names.insert(node.metadata.inode, at);
        }
        for (at, node) in directories.into_iter().rev() {
            set_attributes(&at, node, &mut omitted)?;
        }
        Ok(omitted)
    }
}

/// Makes anything but a directory. False if it is a device and may not be made here.
fn make(at: &Path, node: &Node) -> io::Result<bool> {
    let special = match node.metadata.kind {
        Kind::File => {
            let file = File::create_new(at)?;
            file.set_len(node.content.len() as u64)?;
            let all = [Extent { offset: 0, length: node.content.len() as u64 }];
            for extent in node.extents.as_deref().unwrap_or(&all) {
                let start = extent.offset as usize;
                let bytes = &node.content[start..start + extent.length as usize];
                file.write_all_at(bytes, extent.offset)?;
            }
            return Ok(true);
        }
        Kind::Symlink => return symlink(OsStr::from_bytes(&node.target), at).map(|()| true),
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::Socket => FileType::Socket,
        Kind::Fifo | Kind::Directory => FileType::Fifo,
    };
    let (major, minor) = node.metadata.device.unwrap_or_default();
    let number = rustix::fs::makedev(major, minor);
    match rustix::fs::mknodat(CWD, at, special, Mode::RUSR | Mode::WUSR, number) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Owner first (it clears set-id bits and capabilities), then attributes, mode and times.
fn set_attributes(at: &Path, node: &Node, omitted: &mut Omitted) -> io::Result<()> {
    let metadata = &node.metadata;
    if lchown(at, Some(metadata.owner.uid), Some(metadata.owner.gid)).is_err() {
        omitted.add("owners");
    }
    for xattr in &node.xattrs {
        if xattr::set(at, OsStr::from_bytes(&xattr.name), &xattr.value).is_err() {
            let is_acl = xattr.name.starts_with(b"system.posix_acl_");
            omitted.add(if is_acl { "acls" } else { "xattrs" });
        }
    }
    if metadata.kind != Kind::Symlink {
        fs::set_permissions(at, Permissions::from_mode(metadata.mode))?;
    }
    let time = Timespec { tv_sec: metadata.mtime.seconds, tv_nsec: metadata.mtime.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// A POSIX ACL, as the kernel stores it, that fits a mode: one more user, and a mask that equals
/// the mode's group bits, as the kernel would make it.
pub fn acl_for_mode(mode: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let class = |shift: u32| ((mode >> shift) & 7) as u16;
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (0x01, class(6), NOBODY),
        (0x02, 4, 1234),
        (0x04, 5, NOBODY),
        (0x10, class(3), NOBODY),
        (0x20, class(0), NOBODY),
    ] {
        let (tag, bits): (u16, u16) = (tag, bits);
        acl.extend(tag.to_le_bytes());
        acl.extend(bits.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    acl
}
