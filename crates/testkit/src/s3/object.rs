//! An object as the server in memory keeps it: content, what was sent beside it, and what the
//! server made up.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;

/// One version of an object. Tests may make one, look at one and change one.
#[derive(Debug, Clone)]
pub struct S3Object {
    /// Its bytes.
    pub content: Bytes,
    /// Without quotes: MD5 in hexadecimal, or `…-N` for one of N parts.
    pub etag: String,
    /// Whole seconds, as AWS keeps them.
    pub modified: SystemTime,
    /// `None` in a bucket without versions.
    pub version: Option<String>,
    /// `x-amz-meta-*` without the prefix.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`
    pub content_type: Option<String>,
    /// `Cache-Control`
    pub cache_control: Option<String>,
    /// `Content-Disposition`
    pub content_disposition: Option<String>,
    /// `Content-Encoding`
    pub content_encoding: Option<String>,
    /// `Content-Language`
    pub content_language: Option<String>,
    /// Seconds since 1970.
    pub expires: Option<i64>,
    /// `x-amz-website-redirect-location`
    pub website_redirect: Option<String>,
    /// `x-amz-tagging` as it was sent.
    pub tagging: Option<String>,
    /// `None` for STANDARD.
    pub storage_class: Option<String>,
    /// Whether an object of a cold class has been made readable for a while.
    pub thawed: Thawed,
    /// `x-amz-server-side-encryption` as it was sent.
    pub encryption: Option<String>,
    /// MD5 of the key that the client encrypted with, in base64; needed again to read.
    pub customer_key: Option<String>,
    /// SHA-256 in base64 if it was sent.
    pub sha256: Option<String>,
    /// Not to be removed or replaced before this time, and in which mode.
    pub retention: Option<Retention>,
    /// Not to be removed while set.
    pub legal_hold: bool,
}

/// Whether a cold object can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thawed {
    /// Nobody asked.
    #[default]
    No,
    /// It was asked for, and not done yet.
    Asked,
    /// It can.
    Yes,
}

/// Object lock of one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `COMPLIANCE` if true (nobody gets around it), else `GOVERNANCE`.
    pub compliance: bool,
    /// Until when.
    pub until: SystemTime,
}

impl S3Object {
    /// An object of these bytes without anything beside them. Its ETag and time are set when it
    /// is stored.
    pub fn new(content: impl Into<Bytes>) -> Self {
        Self {
            content: content.into(),
            etag: String::new(),
            modified: SystemTime::UNIX_EPOCH,
            version: None,
            metadata: BTreeMap::new(),
            content_type: None,
            cache_control: None,
            content_disposition: None,
            content_encoding: None,
            content_language: None,
            expires: None,
            website_redirect: None,
            tagging: None,
            storage_class: None,
            thawed: Thawed::No,
            encryption: None,
            customer_key: None,
            sha256: None,
            retention: None,
            legal_hold: false,
        }
    }

    /// Whether it has to be thawed before it can be read.
    pub fn is_cold(&self) -> bool {
        matches!(self.storage_class.as_deref(), Some("GLACIER" | "DEEP_ARCHIVE"))
            && self.thawed != Thawed::Yes
    }

    /// Whether the lock forbids to remove it at this time.
    pub(super) fn is_locked(&self, now: SystemTime, bypass: bool) -> bool {
        let retained = self.retention.is_some_and(|r| r.until > now && (r.compliance || !bypass));
        self.legal_hold || retained
    }
}
