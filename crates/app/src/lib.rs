//! What the command line and the console share: places and how they are reached and opened
//! ([`location`], [`config`], [`resolve`], [`access`], [`sftp`], [`s3`], [`open`], [`room`], [`secrets`],
//! [`ask`]),
//! what is backed up and chosen ([`roots`], [`select`], [`retention`], [`archive`]), what is done by
//! itself and what came of it ([`plans`], [`schedule`], [`service`], [`jobs`], [`runner`], [`runs`],
//! [`notify`], [`unattended`], [`seal`]), what to say when something fails ([`catalogue`]), and things
//! as JSON shows them ([`json`]). It never prints.

pub mod access;
pub mod adopt;
pub mod archive;
pub mod ask;
pub mod cache;
pub mod catalogue;
pub mod command;
pub mod config;
pub mod connection_test;
pub mod entries;
pub mod jobs;
pub mod json;
pub mod keypair;
mod keyring;
pub mod kit;
pub mod location;
pub mod notify;
pub mod open;
pub mod paths;
pub mod patterns;
pub mod plans;
pub mod problem;
mod random;
pub mod resolve;
pub mod retention;
pub mod room;
pub mod roots;
pub mod runner;
pub mod runs;
pub mod s3;
pub mod schedule;
pub mod seal;
pub mod secrets;
pub mod select;
pub mod service;
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
pub use random::random;
pub use resolve::{Place, Resolved};
