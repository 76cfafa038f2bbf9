//! What can go wrong between a host's name and an SFTP channel, with the facts that a hint needs.
//! Sentences for people beyond one line of cause are made by the catalogue of problems above.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How far a connection is. The order is the order of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Options, `ssh_config`, key files.
    Settings,
    /// Name to addresses.
    Resolve,
    /// TCP, or the proxy's or the command's start.
    Tcp,
    /// Versions, algorithms, key exchange.
    Handshake,
    /// Is this the host it should be?
    HostKey,
    /// Sign-in.
    SignIn,
    /// The SFTP subsystem, or a command.
    Channel,
}

/// A stage begins. Jump hosts go through all stages but the last before their target does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// What begins.
    pub stage: Stage,
    /// `user@host:port` that it is about.
    pub host: &'a str,
}

/// A failed connection.
#[derive(Debug)]
pub struct SshError {
    /// The stage that was not finished.
    pub stage: Stage,
    /// `user@host:port`, as far as known then.
    pub host: String,
    /// What happened.
    pub problem: Box<Problem>,
    /// The cause below, if there is one.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What happened, with its facts.
#[derive(Debug)]
pub enum Problem {
    /// An option or a line of a configuration file cannot be used.
    Settings { what: String },
    /// A local file cannot be read or written.
    LocalFile { path: PathBuf },
    /// No address belongs to the name.
    NameNotFound { name: String },
    /// Nobody listens there.
    Refused { address: String },
    /// No answer in time.
    Timeout { after: Duration },
    /// No route, network down, or another failure of TCP.
    Unreachable { address: String },
    /// The server does not speak SSH 2, or broke its rules.
    Protocol,
    /// First contact, and the key was not accepted. `asked`: a person said no.
    HostKeyUnknown { name: String, port: u16, key: HostKey, asked: bool },
    /// Other keys are known for this host, or expected by the option.
    HostKeyChanged { name: String, port: u16, presented: Vec<HostKey>, known: Vec<KnownKey> },
    /// The key, or the authority behind its certificate, is marked as revoked.
    HostKeyRevoked { name: String, presented: HostKey, known: KnownKey },
    /// The authority is known, but its certificate does not hold for this host and time.
    HostCertificate { name: String, presented: HostKey, reason: String },
    /// Nothing in common. `kind`: key exchange, host key, cipher, MAC or compression.
    NoCommonAlgorithm {
        kind: &'static str,
        ours: Vec<String>,
        offered: Vec<String>,
        /// `allow_insecure_ciphers` would have one in common.
        insecure_would_help: bool,
    },
    /// The server accepted none of the credentials.
    Authentication(AuthFailure),
    /// A configured key or certificate cannot be used.
    KeyUnreadable { key: String, problem: KeyProblem },
    /// The agent was asked for and cannot be used.
    Agent { socket: Option<PathBuf>, reason: String },
    /// The connection ended. `message`: what the server said, if anything.
    Disconnected { message: Option<String> },
    /// The server offers no SFTP, or something printed text into its stream.
    SftpUnavailable {
        /// What arrived instead of SFTP, cleaned, at most 2 000 characters.
        output: String,
        exit_status: Option<u32>,
    },
    /// A channel was refused.
    ChannelRefused { reason: String },
    /// The external command did not connect.
    Command {
        program: String,
        exit_status: Option<i32>,
        /// The end of what it wrote to standard error.
        stderr: String,
        /// What its words say, where they are known.
        class: Option<Class>,
    },
    /// A jump host failed; the rest is in it.
    ProxyJump { hop: String, error: Box<SshError> },
}

/// One word for each kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the problems")]
pub enum Class {
    Settings,
    LocalFile,
    NameNotFound,
    Refused,
    Timeout,
    Unreachable,
    Protocol,
    HostKeyUnknown,
    HostKeyChanged,
    HostKeyRevoked,
    HostCertificate,
    NoCommonAlgorithm,
    Authentication,
    KeyUnreadable,
    Agent,
    Disconnected,
    SftpUnavailable,
    ChannelRefused,
    Command,
    ProxyJump,
}

/// A host key as shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// `algorithm base64`, for the option `host_key`.
    pub line: String,
}

/// A key that is on record for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// Algorithm, if the record says it.
    pub algorithm: Option<String>,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// Where it stands.
    pub place: KnownPlace,
}

/// Where a known key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say it")]
pub enum KnownPlace {
    File {
        path: PathBuf,
        line: usize,
    },
    /// The option `host_key`.
    Option,
}

/// What was tried to sign in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthFailure {
    /// Account.
    pub user: String,
    /// Methods that the server would go on with, in its words.
    pub offered: Vec<String>,
    /// In order.
    pub attempts: Vec<Attempt>,
    /// Keys that could not be tried, and why.
    pub skipped: Vec<SkippedKey>,
    /// What the server said when it hung up, such as `Too many authentication failures`.
    pub disconnected: Option<String>,
    /// Nobody could be asked for a password or an answer.
    pub nobody_asked: bool,
    /// The server's banner, cleaned.
    pub banner: String,
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How.
    pub method: SignInMethod,
    /// With which key, for [`SignInMethod::PublicKey`] and [`SignInMethod::Certificate`].
    pub key: Option<ShownKey>,
    /// What came of it.
    pub outcome: Outcome,
}

/// A way to sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are SSH's own")]
pub enum SignInMethod {
    None,
    PublicKey,
    Certificate,
    KeyboardInteractive,
    Password,
}

/// A key of ours as shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// Such as `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// A file's name, `pasted key`, or `agent` with the key's comment.
    pub origin: String,
}

/// What came of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted; that was all.
    Accepted,
    /// Accepted; the server wants more.
    Partial,
    /// Refused.
    Rejected,
    /// Not sent, or abandoned.
    Failed(String),
}

/// A key that could not be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// A file's name or where else it comes from.
    pub origin: String,
    /// Why.
    pub problem: KeyProblem,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum KeyProblem {
    #[error("there is no such file")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is empty")]
    Empty,
    #[error("is a PuTTY key; convert it: puttygen key.ppk -O private-openssh -o key")]
    PuTTY,
    #[error("is an ssh.com key; convert it: ssh-keygen -i -f key > key.openssh")]
    SshCom,
    #[error("is the public half; the private key is needed")]
    PublicKey,
    #[error("is a certificate; the private key is needed here")]
    Certificate,
    #[error("is not an OpenSSH certificate")]
    NotACertificate,
    #[error("is a certificate for another key, {certified}")]
    CertificateOfAnotherKey { certified: String },
    #[error("is a DSA key, which SSH servers no longer accept")]
    Dsa,
    #[error("belongs to a security key; use the agent or ssh_command")]
    SecurityKey,
    #[error("needs its passphrase")]
    PassphraseNeeded,
    #[error("does not open with this passphrase")]
    WrongPassphrase,
    #[error("is damaged ({format})")]
    Damaged { format: String },
    #[error("is encrypted in an unsupported way ({0})")]
    UnsupportedEncryption(String),
    #[error("is of an unsupported kind ({0})")]
    Unsupported(String),
    #[error("is not a private key")]
    NotAKey,
}

impl Problem {
    /// The kind alone. A command's own words count for it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Settings { .. } => Class::Settings,
            Self::LocalFile { .. } => Class::LocalFile,
            Self::NameNotFound { .. } => Class::NameNotFound,
            Self::Refused { .. } => Class::Refused,
            Self::Timeout { .. } => Class::Timeout,
            Self::Unreachable { .. } => Class::Unreachable,
            Self::Protocol => Class::Protocol,
            Self::HostKeyUnknown { .. } => Class::HostKeyUnknown,
            Self::HostKeyChanged { .. } => Class::HostKeyChanged,
            Self::HostKeyRevoked { .. } => Class::HostKeyRevoked,
            Self::HostCertificate { .. } => Class::HostCertificate,
            Self::NoCommonAlgorithm { .. } => Class::NoCommonAlgorithm,
            Self::Authentication(_) => Class::Authentication,
            Self::KeyUnreadable { .. } => Class::KeyUnreadable,
            Self::Agent { .. } => Class::Agent,
            Self::Disconnected { .. } => Class::Disconnected,
            Self::SftpUnavailable { .. } => Class::SftpUnavailable,
            Self::ChannelRefused { .. } => Class::ChannelRefused,
            Self::Command { class, .. } => class.unwrap_or(Class::Command),
            Self::ProxyJump { .. } => Class::ProxyJump,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings { what } => f.write_str(what),
            Self::LocalFile { path } => write!(f, "{} cannot be used", path.display()),
            Self::NameNotFound { name } => write!(f, "the name {name} has no address"),
            Self::Refused { address } => write!(f, "{address} refuses the connection"),
            Self::Timeout { after } => write!(f, "no answer within {} s", after.as_secs_f32()),
            Self::Unreachable { address } => write!(f, "{address} cannot be reached"),
            Self::Protocol => f.write_str("the server does not keep to the SSH protocol"),
            Self::HostKeyUnknown { key, asked: true, .. } => {
                write!(f, "its host key ({}) was not accepted", key.fingerprint)
            }
            Self::HostKeyUnknown { key, .. } => {
                write!(f, "its host key is not known: {} {}", key.algorithm, key.fingerprint)
            }
            Self::HostKeyChanged { presented, known, .. } => write!(
                f,
                "its host key has changed: known {}, shown {}",
                list(known.iter().map(|k| k.fingerprint.as_str())),
                list(presented.iter().map(|k| k.fingerprint.as_str()))
            ),
            Self::HostKeyRevoked { presented, .. } => {
                write!(f, "its host key {} is revoked", presented.fingerprint)
            }
            Self::HostCertificate { reason, .. } => write!(f, "its host certificate {reason}"),
            Self::NoCommonAlgorithm { kind, offered, .. } => write!(
                f,
                "no {kind} in common; it offers {}",
                list(offered.iter().map(String::as_str))
            ),
            Self::Authentication(failure) => write!(
                f,
                "sign-in as {} refused; it accepts {}",
                failure.user,
                list(failure.offered.iter().map(String::as_str))
            ),
            Self::KeyUnreadable { key, problem } => write!(f, "{key} {problem}"),
            Self::Agent { reason, .. } => write!(f, "the SSH agent cannot be used: {reason}"),
            Self::Disconnected { message: Some(text) } => write!(f, "it hung up: {text}"),
            Self::Disconnected { message: None } => f.write_str("the connection ended"),
            Self::SftpUnavailable { output, .. } if output.is_empty() => {
                f.write_str("it offers no SFTP")
            }
            Self::SftpUnavailable { output, .. } => {
                write!(f, "it sends text instead of SFTP: {}", output.trim())
            }
            Self::ChannelRefused { reason } => write!(f, "it refuses a channel: {reason}"),
            Self::Command { program, exit_status, stderr, .. } => {
                write!(f, "{program} ended")?;
                if let Some(status) = exit_status {
                    write!(f, " with {status}")?;
                }
                if stderr.trim().is_empty() { Ok(()) } else { write!(f, ": {}", stderr.trim()) }
            }
            Self::ProxyJump { hop, error } => write!(f, "jump host {hop}: {}", error.problem),
        }
    }
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() { "nothing".into() } else { items.join(", ") }
}

impl fmt::Display for SshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.host, self.problem)
    }
}

impl StdError for SshError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match (&self.source, self.problem.as_ref()) {
            (Some(source), _) => Some(source.as_ref()),
            (None, Problem::ProxyJump { error, .. }) => Some(error.as_ref()),
            _ => None,
        }
    }
}

impl SshError {
    /// The kind of problem.
    #[must_use]
    pub fn class(&self) -> Class {
        self.problem.class()
    }

    pub(super) fn new(stage: Stage, host: &str, problem: Problem) -> Self {
        Self { stage, host: host.to_owned(), problem: Box::new(problem), source: None }
    }

    pub(super) fn because(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}
