//! A bucket, or what lies below a prefix of it, to restore to.
//!
//! **Keys** are paths, undone as [`names`](super::names) says, so that what was backed up from a
//! bucket gets the keys that it had. A path that is not UTF-8 cannot be one.
//!
//! **What is kept.** Of what came from a bucket: content, content type and all the other headers,
//! the user's metadata; and, as metadata `holdfast-mtime`, the time that a later restore compares.
//! Of other files: content, and as metadata in the form of other tools `mtime` (seconds since 1970,
//! with fractions), `mode` (octal, with the type), `uid` and `gid`. A symbolic link is an object of
//! type `inode/symlink` that holds its target. Directories are what keys have in common: only an
//! empty one becomes an object, with a slash at the end of its key, and others lose what is known of
//! them. Devices, FIFOs and sockets cannot be stored. Extended attributes of other files and ACLs
//! are not kept. Both are told in [`Unset`].
//!
//! **Big files** are collected in a temporary file of this machine, since parts come in any order
//! and an object must be sent from its beginning with all that is stored with it.

mod directories;
mod file;
mod headers;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use holdfast_engine::destination::{
    Attributes, Destination, DestinationError, DestinationErrorKind, DestinationFile,
    DestinationResult, Unset,
};
use holdfast_engine::meta::{Kind, Metadata, Xattr};

use self::directories::Directories;
use self::headers::{Wanted, described};
use super::client::{self, Class, ObjectInfo, Put, S3Client, S3Error, S3Result};
use super::ranges::{Ranges, Reader};
use super::{attributes, names};

/// Objects that are stored at the same time.
const CONCURRENCY: usize = 32;
/// Up to this size an object is sent in one piece.
const WHOLE: u64 = 16 << 20;
/// Longest target of a symbolic link that is read: more than any file system has.
const TARGET: u64 = 64 << 10;

/// A place in a bucket to restore to. Its methods must not be called on threads of the client's
/// runtime.
pub struct S3Destination {
    inner: Arc<Inner>,
}

struct Inner {
    client: S3Client,
    directories: Directories,
    /// The server does not take `If-None-Match`.
    no_condition: AtomicBool,
}

impl fmt::Debug for S3Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Destination({})", self.inner.client.location())
    }
}

impl S3Destination {
    /// The destination at the client's bucket and prefix. Nothing is made or connected yet.
    pub fn new(client: S3Client) -> Self {
        let directories = Directories::default();
        let no_condition = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { client, directories, no_condition }) }
    }
}

/// Why something was not done.
#[derive(Debug)]
enum Problem {
    Request(S3Error),
    Local(io::Error),
    /// Found on this side.
    Here(DestinationErrorKind, &'static str),
}

impl From<S3Error> for Problem {
    fn from(error: S3Error) -> Self {
        Self::Request(error)
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Local(error)
    }
}

impl Problem {
    fn in_the_way(what: &'static str) -> Self {
        Self::Here(DestinationErrorKind::AlreadyExists, what)
    }

    fn nothing() -> Self {
        Self::Here(DestinationErrorKind::NotFound, "nothing is there")
    }

    fn kind(&self) -> DestinationErrorKind {
        use DestinationErrorKind as Kind;
        match self {
            Self::Here(kind, _) => *kind,
            Self::Local(error) => DestinationError::from_io("", "", error.kind().into()).kind,
            Self::Request(error) => match error.class {
                Class::NoSuchKey | Class::NoSuchBucket => Kind::NotFound,
                Class::PreconditionFailed => Kind::AlreadyExists,
                Class::AccessDenied | Class::Locked => Kind::PermissionDenied,
                Class::Quota => Kind::NoSpace,
                Class::NotImplemented => Kind::Unsupported,
                Class::ColdObject
                | Class::Checksum
                | Class::BucketExists
                | Class::InvalidRange
                | Class::InvalidStorageClass
                | Class::Other => Kind::Io,
                _ => Kind::Unreachable,
            },
        }
    }
}

impl Inner {
    fn call<T>(
        &self,
        operation: &'static str,
        path: &[u8],
        work: impl Future<Output = Result<T, Problem>>,
    ) -> DestinationResult<T> {
        self.client.block_on(work).map_err(|problem| self.error(operation, path, problem))
    }

    /// The error as the caller gets it.
    fn error(&self, operation: &'static str, path: &[u8], problem: Problem) -> DestinationError {
        let kind = problem.kind();
        let slash = if path.is_empty() { "" } else { "/" };
        let path = format!("{}{slash}{}", self.client.location(), String::from_utf8_lossy(path));
        let source: Box<dyn std::error::Error + Send + Sync> = match problem {
            Problem::Request(error) => Box::new(error),
            Problem::Local(error) => Box::new(error),
            Problem::Here(_, what) => what.into(),
        };
        DestinationError { kind, operation, path, source: Some(source) }
    }

    /// The key of what stands at a path.
    fn key(&self, path: &[u8]) -> Result<String, Problem> {
        let unsupported = DestinationErrorKind::Unsupported;
        let key = names::key_of(path)
            .ok_or(Problem::Here(unsupported, "keys of objects are UTF-8, and this name is not"))?;
        Ok(self.client.key(&key))
    }

    /// What the keys below a directory begin with.
    fn prefix(&self, path: &[u8]) -> Result<String, Problem> {
        Ok(if path.is_empty() { self.client.key("") } else { self.key(path)? + "/" })
    }

    async fn look(&self, key: &str) -> S3Result<Option<ObjectInfo>> {
        match self.client.head(key).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is_no_such_key() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a directory is there: made by this restore, or with something in it.
    async fn has_directory(&self, path: &[u8]) -> Result<bool, Problem> {
        if self.directories.knows(path) {
            return Ok(true);
        }
        let prefix = self.prefix(path)?;
        let mut listing = self.client.pages(&prefix, false).of(1);
        // A page may be empty and not the last.
        while let Some(page) = listing.next().await? {
            if !page.objects.is_empty() {
                self.directories.found(path);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An error if there is no directory for `path` to be in.
    async fn need_parent(&self, path: &[u8]) -> Result<(), Problem> {
        let parent = directories::parent(path);
        if parent.is_empty() || self.has_directory(parent).await? {
            return Ok(());
        }
        Err(Problem::Here(DestinationErrorKind::NotFound, "there is no such directory"))
    }

    async fn prepare(&self) -> Result<(), Problem> {
        match self.client.head_bucket().await {
            Err(error)
                if error.class == Class::NoSuchBucket && self.client.options().create_bucket =>
            {
                self.client.create_bucket().await?;
            }
            answer => answer?,
        }
        self.directories.found(b"");
        Ok(())
    }

    async fn stat(&self, path: &[u8]) -> Result<Option<Metadata>, Problem> {
        if path.is_empty() {
            let is_there = self.has_directory(path).await?;
            return Ok(is_there.then(headers::directory));
        }
        // What cannot be there is not there.
        let Ok(key) = self.key(path) else { return Ok(None) };
        if self.directories.knows(path) {
            return Ok(Some(headers::directory()));
        }
        if names::is_object_beside_directory(path) {
            return Ok(self.look(&key).await?.map(|info| described(&info)));
        }
        let (found, is_directory) = tokio::join!(self.look(&key), self.has_directory(path));
        if is_directory? {
            return Ok(Some(headers::directory()));
        }
        Ok(found?.map(|info| described(&info)))
    }

    async fn list(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Problem> {
        let prefix = self.prefix(path)?;
        let mut listing = self.client.pages(&prefix, true);
        let (mut files, mut found) = (Vec::new(), self.directories.made_in(path));
        let mut is_there = self.directories.knows(path);
        while let Some(page) = listing.next().await? {
            is_there |= !page.objects.is_empty() || !page.prefixes.is_empty();
            for object in page.objects {
                let rest = object.key.strip_prefix(&prefix).unwrap_or_default();
                // That the directory itself is there.
                if !rest.is_empty() || object.size > 0 {
                    files.push(rest.to_owned());
                }
            }
            for common in page.prefixes {
                let rest = common.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix('/'));
                let name = names::name_of(rest.unwrap_or_default()).into_bytes();
                self.directories.found(&crate::join(path, &name));
                found.insert(name);
            }
        }
        if !is_there {
            return Err(Problem::nothing());
        }
        self.directories.found(path);
        for part in files {
            let name = names::name_of(&part).into_bytes();
            let is_taken = found.contains(&name);
            found.insert(if is_taken { names::object_name_of(&part).into_bytes() } else { name });
        }
        Ok(found.into_iter().collect())
    }

    async fn make_directory(&self, path: &[u8]) -> Result<bool, Problem> {
        self.key(path)?;
        if self.directories.knows(path) {
            return Ok(false);
        }
        self.need_parent(path).await?;
        // In a directory that this restore made, nothing is there that it did not make.
        let is_new = self.directories.is_made(directories::parent(path));
        if !is_new {
            let key = self.key(path)?;
            let (is_there, object) = tokio::join!(self.has_directory(path), self.look(&key));
            if is_there? {
                return Ok(false);
            }
            if object?.is_some() {
                return Err(Problem::in_the_way("an object stands there"));
            }
        }
        self.directories.made(path);
        Ok(true)
    }

    /// Whether something may be stored at this path.
    async fn may_store(&self, path: &[u8], replace: bool) -> Result<(), Problem> {
        self.need_parent(path).await?;
        if names::is_object_beside_directory(path) {
            return Ok(());
        }
        let is_directory = match replace {
            true => self.has_directory(path).await?,
            false => self.directories.knows(path),
        };
        match is_directory {
            true => Err(Problem::in_the_way("a directory stands there")),
            false => Ok(()),
        }
    }

    /// Stores an object; one that is there is an error unless it shall be replaced.
    async fn store(
        &self,
        path: &[u8],
        content: Bytes,
        wanted: &Wanted,
        replace: bool,
    ) -> Result<(), Problem> {
        let key = self.key(path)?;
        let mut how = Put { headers: wanted.headers.clone(), ..Put::default() };
        let size = content.len() as u64;
        how.only_if_absent = !replace && !self.no_condition.load(Ordering::Relaxed);
        if how.only_if_absent {
            match self.client.put(&key, content.clone(), &how).await {
                Err(error) if error.is_refused_condition() => how.only_if_absent = false,
                Err(error)
                    if error.class == Class::PreconditionFailed && error.may_have_been_done() =>
                {
                    // Of an answer that was lost: what stands there is ours.
                    match self.look(&key).await? {
                        Some(info) if info.size == size && info.headers == how.headers => {}
                        _ => return Err(error.into()),
                    }
                }
                answer => {
                    answer?;
                }
            }
        }
        if !how.only_if_absent {
            if !replace {
                self.need_nothing(&key).await?;
            }
            self.client.put(&key, content, &how).await?;
            // It was the condition that was refused before.
            self.no_condition.fetch_or(!replace, Ordering::Relaxed);
        }
        self.directories.filled(directories::parent(path));
        Ok(())
    }

    /// An error if an object of this key is there. Where the server takes no condition, this look
    /// before is what is left.
    async fn need_nothing(&self, key: &str) -> Result<(), Problem> {
        match self.look(key).await? {
            Some(_) => Err(Problem::in_the_way("something stands there")),
            None => Ok(()),
        }
    }

    async fn set_attributes(
        &self,
        path: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<Unset, Problem> {
        let metadata = attributes.metadata;
        if metadata.kind == Kind::Directory {
            if !path.is_empty() && self.directories.is_empty(path) {
                let key = self.prefix(path)?;
                let how = Put { headers: headers::of_directory(metadata), ..Put::default() };
                self.client.put(&key, Bytes::new(), &how).await?;
                self.directories.filled(path);
            }
            return Ok(headers::lost_of_directory(attributes));
        }
        let key = self.key(path)?;
        let wanted = Wanted::new(attributes);
        let info = self.look(&key).await?.ok_or_else(Problem::nothing)?;
        if info.headers != wanted.headers {
            let how = Put {
                headers: wanted.headers,
                storage_class: info.storage_class.clone(),
                ..Put::default()
            };
            self.client.replace_headers(&key, info.etag.as_deref(), &how).await?;
        }
        Ok(wanted.unset)
    }

    async fn remove(&self, path: &[u8]) -> Result<(), Problem> {
        let key = self.key(path)?;
        let prefix = self.prefix(path)?;
        if names::is_object_beside_directory(path) || !self.has_directory(path).await? {
            self.look(&key).await?.ok_or_else(Problem::nothing)?;
            return Ok(self.client.delete(&key).await?);
        }
        let mut listing = self.client.pages(&prefix, false).of(2);
        let mut is_marked = false;
        while let Some(page) = listing.next().await? {
            let is_marker = |key: &str, size| key == prefix && size == 0;
            if !page.objects.iter().all(|object| is_marker(&object.key, object.size)) {
                return Err(Problem::in_the_way("the directory is not empty"));
            }
            is_marked |= !page.objects.is_empty();
        }
        if !self.directories.made_in(path).is_empty() {
            return Err(Problem::in_the_way("the directory is not empty"));
        }
        if is_marked {
            self.client.delete(&prefix).await?;
        }
        self.directories.removed(path);
        Ok(())
    }
}

impl Destination for S3Destination {
    fn location(&self) -> String {
        self.inner.client.location()
    }

    fn prepare(&self) -> DestinationResult<()> {
        self.inner.call("create", b"", self.inner.prepare())
    }

    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>> {
        self.inner.call("stat", path, self.inner.stat(path))
    }

    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>> {
        self.inner.call("list", path, self.inner.list(path))
    }

    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool> {
        self.inner.call("create", path, self.inner.make_directory(path))
    }

    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let wanted = Wanted::new(attributes);
        let write = async {
            inner.may_store(path, replace).await?;
            inner.store(path, Bytes::copy_from_slice(content), &wanted, replace).await?;
            Ok(wanted.unset)
        };
        inner.call("create", path, write)
    }

    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>> {
        let inner = &self.inner;
        let create = async {
            inner.may_store(path, replace).await?;
            // Known better now than after the last gigabyte.
            if !replace {
                inner.need_nothing(&inner.key(path)?).await?;
            }
            Ok(file::S3File::create(inner, path, size, replace)?)
        };
        Ok(Box::new(inner.call("create", path, create)?))
    }

    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn io::Read + Send>> {
        let inner = &self.inner;
        let open = async {
            let key = inner.key(path)?;
            let info = inner.look(&key).await?.ok_or_else(Problem::nothing)?;
            if described(&info).kind != Kind::File {
                return Err(Problem::in_the_way("something else than a file stands there"));
            }
            Ok(Reader::new(Ranges::open(&inner.client, key, info.size).await?))
        };
        Ok(Box::new(inner.call("read", path, open)?))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset> {
        let inner = &self.inner;
        let wanted = Wanted::new(attributes);
        let make = async {
            inner.may_store(path, false).await?;
            inner.store(path, Bytes::copy_from_slice(target), &wanted, false).await?;
            Ok(wanted.unset)
        };
        inner.call("create", path, make)
    }

    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>> {
        let inner = &self.inner;
        let read = async {
            let key = inner.key(path)?;
            let most = client::Wanted { most: Some(TARGET), ..client::Wanted::default() };
            Ok(inner.client.get_wanted(&key, &most).await?.bytes.to_vec())
        };
        inner.call("read", path, read)
    }

    fn make_hard_link(&self, path: &[u8], _: &[u8]) -> DestinationResult<()> {
        let what = "an object has one key";
        let refuse = async { Err(Problem::Here(DestinationErrorKind::Unsupported, what)) };
        self.inner.call("link", path, refuse)
    }

    fn make_special(&self, path: &[u8], _: Attributes<'_>) -> DestinationResult<Unset> {
        let what = "devices, FIFOs and sockets cannot be objects";
        let refuse = async { Err(Problem::Here(DestinationErrorKind::Unsupported, what)) };
        self.inner.call("create", path, refuse)
    }

    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let inner = &self.inner;
        inner.call("set attributes of", path, inner.set_attributes(path, attributes))
    }

    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>> {
        let inner = &self.inner;
        let look = async {
            let info = inner.look(&inner.key(path)?).await?.ok_or_else(Problem::nothing)?;
            Ok(headers::xattrs(&info))
        };
        inner.call("read attributes of", path, look)
    }

    fn remove(&self, path: &[u8]) -> DestinationResult<()> {
        self.inner.call("remove", path, self.inner.remove(path))
    }

    fn free_space(&self) -> DestinationResult<Option<u64>> {
        Ok(None)
    }

    fn concurrency(&self) -> usize {
        CONCURRENCY
    }

    fn keeps_xattr(&self, name: &[u8]) -> bool {
        attributes::is_stored(name)
    }
}
