//! What a server says of an object, in the engine's terms.

use std::sync::Arc;

use holdfast_engine::hash::Sha256;
use holdfast_engine::meta::{Kind, Metadata, Owner, Time};
use holdfast_engine::source::Details;

use super::attributes;
use crate::s3::client::{Listed, ObjectInfo};
use crate::s3::names;

/// What a listing tells of an object, small enough to be kept for many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) size: u64,
    modified: i64,
    /// Digest of the ETag, 0 where there is none.
    digest: u64,
}

impl Facts {
    pub(super) fn of(listed: &Listed) -> Self {
        let digest = listed.etag.as_deref().map_or(0, digest);
        Self { size: listed.size, modified: listed.modified, digest }
    }

    /// Nobody's file, readable by all. With an ETag the time counts as one of every change, since
    /// nothing about an object changes without a new time.
    pub(super) fn metadata(self) -> Metadata {
        let mtime = Time { seconds: self.modified, nanos: 0 };
        Metadata {
            kind: Kind::File,
            mode: 0o644,
            owner: Arc::new(Owner::default()),
            size: self.size,
            mtime,
            ctime: (self.digest != 0).then_some(mtime),
            inode: self.digest,
            links: 1,
            device: None,
        }
    }
}

/// The first eight bytes of the SHA-256 of an ETag, never 0.
fn digest(etag: &str) -> u64 {
    let hash = Sha256::of(etag.as_bytes());
    let first = hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
    first.max(1)
}

/// As [`Facts::metadata`].
pub(super) fn of_info(info: &ObjectInfo) -> Metadata {
    let digest = info.etag.as_deref().map_or(0, digest);
    Facts { size: info.size, modified: info.modified, digest }.metadata()
}

/// A directory: made up, and the same in every run.
pub(super) fn directory() -> Metadata {
    Metadata { kind: Kind::Directory, mode: 0o755, links: 1, ..Metadata::default() }
}

/// What becomes extended attributes; the key too, if the name is not its last part.
pub(super) fn details(info: &ObjectInfo, key: &str, name: &[u8]) -> Details {
    let is_plain = key.split('/').all(|part| names::name_of(part) == part)
        && (name.is_empty() || key.rsplit('/').next().is_some_and(|last| last.as_bytes() == name));
    let xattrs = attributes::to_xattrs(info, (!is_plain).then_some(key));
    Details { xattrs, target: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_etag_is_another_file() {
        let listed = |etag: Option<&str>| Listed {
            key: "k".into(),
            size: 7,
            modified: 5,
            etag: etag.map(str::to_owned),
            storage_class: None,
        };
        let one = Facts::of(&listed(Some("d41d8cd98f00b204e9800998ecf8427e"))).metadata();
        // Written in the format: it never changes.
        assert_eq!(one.inode, 0x0a7f_8bd8_f9fa_15f2);
        assert_eq!(one.ctime, Some(one.mtime));
        let other = Facts::of(&listed(Some("d41d8cd98f00b204e9800998ecf8427e-1"))).metadata();
        assert_ne!(one.inode, other.inode);
        let none = Facts::of(&listed(None)).metadata();
        assert_eq!((none.inode, none.ctime), (0, None));
        let info = ObjectInfo {
            size: 7,
            modified: 5,
            etag: Some("d41d8cd98f00b204e9800998ecf8427e".into()),
            ..ObjectInfo::default()
        };
        assert_eq!(of_info(&info), one);
    }
}
