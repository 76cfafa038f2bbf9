//! A storage that writes down every call made to the one within, for tests that assert which and
//! how many requests an operation costs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_engine::hash::ObjectId;
use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageErrorKind, StorageResult, Upload, UploadHint,
    Warmth,
};

use crate::lock;

/// What was asked of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Storage::prepare`].
    Prepare,
    /// [`Storage::put`].
    Put,
    /// [`Upload::finish`]; starting and writing an upload are not calls of their own.
    Upload,
    /// An upload dropped before it was finished.
    Abandon,
    /// [`Storage::get`].
    Get,
    /// [`Storage::get_range`].
    GetRange,
    /// [`Storage::list`].
    List,
    /// [`Storage::stat`].
    Stat,
    /// [`Storage::delete`].
    Delete,
    /// [`Storage::sha256`].
    Sha256,
}

/// One call and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was asked.
    pub operation: Operation,
    /// The object (the first of several) or folder; empty for [`Operation::Prepare`] and
    /// [`Operation::Abandon`].
    pub object: String,
    /// Bytes of content sent or received; for a listing, how many objects it showed; for
    /// checksums, how many there were.
    pub amount: u64,
    /// `None` if it went well.
    pub error: Option<StorageErrorKind>,
}

/// Records the calls made to another storage.
#[derive(Debug)]
pub struct RecordStorage {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<Call>>,
}

impl RecordStorage {
    /// Records what is asked of `inner` from now on.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self { inner, calls: Mutex::new(Vec::new()) }
    }

    /// All calls so far, in the order in which they were answered.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// All calls so far; the record starts anew.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.calls))
    }

    /// How many calls there were in all.
    pub fn total(&self) -> usize {
        lock(&self.calls).len()
    }

    /// How many calls of this operation there were.
    pub fn count(&self, operation: Operation) -> usize {
        lock(&self.calls).iter().filter(|c| c.operation == operation).count()
    }

    /// How many calls of this operation had to do with objects of `folder`.
    pub fn count_in(&self, operation: Operation, folder: Folder) -> usize {
        let of_folder = |object: &str| {
            object
                .strip_prefix(folder.name())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        lock(&self.calls)
            .iter()
            .filter(|c| c.operation == operation && of_folder(&c.object))
            .count()
    }

    fn record<T>(
        &self,
        operation: Operation,
        object: &str,
        answer: StorageResult<T>,
        amount: impl FnOnce(&T) -> u64,
    ) -> StorageResult<T> {
        let call = Call {
            operation,
            object: object.into(),
            amount: answer.as_ref().map_or(0, amount),
            error: answer.as_ref().err().map(|e| e.kind),
        };
        lock(&self.calls).push(call);
        answer
    }
}

impl Storage for RecordStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.record(Operation::Prepare, "", self.inner.prepare(), |()| 0)
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let answer = self.inner.put(name, bytes);
        self.record(Operation::Put, name.as_str(), answer, |()| bytes.len() as u64)
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let inner = self.inner.upload()?;
        Ok(Box::new(RecordUpload { storage: self, inner: Some(inner), amount: 0 }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let answer = self.inner.get(name);
        self.record(Operation::Get, name.as_str(), answer, |bytes| bytes.len() as u64)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let answer = self.inner.get_range(name, offset, length, into);
        self.record(Operation::GetRange, name.as_str(), answer, |()| length as u64)
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let mut shown = 0;
        let answer = self.inner.list(folder, &mut |info| {
            shown += 1;
            each(info);
        });
        self.record(Operation::List, folder.name(), answer, |()| shown)
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.record(Operation::Stat, name.as_str(), self.inner.stat(name), |_| 0)
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.record(Operation::Delete, name.as_str(), self.inner.delete(name), |()| 0)
    }

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        let object = names.first().map_or("", ObjectName::as_str);
        let answer = self.inner.sha256(names);
        self.record(Operation::Sha256, object, answer, |found| {
            found.iter().flatten().flatten().count() as u64
        })
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn uploads(&self) -> UploadHint {
        self.inner.uploads()
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        self.inner.reap(age)
    }

    fn warm_up(&self, names: &[ObjectName], days: u32) -> StorageResult<Warmth> {
        self.inner.warm_up(names, days)
    }

    fn extend_retention(&self, objects: &[ObjectInfo]) -> StorageResult<Option<u64>> {
        self.inner.extend_retention(objects)
    }

    fn settle(&self) -> Duration {
        self.inner.settle()
    }
}

struct RecordUpload<'a> {
    storage: &'a RecordStorage,
    /// `None` once finished.
    inner: Option<Box<dyn Upload + 'a>>,
    amount: u64,
}

impl Upload for RecordUpload<'_> {
    fn may_be_cold(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.may_be_cold();
        }
    }

    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        self.amount += bytes.len() as u64;
        match &mut self.inner {
            Some(inner) => inner.write(bytes),
            None => Ok(()),
        }
    }

    fn finish(mut self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let answer = match self.inner.take() {
            Some(inner) => inner.finish(name),
            None => Ok(()),
        };
        let amount = self.amount;
        self.storage.record(Operation::Upload, name.as_str(), answer, |()| amount)
    }
}

impl Drop for RecordUpload<'_> {
    fn drop(&mut self) {
        if self.inner.take().is_some() {
            // Nothing is answered to a drop.
            let _ = self.storage.record(Operation::Abandon, "", Ok(()), |()| 0);
        }
    }
}
