//! A storage in memory with the manners of real ones: parts of objects that cannot be read, packs
//! that may not be deleted, and locks that can be extended.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};
use holdfast_testkit::MemoryStorage;

#[derive(Debug, Default)]
struct Manners {
    unreadable: Vec<(ObjectName, Range<u64>)>,
    locked_again: Option<BTreeSet<ObjectName>>,
    keeps_packs: bool,
}

/// Such a storage. Copies are of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Worn {
    inner: MemoryStorage,
    manners: Arc<Mutex<Manners>>,
}

impl Worn {
    pub(crate) fn new(inner: MemoryStorage) -> Self {
        Self { inner, manners: Arc::default() }
    }

    fn manners(&self) -> std::sync::MutexGuard<'_, Manners> {
        self.manners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on reading any of these bytes fails, until the object is deleted.
    pub(crate) fn make_unreadable(&self, name: &ObjectName, bytes: Range<u64>) {
        self.manners().unreadable.push((name.clone(), bytes));
    }

    /// From now on no pack is deleted, as in a locked bucket.
    pub(crate) fn keep_packs(&self) {
        self.manners().keeps_packs = true;
    }

    /// From now on locks are extended.
    pub(crate) fn lock(&self) {
        self.manners().locked_again = Some(BTreeSet::new());
    }

    /// What was locked again since this was asked last.
    pub(crate) fn locked_again(&self) -> BTreeSet<ObjectName> {
        self.manners().locked_again.replace(BTreeSet::new()).unwrap_or_default()
    }

    fn test(&self, name: &ObjectName, bytes: &Range<u64>) -> StorageResult<()> {
        let hit = |(object, bad): &(ObjectName, Range<u64>)| {
            object == name && bad.start < bytes.end && bad.end > bytes.start
        };
        match self.manners().unreadable.iter().any(hit) {
            true => Err(StorageError::new(StorageErrorKind::Io, "read", name.as_str())),
            false => Ok(()),
        }
    }
}

impl Storage for Worn {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn prepare(&self) -> StorageResult<()> {
        self.inner.prepare()
    }
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.inner.put(name, bytes)
    }
    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        self.inner.upload()
    }
    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.test(name, &(0..u64::MAX))?;
        self.inner.get(name)
    }
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        self.test(name, &(offset..offset + length as u64))?;
        self.inner.get_range(name, offset, length, into)
    }
    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.inner.list(folder, each)
    }
    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.inner.stat(name)
    }
    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        if self.manners().keeps_packs && name.as_str().starts_with("packs/") {
            let kind = StorageErrorKind::PermissionDenied;
            return Err(StorageError::new(kind, "delete", name.as_str()));
        }
        self.manners().unreadable.retain(|(object, _)| object != name);
        self.inner.delete(name)
    }
    fn extend_retention(&self, objects: &[ObjectInfo]) -> StorageResult<Option<u64>> {
        let mut manners = self.manners();
        let Some(locked) = &mut manners.locked_again else { return Ok(None) };
        locked.extend(objects.iter().map(|info| info.name.clone()));
        Ok(Some(objects.len() as u64))
    }
}
