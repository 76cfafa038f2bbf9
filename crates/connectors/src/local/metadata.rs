//! What the kernel says of a file, in the engine's terms; owner names, looked up once each.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use holdfast_engine::meta::{Kind, Metadata, Owner, Time};
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::locked;

/// What every stat asks for. Not the access time: it would be the one thing we change ourselves.
const MASK: StatxFlags = StatxFlags::TYPE
    .union(StatxFlags::MODE)
    .union(StatxFlags::NLINK)
    .union(StatxFlags::UID)
    .union(StatxFlags::GID)
    .union(StatxFlags::MTIME)
    .union(StatxFlags::CTIME)
    .union(StatxFlags::INO)
    .union(StatxFlags::SIZE)
    .union(StatxFlags::BLOCKS);

/// `lstat` of `name` in `directory`, without waking automounts.
pub(super) fn stat_at(directory: impl AsFd, name: impl Arg) -> Result<Statx, Errno> {
    rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, MASK)
}

/// `fstat`.
pub(super) fn stat_of(file: impl AsFd) -> Result<Statx, Errno> {
    rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, MASK)
}

/// The file system's number in one piece.
pub(super) fn device(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

/// What kind of entry this is.
pub(super) fn kind(stat: &Statx) -> Kind {
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::RegularFile | FileType::Unknown => Kind::File,
    }
}

/// Whether a file occupies less than its size. Some file systems tell nonsense of blocks.
pub(super) fn is_sparse(stat: &Statx) -> bool {
    kind(stat) == Kind::File && stat.stx_blocks.saturating_mul(512) < stat.stx_size
}

fn time(stamp: StatxTimestamp) -> Time {
    Time { seconds: stamp.tv_sec, nanos: stamp.tv_nsec }
}

/// The metadata that `stat` tells.
pub(super) fn metadata(stat: &Statx, owner: Arc<Owner>) -> Metadata {
    let kind = kind(stat);
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Metadata {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        owner,
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.stx_size } else { 0 },
        mtime: time(stat.stx_mtime),
        ctime: Some(time(stat.stx_ctime)),
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        device: is_device.then_some((stat.stx_rdev_major, stat.stx_rdev_minor)),
    }
}

/// Owners met so far with their names. Asking the system for a name may go over the network.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: Mutex<HashMap<(u32, u32), Arc<Owner>>>,
}

impl Owners {
    /// The owner with these numbers, its names empty where nobody knows them.
    pub(super) fn get(&self, uid: u32, gid: u32) -> Arc<Owner> {
        if let Some(owner) = locked(&self.known).get(&(uid, gid)) {
            return Arc::clone(owner);
        }
        // Not under the lock: this may take seconds. Two may ask; both get the same answer.
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
        let owner = Arc::new(Owner {
            uid,
            gid,
            user: user.map(|u| u.name).unwrap_or_default(),
            group: group.map(|g| g.name).unwrap_or_default(),
        });
        Arc::clone(locked(&self.known).entry((uid, gid)).or_insert(owner))
    }

    /// The metadata that `stat` tells, with owner names.
    pub(super) fn metadata(&self, stat: &Statx) -> Metadata {
        metadata(stat, self.get(stat.stx_uid, stat.stx_gid))
    }
}

/// Numbers that names have here, for owners that come from elsewhere.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    users: Mutex<HashMap<String, Option<u32>>>,
    groups: Mutex<HashMap<String, Option<u32>>>,
}

impl Numbers {
    /// The numbers to give a file of `owner`: those its names have here, else its own.
    pub(super) fn of(&self, owner: &Owner) -> (u32, u32) {
        let uid = number(&self.users, &owner.user, |name| {
            User::from_name(name).ok().flatten().map(|u| u.uid.as_raw())
        });
        let gid = number(&self.groups, &owner.group, |name| {
            Group::from_name(name).ok().flatten().map(|g| g.gid.as_raw())
        });
        (uid.unwrap_or(owner.uid), gid.unwrap_or(owner.gid))
    }
}

fn number(
    known: &Mutex<HashMap<String, Option<u32>>>,
    name: &str,
    ask: impl FnOnce(&str) -> Option<u32>,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    if let Some(number) = locked(known).get(name) {
        return *number;
    }
    let number = ask(name);
    locked(known).insert(name.to_owned(), number);
    number
}
