//! Command lines as people type them, in a sealed environment: wiring, texts and exit codes. What
//! the operations do is tested in the engine.

mod archive;
mod backup;
mod channels;
mod config;
mod console;
mod errors;
mod finding;
mod full;
mod gc;
mod golden;
mod import;
mod keys;
mod limits;
mod listing;
mod mount;
mod mount_elsewhere;
mod plans;
mod recovery;
mod restore;
mod retention;
mod s3;
mod s3_elsewhere;
mod sandbox;
mod secrets;
mod seeds;
mod serving;
mod sftp;
mod sync;
mod thrash;
mod whole;
