//! A source with a limit on what comes from it. Content counts; what a listing brings does not.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use holdfast_engine::meta::{Extent, Metadata};
use holdfast_engine::source::{
    Details, SmallFile, SmallRead, Source, SourceDirectory, SourceEntry, SourceFile, SourceResult,
    WalkBatch,
};

use super::{Budget, Clock, Limits, system_clock};

/// Limits the bandwidth of another source.
pub struct LimitSource {
    inner: Arc<dyn Source>,
    budget: Arc<Budget>,
}

impl fmt::Debug for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitSource").field(&self.inner).finish()
    }
}

impl LimitSource {
    /// Limits what comes from `inner`.
    pub fn new(inner: Arc<dyn Source>, limits: Limits) -> Self {
        Self::with_clock(inner, limits, system_clock())
    }

    /// The same by another clock.
    pub fn with_clock(inner: Arc<dyn Source>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { inner, budget: Budget::new(limits, clock) }
    }
}

impl Source for LimitSource {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn walk(&self, sink: &mut dyn FnMut(WalkBatch) -> ControlFlow<()>) -> SourceResult<()> {
        self.inner.walk(sink)
    }

    fn details(&self, directory: &SourceDirectory, entry: &SourceEntry) -> SourceResult<Details> {
        self.inner.details(directory, entry)
    }

    fn read_small(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
        limit: usize,
        into: &mut Vec<u8>,
    ) -> SourceResult<SmallRead> {
        let before = into.len();
        let read = self.inner.read_small(directory, entry, limit, into);
        self.budget.receive(into.len().saturating_sub(before));
        read
    }

    fn read_many(
        &self,
        files: &[(&SourceDirectory, &SourceEntry)],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Vec<SourceResult<SmallFile>> {
        let before = into.len();
        let read = self.inner.read_many(files, limit, into);
        self.budget.receive(into.len().saturating_sub(before));
        read
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn reads_empty(&self) -> bool {
        self.inner.reads_empty()
    }

    fn open(
        &self,
        directory: &SourceDirectory,
        entry: &SourceEntry,
    ) -> SourceResult<Box<dyn SourceFile + '_>> {
        let inner = self.inner.open(directory, entry)?;
        Ok(Box::new(LimitFile { inner, budget: self.budget.clone() }))
    }
}

struct LimitFile<'a> {
    inner: Box<dyn SourceFile + 'a>,
    budget: Arc<Budget>,
}

impl SourceFile for LimitFile<'_> {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        let read = self.inner.read_at(offset, buffer)?;
        self.budget.receive(read);
        Ok(read)
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        self.inner.extents()
    }

    fn details(&mut self) -> SourceResult<Details> {
        self.inner.details()
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        self.inner.metadata()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::StillClock;
    use super::*;
    use crate::local::source::{LocalSource, LocalSourceOptions};

    #[test]
    fn what_is_read_takes_its_time_and_is_what_it_was() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let bytes = vec![7; 1 << 20];
        for name in ["a", "b", "c"] {
            std::fs::write(dir.path().join(name), &bytes)?;
        }
        let local = LocalSource::new(dir.path().to_path_buf(), LocalSourceOptions::default())?;
        let clock = Arc::new(StillClock::default());
        let limits = Limits { upload: Some(1), download: Some(1 << 20) };
        let source = LimitSource::with_clock(Arc::new(local), limits, clock.clone());
        let mut found = Vec::new();
        source.walk(&mut |batch| {
            let directory = batch.directory;
            let files = batch.entries.into_iter().filter(|entry| !entry.name.is_empty());
            found.extend(files.map(|entry| (directory.clone(), entry)));
            ControlFlow::Continue(())
        })?;
        assert_eq!((found.len(), clock.now()), (3, Duration::ZERO));
        let [(dir_a, a), (dir_b, b), (dir_c, c)] = &found[..] else { return Err("files".into()) };
        let mut into = Vec::new();
        source.read_small(dir_a, a, 2 << 20, &mut into)?;
        assert_eq!(clock.now(), Duration::from_secs(1));
        let many = source.read_many(&[(dir_b, b), (dir_c, c)], 2 << 20, &mut into);
        assert!(many.iter().all(Result::is_ok) && into.len() == 3 << 20);
        assert_eq!(clock.now(), Duration::from_secs(3));
        let mut part = vec![0; 2 << 20];
        assert_eq!(source.open(dir_a, a)?.read_at(0, &mut part)?, 1 << 20);
        assert!(part.starts_with(&bytes));
        assert_eq!(clock.now(), Duration::from_secs(4));
        Ok(())
    }
}
