//! Links, attributes of what stands there, and removing.

use std::cell::Cell;

use holdfast_engine::destination::{Attributes, DestinationErrorKind, Unset};
use holdfast_engine::meta::Kind;

use super::attributes::{Target, Wanted, set};
use super::paths::{Origin, kind};
use super::problem::{Problem, is_refusal};
use super::{Inner, engine_kind};
use crate::sftp::client::{Client, ClientError, ClientErrorKind, Extension, FileKind};
use crate::sftp::pool::Retry;

impl Inner {
    pub(super) async fn make_symlink(
        &self,
        path: &[u8],
        target: &[u8],
        wanted: &Wanted,
    ) -> Result<Unset, Problem> {
        let at = self.entry(path).await?;
        let tried = Cell::new(false);
        self.pool
            .run(Retry::Yes, async |client| {
                let again = tried.replace(true);
                match client.symlink(target, &at).await {
                    // The first answer was lost.
                    Err(error)
                        if again
                            && error.kind == ClientErrorKind::AlreadyExists
                            && client.read_link(&at).await.is_ok_and(|said| said == target) =>
                    {
                        Ok(())
                    }
                    answer => answer,
                }
            })
            .await?;
        let set = self.pool.run(Retry::Yes, async |client| {
            if client.supports(Extension::Lsetstat) {
                return set(Target::Link(client, &at), &self.learnt, wanted, None).await;
            }
            Ok(wanted.missing_from(&client.lstat(&at).await?))
        });
        Ok(set.await?)
    }

    pub(super) async fn link_target(&self, path: &[u8]) -> Result<Vec<u8>, Problem> {
        let at = self.entry(path).await?;
        Ok(self.pool.run(Retry::Yes, async |client| client.read_link(&at).await).await?)
    }

    pub(super) async fn make_hard_link(&self, path: &[u8], existing: &[u8]) -> Result<(), Problem> {
        let from = self.entry(existing).await?;
        let to = self.entry(path).await?;
        let tried = Cell::new(false);
        let linked = self.pool.run(Retry::Yes, async |client| {
            let again = tried.replace(true);
            match client.hardlink(&from, &to).await {
                // The first answer was lost, and they look like one file.
                Err(error) if again && error.kind == ClientErrorKind::AlreadyExists => {
                    let same = client.lstat(&from).await? == client.lstat(&to).await?;
                    if same { Ok(()) } else { Err(error) }
                }
                answer => answer,
            }
        });
        let Err(error) = linked.await else { return Ok(()) };
        match self.look_for_space(error.into()).await {
            // No hard links here, none to this, or no more of them.
            Problem::Sftp(error)
                if matches!(
                    error.kind(),
                    Some(ClientErrorKind::Failure | ClientErrorKind::PermissionDenied)
                ) =>
            {
                Err(Problem::Refused(DestinationErrorKind::Unsupported, error))
            }
            problem => Err(problem),
        }
    }

    pub(super) async fn set_attributes(
        &self,
        path: &[u8],
        attributes: Attributes<'_>,
    ) -> Result<Unset, Problem> {
        let wanted = Wanted::new(attributes);
        let at = self.entry(path).await?;
        let is_ours = self.directories.get(path) == Some(Origin::Made);
        let present = if is_ours && attributes.metadata.kind == Kind::Directory {
            None
        } else if path.is_empty() {
            Some(self.pool.run(Retry::Yes, async |client| client.stat(&at).await).await?)
        } else {
            Some(self.look(&at).await?)
        };
        if let Some(present) = &present
            && engine_kind(kind(present)?) != attributes.metadata.kind
        {
            return Err(Problem::in_the_way("something else stands there"));
        }
        let unset = self.pool.run(Retry::Yes, async |client| {
            let target = match attributes.metadata.kind {
                Kind::Symlink if !client.supports(Extension::Lsetstat) => {
                    return Ok(present
                        .as_ref()
                        .map_or(Unset::default(), |p| wanted.missing_from(p)));
                }
                Kind::Symlink => Target::Link(client, &at),
                // Links lead to the destination itself where the user chose so.
                _ if path.is_empty() => Target::Followed(client, &at),
                _ => Target::Path(client, &at),
            };
            set(target, &self.learnt, &wanted, present.as_ref()).await
        });
        let unset = unset.await;
        // Finished, it may be open to others.
        self.directories.forget(path);
        Ok(unset?)
    }

    pub(super) async fn remove(&self, path: &[u8]) -> Result<(), Problem> {
        if path.is_empty() {
            return Err(Problem::senseless("the destination itself is not removed"));
        }
        let at = self.entry(path).await?;
        let tried = Cell::new(false);
        let removed = self.pool.run(Retry::Yes, async |client| {
            let again = tried.replace(true);
            let removed = match client.remove(&at).await {
                // Servers say in many ways that it is a directory.
                Err(error) if is_refusal(&error) => {
                    if client.lstat(&at).await?.kind() != Some(FileKind::Directory) {
                        return Err(error);
                    }
                    remove_directory(client, &at).await
                }
                answer => answer,
            };
            match removed {
                Err(error) if again && error.kind == ClientErrorKind::NotFound => Ok(()),
                answer => answer,
            }
        });
        let removed = removed.await;
        self.directories.forget(path);
        Ok(removed?)
    }
}

/// OpenSSH has no word for a directory that is not empty.
async fn remove_directory(client: &Client, at: &[u8]) -> Result<(), ClientError> {
    let mut error = match client.remove_directory(at).await {
        Err(error) if error.kind == ClientErrorKind::Failure => error,
        answer => return answer,
    };
    if client.list(at).await.is_ok_and(|entries| !entries.is_empty()) {
        error.kind = ClientErrorKind::NotEmpty;
    }
    Err(error)
}
