//! SFTP: the protocol client.

pub mod client;
