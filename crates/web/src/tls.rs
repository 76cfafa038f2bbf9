//! TLS of the console's own: which certificate it shows, and how that is read anew when its files
//! change. `read` makes sense of PEM files, `own` makes a certificate where nobody gave one, `door`
//! lets encrypted connections in.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use holdfast_app::{Class, Problem, times};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, ServerConfig};

pub(crate) mod door;
mod own;
mod read;

/// Where the certificate and its key are from.
#[derive(Debug, Clone)]
pub enum Tls {
    /// PEM files: the certificate with those between it and its authority, and its key.
    Files {
        /// The certificates, the own one first.
        certificate: PathBuf,
        /// The key, not encrypted, readable by no stranger.
        key: PathBuf,
    },
    /// Made here, and kept in the state directory.
    SelfSigned,
}

/// A certificate with its key, and what is said of it.
#[derive(Debug, Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    /// SHA-256 of the certificate, as browsers show it.
    fingerprint: String,
    /// Until when it is good, in nanoseconds since the epoch.
    ends: i64,
    is_self_signed: bool,
}

/// What connections are shown from now on.
#[derive(Debug)]
struct Shown(RwLock<Pair>);

impl Shown {
    fn pair(&self) -> Pair {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().key)
    }
}

/// The certificate that the console shows. It can be read anew while connections are made; those
/// that are open keep what they have.
#[derive(Debug)]
pub struct Certificates {
    tls: Tls,
    /// Names and addresses that a certificate of our own is made for.
    names: Vec<String>,
    state: PathBuf,
    shown: Arc<Shown>,
    /// What the files held when they were last looked at, good or not: each change is told once.
    seen: Mutex<read::Seen>,
}

impl Certificates {
    /// Reads them, or makes them. `state` is where what is made is kept. Errors say which file is not
    /// good, and why.
    pub(crate) fn open(tls: Tls, state: &Path, names: Vec<String>) -> Result<Self, Problem> {
        let (pair, seen) = load(&tls, state, &names);
        let shown = Arc::new(Shown(RwLock::new(pair?)));
        Ok(Self { tls, names, state: state.to_owned(), shown, seen: Mutex::new(seen) })
    }

    /// Looks whether the files have changed, and shows what they hold now; whether there was
    /// something new. Errors: what is there now is not good; what was shown stays.
    pub fn refresh(&self) -> Result<bool, Problem> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (pair, now) = load(&self.tls, &self.state, &self.names);
        if now == *seen {
            return Ok(false);
        }
        *seen = now;
        let pair = pair.map_err(|problem| {
            problem.hint("the console goes on with the certificate that it has")
        })?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(true)
    }

    /// SHA-256 of the certificate, as browsers show it.
    pub fn fingerprint(&self) -> String {
        self.shown.pair().fingerprint
    }

    /// Nobody else vouches for it.
    pub fn is_self_signed(&self) -> bool {
        self.shown.pair().is_self_signed
    }

    /// Until when it is good, in nanoseconds since the epoch.
    pub(crate) fn ends(&self) -> i64 {
        self.shown.pair().ends
    }

    /// The file that it is from; `None` if it was made here.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.tls {
            Tls::Files { certificate, .. } => Some(certificate),
            Tls::SelfSigned => None,
        }
    }

    /// How connections are encrypted.
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e: Error| Problem::new(Class::Internal, "TLS cannot be set up").cause(e))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn load(tls: &Tls, state: &Path, names: &[String]) -> (Result<Pair, Problem>, read::Seen) {
    match tls {
        Tls::Files { certificate, key } => read::files(certificate, key, times::now()),
        Tls::SelfSigned => match own::ensure(state, names, times::now()) {
            Ok(path) => read::files(&path, &path, times::now()),
            Err(problem) => (Err(problem), read::Seen::default()),
        },
    }
}

/// The name or address of a host as a certificate says it: without its port, and in one way only.
pub(crate) fn bare_name(host: &str) -> String {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => match host.rsplit_once(':') {
            // An address of version 6 has several.
            Some((name, _)) if host.parse::<IpAddr>().is_err() => name,
            _ => host,
        },
    };
    name.parse::<IpAddr>().map_or_else(|_| name.to_ascii_lowercase(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_names_no_ports() {
        for (host, name) in [
            ("backup.example.com", "backup.example.com"),
            ("backup.example.com:9847", "backup.example.com"),
            ("192.168.1.5:9847", "192.168.1.5"),
            ("[::1]:9847", "::1"),
            ("FD00::0:1", "fd00::1"),
            ("Backup.Example.com", "backup.example.com"),
        ] {
            assert_eq!(bare_name(host), name);
        }
    }
}
