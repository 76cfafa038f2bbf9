//! The option `host_key`: fingerprints or public keys, one of which a host must show.

use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::super::algorithms::same_key_type;
use super::{KnownKey, KnownPlace};

/// What is expected, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Expected(Vec<One>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum One {
    /// `SHA256:…`, without padding.
    Fingerprint(String),
    Key(Box<PublicKey>),
}

impl Expected {
    /// Reads fingerprints and public key lines, separated by commas or line ends. A `known_hosts`
    /// line will do as well.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.replace("\\n", "\n");
        let mut found = Vec::new();
        // Commas separate fingerprints; in a key's line they belong to its names or comment.
        let parts = text.lines().flat_map(|line| {
            let separators: &[char] = if line.contains("SHA256:") { &[',', ';'] } else { &['\n'] };
            line.split(separators)
        });
        for part in parts {
            let mut words = part.split_whitespace().peekable();
            let Some(first) = words.peek() else { continue };
            if let Some(hash) = first.strip_prefix("SHA256:") {
                let hash = hash.trim_end_matches('=');
                if hash.len() != 43 {
                    return Err(format!("host_key: {first} is no SHA-256 fingerprint"));
                }
                found.push(One::Fingerprint(format!("SHA256:{hash}")));
                continue;
            }
            let words: Vec<_> = words.collect();
            let key = words.windows(2).find_map(|pair| {
                PublicKey::from_openssh(&pair.join(" "))
                    .ok()
                    .filter(|k| k.algorithm() != Algorithm::Dsa)
            });
            let key = key.ok_or_else(|| {
                format!("host_key: neither SHA256:… nor a public key: {}", part.trim())
            })?;
            found.push(One::Key(Box::new(key)));
        }
        if found.is_empty() {
            return Err("host_key is empty".into());
        }
        Ok(Self(found))
    }

    /// Whether `key` is one of them.
    pub(in super::super) fn has(&self, key: &PublicKey) -> bool {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        self.0.iter().any(|one| match one {
            One::Fingerprint(expected) => *expected == fingerprint,
            One::Key(expected) => expected.key_data() == key.key_data(),
        })
    }

    /// Expected algorithms first.
    pub(in super::super) fn order(&self, mut algorithms: Vec<Algorithm>) -> Vec<Algorithm> {
        algorithms.sort_by_key(|algorithm| {
            !self.0.iter().any(
                |one| matches!(one, One::Key(key) if same_key_type(&key.algorithm(), algorithm)),
            )
        });
        algorithms
    }

    /// For messages.
    pub(in super::super) fn known(&self) -> Vec<KnownKey> {
        let known = |one: &One| match one {
            One::Fingerprint(fingerprint) => KnownKey {
                algorithm: None,
                fingerprint: fingerprint.clone(),
                place: KnownPlace::Option,
            },
            One::Key(key) => KnownKey {
                algorithm: Some(key.algorithm().to_string()),
                fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
                place: KnownPlace::Option,
            },
        };
        self.0.iter().map(known).collect()
    }
}
