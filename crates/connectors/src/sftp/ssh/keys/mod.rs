//! Private keys and certificates of users: any format, however it was pasted, or the reason why not.

mod decode;
mod generate;
mod legacy;
mod pem;

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use russh::keys::{Certificate, HashAlg, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::{KeyProblem, Secret, ShownKey};
pub(super) use decode::locked_public;
pub use decode::read_key;
pub use generate::{GeneratedKey, generate_key};

/// How a private key is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// `OPENSSH PRIVATE KEY`
    OpenSsh,
    /// `RSA PRIVATE KEY`
    Pkcs1,
    /// `EC PRIVATE KEY`
    Sec1,
    /// `PRIVATE KEY`
    Pkcs8,
    /// `ENCRYPTED PRIVATE KEY`
    Pkcs8Encrypted,
}

impl fmt::Display for KeyFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenSsh => "OpenSSH",
            Self::Pkcs1 => "PKCS#1 PEM",
            Self::Sec1 => "SEC1 PEM",
            Self::Pkcs8 => "PKCS#8 PEM",
            Self::Pkcs8Encrypted => "encrypted PKCS#8 PEM",
        })
    }
}

/// A private key that is ready to sign.
#[derive(Clone)]
pub struct UserKey {
    pub(super) key: Arc<PrivateKey>,
    /// What it was read from.
    pub format: KeyFormat,
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserKey").field(&self.fingerprint()).finish()
    }
}

impl UserKey {
    /// Such as `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> String {
        self.key.algorithm().to_string()
    }

    /// `SHA256:…`.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The public half as a line of `authorized_keys`.
    #[must_use]
    pub fn public_line(&self) -> String {
        self.key.public_key().to_openssh().unwrap_or_default()
    }
}

pub(super) fn shown(key: &PublicKey, origin: &str) -> ShownKey {
    ShownKey {
        algorithm: key.algorithm().to_string(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        origin: origin.to_owned(),
    }
}

/// Reads a small text file of the user's.
pub(super) fn read_text(path: &Path) -> Result<Zeroizing<String>, KeyProblem> {
    let read = || -> io::Result<Zeroizing<String>> {
        let file = fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
        file.take((1 << 20) + 1).read_to_end(&mut bytes)?;
        if bytes.len() > 1 << 20 {
            return Err(io::Error::other("it is longer than 1 MiB"));
        }
        Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    };
    read().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyProblem::Missing,
        _ => KeyProblem::Unreadable(error.to_string()),
    })
}

/// Whether others than the owner may read this file; `ssh` would refuse such a key.
pub(super) fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
}

/// An OpenSSH certificate, also one whose long line was broken by a paste.
pub(super) fn read_certificate(text: &str) -> Result<Certificate, KeyProblem> {
    let text = pem::normalise(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(start) = words.iter().position(|w| w.contains("-cert-v01@openssh.com")) else {
        return Err(KeyProblem::NotACertificate);
    };
    let (name, rest) = (words.get(start), words.get(start + 1..).unwrap_or_default());
    let mut body = String::new();
    for word in rest {
        body += word;
        if let Ok(certificate) =
            Certificate::from_openssh(&format!("{} {body}", name.copied().unwrap_or_default()))
        {
            return Ok(certificate);
        }
    }
    Err(KeyProblem::Damaged { format: "OpenSSH certificate".into() })
}

/// A public key line, wherever on its line it begins.
pub(super) fn read_public(text: &str) -> Option<PublicKey> {
    text.lines().find_map(|line| PublicKey::from_openssh(line.trim()).ok())
}

/// The passphrase as it goes into a decoder.
fn expose(passphrase: Option<&Secret>) -> Option<&str> {
    passphrase.map(Secret::expose)
}

#[cfg(test)]
mod tests;
