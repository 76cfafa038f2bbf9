//! Operations on paths that every server has.

use std::sync::Arc;

use super::error::{ClientError, ClientErrorKind, ClientResult};
use super::record::Operation;
use super::wire::Packet;
use super::{Attributes, Client, Directory, File, OpenFlags, SymlinkOrder};

/// OpenSSH ends a connection on which a path with a NUL byte comes.
pub(super) fn check_path(operation: Operation, path: &[u8]) -> ClientResult<()> {
    if path.contains(&0) {
        return Err(ClientError::new(ClientErrorKind::InvalidArgument, operation, path));
    }
    Ok(())
}

impl Client {
    /// The absolute path of `path`, links resolved. Relative paths start where the server puts its
    /// users, most often their home. Whether the path must exist differs between servers.
    pub async fn realpath(&self, path: &[u8]) -> ClientResult<Vec<u8>> {
        self.path_request(Operation::Realpath, path).await?.get(|reply| reply.path()).await
    }

    /// Attributes of what `path` leads to; links are followed.
    pub async fn stat(&self, path: &[u8]) -> ClientResult<Attributes> {
        self.path_request(Operation::Stat, path).await?.get(|reply| reply.attributes()).await
    }

    /// Attributes of what stands at `path`; a link is not followed.
    pub async fn lstat(&self, path: &[u8]) -> ClientResult<Attributes> {
        self.path_request(Operation::Lstat, path).await?.get(|reply| reply.attributes()).await
    }

    /// Sets the attributes that are given of what `path` leads to; links are followed.
    pub async fn set_attributes(&self, path: &[u8], to: &Attributes) -> ClientResult<()> {
        self.set_of(Operation::Setstat, path, to).await
    }

    pub(super) async fn set_of(
        &self,
        operation: Operation,
        path: &[u8],
        to: &Attributes,
    ) -> ClientResult<()> {
        check_path(operation, path)?;
        let packet = Packet::new(operation).string(path).fields(|bytes| to.encode(bytes));
        self.shared.submit(packet, path).await?.done().await
    }

    /// Opens a file. `attributes` are for a file that is made; servers may heed the permissions
    /// alone, and less their umask. With [`OpenFlags::EXCLUSIVE`], an existing file is
    /// [`ClientErrorKind::AlreadyExists`].
    pub async fn open(
        &self,
        path: &[u8],
        flags: OpenFlags,
        attributes: &Attributes,
    ) -> ClientResult<File> {
        check_path(Operation::Open, path)?;
        let named: Arc<[u8]> = Arc::from(path);
        let packet = Packet::new(Operation::Open)
            .string(path)
            .u32(flags.bits())
            .fields(|bytes| attributes.encode(bytes));
        let waiter = self.shared.core.submit(packet, &named, 0).await?;
        match waiter.get(|reply| reply.handle()).await {
            Ok(handle) => Ok(File::new(self.shared.clone(), handle, named)),
            Err(error) if flags.contains(OpenFlags::EXCLUSIVE) => {
                Err(self.explain(error, path).await)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a directory for listing.
    pub async fn open_directory(&self, path: &[u8]) -> ClientResult<Directory> {
        let waiter = self.path_request(Operation::Opendir, path).await?;
        let handle = waiter.get(|reply| reply.handle()).await?;
        Ok(Directory::new(File::new(self.shared.clone(), handle, Arc::from(path))))
    }

    /// Makes a directory. Servers may heed the permissions alone, and less their umask.
    pub async fn make_directory(&self, path: &[u8], attributes: &Attributes) -> ClientResult<()> {
        let made = self.set_of(Operation::Mkdir, path, attributes).await;
        self.explained(made, path).await
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, path: &[u8]) -> ClientResult<()> {
        self.path_request(Operation::Rmdir, path).await?.done().await
    }

    /// Removes a file or a link.
    pub async fn remove(&self, path: &[u8]) -> ClientResult<()> {
        self.path_request(Operation::Remove, path).await?.done().await
    }

    /// Renames, and replaces nothing: what stands at `to` is [`ClientErrorKind::AlreadyExists`].
    /// Servers other than OpenSSH's may not be as strict.
    pub async fn rename(&self, from: &[u8], to: &[u8]) -> ClientResult<()> {
        let renamed = self.two_paths(Operation::Rename, from, to).await;
        self.explained(renamed, to).await
    }

    /// Makes a symbolic link at `link` that says `target`.
    pub async fn symlink(&self, target: &[u8], link: &[u8]) -> ClientResult<()> {
        let made = match self.shared.symlink_order {
            SymlinkOrder::TargetFirst => self.two_paths(Operation::Symlink, target, link).await,
            SymlinkOrder::LinkFirst => self.two_paths(Operation::Symlink, link, target).await,
        };
        self.explained(made, link).await
    }

    /// What a symbolic link says.
    pub async fn read_link(&self, path: &[u8]) -> ClientResult<Vec<u8>> {
        self.path_request(Operation::Readlink, path).await?.get(|reply| reply.path()).await
    }

    async fn path_request(
        &self,
        operation: Operation,
        path: &[u8],
    ) -> ClientResult<super::core::Waiter> {
        check_path(operation, path)?;
        self.shared.submit(Packet::new(operation).string(path), path).await
    }

    /// A request with two paths; errors name the first.
    pub(super) async fn two_paths(
        &self,
        operation: Operation,
        first: &[u8],
        second: &[u8],
    ) -> ClientResult<()> {
        check_path(operation, first)?;
        check_path(operation, second)?;
        let packet = Packet::new(operation).string(first).string(second);
        self.shared.submit(packet, first).await?.done().await
    }

    pub(super) async fn explained(
        &self,
        outcome: ClientResult<()>,
        target: &[u8],
    ) -> ClientResult<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explain(error, target).await),
        }
    }

    /// OpenSSH says no more than "failure" when something stands where a file was to be made: this
    /// looks whether that is so.
    async fn explain(&self, mut error: ClientError, target: &[u8]) -> ClientError {
        if error.kind == ClientErrorKind::Failure && self.lstat(target).await.is_ok() {
            error.kind = ClientErrorKind::AlreadyExists;
            error.path = target.to_vec();
        }
        error
    }
}
