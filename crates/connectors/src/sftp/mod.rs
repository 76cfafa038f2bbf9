//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), the
//! connections that work shares ([`pool`]), and what is built on them: a repository's [`storage`].
//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), and the
//! connections that work shares ([`pool`]); on them, what is backed up ([`source`]).
//! connections that work shares ([`pool`]), and what stands on them ([`destination`]).

pub mod client;
pub mod destination;
pub mod pool;
pub mod source;
pub mod ssh;
pub mod storage;
