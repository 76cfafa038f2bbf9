//! What to try, in which order, and what can be said about it before connecting.

use std::path::{Path, PathBuf};

use russh::keys::{Certificate, PublicKey};

use super::super::keys::{self, read_certificate, read_key, read_public, read_text};
use super::super::target::{self, Target};
use super::super::{KeyProblem, Problem, SshError, SshOptions, Stage};
use super::memory::{HostMemory, Memory};

/// One source of credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Candidate {
    /// All keys of the agent.
    Agent,
    /// The option `key`.
    Pasted,
    /// The option `key_file`, or a file that `ssh_config` or `ssh` itself names.
    File(PathBuf),
    /// The configured password, or one that was typed before.
    Password,
    /// Questions of the server, answered by the configured password or a person.
    Keyboard,
    /// A password that a person types.
    AskPassword,
}

impl Candidate {
    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Agent | Self::Pasted | Self::File(_) => "publickey",
            Self::Password | Self::AskPassword => "password",
            Self::Keyboard => "keyboard-interactive",
        }
    }

    /// A person decides; that does no harm.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Self::Keyboard | Self::AskPassword)
    }

    /// Set by an option rather than found.
    pub(super) fn is_configured(&self, options: &SshOptions) -> bool {
        match self {
            Self::Agent => options.use_agent == Some(true),
            Self::Pasted => true,
            Self::File(path) => options.key_file.as_ref() == Some(path),
            Self::Password | Self::Keyboard => options.password.is_some(),
            Self::AskPassword => false,
        }
    }
}

/// Everything that may be tried, in order.
///
/// A configured credential comes before what is found: with ten keys in an agent, a server's
/// `MaxAuthTries` (6 in OpenSSH) is used up before `ssh`'s order reaches a password.
pub(super) fn candidates(
    options: &SshOptions,
    target: &Target,
    memory: &HostMemory,
) -> Vec<Candidate> {
    let mut list = memory.won.clone();
    let mut add = |candidate: Candidate| {
        if !list.contains(&candidate) {
            list.push(candidate);
        }
    };
    if options.use_agent == Some(true) {
        add(Candidate::Agent);
    }
    if options.key.is_some() {
        add(Candidate::Pasted);
    }
    if let Some(path) = &options.key_file {
        add(Candidate::File(path.clone()));
    }
    if options.password.is_some() {
        add(Candidate::Password);
        add(Candidate::Keyboard);
    }
    if target.agent.is_some() {
        add(Candidate::Agent);
    }
    for path in &target.identities {
        add(Candidate::File(path.clone()));
    }
    add(Candidate::Keyboard);
    add(Candidate::AskPassword);
    list
}

/// Reads what is configured, so that a key in a wrong format is known before anything connects.
/// A passphrase that is missing is no error yet: somebody may be there to ask.
pub(in super::super) fn check_configured(
    options: &SshOptions,
    target: &Target,
    memory: &Memory,
) -> Result<(), SshError> {
    let fail = |key: &str, problem| unreadable(target, key, problem);
    let mut public = None;
    let mut check = |origin: &str, text: &str| {
        if let Some(key) = memory.key(origin) {
            public = Some(key.key.public_key().clone());
            return Ok(());
        }
        match read_key(text, options.key_passphrase.as_ref()) {
            Ok(key) => {
                public = Some(key.key.public_key().clone());
                memory.keep_key(origin, &key);
            }
            Err(KeyProblem::PassphraseNeeded) => public = keys::locked_public(text),
            Err(problem) => return Err(fail(origin, problem)),
        }
        Ok(())
    };
    if let Some(text) = &options.key {
        check(PASTED, text.expose())?;
    }
    if let Some(path) = &options.key_file {
        let path = expand(path, options);
        let origin = file_origin(&path);
        let text = read_text(&path).map_err(|p| fail(&origin, p))?;
        check(&origin, &text)?;
    }
    for (certificate, origin) in configured_certificates(options, target)? {
        if let Some(key) = &public
            && options.use_agent != Some(true)
            && certificate.public_key() != key.key_data()
        {
            let certified = PublicKey::new(certificate.public_key().clone(), "");
            let certified = keys::shown(&certified, "").fingerprint;
            return Err(fail(&origin, KeyProblem::CertificateOfAnotherKey { certified }));
        }
    }
    Ok(())
}

pub(super) const PASTED: &str = "the pasted key";

pub(super) fn file_origin(path: &Path) -> String {
    path.display().to_string()
}

pub(super) fn expand(path: &Path, options: &SshOptions) -> PathBuf {
    target::home(options).map_or_else(|_| path.to_owned(), |home| target::expand(path, &home))
}

pub(super) fn unreadable(target: &Target, key: &str, problem: KeyProblem) -> SshError {
    let problem = Problem::KeyUnreadable { key: key.to_owned(), problem };
    SshError::new(Stage::Settings, &target.shown(), problem)
}

/// Certificates of the options.
fn configured_certificates(
    options: &SshOptions,
    target: &Target,
) -> Result<Vec<(Certificate, String)>, SshError> {
    let mut found = Vec::new();
    if let Some(text) = &options.certificate {
        let origin = "the certificate";
        let read = read_certificate(text).map_err(|p| unreadable(target, origin, p))?;
        found.push((read, origin.to_owned()));
    }
    if let Some(path) = &options.public_key_file {
        let origin = file_origin(path);
        let text = read_text(&expand(path, options)).map_err(|p| unreadable(target, &origin, p))?;
        match read_certificate(&text) {
            Ok(certificate) => found.push((certificate, origin)),
            // A plain public key: it selects a key of the agent.
            Err(_) if read_public(&text).is_some() => {}
            Err(problem) => return Err(unreadable(target, &origin, problem)),
        }
    }
    Ok(found)
}

/// Certificates of the options and of `ssh_config`; of the latter those that can be read.
pub(super) fn certificates(
    options: &SshOptions,
    target: &Target,
) -> Result<Vec<(Certificate, String)>, SshError> {
    let mut found = configured_certificates(options, target)?;
    found.extend(target.certificates.iter().filter_map(|path| certificate_file(path)));
    Ok(found)
}

/// The certificate in a file, if there is one.
pub(super) fn certificate_file(path: &Path) -> Option<(Certificate, String)> {
    let text = read_text(path).ok()?;
    read_certificate(&text).ok().map(|certificate| (certificate, file_origin(path)))
}

/// The public key that selects one of the agent's.
pub(super) fn selected_public(options: &SshOptions) -> Option<PublicKey> {
    let text = read_text(&expand(options.public_key_file.as_ref()?, options)).ok()?;
    match read_certificate(&text) {
        Ok(certificate) => Some(PublicKey::new(certificate.public_key().clone(), "")),
        Err(_) => read_public(&text),
    }
}
