//! Reading objects: small ones many at once, others by parts.

use std::sync::Arc;

use holdfast_engine::meta::{Extent, Metadata};
use holdfast_engine::source::{
    Details, SmallFile, SourceDirectory, SourceEntry, SourceError, SourceFile, SourceResult,
};
use tokio::task::JoinSet;

use super::{Inner, Object, Wanted, facts, small};
use crate::s3::ranges::Ranges;

/// A whole object. More than `limit` bytes: `Changed`.
pub(super) async fn whole(inner: &Inner, key: &str, limit: usize) -> SourceResult<Object> {
    let wanted = Wanted { most: Some(limit as u64), ..Wanted::default() };
    inner.client.get_wanted(key, &wanted).await.map_err(|e| inner.error("read", key, e))
}

/// All at once; the results in order.
pub(super) fn read_many(
    inner: &Arc<Inner>,
    files: &[(&SourceDirectory, &SourceEntry)],
    limit: usize,
    into: &mut Vec<u8>,
) -> Vec<SourceResult<SmallFile>> {
    let mut outcomes: Vec<Option<SourceResult<Object>>> = files.iter().map(|_| None).collect();
    let mut keys = Vec::with_capacity(files.len());
    let mut reads = JoinSet::new();
    for (number, (directory, entry)) in files.iter().enumerate() {
        let key = inner.key(directory, entry);
        keys.push(key.as_deref().unwrap_or_default().to_owned());
        match key {
            Err(error) => {
                if let Some(slot) = outcomes.get_mut(number) {
                    *slot = Some(Err(error));
                }
            }
            Ok(key) => {
                let inner_of_task = Arc::clone(inner);
                let read = async move { (number, whole(&inner_of_task, &key, limit).await) };
                reads.spawn_on(read, inner.client.runtime());
            }
        }
    }
    inner.client.block_on(async {
        while let Some(read) = reads.join_next().await {
            if let Ok((number, outcome)) = read
                && let Some(slot) = outcomes.get_mut(number)
            {
                *slot = Some(outcome);
            }
        }
    });
    let outcomes = outcomes.into_iter().zip(keys).zip(files);
    let append = |((outcome, key), (_, entry)): (_, &(&SourceDirectory, &SourceEntry))| {
        let outcome: Option<SourceResult<Object>> = outcome;
        let key: String = key;
        let object = outcome.unwrap_or_else(|| {
            let died = std::io::Error::other("a task that reads objects died");
            Err(SourceError::from_io("read", inner.shown(&key), died))
        })?;
        let start = into.len();
        into.extend_from_slice(&object.bytes);
        Ok(SmallFile { range: start..into.len(), read: small(&object, &key, &entry.name) })
    };
    outcomes.map(append).collect()
}

/// An object that is read by parts.
pub(super) struct S3File {
    inner: Arc<Inner>,
    name: Vec<u8>,
    ranges: Ranges,
    /// Where it has no ETag, only another look tells whether it is what was opened.
    was_read: bool,
}

impl S3File {
    pub(super) fn open(inner: &Arc<Inner>, key: String, entry: &SourceEntry) -> SourceResult<Self> {
        let shown = key.clone();
        let ranges = inner.client.block_on(Ranges::open(&inner.client, key, entry.metadata.size));
        let ranges = ranges.map_err(|e| inner.error("read", &shown, e))?;
        Ok(Self { inner: Arc::clone(inner), name: entry.name.clone(), ranges, was_read: false })
    }
}

impl SourceFile for S3File {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        self.was_read = true;
        let client = self.inner.client.clone();
        let read = client.block_on(self.ranges.read(offset, buffer));
        read.map_err(|e| self.inner.error("read", self.ranges.key(), e))
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        Ok(None)
    }

    fn details(&mut self) -> SourceResult<Details> {
        Ok(facts::details(self.ranges.info(), self.ranges.key(), &self.name))
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        if self.was_read && self.ranges.info().etag.is_none() {
            let key = self.ranges.key();
            let info = self.inner.client.block_on(self.inner.client.head(key));
            return Ok(facts::of_info(&info.map_err(|e| self.inner.error("stat", key, e))?));
        }
        Ok(facts::of_info(self.ranges.info()))
    }
}
