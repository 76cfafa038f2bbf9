//! A repository in a bucket: each object under its own name below the prefix. The engine's threads
//! call and wait; below, requests of all of them share connections and a limit.
//!
//! Objects are written in [`write`], listed in [`list`], kept in order in [`upkeep`], errors told
//! apart in [`problem`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use holdfast_engine::hash::Sha256;
use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload, UploadHint, Warmth,
};

use self::problem::Trouble;
use self::write::Condition;
use super::client::{Class, S3Client};

mod list;
mod problem;
mod upkeep;
mod write;

/// An upload is held in memory until it is finished.
const UPLOADS: UploadHint = UploadHint { longest: Some(16 << 20), at_once: 4 };

/// A storage in a bucket. Not to be used on a thread of the client's runtime.
///
/// A bucket with versions keeps what is deleted behind a marker; rules of the bucket remove it.
pub struct S3Storage {
    client: S3Client,
    condition: Condition,
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Storage({})", self.client.location())
    }
}

impl S3Storage {
    /// The storage at the place of `client`. Nothing is read or written yet.
    pub fn new(client: S3Client) -> Self {
        Self { client, condition: Condition::default() }
    }

    /// What it asks by.
    pub fn client(&self) -> &S3Client {
        &self.client
    }

    /// An object or folder as a person would write it.
    fn shown(&self, name: &str) -> String {
        match name {
            "" => self.client.location(),
            name => format!("{}/{name}", self.client.location()),
        }
    }

    /// Waits for an operation on `name`.
    fn wait<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl Future<Output = Result<T, Trouble>>,
    ) -> StorageResult<T> {
        let done = self.client.block_on(work);
        done.map_err(|trouble| trouble.error(operation, self.shown(name)))
    }

    /// Looks for the bucket; makes it if that was asked for.
    async fn find_bucket(&self) -> Result<(), Trouble> {
        match self.client.head_bucket().await {
            Ok(()) => Ok(()),
            Err(error)
                if error.class == Class::NoSuchBucket && self.client.options().create_bucket =>
            {
                Ok(self.client.create_bucket().await?)
            }
            // Keys may be good for objects and not for this question.
            Err(error) if error.class == Class::AccessDenied => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn look(&self, name: &ObjectName) -> Result<ObjectInfo, Trouble> {
        let found = self.client.head(&self.client.key(name.as_str())).await?;
        Ok(ObjectInfo { name: name.clone(), size: found.size, modified: found.modified })
    }
}

impl Storage for S3Storage {
    fn location(&self) -> String {
        self.client.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.wait("write", "", self.find_bucket())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.wait("write", name.as_str(), self.store(name.as_str(), bytes, false))
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        Ok(Box::new(S3Upload { storage: self, bytes: Vec::new(), may_be_cold: false }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.wait("read", name.as_str(), async {
            let object = self.client.get(&self.client.key(name.as_str()), None).await?;
            Ok(object.bytes.into())
        })
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        // What comes is kept as it is, and there is nothing beside it meanwhile.
        *into = Vec::new();
        let range = offset..offset.saturating_add(length as u64);
        let object = self.wait("read", name.as_str(), async {
            Ok(self.client.get(&self.client.key(name.as_str()), Some(range)).await?)
        })?;
        *into = object.bytes.into();
        Ok(())
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.wait("list", folder.name(), self.list_folder(folder, each))
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.wait("stat", name.as_str(), self.look(name))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.wait("delete", name.as_str(), async {
            // A trial that is under way would put it back.
            self.condition.settled().await;
            // A server removes what is not there as gladly as what is.
            let key = self.client.key(name.as_str());
            self.client.head(&key).await?;
            Ok(self.client.delete(&key).await?)
        })
    }

    fn concurrency(&self) -> usize {
        16
    }

    fn uploads(&self) -> UploadHint {
        UPLOADS
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        self.wait("delete", "", self.abort_uploads(age))
    }

    fn warm_up(&self, names: &[ObjectName], days: u32) -> StorageResult<Warmth> {
        self.wait("read", "", self.bring_back(names, days))
    }

    fn extend_retention(&self, objects: &[ObjectInfo]) -> StorageResult<Option<u64>> {
        match self.client.options().object_lock {
            Some(days) => self.wait("write", "", self.lock_again(objects, days)).map(Some),
            None => Ok(None),
        }
    }
}

/// An object on its way. Its name is known at the end alone, and S3 renames nothing: so it waits in
/// memory.
struct S3Upload<'a> {
    storage: &'a S3Storage,
    bytes: Vec<u8>,
    may_be_cold: bool,
}

impl Upload for S3Upload<'_> {
    fn may_be_cold(&mut self) {
        self.may_be_cold = true;
    }

    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        if self.bytes.capacity() == 0 {
            // Grown step by step, it would be copied as often, and stand twice each time.
            self.bytes.reserve_exact(UPLOADS.longest.map_or(0, |longest| longest as usize));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let (storage, may_be_cold) = (self.storage, self.may_be_cold);
        let store = storage.store(name.as_str(), self.bytes.into(), may_be_cold);
        storage.wait("write", name.as_str(), store)
    }
}

/// As the server shall compute it.
fn sha256(bytes: &[u8]) -> [u8; 32] {
    *Sha256::of(bytes).as_bytes()
}
