//! From a block of bytes to a key, with one vocabulary of errors for all formats.

use std::sync::Arc;

use data_encoding::BASE64;
use pkcs8::EncryptedPrivateKeyInfoRef;
use russh::keys::ssh_key;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::{KeyFormat, KeyProblem, Secret, UserKey, expose, legacy, pem};

const DSA_OID: &str = "1.2.840.10040.4.1";

/// Reads a private key's text. `Err(PassphraseNeeded)` and `Err(WrongPassphrase)` are told apart
/// in every format.
pub fn read_key(text: &str, passphrase: Option<&Secret>) -> Result<UserKey, KeyProblem> {
    let block = pem::find(text)?;
    let passphrase = expose(passphrase);
    let key = match block.format {
        KeyFormat::OpenSsh => openssh(&block.bytes, passphrase)?,
        KeyFormat::Pkcs8Encrypted => pkcs8_encrypted(&block.bytes, passphrase)?,
        format => match &block.dek {
            None => plain(format, &block.bytes)?,
            Some((cipher, iv)) => {
                let passphrase = passphrase.ok_or(KeyProblem::PassphraseNeeded)?;
                let bytes = legacy::decrypt(cipher, iv, passphrase, &block.bytes)?;
                // The padding of a wrong passphrase is right once in 256 times.
                plain(format, &bytes).map_err(|problem| match problem {
                    KeyProblem::Damaged { .. } => KeyProblem::WrongPassphrase,
                    other => other,
                })?
            }
        },
    };
    match key.algorithm() {
        Algorithm::Dsa => Err(KeyProblem::Dsa),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Err(KeyProblem::SecurityKey),
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => {
            Ok(UserKey { key: Arc::new(key), format: block.format })
        }
        other => Err(KeyProblem::Unsupported(other.to_string())),
    }
}

/// The public half of a key that is still locked, where its format shows it.
pub(in super::super) fn locked_public(text: &str) -> Option<PublicKey> {
    let block = pem::find(text).ok().filter(|block| block.format == KeyFormat::OpenSsh)?;
    PrivateKey::from_bytes(&block.bytes).ok().map(|key| key.public_key().clone())
}

fn damaged(format: KeyFormat) -> KeyProblem {
    KeyProblem::Damaged { format: format.to_string() }
}

fn openssh(bytes: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, KeyProblem> {
    let key = PrivateKey::from_bytes(bytes).map_err(|error| match error {
        ssh_key::Error::AlgorithmUnknown => KeyProblem::Unsupported("unknown algorithm".into()),
        ssh_key::Error::AlgorithmUnsupported { algorithm: Algorithm::Dsa } => KeyProblem::Dsa,
        ssh_key::Error::AlgorithmUnsupported { algorithm } => {
            KeyProblem::Unsupported(algorithm.to_string())
        }
        _ if find(bytes, b"ssh-dss") => KeyProblem::Dsa,
        _ if find(bytes, b"sk-ssh-") || find(bytes, b"sk-ecdsa-") => KeyProblem::SecurityKey,
        _ => damaged(KeyFormat::OpenSsh),
    })?;
    if !key.is_encrypted() {
        return Ok(key);
    }
    // The public half is not encrypted: a key that could not be used needs no passphrase.
    match key.algorithm() {
        Algorithm::Dsa => return Err(KeyProblem::Dsa),
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            return Err(KeyProblem::SecurityKey);
        }
        _ => {}
    }
    let passphrase = passphrase.ok_or(KeyProblem::PassphraseNeeded)?;
    key.decrypt(passphrase).map_err(|error| match error {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            KeyProblem::UnsupportedEncryption(key.cipher().to_string())
        }
        // Most ciphers of this format do not authenticate: a wrong passphrase shows as nonsense.
        _ => KeyProblem::WrongPassphrase,
    })
}

fn find(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn plain(format: KeyFormat, bytes: &[u8]) -> Result<PrivateKey, KeyProblem> {
    if format == KeyFormat::Pkcs1 {
        // PKCS#1 is open to us as text only.
        let body = Zeroizing::new(BASE64.encode(bytes));
        let (begin, end) =
            ("-----BEGIN RSA PRIVATE KEY-----\n", "\n-----END RSA PRIVATE KEY-----\n");
        let text = Zeroizing::new([begin, body.as_str(), end].concat());
        return russh::keys::decode_secret_key(&text, None).map_err(|_| damaged(format));
    }
    russh::keys::pkcs8::decode_pkcs8(bytes, None).map_err(|error| match error {
        russh::keys::Error::UnknownAlgorithm(oid) if oid.to_string() == DSA_OID => KeyProblem::Dsa,
        russh::keys::Error::UnknownAlgorithm(oid) => {
            KeyProblem::Unsupported(format!("algorithm {oid}"))
        }
        _ => damaged(format),
    })
}

fn pkcs8_encrypted(bytes: &[u8], passphrase: Option<&str>) -> Result<PrivateKey, KeyProblem> {
    let format = KeyFormat::Pkcs8Encrypted;
    let info = EncryptedPrivateKeyInfoRef::try_from(bytes).map_err(|_| damaged(format))?;
    let passphrase = passphrase.ok_or(KeyProblem::PassphraseNeeded)?;
    let plain_bytes = info.decrypt(passphrase).map_err(|error| match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed) => {
            KeyProblem::WrongPassphrase
        }
        pkcs8::Error::EncryptedPrivateKey(error) => {
            KeyProblem::UnsupportedEncryption(error.to_string())
        }
        _ => KeyProblem::WrongPassphrase,
    })?;
    plain(format, plain_bytes.as_bytes()).map_err(|problem| match problem {
        KeyProblem::Damaged { .. } => KeyProblem::WrongPassphrase,
        other => other,
    })
}
