//! Key slots: the root key wrapped by a passphrase or a key file (docs/format.md, "Key slots").

use argon2::{Algorithm as Argon2Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use prost::Message;
use zeroize::Zeroizing;

use crate::crypto::RootKey;
use crate::hash::{RecordId, RepositoryId};

/// First bytes of a slot.
const MAGIC: [u8; 8] = *b"HFKEYSLT";

/// Kind of a slot opened by a passphrase.
pub const PASSPHRASE: u32 = 1;
/// Kind of a slot opened by a key file of 32 random bytes.
pub const KEY_FILE: u32 = 2;

/// Cost of Argon2id: memory in KiB, passes, lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

impl Default for Cost {
    /// RFC 9106's second recommendation: 64 MiB, three passes, four lanes.
    fn default() -> Self {
        Self { memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }
}

/// What opens a slot.
#[derive(Clone)]
pub enum Secret {
    /// A passphrase, as UTF-8 bytes.
    Passphrase(Zeroizing<Vec<u8>>),
    /// The 32 bytes of a key file.
    KeyFile(Zeroizing<[u8; 32]>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::KeyFile(_) => "KeyFile(…)",
        })
    }
}

impl Secret {
    /// The kind of slot it opens.
    pub fn kind(&self) -> u32 {
        match self {
            Self::Passphrase(_) => PASSPHRASE,
            Self::KeyFile(_) => KEY_FILE,
        }
    }

    /// What to call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::KeyFile(_) => "key file",
        }
    }
}

/// The description of a slot, sealed by the repository's own keys.
#[derive(Clone, PartialEq, Message)]
pub struct Label {
    /// What the user called it.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Host where it was made.
    #[prost(string, tag = "2")]
    pub host: String,
    /// When, nanoseconds since the epoch.
    #[prost(sint64, tag = "3")]
    pub created: i64,
    /// BLAKE3 of the slot without its label ([`KeySlot::body_hash`]), so that whoever has the
    /// repository open can tell a damaged slot from a good one without its secret.
    #[prost(bytes = "vec", tag = "4")]
    pub body_hash: Vec<u8>,
}

/// A key slot.
#[derive(Clone, PartialEq, Message)]
pub struct KeySlot {
    /// [`PASSPHRASE`] or [`KEY_FILE`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub salt: Vec<u8>,
    /// Argon2id memory in KiB.
    #[prost(uint32, tag = "3")]
    pub memory_kib: u32,
    /// Argon2id passes.
    #[prost(uint32, tag = "4")]
    pub passes: u32,
    /// Argon2id lanes.
    #[prost(uint32, tag = "5")]
    pub lanes: u32,
    /// The root key, sealed (48 bytes).
    #[prost(bytes = "vec", tag = "6")]
    pub wrapped: Vec<u8>,
    /// BLAKE3 commitment to the wrapping key (32 bytes).
    #[prost(bytes = "vec", tag = "7")]
    pub commitment: Vec<u8>,
    /// Sealed [`Label`], an envelope.
    #[prost(bytes = "vec", tag = "8")]
    pub label: Vec<u8>,
}

impl KeySlot {
    /// Wraps the root key. `salt` is fresh random bytes.
    pub fn wrap(
        root: &RootKey,
        secret: &Secret,
        cost: Cost,
        salt: [u8; 32],
        repository: &RepositoryId,
        id: RecordId,
    ) -> Result<Self, String> {
        let mut slot = Self { kind: secret.kind(), salt: salt.to_vec(), ..Self::default() };
        if slot.kind == PASSPHRASE {
            slot.memory_kib = cost.memory_kib;
            slot.passes = cost.passes;
            slot.lanes = cost.lanes;
        }
        let (key, commitment) = slot.wrapping_key(secret)?;
        let mut wrapped = root.as_bytes().to_vec();
        key.seal_in_place_append_tag(zero_nonce(), slot.aad(repository, id), &mut wrapped)
            .map_err(|_| "sealing failed")?;
        slot.wrapped = wrapped;
        slot.commitment = commitment.to_vec();
        Ok(slot)
    }

    /// Unwraps the root key. `Ok(None)`: this secret does not open this slot.
    pub fn unwrap(
        &self,
        secret: &Secret,
        repository: &RepositoryId,
        id: RecordId,
    ) -> Result<Option<RootKey>, String> {
        if self.kind != secret.kind() {
            return Ok(None);
        }
        let (key, commitment) = self.wrapping_key(secret)?;
        if commitment[..] != self.commitment[..] {
            return Ok(None);
        }
        let mut wrapped = Zeroizing::new(self.wrapped.clone());
        let plain = key
            .open_in_place(zero_nonce(), self.aad(repository, id), &mut wrapped)
            .map_err(|_| "its wrapped key does not open: the slot is damaged or was moved here")?;
        let root = <[u8; 32]>::try_from(&*plain).map_err(|_| "its wrapped key is too short")?;
        Ok(Some(RootKey::new(root)))
    }

    /// BLAKE3 of everything but the label.
    pub fn body_hash(&self) -> [u8; 32] {
        let body = Self { label: Vec::new(), ..self.clone() };
        *blake3::hash(&body.encode_to_vec()).as_bytes()
    }

    /// The object.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.encode_to_vec());
        bytes
    }

    /// Reads the object.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let message = bytes.strip_prefix(&MAGIC).ok_or("it does not start like a key slot")?;
        let slot = Self::decode(message).map_err(|e| e.to_string())?;
        if slot.salt.len() != 32 || slot.wrapped.len() != 48 || slot.commitment.len() != 32 {
            return Err("a field has the wrong length".into());
        }
        Ok(slot)
    }

    fn wrapping_key(&self, secret: &Secret) -> Result<(LessSafeKey, [u8; 32]), String> {
        let mut input = Zeroizing::new([0_u8; 32]);
        match secret {
            Secret::Passphrase(passphrase) => {
                // A damaged or hostile slot must not make us allocate or compute without end.
                if self.memory_kib > 4 << 20 || self.passes > 64 || self.lanes > 64 {
                    return Err("its Argon2id parameters are out of bounds".into());
                }
                let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
                    .map_err(|e| format!("its Argon2id parameters are wrong: {e}"))?;
                Argon2::new(Argon2Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(passphrase, &self.salt, &mut *input)
                    .map_err(|e| format!("Argon2id: {e}"))?;
            }
            Secret::KeyFile(key) => {
                let mut material = Zeroizing::new(key.to_vec());
                material.extend_from_slice(&self.salt);
                *input = blake3::derive_key("holdfast 2026-11 key file slot v1", &material);
            }
        }
        let mut output = Zeroizing::new([0_u8; 64]);
        blake3::Hasher::new_derive_key("holdfast 2026-11 slot wrapping v1")
            .update(&*input)
            .finalize_xof()
            .fill(&mut *output);
        let (key, commitment) = output.split_at(32);
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| "key setup failed")?;
        let commitment = <[u8; 32]>::try_from(commitment).unwrap_or_default();
        Ok((LessSafeKey::new(key), commitment))
    }

    /// Binds the wrapped key to its repository, its slot and the parameters.
    fn aad(&self, repository: &RepositoryId, id: RecordId) -> Aad<Vec<u8>> {
        let parameters =
            Self { wrapped: Vec::new(), commitment: Vec::new(), label: Vec::new(), ..self.clone() };
        let mut aad = repository.as_bytes().to_vec();
        aad.extend_from_slice(id.as_bytes());
        aad.extend_from_slice(&parameters.encode_to_vec());
        Aad::from(aad)
    }
}

/// The wrapping key is made from a fresh salt and used once, so that its nonce may be constant.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Secret {
        Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn slots_open_with_their_secret_only() -> Result<(), String> {
        let root = RootKey::new([9; 32]);
        let (repository, id) = (RepositoryId::new([1; 32]), RecordId::new([2; 16]));
        let cost = Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let key_file = Secret::KeyFile(Zeroizing::new([4; 32]));
        for secret in [passphrase("right"), key_file.clone()] {
            let slot = KeySlot::wrap(&root, &secret, cost, [3; 32], &repository, id)?;
            let slot = KeySlot::parse(&slot.to_bytes())?;
            assert_eq!(slot.unwrap(&secret, &repository, id)?, Some(root.clone()));
            assert_eq!(slot.unwrap(&passphrase("wrong"), &repository, id)?, None);
            let other = Secret::KeyFile(Zeroizing::new([5; 32]));
            assert_eq!(slot.unwrap(&other, &repository, id)?, None);
            assert!(slot.unwrap(&secret, &repository, RecordId::new([7; 16])).is_err());
        }
        Ok(())
    }
}
