//! A repository as a read-only file system. [`session`] mounts and unmounts, [`fs`] answers the
//! kernel. Below them: [`shelves`], the directories that lead to snapshots; [`view`], a snapshot as
//! one tree of absolute paths; [`content`], what files hold, with [`ahead`] of it what is read
//! before it is asked for; [`library`], the repository as it is now, read through the bounded
//! [`cache`].

mod ahead;
mod attributes;
mod cache;
mod content;
mod directory;
mod fs;
mod inodes;
mod library;
mod node;
mod pages;
mod session;
mod shelves;
mod view;

pub use library::{Events, Memory};
pub use session::{Ended, Failure, Mounted, Options, Subject, check_directory, mount};
