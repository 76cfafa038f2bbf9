//! Objects: what a request says and brings back.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

/// What is stored with an object and given back with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the HTTP headers")]
pub struct Headers {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    pub content_disposition: Option<String>,
    pub cache_control: Option<String>,
    /// An HTTP date.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// The user's own (`x-amz-meta-…`), names in lower case.
    pub metadata: BTreeMap<String, String>,
}

/// What a server tells of an object that may be in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Archive {
    /// Nothing: nobody has asked for it to be brought back.
    #[default]
    Untold,
    /// It is being brought back.
    OnItsWay,
    /// It was brought back and can be read for a while.
    Back,
}

/// An object without its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectInfo {
    /// Size of the whole object in bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub modified: i64,
    /// With its quotes taken off. Of many objects it is the MD5 of the content, of many it is not.
    pub etag: Option<String>,
    /// In buckets with versions.
    pub version_id: Option<String>,
    /// Missing for the standard class.
    pub storage_class: Option<String>,
    /// Whether it can be read, as far as the server told.
    pub archive: Archive,
    /// Until when it is locked, seconds since the epoch, as far as the server told.
    pub locked_until: Option<i64>,
    /// What was stored with it.
    pub headers: Headers,
}

/// An object or a range of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes, as many as the server announced.
    pub bytes: Bytes,
    /// The rest.
    pub info: ObjectInfo,
}

/// What is wanted of an object.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// These bytes; else all.
    pub range: Option<Range<u64>>,
    /// Of the version with this ETag; of another: `PreconditionFailed`.
    pub etag: Option<String>,
    /// Not if it is more bytes: `InvalidRange`.
    pub most: Option<u64>,
}

/// How an object is stored.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// Only if no object of that name is there: else `PreconditionFailed`. Servers that do not
    /// know the condition replace what is there.
    pub only_if_absent: bool,
    /// Send it again only if the server has certainly not done it.
    pub once: bool,
    /// SHA-256 of the bytes, for the server to compare.
    pub sha256: Option<[u8; 32]>,
    /// What is stored with it.
    pub headers: Headers,
    /// Its storage class; default: the bucket's.
    pub storage_class: Option<String>,
    /// Days for which nobody may remove or replace it.
    pub lock_days: Option<u32>,
}

/// The server's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// With its quotes taken off.
    pub etag: Option<String>,
    /// In buckets with versions.
    pub version_id: Option<String>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The full key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub modified: i64,
    /// With its quotes taken off.
    pub etag: Option<String>,
    /// Missing for the standard class.
    pub storage_class: Option<String>,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedPage {
    /// Objects, in the order of their keys' bytes.
    pub objects: Vec<Listed>,
    /// What keys have in common up to the next slash, slash included.
    pub prefixes: Vec<String>,
    /// No page follows.
    pub is_last: bool,
}

/// An ETag without quotes.
pub(super) fn unquoted(etag: Option<&str>) -> Option<String> {
    etag.map(|etag| etag.trim_matches('"').to_owned())
}
