//! Bytes of the SFTP protocol, version 3 (draft-ietf-secsh-filexfer-02): big-endian integers and
//! strings that start with their length. What is read here comes from the network: reading is
//! total, and lengths are checked before anything is taken.

use super::record::Operation;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const STATUS: u8 = 101;
pub(super) const HANDLE: u8 = 102;
pub(super) const DATA: u8 = 103;
pub(super) const NAME: u8 = 104;
pub(super) const ATTRS: u8 = 105;
pub(super) const EXTENDED_REPLY: u8 = 201;

/// Bytes before the fields of a request: its length, type and id.
const HEADER: usize = 9;

/// What was wrong with received bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not as the protocol has it: {0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// A request being put together. Its length and id are filled in when it is sent.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    pub(super) operation: Operation,
}

impl Packet {
    /// The head of a request; for an extension its name as well.
    pub(super) fn new(operation: Operation) -> Self {
        Self::with_room(operation, 0)
    }

    /// As [`Packet::new`], with room for a content of this length.
    pub(super) fn with_room(operation: Operation, content: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + 64 + content);
        bytes.extend([0, 0, 0, 0, operation.message(), 0, 0, 0, 0]);
        let packet = Self { bytes, operation };
        match operation.extension() {
            Some(extension) => packet.string(extension.name()),
            None => packet,
        }
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        put_u32(&mut self.bytes, value);
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.bytes.extend(value.to_be_bytes());
        self
    }

    pub(super) fn string(mut self, value: &[u8]) -> Self {
        put_string(&mut self.bytes, value);
        self
    }

    /// Fields that are encoded elsewhere.
    pub(super) fn fields(mut self, encode: impl FnOnce(&mut Vec<u8>)) -> Self {
        encode(&mut self.bytes);
        self
    }

    /// Its length on the wire, without the four bytes that say it.
    pub(super) fn length(&self) -> usize {
        self.bytes.len().saturating_sub(4)
    }

    /// The bytes to send. The caller has checked that the length is within the server's limit.
    pub(super) fn seal(mut self, id: u32) -> Vec<u8> {
        let length = u32::try_from(self.length()).unwrap_or(u32::MAX);
        for (to, from) in self.bytes.iter_mut().zip(length.to_be_bytes()) {
            *to = from;
        }
        for (to, from) in self.bytes.iter_mut().skip(5).zip(id.to_be_bytes()) {
            *to = from;
        }
        self.bytes
    }
}

pub(super) fn put_u32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend(value.to_be_bytes());
}

/// A string longer than 4 GiB cannot be sent: [`Packet::length`] is checked before.
pub(super) fn put_string(bytes: &mut Vec<u8>, value: &[u8]) {
    put_u32(bytes, u32::try_from(value.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(value);
}

/// Received fields, read from the front.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(Malformed("a number is cut"))?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*value))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        let (value, rest) = self.rest.split_first_chunk().ok_or(Malformed("a number is cut"))?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*value))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()? as usize;
        let (value, rest) =
            self.rest.split_at_checked(length).ok_or(Malformed("a string is cut"))?;
        self.rest = rest;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_protocol_says() {
        let packet = Packet::new(Operation::Read).string(b"h").u64(1 << 40).u32(5);
        let expected = b"\0\0\0\x16\x05\0\0\x01\x02\0\0\0\x01h\0\0\x01\0\0\0\0\0\0\0\0\x05";
        assert_eq!(packet.seal(0x102), expected);

        let packet = Packet::new(Operation::Fsync).string(b"h");
        let expected = b"\0\0\0\x1e\xc8\0\0\0\x07\0\0\0\x11fsync@openssh.com\0\0\0\x01h";
        let sealed = packet.seal(7);
        assert_eq!(sealed.get(4..), expected.get(4..));
        assert_eq!(sealed.len(), expected.len());
        assert_eq!(sealed.get(..4), Some(&(expected.len() as u32 - 4).to_be_bytes()[..]));
    }

    #[test]
    fn fields_end_where_the_bytes_end() {
        let mut fields = Fields::new(b"\0\0\0\x02ab\0\0\0\x05xy");
        assert_eq!(fields.string(), Ok(&b"ab"[..]));
        assert!(fields.string().is_err());
        assert!(Fields::new(b"\0\0\0").u32().is_err());
        assert!(Fields::new(b"\0\0\0\0\0\0\0").u64().is_err());
        assert!(Fields::new(b"\xff\xff\xff\xffabc").string().is_err());
    }
}
