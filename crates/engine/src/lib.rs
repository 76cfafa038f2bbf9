//! The Holdfast engine: the repository and what is done to it.
//!
//! Rooms: [`format`] is the on-disk format and nothing else; [`crypto`], [`compress`], [`hash`],
//! [`bundle`], [`chunker`] and [`parity`] are pure functions on bytes; [`repo`] opens, reads and commits;
//! [`tree`] builds, reads and compares trees; [`ops`] holds one file a verb. [`storage`],
//! [`source`] and [`destination`] are the three small traits that connectors implement.
//! The engine knows no command line, network, environment, home directory or terminal.

pub mod bundle;
pub mod chunker;
pub mod compress;
pub mod crypto;
pub mod destination;
pub mod error;
pub mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod hash;
pub mod meta;
pub mod monitor;
pub mod ops;
pub mod parity;
pub mod repo;
pub mod source;
pub mod storage;
pub mod tree;

pub use error::{Error, Result};
