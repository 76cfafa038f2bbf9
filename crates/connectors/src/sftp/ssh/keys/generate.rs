//! A fresh key pair for people who have none.

use std::io;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{HashAlg, PrivateKey};
use zeroize::Zeroizing;

use super::Secret;

/// A new Ed25519 key pair.
#[derive(Debug, Clone)]
pub struct GeneratedKey {
    /// OpenSSH private key file, without passphrase.
    pub private: Secret,
    /// Line for `~/.ssh/authorized_keys` on the server.
    pub public_line: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// Makes an Ed25519 key pair. `comment` ends the public line; it is kept to one line.
pub fn generate_key(comment: &str) -> io::Result<GeneratedKey> {
    let comment: String = comment.chars().filter(|c| !c.is_control()).collect();
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|e| io::Error::other(e.to_string()))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, comment).map_err(io::Error::other)?;
    let private = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    Ok(GeneratedKey {
        private: Secret::new(private.as_str()),
        public_line: key.public_key().to_openssh().map_err(io::Error::other)?,
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
    })
}
