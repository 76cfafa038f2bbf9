//! A bucket, what lies below a prefix of it, or a single object as a source.
//!
//! Keys become paths as [`names`](super::names) says; directories are made up. A listing alone
//! decides what is unchanged: it tells size, time and ETag, of which a digest stands where other
//! sources have an inode number. What else is known of an object (content type, the user's
//! metadata, …) comes with its content and is kept in extended attributes.

mod facts;
mod order;
mod read;
mod walk;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallFile, SmallRead, Source, SourceDirectory, SourceEntry, SourceError,
    SourceErrorKind, SourceFile, SourceResult, WalkBatch,
};

use super::attributes;
use super::client::{Class, Object, S3Client, S3Error, Wanted};
use super::names;
use crate::filter::{BadRule, CACHE_SIGNATURE, CACHE_TAG, Filter};

/// What to walk and what to leave out.
#[derive(Debug, Clone, Default)]
pub struct S3SourceOptions {
    /// Gitignore lines, relative to the root. The root itself is never left out.
    pub excludes: Vec<String>,
    /// Objects of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Directories with a valid `CACHEDIR.TAG` stay, but all they hold is left out.
    pub exclude_caches: bool,
    /// Prefixes of the same bucket, without a slash at their ends, that are always left out with
    /// all below them: the repository. An empty one is the whole bucket.
    pub never: Vec<String>,
}

/// A bucket, or what lies below a prefix, or an object.
pub struct S3Source {
    inner: Arc<Inner>,
}

impl fmt::Debug for S3Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Source({})", self.inner.client.location())
    }
}

#[derive(Debug)]
struct Inner {
    client: S3Client,
    filter: Filter,
    options: S3SourceOptions,
}

impl S3Source {
    /// The source at the client's bucket and prefix. If nothing lies below the prefix, it may be
    /// the key of an object. Connects nothing yet.
    pub fn new(client: S3Client, options: S3SourceOptions) -> Result<Self, BadRule> {
        let filter = Filter::new(&options.excludes, options.exclude_larger_than)?;
        let inner = Inner { client, filter, options };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The absolute path of the root in a snapshot: bucket and prefix as names.
    pub fn snapshot_path(&self) -> Vec<u8> {
        let options = self.inner.client.options();
        let mut path = format!("/{}", options.bucket);
        if !options.prefix.is_empty() {
            for part in options.prefix.split('/') {
                path.push('/');
                path.push_str(&names::name_of(part));
            }
        }
        path.into_bytes()
    }

    /// What is known of the directories above the root: they are made up as well.
    pub fn directory_metadata() -> Metadata {
        facts::directory()
    }
}

impl Inner {
    /// What the keys below the root begin with: nothing, or the prefix and a slash.
    fn root_prefix(&self) -> String {
        self.client.key("")
    }

    /// The key of an entry; of the root if the name is empty.
    fn key(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<String> {
        if entry.name.is_empty() {
            return Ok(self.client.options().prefix.clone());
        }
        let prefix = directory.handle.as_ref().and_then(|h| h.downcast_ref::<String>());
        match (prefix, names::key_of(&entry.name)) {
            (Some(prefix), Some(part)) => Ok(format!("{prefix}{part}")),
            // Not of this walk.
            _ => Err(SourceError {
                kind: SourceErrorKind::NotFound,
                operation: "read",
                path: String::from_utf8_lossy(&entry.name).into_owned(),
                source: None,
            }),
        }
    }

    /// The key as a person would write it.
    fn shown(&self, key: &str) -> String {
        format!("{}/{key}", self.client.options().bucket)
    }

    fn error(&self, operation: &'static str, key: &str, error: S3Error) -> SourceError {
        let kind = match error.class {
            Class::NoSuchKey => SourceErrorKind::NotFound,
            Class::AccessDenied => SourceErrorKind::PermissionDenied,
            Class::PreconditionFailed | Class::InvalidRange => SourceErrorKind::Changed,
            Class::ColdObject
            | Class::Locked
            | Class::NotImplemented
            | Class::Checksum
            | Class::BucketExists
            | Class::InvalidStorageClass
            | Class::Other => SourceErrorKind::Io,
            // The client has tried for long enough; nothing else will fare better.
            _ => SourceErrorKind::Unreachable,
        };
        SourceError { kind, operation, path: self.shown(key), source: Some(Box::new(error)) }
    }

    /// Whether a directory's tag says what it must; one that is not there says nothing.
    async fn is_cache(&self, prefix: &str) -> SourceResult<bool> {
        let key = format!("{prefix}{CACHE_TAG}");
        let range = 0..CACHE_SIGNATURE.len() as u64;
        match self.client.get(&key, Some(range)).await {
            Ok(object) => Ok(object.bytes == CACHE_SIGNATURE),
            Err(error) => match self.error("read", &key, error) {
                error if error.kind == SourceErrorKind::Unreachable => Err(error),
                _ => Ok(false),
            },
        }
    }

    /// Whether the repository lies at this prefix, or above it.
    fn is_never(&self, prefix: &str) -> bool {
        let is_within = |never: &String| {
            never.is_empty()
                || prefix.strip_prefix(never.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.options.never.iter().any(is_within)
    }
}

impl Source for S3Source {
    fn location(&self) -> String {
        self.inner.client.location()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        walk::walk(&self.inner, sink)
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        if entry.metadata.kind != Kind::File {
            return Ok(Details::default());
        }
        let key = self.inner.key(directory, entry)?;
        let info = self.inner.client.block_on(self.inner.client.head(&key));
        let info = info.map_err(|e| self.inner.error("read attributes of", &key, e))?;
        Ok(facts::details(&info, &key, &entry.name))
    }

    fn reads_empty(&self) -> bool {
        true
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let key = self.inner.key(directory, entry)?;
        let read = self.inner.client.block_on(read::whole(&self.inner, &key, limit))?;
        into.extend_from_slice(&read.bytes);
        Ok(small(&read, &key, &entry.name))
    }

    fn read_many(
        &self,
        files: &[(&SourceDirectory, &SourceEntry)],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Vec<SourceResult<SmallFile>> {
        read::read_many(&self.inner, files, limit, into)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile>> {
        let key = self.inner.key(directory, entry)?;
        Ok(Box::new(read::S3File::open(&self.inner, key, entry)?))
    }
}

fn small(object: &Object, key: &str, name: &[u8]) -> SmallRead {
    let details = facts::details(&object.info, key, name);
    SmallRead { details, metadata: facts::of_info(&object.info) }
}
