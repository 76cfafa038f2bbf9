//! Listing a directory in batches, with the next ones asked for in advance.

use std::collections::VecDeque;

use super::Client;
use super::core::Waiter;
use super::error::{ClientError, ClientResult};
use super::file::File;
use super::record::Operation;
use super::reply::DirectoryEntry;
use super::wire::{Malformed, Packet};

/// Requests in flight at first: a small directory is one batch and the end, in one round trip.
const FIRST: usize = 2;
/// Most requests in flight for one directory.
const MOST: usize = 16;
/// Batches without a name, one after the other, that make a broken server. (One of `.` and `..`
/// alone is usual.)
const EMPTY: usize = 32;
/// What a batch may take, to count it among the bytes in flight. OpenSSH sends at most 100 names.
const BATCH: u32 = 32 * 1024;

/// An open directory. Dropped, it is closed.
#[derive(Debug)]
pub struct Directory {
    handle: File,
    waiting: VecDeque<Waiter>,
    batches: usize,
    empty: usize,
    ended: bool,
    failed: Option<ClientError>,
    long_names: bool,
}

impl Directory {
    pub(super) fn new(handle: File) -> Self {
        Self {
            handle,
            waiting: VecDeque::new(),
            batches: 0,
            empty: 0,
            ended: false,
            failed: None,
            long_names: false,
        }
    }

    /// Keeps the lines that the server made for people to read.
    pub fn keep_long_names(mut self) -> Self {
        self.long_names = true;
        self
    }

    /// The next entries, in the server's order, without `.` and `..`; at least one. `None` at the
    /// end. After an error the listing is not whole, and every later call returns it again.
    pub async fn next(&mut self) -> ClientResult<Option<Vec<DirectoryEntry>>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let outcome = self.advance().await;
        if let Err(error) = &outcome {
            self.failed = Some(error.clone());
            self.waiting.clear();
        }
        outcome
    }

    async fn advance(&mut self) -> ClientResult<Option<Vec<DirectoryEntry>>> {
        loop {
            while !self.ended && self.waiting.len() < self.ahead() {
                let packet = Packet::new(Operation::Readdir).string(self.handle.handle());
                self.waiting.push_back(self.handle.submit(packet, BATCH).await?);
            }
            // The rest of the replies counts after the end too: a server may answer in any order.
            let Some(waiter) = self.waiting.front_mut() else { return Ok(None) };
            waiter.arrive().await;
            let Some(waiter) = self.waiting.pop_front() else { return Ok(None) };
            let long_names = self.long_names;
            match waiter.get_unless_end(|reply| reply.entries(long_names)).await? {
                None => self.ended = true,
                Some(entries) => {
                    self.batches += 1;
                    self.empty = if entries.is_empty() { self.empty + 1 } else { 0 };
                    if !entries.is_empty() {
                        return Ok(Some(entries));
                    }
                    if self.empty == EMPTY {
                        let what = Malformed("a listing without an end");
                        return Err(self.handle.malformed(Operation::Readdir, what));
                    }
                }
            }
        }
    }

    /// Requests to have in flight. After the first batch the second reply is waited for: most often
    /// it is the end, and a third request would be for nothing.
    fn ahead(&self) -> usize {
        match self.batches {
            0 => FIRST,
            1 => 1,
            batches => (2 * batches).min(MOST),
        }
    }
}

impl Client {
    /// All entries of a directory, without `.` and `..`, in the server's order.
    pub async fn list(&self, path: &[u8]) -> ClientResult<Vec<DirectoryEntry>> {
        let mut directory = self.open_directory(path).await?;
        let mut entries = Vec::new();
        while let Some(batch) = directory.next().await? {
            entries.extend(batch);
        }
        Ok(entries)
    }
}
