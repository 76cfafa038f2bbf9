//! S3: requests to one bucket of a server that speaks it ([`client`]), and on them a repository's
//! [`storage`], what is backed up ([`source`]), and where a restore goes ([`destination`]).

mod attributes;
pub mod client;
pub mod destination;
mod names;
mod ranges;
pub mod source;
pub mod storage;
