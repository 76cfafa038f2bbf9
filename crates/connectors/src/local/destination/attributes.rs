//! Setting owner, permissions, extended attributes and times, in the one order that works: chown
//! takes away set-id bits and capabilities, a file without write permission takes no attributes
//! from its owner, chmod changes ACLs, and all of these change times.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering;

use holdfast_engine::destination::{Attributes, Unset};
use holdfast_engine::meta::{Kind, Metadata, Xattr};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::Inner;
use super::directory::{Directory, Fresh};
use crate::local::metadata::stat_of;
use crate::local::xattrs::{self, Of};

const SET_ID_BITS: u32 = 0o6000;

/// What the attributes are set on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// A regular file, open for writing.
    File(BorrowedFd<'a>),
    /// Anything, opened as a mere path (`O_PATH`), with its directory and name.
    Node { node: BorrowedFd<'a>, directory: BorrowedFd<'a>, name: &'a [u8] },
}

/// What is so already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// It may have ACLs that must go.
    pub(super) acl: bool,
}

impl From<Fresh> for Present {
    fn from(fresh: Fresh) -> Self {
        Self { mode: fresh.mode, uid: fresh.uid, gid: fresh.gid, acl: fresh.acl }
    }
}

impl Target<'_> {
    fn chown(self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::File(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Node { node, .. } => {
                rustix::fs::chownat(node, c"", uid, gid, AtFlags::EMPTY_PATH)
            }
        }
    }

    fn chmod(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::File(fd) => rustix::fs::fchmod(fd, mode),
            // This link of the kernel's leads to the node itself, whatever its name is by now.
            Self::Node { node, .. } => {
                let path = format!("/proc/self/fd/{}", node.as_raw_fd());
                rustix::fs::chmodat(CWD, path, mode, AtFlags::empty())
            }
        }
    }

    fn touch(self, metadata: &Metadata) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: metadata.mtime.seconds,
                tv_nsec: metadata.mtime.nanos.into(),
            },
        };
        match self {
            Self::File(fd) => rustix::fs::futimens(fd, &times),
            Self::Node { directory, name, .. } => {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn with_xattrs<T>(self, work: impl FnOnce(Of<'_>) -> T) -> T {
        match self {
            Self::File(fd) => work(Of::File(fd)),
            Self::Node { directory, name, .. } => work(Of::Path(&xattrs::path_in(directory, name))),
        }
    }
}

impl Inner {
    /// The mode to make a file with: what it shall have in the end, if nothing must happen to it
    /// in between for which it must not yet be open to others, or must be writable.
    pub(super) fn first_mode(&self, attributes: Attributes<'_>) -> u32 {
        let mode = attributes.metadata.mode & 0o777;
        let (uid, gid) = self.owner(attributes.metadata);
        if attributes.xattrs.is_empty() && uid == self.euid && gid == self.egid {
            mode
        } else {
            0o600
        }
    }

    /// What a file just made in `directory` with this mode is like.
    pub(super) fn fresh(
        directory: &Directory,
        file: BorrowedFd<'_>,
        asked_mode: u32,
    ) -> Result<Present, Errno> {
        let fresh = directory.fresh(asked_mode, || {
            let stat = stat_of(file)?;
            // Where there are no attributes, there are no ACLs.
            let acl = Of::File(file).read().is_ok_and(|x| x.iter().any(is_acl));
            Ok(Fresh {
                asked_mode,
                mode: u32::from(stat.stx_mode) & 0o7777,
                uid: stat.stx_uid,
                gid: stat.stx_gid,
                acl,
            })
        })?;
        Ok(fresh.into())
    }

    /// The numbers of the owner to be.
    fn owner(&self, metadata: &Metadata) -> (u32, u32) {
        match &self.numbers {
            Some(numbers) => numbers.of(&metadata.owner),
            None => (metadata.owner.uid, metadata.owner.gid),
        }
    }

    /// Sets all attributes on what is `present` so far.
    pub(super) fn set(
        &self,
        target: Target<'_>,
        present: Present,
        attributes: Attributes<'_>,
    ) -> Result<Unset, Errno> {
        let mut unset = Unset::default();
        let metadata = attributes.metadata;
        let is_link = metadata.kind == Kind::Symlink;
        let owned_anew = self.set_owner(target, present, metadata, &mut unset)?;

        let plain = attributes.xattrs.iter().filter(|x| !is_acl(x));
        set_xattrs(target, plain, &mut unset.xattrs)?;

        let mut mode = metadata.mode & 0o7777;
        if unset.owner && mode & SET_ID_BITS != 0 {
            // Set-id to somebody else than intended: rather not at all.
            mode &= !SET_ID_BITS;
            unset.mode = true;
        }
        let chown_took = owned_anew && present.mode & SET_ID_BITS != 0;
        if !is_link && (mode != present.mode || chown_took || present.acl) {
            refused(target.chmod(mode), &mut unset.mode)?;
        }

        if !is_link {
            if present.acl {
                drop_acls(target, attributes.xattrs, &mut unset.acls)?;
            }
            let acls = attributes.xattrs.iter().filter(|x| is_acl(x));
            set_xattrs(target, acls, &mut unset.acls)?;
        }
        refused(target.touch(metadata), &mut unset.times)?;
        Ok(unset)
    }

    /// True if the owner was changed.
    fn set_owner(
        &self,
        target: Target<'_>,
        present: Present,
        metadata: &Metadata,
        unset: &mut Unset,
    ) -> Result<bool, Errno> {
        let (uid, gid) = self.owner(metadata);
        let uid = (uid != present.uid).then_some(uid);
        let gid = (gid != present.gid).then_some(gid);
        if uid.is_none() && gid.is_none() {
            return Ok(false);
        }
        // Once refused, always refused: 300 000 files need not ask again.
        if uid.is_none() || self.may_give_away.load(Ordering::Relaxed) {
            match target.chown(uid, gid) {
                Ok(()) => return Ok(true),
                Err(Errno::PERM) if uid.is_some() => {
                    self.may_give_away.store(false, Ordering::Relaxed);
                }
                answer => refused(answer, &mut unset.owner)?,
            }
        }
        unset.owner = true;
        // The group alone may still be one of ours.
        Ok(uid.is_some() && gid.is_some() && target.chown(None, gid).is_ok())
    }
}

fn is_acl(xattr: &Xattr) -> bool {
    xattrs::is_acl(&xattr.name)
}

fn set_xattrs<'a>(
    target: Target<'_>,
    mut xattrs: impl Iterator<Item = &'a Xattr>,
    failed: &mut bool,
) -> Result<(), Errno> {
    let Some(first) = xattrs.next() else { return Ok(()) };
    target.with_xattrs(|of| {
        std::iter::once(first).chain(xattrs).try_for_each(|xattr| refused(of.set(xattr), failed))
    })
}

/// Removes ACLs that were inherited or there before, and are not wanted.
fn drop_acls(target: Target<'_>, wanted: &[Xattr], failed: &mut bool) -> Result<(), Errno> {
    target.with_xattrs(|of| {
        for xattr in of.read().unwrap_or_default().iter().filter(|x| is_acl(x)) {
            if !wanted.iter().any(|w| w.name == xattr.name) {
                refused(of.remove(&xattr.name), failed)?;
            }
        }
        Ok(())
    })
}

/// What may not or cannot be set here is noted; a failing medium is an error.
fn refused(answer: Result<(), Errno>, failed: &mut bool) -> Result<(), Errno> {
    match answer {
        Ok(()) => Ok(()),
        Err(e @ (Errno::IO | Errno::ROFS | Errno::BADF)) => Err(e),
        Err(_) => {
            *failed = true;
            Ok(())
        }
    }
}

/// What is present on a node as it stands.
pub(super) fn present(node: BorrowedFd<'_>) -> Result<(Present, Kind), Errno> {
    let stat = stat_of(node.as_fd())?;
    let present = Present {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        acl: true,
    };
    Ok((present, crate::local::metadata::kind(&stat)))
}
