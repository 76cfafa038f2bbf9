//! A file whose parts come in any order: collected here, and sent when it is whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use holdfast_engine::destination::{Attributes, DestinationFile, DestinationResult, Unset};

use super::headers::Wanted;
use super::{Inner, Problem, WHOLE, directories};
use crate::s3::client::{Multipart, ObjectInfo, Put, S3Result, Stored};

/// Parts of one file that are sent at the same time.
const AT_ONCE: usize = 6;
/// Objects have at most this many parts.
const PARTS: u64 = 10_000;

pub(super) struct S3File {
    inner: Arc<Inner>,
    path: Vec<u8>,
    /// Has no name: it is gone with its last handle.
    collected: File,
    size: u64,
    replace: bool,
}

impl S3File {
    pub(super) fn create(
        inner: &Arc<Inner>,
        path: &[u8],
        size: u64,
        replace: bool,
    ) -> io::Result<Self> {
        let collected = nameless().map_err(here)?;
        // What is not written reads as zeros.
        collected.set_len(size).map_err(here)?;
        Ok(Self { inner: Arc::clone(inner), path: path.to_vec(), collected, size, replace })
    }

    fn read(&self, start: u64, end: u64) -> io::Result<Bytes> {
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.collected.read_exact_at(&mut bytes, start).map_err(here)?;
        Ok(bytes.into())
    }

    async fn send(&self, wanted: &Wanted) -> Result<(), Problem> {
        if self.size <= WHOLE {
            let content = self.read(0, self.size)?;
            return self.inner.store(&self.path, content, wanted, self.replace).await;
        }
        let key = self.inner.key(&self.path)?;
        let how = Put { headers: wanted.headers.clone(), ..Put::default() };
        let mut upload = self.inner.client.upload(&key, &how).await?;
        let part = part_size(self.size);
        let starts = (0..self.size).step_by(usize::try_from(part).map_err(io::Error::other)?);
        let sent = &upload;
        stream::iter(starts.zip(1..))
            .map(|(start, number)| async move {
                let bytes = self.read(start, (start + part).min(self.size))?;
                sent.part(number, bytes).await?;
                Ok::<_, Problem>(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        // What is replaced may look like what replaces it.
        let before = self.inner.look(&key).await?;
        if !self.replace && before.is_some() {
            return Err(Problem::in_the_way("something stands there"));
        }
        match self.complete(&mut upload, &key).await? {
            Ok(_) => {}
            // Of an answer that was lost: what stands there is ours, if it was not there before.
            Err(error) if error.may_have_been_done() => {
                let version =
                    |info: &ObjectInfo| (info.etag.clone(), info.version_id.clone(), info.modified);
                match self.inner.look(&key).await? {
                    Some(info)
                        if info.size == self.size
                            && info.headers == how.headers
                            && before.as_ref().map(version) != Some(version(&info)) => {}
                    _ => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.inner.directories.filled(directories::parent(&self.path));
        Ok(())
    }

    /// Makes the object of its parts; the inner answer is the server's.
    async fn complete(
        &self,
        upload: &mut Multipart,
        key: &str,
    ) -> Result<S3Result<Stored>, Problem> {
        let inner = &self.inner;
        let only_if_absent = !self.replace && !inner.no_condition.load(Ordering::Relaxed);
        let refused = match upload.complete(only_if_absent).await {
            Err(error) if only_if_absent && error.is_refused_condition() => error,
            answer => return Ok(answer),
        };
        if refused.may_have_been_done() {
            return Ok(Err(refused));
        }
        inner.need_nothing(key).await?;
        let stored = upload.complete(false).await;
        // It was the condition that was refused before.
        inner.no_condition.fetch_or(stored.is_ok(), Ordering::Relaxed);
        Ok(stored)
    }
}

/// As small as may be, so that many are on their way, in whole MiB.
fn part_size(size: u64) -> u64 {
    size.div_ceil(PARTS).div_ceil(1 << 20).max(8) << 20
}

/// The error, with where it happened: on this machine, not in the bucket.
fn here(error: io::Error) -> io::Error {
    let place = std::env::temp_dir();
    io::Error::new(error.kind(), format!("a temporary file in {}: {error}", place.display()))
}

/// A file that only its handle leads to.
fn nameless() -> io::Result<File> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    let name = format!(".holdfast-{:032x}", u128::from_le_bytes(random));
    let path = std::env::temp_dir().join(name);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl DestinationFile for S3File {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> DestinationResult<()> {
        let is_within = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.size);
        let written = match is_within {
            true => self.collected.write_all_at(bytes, offset).map_err(here),
            false => Err(io::Error::other("the content is longer than was said")),
        };
        written.map_err(|error| self.inner.error("write", &self.path, error.into()))
    }

    fn finish(self: Box<Self>, attributes: Attributes<'_>) -> DestinationResult<Unset> {
        let wanted = Wanted::new(attributes);
        self.inner.call("create", &self.path, self.send(&wanted))?;
        Ok(wanted.unset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_has_too_many_parts() {
        for size in [WHOLE + 1, 80 << 30, (80 << 30) + 1, 5 << 40] {
            let part = part_size(size);
            assert!(
                part >= 8 << 20 && part.is_multiple_of(1 << 20) && size.div_ceil(part) <= PARTS
            );
        }
    }
}
