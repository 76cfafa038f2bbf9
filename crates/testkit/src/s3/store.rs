//! The buckets of the server in memory, as plain data behind one lock; tests reach around the
//! protocol into them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::crypto::{Checksum, Md5};

use super::object::{Retention, S3Object};
use crate::lock;

/// All buckets.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) region: String,
    /// The most keys of one page.
    pub(super) page: usize,
    inner: Mutex<Buckets>,
}

#[derive(Debug, Default)]
pub(super) struct Buckets {
    pub(super) all: BTreeMap<String, Bucket>,
    /// Numbers versions and uploads.
    counter: u64,
    /// How far the server's clock is ahead.
    pub(super) ahead: Duration,
}

/// One bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: SystemTime,
    pub(super) versions: bool,
    pub(super) lock: bool,
    /// Put on objects that come without: mode and days.
    pub(super) default_retention: Option<(bool, u64)>,
    /// Versions of each key, the oldest first. Never empty.
    pub(super) keys: BTreeMap<String, Vec<Version>>,
    pub(super) uploads: BTreeMap<String, Upload>,
}

/// A version, or the mark that a key was deleted.
#[derive(Debug, Clone)]
pub(super) enum Version {
    Object(Box<S3Object>),
    Deleted { version: String, modified: SystemTime },
}

/// A multipart upload that is not complete.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) started: SystemTime,
    /// What the object will have beside its content.
    pub(super) object: S3Object,
    /// By number: content and ETag.
    pub(super) parts: BTreeMap<i32, (Bytes, String)>,
}

impl Version {
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Object(object) => object.version.as_deref(),
            Self::Deleted { version, .. } => Some(version),
        }
    }

    pub(super) fn object(&self) -> Option<&S3Object> {
        match self {
            Self::Object(object) => Some(object),
            Self::Deleted { .. } => None,
        }
    }
}

impl Store {
    pub(super) fn new(region: &str, page: usize) -> Self {
        Self { region: region.to_owned(), page, inner: Mutex::default() }
    }

    pub(super) fn buckets(&self) -> MutexGuard<'_, Buckets> {
        lock(&self.inner)
    }
}

impl Buckets {
    /// The server's time, in whole seconds.
    pub(super) fn now(&self) -> SystemTime {
        let now = SystemTime::now() + self.ahead;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
    }

    pub(super) fn number(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{what}{:08}", self.counter)
    }

    /// Makes a bucket; `false` if it is there.
    pub(super) fn create(&mut self, name: &str, versions: bool, lock: bool) -> bool {
        if self.all.contains_key(name) {
            return false;
        }
        let bucket = Bucket {
            created: self.now(),
            versions,
            lock,
            default_retention: None,
            keys: BTreeMap::new(),
            uploads: BTreeMap::new(),
        };
        self.all.insert(name.to_owned(), bucket);
        true
    }

    /// Stores a new version of an object, or replaces the only one. Sets ETag (if it is empty),
    /// time, version and default retention. `None` if there is no such bucket.
    pub(super) fn store(&mut self, bucket: &str, key: &str, object: S3Object) -> Option<S3Object> {
        let now = self.now();
        let version = self.number("v");
        let bucket = self.all.get_mut(bucket)?;
        let mut object = object;
        if object.etag.is_empty() {
            object.etag = hex(Md5::checksum(&object.content).as_ref());
        }
        object.modified = now;
        object.version = bucket.versions.then_some(version);
        if let (None, Some((compliance, days))) = (object.retention, bucket.default_retention) {
            let until = now + Duration::from_secs(days * 86_400);
            object.retention = Some(Retention { compliance, until });
        }
        let versions = bucket.keys.entry(key.to_owned()).or_default();
        if !bucket.versions {
            versions.clear();
        }
        versions.push(Version::Object(Box::new(object.clone())));
        Some(object)
    }

    /// The current version of a key.
    pub(super) fn current(&self, bucket: &str, key: &str) -> Option<&S3Object> {
        self.all.get(bucket)?.keys.get(key)?.last()?.object()
    }

    /// The current version of a key, to be changed.
    pub(super) fn current_mut(&mut self, bucket: &str, key: &str) -> Option<&mut S3Object> {
        match self.all.get_mut(bucket)?.keys.get_mut(key)?.last_mut()? {
            Version::Object(object) => Some(object),
            Version::Deleted { .. } => None,
        }
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
