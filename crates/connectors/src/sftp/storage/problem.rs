//! What went wrong, as the engine's kinds, with the cause kept. Servers often say no more than
//! "failure" when a disk is full or read-only: then the file system is asked how it stands.

use std::io;

use holdfast_engine::storage::{StorageError, StorageErrorKind};

use super::SftpStorage;
use crate::sftp::client::{ClientError, ClientErrorKind, Extension};
use crate::sftp::pool::{Retry, SftpError};

/// Less than this free, and a server that only says "failure" has no space.
const FULL: u64 = 64 << 10;

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server, or the way to it.
    Server(SftpError),
    /// What was found out here.
    Found(StorageErrorKind, String),
    /// As `Server`, and of this kind, whatever the server called it.
    Known(StorageErrorKind, SftpError),
}

impl From<SftpError> for Trouble {
    fn from(error: SftpError) -> Self {
        Self::Server(error)
    }
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Server(error.into())
    }
}

impl Trouble {
    /// Something stands where an object was to appear.
    pub(super) fn exists() -> Self {
        Self::Found(StorageErrorKind::AlreadyExists, "an object of this name is there".into())
    }

    pub(super) fn not_found() -> Self {
        Self::Found(StorageErrorKind::NotFound, "there is no such object".into())
    }

    pub(super) fn io(what: String) -> Self {
        Self::Found(StorageErrorKind::Io, what)
    }

    pub(super) fn kind(&self) -> StorageErrorKind {
        match self {
            Self::Server(error) => kind(error),
            Self::Found(kind, _) | Self::Known(kind, _) => *kind,
        }
    }

    /// The engine's error about `object`, its full name.
    pub(super) fn error(self, operation: &'static str, object: String) -> StorageError {
        let kind = self.kind();
        let source: Box<dyn std::error::Error + Send + Sync> = match self {
            Self::Server(error) | Self::Known(_, error) => Box::new(error),
            Self::Found(_, what) => Box::new(io::Error::other(what)),
        };
        StorageError { kind, operation, object, source: Some(source) }
    }
}

fn kind(error: &SftpError) -> StorageErrorKind {
    use ClientErrorKind as Kind;
    // Whatever keeps a connection from being made says nothing of any object.
    let Some(kind) = error.kind() else { return StorageErrorKind::Unreachable };
    match kind {
        Kind::NotFound => StorageErrorKind::NotFound,
        Kind::PermissionDenied => StorageErrorKind::PermissionDenied,
        Kind::AlreadyExists => StorageErrorKind::AlreadyExists,
        Kind::NoSpace => StorageErrorKind::NoSpace,
        Kind::Unsupported => StorageErrorKind::Unsupported,
        Kind::Disconnected | Kind::Timeout => StorageErrorKind::Unreachable,
        Kind::NotEmpty | Kind::Failure | Kind::Eof | Kind::BadMessage | Kind::InvalidArgument => {
            StorageErrorKind::Io
        }
    }
}

impl SftpStorage {
    /// Looks for the reason of a failed change that the server did not give.
    pub(super) async fn explain(&self, trouble: Trouble) -> Trouble {
        use ClientErrorKind as Kind;
        let Trouble::Server(error) = trouble else { return trouble };
        let asked = match error.kind() {
            Some(Kind::Failure | Kind::PermissionDenied) => self.file_system().await,
            _ => None,
        };
        match asked {
            Some(found) if found.read_only => Trouble::Known(StorageErrorKind::ReadOnly, error),
            Some(found) if error.kind() == Some(Kind::Failure) && found.is_full(FULL) => {
                Trouble::Known(StorageErrorKind::NoSpace, error)
            }
            _ => Trouble::Server(error),
        }
    }

    /// The file system of the repository, where the server tells.
    pub(super) async fn file_system(&self) -> Option<crate::sftp::client::FileSystem> {
        let base = self.pool.base().await.ok()?;
        let asked = self.pool.run(Retry::Yes, async |client| {
            if !client.supports(Extension::Statvfs) {
                return Ok(None);
            }
            client.file_system(base).await.map(Some)
        });
        asked.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::ssh::{Problem, SshError, Stage};

    #[test]
    fn a_refused_sign_in_is_no_damage_of_an_object() {
        let (stage, host) = (Stage::SignIn, "a@b:22".into());
        let error = SshError { stage, host, problem: Box::new(Problem::Protocol), source: None };
        let error = Trouble::from(SftpError::from(error)).error("read", "sftp://a@b/x".into());
        assert_eq!(error.kind, StorageErrorKind::Unreachable);
        let cause = error.source.as_ref().and_then(|source| source.downcast_ref::<SftpError>());
        assert!(matches!(cause, Some(SftpError::Ssh(_))));
    }
}
