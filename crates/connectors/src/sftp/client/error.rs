//! Errors of the client: what was asked of which path, what the server answered, and why a
//! connection ended.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::record::Operation;
use super::wire::Malformed;

/// Result of a call to the client.
pub type ClientResult<T> = Result<T, ClientError>;

/// Kinds of errors, to be matched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// The server denies it: permissions, a read-only server or file system, a denied request.
    PermissionDenied,
    /// Something stands there already.
    AlreadyExists,
    /// A directory to be removed holds something.
    NotEmpty,
    /// The disk or a quota is full.
    NoSpace,
    /// The server says no more than that it failed; its message is kept.
    Failure,
    /// The server does not have this request or extension.
    Unsupported,
    /// The end of a file or a listing where none is due.
    Eof,
    /// An answer that makes no sense, or a request that the server found senseless (OpenSSH calls
    /// names so that are too long, and links that are none).
    BadMessage,
    /// Refused before anything was sent: a path with a NUL byte or too long for a request.
    InvalidArgument,
    /// The connection is gone. The cause says why.
    Disconnected,
    /// The server did not answer in time; the connection is given up.
    Timeout,
}

/// The server's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The code of the protocol (4 is "failure").
    pub code: u32,
    /// The message, in no certain language; may be empty.
    pub message: String,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DisconnectCause {
    /// By this side.
    #[error("it was closed on this side")]
    Closed,
    /// By the other side.
    #[error("the server closed the connection")]
    Ended,
    /// The stream below failed.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// A packet longer than agreed.
    #[error("the server sent a packet of {length} bytes, more than the {longest} agreed")]
    TooLong {
        /// As announced.
        length: u32,
        /// The most that is taken.
        longest: u32,
    },
    /// Text in place of the protocol: most often a login script of the account that prints.
    #[error("the server sent text where SFTP was due: \"{text}\"")]
    Text {
        /// Its first bytes, printable.
        text: String,
    },
    /// Bytes that are not the protocol.
    #[error("the server sent what is not SFTP: {0}")]
    Garbage(&'static str),
    /// Requests waited, and no byte came or went.
    #[error("no byte came or went for {0:?}")]
    Silent(Duration),
    /// One request stayed without an answer while others were served.
    #[error("a request ({operation}) had no answer for {after:?}")]
    Unanswered {
        /// The request.
        operation: Operation,
        /// How long it was waited for.
        after: Duration,
    },
    /// The tasks of the connection ended with their runtime.
    #[error("the runtime of the connection stopped")]
    Stopped,
}

/// What went wrong, with which request on which path.
#[derive(Debug, Clone)]
pub struct ClientError {
    /// To match on.
    pub kind: ClientErrorKind,
    /// What was asked.
    pub operation: Operation,
    /// Of what: the path as given, empty where there is none.
    pub path: Vec<u8>,
    /// What the server answered, if it did.
    pub status: Option<Status>,
    cause: Option<Cause>,
}

#[derive(Debug, Clone)]
enum Cause {
    Disconnected(Arc<DisconnectCause>),
    Malformed(Malformed),
}

impl ClientError {
    /// Why the connection ended, if that is what happened.
    pub fn disconnect_cause(&self) -> Option<&DisconnectCause> {
        match &self.cause {
            Some(Cause::Disconnected(cause)) => Some(cause),
            _ => None,
        }
    }

    /// Whether the connection is of no more use. What the request did is not known then.
    pub fn is_disconnect(&self) -> bool {
        matches!(self.kind, ClientErrorKind::Disconnected | ClientErrorKind::Timeout)
    }

    pub(crate) fn new(kind: ClientErrorKind, operation: Operation, path: &[u8]) -> Self {
        Self { kind, operation, path: path.to_vec(), status: None, cause: None }
    }

    pub(super) fn malformed(operation: Operation, path: &[u8], what: Malformed) -> Self {
        let error = Self::new(ClientErrorKind::BadMessage, operation, path);
        Self { cause: Some(Cause::Malformed(what)), ..error }
    }

    pub(super) fn disconnected(
        operation: Operation,
        path: &[u8],
        kind: ClientErrorKind,
        cause: Arc<DisconnectCause>,
    ) -> Self {
        Self { cause: Some(Cause::Disconnected(cause)), ..Self::new(kind, operation, path) }
    }

    pub(super) fn status(operation: Operation, path: &[u8], status: Status) -> Self {
        let kind = kind_of(&status);
        Self { status: Some(status), ..Self::new(kind, operation, path) }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.path.is_empty() {
            write!(f, " {}", printable(&self.path))?;
        }
        let what = match self.kind {
            ClientErrorKind::NotFound => "no such file or directory",
            ClientErrorKind::PermissionDenied => "permission denied",
            ClientErrorKind::AlreadyExists => "it exists already",
            ClientErrorKind::NotEmpty => "the directory is not empty",
            ClientErrorKind::NoSpace => "no space left, or over quota",
            ClientErrorKind::Failure => "the server failed",
            ClientErrorKind::Unsupported => "the server does not support this",
            ClientErrorKind::Eof => "unexpected end",
            ClientErrorKind::BadMessage => "bad message",
            ClientErrorKind::InvalidArgument => "a NUL byte, or too long for a request",
            ClientErrorKind::Disconnected => "the connection is gone",
            ClientErrorKind::Timeout => "no answer in time",
        };
        write!(f, ": {what}")?;
        match &self.status {
            Some(status) if !status.message.is_empty() => {
                write!(f, " (server: {}, code {})", status.message, status.code)
            }
            Some(status) => write!(f, " (code {})", status.code),
            None => Ok(()),
        }
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self.cause.as_ref()? {
            Cause::Disconnected(cause) => Some(cause.as_ref()),
            Cause::Malformed(what) => Some(what),
        }
    }
}

/// Codes above 8 are of later versions of the protocol; some servers use them in version 3 too.
fn kind_of(status: &Status) -> ClientErrorKind {
    use ClientErrorKind as Kind;
    match status.code {
        1 => Kind::Eof,
        2 | 10 => Kind::NotFound,
        3 | 12 => Kind::PermissionDenied,
        5 => Kind::BadMessage,
        8 => Kind::Unsupported,
        11 => Kind::AlreadyExists,
        14 | 15 => Kind::NoSpace,
        18 => Kind::NotEmpty,
        _ => kind_of_text(&status.message),
    }
}

/// Servers that pass the words of their system on tell more than the code "failure" does.
fn kind_of_text(message: &str) -> ClientErrorKind {
    use ClientErrorKind as Kind;
    let message = message.to_ascii_lowercase();
    let known = [
        ("no space", Kind::NoSpace),
        ("not enough space", Kind::NoSpace),
        ("disk full", Kind::NoSpace),
        ("quota", Kind::NoSpace),
        ("not empty", Kind::NotEmpty),
        ("file exists", Kind::AlreadyExists),
        ("already exists", Kind::AlreadyExists),
        ("no such file", Kind::NotFound),
        ("permission denied", Kind::PermissionDenied),
        ("read-only file system", Kind::PermissionDenied),
        ("not supported", Kind::Unsupported),
    ];
    known.into_iter().find(|(text, _)| message.contains(text)).map_or(Kind::Failure, |k| k.1)
}

/// Bytes as a person can read them: text stays, all else is escaped.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                _ => text.extend(c.escape_debug()),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_from_the_code_and_from_known_words() {
        let kind = |code, message: &str| kind_of(&Status { code, message: message.into() });
        assert_eq!(kind(2, "No such file"), ClientErrorKind::NotFound);
        assert_eq!(kind(4, "Failure"), ClientErrorKind::Failure);
        assert_eq!(kind(4, ""), ClientErrorKind::Failure);
        assert_eq!(kind(4, "write: No space left on device"), ClientErrorKind::NoSpace);
        assert_eq!(kind(4, "Disk quota exceeded"), ClientErrorKind::NoSpace);
        assert_eq!(kind(4, "mkdir /x: File exists"), ClientErrorKind::AlreadyExists);
        assert_eq!(kind(4, "Directory not empty"), ClientErrorKind::NotEmpty);
        assert_eq!(kind(15, ""), ClientErrorKind::NoSpace);
        assert_eq!(kind(3, "No space left on device"), ClientErrorKind::PermissionDenied);
        assert_eq!(kind(4711, "?"), ClientErrorKind::Failure);
    }

    #[test]
    fn messages_name_the_request_the_path_and_the_answer() {
        let status = Status { code: 4, message: "Failure".into() };
        let error = ClientError::status(Operation::Mkdir, b"/a\xff\n\"\xc3\xa4\"\x1b[2J", status);
        assert_eq!(
            error.to_string(),
            "mkdir /a\\xff\\n\"\u{e4}\"\\u{1b}[2J: the server failed (server: Failure, code 4)"
        );
        let cause = Arc::new(DisconnectCause::Ended);
        let kind = ClientErrorKind::Disconnected;
        let error = ClientError::disconnected(Operation::Limits, b"", kind, cause);
        assert_eq!(error.to_string(), "limits: the connection is gone");
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("the server closed the connection"));
    }
}
