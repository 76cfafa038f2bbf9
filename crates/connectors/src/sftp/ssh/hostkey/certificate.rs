//! Host certificates: signed by a known authority, for this name, at this time, and for nothing
//! that we do not understand.

use russh::keys::Certificate;
use russh::keys::ssh_key::Algorithm;

use super::super::config::pattern::matches;

/// Whether `certificate`, whose authority is trusted, holds. The reason reads on from
/// "its host certificate".
pub(super) fn check(
    certificate: &Certificate,
    principal: &str,
    now: u64,
    insecure: bool,
) -> Result<(), String> {
    if matches!(certificate.signature_key().algorithm(), Algorithm::Other(_))
        || certificate.signature_key().is_certificate()
    {
        return Err("is signed by another certificate".into());
    }
    if !insecure && certificate.signature().algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err("is signed with SHA-1".into());
    }
    if certificate.verify_signature().is_err() {
        return Err("has a wrong signature".into());
    }
    if !certificate.cert_type().is_host() {
        return Err("is for a user, not for a host".into());
    }
    if now < certificate.valid_after() {
        return Err(format!("is not valid before Unix time {}", certificate.valid_after()));
    }
    if now >= certificate.valid_before() {
        return Err(format!("was valid until Unix time {}", certificate.valid_before()));
    }
    if let Some((name, _)) = certificate.critical_options().iter().next() {
        return Err(format!("has a critical option that is not known: {name}"));
    }
    // An empty list would stand for every host of that authority.
    if !certificate.valid_principals().iter().any(|pattern| matches(pattern, principal)) {
        let names = certificate.valid_principals().join(", ");
        return Err(format!(
            "is for {}, not for {principal}",
            if names.is_empty() { "no name" } else { &names }
        ));
    }
    Ok(())
}
