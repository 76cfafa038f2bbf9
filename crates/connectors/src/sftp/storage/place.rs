//! Writing an object: a temporary file beside its place, then its name, then the temporary name
//! goes. Connections may break at any time, and what a request did whose reply was lost is not
//! known. So each step may be repeated, and one that finds its own work done takes it for done.
//!
//! A temporary name is gone before success is reported: a late copy of the request that gives the
//! object its name then finds nothing to name.

use std::sync::atomic::Ordering;

use holdfast_engine::storage::StorageErrorKind;

use super::problem::Trouble;
use super::{SftpStorage, parent};
use crate::network::Patience;
use crate::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, Extension, Operation, WriteSmall,
};
use crate::sftp::pool::{Pool, Retry, SftpError};

/// What temporary names start with, the same as in a local storage. The dot keeps them out of
/// listings.
pub(super) const PREFIX: &str = ".tmp-";

/// Attempts where a directory that was just made is gone again: others remove empty ones.
const MISSING: u32 = 4;

/// An object on its way to its name.
pub(super) struct Fresh<'a> {
    /// Its name within the storage.
    pub(super) name: &'a str,
    /// Size in bytes.
    pub(super) size: u64,
    /// Its content where it is at hand; without it the size has to do (packs and segments are
    /// named after their content).
    pub(super) bytes: Option<&'a [u8]>,
}

impl Fresh<'_> {
    /// Whether its name may be given only once (docs/design/protocol.md): a copy of that request
    /// that takes place late would make a snapshot appear that its writer has given up.
    fn only_once(&self) -> bool {
        self.name.starts_with("snapshots/")
    }
}

/// A name that nobody else uses.
pub(super) fn fresh_name() -> Result<String, Trouble> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| Trouble::io(format!("no randomness: {error}")))?;
    Ok(format!("{PREFIX}{:016x}", u64::from_le_bytes(random)))
}

impl SftpStorage {
    /// Stores a whole object under its name.
    pub(super) async fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let mut temporaries = Vec::new();
        let fresh = Fresh { name, size: bytes.len() as u64, bytes: Some(bytes) };
        let stored = async {
            // Where a rename may replace what is there, a look before is what is left.
            let (written, taken) =
                tokio::join!(self.write(&fresh, bytes, &mut temporaries), self.is_taken(name));
            let temporary = written?;
            if taken? {
                return Err(Trouble::exists());
            }
            self.place(&temporary, &fresh).await
        };
        let stored = stored.await;
        self.clear(&stored, temporaries, parent(name)).await?;
        stored
    }

    /// Writes and syncs a temporary file in the directory of `fresh`. All that may be left of the
    /// attempts is in `temporaries`.
    async fn write(
        &self,
        fresh: &Fresh<'_>,
        bytes: &[u8],
        temporaries: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<u8>, Trouble> {
        let directory = parent(fresh.name);
        let mut patience = self.pool.patience();
        let mut missing = 0;
        loop {
            let temporary = self.path(directory).await?;
            let temporary = [temporary.as_slice(), b"/", fresh_name()?.as_bytes()].concat();
            let lease = self.pool.lease(&mut patience).await?;
            let how = WriteSmall {
                permissions: Some(0o600),
                sync: self.syncs(lease.client()),
                attributes: None,
            };
            temporaries.push(temporary.clone());
            match lease.client().write_small(&temporary, bytes, &how).await {
                Ok(()) => return Ok(temporary),
                Err(error) if error.is_disconnect() => {
                    self.pool.discard(&lease);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) if error.kind == ClientErrorKind::NotFound && missing < MISSING => {
                    missing += 1;
                    temporaries.pop();
                    self.make_directory(directory).await?;
                }
                Err(error) if is_refused_sync(&error) => {
                    self.no_sync.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives a finished temporary file its name.
    pub(super) async fn place(&self, temporary: &[u8], fresh: &Fresh<'_>) -> Result<(), Trouble> {
        let target = self.path(fresh.name).await?;
        let mut patience = self.pool.patience();
        let (mut lost, mut missing, mut no_links) = (false, 0, false);
        loop {
            let lease = self.pool.lease(&mut patience).await?;
            let client = lease.client();
            let links = self.links(client) && !no_links;
            let named = match links {
                true => client.hardlink(temporary, &target).await,
                false => client.rename(temporary, &target).await,
            };
            let error = match named {
                Ok(()) => {
                    if no_links {
                        self.no_links.store(true, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.is_disconnect() {
                self.pool.discard(&lease);
                if fresh.only_once() {
                    return Err(error.into());
                }
                lost = true;
                if !patience.pause().await {
                    return Err(error.into());
                }
                continue;
            }
            if lost && self.is_placed(&target, fresh).await? {
                return Ok(());
            }
            match error.kind {
                ClientErrorKind::AlreadyExists => return Err(Trouble::exists()),
                ClientErrorKind::NotFound if missing < MISSING => {
                    missing += 1;
                    self.make_directory(parent(fresh.name)).await?;
                }
                // A file system without hard links, below a server that has them.
                ClientErrorKind::PermissionDenied
                | ClientErrorKind::Failure
                | ClientErrorKind::Unsupported
                    if links =>
                {
                    if self.stands(&target).await? {
                        return Err(Trouble::exists());
                    }
                    no_links = true;
                }
                _ => return Err(error.into()),
            }
        }
    }

    /// Removes what is left of temporary files, and makes the object's name durable. After a
    /// failure nobody waits for that longer than needed.
    pub(super) async fn clear(
        &self,
        stored: &Result<(), Trouble>,
        temporaries: Vec<Vec<u8>>,
        directory: &str,
    ) -> Result<(), Trouble> {
        let removal = remove_all(self.pool.clone(), temporaries);
        match stored {
            Ok(()) => {
                let (removed, ()) = tokio::join!(removal, self.sync_directory(directory));
                removed?;
                Ok(())
            }
            // It may take long until the server is there again, or for ever.
            Err(Trouble::Server(error)) if error.is_disconnect() => {
                self.pool.runtime().spawn(removal);
                Ok(())
            }
            Err(_) => {
                let _ = removal.await;
                Ok(())
            }
        }
    }

    /// Whether something stands under this name, on servers whose rename does not tell.
    pub(super) async fn is_taken(&self, name: &str) -> Result<bool, Trouble> {
        let target = self.path(name).await?;
        let looked = self.pool.run(Retry::Yes, async |client| match self.links(client) {
            true => Ok(false),
            false => found(client.lstat(&target).await),
        });
        Ok(looked.await?)
    }

    async fn stands(&self, path: &[u8]) -> Result<bool, Trouble> {
        Ok(self.pool.run(Retry::Yes, async |client| found(client.lstat(path).await)).await?)
    }

    /// Whether a request without a reply has given the object its name. Two writers with the same
    /// name and content are one to everybody.
    async fn is_placed(&self, target: &[u8], fresh: &Fresh<'_>) -> Result<bool, Trouble> {
        if let Some(wanted) = fresh.bytes {
            return match self.read_whole(target).await {
                Ok(bytes) => Ok(bytes == wanted),
                Err(trouble) if trouble.kind() == StorageErrorKind::NotFound => Ok(false),
                Err(trouble) => Err(trouble),
            };
        }
        let looked = self.pool.run(Retry::Yes, async |client| match client.stat(target).await {
            Ok(found) => Ok(found.size == Some(fresh.size)),
            Err(error) if error.kind == ClientErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        });
        Ok(looked.await?)
    }

    /// Makes the names in a directory durable, as far as the server can: OpenSSH opens directories
    /// like files, and forces them to disk. Others refuse, and there the name is all there is.
    pub(super) async fn sync_directory(&self, directory: &str) {
        let Ok(path) = self.path(directory).await else { return };
        let synced = self.pool.run_on(Retry::Yes, async |lease| {
            if !self.syncs(lease.client()) {
                return Ok(());
            }
            self.handles.with(&self.pool, lease, &path, async |file| file.sync().await).await
        });
        let _ = synced.await;
    }

    /// Whether files can be forced to disk.
    pub(super) fn syncs(&self, client: &Client) -> bool {
        client.supports(Extension::Fsync) && !self.no_sync.load(Ordering::Relaxed)
    }

    /// Whether names are given by hard links, which replace nothing.
    fn links(&self, client: &Client) -> bool {
        client.supports(Extension::Hardlink) && !self.no_links.load(Ordering::Relaxed)
    }
}

/// The server announced to force files to disk, and cannot.
pub(super) fn is_refused_sync(error: &ClientError) -> bool {
    error.operation == Operation::Fsync && error.kind == ClientErrorKind::Unsupported
}

fn found(looked: Result<Attributes, ClientError>) -> Result<bool, ClientError> {
    match looked {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ClientErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes files, and goes on trying while connections break. What cannot be removed stays: an
/// account may be allowed to add and not to remove. Returns how many were removed.
pub(super) async fn remove_all(pool: Pool, paths: Vec<Vec<u8>>) -> Result<u64, SftpError> {
    let mut patience: Patience = pool.patience();
    let mut removed = 0;
    for path in paths {
        loop {
            let lease = pool.lease(&mut patience).await?;
            match lease.client().remove(&path).await {
                Err(error) if error.is_disconnect() => {
                    pool.discard(&lease);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                answer => {
                    removed += u64::from(answer.is_ok());
                    break;
                }
            }
        }
    }
    Ok(removed)
}
