//! Sign-in. What is configured goes first; then `ssh`'s order: agent, key files,
//! keyboard-interactive, password. Several steps (`publickey,password`) are gone through until the
//! server is content. Keys are offered by their public half, so a passphrase is asked for only if
//! the server wants the key.

mod agent;
mod ask;
mod keyboard;
mod memory;
mod plan;
mod publickey;
mod signer;

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::client::{AuthResult, Handle};
use russh::keys::{Certificate, HashAlg};

use super::handler::{Facts, Notes};
use super::target::Target;
use super::{
    Attempt, AuthFailure, Interaction, Outcome, Problem, ShownKey, SignInMethod, SshError,
    SshOptions, Stage,
};
use crate::locked;
use ask::Pause;
pub(super) use memory::Memory;
use plan::Candidate;
pub(super) use plan::check_configured;

/// A connection whose host is trusted, about to be signed in on.
pub(super) struct SignIn<'a> {
    pub(super) options: &'a SshOptions,
    pub(super) target: &'a Target,
    pub(super) interaction: &'a Arc<dyn Interaction>,
    pub(super) memory: &'a Memory,
    pub(super) handle: Handle<Notes>,
    pub(super) notes: Arc<Mutex<Facts>>,
}

/// A finished sign-in.
pub(super) struct SignedIn {
    pub(super) handle: Handle<Notes>,
    pub(super) methods: Vec<SignInMethod>,
    pub(super) key: Option<ShownKey>,
    pub(super) warnings: Vec<String>,
}

/// What the server made of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accepted,
    Partial,
    Rejected,
    /// The connection is gone.
    Gone,
}

struct Run<'a> {
    with: SignIn<'a>,
    /// Methods that the server would take now, in its words.
    offered: Vec<&'static str>,
    failure: AuthFailure,
    /// Fingerprints offered so far, of keys and (with a mark) of certificates.
    tried: HashSet<String>,
    certificates: Vec<(Certificate, String)>,
    /// Hashes for RSA signatures, once asked.
    rsa: Option<Vec<Option<HashAlg>>>,
    methods: Vec<SignInMethod>,
    key: Option<ShownKey>,
    warnings: Vec<String>,
    pause: Arc<Pause>,
}

impl SignIn<'_> {
    /// Signs in, or says all that was tried.
    pub(super) async fn run(self) -> Result<SignedIn, SshError> {
        let certificates = plan::certificates(self.options, self.target)?;
        let failure = AuthFailure { user: self.target.user.clone(), ..AuthFailure::default() };
        let mut run = Run {
            with: self,
            offered: Vec::new(),
            failure,
            tried: HashSet::new(),
            certificates,
            rsa: None,
            methods: Vec::new(),
            key: None,
            warnings: Vec::new(),
            pause: Arc::default(),
        };
        run.all().await?;
        Ok(SignedIn {
            handle: run.with.handle,
            methods: run.methods,
            key: run.key,
            warnings: run.warnings,
        })
    }
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), SshError> {
        let memory = self.with.memory.host(&self.with.target.shown());
        let mut left = plan::candidates(self.with.options, self.with.target, &memory);
        let is_own_key = |first: &Candidate| {
            matches!(first, Candidate::Pasted | Candidate::File(_))
                && first.is_configured(self.with.options)
        };
        if left.first().is_some_and(is_own_key) {
            // What else is offered, the server says if it refuses the key that was configured.
            self.offered = vec!["publickey"];
        } else {
            // `none` is how a client learns what is offered. It is not counted as a failed try.
            let first = self.with.handle.authenticate_none(self.with.target.user.clone());
            let first = limited(first, self.with.options.timeout, &self.pause).await;
            match self.answer(SignInMethod::None, None, first)? {
                Answer::Accepted => return Ok(()),
                Answer::Gone => return Err(self.gone().await),
                Answer::Partial | Answer::Rejected => {}
            }
        }
        let mut configured_rejected = false;
        while let Some(at) = left.iter().position(|candidate| {
            self.offered.contains(&candidate.method())
                && (candidate.is_asked()
                    || candidate.is_configured(self.with.options)
                    // What was configured and refused is the answer; a dozen other keys would
                    // only use up the server's patience and hide it.
                    || !configured_rejected)
        }) {
            let candidate = left.remove(at);
            let answer = self.attempt(&candidate).await?;
            match answer {
                Answer::Accepted => {
                    self.with.memory.won(&self.with.target.shown(), candidate);
                    return Ok(());
                }
                Answer::Partial => {
                    self.with.memory.won(&self.with.target.shown(), candidate.clone());
                    // Another of its keys may be wanted next; those offered are remembered.
                    if candidate == Candidate::Agent {
                        left.push(candidate);
                    }
                }
                Answer::Rejected => {
                    configured_rejected |= self.with.options.has_credential()
                        && candidate.is_configured(self.with.options);
                }
                Answer::Gone => return Err(self.gone().await),
            }
        }
        Err(self.refused(None))
    }

    async fn attempt(&mut self, candidate: &Candidate) -> Result<Answer, SshError> {
        match candidate {
            Candidate::Agent => self.agent().await,
            Candidate::Pasted | Candidate::File(_) => self.key_source(candidate).await,
            Candidate::Password => match self.password() {
                Some(password) => self.send_password(password).await,
                None => Ok(Answer::Rejected),
            },
            Candidate::Keyboard => self.keyboard().await,
            Candidate::AskPassword => self.ask_password().await,
        }
    }

    /// Notes what the server said to one message.
    fn answer(
        &mut self,
        method: SignInMethod,
        key: Option<ShownKey>,
        result: Option<Result<AuthResult, russh::Error>>,
    ) -> Result<Answer, SshError> {
        let answer = match result {
            None => {
                let after = self.with.options.timeout;
                return Err(self.error(Problem::Timeout { after }));
            }
            Some(Ok(AuthResult::Success)) => Answer::Accepted,
            Some(Ok(AuthResult::Failure { remaining_methods, partial_success })) => {
                self.offered = remaining_methods.iter().map(Into::into).collect();
                if self.offered.is_empty() {
                    Answer::Gone
                } else if partial_success {
                    Answer::Partial
                } else {
                    Answer::Rejected
                }
            }
            Some(Err(_)) => Answer::Gone,
        };
        if matches!(answer, Answer::Accepted | Answer::Partial) {
            self.methods.push(method);
            self.key = key.clone().or(self.key.take());
        }
        if method != SignInMethod::None {
            let outcome = match answer {
                Answer::Accepted => Outcome::Accepted,
                Answer::Partial => Outcome::Partial,
                Answer::Rejected => Outcome::Rejected,
                Answer::Gone => Outcome::Failed("the server hung up".into()),
            };
            self.failure.attempts.push(Attempt { method, key, outcome });
        }
        if answer != Answer::Gone {
            self.failure.offered = self.offered.iter().map(|&m| m.to_owned()).collect();
        }
        Ok(answer)
    }

    fn note_failed(&mut self, method: SignInMethod, key: Option<ShownKey>, why: String) {
        self.failure.attempts.push(Attempt { method, key, outcome: Outcome::Failed(why) });
    }

    /// The connection ended in the middle.
    async fn gone(&mut self) -> SshError {
        // Its last words may still be on the way to the note.
        for _ in 0..50 {
            if locked(&self.with.notes).ended.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let message = locked(&self.with.notes).ended.clone();
        if self.failure.attempts.is_empty() {
            return self.error(Problem::Disconnected { message });
        }
        self.refused(message)
    }

    fn refused(&mut self, disconnected: Option<String>) -> SshError {
        let mut failure = std::mem::take(&mut self.failure);
        failure.disconnected = disconnected;
        failure.banner = locked(&self.with.notes).banner.clone();
        self.error(Problem::Authentication(failure))
    }

    fn error(&self, problem: Problem) -> SshError {
        SshError::new(Stage::SignIn, &self.with.target.shown(), problem)
    }
}

/// Asks a person, where no deadline runs.
pub(super) async fn ask<T: Send + 'static>(
    interaction: &Arc<dyn Interaction>,
    question: impl FnOnce(&dyn Interaction) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    ask::ask(interaction, &Pause::default(), question).await
}

/// `future` within `limit`, in which time spent asking a person does not count.
async fn limited<T>(future: impl Future<Output = T>, limit: Duration, pause: &Pause) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut end = tokio::time::Instant::now() + limit;
    loop {
        tokio::select! {
            value = &mut future => return Some(value),
            () = tokio::time::sleep_until(end) => match pause.extended(limit) {
                Some(later) if later > end => end = later,
                _ => return None,
            },
        }
    }
}
