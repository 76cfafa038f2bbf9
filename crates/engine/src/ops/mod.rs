//! What is done to a repository: one file (or folder) a verb, functions of a repository, options
//! and a monitor. No file here imports another one.

pub mod backup;
pub mod check;
pub mod diff;
pub mod digest;
pub mod gc;
pub mod info;
pub mod restore;
