//! S3: requests to one bucket of a server that speaks it ([`client`]), and on them a repository's
//! [`storage`].

pub mod client;
pub mod storage;
