//! Directories: made before the first object, and again where they are missing (copies of a
//! repository often come without their empty ones).

use futures_util::stream::{self, StreamExt, TryStreamExt};
use holdfast_engine::storage::Folder;

use super::problem::Trouble;
use super::{AT_ONCE, SftpStorage};
use crate::sftp::client::{Attributes, ClientErrorKind};
use crate::sftp::pool::{Retry, SftpError};

impl SftpStorage {
    /// Makes the repository's directory, those above it, and all that it holds.
    pub(super) async fn make_all(&self) -> Result<(), Trouble> {
        self.make_base().await?;
        let folders = Folder::ALL.map(|folder| folder.name().to_owned());
        let shards = (0..=0xff_u8).map(|shard| format!("{}/{shard:02x}", Folder::Packs.name()));
        for some in [folders.to_vec(), shards.collect()] {
            stream::iter(some)
                .map(|name| async move {
                    let path = self.path(&name).await?;
                    Ok::<_, Trouble>(self.make(&path).await?)
                })
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
        }
        let packs = Folder::Packs.name();
        let (packs, root) = tokio::join!(self.sync_directory(packs), self.sync_directory(""));
        packs.and(root)
    }

    /// Makes a directory of the repository, and those between. The repository's own is not made:
    /// where it is missing, something is wrong that must not be hidden.
    pub(super) async fn make_directory(&self, name: &str) -> Result<(), Trouble> {
        if name.is_empty() {
            return Ok(());
        }
        for (end, _) in name.match_indices('/').chain([(name.len(), "")]) {
            let part = name.get(..end).unwrap_or(name);
            let path = self.path(part).await?;
            self.make(&path).await?;
            self.handles.forget(&path);
            self.sync_directory(super::parent(part)).await?;
        }
        Ok(())
    }

    async fn make_base(&self) -> Result<(), Trouble> {
        let base = self.path("").await?;
        // From the repository upwards to what is there, and back.
        let mut missing = vec![base.as_slice()];
        while let Some(path) = missing.last().copied() {
            match self.make(path).await {
                Ok(()) => {
                    missing.pop();
                    break;
                }
                Err(error) if error.kind() == Some(ClientErrorKind::NotFound) => {
                    match path.iter().rposition(|c| *c == b'/') {
                        Some(slash @ 1..) => missing.push(path.get(..slash).unwrap_or_default()),
                        _ => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        for path in missing.into_iter().rev() {
            self.make(path).await?;
        }
        Ok(())
    }

    /// Fine if it is there already.
    async fn make(&self, path: &[u8]) -> Result<(), SftpError> {
        self.pool
            .run(Retry::Yes, async |client| {
                let attributes = Attributes::with_permissions(0o700);
                match client.make_directory(path, &attributes).await {
                    Err(error) if error.kind == ClientErrorKind::AlreadyExists => Ok(()),
                    // Servers may deny what is needless: an existing directory above our own.
                    Err(error)
                        if error.kind == ClientErrorKind::PermissionDenied
                            && client.stat(path).await.is_ok() =>
                    {
                        Ok(())
                    }
                    made => made,
                }
            })
            .await
    }
}
