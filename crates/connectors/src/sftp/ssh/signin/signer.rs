//! Who signs: a key in memory, a key that must be opened first, or the agent.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::signature::Signer as _;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey};
use russh::{SendError, Signer};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::super::keys::read_key;
use super::super::{Interaction, KeyProblem, UserKey};
use super::ask::{Pause, TRIES, ask, paused};
use super::memory::Memory;

/// How long an agent may take to sign: a person may have to confirm or touch.
const AGENT_SIGNS: Duration = Duration::from_secs(120);

/// Signs one request.
pub(super) enum KeySigner<'a> {
    Ready(UserKey),
    Locked(Locked<'a>),
    /// The agent's connection and its own name for the key, which a certificate of ours is not.
    Agent {
        client: &'a mut AgentClient<UnixStream>,
        identity: Box<AgentIdentity>,
        pause: Arc<Pause>,
    },
}

/// A key whose passphrase is asked for when it is needed.
pub(super) struct Locked<'a> {
    pub(super) text: Zeroizing<String>,
    pub(super) origin: String,
    pub(super) interaction: &'a Arc<dyn Interaction>,
    pub(super) memory: &'a Memory,
    pub(super) pause: Arc<Pause>,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("the connection is gone")]
    Gone,
    #[error("{0}")]
    Key(KeyProblem),
    #[error("the question cannot be asked: {0}")]
    Ask(io::Error),
    #[error("the key cannot sign")]
    Sign,
    #[error("the agent does not sign: {0}")]
    Agent(String),
}

impl From<SendError> for SignError {
    fn from(_: SendError) -> Self {
        Self::Gone
    }
}

impl Signer for KeySigner<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Ready(key) => sign(&key.key, hash, data),
            Self::Locked(locked) => {
                let key = locked.open().await?;
                sign(&key.key, hash, data)
            }
            Self::Agent { client, identity, pause } => {
                let signing = client.sign_request(identity, hash, data);
                let signed = paused(pause, tokio::time::timeout(AGENT_SIGNS, signing)).await;
                signed
                    .map_err(|_| SignError::Agent("no answer".into()))?
                    .map_err(|error| SignError::Agent(error.to_string()))
            }
        }
    }
}

impl Locked<'_> {
    /// Asks for the passphrase, three times at most. The opened key is remembered.
    pub(super) async fn open(&self) -> Result<UserKey, SignError> {
        if let Some(key) = self.memory.key(&self.origin) {
            return Ok(key);
        }
        for _ in 0..TRIES {
            let prompt = format!("Passphrase of SSH key {}", self.origin);
            let answer =
                ask(self.interaction, &self.pause, move |i| i.key_passphrase(&prompt)).await;
            let Some(passphrase) = answer.map_err(SignError::Ask)? else {
                return Err(SignError::Key(KeyProblem::PassphraseNeeded));
            };
            let text = self.text.clone();
            let read = tokio::task::spawn_blocking(move || read_key(&text, Some(&passphrase)));
            match read.await.map_err(|error| SignError::Ask(io::Error::other(error)))? {
                Ok(key) => {
                    self.memory.keep_key(&self.origin, &key);
                    return Ok(key);
                }
                Err(KeyProblem::WrongPassphrase) => {}
                Err(problem) => return Err(SignError::Key(problem)),
            }
        }
        Err(SignError::Key(KeyProblem::WrongPassphrase))
    }
}

/// Appends the signature of `data` to it, as a string of SSH.
fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>, SignError> {
    let signature = match key.key_data() {
        KeypairData::Rsa(pair) => (pair, hash).try_sign(&data),
        other => other.try_sign(&data),
    };
    let signature = signature.map_err(|_| SignError::Sign)?;
    signature.encode_prefixed(&mut data).map_err(|_| SignError::Sign)?;
    Ok(data)
}
