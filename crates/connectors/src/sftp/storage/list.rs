//! Listings. A directory is listed whole before anything of it is told, and again from its start if
//! the connection breaks, so that a listing is never shorter than it should be. Directories within
//! a folder are listed many at a time.

use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt};
use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName};

use super::place::{self, PREFIX};
use super::problem::Trouble;
use super::read::info;
use super::{AT_ONCE, SftpStorage};
use crate::sftp::client::{ClientErrorKind, DirectoryEntry, FileKind};
use crate::sftp::pool::Retry;

/// Directories in which packs are, by the first byte of their names.
const SHARDS: usize = 256;

impl SftpStorage {
    /// Calls `each` for every object of a folder.
    pub(super) async fn list_folder(
        &self,
        folder: Folder,
        each: &mut dyn FnMut(ObjectInfo),
    ) -> Result<(), Trouble> {
        let at_once = self.directories_at_once().await?;
        let is_known = folder == Folder::Packs && at_once >= SHARDS;
        let below: Vec<_> = if is_known {
            // What may be below it is known, so it is not listed itself.
            (0..SHARDS).map(|shard| (format!("packs/{shard:02x}"), false)).collect()
        } else {
            let Some(entries) = self.entries_of(folder).await? else { return Ok(()) };
            if !folder.is_nested() {
                return self.tell(folder.name(), entries, each).await;
            }
            let below = entries.into_iter().filter_map(|entry| {
                let may_be = !matches!(
                    entry.attributes.kind(),
                    Some(kind) if !matches!(kind, FileKind::Directory | FileKind::Symlink)
                );
                let path = format!("{}/{}", folder.name(), std::str::from_utf8(&entry.name).ok()?);
                let is_certain = entry.attributes.kind() == Some(FileKind::Directory);
                (may_be && ObjectName::parse(&path).is_some()).then_some((path, is_certain))
            });
            below.collect()
        };
        let mut listings = stream::iter(below)
            .map(|(path, is_certain)| async move {
                let entries = match self.entries(&path).await {
                    // A link to a file, or a file on a server that tells no types.
                    Err(_) if !is_certain && self.is_file(&path).await => None,
                    listed => listed?,
                };
                Ok::<_, Trouble>((path, entries.unwrap_or_default()))
            })
            .buffer_unordered(at_once);
        let tell = async {
            while let Some(listed) = listings.next().await {
                let (path, entries) = listed?;
                self.tell(&path, entries, each).await?;
            }
            Ok::<_, Trouble>(())
        };
        // There may be nothing below it because it leads nowhere.
        let is_lost = async { is_known && !self.is_directory(folder.name()).await };
        let (told, is_lost) = tokio::join!(tell, is_lost);
        told?;
        if is_lost { self.entries_of(folder).await.map(drop) } else { Ok(()) }
    }

    /// All entries of a folder; `None` if it is not there: one that is empty may be missing, the
    /// repository may not.
    async fn entries_of(&self, folder: Folder) -> Result<Option<Vec<DirectoryEntry>>, Trouble> {
        let entries = self.entries(folder.name()).await?;
        if entries.is_none() {
            let base = self.path("").await?;
            self.pool.run(Retry::Yes, async |client| client.stat(&base).await).await?;
        }
        Ok(entries)
    }

    /// Removes temporary files that were last written longer ago than `age`, by the server's times
    /// and this machine's clock: what crashed writers left. Returns how many were removed.
    pub(super) async fn remove_old(&self, age: Duration) -> Result<u64, Trouble> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = now.saturating_sub(age).as_secs();
        let mut directories = vec![String::new()];
        for folder in Folder::ALL {
            directories.push(folder.name().into());
            if folder.is_nested() {
                for entry in self.entries(folder.name()).await?.unwrap_or_default() {
                    if let Ok(name) = std::str::from_utf8(&entry.name)
                        && entry.attributes.kind() == Some(FileKind::Directory)
                    {
                        directories.push(format!("{}/{name}", folder.name()));
                    }
                }
            }
        }
        let mut listings = stream::iter(directories)
            .map(|path| async move { (self.entries(&path).await, self.path(&path).await) })
            .buffer_unordered(self.directories_at_once().await?);
        let mut old = Vec::new();
        while let Some((entries, path)) = listings.next().await {
            let path = path?;
            for entry in entries?.unwrap_or_default() {
                let modified = entry.attributes.modified().map(u64::from);
                if entry.name.starts_with(PREFIX.as_bytes())
                    && entry.attributes.kind() != Some(FileKind::Directory)
                    && modified.is_some_and(|modified| modified < limit)
                {
                    old.push([path.as_slice(), b"/", &entry.name].concat());
                }
            }
        }
        Ok(place::remove_all(self.pool.clone(), old).await?)
    }

    /// How many directories to have open: all that a folder has where the server allows so many.
    async fn directories_at_once(&self) -> Result<usize, Trouble> {
        let lease = self.pool.lease(&mut self.pool.patience()).await?;
        let open = lease.client().limits().handles;
        Ok(open.map_or(AT_ONCE, |most| (most / 2).clamp(1, SHARDS as u64) as usize))
    }

    /// All entries of a directory; `None` if it is not there.
    async fn entries(&self, directory: &str) -> Result<Option<Vec<DirectoryEntry>>, Trouble> {
        let path = self.path(directory).await?;
        let listed = self.pool.run(Retry::Yes, async |client| match client.list(&path).await {
            Err(error) if error.kind == ClientErrorKind::NotFound => {
                // OpenSSH says the same of what is there and is no directory.
                match client.lstat(&path).await {
                    Err(other) if other.kind == ClientErrorKind::NotFound => Ok(None),
                    Err(other) if other.is_disconnect() => Err(other),
                    _ => Err(error),
                }
            }
            listed => listed.map(Some),
        });
        match listed.await {
            Err(error) if error.kind() == Some(ClientErrorKind::NotFound) => {
                Err(Trouble::io("it is not a directory, or leads nowhere".into()))
            }
            listed => Ok(listed?),
        }
    }

    async fn is_file(&self, directory: &str) -> bool {
        self.kind(directory).await == Some(FileKind::File)
    }

    async fn is_directory(&self, directory: &str) -> bool {
        self.kind(directory).await == Some(FileKind::Directory)
    }

    /// What is there, or where a link leads; `None` if that is not known.
    async fn kind(&self, name: &str) -> Option<FileKind> {
        let path = self.path(name).await.ok()?;
        let found = self.pool.run(Retry::Yes, async |client| client.stat(&path).await).await;
        found.ok()?.kind()
    }

    /// Tells of the objects among the entries of a directory.
    async fn tell(
        &self,
        directory: &str,
        entries: Vec<DirectoryEntry>,
        each: &mut dyn FnMut(ObjectInfo),
    ) -> Result<(), Trouble> {
        for entry in entries {
            let Ok(base) = std::str::from_utf8(&entry.name) else { continue };
            let Some(name) = ObjectName::parse(&format!("{directory}/{base}")) else { continue };
            let attributes = &entry.attributes;
            match attributes.kind() {
                Some(FileKind::File) if attributes.size.is_some() && attributes.times.is_some() => {
                    if let Some(info) = info(name, attributes) {
                        each(info);
                    }
                }
                Some(FileKind::File | FileKind::Symlink) | None => match self.look(&name).await {
                    Ok(info) => each(info),
                    Err(trouble) if is_gone(&trouble) => {}
                    Err(trouble) => return Err(trouble),
                },
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Removed meanwhile, a directory, or a link that leads nowhere.
fn is_gone(trouble: &Trouble) -> bool {
    trouble.kind() == holdfast_engine::storage::StorageErrorKind::NotFound
}
