//! Writing an object: a temporary file beside its place, then its name, then the temporary name
//! goes. Connections may break at any time, and what a request did whose reply was lost is not
//! known. So each step may be repeated, and one that finds its own work done takes it for done.
//!
//! A temporary name is gone before success is reported: a late copy of the request that gives the
//! object its name then finds nothing to name. And the name is durable, as far as the server can:
//! one that went down after it gave the name may have lost it again, so it is looked at once more
//! where the directory was forced to disk over another connection.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use holdfast_engine::storage::{Folder, StorageErrorKind};

use super::problem::Trouble;
use super::{SftpStorage, parent};
use crate::network::Patience;
use crate::sftp::client::{
    Attributes, Client, ClientError, ClientErrorKind, ClientResult, Extension, File, Operation,
    WriteSmall,
};
use crate::sftp::pool::{Lease, Pool, Retry, SftpError};

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

/// What a write leaves to be done when the object has its name.
#[derive(Default)]
pub(super) struct Rest {
    /// Temporary files of all attempts, to be removed.
    pub(super) temporaries: Vec<Vec<u8>>,
    /// Its directory was made for it: that name, too, is to be made durable.
    pub(super) new_directory: bool,
    /// Its name has been made durable.
    pub(super) is_durable: bool,
}

/// How far an object got in one round trip.
enum Finish {
    /// It has its name; the connection that confirmed it, if it is known.
    Named(Option<u64>),
    /// It may have no name, and its temporary file is gone.
    Again {
        /// The answer was lost, so that it may yet get its name.
        lost: bool,
    },
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
        let mut rest = Rest::default();
        let fresh = Fresh { name, size: bytes.len() as u64, bytes: Some(bytes) };
        let stored = async {
            // Where a rename may replace what is there, a look before is what is left.
            let (written, taken) =
                tokio::join!(self.write(&fresh, bytes, &mut rest), self.is_taken(name));
            let temporary = written?;
            if taken? {
                return Err(Trouble::exists());
            }
            match self.finish_at_once(&temporary, &fresh, &mut rest).await? {
                Finish::Named(by) => Ok(by),
                Finish::Again { lost } => {
                    let temporary = self.write(&fresh, bytes, &mut rest).await?;
                    self.place(&temporary, &fresh, lost).await
                }
            }
        };
        let stored = stored.await;
        self.clear(&stored, rest, name).await?;
        stored.map(|_| ())
    }

    /// Writes and syncs a temporary file in the directory of `fresh`.
    async fn write(
        &self,
        fresh: &Fresh<'_>,
        bytes: &[u8],
        rest: &mut Rest,
    ) -> Result<Vec<u8>, Trouble> {
        let directory = parent(fresh.name);
        let path = self.path(directory).await?;
        let mut patience = self.pool.patience();
        let mut missing = 0;
        loop {
            let temporary = [path.as_slice(), b"/", fresh_name()?.as_bytes()].concat();
            let lease = self.pool.lease(&mut patience).await?;
            let how = WriteSmall {
                permissions: Some(0o600),
                sync: self.syncs(lease.client()),
                attributes: None,
            };
            rest.temporaries.push(temporary.clone());
            // Servers take requests in their order. One that does not says that the directory of
            // the file is missing, and then it is made first.
            let (made, written, ()) = tokio::join!(
                self.make_own(&lease, directory, &path),
                lease.client().write_small(&temporary, bytes, &how),
                self.ready(&lease, directory),
            );
            rest.new_directory |= made;
            match written {
                Ok(()) => return Ok(temporary),
                Err(error) if error.is_disconnect() => {
                    self.pool.discard(&lease);
                    if !patience.pause().await {
                        return Err(error.into());
                    }
                }
                Err(error) if error.kind == ClientErrorKind::NotFound && missing < MISSING => {
                    missing += 1;
                    rest.temporaries.pop();
                    self.make_directory(directory).await?;
                }
                Err(error) if is_refused_sync(&error) => {
                    self.no_sync.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the directory of an object that is the first in it: that of a session or of a note.
    /// Whether it did, or may have; if it could not, the next request finds out.
    async fn make_own(&self, lease: &Lease, directory: &str, path: &[u8]) -> bool {
        if !is_own(directory) {
            return false;
        }
        // What may be open is of another directory, if it has to be made.
        self.handles.forget(path);
        let attributes = Attributes::with_permissions(0o700);
        match lease.client().make_directory(path, &attributes).await {
            Ok(()) => true,
            Err(error) => error.is_disconnect(),
        }
    }

    /// Opens the directories that [`sync_name`](Self::sync_name) will force to disk.
    pub(super) async fn ready(&self, lease: &Lease, directory: &str) {
        if !self.syncs(lease.client()) {
            return;
        }
        let open = async |directory| {
            if let Ok(path) = self.path(directory).await {
                self.handles.ready(&self.pool, lease, &path).await;
            }
        };
        let above = async {
            if is_own(directory) {
                open(parent(directory)).await;
            }
        };
        tokio::join!(open(directory), above);
    }

    /// Gives a finished temporary file its name, makes that durable and removes the temporary one,
    /// all in one round trip: servers take requests in their order. For one that does not, and
    /// where something goes wrong, the small file is written once more.
    async fn finish_at_once(
        &self,
        temporary: &[u8],
        fresh: &Fresh<'_>,
        rest: &mut Rest,
    ) -> Result<Finish, Trouble> {
        let lease = self.pool.lease(&mut self.pool.patience()).await?;
        if !self.links(lease.client()) {
            return self.place(temporary, fresh, false).await.map(Finish::Named);
        }
        let target = self.path(fresh.name).await?;
        let directories = self.directories_of(fresh.name, rest.new_directory).await?;
        let (named, synced, removed) = tokio::join!(
            lease.client().hardlink(temporary, &target),
            self.sync_all(&lease, &directories),
            lease.client().remove(temporary),
        );
        match named {
            Ok(()) => {
                match synced {
                    Ok(()) => rest.is_durable = true,
                    // It is forced to disk by another connection, if the name is still there.
                    Err(error) if error.is_disconnect() => self.pool.discard(&lease),
                    Err(error) => return Err(error.into()),
                }
                if removed.is_ok() {
                    rest.temporaries.retain(|other| other != temporary);
                }
                Ok(Finish::Named(Some(lease.connection())))
            }
            Err(error) if error.is_disconnect() => {
                self.pool.discard(&lease);
                if fresh.only_once() {
                    return Err(error.into());
                }
                match self.is_placed(&target, fresh).await? {
                    true => Ok(Finish::Named(None)),
                    false => Ok(Finish::Again { lost: true }),
                }
            }
            Err(error) if error.kind == ClientErrorKind::AlreadyExists => Err(Trouble::exists()),
            Err(_) => Ok(Finish::Again { lost: false }),
        }
    }

    /// Gives a finished temporary file its name. The connection that confirmed it, if it is known.
    /// `lost`: a request to do so, of this content, was not answered.
    pub(super) async fn place(
        &self,
        temporary: &[u8],
        fresh: &Fresh<'_>,
        mut lost: bool,
    ) -> Result<Option<u64>, Trouble> {
        let target = self.path(fresh.name).await?;
        let mut patience = self.pool.patience();
        let (mut missing, mut no_links) = (0, false);
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
                    return Ok(Some(lease.connection()));
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
                return Ok(None);
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

    /// Removes what is left of temporary files, and makes the name of the object durable. After a
    /// failure nobody waits for that longer than needed.
    pub(super) async fn clear(
        &self,
        stored: &Result<Option<u64>, Trouble>,
        rest: Rest,
        name: &str,
    ) -> Result<(), Trouble> {
        let removal = remove_all(self.pool.clone(), rest.temporaries);
        match stored {
            Ok(_) if rest.is_durable => removal.await.map(drop).map_err(Trouble::from),
            Ok(by) => {
                // In this order: the connection with the open directories is taken for syncing.
                let sync = self.sync_name(name, *by, rest.new_directory);
                let (synced, removed) = tokio::join!(sync, removal);
                removed?;
                synced
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
    pub(super) async fn sync_directory(&self, directory: &str) -> Result<(), Trouble> {
        let path = self.path(directory).await?;
        self.pool.run_on(Retry::Yes, async |lease| self.sync_on(lease, &path).await).await?;
        Ok(())
    }

    /// Makes the name of an object durable that the connection `by` gave it, and that of its
    /// directory if it is new.
    async fn sync_name(
        &self,
        name: &str,
        by: Option<u64>,
        new_directory: bool,
    ) -> Result<(), Trouble> {
        let path = self.path(name).await?;
        let directories = self.directories_of(name, new_directory).await?;
        let synced = self.pool.run_on(Retry::Yes, async |lease| {
            // A connection that is still there says that the server did not go down since.
            let is_same = by == Some(lease.connection()) || !self.syncs(lease.client());
            let look = async {
                match is_same {
                    true => Ok(true),
                    false => found(lease.client().lstat(&path).await),
                }
            };
            let (synced, stands) = tokio::join!(self.sync_all(lease, &directories), look);
            synced?;
            stands
        });
        match synced.await? {
            true => Ok(()),
            false => Err(Trouble::Found(
                StorageErrorKind::Unreachable,
                "the connection broke, and the server has lost the name that it had given (it may \
                 have lost power): run it again"
                    .into(),
            )),
        }
    }

    /// The directories that make the name of an object durable: its own, and the one above if that
    /// is new.
    async fn directories_of(&self, name: &str, is_new: bool) -> Result<Vec<Vec<u8>>, SftpError> {
        let directory = parent(name);
        let mut paths = vec![self.path(directory).await?];
        if is_new {
            paths.push(self.path(parent(directory)).await?);
        }
        Ok(paths)
    }

    async fn sync_all(&self, lease: &Lease, directories: &[Vec<u8>]) -> ClientResult<()> {
        let all = join_all(directories.iter().map(|path| self.sync_on(lease, path))).await;
        all.into_iter().collect()
    }

    async fn sync_on(&self, lease: &Lease, directory: &[u8]) -> ClientResult<()> {
        if !self.syncs(lease.client()) {
            return Ok(());
        }
        let could = self.syncs_directories.load(Ordering::Relaxed);
        // A kept handle that fails is replaced, and the new one is not told of it again.
        let mut lost = None;
        let sync = async |file: &File| {
            let synced = file.sync().await;
            if let Err(error) = &synced
                && is_lost_name(error, could)
            {
                lost = Some(error.clone());
            }
            synced
        };
        let synced = self.handles.with(&self.pool, lease, directory, sync).await;
        match lost.map_or(synced, Err) {
            Ok(()) => {
                self.syncs_directories.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if is_lost_name(&error, could) => Err(error),
            Err(_) => Ok(()),
        }
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

/// Whether names in a directory may be lost, and not only the server unable to force it to disk.
/// Servers say "failure" for both; who `could` do it before failed to.
fn is_lost_name(error: &ClientError, could: bool) -> bool {
    let is_failure = match error.kind {
        ClientErrorKind::NoSpace => true,
        ClientErrorKind::Failure => could,
        _ => false,
    };
    error.is_disconnect() || error.operation == Operation::Fsync && is_failure
}

/// Whether a directory is that of one session, or of the notes of one snapshot.
pub(super) fn is_own(directory: &str) -> bool {
    let is_in = |folder: &Folder| {
        directory.strip_prefix(folder.name()).is_some_and(|rest| rest.starts_with('/'))
    };
    [Folder::Notes, Folder::Sessions].iter().any(is_in)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_forced_to_disk_is_an_error_where_it_was_possible() {
        let lost =
            |kind, operation, could| is_lost_name(&ClientError::new(kind, operation, b"/d"), could);
        let failure = ClientErrorKind::Failure;
        assert!(lost(failure, Operation::Fsync, true));
        assert!(lost(ClientErrorKind::NoSpace, Operation::Fsync, false));
        assert!(lost(ClientErrorKind::Disconnected, Operation::Open, false));
        // Servers that cannot do it at all, and directories that somebody removed meanwhile.
        assert!(!lost(failure, Operation::Fsync, false));
        assert!(!lost(failure, Operation::Open, true));
        assert!(!lost(ClientErrorKind::Unsupported, Operation::Fsync, true));
        assert!(!lost(ClientErrorKind::BadMessage, Operation::Fsync, true));
        assert!(!lost(ClientErrorKind::NotFound, Operation::Open, true));
    }
}
