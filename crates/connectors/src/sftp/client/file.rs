//! An open file: a handle that is closed when it is dropped, and what can be asked of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Waiter;
use super::error::{ClientError, ClientResult};
use super::fetch::{self, Reader};
use super::record::Operation;
use super::wire::{Malformed, Packet};
use super::write::{self, Writer};
use super::{Attributes, Shared};

/// How to open a file. Combine with `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpenFlags(u32);

impl OpenFlags {
    /// For reading.
    pub const READ: Self = Self(1);
    /// For writing.
    pub const WRITE: Self = Self(2);
    /// Every write goes to the end of the file, whatever its offset.
    pub const APPEND: Self = Self(4);
    /// Make it if it is not there.
    pub const CREATE: Self = Self(8);
    /// Empty it.
    pub const TRUNCATE: Self = Self(16);
    /// With [`OpenFlags::CREATE`]: fail if it is there.
    pub const EXCLUSIVE: Self = Self(32);

    /// Whether all of `other` are in these.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl std::ops::BitOr for OpenFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An open file. Dropped, it is closed without a wait for the outcome; what is written matters only
/// after [`File::close`] said so.
#[derive(Debug)]
pub struct File {
    shared: Arc<Shared>,
    handle: Vec<u8>,
    path: Arc<[u8]>,
    is_open: bool,
}

impl Drop for File {
    fn drop(&mut self) {
        if self.is_open {
            self.shared.core.close_unasked(&self.handle);
        }
    }
}

impl File {
    pub(super) fn new(shared: Arc<Shared>, handle: Vec<u8>, path: Arc<[u8]>) -> Self {
        Self { shared, handle, path, is_open: true }
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The server's name for the open file: any bytes.
    pub fn handle(&self) -> &[u8] {
        &self.handle
    }

    /// Its attributes.
    pub async fn attributes(&self) -> ClientResult<Attributes> {
        self.submit_stat().await?.get(|reply| reply.attributes()).await
    }

    /// Sets the attributes that are given.
    pub async fn set_attributes(&self, to: &Attributes) -> ClientResult<()> {
        self.submit_set(to).await?.done().await
    }

    /// Forces what was written to disk (an extension).
    pub async fn sync(&self) -> ClientResult<()> {
        self.submit_sync().await?.done().await
    }

    /// Closes it.
    pub async fn close(mut self) -> ClientResult<()> {
        self.submit_close().await?.done().await
    }

    /// One read of at most `length` bytes, as the server answers it: it may return less before the
    /// end of the file. `None` at the end.
    pub async fn read(&self, offset: u64, length: u32) -> ClientResult<Option<Vec<u8>>> {
        let length = length.min(self.read_size());
        let waiter = self.submit_read(offset, length).await?;
        waiter.get_unless_end(|reply| reply.data(length as usize)).await
    }

    /// Fills `buffer` from `offset` on, with many reads in flight. Returns how many bytes there
    /// were: fewer than the buffer has only if the file ends before.
    pub async fn read_into(&self, offset: u64, buffer: &mut [u8]) -> ClientResult<usize> {
        fetch::read_into(self, offset, buffer).await
    }

    /// As [`File::read_into`], into a new buffer.
    pub async fn read_range(&self, offset: u64, length: usize) -> ClientResult<Vec<u8>> {
        let mut buffer = vec![0; length];
        let found = self.read_into(offset, &mut buffer).await?;
        buffer.truncate(found);
        Ok(buffer)
    }

    /// Reads `length` bytes from `offset` on, or to the end of the file, in order, with up to
    /// `window` bytes asked for in advance.
    pub fn reader(self, offset: u64, length: u64, window: usize) -> Reader {
        Reader::new(self, offset, length, window)
    }

    /// Writes all of `bytes` at `offset`, with many writes in flight. After an error, or if this is
    /// dropped before it is done, any part of them may have been written.
    pub async fn write_at(&self, offset: u64, bytes: &[u8]) -> ClientResult<()> {
        write::write_at(self, offset, bytes).await
    }

    /// Writes from `offset` on, with up to `window` bytes in flight.
    pub fn writer(self, offset: u64, window: usize) -> Writer {
        Writer::new(self, offset, window)
    }

    pub(super) fn read_size(&self) -> u32 {
        self.shared.core.read_size.load(Ordering::Relaxed)
    }

    /// A server that always returns less than asked for is asked for less.
    pub(super) fn lower_read_size(&self, size: u32) {
        self.shared.core.read_size.fetch_min(size, Ordering::Relaxed);
    }

    pub(super) fn write_size(&self) -> u32 {
        self.shared.core.write_size.load(Ordering::Relaxed)
    }

    pub(super) fn malformed(&self, operation: Operation, what: Malformed) -> ClientError {
        ClientError::malformed(operation, &self.path, what)
    }

    /// Sends a request about this file, and counts that many bytes for the reply.
    pub(super) async fn submit(&self, packet: Packet, reply: u32) -> ClientResult<Waiter> {
        self.shared.need(packet.operation, &self.path)?;
        self.shared.core.submit(packet, &self.path, reply).await
    }

    pub(super) async fn submit_read(&self, offset: u64, length: u32) -> ClientResult<Waiter> {
        let packet = Packet::new(Operation::Read).string(&self.handle).u64(offset).u32(length);
        self.submit(packet, length).await
    }

    /// `bytes` are at most [`File::write_size`].
    pub(super) async fn submit_write(&self, offset: u64, bytes: &[u8]) -> ClientResult<Waiter> {
        let packet = Packet::with_room(Operation::Write, bytes.len())
            .string(&self.handle)
            .u64(offset)
            .string(bytes);
        self.submit(packet, 0).await
    }

    pub(super) async fn submit_stat(&self) -> ClientResult<Waiter> {
        self.submit(Packet::new(Operation::Fstat).string(&self.handle), 0).await
    }

    pub(super) async fn submit_set(&self, to: &Attributes) -> ClientResult<Waiter> {
        let packet = Packet::new(Operation::Fsetstat).string(&self.handle);
        self.submit(packet.fields(|bytes| to.encode(bytes)), 0).await
    }

    pub(super) async fn submit_sync(&self) -> ClientResult<Waiter> {
        self.submit(Packet::new(Operation::Fsync).string(&self.handle), 0).await
    }

    /// After this the handle is the server's alone.
    pub(super) async fn submit_close(&mut self) -> ClientResult<Waiter> {
        let waiter = self.submit(Packet::new(Operation::Close).string(&self.handle), 0).await?;
        self.is_open = false;
        Ok(waiter)
    }
}
