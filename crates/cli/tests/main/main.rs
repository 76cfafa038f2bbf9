//! Command lines as people type them, in a sealed environment: wiring, texts and exit codes. What
//! the operations do is tested in the engine.

mod backup;
mod config;
mod errors;
mod gc;
mod keys;
mod listing;
mod restore;
mod sandbox;
mod seeds;
mod sftp;
mod whole;
