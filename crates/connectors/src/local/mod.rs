//! The local file system: repositories in a directory, trees to back up, trees to restore to.
//! All three go through directory handles and never follow a link they did not mean to.

mod temporary;

pub mod storage;
