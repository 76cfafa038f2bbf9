//! Writing with many requests in flight.

use std::collections::VecDeque;

use super::core::Waiter;
use super::error::{ClientError, ClientResult};
use super::file::File;

/// Writes that were sent and not yet confirmed.
#[derive(Debug, Default)]
struct Outstanding {
    writes: VecDeque<(usize, Waiter)>,
    bytes: usize,
}

impl Outstanding {
    async fn send(&mut self, file: &File, offset: u64, bytes: &[u8]) -> ClientResult<()> {
        let waiter = file.submit_write(offset, bytes).await?;
        self.writes.push_back((bytes.len(), waiter));
        self.bytes += bytes.len();
        Ok(())
    }

    /// Takes the confirmations that are there, and waits for more until at most `most` bytes are
    /// not confirmed. The first error is returned, when nothing is under way any more.
    async fn settle(&mut self, most: usize) -> ClientResult<()> {
        while let Some((_, waiter)) = self.writes.front_mut() {
            if self.bytes <= most && !waiter.is_ready() {
                return Ok(());
            }
            waiter.arrive().await;
            if let Some((bytes, waiter)) = self.writes.pop_front() {
                self.bytes -= bytes;
                if let Err(error) = waiter.done().await {
                    self.drain().await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn drain(&mut self) {
        for (_, mut waiter) in self.writes.drain(..) {
            waiter.arrive().await;
        }
        self.bytes = 0;
    }
}

pub(super) async fn write_at(file: &File, offset: u64, bytes: &[u8]) -> ClientResult<()> {
    let mut outstanding = Outstanding::default();
    let mut at = offset;
    for piece in bytes.chunks(file.write_size() as usize) {
        // The client's own bounds are the window.
        outstanding.settle(usize::MAX).await?;
        outstanding.send(file, at, piece).await?;
        at += piece.len() as u64;
    }
    outstanding.settle(0).await
}

/// A file written in order. Small writes are put together, and a bounded number of bytes is in
/// flight. An error is returned by the next call, and by every call after it.
#[derive(Debug)]
pub struct Writer {
    file: File,
    offset: u64,
    buffer: Vec<u8>,
    outstanding: Outstanding,
    window: usize,
    failed: Option<ClientError>,
}

impl Writer {
    pub(super) fn new(file: File, offset: u64, window: usize) -> Self {
        let (buffer, outstanding) = (Vec::new(), Outstanding::default());
        Self { file, offset, buffer, outstanding, window, failed: None }
    }

    /// Writes `bytes` behind what was written before. Waits while too many bytes are in flight. If
    /// this is dropped before it is done, it is not known how many of them were taken.
    pub async fn write(&mut self, bytes: &[u8]) -> ClientResult<()> {
        self.check()?;
        let outcome = self.take(bytes).await;
        self.keep(outcome)
    }

    /// Sends what is left, and waits until all is confirmed. The file stays open.
    pub async fn finish(mut self) -> ClientResult<File> {
        self.check()?;
        self.send_buffer().await?;
        self.outstanding.settle(0).await?;
        Ok(self.file)
    }

    /// Where the next byte goes in the file.
    pub fn position(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    async fn take(&mut self, mut bytes: &[u8]) -> ClientResult<()> {
        let size = self.file.write_size() as usize;
        while !bytes.is_empty() {
            let room = size.saturating_sub(self.buffer.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            bytes = later;
            if self.buffer.is_empty() && now.len() == size {
                // A whole piece needs no buffer.
                self.make_room(size).await?;
                self.outstanding.send(&self.file, self.offset, now).await?;
                self.offset += size as u64;
                continue;
            }
            self.buffer.extend_from_slice(now);
            if self.buffer.len() >= size {
                self.send_buffer().await?;
            }
        }
        self.outstanding.settle(usize::MAX).await
    }

    async fn send_buffer(&mut self) -> ClientResult<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.make_room(self.buffer.len()).await?;
        self.outstanding.send(&self.file, self.offset, &self.buffer).await?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    async fn make_room(&mut self, bytes: usize) -> ClientResult<()> {
        self.outstanding.settle(self.window.saturating_sub(bytes)).await
    }

    fn check(&self) -> ClientResult<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn keep(&mut self, outcome: ClientResult<()>) -> ClientResult<()> {
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
        }
        outcome
    }
}
