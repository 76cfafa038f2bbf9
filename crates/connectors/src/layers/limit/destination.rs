//! A destination with limits. Content counts; attributes do not.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use holdfast_engine::destination::{
    Attributes, Destination, DestinationFile, DestinationResult, Unset,
};
use holdfast_engine::meta::{Metadata, Time, Xattr};

use super::{Budget, Clock, Limits, system_clock};

/// Limits the bandwidth of another destination.
pub struct LimitDestination {
    inner: Box<dyn Destination>,
    budget: Arc<Budget>,
}

impl fmt::Debug for LimitDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitDestination").field(&self.inner).finish()
    }
}

impl LimitDestination {
    /// Limits what goes to `inner`, and what is read back to compare it.
    pub fn new(inner: Box<dyn Destination>, limits: Limits) -> Self {
        Self::with_clock(inner, limits, system_clock())
    }

    /// The same by another clock.
    pub fn with_clock(inner: Box<dyn Destination>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        Self { inner, budget: Budget::new(limits, clock) }
    }
}

impl Destination for LimitDestination {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> DestinationResult<()> {
        self.inner.prepare()
    }

    fn stat(&self, path: &[u8]) -> DestinationResult<Option<Metadata>> {
        self.inner.stat(path)
    }

    fn list(&self, path: &[u8]) -> DestinationResult<Vec<Vec<u8>>> {
        self.inner.list(path)
    }

    fn make_directory(&self, path: &[u8]) -> DestinationResult<bool> {
        self.inner.make_directory(path)
    }

    fn write_file(
        &self,
        path: &[u8],
        content: &[u8],
        attributes: Attributes<'_>,
        replace: bool,
    ) -> DestinationResult<Unset> {
        self.budget.send(content.len());
        self.inner.write_file(path, content, attributes, replace)
    }

    fn create_file(
        &self,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> DestinationResult<Box<dyn DestinationFile>> {
        let inner = self.inner.create_file(path, size, replace)?;
        Ok(Box::new(LimitFile { inner, budget: self.budget.clone() }))
    }

    fn open_file(&self, path: &[u8]) -> DestinationResult<Box<dyn Read + Send>> {
        let inner = self.inner.open_file(path)?;
        Ok(Box::new(LimitReader { inner, budget: self.budget.clone() }))
    }

    fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        attributes: Attributes<'_>,
    ) -> DestinationResult<Unset> {
        self.inner.make_symlink(path, target, attributes)
    }

    fn link_target(&self, path: &[u8]) -> DestinationResult<Vec<u8>> {
        self.inner.link_target(path)
    }

    fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> DestinationResult<()> {
        self.inner.make_hard_link(path, existing)
    }

    fn make_special(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        self.inner.make_special(path, attributes)
    }

    fn set_attributes(&self, path: &[u8], attributes: Attributes<'_>) -> DestinationResult<Unset> {
        self.inner.set_attributes(path, attributes)
    }

    fn xattrs(&self, path: &[u8]) -> DestinationResult<Vec<Xattr>> {
        self.inner.xattrs(path)
    }

    fn remove(&self, path: &[u8]) -> DestinationResult<()> {
        self.inner.remove(path)
    }

    fn free_space(&self) -> DestinationResult<Option<u64>> {
        self.inner.free_space()
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn keeps_xattr(&self, name: &[u8]) -> bool {
        self.inner.keeps_xattr(name)
    }

    fn kept_time(&self, time: Time) -> Time {
        self.inner.kept_time(time)
    }
}

struct LimitFile {
    inner: Box<dyn DestinationFile>,
    budget: Arc<Budget>,
}

impl DestinationFile for LimitFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DestinationResult<()> {
        self.budget.send(bytes.len());
        self.inner.write_at(offset, bytes)
    }

    fn finish(self: Box<Self>, attributes: Attributes<'_>) -> DestinationResult<Unset> {
        self.inner.finish(attributes)
    }
}

struct LimitReader {
    inner: Box<dyn Read + Send>,
    budget: Arc<Budget>,
}

impl Read for LimitReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.budget.receive(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::StillClock;
    use super::*;
    use crate::local::destination::{LocalDestination, LocalDestinationOptions};

    #[test]
    fn what_is_written_and_read_back_takes_its_time() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let local =
            LocalDestination::new(dir.path().to_path_buf(), LocalDestinationOptions::default());
        let clock = Arc::new(StillClock::default());
        let limits = Limits { upload: Some(1 << 20), download: Some(2 << 20) };
        let place = LimitDestination::with_clock(Box::new(local), limits, clock.clone());
        place.prepare()?;
        let metadata = Metadata { mode: 0o600, ..Metadata::default() };
        let attributes = Attributes { metadata: &metadata, xattrs: &[] };
        let bytes = vec![7; 2 << 20];
        place.write_file(b"small", &bytes, attributes, false)?;
        assert_eq!(clock.now(), Duration::from_secs(2));
        let file = place.create_file(b"big", bytes.len() as u64, false)?;
        file.write_at(0, &bytes)?;
        file.finish(attributes)?;
        assert_eq!(clock.now(), Duration::from_secs(4));
        let mut read = Vec::new();
        place.open_file(b"big")?.read_to_end(&mut read)?;
        assert!(read == bytes);
        assert!(clock.now() > Duration::from_millis(4700));
        Ok(())
    }
}
