//! A storage that reads from another one and writes nowhere: a dry run does all that a run does
//! but leave anything behind.

use std::sync::Arc;
use std::time::Duration;

use crate::hash::ObjectId;
use crate::storage::{Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload};

#[derive(Debug)]
pub(super) struct DiscardStorage(Arc<dyn Storage>);

impl DiscardStorage {
    pub(super) fn new(inner: Arc<dyn Storage>) -> Self {
        Self(inner)
    }
}

struct Discard;

impl Upload for Discard {
    fn write(&mut self, _: &[u8]) -> StorageResult<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, _: &ObjectName) -> StorageResult<()> {
        Ok(())
    }
}

impl Storage for DiscardStorage {
    fn location(&self) -> String {
        self.0.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        Ok(())
    }

    fn put(&self, _: &ObjectName, _: &[u8]) -> StorageResult<()> {
        Ok(())
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        Ok(Box::new(Discard))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.0.get(name)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        self.0.get_range(name, offset, length, into)
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.0.list(folder, each)
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.0.stat(name)
    }

    fn delete(&self, _: &ObjectName) -> StorageResult<()> {
        Ok(())
    }

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        self.0.sha256(names)
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency()
    }

    fn settle(&self) -> Duration {
        self.0.settle()
    }
}
