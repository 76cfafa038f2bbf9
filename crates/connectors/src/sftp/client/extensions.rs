//! Operations that a server may announce as extensions. Without it they are
//! [`ClientErrorKind::Unsupported`](super::ClientErrorKind::Unsupported), and nothing is sent.

use super::core::Waiter;
use super::error::ClientResult;
use super::operations::check_path;
use super::record::Operation;
use super::reply::Names;
use super::wire::{Packet, put_u32};
use super::{Attributes, Client, FileSystem, no_path};

/// Ids in one request: their names stay far below the length of a packet.
const IDS: usize = 256;

impl Client {
    /// Renames at once, replacing a file (or an empty directory) that stands at `to`.
    pub async fn posix_rename(&self, from: &[u8], to: &[u8]) -> ClientResult<()> {
        self.two_paths(Operation::PosixRename, from, to).await
    }

    /// Makes `to` another name of the file `from`; what stands there already is
    /// [`AlreadyExists`](super::ClientErrorKind::AlreadyExists).
    pub async fn hardlink(&self, from: &[u8], to: &[u8]) -> ClientResult<()> {
        let made = self.two_paths(Operation::Hardlink, from, to).await;
        self.explained(made, to).await
    }

    /// Sets the attributes that are given of what stands at `path`; a link is not followed.
    pub async fn set_link_attributes(&self, path: &[u8], to: &Attributes) -> ClientResult<()> {
        self.set_of(Operation::Lsetstat, path, to).await
    }

    /// Size and free space of the file system that holds `path`.
    pub async fn file_system(&self, path: &[u8]) -> ClientResult<FileSystem> {
        let waiter = self.extended(Operation::Statvfs, path).await?;
        waiter.get(|reply| reply.file_system()).await
    }

    /// The absolute path of `path`, with `~` and `~user` at its start expanded.
    pub async fn expand_path(&self, path: &[u8]) -> ClientResult<Vec<u8>> {
        self.extended(Operation::ExpandPath, path).await?.get(|reply| reply.path()).await
    }

    /// The home directory of a user; an empty name is the one who signed in.
    pub async fn home_directory(&self, user: &[u8]) -> ClientResult<Vec<u8>> {
        self.extended(Operation::HomeDirectory, user).await?.get(|reply| reply.path()).await
    }

    /// Names of users and groups on the server, as many as ids were given.
    pub async fn names_by_id(&self, users: &[u32], groups: &[u32]) -> ClientResult<Names> {
        let (mut users, mut groups) = (users.chunks(IDS), groups.chunks(IDS));
        let mut found = Names::default();
        loop {
            let (some, others) = (users.next(), groups.next());
            if some.is_none() && others.is_none() {
                return Ok(found);
            }
            let (some, others) = (some.unwrap_or_default(), others.unwrap_or_default());
            let packet =
                Packet::new(Operation::UsersGroupsById).string(&list(some)).string(&list(others));
            let waiter = self.shared.submit(packet, &no_path()).await?;
            let names = waiter.get(|reply| reply.names(some.len(), others.len())).await?;
            found.users.extend(names.users);
            found.groups.extend(names.groups);
        }
    }

    async fn extended(&self, operation: Operation, path: &[u8]) -> ClientResult<Waiter> {
        check_path(operation, path)?;
        self.shared.submit(Packet::new(operation).string(path), path).await
    }
}

fn list(ids: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ids.len() * 4);
    for id in ids {
        put_u32(&mut bytes, *id);
    }
    bytes
}
