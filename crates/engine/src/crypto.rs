//! Keys and sealing: the tree of keys under the root key, keyed hashes, and the sealed-object
//! cipher (docs/format.md, "Keys" and "Sealed objects"). Pure functions on bytes.

use std::fmt;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::hash::{BlobId, MemberHash, RepositoryId};

/// Bytes that sealing adds.
pub const TAG_LEN: usize = 16;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the operating system gave no random bytes")]
pub struct NoRandomness;

/// Fresh random bytes from the operating system, straight: aws-lc's own generator takes 40 ms to
/// start, in every command.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// The 32 random bytes that all other keys come from.
#[derive(Clone, Zeroize, ZeroizeOnDrop, PartialEq, Eq)]
pub struct RootKey([u8; 32]);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(…)")
    }
}

impl RootKey {
    /// A key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A fresh random key.
    pub fn generate() -> Result<Self, NoRandomness> {
        random().map(Self)
    }

    /// The bytes, for wrapping.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a blob holds. The numbers are part of the format; each kind has a key of its own for its
/// ids, so that content made to look like another kind can never take its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum BlobKind {
    /// A run of a file's content.
    Chunk = 0,
    /// Small files together.
    Bundle = 1,
    /// A node of a tree.
    Node = 2,
    /// A node of a long chunk list.
    ChunkList = 3,
    /// A node of a totals tree.
    Totals = 4,
    /// Extended attributes too long for an entry.
    Attributes = 5,
}

impl BlobKind {
    /// Every kind, by number.
    pub const ALL: [Self; 6] =
        [Self::Chunk, Self::Bundle, Self::Node, Self::ChunkList, Self::Totals, Self::Attributes];

    /// The kind of this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether it goes to tree packs (structure) and not to data packs (content).
    pub fn is_structure(self) -> bool {
        !matches!(self, Self::Chunk | Self::Bundle)
    }

    /// Its name, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Bundle => "bundle",
            Self::Node => "tree node",
            Self::ChunkList => "chunk list",
            Self::Totals => "totals node",
            Self::Attributes => "attributes",
        }
    }
}

/// What a sealed object is. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// Pack of chunks and bundles.
    DataPack = 1,
    /// Pack of tree nodes and other structure.
    TreePack = 2,
    /// Index segment.
    Index = 3,
    /// Snapshot.
    Snapshot = 4,
    /// Annotation.
    Note = 5,
    /// Session lease.
    Session = 6,
    /// Fence or confirmation.
    Fence = 7,
    /// Condemned list.
    Condemned = 8,
    /// The description inside a key slot.
    SlotLabel = 9,
    /// Table of the index in a local cache. Never in a storage.
    CacheTable = 10,
    /// Said of the repository after it was made.
    Setting = 11,
}

impl ObjectKind {
    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::DataPack,
            2 => Self::TreePack,
            3 => Self::Index,
            4 => Self::Snapshot,
            5 => Self::Note,
            6 => Self::Session,
            7 => Self::Fence,
            8 => Self::Condemned,
            9 => Self::SlotLabel,
            10 => Self::CacheTable,
            11 => Self::Setting,
            _ => return None,
        })
    }
}

/// Algorithm of sealed objects. The numbers are part of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-256-GCM: the default, since nearly every machine has it in hardware.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305, for machines without.
    ChaCha20Poly1305 = 2,
}

impl Algorithm {
    /// The algorithm of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    /// The faster one on this machine.
    pub fn preferred() -> Self {
        #[cfg(target_arch = "x86_64")]
        let hardware = std::arch::is_x86_feature_detected!("aes");
        #[cfg(target_arch = "aarch64")]
        let hardware = std::arch::is_aarch64_feature_detected!("aes");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let hardware = false;
        if hardware { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }
}

/// All keys of an open repository.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    blob: [[u8; 32]; 6],
    member: [u8; 32],
    chunker: [u8; 32],
    tree_cut: [u8; 32],
    pack: [u8; 32],
    index: [u8; 32],
    snapshot: [u8; 32],
    control: [u8; 32],
    config: [u8; 32],
    cache: [u8; 32],
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// Derives every key from the root key.
    pub fn derive(root: &RootKey) -> Self {
        let key = |purpose: &str| {
            blake3::derive_key(&format!("holdfast 2026-11 {purpose} key v1"), root.as_bytes())
        };
        Self {
            blob: [
                key("chunk id"),
                key("bundle id"),
                key("node id"),
                key("chunk list id"),
                key("totals id"),
                key("attributes id"),
            ],
            member: key("member hash"),
            chunker: key("chunker"),
            tree_cut: key("tree cut"),
            pack: key("pack"),
            index: key("index"),
            snapshot: key("snapshot"),
            control: key("control"),
            config: key("config mac"),
            cache: key("cache"),
        }
    }

    /// Id of a blob: keyed BLAKE3 of its plain bytes; of a bundle, of its member table.
    pub fn blob_id(&self, kind: BlobKind, plain: &[u8]) -> BlobId {
        let key = self.blob.get(kind as usize).unwrap_or(&self.member);
        BlobId::new(*blake3::keyed_hash(key, plain).as_bytes())
    }

    /// Hash of a small file's bytes.
    pub fn member_hash(&self, content: &[u8]) -> MemberHash {
        let hash = blake3::keyed_hash(&self.member, content);
        hash.as_bytes().first_chunk::<16>().map(|h| MemberHash::new(*h)).unwrap_or_default()
    }

    /// Secret of the chunker.
    pub fn chunker(&self) -> &[u8; 32] {
        &self.chunker
    }

    /// 64 secret bits of a tree key, which decide where nodes end.
    pub fn tree_cut(&self, level: u32, parent: &[u8], name: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.tree_cut);
        hasher.update(&level.to_le_bytes()).update(parent).update(&[0]).update(name);
        hasher.finalize().as_bytes().first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))
    }

    /// MAC of the config object.
    pub fn config_mac(&self, bytes: &[u8]) -> [u8; 32] {
        *blake3::keyed_hash(&self.config, bytes).as_bytes()
    }

    fn for_object(&self, kind: ObjectKind) -> &[u8; 32] {
        match kind {
            ObjectKind::DataPack | ObjectKind::TreePack => &self.pack,
            ObjectKind::Index => &self.index,
            ObjectKind::Snapshot => &self.snapshot,
            ObjectKind::CacheTable => &self.cache,
            _ => &self.control,
        }
    }

    /// The cipher of the object with these header bytes (everything before the commitment) and
    /// the key commitment that its header must hold.
    pub fn object_cipher(
        &self,
        repository: &RepositoryId,
        kind: ObjectKind,
        algorithm: Algorithm,
        header: &[u8],
    ) -> (ObjectCipher, [u8; 32]) {
        let mut output = [0; 64];
        let mut hasher = blake3::Hasher::new_keyed(self.for_object(kind));
        hasher.update(header).finalize_xof().fill(&mut output);
        let mut key = [0; 32];
        let mut commitment = [0; 32];
        key.copy_from_slice(output.split_at(32).0);
        commitment.copy_from_slice(output.split_at(32).1);
        output.zeroize();
        let cipher = ObjectCipher::new(&key, algorithm, repository, kind);
        key.zeroize();
        (cipher, commitment)
    }
}

/// Seals and opens the sections of one object: nonce = ordinal, associated data = repository id,
/// kind, ordinal and what the caller adds.
pub struct ObjectCipher {
    key: Option<LessSafeKey>,
    associated: [u8; 33],
}

impl fmt::Debug for ObjectCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectCipher(…)")
    }
}

/// The bytes do not open with this key: damaged, swapped, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct NotAuthentic;

impl ObjectCipher {
    fn new(
        key: &[u8; 32],
        algorithm: Algorithm,
        repository: &RepositoryId,
        kind: ObjectKind,
    ) -> Self {
        let mut associated = [0; 33];
        let (id, rest) = associated.split_at_mut(32);
        id.copy_from_slice(repository.as_bytes());
        rest.fill(kind as u8);
        // A 32-byte key is what both algorithms take, so this never is None.
        let key = UnboundKey::new(algorithm.aead(), key).ok().map(LessSafeKey::new);
        Self { key, associated }
    }

    fn nonce(ordinal: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce.split_at_mut(4).1.copy_from_slice(&ordinal.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    fn aad(&self, ordinal: u64, extra: &[u8]) -> Aad<Vec<u8>> {
        let mut aad = Vec::with_capacity(41 + extra.len());
        aad.extend_from_slice(&self.associated);
        aad.extend_from_slice(&ordinal.to_le_bytes());
        aad.extend_from_slice(extra);
        Aad::from(aad)
    }

    /// Encrypts `bytes` in place and appends the tag. An ordinal is used once an object.
    pub fn seal(
        &self,
        ordinal: u64,
        extra: &[u8],
        bytes: &mut Vec<u8>,
    ) -> Result<(), NotAuthentic> {
        let key = self.key.as_ref().ok_or(NotAuthentic)?;
        key.seal_in_place_append_tag(Self::nonce(ordinal), self.aad(ordinal, extra), bytes)
            .map_err(|_| NotAuthentic)
    }

    /// Decrypts in place and returns the plain bytes, without the tag.
    pub fn open<'a>(
        &self,
        ordinal: u64,
        extra: &[u8],
        bytes: &'a mut [u8],
    ) -> Result<&'a mut [u8], NotAuthentic> {
        let key = self.key.as_ref().ok_or(NotAuthentic)?;
        key.open_in_place(Self::nonce(ordinal), self.aad(ordinal, extra), bytes)
            .map_err(|_| NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_opens_only_as_what_it_was_sealed() -> Result<(), NotAuthentic> {
        let keys = Keys::derive(&RootKey::new([7; 32]));
        let repository = RepositoryId::new([1; 32]);
        let cipher = |kind, header: &[u8], repository| {
            keys.object_cipher(repository, kind, Algorithm::Aes256Gcm, header).0
        };
        let good = cipher(ObjectKind::Index, b"header", &repository);
        let mut sealed = b"plain".to_vec();
        good.seal(3, b"name", &mut sealed)?;
        assert_eq!(sealed.len(), 5 + TAG_LEN);
        assert_eq!(good.open(3, b"name", &mut sealed.clone())?, b"plain");
        assert!(good.open(4, b"name", &mut sealed.clone()).is_err(), "other ordinal");
        assert!(good.open(3, b"other", &mut sealed.clone()).is_err(), "other name");
        let others = [
            cipher(ObjectKind::Snapshot, b"header", &repository),
            cipher(ObjectKind::Index, b"Header", &repository),
            cipher(ObjectKind::Index, b"header", &RepositoryId::new([2; 32])),
        ];
        for other in others {
            assert!(other.open(3, b"name", &mut sealed.clone()).is_err());
        }
        Ok(())
    }

    #[test]
    fn kinds_of_blobs_have_ids_of_their_own() {
        let keys = Keys::derive(&RootKey::new([7; 32]));
        let ids: std::collections::BTreeSet<_> =
            BlobKind::ALL.iter().map(|kind| keys.blob_id(*kind, b"same")).collect();
        assert_eq!(ids.len(), 6);
    }
}
