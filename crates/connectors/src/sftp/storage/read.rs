//! Reading objects, whole and in ranges, and what is to be known of one.

use holdfast_engine::storage::{ObjectInfo, ObjectName};

use super::place::is_own;
use super::problem::Trouble;
use super::{SftpStorage, parent};
use crate::sftp::client::{Attributes, ClientErrorKind, FileKind, OpenFlags};
use crate::sftp::pool::Retry;

/// Read at once of a long object: memory follows what came, not what a server says will come.
const STEP: u64 = 16 << 20;

impl SftpStorage {
    /// All of a file, at most two round trips for a small one.
    pub(super) async fn read_whole(&self, path: &[u8]) -> Result<Vec<u8>, Trouble> {
        let read = self.pool.run(Retry::Yes, async |client| {
            let first = client.read_small(path, client.read_size()).await?;
            if !first.has_more {
                return Ok((first.bytes, None));
            }
            let file = client.open(path, OpenFlags::READ, &Attributes::default()).await?;
            let size = file.attributes().await?.size;
            let mut bytes = first.bytes;
            loop {
                let at = bytes.len() as u64;
                let step = size.map_or(STEP, |size| size.saturating_sub(at).min(STEP));
                let more = file.read_range(at, step as usize).await?;
                if more.is_empty() || bytes.try_reserve(more.len()).is_err() {
                    return Ok((bytes, size));
                }
                bytes.extend(more);
            }
        });
        match read.await? {
            (bytes, Some(size)) if bytes.len() as u64 != size => {
                Err(Trouble::io(format!("{} of {size} bytes could be read", bytes.len())))
            }
            (bytes, _) => Ok(bytes),
        }
    }

    /// Fills `into` from `offset` on.
    pub(super) async fn read_range(
        &self,
        name: &ObjectName,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), Trouble> {
        let path = self.path(name.as_str()).await?;
        let length = into.len();
        let read = self.pool.run_on(Retry::Yes, async |lease| {
            let read = async |file: &crate::sftp::client::File| file.read_into(offset, into).await;
            self.handles.with(&self.pool, lease, &path, read).await
        });
        match read.await? {
            found if found == length => Ok(()),
            found => Err(Trouble::io(format!("{found} of {length} bytes at {offset}"))),
        }
    }

    pub(super) async fn look(&self, name: &ObjectName) -> Result<ObjectInfo, Trouble> {
        let path = self.path(name.as_str()).await?;
        let found = self.pool.run(Retry::Yes, async |client| client.stat(&path).await).await?;
        if found.kind().is_some_and(|kind| kind != FileKind::File) {
            return Err(Trouble::not_found());
        }
        info(name.clone(), &found)
            .ok_or_else(|| Trouble::io("the server does not tell its size".into()))
    }

    /// Removes an object, and the directory of a note or a session with its last one.
    pub(super) async fn remove(&self, name: &ObjectName) -> Result<(), Trouble> {
        let path = self.path(name.as_str()).await?;
        let mut sent = false;
        let removed = self.pool.run(Retry::Yes, async |client| {
            match client.remove(&path).await {
                // By the request before, whose reply was lost.
                Err(error) if sent && error.kind == ClientErrorKind::NotFound => Ok(()),
                outcome => {
                    sent = true;
                    outcome
                }
            }
        });
        removed.await?;
        self.handles.forget(&path);
        let directory = parent(name.as_str());
        self.sync_directory(directory).await?;
        if is_own(directory) {
            let path = self.path(directory).await?;
            self.handles.forget(&path);
            // Fails while others are in there, which is as it should be.
            let removed = self.pool.run(Retry::No, async |c| c.remove_directory(&path).await);
            let _ = removed.await;
        }
        Ok(())
    }
}

/// What a server told of an object; `None` if not its size.
pub(super) fn info(name: ObjectName, found: &Attributes) -> Option<ObjectInfo> {
    let modified = found.modified().map_or(0, i64::from);
    Some(ObjectInfo { name, size: found.size?, modified })
}
