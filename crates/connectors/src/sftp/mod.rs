//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), the
//! connections that work shares ([`pool`]), and what stands on them ([`destination`]).

pub mod client;
pub mod destination;
pub mod pool;
pub mod ssh;
