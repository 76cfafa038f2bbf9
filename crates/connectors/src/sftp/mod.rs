//! SFTP: the connection over SSH ([`ssh`]), and the protocol that is spoken on it ([`client`]).

pub mod client;
pub mod ssh;
