//! What the command line and the console share: where things are ([`location`], [`config`],
//! [`resolve`], [`cache`]), how they are reached and opened ([`access`], [`sftp`], [`s3`], [`open`],
//! [`connection_test`]), what opens them ([`secrets`], [`ask`], [`keypair`]), what is backed up
//! ([`roots`]), what an archive looks like ([`archive`]), which snapshot is meant ([`select`],
//! [`times`]), which ones stay ([`retention`]), what is done by itself and what came of it
//! ([`plans`], [`schedule`], [`jobs`], [`runner`], [`runs`], [`unattended`]), and what to say when something fails
//! ([`catalogue`]). It never prints.

pub mod access;
pub mod adopt;
pub mod archive;
pub mod ask;
pub mod cache;
pub mod catalogue;
pub mod command;
pub mod config;
pub mod connection_test;
pub mod jobs;
pub mod keypair;
mod keyring;
pub mod kit;
pub mod location;
pub mod open;
pub mod paths;
pub mod patterns;
pub mod plans;
pub mod problem;
pub mod resolve;
pub mod retention;
pub mod roots;
pub mod runner;
pub mod runs;
pub mod s3;
pub mod schedule;
pub mod secrets;
pub mod select;
pub mod sftp;
pub mod text;
pub mod times;
pub mod unattended;

pub use access::Access;
pub use ask::Ask;
pub use command::CommandLine;
pub use config::{Config, Options};
pub use location::Location;
pub use problem::{Class, Problem};
pub use resolve::{Place, Resolved};
