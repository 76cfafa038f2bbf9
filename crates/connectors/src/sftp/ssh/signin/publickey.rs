//! Keys and certificates: offered by their public half, signed when the server wants them.

use russh::client::AuthResult;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::super::keys::{self, locked_public, read_key, read_public, read_text};
use super::super::{KeyProblem, ShownKey, SignInMethod, SkippedKey, UserKey};
use super::plan::{self, Candidate, PASTED, certificate_file, expand, file_origin, unreadable};
use super::signer::{KeySigner, Locked, SignError};
use super::{Answer, Run, SshError, limited};

impl Run<'_> {
    /// A pasted key or a key file, with its certificates.
    pub(super) async fn key_source(&mut self, candidate: &Candidate) -> Result<Answer, SshError> {
        let with = &self.with;
        let configured = candidate.is_configured(with.options);
        let (origin, text, path) = match candidate {
            Candidate::File(path) => {
                let path = expand(path, with.options);
                (file_origin(&path), read_text(&path), Some(path))
            }
            _ => {
                let text = with.options.key.as_ref().map(|k| k.expose().to_owned().into());
                (PASTED.to_owned(), text.ok_or(KeyProblem::Missing), None)
            }
        };
        let passphrase = with.options.key_passphrase.as_ref().filter(|_| configured);
        let text = match text {
            Ok(text) => text,
            Err(problem) => return self.unusable(configured, &origin, problem),
        };
        let known = with.memory.key(&origin);
        let read = known.map_or_else(|| read_key(&text, passphrase), Ok);
        if configured && let Some(path) = path.as_ref().filter(|p| keys::readable_by_others(p)) {
            let warning = format!("{} may be read by other users: chmod 600 it", path.display());
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        let beside = |ending: &str| {
            path.as_ref().map(|path| {
                let mut name = path.clone().into_os_string();
                name.push(ending);
                std::path::PathBuf::from(name)
            })
        };
        let public = match &read {
            Ok(key) => Some(key.key.public_key().clone()),
            Err(KeyProblem::PassphraseNeeded) => {
                locked_public(&text).or_else(|| read_public(&read_text(&beside(".pub")?).ok()?))
            }
            Err(_) => None,
        };
        let locked = |text| Locked {
            text,
            origin: origin.clone(),
            interaction: self.with.interaction,
            memory: self.with.memory,
            pause: self.pause.clone(),
        };
        let (public, mut signer) = match (read, public) {
            (Ok(key), Some(public)) => (public, KeySigner::Ready(key)),
            (Err(KeyProblem::PassphraseNeeded), Some(public)) => {
                (public, KeySigner::Locked(locked(text)))
            }
            // The format hides the public half as well: it must be opened to be offered.
            (Err(KeyProblem::PassphraseNeeded), None) => match locked(text).open().await {
                Ok(key) => (key.key.public_key().clone(), KeySigner::Ready(key)),
                Err(SignError::Key(problem)) => {
                    return self.unusable(configured, &origin, problem);
                }
                Err(SignError::Ask(error)) => return Err(self.cannot_ask(error)),
                Err(_) => return Ok(Answer::Rejected),
            },
            (Err(problem), _) => return self.unusable(configured, &origin, problem),
            (Ok(_), None) => return Ok(Answer::Rejected),
        };
        let mut certificates = self.certificates_for(&public);
        if let Some(found) = beside("-cert.pub").and_then(|path| certificate_file(&path))
            && found.0.public_key() == public.key_data()
            && !certificates.iter().any(|(c, _)| *c == found.0)
        {
            certificates.push(found);
        }
        match self.offer(&public, &certificates, &origin, &mut signer).await? {
            // A configured key that could not be opened is the answer to all of it.
            Err(problem) if configured => Err(unreadable(self.with.target, &origin, problem)),
            Err(problem) => self.unusable(false, &origin, problem),
            Ok(answer) => Ok(answer),
        }
    }

    fn unusable(
        &mut self,
        configured: bool,
        origin: &str,
        problem: KeyProblem,
    ) -> Result<Answer, SshError> {
        if configured {
            return Err(unreadable(self.with.target, origin, problem));
        }
        // `ssh` looks for keys that most people do not have; that is nothing to tell.
        if problem != KeyProblem::Missing || !self.with.target.identities_default {
            self.failure.skipped.push(SkippedKey { origin: origin.to_owned(), problem });
        }
        Ok(Answer::Rejected)
    }

    pub(super) fn certificates_for(&self, public: &PublicKey) -> Vec<(Certificate, String)> {
        let same = |c: &&(Certificate, String)| c.0.public_key() == public.key_data();
        self.certificates.iter().filter(same).cloned().collect()
    }

    /// Offers certificates for a key, then the key itself. `Err` inside: it could not be opened.
    pub(super) async fn offer(
        &mut self,
        public: &PublicKey,
        certificates: &[(Certificate, String)],
        origin: &str,
        signer: &mut KeySigner<'_>,
    ) -> Result<Result<Answer, KeyProblem>, SshError> {
        match self.offer_certificates(public, certificates, origin, signer).await? {
            Ok(Answer::Rejected) => {}
            other => return Ok(other),
        }
        let shown = keys::shown(public, origin);
        let mark = shown.fingerprint.clone();
        self.offer_one(public, None, shown, mark, signer).await
    }

    /// Offers certificates for a key without the key itself.
    pub(super) async fn offer_certificates(
        &mut self,
        public: &PublicKey,
        certificates: &[(Certificate, String)],
        origin: &str,
        signer: &mut KeySigner<'_>,
    ) -> Result<Result<Answer, KeyProblem>, SshError> {
        let shown = keys::shown(public, origin);
        for (certificate, origin) in certificates {
            let shown = ShownKey { origin: origin.clone(), ..shown.clone() };
            // Serial numbers may repeat; the whole certificate is what was offered.
            let mark = format!("certificate {}", certificate.to_openssh().unwrap_or_default());
            match self.offer_one(public, Some(certificate), shown, mark, signer).await? {
                Ok(Answer::Rejected) => {}
                other => return Ok(other),
            }
        }
        Ok(Ok(Answer::Rejected))
    }

    async fn offer_one(
        &mut self,
        public: &PublicKey,
        certificate: Option<&Certificate>,
        shown: ShownKey,
        mark: String,
        signer: &mut KeySigner<'_>,
    ) -> Result<Result<Answer, KeyProblem>, SshError> {
        if !self.offered.contains(&"publickey") || !self.tried.insert(mark) {
            return Ok(Ok(Answer::Rejected));
        }
        let method = match certificate {
            Some(_) => SignInMethod::Certificate,
            None => SignInMethod::PublicKey,
        };
        let hashes = match public.algorithm() {
            Algorithm::Rsa { .. } => self.rsa_hashes().await,
            _ => vec![None],
        };
        if hashes.is_empty() {
            let why = "the server takes RSA signatures by SHA-1 alone, which needs \
                       allow_insecure_ciphers";
            self.note_failed(method, Some(shown), why.into());
            return Ok(Ok(Answer::Rejected));
        }
        let mut last = Answer::Rejected;
        for hash in hashes {
            let user = self.with.target.user.clone();
            let handle = &mut self.with.handle;
            let limit = self.with.options.timeout;
            let result: Option<Result<AuthResult, SignError>> = match certificate {
                Some(certificate) => {
                    let sent = handle.authenticate_certificate_with(
                        user,
                        certificate.clone(),
                        hash,
                        signer,
                    );
                    limited(sent, limit, &self.pause).await
                }
                None => {
                    let sent =
                        handle.authenticate_publickey_with(user, public.clone(), hash, signer);
                    limited(sent, limit, &self.pause).await
                }
            };
            let result = match result {
                Some(Err(SignError::Key(problem))) => return Ok(Err(problem)),
                Some(Err(SignError::Ask(error))) => return Err(self.cannot_ask(error)),
                Some(Err(SignError::Gone)) => Some(Err(russh::Error::SendError)),
                Some(Err(error)) => {
                    self.note_failed(method, Some(shown.clone()), error.to_string());
                    continue;
                }
                Some(Ok(result)) => Some(Ok(result)),
                None => None,
            };
            last = self.answer(method, Some(shown.clone()), result)?;
            if last != Answer::Rejected {
                break;
            }
        }
        Ok(Ok(last))
    }

    /// Hashes to sign with by an RSA key, as the server announced them. A server that announces
    /// nothing gets SHA-512. SHA-1 comes last, and only if that is allowed.
    async fn rsa_hashes(&mut self) -> Vec<Option<HashAlg>> {
        if let Some(known) = &self.rsa {
            return known.clone();
        }
        let insecure = self.with.options.allow_insecure_ciphers;
        let asked = self.with.handle.best_supported_rsa_hash();
        let mut hashes = match limited(asked, self.with.options.timeout, &self.pause).await {
            Some(Ok(Some(None))) => Vec::new(),
            Some(Ok(Some(hash @ Some(_)))) => vec![hash],
            _ => vec![Some(HashAlg::Sha512)],
        };
        // OpenSSH announces what it knows, not what its configuration admits.
        if insecure {
            hashes.push(None);
        }
        self.rsa = Some(hashes.clone());
        hashes
    }

    /// Public halves of the key files, for matching them with the agent's keys.
    pub(super) fn identity_publics(&self) -> Vec<PublicKey> {
        let configured = self.with.options.key_file.iter().map(|p| expand(p, self.with.options));
        let found = |key: UserKey| key.key.public_key().clone();
        configured
            .chain(self.with.target.identities.iter().cloned())
            .filter_map(|path| {
                let mut beside = path.clone().into_os_string();
                beside.push(".pub");
                let beside = read_text(std::path::Path::new(&beside)).ok();
                beside.and_then(|text| read_public(&text)).or_else(|| {
                    let text = read_text(&path).ok()?;
                    read_public(&text)
                        .or_else(|| locked_public(&text))
                        .or_else(|| read_key(&text, None).ok().map(found))
                })
            })
            .chain(plan::selected_public(self.with.options))
            .collect()
    }
}
