//! Reading a file that is there, to verify it: with requests in flight ahead of the reader, and
//! from where it was on another connection if one breaks.

use std::io::{self, Read};
use std::sync::Arc;

use super::Inner;
use super::problem::Problem;
use crate::sftp::client::{Attributes, OpenFlags, Reader};
use crate::sftp::pool::Lease;

/// Bytes to be ahead of the reader.
const AHEAD: usize = 1 << 20;

/// A file on the server.
pub(super) struct SftpReader {
    inner: Arc<Inner>,
    path: Vec<u8>,
    at: Vec<u8>,
    open: Option<(Reader, Lease)>,
    /// Where `rest` starts in the file.
    position: u64,
    rest: io::Cursor<Vec<u8>>,
}

impl SftpReader {
    /// Opens what stands at `at`.
    pub(super) async fn open(
        inner: &Arc<Inner>,
        path: &[u8],
        at: Vec<u8>,
    ) -> Result<Self, Problem> {
        let mut reader = Self {
            inner: inner.clone(),
            path: path.to_vec(),
            at,
            open: None,
            position: 0,
            rest: io::Cursor::default(),
        };
        // Whether it can be opened is told now; and the first bytes are most often wanted.
        reader.fill().await?;
        Ok(reader)
    }

    /// Gets the next bytes; none at the end.
    async fn fill(&mut self) -> Result<(), Problem> {
        self.position += self.rest.get_ref().len() as u64;
        self.rest = io::Cursor::default();
        let pool = &self.inner.pool;
        let mut patience = pool.patience();
        loop {
            if self.open.is_none() {
                let lease = pool.lease(&mut patience).await?;
                let none = Attributes::default();
                match lease.client().open(&self.at, OpenFlags::READ, &none).await {
                    Ok(file) => {
                        let reader = file.reader(self.position, u64::MAX, AHEAD);
                        self.open = Some((reader, lease));
                    }
                    Err(error) if error.is_disconnect() => {
                        pool.discard(&lease);
                        if !patience.pause().await {
                            return Err(error.into());
                        }
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            let Some((reader, lease)) = &mut self.open else { continue };
            match reader.next().await {
                Ok(bytes) => {
                    self.rest = io::Cursor::new(bytes.unwrap_or_default());
                    return Ok(());
                }
                Err(error) if error.is_disconnect() => {
                    pool.discard(lease);
                    self.open = None;
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for SftpReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.rest.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        let inner = self.inner.clone();
        let path = self.path.clone();
        inner.call("read", &path, self.fill()).map_err(io::Error::other)?;
        self.rest.read(buffer)
    }
}
