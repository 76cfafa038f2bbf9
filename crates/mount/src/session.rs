//! Mounting, and unmounting again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};
use holdfast_app::text::{printable, printable_os, shell_word};
use holdfast_app::{Class, Problem};
use holdfast_engine::Error;
use holdfast_engine::meta::Kind;
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::snapshots::{Filter, SnapshotInfo};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount, umount2};

use crate::fs::HoldfastFs;
use crate::library::{Events, Library, Memory};
use crate::node::Node;
use crate::shelves::Shelf;
use crate::view::View;

/// How long the last answers may take after the directory was let go of.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is shown.
#[derive(Debug)]
pub enum Subject {
    /// The snapshots that fit, and those to come.
    All(Filter),
    /// One snapshot, from this absolute path on.
    One(Box<SnapshotInfo>, Vec<u8>),
}

/// How to show it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Other users may look, as far as the recorded permissions let them. Else only who mounts it
    /// may, and may read everything.
    pub allow_other: bool,
    /// What may be kept of what was read.
    pub memory: Memory,
}

/// A file system that is mounted.
#[derive(Debug)]
pub struct Mounted {
    session: BackgroundSession,
    library: Arc<Library>,
    directory: PathBuf,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How many files or directories could not be read.
    pub unreadable: u64,
    /// Somebody was still in it: to him it fails from now on.
    pub in_use: bool,
}

/// What stands in the way of mounting at `directory`, before anything else is tried.
pub fn check_directory(directory: &Path) -> Result<(), Problem> {
    let shown = printable_os(directory);
    let fail = |class, text: String, hint: String| Err(Problem::new(class, text).hint(hint));
    let word = shell_word(directory.as_os_str());
    match std::fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => {
            let text = format!("{shown} is not empty: what is in it would be hidden");
            return fail(Class::AlreadyExists, text, "mount on an empty directory".into());
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = format!("there is no directory {shown}");
            return fail(Class::NoSuchPath, text, format!("make it first: mkdir -p {word}"));
        }
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => {
            let text = format!("{shown} is no directory");
            return fail(Class::NoSuchPath, text, "mount on an empty directory".into());
        }
        Err(e) if e.raw_os_error() == Some(Errno::ENOTCONN as i32) => {
            let text = format!("at {shown} stands a file system whose program is gone");
            let hint = format!("clear it away: umount {word} (as a user: fusermount3 -u {word})");
            return fail(Class::AlreadyExists, text, hint);
        }
        Err(e) => return Err(holdfast_app::catalogue::io("open", directory, &e)),
    }
    if !Path::new("/dev/fuse").exists() {
        let problem =
            Problem::new(Class::Unsupported, "there is no /dev/fuse, so nothing can be mounted");
        return Err(problem
            .hint("load the kernel's module: modprobe fuse")
            .hint("in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN")
            .hint("or do without: holdfast ls, cat, restore and archive need none"));
    }
    Ok(())
}

/// Mounts at `directory`. It answers from threads of its own until it is unmounted.
pub fn mount(
    repository: Repository,
    subject: Subject,
    directory: &Path,
    options: Options,
    events: Arc<dyn Events>,
) -> Result<Mounted, Failure> {
    let (filter, one) = match subject {
        Subject::All(filter) => (Some(filter), None),
        Subject::One(snapshot, path) => (None, Some((snapshot, path))),
    };
    let library = Arc::new(Library::new(repository, filter, options.memory, events)?);
    let top = match one {
        None => Node::Shelf(Shelf::Top),
        Some((snapshot, path)) => one_snapshot(&library, *snapshot, &path)?,
    };
    let started = |e| holdfast_app::catalogue::io("start", "reading ahead", &e);
    let fs = HoldfastFs::new(library.clone(), top).map_err(started)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::FSName("holdfast".into()),
        MountOption::Subtype("holdfast".into()),
    ];
    if options.allow_other {
        config.acl = SessionACL::All;
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    config.n_threads = Some((cores + library.concurrency()).clamp(4, 16));
    let session = Session::new(fs, directory, &config).and_then(Session::spawn);
    let session = session.map_err(|e| refused(directory, options.allow_other, &e))?;
    Ok(Mounted { session, library, directory: directory.to_owned() })
}

/// What stopped a mount.
#[derive(Debug)]
pub enum Failure {
    /// The engine.
    Engine(Error),
    /// Something that is explained already.
    Problem(Box<Problem>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

/// A directory of one snapshot.
fn one_snapshot(library: &Library, snapshot: SnapshotInfo, path: &[u8]) -> Result<Node, Failure> {
    let (id, view) = (snapshot.id.short(), View::new(snapshot));
    let missing = || Error::NoSuchPath { snapshot: id.clone(), path: printable(path) };
    let spot = view.spot(path).ok_or_else(missing)?;
    let entry = view.entry(library, &spot)?.ok_or_else(missing)?;
    if entry.metadata.kind != Kind::Directory {
        let text = format!("{} is no directory, so it cannot be mounted", printable(path));
        let problem = Problem::new(Class::NoSuchPath, text);
        return Err(problem.hint("mount the directory that it is in, or restore it").into());
    }
    Ok(Node::Entry(view, spot))
}

/// Why it could not be mounted, and what helps.
fn refused(directory: &Path, allow_other: bool, error: &io::Error) -> Problem {
    let said = error.to_string();
    let shown = printable_os(directory);
    let what = match error.kind() {
        // Neither may we mount, nor is there the program that mounts for users.
        io::ErrorKind::NotFound => "only root may, and fusermount3 is not there",
        _ => said.trim(),
    };
    let text = format!("cannot mount at {shown}: {what}");
    if allow_other && said.contains("user_allow_other") {
        return Problem::new(Class::PermissionDenied, text)
            .hint("add the line user_allow_other to /etc/fuse.conf, or leave out --allow-other");
    }
    match error.kind() {
        io::ErrorKind::NotFound => Problem::new(Class::PermissionDenied, text)
            .hint("install what mounts for users who are not root: apt install fuse3")
            .hint("or mount as root"),
        _ => Problem::new(Class::PermissionDenied, text)
            .hint("mounting needs root, or fusermount3 (apt install fuse3) and the right to use /dev/fuse")
            .hint("in a container: start it with --device /dev/fuse --cap-add SYS_ADMIN"),
    }
}

impl Mounted {
    /// Whether it was unmounted from outside.
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Unmounts it. If somebody is in it, it goes all the same: for him it fails from now on.
    pub fn unmount(self) -> Ended {
        let Self { session, library, directory } = self;
        let answer = if session.guard.is_finished() { Ok(()) } else { umount(&directory) };
        if answer == Err(Errno::EBUSY) {
            let _ = umount2(&directory, MntFlags::MNT_DETACH);
        }
        // Where only root may do that, this asks the program that may.
        let guard = let_go(session);
        let begun = Instant::now();
        while !guard.is_finished() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        library.tell_healed();
        let in_use = match answer {
            Ok(()) => false,
            Err(Errno::EBUSY) => true,
            // The program that unmounted it does not say: who is in it keeps it going.
            Err(_) => !guard.is_finished(),
        };
        Ended { unreadable: library.unreadable(), in_use }
    }
}

/// Drops all of a session but the thread that answers.
fn let_go(session: BackgroundSession) -> JoinHandle<io::Result<()>> {
    let BackgroundSession { guard, .. } = session;
    guard
}
