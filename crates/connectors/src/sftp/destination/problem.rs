//! Failures while they are on their way out, and what they are told as.

use std::fmt;

use holdfast_engine::destination::{DestinationError, DestinationErrorKind as Kind};

use super::Inner;
use crate::sftp::client::{ClientError, ClientErrorKind, Operation};
use crate::sftp::pool::SftpError;

/// Less room than this, and a write that failed without a reason failed for want of it. A server
/// writes up to 255 KiB at once or fails, for each of the connections.
const FULL: u64 = 1 << 20;

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Problem {
    /// The server, or the way to it.
    Sftp(SftpError),
    /// The server said no reason, and there is no room.
    NoSpace(SftpError),
    /// The server refused, and that means this.
    Refused(Kind, SftpError),
    /// Found on this side.
    Here(Kind, What),
}

/// What was found on this side.
#[derive(Debug, Clone, Copy)]
pub(super) struct What(pub(super) &'static str);

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for What {}

impl Problem {
    /// Something else stands where a directory, or nothing, is expected.
    pub(super) fn in_the_way(what: &'static str) -> Self {
        Self::Here(Kind::AlreadyExists, What(what))
    }

    /// A thing that makes no sense.
    pub(super) fn senseless(what: &'static str) -> Self {
        Self::Here(Kind::Io, What(what))
    }

    /// The kind, if it was a request that failed.
    pub(super) fn request(&self) -> Option<ClientErrorKind> {
        match self {
            Self::Sftp(error) => error.kind(),
            Self::NoSpace(_) | Self::Refused(..) | Self::Here(..) => None,
        }
    }

    fn kind(&self) -> Kind {
        use ClientErrorKind as C;
        let error = match self {
            Self::Here(kind, _) | Self::Refused(kind, _) => return *kind,
            Self::NoSpace(_) => return Kind::NoSpace,
            Self::Sftp(error) => error,
        };
        match error.kind() {
            None | Some(C::Disconnected | C::Timeout) => Kind::Unreachable,
            Some(C::NotFound) => Kind::NotFound,
            Some(C::PermissionDenied) => Kind::PermissionDenied,
            Some(C::AlreadyExists | C::NotEmpty) => Kind::AlreadyExists,
            Some(C::NoSpace) => Kind::NoSpace,
            Some(C::Unsupported) => Kind::Unsupported,
            Some(_) => Kind::Io,
        }
    }
}

impl From<SftpError> for Problem {
    fn from(error: SftpError) -> Self {
        Self::Sftp(error)
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        Self::Sftp(error.into())
    }
}

/// Whether the server does not want to, or cannot: not a failure of the connection, and not an
/// entry that is gone.
pub(super) fn is_refusal(error: &ClientError) -> bool {
    use ClientErrorKind as C;
    matches!(error.kind, C::PermissionDenied | C::Failure | C::Unsupported | C::BadMessage)
}

impl Inner {
    /// The error as the caller gets it.
    pub(super) fn error(
        &self,
        operation: &'static str,
        path: &[u8],
        problem: Problem,
    ) -> DestinationError {
        let mut shown = self.pool.location();
        if !path.is_empty() {
            if !shown.ends_with('/') {
                shown.push('/');
            }
            shown.push_str(&String::from_utf8_lossy(path));
        }
        let kind = problem.kind();
        if kind == Kind::Unreachable {
            self.lost.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let source: Box<dyn std::error::Error + Send + Sync> = match problem {
            Problem::Sftp(error) | Problem::NoSpace(error) | Problem::Refused(_, error) => {
                Box::new(error)
            }
            Problem::Here(_, what) => Box::new(what),
        };
        DestinationError { kind, operation, path: shown, source: Some(source) }
    }

    /// Finds out whether a bare "failure" means that the disk is full, as OpenSSH says it.
    pub(super) async fn look_for_space(&self, problem: Problem) -> Problem {
        let Problem::Sftp(SftpError::Request(error)) = problem else { return problem };
        let may_be = matches!(
            error.operation,
            Operation::Open
                | Operation::Write
                | Operation::Close
                | Operation::Fsetstat
                | Operation::Setstat
                | Operation::Mkdir
                | Operation::Symlink
                | Operation::Hardlink
                | Operation::Rename
                | Operation::PosixRename
        );
        if error.kind != ClientErrorKind::Failure || !may_be {
            return error.into();
        }
        match self.file_system().await {
            Ok(Some(found)) if found.is_full(FULL) => Problem::NoSpace(error.into()),
            _ => error.into(),
        }
    }
}
