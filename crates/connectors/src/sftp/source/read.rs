//! Reading files: small ones many at once, others by parts with requests ahead of the reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_engine::meta::{Extent, Kind, Metadata};
use holdfast_engine::source::{
    Details, SmallFile, SmallRead, SourceDirectory, SourceEntry, SourceError, SourceFile,
    SourceResult,
};
use tokio::task::JoinSet;

use super::metadata::Facts;
use super::{Inner, became_another};
use crate::sftp::client::{
    Attributes, Client, ClientErrorKind, ClientResult, FileKind, OpenFlags, Reader,
};
use crate::sftp::pool::{Lease, SftpError};

/// Bytes of one file that are asked for in advance: 400 MB/s at 20 ms.
const WINDOW: usize = 8 << 20;

impl Inner {
    /// A file's content and its metadata after reading. More than `limit` bytes, or not the file
    /// that was listed: `Changed`.
    pub(super) async fn read_whole(
        &self,
        path: &[u8],
        listed: &Metadata,
        limit: usize,
    ) -> SourceResult<(Vec<u8>, Metadata)> {
        // Closed never.
        let _place = self.open_files.acquire().await;
        let most = u32::try_from(limit).unwrap_or(u32::MAX);
        let expected = u32::try_from(listed.size).unwrap_or(u32::MAX).min(most);
        let is_first = &AtomicBool::new(true);
        let read = self.run(|client| async move {
            if !is_first.swap(false, Ordering::Relaxed) && !is_file(&client, path).await? {
                return Ok(None);
            }
            let mut read = client.read_small(path, expected).await?;
            if read.has_more && expected < most {
                read = client.read_small(path, most).await?;
            }
            self.owners.learn(&client, read.attributes.owner.as_slice()).await?;
            Ok(Some(read))
        });
        let read = match read.await {
            Ok(Some(read)) => read,
            Ok(None) => return Err(became_another("read", path)),
            Err(error) => return Err(self.unread(path, error).await),
        };
        let facts = Facts::of(&read.attributes, self.begun);
        match facts.filter(|facts| !read.has_more && facts.may_be(&Facts::of_metadata(listed))) {
            Some(facts) => Ok((read.bytes, facts.metadata(&self.owners))),
            None => Err(became_another("read", path)),
        }
    }

    /// Why a file could not be read. Servers answer a mere failure for a directory.
    async fn unread(&self, path: &[u8], error: SftpError) -> SourceError {
        let is_vague = matches!(
            error.kind(),
            Some(ClientErrorKind::Failure | ClientErrorKind::Eof | ClientErrorKind::BadMessage)
        );
        if is_vague
            && let Ok(facts) = self.facts_of(path).await
            && facts.kind != Kind::File
        {
            return became_another("read", path);
        }
        self.error("read", path, error)
    }
}

/// Looked at where opening broke the connection: the opening of a FIFO put in a file's place waits
/// for somebody to write into it, and the server with it.
async fn is_file(client: &Client, path: &[u8]) -> ClientResult<bool> {
    Ok(client.lstat(path).await?.kind() == Some(FileKind::File))
}

/// All at once; the results in order.
pub(super) fn read_many(
    inner: &Arc<Inner>,
    files: &[(&SourceDirectory, &SourceEntry)],
    limit: usize,
    into: &mut Vec<u8>,
) -> Vec<SourceResult<SmallFile>> {
    let runtime = inner.pool.runtime();
    let mut reads = JoinSet::new();
    for (number, (directory, entry)) in files.iter().enumerate() {
        let inner = Arc::clone(inner);
        let path = inner.path(&directory.path, &entry.name);
        let listed = entry.metadata.clone();
        let read = async move { (number, inner.read_whole(&path, &listed, limit).await) };
        reads.spawn_on(read, runtime);
    }
    let mut outcomes: Vec<_> = files.iter().map(|_| None).collect();
    inner.pool.block_on(async {
        while let Some(read) = reads.join_next().await {
            if let Ok((number, outcome)) = read
                && let Some(slot) = outcomes.get_mut(number)
            {
                *slot = Some(outcome);
            }
        }
    });
    let died = |(directory, entry): &(&SourceDirectory, &SourceEntry)| {
        let path = inner.path(&directory.path, &entry.name);
        let why = std::io::Error::other("a task that reads files died");
        SourceError::from_io("read", String::from_utf8_lossy(&path), why)
    };
    let outcomes = outcomes.into_iter().zip(files);
    let outcomes = outcomes.map(|(outcome, file)| outcome.unwrap_or_else(|| Err(died(file))));
    let append = |outcome: SourceResult<(Vec<u8>, Metadata)>| {
        let (bytes, metadata) = outcome?;
        let start = into.len();
        into.extend_from_slice(&bytes);
        let read = SmallRead { details: Details::default(), metadata };
        Ok(SmallFile { range: start..into.len(), read })
    };
    outcomes.map(append).collect()
}

/// A file that is open on one connection, and on another if that breaks.
pub(super) struct SftpFile {
    inner: Arc<Inner>,
    path: Vec<u8>,
    open: Open,
    /// Metadata from when it was opened, as long as nothing was read since.
    fresh: Option<Metadata>,
}

/// A file on its connection.
struct Open {
    lease: Lease,
    reader: Reader,
    /// Bytes that came and, from the `used`th on, were not wanted yet.
    rest: Vec<u8>,
    used: usize,
}

impl SftpFile {
    pub(super) fn open(inner: &Arc<Inner>, path: Vec<u8>) -> SourceResult<Self> {
        let (open, metadata) = inner.pool.block_on(open(inner, &path))?;
        Ok(Self { inner: Arc::clone(inner), path, open, fresh: Some(metadata) })
    }

    /// On another connection. That it still is the same file shows in its metadata, which the
    /// engine compares when all is read.
    async fn reopen(&mut self) -> SourceResult<Metadata> {
        self.inner.pool.discard(&self.open.lease);
        let (open, metadata) = open(&self.inner, &self.path).await?;
        self.open = open;
        Ok(metadata)
    }

    async fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        let mut patience = self.inner.pool.patience();
        let mut filled = 0;
        loop {
            let before = filled;
            match self.open.read(offset, buffer, &mut filled).await {
                Ok(()) => return Ok(filled),
                Err(error) if error.is_disconnect() => {
                    if filled > before {
                        patience = self.inner.pool.patience();
                    }
                    if !patience.pause().await {
                        return Err(self.inner.error("read", &self.path, error.into()));
                    }
                    self.reopen().await?;
                }
                Err(error) => return Err(self.inner.unread(&self.path, error.into()).await),
            }
        }
    }

    async fn look(&mut self) -> SourceResult<Metadata> {
        let file = self.open.reader.file();
        let client = self.open.lease.client();
        let looked = async {
            let attributes = file.attributes().await?;
            self.inner.owners.learn(client, attributes.owner.as_slice()).await?;
            Ok(attributes)
        };
        let attributes: ClientResult<Attributes> = looked.await;
        match attributes {
            Ok(attributes) => match Facts::of(&attributes, self.inner.begun) {
                Some(facts) if facts.kind == Kind::File => Ok(facts.metadata(&self.inner.owners)),
                _ => Err(became_another("read", &self.path)),
            },
            Err(error) if error.is_disconnect() => self.reopen().await,
            Err(error) => Err(self.inner.error("stat", &self.path, error.into())),
        }
    }
}

impl Open {
    /// Fills the buffer, whose start stands at `offset`, from the `filled`th byte on as far as the
    /// file reaches.
    async fn read(
        &mut self,
        offset: u64,
        buffer: &mut [u8],
        filled: &mut usize,
    ) -> ClientResult<()> {
        let from = offset.saturating_add(*filled as u64);
        let ready = self.rest.len() - self.used;
        if from != self.reader.position().saturating_sub(ready as u64) {
            self.rest.clear();
            self.used = 0;
            self.reader.seek(from);
        }
        loop {
            let wanted = buffer.get_mut(*filled..).unwrap_or_default();
            let ready = self.rest.get(self.used..).unwrap_or_default();
            let bytes = ready.len().min(wanted.len());
            if let (Some(to), Some(from)) = (wanted.get_mut(..bytes), ready.get(..bytes)) {
                to.copy_from_slice(from);
            }
            self.used += bytes;
            *filled += bytes;
            if *filled == buffer.len() {
                return Ok(());
            }
            let Some(data) = self.reader.next().await? else { return Ok(()) };
            (self.rest, self.used) = (data, 0);
        }
    }
}

/// Opens a regular file, and nothing that a link put in its place leads to.
async fn open(inner: &Inner, path: &[u8]) -> SourceResult<(Open, Metadata)> {
    let is_first = &AtomicBool::new(true);
    let opened = inner.lease_for(|client| async move {
        let none = Attributes::default();
        let open = async { client.open(path, OpenFlags::READ, &none).await };
        let (looked, opened) = if is_first.swap(false, Ordering::Relaxed) {
            tokio::join!(client.lstat(path), open)
        } else if is_file(&client, path).await? {
            (client.lstat(path).await, open.await)
        } else {
            return Ok(None);
        };
        let looked = looked?;
        if looked.kind() != Some(FileKind::File) {
            return Ok(None);
        }
        let file = opened?;
        let attributes = file.attributes().await?;
        inner.owners.learn(&client, attributes.owner.as_slice()).await?;
        Ok(Some((file, looked, attributes)))
    });
    let (lease, opened) = opened.await.map_err(|e| inner.error("read", path, e))?;
    let opened = opened.and_then(|(file, looked, attributes)| {
        let facts = Facts::of(&attributes, inner.begun)?;
        let looked = Facts::of(&looked, inner.begun)?;
        facts.may_be(&looked).then_some((file, facts))
    });
    let Some((file, facts)) = opened else { return Err(became_another("read", path)) };
    let reader = file.reader(0, u64::MAX, WINDOW);
    let open = Open { lease, reader, rest: Vec::new(), used: 0 };
    Ok((open, facts.metadata(&inner.owners)))
}

impl SourceFile for SftpFile {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> SourceResult<usize> {
        self.fresh = None;
        let pool = self.inner.pool.clone();
        pool.block_on(self.fill(offset, buffer))
    }

    fn extents(&mut self) -> SourceResult<Option<Vec<Extent>>> {
        Ok(None)
    }

    fn details(&mut self) -> SourceResult<Details> {
        Ok(Details::default())
    }

    fn metadata(&mut self) -> SourceResult<Metadata> {
        match &self.fresh {
            Some(metadata) => Ok(metadata.clone()),
            None => {
                let pool = self.inner.pool.clone();
                pool.block_on(self.look())
            }
        }
    }
}
