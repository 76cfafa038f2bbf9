//! Is this the host it should be? Known keys from files, the expected key from the option, and the
//! judgement on what a host shows. Only what an exact record says is trusted; anything else is a
//! question, or a refusal.

mod certificate;
mod expected;
mod file;
mod store;

use std::io;
use std::path::{Path, PathBuf};

use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::algorithms::same_key_type;
use super::{HostKey, KnownKey, KnownPlace};
pub(super) use expected::Expected;
use file::{Entry, Marker};
pub(super) use store::append;

/// The names under which a host's key is known.
#[derive(Debug, Clone)]
pub(super) struct HostNames {
    /// `host`, `[host]:port`, or the alias: what is looked up and written.
    pub(super) main: String,
    /// For a port other than 22, the bare name: an equal key there is trusted as well, a different
    /// one means nothing, since another port may be another machine.
    bare: Option<String>,
    /// What a certificate must name.
    principal: String,
}

impl HostNames {
    pub(super) fn new(host: &str, port: u16, alias: Option<&str>) -> Self {
        let host = host.to_ascii_lowercase();
        match alias {
            Some(alias) => Self { main: alias.to_owned(), bare: None, principal: alias.to_owned() },
            None if port == 22 => Self { main: host.clone(), bare: None, principal: host },
            None => {
                Self { main: format!("[{host}]:{port}"), bare: Some(host.clone()), principal: host }
            }
        }
    }
}

/// What is on record for one host.
#[derive(Debug, Clone)]
pub(super) struct KnownHosts {
    names: HostNames,
    /// Entries that match one of the names.
    entries: Vec<Entry>,
}

/// The judgement on a shown key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    /// No record of this host at all.
    Unknown,
    /// There is a record, and it says otherwise.
    Changed(Vec<KnownKey>),
    Revoked(KnownKey),
    /// A trusted authority's certificate that does not hold here and now.
    BadCertificate(String),
}

impl KnownHosts {
    /// Reads all files. Missing ones are skipped; one that cannot be read is an error, since it
    /// might hold the line that forbids.
    pub(super) fn load(files: &[PathBuf], names: &HostNames) -> Result<Self, (PathBuf, io::Error)> {
        let mut entries = Vec::new();
        for path in files {
            let found = file::read(path).map_err(|error| (path.clone(), error))?;
            entries.extend(found.into_iter().filter(|entry| {
                entry.matches(&names.main)
                    || names.bare.as_ref().is_some_and(|bare| entry.matches(bare))
            }));
        }
        Ok(Self { names: names.clone(), entries })
    }

    /// Algorithms of known keys come first in a handshake, as in OpenSSH: a host with several keys
    /// must show the one that is known, or it would look changed.
    pub(super) fn order(&self, mut algorithms: Vec<Algorithm>) -> Vec<Algorithm> {
        algorithms.sort_by_key(|algorithm| {
            let known = self.keys().any(|e| same_key_type(&e.key.algorithm(), algorithm));
            u8::from(!known)
        });
        algorithms
    }

    /// Whether an authority is known, so that certificates are worth asking for.
    pub(super) fn has_authority(&self) -> bool {
        self.entries.iter().any(|entry| entry.marker == Marker::Authority)
    }

    fn keys(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.marker == Marker::Key)
    }

    /// The keys that are accepted for the host, each once.
    pub(super) fn accepted(&self) -> Vec<HostKey> {
        let mut found: Vec<HostKey> = Vec::new();
        let of_host = self.keys().filter(|entry| entry.matches(&self.names.main));
        for entry in of_host.filter(|entry| !self.is_revoked(&entry.key)) {
            let key = shown(&entry.key);
            if !found.contains(&key) {
                found.push(key);
            }
        }
        found
    }

    fn is_revoked(&self, key: &PublicKey) -> bool {
        let mut revoked = self.entries.iter().filter(|entry| entry.marker == Marker::Revoked);
        revoked.any(|entry| entry.key.key_data() == key.key_data())
    }

    /// Judges `shown`, which the host has proved to hold. `now`: Unix time. `insecure`: SHA-1
    /// signatures of authorities count.
    pub(super) fn judge(
        &self,
        shown: &PublicKeyOrCertificate,
        now: u64,
        insecure: bool,
    ) -> Verdict {
        let key = shown.public_key();
        let authority = shown.certificate().map(|c| PublicKey::new(c.signature_key().clone(), ""));
        let same = |entry: &Entry, key: &PublicKey| entry.key.key_data() == key.key_data();
        let revoked = self.entries.iter().find(|entry| {
            entry.marker == Marker::Revoked
                && (same(entry, &key) || authority.as_ref().is_some_and(|a| same(entry, a)))
        });
        if let Some(entry) = revoked {
            return Verdict::Revoked(entry.known());
        }
        if let (Some(certificate), Some(authority)) = (shown.certificate(), &authority)
            && self.entries.iter().any(|e| e.marker == Marker::Authority && same(e, authority))
        {
            return match certificate::check(certificate, &self.names.principal, now, insecure) {
                Ok(()) => Verdict::Known,
                Err(reason) => Verdict::BadCertificate(reason),
            };
        }
        // A certificate of an authority that is not known is worth its plain key.
        if self.keys().any(|entry| same(entry, &key)) {
            return Verdict::Known;
        }
        let others: Vec<_> =
            self.keys().filter(|e| e.matches(&self.names.main)).map(Entry::known).collect();
        if others.is_empty() { Verdict::Unknown } else { Verdict::Changed(others) }
    }
}

/// A key for people.
pub(super) fn shown(key: &PublicKey) -> HostKey {
    HostKey {
        algorithm: key.algorithm().to_string(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        line: PublicKey::new(key.key_data().clone(), "").to_openssh().unwrap_or_default(),
    }
}

impl Entry {
    fn known(&self) -> KnownKey {
        KnownKey {
            algorithm: Some(self.key.algorithm().to_string()),
            fingerprint: self.key.fingerprint(HashAlg::Sha256).to_string(),
            place: KnownPlace::File { path: Path::to_owned(&self.file), line: self.line },
        }
    }
}

#[cfg(test)]
mod tests;
