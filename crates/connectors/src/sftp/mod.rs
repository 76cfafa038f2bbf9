//! SFTP: the connection over SSH ([`ssh`]) and what speaks on it.

pub mod ssh;
