//! The kinds of requests, the extensions among them, and a counter of what went over the wire.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Opening the protocol.
    Init,
    /// `OPEN`
    Open,
    /// `CLOSE`
    Close,
    /// `READ`
    Read,
    /// `WRITE`
    Write,
    /// `LSTAT`
    Lstat,
    /// `FSTAT`
    Fstat,
    /// `SETSTAT`
    Setstat,
    /// `FSETSTAT`
    Fsetstat,
    /// `OPENDIR`
    Opendir,
    /// `READDIR`
    Readdir,
    /// `REMOVE`
    Remove,
    /// `MKDIR`
    Mkdir,
    /// `RMDIR`
    Rmdir,
    /// `REALPATH`
    Realpath,
    /// `STAT`
    Stat,
    /// `RENAME`, which replaces nothing.
    Rename,
    /// `READLINK`
    Readlink,
    /// `SYMLINK`
    Symlink,
    /// `posix-rename@openssh.com`, which replaces what is there.
    PosixRename,
    /// `hardlink@openssh.com`
    Hardlink,
    /// `fsync@openssh.com`
    Fsync,
    /// `statvfs@openssh.com`
    Statvfs,
    /// `lsetstat@openssh.com`
    Lsetstat,
    /// `limits@openssh.com`
    Limits,
    /// `expand-path@openssh.com`
    ExpandPath,
    /// `home-directory`
    HomeDirectory,
    /// `users-groups-by-id@openssh.com`
    UsersGroupsById,
}

impl Operation {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 28] = [
        Self::Init,
        Self::Open,
        Self::Close,
        Self::Read,
        Self::Write,
        Self::Lstat,
        Self::Fstat,
        Self::Setstat,
        Self::Fsetstat,
        Self::Opendir,
        Self::Readdir,
        Self::Remove,
        Self::Mkdir,
        Self::Rmdir,
        Self::Realpath,
        Self::Stat,
        Self::Rename,
        Self::Readlink,
        Self::Symlink,
        Self::PosixRename,
        Self::Hardlink,
        Self::Fsync,
        Self::Statvfs,
        Self::Lsetstat,
        Self::Limits,
        Self::ExpandPath,
        Self::HomeDirectory,
        Self::UsersGroupsById,
    ];

    /// A word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "start SFTP",
            Self::Open => "open",
            Self::Close => "close",
            Self::Read => "read",
            Self::Write => "write",
            Self::Lstat => "lstat",
            Self::Fstat => "fstat",
            Self::Setstat => "setstat",
            Self::Fsetstat => "fsetstat",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Remove => "remove",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::Realpath => "realpath",
            Self::Stat => "stat",
            Self::Rename => "rename",
            Self::Readlink => "readlink",
            Self::Symlink => "symlink",
            Self::PosixRename => "posix-rename",
            Self::Hardlink => "hardlink",
            Self::Fsync => "fsync",
            Self::Statvfs => "statvfs",
            Self::Lsetstat => "lsetstat",
            Self::Limits => "limits",
            Self::ExpandPath => "expand-path",
            Self::HomeDirectory => "home-directory",
            Self::UsersGroupsById => "users-groups-by-id",
        }
    }

    /// The extension it belongs to.
    pub(super) fn extension(self) -> Option<Extension> {
        Some(match self {
            Self::PosixRename => Extension::PosixRename,
            Self::Hardlink => Extension::Hardlink,
            Self::Fsync => Extension::Fsync,
            Self::Statvfs => Extension::Statvfs,
            Self::Lsetstat => Extension::Lsetstat,
            Self::Limits => Extension::Limits,
            Self::ExpandPath => Extension::ExpandPath,
            Self::HomeDirectory => Extension::HomeDirectory,
            Self::UsersGroupsById => Extension::UsersGroupsById,
            _ => return None,
        })
    }

    /// The type byte of its packet.
    pub(super) fn message(self) -> u8 {
        match self {
            Self::Init => super::wire::INIT,
            Self::Open => 3,
            Self::Close => 4,
            Self::Read => 5,
            Self::Write => 6,
            Self::Lstat => 7,
            Self::Fstat => 8,
            Self::Setstat => 9,
            Self::Fsetstat => 10,
            Self::Opendir => 11,
            Self::Readdir => 12,
            Self::Remove => 13,
            Self::Mkdir => 14,
            Self::Rmdir => 15,
            Self::Realpath => 16,
            Self::Stat => 17,
            Self::Rename => 18,
            Self::Readlink => 19,
            Self::Symlink => 20,
            _ => 200,
        }
    }

    /// Whether it may rightly keep a server busy for minutes, with nothing said meanwhile: all that
    /// was written has to reach a slow disk.
    pub(super) fn is_slow(self) -> bool {
        self == Self::Fsync
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Extensions that this client can use. A server announces those it has when the protocol starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Extension {
    /// A rename that replaces what is there, at once.
    PosixRename,
    /// Hard links.
    Hardlink,
    /// Forcing a file to disk.
    Fsync,
    /// Size and free space of a file system.
    Statvfs,
    /// Attributes of a symbolic link itself.
    Lsetstat,
    /// The server's limits for lengths and handles.
    Limits,
    /// Expansion of `~` and `~user`.
    ExpandPath,
    /// The home directory of a user.
    HomeDirectory,
    /// Names of users and groups.
    UsersGroupsById,
}

impl Extension {
    /// The name on the wire.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::PosixRename => b"posix-rename@openssh.com",
            Self::Hardlink => b"hardlink@openssh.com",
            Self::Fsync => b"fsync@openssh.com",
            Self::Statvfs => b"statvfs@openssh.com",
            Self::Lsetstat => b"lsetstat@openssh.com",
            Self::Limits => b"limits@openssh.com",
            Self::ExpandPath => b"expand-path@openssh.com",
            Self::HomeDirectory => b"home-directory",
            Self::UsersGroupsById => b"users-groups-by-id@openssh.com",
        }
    }

    /// The version that this client speaks, as announced.
    pub(super) fn version(self) -> &'static [u8] {
        if self == Self::Statvfs { b"2" } else { b"1" }
    }
}

/// Counts requests by kind, and bytes of the SFTP stream in both directions (what SSH adds is not
/// in them). Several connections may share one.
#[derive(Debug, Default)]
pub struct Recorder {
    requests: [AtomicU64; Operation::ALL.len()],
    sent: AtomicU64,
    received: AtomicU64,
}

impl Recorder {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests of this kind so far.
    pub fn requests(&self, operation: Operation) -> u64 {
        self.counter(operation).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Requests of all kinds so far.
    pub fn total(&self) -> u64 {
        self.requests.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that were handed to the stream.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes that came from the stream.
    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn counter(&self, operation: Operation) -> Option<&AtomicU64> {
        self.requests.get(operation as usize)
    }

    pub(super) fn count(&self, operation: Operation) {
        if let Some(count) = self.counter(operation) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_counter_and_a_message_of_its_own() {
        let recorder = Recorder::new();
        let mut messages = Vec::new();
        for (i, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, i);
            recorder.count(operation);
            assert_eq!(recorder.requests(operation), 1);
            let key = (operation.message(), operation.extension().map(Extension::name));
            assert_eq!(key.0 == 200, key.1.is_some(), "{operation}");
            assert!(!messages.contains(&key), "{operation}");
            messages.push(key);
        }
        assert_eq!(recorder.total(), 28);
    }
}
