//! Streams as sources: what a pipe brings becomes one file.

pub mod source;
