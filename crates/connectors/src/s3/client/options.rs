//! What a person or a configuration says about a bucket and the way to it.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// A bucket, or what lies below a prefix of it, and how to work there.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Host name or address of the server, without a scheme.
    pub endpoint: String,
    /// Default: 443, or 80 without TLS.
    pub port: Option<u16>,
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; no slashes at its ends. Empty: the whole bucket.
    pub prefix: String,
    /// Default: what the endpoint's form says, else the profile, else what the server teaches.
    pub region: Option<String>,
    /// Encrypt the connection.
    pub use_tls: bool,
    /// Certificates of authorities in PEM. The system's are not trusted then.
    pub tls_ca_file: Option<PathBuf>,
    /// Trust any certificate: whoever is in between reads and changes all requests.
    pub tls_insecure_no_verify: bool,
    /// `Some(true)`: the bucket is part of the host name; `Some(false)`: of the path. Default: of
    /// the path, but for Amazon's own endpoints.
    pub virtual_host: Option<bool>,
    /// Who asks.
    pub credentials: Credentials,
    /// Storage class of data packs. Everything else stays in the bucket's default class.
    pub storage_class: Option<String>,
    /// Encryption by the server.
    pub sse: Option<Sse>,
    /// Days for which what is stored may not be deleted or replaced (compliance mode: nobody can
    /// shorten that).
    pub object_lock: Option<u32>,
    /// Make the bucket if it is not there.
    pub create_bucket: bool,
    /// Requests at once, at most. Default: 64, and fewer while the server asks for it.
    pub connections: Option<usize>,
    /// How long nothing may happen: while connecting, and while a request waits or moves no byte.
    /// What fails is tried again for four times as long.
    pub timeout: Duration,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            port: None,
            bucket: String::new(),
            prefix: String::new(),
            region: None,
            use_tls: true,
            tls_ca_file: None,
            tls_insecure_no_verify: false,
            virtual_host: None,
            credentials: Credentials::Environment,
            storage_class: None,
            sse: None,
            object_lock: None,
            create_bucket: false,
            connections: None,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// Given.
    Keys {
        /// Its name; no secret, and yet not shown in errors.
        access_key: String,
        /// The secret that signs.
        secret_access_key: Secret,
        /// Of temporary keys.
        session_token: Option<Secret>,
    },
    /// A profile of `~/.aws/credentials` and `~/.aws/config`.
    Profile(String),
    /// The usual chain: environment variables, the default profile, a web identity, the
    /// container's or the instance's role.
    Environment,
}

/// Encryption by the server, beside Holdfast's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// With keys of the server's (`AES256`).
    S3,
    /// With a key of its key service (`aws:kms`); `None`: the account's default key.
    Kms(Option<String>),
}
