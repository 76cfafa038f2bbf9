//! A certificate of our own, made where nobody gave one: its key and itself in one file of the state
//! directory (0600), so that both always fit.

use std::io::Write;
use std::path::{Path, PathBuf};

use holdfast_app::{Problem, catalogue};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const SECOND: i64 = 1_000_000_000;
/// How long one is good, in days: no longer than browsers take.
const LIFE: i64 = 800;
/// One that ends sooner than this is made anew, in seconds.
const LEFT: i64 = 30 * 86_400;

/// The file, made if it is not there, ends soon, or lacks one of these names.
pub(super) fn ensure(state: &Path, names: &[String], now: i64) -> Result<PathBuf, Problem> {
    let path = state.join("console-tls.pem");
    match std::fs::read(&path) {
        Ok(bytes) if is_good(&bytes, names, now) => return Ok(path),
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(catalogue::io("read", &path, &e));
        }
        Ok(_) | Err(_) => {}
    }
    let text = make(names, now).map_err(|e| {
        Problem::usage(format!("no certificate can be made for {}", names.join(", "))).cause(e)
    })?;
    let written = || {
        // Only its owner may read what this makes.
        let mut file = tempfile::NamedTempFile::new_in(state)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    written().map_err(|e| catalogue::io("write", &path, &e))?;
    Ok(path)
}

/// Whether a certificate lasts and says all these names; what cannot be read does not.
fn is_good(pem: &[u8], names: &[String], now: i64) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem) else { return false };
    let Ok((_, found)) = X509Certificate::from_der(&der) else { return false };
    let Ok(Some(said)) = found.subject_alternative_name() else { return false };
    let said: Vec<_> = said.value.general_names.iter().filter_map(name).collect();
    found.validity().not_after.timestamp() - now / SECOND > LEFT
        && names.iter().all(|name| said.contains(name))
}

/// A name of a certificate as it is written here.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => {
                <[u8; 4]>::try_from(*bytes).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string())
            }
            _ => {
                <[u8; 16]>::try_from(*bytes).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string())
            }
        },
        _ => None,
    }
}

/// Key and certificate as PEM.
fn make(names: &[String], now: i64) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, "Holdfast console");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // A day earlier: clocks differ.
    let today = Timestamp::from_second(now / SECOND)?.to_zoned(TimeZone::UTC).date();
    let day = |days: i64| -> Result<_, jiff::Error> {
        let date = today.checked_add(days.days())?;
        let (month, day) = (date.month().unsigned_abs(), date.day().unsigned_abs());
        Ok(date_time_ymd(date.year().into(), month, day))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(LIFE)?);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_app::times;

    #[test]
    fn one_is_made_once_until_it_ends_or_lacks_a_name() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let few = names(&["localhost", "127.0.0.1", "::1"]);
        let now = times::now();
        let read = |names: &[String], now: i64| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
            Ok(std::fs::read(ensure(dir.path(), names, now)?)?)
        };
        let first = read(&few, now)?;
        assert_eq!(read(&few, now)?, first);
        assert_eq!(read(&few, now + (LIFE - 31) * 86_400 * SECOND)?, first);
        let next = read(&few, now + (LIFE - 29) * 86_400 * SECOND)?;
        assert_ne!(next, first, "one that ends is kept");
        let more = read(&names(&["localhost", "backup.example.com"]), now)?;
        assert_ne!(more, next, "a name is missing");
        std::fs::write(dir.path().join("console-tls.pem"), "nonsense")?;
        assert!(read(&few, now)?.len() > 100);
        Ok(())
    }
}
