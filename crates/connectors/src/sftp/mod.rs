//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), and the
//! connections that work shares ([`pool`]).

pub mod client;
pub mod pool;
pub mod ssh;
