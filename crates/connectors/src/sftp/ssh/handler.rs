//! What the SSH library calls back: facts about the connection are noted, and everything that a
//! server might open on us is refused.

use std::sync::{Arc, Mutex};

use russh::client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, Names};

use super::interaction::printable;
use crate::locked;

/// What is learned on the way.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) server_version: String,
    pub(super) host_key: Option<PublicKeyOrCertificate>,
    pub(super) key_exchange: String,
    pub(super) host_key_algorithm: String,
    pub(super) cipher: String,
    pub(super) mac: String,
    pub(super) banner: String,
    /// Why the connection ended, in the server's words or ours.
    pub(super) ended: Option<String>,
}

/// Notes facts.
#[derive(Debug, Default, Clone)]
pub(super) struct Notes(pub(super) Arc<Mutex<Facts>>);

impl Handler for Notes {
    type Error = russh::Error;

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Self::Error> {
        let mut facts = locked(&self.0);
        if facts.banner.len() < 4096 {
            facts.banner += &printable(banner);
        }
        Ok(())
    }

    /// Only notes the key. It is judged as soon as the handshake is over (see `connect`), before
    /// anything is sent that the host could misuse: then a person can be asked without a deadline
    /// of the handshake running, and without a lock in the library's loop.
    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        let copy = match key {
            PublicKeyOrCertificate::PublicKey { key, hash_alg } => {
                PublicKeyOrCertificate::PublicKey { key: key.clone(), hash_alg: *hash_alg }
            }
            PublicKeyOrCertificate::Certificate(certificate) => certificate.clone().into(),
        };
        locked(&self.0).host_key = Some(copy);
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        names: &Names,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let mut facts = locked(&self.0);
        facts.server_version = printable(&String::from_utf8_lossy(session.remote_sshid()));
        facts.key_exchange = names.kex.as_ref().to_owned();
        facts.host_key_algorithm = names.key.to_string();
        facts.cipher = names.cipher.as_ref().to_owned();
        // With these ciphers a MAC is agreed upon and not used.
        let authenticates = facts.cipher.contains("gcm") || facts.cipher.contains("poly1305");
        facts.mac = if authenticates { "none" } else { names.client_mac.as_ref() }.to_owned();
        Ok(())
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<Self::Error>,
    ) -> Result<(), Self::Error> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => printable(&info.message),
            DisconnectReason::Error(error) => error.to_string(),
        };
        locked(&self.0).ended.get_or_insert(text);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }

    // The library accepts these by default. We ask for no forwarding, so any of them is an
    // attempt to reach through us; dropping the reply refuses it.

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
