//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), the
//! connections that work shares ([`pool`]), and what is built on them: a repository's [`storage`].

pub mod client;
pub mod pool;
pub mod ssh;
pub mod storage;
