//! PEM files of a certificate and its key: read, and refused with a reason if they would not do.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use holdfast_app::text::{printable_os, shell_word};
use holdfast_app::{Class, Problem, catalogue, times};
use holdfast_engine::hash::Sha256;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use super::Pair;

/// More than any chain of certificates has.
const MOST: u64 = 1 << 20;
const SECOND: i64 = 1_000_000_000;

/// What two files held: a hash of each, or why it could not be read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen([String; 2]);

/// The certificate and the key of these files, which may be one, and what was seen of them.
pub(super) fn files(certificate: &Path, key: &Path, now: i64) -> (Result<Pair, Problem>, Seen) {
    let (chain, secret) = (content(certificate, false), content(key, true));
    let sum = |read: &Result<Zeroizing<Vec<u8>>, Problem>| match read {
        Ok(bytes) => Sha256::of(bytes).to_string(),
        Err(problem) => problem.to_string(),
    };
    let seen = Seen([sum(&chain), sum(&secret)]);
    let pair = chain.and_then(|chain| secret.map(|secret| (chain, secret)));
    let pair = pair.and_then(|(chain, secret)| pair_of((certificate, &chain), (key, &secret), now));
    (pair, seen)
}

fn content(path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let failed = |e: &std::io::Error| catalogue::io("read", path, e);
    let file = File::open(path).map_err(|e| failed(&e))?;
    let mode = file.metadata().map_err(|e| failed(&e))?.permissions().mode() & 0o777;
    // A group may read it, as Debian's `ssl-cert` does.
    if is_secret && mode & 0o037 != 0 {
        let shown = printable_os(path);
        let text = format!("others can read or change the key {shown}");
        return Err(Problem::new(Class::KeyUnreadable, text)
            .cause(format!("its mode is {mode:04o}"))
            .hint(format!("let its owner alone read it: chmod 600 {}", shell_word(path))));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MOST).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    Ok(bytes)
}

fn pair_of(
    (certificate, chain): (&Path, &[u8]),
    (key, secret): (&Path, &[u8]),
    now: i64,
) -> Result<Pair, Problem> {
    let unusable = |path: &Path, what: &str| {
        let shown = printable_os(path);
        Problem::new(Class::Configuration, format!("{shown} {what}"))
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
    let found = found.map_err(|e| unusable(certificate, "is no PEM file").cause(e))?;
    let Some(first) = found.first().cloned() else {
        return Err(unusable(certificate, "holds no certificate")
            .hint("it begins with -----BEGIN CERTIFICATE----- (PEM); certbot's is fullchain.pem"));
    };
    let damaged =
        |why: String| unusable(certificate, "holds a certificate that cannot be read").cause(why);
    let (_, parsed) = X509Certificate::from_der(&first).map_err(|e| damaged(e.to_string()))?;
    let at = |time: x509_parser::time::ASN1Time| time.timestamp().saturating_mul(SECOND);
    let (begins, ends) = (at(parsed.validity().not_before), at(parsed.validity().not_after));
    if ends <= now {
        return Err(unusable(
            certificate,
            &format!("expired: it was good until {}", times::local(ends)),
        )
        .hint("have it renewed, for instance by: certbot renew")
        .hint("or use one made here: --tls-self-signed"));
    }
    if begins > now {
        let text = format!("is not good yet: it begins at {}", times::local(begins));
        return Err(unusable(certificate, &text).hint("is the clock of this machine right?"));
    }
    let is_encrypted = [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| secret.windows(mark.len()).any(|part| part == *mark));
    if is_encrypted {
        let command = format!("umask 077; openssl pkey -in {} -out NEW.pem", shell_word(key));
        return Err(unusable(key, "holds a key that is encrypted")
            .cause("nobody is there to type its passphrase when the service starts")
            .hint(format!("give one that is not, readable by its owner alone: {command}")));
    }
    let private = PrivateKeyDer::from_pem_slice(secret).map_err(|_| {
        unusable(key, "holds no private key")
            .hint("it begins with -----BEGIN PRIVATE KEY----- (PEM); certbot's is privkey.pem")
    })?;
    let made = CertifiedKey::from_der(found, private, &aws_lc_rs::default_provider());
    let pair = made.map_err(|e| match e {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let text = format!("does not belong to the certificate {}", printable_os(certificate));
            unusable(key, &text).hint(
                "give the key that it was made for; the own certificate comes first in its file",
            )
        }
        Error::InvalidCertificate(why) => damaged(format!("{why:?}")),
        other => unusable(key, "holds a key that cannot be used")
            .cause(other)
            .hint("use a key of RSA (2048 bits and more), ECDSA (P-256, P-384) or Ed25519"),
    })?;
    Ok(Pair {
        key: Arc::new(pair),
        fingerprint: fingerprint(&first),
        ends,
        is_self_signed: parsed.issuer() == parsed.subject(),
    })
}

/// "AB:CD:…", as browsers show it.
fn fingerprint(certificate: &[u8]) -> String {
    let sum = Sha256::of(certificate).to_string().to_uppercase();
    let pairs: Vec<_> = sum.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    pairs.join(":")
}
