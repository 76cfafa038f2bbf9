//! Replies and what they hold. Every decoder takes any bytes and gives a value or [`Malformed`].

use super::attributes::{Attributes, FileSystem};
use super::error::{Status, printable};
use super::wire::{ATTRS, DATA, EXTENDED_REPLY, Fields, HANDLE, Malformed, NAME, STATUS};

/// The protocol's limit for handles.
const LONGEST_HANDLE: usize = 256;

/// A server's message is cut to this many bytes: it goes into errors and logs.
const LONGEST_MESSAGE: usize = 500;

/// A packet from the server. The body starts behind the id for replies, behind the type for the
/// first packet of a connection.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// A line as `ls -l` prints it, in no certain form; kept if asked for.
    pub long_name: Option<Vec<u8>>,
    /// Attributes of the entry itself: links are not followed.
    pub attributes: Attributes,
}

/// Limits that a server announces. `None` where it names none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Longest packet, in bytes.
    pub packet: Option<u64>,
    /// Most bytes that one read returns.
    pub read: Option<u64>,
    /// Most bytes that one write takes.
    pub write: Option<u64>,
    /// Handles that may be open at once.
    pub handles: Option<u64>,
}

/// Names of the users and groups that were asked for, in that order; `None` where the server knows
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Of users.
    pub users: Vec<Option<Vec<u8>>>,
    /// Of groups.
    pub groups: Vec<Option<Vec<u8>>>,
}

/// What a server says of itself when the protocol starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerVersion {
    /// Version of the protocol that it chose.
    pub(super) version: u32,
    /// Names and versions of extensions.
    pub(super) extensions: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Reply {
    /// The fields, if the reply is of this kind.
    fn fields(&self, kind: u8) -> Result<Fields<'_>, Malformed> {
        if self.kind == kind {
            Ok(Fields::new(&self.body))
        } else {
            Err(Malformed("a reply of another kind than the request calls for"))
        }
    }

    pub(super) fn is_handle(&self) -> bool {
        self.kind == HANDLE
    }

    /// The status, if that is what this is.
    pub(super) fn status(&self) -> Result<Option<Status>, Malformed> {
        if self.kind != STATUS {
            return Ok(None);
        }
        let mut fields = Fields::new(&self.body);
        let code = fields.u32()?;
        // Message and language are left out by some servers.
        let message = if fields.is_empty() { b"" } else { fields.string()? };
        let message = message.get(..LONGEST_MESSAGE).unwrap_or(message);
        Ok(Some(Status { code, message: printable(message) }))
    }

    pub(super) fn handle(&self) -> Result<Vec<u8>, Malformed> {
        let handle = self.fields(HANDLE)?.string()?;
        if handle.len() > LONGEST_HANDLE {
            return Err(Malformed("a handle that is too long"));
        }
        Ok(handle.to_vec())
    }

    /// The content, at most `most` bytes of it.
    pub(super) fn data(mut self, most: usize) -> Result<Vec<u8>, Malformed> {
        let length = self.fields(DATA)?.string()?.len();
        if length > most {
            return Err(Malformed("more bytes than were asked for"));
        }
        self.body.drain(..4);
        self.body.truncate(length);
        Ok(self.body)
    }

    pub(super) fn attributes(&self) -> Result<Attributes, Malformed> {
        Attributes::decode(&mut self.fields(ATTRS)?)
    }

    /// The entries of a listing, without `.` and `..`. A name that could lead out of the directory
    /// is refused.
    pub(super) fn entries(&self, long_names: bool) -> Result<Vec<DirectoryEntry>, Malformed> {
        let mut fields = self.fields(NAME)?;
        let count = fields.u32()? as usize;
        // Two strings and flags take twelve bytes at least.
        if count > fields.left() / 12 {
            return Err(Malformed("more names than bytes for them"));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, long_name) = (fields.string()?, fields.string()?);
            let attributes = Attributes::decode(&mut fields)?;
            if name == b"." || name == b".." {
                continue;
            }
            if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                return Err(Malformed("a name that is empty or holds a slash or a NUL byte"));
            }
            let long_name = long_names.then(|| long_name.to_vec());
            entries.push(DirectoryEntry { name: name.to_vec(), long_name, attributes });
        }
        Ok(entries)
    }

    /// The one name of a reply about a path.
    pub(super) fn path(&self) -> Result<Vec<u8>, Malformed> {
        let mut fields = self.fields(NAME)?;
        if fields.u32()? != 1 {
            return Err(Malformed("not exactly one name"));
        }
        let path = fields.string()?;
        if path.contains(&0) {
            return Err(Malformed("a path with a NUL byte"));
        }
        Ok(path.to_vec())
    }

    pub(super) fn file_system(&self) -> Result<FileSystem, Malformed> {
        FileSystem::decode(&mut self.fields(EXTENDED_REPLY)?)
    }

    pub(super) fn limits(&self) -> Result<Limits, Malformed> {
        let mut fields = self.fields(EXTENDED_REPLY)?;
        let mut next = || Ok(Some(fields.u64()?).filter(|limit| *limit != 0));
        Ok(Limits { packet: next()?, read: next()?, write: next()?, handles: next()? })
    }

    /// The names of this many users and groups.
    pub(super) fn names(&self, users: usize, groups: usize) -> Result<Names, Malformed> {
        let mut fields = self.fields(EXTENDED_REPLY)?;
        let mut list = |count: usize| {
            let mut fields = Fields::new(fields.string()?);
            let mut names = Vec::new();
            for _ in 0..count {
                names.push(Some(fields.string()?.to_vec()).filter(|name| !name.is_empty()));
            }
            if fields.is_empty() { Ok(names) } else { Err(Malformed("more names than ids")) }
        };
        Ok(Names { users: list(users)?, groups: list(groups)? })
    }

    pub(super) fn version(&self) -> Result<ServerVersion, Malformed> {
        let mut fields = self.fields(super::wire::VERSION)?;
        let version = fields.u32()?;
        let mut extensions = Vec::new();
        while !fields.is_empty() {
            extensions.push((fields.string()?.to_vec(), fields.string()?.to_vec()));
        }
        Ok(ServerVersion { version, extensions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sftp::client::wire::{put_string, put_u32};

    fn names(list: &[&[u8]]) -> Reply {
        let mut body = Vec::new();
        put_u32(&mut body, list.len() as u32);
        for name in list {
            put_string(&mut body, name);
            put_string(&mut body, b"long");
            Attributes::default().encode(&mut body);
        }
        Reply { kind: NAME, body }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let list = names(&[b".", b"..", b"\xff\n", b"..."]);
        let found = list.entries(false).unwrap();
        assert_eq!(found.iter().map(|e| &e.name[..]).collect::<Vec<_>>(), [b"\xff\n", &b"..."[..]]);
        assert_eq!(found[0].long_name, None);
        assert_eq!(list.entries(true).unwrap()[0].long_name.as_deref(), Some(&b"long"[..]));
        for bad in [&b"a/b"[..], b"/", b"", b"a\0b", b"../x"] {
            assert!(names(&[b"good", bad]).entries(false).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn more_than_was_asked_for_is_refused() {
        let reply = |n: usize| {
            let mut body = Vec::new();
            put_string(&mut body, &vec![7; n]);
            Reply { kind: DATA, body }
        };
        assert_eq!(reply(5).data(5), Ok(vec![7; 5]));
        assert_eq!(reply(3).data(5), Ok(vec![7; 3]));
        assert!(reply(6).data(5).is_err());
        assert!(Reply { kind: HANDLE, body: vec![0, 0, 0, 1, 7] }.data(5).is_err());
    }

    #[test]
    fn a_status_may_lack_its_message() {
        let status = |body: &[u8]| Reply { kind: STATUS, body: body.to_vec() }.status();
        assert_eq!(status(b"\0\0\0\x04").unwrap().unwrap().code, 4);
        assert!(status(b"\0\0\0").is_err());
        assert!(status(b"\0\0\0\x04\0\0\0\x09x").is_err());
        let long = [b"\0\0\0\x04\0\0\x08\0".to_vec(), vec![b'a'; 2048]].concat();
        assert_eq!(status(&long).unwrap().unwrap().message.len(), 500);
    }
}
