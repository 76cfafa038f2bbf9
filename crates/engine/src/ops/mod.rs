//! What is done to a repository: one file (or folder) a verb, functions of a repository, options
//! and a monitor. No file here imports another one, but that `sync` is a backup of a snapshot, and
//! that `repair` repairs what `check` finds.

pub mod archive;
pub mod backup;
pub mod check;
pub mod diff;
pub mod digest;
pub mod dup;
pub mod find;
pub mod forget;
pub mod gc;
pub mod history;
pub mod info;
pub mod repair;
pub mod restore;
pub mod sync;
