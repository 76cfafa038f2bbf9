//! The agent's keys.

use std::io;

use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::super::Problem;
use super::super::interaction::printable;
use super::signer::KeySigner;
use super::{Answer, Run, SshError, plan};

impl Run<'_> {
    /// Offers the agent's keys: those of configured files first, others unless forbidden.
    pub(super) async fn agent(&mut self) -> Result<Answer, SshError> {
        let (mut client, identities) = match self.agent_keys().await {
            Ok(found) => found,
            // `ssh` goes on without an agent that does not answer, unless it was asked for.
            Err(reason) if self.with.options.use_agent == Some(true) => {
                let socket = self.with.target.agent.clone();
                return Err(self.error(Problem::Agent { socket, reason }));
            }
            Err(_) => return Ok(Answer::Rejected),
        };
        let selected = plan::selected_public(self.with.options);
        let files = self.identity_publics();
        let is_of = |identity: &AgentIdentity| {
            files.iter().any(|key| key.key_data() == identity.public_key().key_data())
        };
        let mut identities: Vec<_> = identities
            .into_iter()
            .filter(|identity| match &selected {
                Some(key) => key.key_data() == identity.public_key().key_data(),
                None => !self.with.target.identities_only || is_of(identity),
            })
            .collect();
        identities.sort_by_key(|identity| !is_of(identity));
        if identities.is_empty() && self.with.options.use_agent == Some(true) {
            let reason = match selected {
                Some(_) => "it does not hold the key of public_key_file",
                None => "it holds no keys that may be used",
            };
            let socket = self.with.target.agent.clone();
            return Err(self.error(Problem::Agent { socket, reason: reason.into() }));
        }
        for identity in identities {
            let public = identity.public_key().into_owned();
            let origin = format!("agent {}", printable(identity.comment()));
            // A certificate in the agent is an identity of its own; its bare key is another one.
            let certificate = match &identity {
                AgentIdentity::Certificate { certificate, .. } => Some(certificate.clone()),
                AgentIdentity::PublicKey { .. } => None,
            };
            let (identity, pause) = (Box::new(identity), self.pause.clone());
            let mut signer = KeySigner::Agent { client: &mut client, identity, pause };
            let answer = if let Some(certificate) = certificate {
                let one = [(certificate, origin.clone())];
                self.offer_certificates(&public, &one, &origin, &mut signer).await?
            } else {
                let ours = self.certificates_for(&public);
                self.offer(&public, &ours, &origin, &mut signer).await?
            };
            // The agent's keys need no passphrase of ours: there is no other answer.
            if let Ok(answer @ (Answer::Accepted | Answer::Partial | Answer::Gone)) = answer {
                return Ok(answer);
            }
        }
        Ok(Answer::Rejected)
    }

    async fn agent_keys(&self) -> Result<(AgentClient<UnixStream>, Vec<AgentIdentity>), String> {
        let Some(socket) = &self.with.target.agent else {
            return Err("there is none: SSH_AUTH_SOCK is not set".into());
        };
        let talk = async {
            let mut client = AgentClient::connect(UnixStream::connect(socket).await?);
            // Keys that are restricted to certain hosts show themselves only after this. Agents
            // that do not know it say so, and go on.
            if let Some(binding) = self.with.handle.agent_session_binding()
                && let Err(russh::keys::Error::IO(error)) =
                    client.bind_session(binding, false).await
            {
                return Err(error);
            }
            let keys = client.request_identities().await.map_err(io::Error::other)?;
            Ok((client, keys))
        };
        match timeout(self.with.options.timeout, talk).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(format!("{}: {error}", socket.display())),
            Err(_) => Err(format!("{}: no answer", socket.display())),
        }
    }
}
