//! What went wrong, as the engine's kinds, with the cause kept.

use std::io;

use holdfast_engine::storage::{StorageError, StorageErrorKind};

use crate::s3::client::{Class, S3Error};

/// Why an operation failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server, or the way to it.
    Server(S3Error),
    /// What was found out here.
    Found(StorageErrorKind, String),
}

impl From<S3Error> for Trouble {
    fn from(error: S3Error) -> Self {
        Self::Server(error)
    }
}

impl Trouble {
    /// Something stands where an object was to appear.
    pub(super) fn exists() -> Self {
        Self::Found(StorageErrorKind::AlreadyExists, "an object of this name is there".into())
    }

    pub(super) fn stopped(what: String) -> Self {
        Self::Found(StorageErrorKind::Unreachable, what)
    }

    pub(super) fn kind(&self) -> StorageErrorKind {
        match self {
            Self::Server(error) => kind(error.class),
            Self::Found(kind, _) => *kind,
        }
    }

    /// The engine's error about `object`, its full name.
    pub(super) fn error(self, operation: &'static str, object: String) -> StorageError {
        let kind = self.kind();
        let source: Box<dyn std::error::Error + Send + Sync> = match self {
            Self::Server(error) => Box::new(error),
            Self::Found(_, what) => Box::new(io::Error::other(what)),
        };
        StorageError { kind, operation, object, source: Some(source) }
    }
}

fn kind(class: Class) -> StorageErrorKind {
    use StorageErrorKind as Kind;
    match class {
        Class::NoSuchKey | Class::NoSuchBucket => Kind::NotFound,
        Class::PreconditionFailed | Class::BucketExists => Kind::AlreadyExists,
        Class::AccessDenied | Class::Locked => Kind::PermissionDenied,
        Class::Quota => Kind::NoSpace,
        Class::ColdObject => Kind::Cold,
        Class::NotImplemented | Class::InvalidStorageClass => Kind::Unsupported,
        Class::InvalidRange | Class::Checksum => Kind::Io,
        // Whatever keeps a request from being served says nothing of any object.
        _ => Kind::Unreachable,
    }
}
