//! Bundles: small files stored together as one blob (docs/format.md, "Bundles").
//!
//! A bundle is its members' bytes, then the member table, then the table's length. Its id is the
//! keyed hash of every member's length and hash, so that gc can drop a dead member's bytes (its
//! hash then stands in the table) without changing the id, and so that checking the id checks
//! every member that is left.

use std::ops::Range;

use crate::crypto::{BlobKind, Keys};
use crate::hash::{BlobId, MemberHash};
use crate::{Error, Result};

/// Where bundles end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleLimits {
    /// Bytes below which a bundle is not ended by content.
    pub min: u32,
    /// Aimed-at mean, in bytes.
    pub avg: u32,
    /// Bytes at which it ends in any case.
    pub max: u32,
}

impl Default for BundleLimits {
    fn default() -> Self {
        Self { min: 256 << 10, avg: 512 << 10, max: 1 << 20 }
    }
}

impl BundleLimits {
    /// Whether a bundle of `length` bytes ends after the member of this hash and size: a decision
    /// of the member's own (secret) hash, so that a change elsewhere does not move it.
    pub fn ends_after(&self, length: usize, hash: &MemberHash, size: usize) -> bool {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if length >= self.max {
            return true;
        }
        if length < self.min {
            return false;
        }
        let [a, b, c, d, ..] = *hash.as_bytes();
        let span = u64::from(self.avg.saturating_sub(self.min)).max(1);
        // Chance size/span: the mean bundle is avg long whatever the files' sizes.
        u64::from(u32::from_le_bytes([a, b, c, d])) * span < ((size as u64) << 32)
    }
}

/// A bundle being filled.
#[derive(Debug, Default)]
pub struct BundleBuilder {
    bytes: Vec<u8>,
    members: Vec<(u32, MemberHash)>,
}

fn table_id(keys: &Keys, members: &[(u32, MemberHash)]) -> BlobId {
    let mut table = Vec::with_capacity(4 + 20 * members.len());
    table.extend_from_slice(&(members.len() as u32).to_le_bytes());
    for (length, hash) in members {
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(hash.as_bytes());
    }
    keys.blob_id(BlobKind::Bundle, &table)
}

impl BundleBuilder {
    /// A builder that fills `buffer`.
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, members: Vec::new() }
    }

    /// Adds a member and returns its number.
    pub fn add(&mut self, content: &[u8], hash: MemberHash) -> u32 {
        let number = self.members.len() as u32;
        self.bytes.extend_from_slice(content);
        self.members.push((content.len() as u32, hash));
        number
    }

    /// Bytes of content so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it has no member yet.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members it has.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Ends the bundle: its id and its bytes.
    pub fn finish(self, keys: &Keys) -> (BlobId, Vec<u8>) {
        let Self { mut bytes, members } = self;
        let id = table_id(keys, &members);
        let start = bytes.len();
        for (length, _) in &members {
            put_varint(&mut bytes, u64::from(*length) << 1);
        }
        let table = (bytes.len() - start) as u32;
        bytes.extend_from_slice(&table.to_le_bytes());
        (id, bytes)
    }
}

/// The members of a bundle whose id has been checked.
#[derive(Debug, Default, Clone)]
pub struct Members(Vec<Member>);

impl Members {
    /// Where the bytes of a member lie in the bundle, and its hash. `None` if there is no such
    /// member or gc dropped it.
    pub fn get(&self, number: u32) -> Option<(Range<usize>, MemberHash)> {
        let (range, _, hash) = self.0.get(usize::try_from(number).ok()?)?;
        Some((range.clone()?, *hash))
    }

    /// Length of a member in bytes, be it there or not.
    pub fn length(&self, number: u32) -> Option<u32> {
        self.0.get(usize::try_from(number).ok()?).map(|(_, length, _)| *length)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether gc dropped none of them.
    pub fn are_all_there(&self) -> bool {
        self.0.iter().all(|(range, ..)| range.is_some())
    }

    /// The members of the bundle `id`, none of them there, if these are their lengths and hashes.
    pub fn of_table(keys: &Keys, id: &BlobId, table: &[(u32, MemberHash)]) -> Option<Self> {
        let members = table.iter().map(|(length, hash)| (None, *length, *hash));
        (table_id(keys, table) == *id).then(|| Self(members.collect()))
    }
}

/// Reads a bundle's table, hashes its members and checks its id.
pub fn open(keys: &Keys, id: &BlobId, bytes: &[u8]) -> Result<Members> {
    let members = parse(keys, bytes).ok_or_else(|| Error::damaged("bundle", "bad table"))?;
    let table: Vec<_> = members.iter().map(|(_, length, hash)| (*length, *hash)).collect();
    if table_id(keys, &table) != *id {
        return Err(Error::damaged("bundle", "its content does not match its id"));
    }
    Ok(Members(members))
}

/// The bytes of a bundle with these members, of which only those are there that `content` gives.
pub fn with_members<'b>(members: &Members, content: impl Fn(u32) -> Option<&'b [u8]>) -> Vec<u8> {
    let (mut bytes, mut table) = (Vec::new(), Vec::new());
    for (number, (_, length, hash)) in (0..).zip(&members.0) {
        match content(number) {
            Some(member) => {
                bytes.extend_from_slice(member);
                put_varint(&mut table, u64::from(*length) << 1);
            }
            None => {
                put_varint(&mut table, u64::from(*length) << 1 | 1);
                table.extend_from_slice(hash.as_bytes());
            }
        }
    }
    bytes.extend_from_slice(&table);
    bytes.extend_from_slice(&(table.len() as u32).to_le_bytes());
    bytes
}

/// A member: where its bytes are unless it was dropped, their length and hash.
type Member = (Option<Range<usize>>, u32, MemberHash);

fn parse(keys: &Keys, bytes: &[u8]) -> Option<Vec<Member>> {
    let (rest, length) = bytes.split_last_chunk::<4>()?;
    let table_length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let content_length = rest.len().checked_sub(table_length)?;
    let (content, mut table) = rest.split_at(content_length);
    let mut members = Vec::new();
    let mut offset = 0_usize;
    while !table.is_empty() {
        let word = take_varint(&mut table)?;
        let length = u32::try_from(word >> 1).ok()?;
        if word & 1 == 0 {
            let end = offset.checked_add(usize::try_from(length).ok()?)?;
            let hash = keys.member_hash(content.get(offset..end)?);
            members.push((Some(offset..end), length, hash));
            offset = end;
        } else {
            let (hash, after) = table.split_first_chunk::<16>()?;
            table = after;
            members.push((None, length, MemberHash::new(*hash)));
        }
    }
    (offset == content.len()).then_some(members)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;

    fn keys() -> Keys {
        Keys::derive(&RootKey::new([3; 32]))
    }

    fn sample() -> (BlobId, Vec<u8>, Vec<Vec<u8>>) {
        let files: Vec<Vec<u8>> = (0..40_u8).map(|i| vec![i; usize::from(i) * 7]).collect();
        let mut builder = BundleBuilder::default();
        for file in &files {
            builder.add(file, keys().member_hash(file));
        }
        let (id, bytes) = builder.finish(&keys());
        (id, bytes, files)
    }

    #[test]
    fn members_come_back() -> Result<()> {
        let (id, bytes, files) = sample();
        let members = open(&keys(), &id, &bytes)?;
        assert_eq!(members.len(), files.len());
        for (number, file) in (0..).zip(&files) {
            let (range, hash) = members.get(number).expect("member");
            assert_eq!(&bytes[range], &file[..]);
            assert_eq!(hash, keys().member_hash(file));
        }
        assert!(members.get(40).is_none());
        Ok(())
    }

    #[test]
    fn a_dropped_member_keeps_the_id() -> Result<()> {
        let mut whole = BundleBuilder::default();
        whole.add(b"one", keys().member_hash(b"one"));
        whole.add(b"two", keys().member_hash(b"two"));
        let (id, bytes) = whole.finish(&keys());
        let members = open(&keys(), &id, &bytes)?;
        let content = |number| members.get(number).and_then(|(range, _)| bytes.get(range));
        assert_eq!(with_members(&members, content), bytes, "nothing dropped, nothing changed");
        let bytes = with_members(&members, |number| content(number).filter(|_| number == 1));
        let members = open(&keys(), &id, &bytes)?;
        assert!(members.get(0).is_none());
        assert_eq!(members.length(0), Some(3));
        assert_eq!(members.get(1).map(|m| m.0), Some(0..3));
        Ok(())
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (id, bytes, _) = sample();
        for position in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[position] ^= 1 << (position % 8);
            assert!(open(&keys(), &id, &bad).is_err(), "byte {position}");
        }
    }
}
