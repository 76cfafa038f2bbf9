//! A storage with limits.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdfast_engine::hash::ObjectId;
use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload, UploadHint, Warmth,
};

use super::{Budget, Clock, Limits, system_clock};

/// Limits the bandwidth of another storage.
pub struct LimitStorage {
    inner: Arc<dyn Storage>,
    budget: Arc<Budget>,
}

impl fmt::Debug for LimitStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitStorage").field(&self.inner).finish()
    }
}

impl LimitStorage {
    /// Limits what goes to `inner` and comes from it.
    pub fn new(inner: Arc<dyn Storage>, limits: Limits) -> Self {
        Self::with_clock(inner, limits, system_clock())
    }

    /// The same by another clock.
    pub fn with_clock(inner: Arc<dyn Storage>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { inner, budget: Budget::new(limits, clock) }
    }
}

impl Storage for LimitStorage {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.inner.prepare()
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.budget.send(bytes.len());
        self.inner.put(name, bytes)
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let inner = self.inner.upload()?;
        Ok(match &self.budget.upload {
            None => inner,
            Some(direction) => {
                Box::new(LimitUpload { budget: &self.budget, piece: direction.piece, inner })
            }
        })
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let bytes = self.inner.get(name)?;
        self.budget.receive(bytes.len());
        Ok(bytes)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        self.budget.receive(length);
        self.inner.get_range(name, offset, length, into)
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        self.inner.list(folder, each)
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.inner.stat(name)
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.inner.delete(name)
    }

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        self.inner.sha256(names)
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

struct LimitUpload<'a> {
    budget: &'a Budget,
    piece: usize,
    inner: Box<dyn Upload + 'a>,
}

impl Upload for LimitUpload<'_> {
    fn may_be_cold(&mut self) {
        self.inner.may_be_cold();
    }

    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        for piece in bytes.chunks(self.piece) {
            self.budget.send(piece.len());
            self.inner.write(piece)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        self.inner.finish(name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::BURST;
    use super::super::tests::StillClock;
    use super::*;
    use holdfast_engine::hash::RecordId;
    use holdfast_testkit::MemoryStorage;

    fn limited(upload: Option<u64>, download: Option<u64>) -> (LimitStorage, Arc<StillClock>) {
        let clock = Arc::new(StillClock::default());
        let limits = Limits { upload, download };
        let inner = Arc::new(MemoryStorage::new());
        (LimitStorage::with_clock(inner, limits, clock.clone()), clock)
    }

    fn name(i: u8) -> ObjectName {
        ObjectName::key(RecordId::new([i; 16]))
    }

    #[test]
    fn each_direction_takes_the_time_that_its_rate_says() -> StorageResult<()> {
        let (storage, clock) = limited(Some(1 << 20), Some(2 << 20));
        storage.prepare()?;
        let bytes = vec![7; 3 << 20];
        storage.put(&name(1), &bytes)?;
        assert_eq!(clock.now(), Duration::from_secs(3));
        let mut upload = storage.upload()?;
        upload.write(&bytes)?;
        upload.finish(&name(2))?;
        assert_eq!(clock.now(), Duration::from_secs(6));
        // What was not used of the other direction is not saved up beyond a moment.
        assert_eq!(storage.get(&name(2))?, bytes);
        let mut part = Vec::new();
        storage.get_range(&name(1), 0, 1 << 20, &mut part)?;
        assert_eq!(clock.now(), Duration::from_secs(8) - BURST);
        Ok(())
    }

    #[test]
    fn without_a_limit_nobody_waits() -> StorageResult<()> {
        let (storage, clock) = limited(None, Some(1));
        storage.prepare()?;
        storage.put(&name(1), &[7; 1000])?;
        let mut upload = storage.upload()?;
        upload.write(&[7; 1000])?;
        upload.finish(&name(2))?;
        storage.list(Folder::Keys, &mut |_| {})?;
        assert_eq!(clock.now(), Duration::ZERO);
        Ok(())
    }

    #[test]
    fn uploads_flow_in_pieces() -> StorageResult<()> {
        let (storage, clock) = limited(Some(1 << 20), None);
        storage.prepare()?;
        let pieces =
            |bytes: usize| bytes.div_ceil(storage.budget.upload.as_ref().map_or(1, |d| d.piece));
        assert_eq!(pieces(1 << 20), 4);
        let mut upload = storage.upload()?;
        upload.write(&vec![0; (1 << 20) + 1])?;
        upload.finish(&name(1))?;
        assert_eq!(storage.stat(&name(1))?.size, (1 << 20) + 1);
        assert!(clock.now() > Duration::from_secs(1));
        Ok(())
    }
}
