//! What is stored with an object, and what that says of it.

use std::sync::Arc;

use holdfast_engine::destination::{Attributes, Unset};
use holdfast_engine::meta::{Kind, Metadata, Owner, Time, Xattr};

use crate::s3::attributes::{self, MTIME, PREFIX};
use crate::s3::client::{Headers, ObjectInfo};

/// What servers say of an object of which nobody said what it is. Said always, so that what stands
/// there can be compared with what was meant.
const UNKNOWN: &str = "binary/octet-stream";
const LINK: &str = "inode/symlink";
const DIRECTORY: &str = "application/x-directory";
/// Bits of the type in a mode.
const FILE_BITS: u32 = 0o100_000;
const LINK_BITS: u32 = 0o120_000;
const DIRECTORY_BITS: u32 = 0o040_000;

/// What an object shall have.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) headers: Headers,
    /// What cannot be kept.
    pub(super) unset: Unset,
}

impl Wanted {
    /// For a file or a symbolic link.
    pub(super) fn new(given: Attributes<'_>) -> Self {
        let mtime = time_text(given.metadata.mtime);
        if let Some(mut headers) = attributes::from_xattrs(given.xattrs) {
            headers.metadata.insert(MTIME.into(), mtime);
            headers.content_type.get_or_insert_with(|| UNKNOWN.into());
            return Self { headers, unset: lost_xattrs(given.xattrs) };
        }
        let (bits, content_type) = match given.metadata.kind {
            Kind::Symlink => (LINK_BITS, LINK),
            _ => (FILE_BITS, UNKNOWN),
        };
        let headers = Headers {
            content_type: Some(content_type.into()),
            metadata: posix(given.metadata, bits),
            ..Headers::default()
        };
        Self { headers, unset: lost_xattrs(given.xattrs) }
    }
}

/// What the object that stands for an empty directory shall have.
pub(super) fn of_directory(given: &Metadata) -> Headers {
    let content_type = Some(DIRECTORY.to_owned());
    Headers { content_type, metadata: posix(given, DIRECTORY_BITS), ..Headers::default() }
}

fn posix(metadata: &Metadata, bits: u32) -> std::collections::BTreeMap<String, String> {
    [
        ("mtime".to_owned(), time_text(metadata.mtime)),
        ("mode".to_owned(), format!("{:o}", bits | metadata.mode & 0o7777)),
        ("uid".to_owned(), metadata.owner.uid.to_string()),
        ("gid".to_owned(), metadata.owner.gid.to_string()),
    ]
    .into()
}

/// What is not kept of a directory; of one that was made up, nothing is lost.
pub(super) fn lost_of_directory(given: Attributes<'_>) -> Unset {
    let metadata = given.metadata;
    Unset {
        mode: metadata.mode != 0o755,
        owner: (metadata.owner.uid, metadata.owner.gid) != (0, 0),
        times: metadata.mtime != Time::default(),
        ..lost_xattrs(given.xattrs)
    }
}

fn lost_xattrs(xattrs: &[Xattr]) -> Unset {
    let is_acl = |x: &&Xattr| x.name.starts_with(b"system.posix_acl_");
    let others = xattrs.iter().filter(|x| !x.name.starts_with(PREFIX));
    Unset {
        acls: others.clone().any(|x| is_acl(&x)),
        xattrs: others.clone().any(|x| !is_acl(&x)),
        ..Unset::default()
    }
}

/// Seconds since 1970, with a fraction if there is one.
fn time_text(time: Time) -> String {
    if time.nanos == 0 {
        return time.seconds.to_string();
    }
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (seconds, nanos) = (total.abs() / 1_000_000_000, total.abs() % 1_000_000_000);
    format!("{sign}{seconds}.{nanos:09}").trim_end_matches('0').to_owned()
}

fn time_of(text: &str) -> Option<Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    let digits = fraction.bytes().take(9).all(|byte| byte.is_ascii_digit());
    let nanos: i64 = format!("{fraction:0<9}").get(..9).filter(|_| digits)?.parse().ok()?;
    match (is_negative, nanos) {
        (_, 0) => Some(Time { seconds, nanos: 0 }),
        (false, nanos) => Some(Time { seconds, nanos: u32::try_from(nanos).ok()? }),
        (true, nanos) => Some(Time {
            seconds: seconds.checked_sub(1)?,
            nanos: u32::try_from(1_000_000_000 - nanos).ok()?,
        }),
    }
}

/// What stands there, as it was when it was stored where that is known.
pub(super) fn described(info: &ObjectInfo) -> Metadata {
    let stored = |name: &str| info.headers.metadata.get(name).map(String::as_str);
    // A copy of another object: what that one's user wrote is no description of it.
    let is_copy = stored(MTIME).is_some();
    let kept = |name: &str| stored(name).filter(|_| !is_copy);
    let mode = kept("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    let is_link = info.headers.content_type.as_deref() == Some(LINK)
        && mode.is_some_and(|mode| mode & 0o170_000 == LINK_BITS);
    let number = |name: &str| kept(name).and_then(|number| number.parse().ok()).unwrap_or(0);
    let mtime = stored(MTIME).or(kept("mtime")).and_then(time_of);
    Metadata {
        kind: if is_link { Kind::Symlink } else { Kind::File },
        mode: mode.map_or(0o644, |mode| mode & 0o7777),
        owner: Arc::new(Owner { uid: number("uid"), gid: number("gid"), ..Owner::default() }),
        size: info.size,
        mtime: mtime.unwrap_or(Time { seconds: info.modified, nanos: 0 }),
        links: 1,
        ..Metadata::default()
    }
}

/// A directory has nothing of its own.
pub(super) fn directory() -> Metadata {
    Metadata { kind: Kind::Directory, mode: 0o755, links: 1, ..Metadata::default() }
}

/// What a file from a bucket has, but for what only tells where it was; nothing for others.
pub(super) fn xattrs(info: &ObjectInfo) -> Vec<Xattr> {
    if !info.headers.metadata.contains_key(MTIME) {
        return Vec::new();
    }
    let all = attributes::to_xattrs(info, None).into_iter();
    all.filter(|x| attributes::is_stored(&x.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_text_and_back() {
        for (seconds, nanos, text) in [
            (0, 0, "0"),
            (1_234_567_890, 123_456_789, "1234567890.123456789"),
            (5, 500_000_000, "5.5"),
            (-1, 0, "-1"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
        ] {
            let time = Time { seconds, nanos };
            assert_eq!(time_text(time), text);
            assert_eq!(time_of(text), Some(time));
        }
        for text in ["", "x", "1.x", "1.-5", "99999999999999999999"] {
            assert_eq!(time_of(text), None, "{text}");
        }
        assert_eq!(time_of("1.1234567891"), Some(Time { seconds: 1, nanos: 123_456_789 }));
    }

    #[test]
    fn files_come_back_as_they_were_described() {
        let owner = Arc::new(Owner { uid: 7, gid: 8, ..Owner::default() });
        let mtime = Time { seconds: 5, nanos: 1 };
        for (kind, mode) in [(Kind::File, 0o4755), (Kind::Symlink, 0o777)] {
            let metadata = Metadata {
                kind,
                mode,
                mtime,
                size: 3,
                owner: owner.clone(),
                ..Metadata::default()
            };
            let wanted = Wanted::new(Attributes { metadata: &metadata, xattrs: &[] });
            assert_eq!(wanted.unset, Unset::default());
            let info = ObjectInfo { size: 3, headers: wanted.headers, ..ObjectInfo::default() };
            assert_eq!(described(&info), Metadata { links: 1, ..metadata });
        }
    }

    #[test]
    fn what_is_lost_is_told() {
        let named = |name: &[u8]| Xattr { name: name.to_vec(), value: Vec::new() };
        let metadata = Metadata { kind: Kind::Directory, mode: 0o700, ..Metadata::default() };
        let xattrs = [named(b"system.posix_acl_access"), named(b"user.s3.etag")];
        let lost = lost_of_directory(Attributes { metadata: &metadata, xattrs: &xattrs });
        assert_eq!(lost, Unset { mode: true, acls: true, ..Unset::default() });
        let made_up = directory();
        let lost = lost_of_directory(Attributes { metadata: &made_up, xattrs: &[] });
        assert_eq!(lost, Unset::default());
    }
}
