//! Identifiers: newtypes for every id, their hexadecimal form, and SHA-256 of stored bytes.
//! Keyed hashes, which need the repository's keys, live in `crypto`.

use std::fmt;

use aws_lc_rs::digest;

/// The text was not the hexadecimal form of an id of the expected length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected {expected} lower-case hexadecimal digits")]
pub struct BadId {
    expected: usize,
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [b >> 4, b & 15])
        .filter_map(|n| DIGITS.get(usize::from(n)).map(|d| char::from(*d)))
        .collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let digit = |c: &u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(out)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The id with these bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The id in `bytes`, if there are exactly as many as an id has.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// Parses the lower-case hexadecimal form.
            pub fn from_hex(text: &str) -> Result<Self, BadId> {
                from_hex(text).map(Self).ok_or(BadId { expected: 2 * $len })
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                let mut text = to_hex(&self.0);
                text.truncate(8);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }
    };
}

id!(
    /// Keyed BLAKE3-256 of a blob's plain bytes (of the member table, for a bundle).
    BlobId, 32
);
id!(
    /// SHA-256 of a content-named object's bytes: a pack's or an index segment's name.
    ObjectId, 32
);
id!(
    /// First 16 bytes of the keyed BLAKE3-256 of a small file's bytes.
    MemberHash, 16
);
id!(
    /// A snapshot and the session that writes it: 16 random bytes.
    SnapshotId, 16
);
id!(
    /// A key slot, note or condemned record: 16 random bytes.
    RecordId, 16
);
id!(
    /// A repository: 32 random bytes.
    RepositoryId, 32
);

/// Running SHA-256, the name of packs and segments.
#[derive(Clone)]
pub struct Sha256(digest::Context);

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// Hashes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes so far.
    pub fn finish(self) -> ObjectId {
        let digest = self.0.finish();
        // SHA-256 is 32 bytes by definition.
        ObjectId::from_slice(digest.as_ref()).unwrap_or_default()
    }

    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> ObjectId {
        let mut hash = Self::default();
        hash.update(bytes);
        hash.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trip_and_refusals() {
        let id = RecordId::new([0xab; 16]);
        assert_eq!(RecordId::from_hex(&id.to_string()), Ok(id));
        for bad in ["", "ab", "ABABABABABABABABABABABABABABABAB", "zz", "é"] {
            assert!(RecordId::from_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sha256_of_nothing() {
        assert_eq!(
            Sha256::of(b"").to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
