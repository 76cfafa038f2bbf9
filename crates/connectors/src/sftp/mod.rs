//! SFTP: the connection over SSH ([`ssh`]), the protocol that is spoken on it ([`client`]), and the
//! connections that work shares ([`pool`]). On them stand a repository's [`storage`], what is backed
//! up ([`source`]), and where a restore goes ([`destination`]).

pub mod client;
pub mod destination;
pub mod pool;
pub mod source;
pub mod ssh;
pub mod storage;
