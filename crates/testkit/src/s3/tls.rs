//! Certificates for the server: an authority made anew for each, and what may be wrong with the
//! certificate that it signs.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Whether and how connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum S3Tls {
    /// Plain HTTP.
    #[default]
    Off,
    /// A certificate for `localhost`, what is below it, and 127.0.0.1.
    On,
    /// A certificate for another name.
    WrongName,
    /// One that was good until 2001.
    Expired,
}

/// The authority's certificate as PEM, and what takes connections.
pub(super) fn acceptor(kind: S3Tls) -> io::Result<Option<(String, TlsAcceptor)>> {
    match kind {
        S3Tls::Off => Ok(None),
        kind => make(kind).map(Some).map_err(io::Error::other),
    }
}

fn make(kind: S3Tls) -> Result<(String, TlsAcceptor), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);

    let names = match kind {
        S3Tls::WrongName => vec!["elsewhere.example".to_owned()],
        _ => vec!["localhost".to_owned(), "*.localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let mut params = CertificateParams::new(names)?;
    if kind == S3Tls::Expired {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    Ok((authority, TlsAcceptor::from(Arc::new(config))))
}
