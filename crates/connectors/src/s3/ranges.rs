//! An object read by parts, with requests ahead of the reader; all parts are of one version of it.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::client::{Class, Object, ObjectInfo, S3Client, S3Error, S3Result, Wanted};

/// Bytes of one request.
const PART: u64 = 4 << 20;
/// Requests ahead of the reader.
const AHEAD: usize = 3;

/// An object, open for reading from front to back (and elsewhere, at the price of what was asked
/// for in advance).
#[derive(Debug)]
pub(super) struct Ranges {
    client: S3Client,
    key: String,
    info: ObjectInfo,
    /// What is at hand, and where it begins.
    ready: (u64, Bytes),
    /// What was asked for, in order, each with where it begins.
    coming: VecDeque<(u64, JoinHandle<S3Result<Object>>)>,
    /// Where the next request begins.
    next: u64,
}

impl Drop for Ranges {
    fn drop(&mut self) {
        self.forget();
    }
}

impl Ranges {
    /// Opens what stands there now; `size` is what it is thought to have.
    pub(super) async fn open(client: &S3Client, key: String, size: u64) -> S3Result<Self> {
        let wanted = Wanted { range: first(size), most: Some(PART), ..Wanted::default() };
        let object = match client.get_wanted(&key, &wanted).await {
            // It is smaller than that, or not empty any more.
            Err(error) if error.class == Class::InvalidRange => {
                let info = client.head(&key).await?;
                let wanted = Wanted {
                    range: first(info.size),
                    etag: info.etag.clone(),
                    ..Wanted::default()
                };
                match wanted.range {
                    Some(_) => client.get_wanted(&key, &wanted).await?,
                    None => Object { bytes: Bytes::new(), info },
                }
            }
            answer => answer?,
        };
        let next = object.bytes.len() as u64;
        Ok(Self {
            client: client.clone(),
            key,
            info: object.info,
            ready: (0, object.bytes),
            coming: VecDeque::new(),
            next,
        })
    }

    /// What came with the first part.
    pub(super) fn info(&self) -> &ObjectInfo {
        &self.info
    }

    /// The object's key.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Fills the buffer from `offset` on as far as the object reaches. One that was replaced
    /// meanwhile: `PreconditionFailed`.
    pub(super) async fn read(&mut self, offset: u64, buffer: &mut [u8]) -> S3Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = offset + filled as u64;
            if at >= self.info.size {
                break;
            }
            let within = at.checked_sub(self.ready.0).and_then(|n| usize::try_from(n).ok());
            let bytes = within.and_then(|n| self.ready.1.get(n..)).unwrap_or_default();
            if bytes.is_empty() {
                self.fetch(at).await?;
                continue;
            }
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            let length = bytes.len().min(rest.len());
            if let (Some(to), Some(from)) = (rest.get_mut(..length), bytes.get(..length)) {
                to.copy_from_slice(from);
            }
            filled += length;
        }
        Ok(filled)
    }

    /// Makes ready what begins at `at`, or holds it.
    async fn fetch(&mut self, at: u64) -> S3Result<()> {
        if self.coming.front().map_or(self.next, |(start, _)| *start) != at {
            self.forget();
            self.next = at;
        }
        self.ready = (at, Bytes::new());
        while self.coming.len() < AHEAD && self.next < self.info.size {
            let range = self.next..(self.next + PART).min(self.info.size);
            self.ask(range);
        }
        let Some((start, asked)) = self.coming.pop_front() else { return Ok(()) };
        let object = match asked.await {
            Ok(answer) => answer?,
            // The task died, or its runtime did: once more, in this one.
            Err(_) => {
                let range = start..(start + PART).min(self.info.size);
                self.client.get_wanted(&self.key, &self.wanted(range)).await?
            }
        };
        self.ready = (start, object.bytes);
        Ok(())
    }

    fn wanted(&self, range: Range<u64>) -> Wanted {
        Wanted { range: Some(range), etag: self.info.etag.clone(), ..Wanted::default() }
    }

    fn ask(&mut self, range: Range<u64>) {
        let (client, key) = (self.client.clone(), self.key.clone());
        let (start, wanted) = (range.start, self.wanted(range));
        self.next = start + PART;
        let task = async move { client.get_wanted(&key, &wanted).await };
        let asked = self.client.runtime().spawn(task);
        self.coming.push_back((start, asked));
    }

    fn forget(&mut self) {
        for (_, asked) in self.coming.drain(..) {
            asked.abort();
        }
    }
}

fn first(size: u64) -> Option<Range<u64>> {
    (size > 0).then_some(0..size.min(PART))
}

/// Reads from front to back.
#[derive(Debug)]
pub(super) struct Reader {
    ranges: Ranges,
    position: u64,
}

impl Reader {
    pub(super) fn new(ranges: Ranges) -> Self {
        Self { ranges, position: 0 }
    }
}

impl std::io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let client = self.ranges.client.clone();
        let read = client.block_on(self.ranges.read(self.position, buffer));
        let read = read.map_err(|error: S3Error| std::io::Error::other(error))?;
        self.position += read as u64;
        Ok(read)
    }
}
