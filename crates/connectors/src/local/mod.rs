//! The local file system: repositories in a directory, trees to back up, trees to restore to.
//! All three go through directory handles and never follow a link they did not mean to.

mod metadata;
mod temporary;
mod xattrs;

pub mod destination;
pub mod source;
pub mod storage;

/// The owner with these numbers and the names they have here.
pub(crate) fn owner_of(uid: u32, gid: u32) -> holdfast_engine::meta::Owner {
    metadata::Owners::default().get(uid, gid).as_ref().clone()
}
