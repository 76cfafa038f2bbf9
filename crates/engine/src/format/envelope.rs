//! The sealed envelope around every object but `config` and key slots: an 80-byte header and one
//! or more sealed sections (docs/format.md, "Sealed objects").

use crate::crypto::{Algorithm, Keys, ObjectCipher, ObjectKind, TAG_LEN};
use crate::hash::RepositoryId;
use crate::{Error, Result};

use super::{VERSION, padme};

/// First bytes of every object.
pub const MAGIC: [u8; 8] = *b"HOLDFAST";

/// Length of a header.
pub const HEADER_LEN: usize = 80;

/// Ordinal of a pack's directory.
pub const DIRECTORY_ORDINAL: u64 = u64::MAX;

/// The first 80 bytes of a sealed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// How it is sealed.
    pub algorithm: Algorithm,
    /// Key epoch: 0 until keys can be rotated.
    pub epoch: u32,
    /// Unique to the object: its key is derived from it.
    pub salt: [u8; 32],
    /// BLAKE3 commitment to the object's key.
    pub commitment: [u8; 32],
}

impl Header {
    fn start(
        kind: ObjectKind,
        algorithm: Algorithm,
        epoch: u32,
        salt: &[u8; 32],
    ) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields: [&[u8]; 4] =
            [&MAGIC, &[VERSION, kind as u8, algorithm as u8, 0], &epoch.to_le_bytes(), salt];
        for (to, from) in bytes.iter_mut().zip(fields.concat()) {
            *to = from;
        }
        bytes
    }

    /// Makes the header of a new object, and its cipher. `salt` must never be used twice.
    pub fn create(
        keys: &Keys,
        repository: &RepositoryId,
        kind: ObjectKind,
        salt: &[u8; 32],
    ) -> ([u8; HEADER_LEN], ObjectCipher) {
        let algorithm = Algorithm::preferred();
        let mut bytes = Self::start(kind, algorithm, 0, salt);
        let (before, commitment) = bytes.split_at_mut(48);
        let (cipher, value) = keys.object_cipher(repository, kind, algorithm, before);
        commitment.copy_from_slice(&value);
        (bytes, cipher)
    }

    /// Reads a header.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or("it is too short")?;
        if *magic != MAGIC {
            return Err("it does not start like a Holdfast object".into());
        }
        let (numbers, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let [version, kind, algorithm, _] = *numbers;
        if version != VERSION {
            return Err(format!("format version {version} is not known here"));
        }
        let (epoch, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
        let (salt, rest) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
        let (commitment, _) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
        Ok(Self {
            kind: ObjectKind::from_number(kind).ok_or(format!("unknown kind {kind}"))?,
            algorithm: Algorithm::from_number(algorithm)
                .ok_or(format!("unknown algorithm {algorithm}"))?,
            epoch: u32::from_le_bytes(*epoch),
            salt: *salt,
            commitment: *commitment,
        })
    }

    /// The cipher of the object with the header `bytes`, if the commitment and the kind are right.
    pub fn cipher(
        keys: &Keys,
        repository: &RepositoryId,
        expected: ObjectKind,
        bytes: &[u8],
    ) -> std::result::Result<ObjectCipher, String> {
        let header = Self::parse(bytes)?;
        if header.kind != expected {
            return Err(format!("it is a {:?}, not a {expected:?}", header.kind));
        }
        if header.epoch != 0 {
            return Err(format!("key epoch {} is not known here", header.epoch));
        }
        let before = bytes.get(..48).ok_or("it is too short")?;
        let (cipher, commitment) =
            keys.object_cipher(repository, header.kind, header.algorithm, before);
        if commitment != header.commitment {
            return Err("it was sealed with another key, or its header is damaged".into());
        }
        Ok(cipher)
    }
}

/// Seals a whole small object: the message, its length in front, zeros behind it up to the
/// Padmé length. `name` is bound to the content, so that objects cannot be swapped.
pub fn seal(
    keys: &Keys,
    repository: &RepositoryId,
    kind: ObjectKind,
    salt: &[u8; 32],
    name: &str,
    message: &[u8],
) -> Result<Vec<u8>> {
    let (header, cipher) = Header::create(keys, repository, kind, salt);
    let length = u32::try_from(message.len())
        .map_err(|_| Error::Usage(format!("{name} would be larger than 4 GiB")))?;
    let padded = padme(message.len() as u64 + 4).max(256);
    let mut body = Vec::with_capacity(padded as usize + TAG_LEN);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(message);
    body.resize(padded as usize, 0);
    cipher.seal(0, name.as_bytes(), &mut body).map_err(|e| Error::damaged(name, e))?;
    let mut object = header.to_vec();
    object.append(&mut body);
    Ok(object)
}

/// Opens what [`seal`] made; the message.
pub fn open(
    keys: &Keys,
    repository: &RepositoryId,
    kind: ObjectKind,
    name: &str,
    mut object: Vec<u8>,
) -> Result<Vec<u8>> {
    let damaged = |what: &str| Error::damaged(name, what);
    let header = object.get(..HEADER_LEN).ok_or_else(|| damaged("it is too short"))?;
    let cipher = Header::cipher(keys, repository, kind, header).map_err(|e| damaged(&e))?;
    let body = object.get_mut(HEADER_LEN..).unwrap_or_default();
    let plain = cipher.open(0, name.as_bytes(), body).map_err(|e| damaged(&e.to_string()))?;
    let (length, rest) =
        plain.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    Ok(rest.get(..length).ok_or_else(|| damaged("its length is wrong"))?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::RootKey;

    #[test]
    fn objects_open_under_their_own_name_only() -> Result<()> {
        let keys = Keys::derive(&RootKey::new([1; 32]));
        let repository = RepositoryId::new([2; 32]);
        let kind = ObjectKind::Snapshot;
        let sealed = seal(&keys, &repository, kind, &[5; 32], "snapshots/a", b"message")?;
        assert_eq!(open(&keys, &repository, kind, "snapshots/a", sealed.clone())?, b"message");
        assert!(open(&keys, &repository, kind, "snapshots/b", sealed.clone()).is_err());
        assert!(open(&keys, &repository, ObjectKind::Note, "snapshots/a", sealed.clone()).is_err());
        for position in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[position] ^= 0x10;
            let result = open(&keys, &repository, kind, "snapshots/a", bad);
            assert!(result.is_err(), "byte {position}");
        }
        Ok(())
    }
}
