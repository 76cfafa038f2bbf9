//! `restore`: from a snapshot to a destination.
//!
//! The tree is walked in order, in windows of bounded memory ([`walk`]); a window's directories
//! are made ([`directories`]), what stands at each path is weighed against the overwrite policy
//! ([`decide`]), entries without stored content are written ([`entries`]), and content is read
//! pack by pack and written by several threads ([`content`]). Attributes of directories come
//! last, the deepest first. While one window is written, the next is read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::destination::{Destination, DestinationErrorKind, Unset};
use crate::hash::ObjectId;
use crate::meta::Owner;
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{BlobReader, Index, Repository};
use crate::{Error, Result};

mod content;
mod decide;
mod directories;
mod entries;
mod packs;
mod select;
mod state;
mod verify;
mod walk;

use state::Run;

/// What to do with a path, as the caller's rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Restore it.
    Take,
    /// Leave it out, and for a directory all that is in it.
    Skip,
    /// A directory that is not wanted itself, though something in it may be: it is made only
    /// when something in it is restored. For anything else the same as [`Skip`](Self::Skip).
    Enter,
}

/// Says which absolute paths (and whether they are directories) are restored, and, with
/// [`delete`](RestoreOptions::delete), which may be deleted.
pub type PathFilter = Arc<dyn Fn(&[u8], bool) -> Choice + Send + Sync>;

/// Says who owns what was somebody's at the origin. Asked once for every owner.
pub type OwnerMap = Arc<dyn Fn(&Owner) -> Owner + Send + Sync>;

/// When what is there already is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Always.
    Always,
    /// If its kind, size or modification time differ. What is equal in these is taken as
    /// complete, since the time is set last; attributes that differ are set.
    #[default]
    IfChanged,
    /// If the snapshot's is newer.
    IfNewer,
    /// Never.
    Never,
}

/// What to restore, and how.
#[derive(Clone)]
pub struct RestoreOptions {
    /// The snapshot.
    pub snapshot: SnapshotInfo,
    /// Absolute path in it: the content of a directory goes right into the destination, anything
    /// else goes there under its name. `None` recreates all absolute paths below the destination.
    pub path: Option<Vec<u8>>,
    /// Write to the absolute paths even if `path` is given: the destination is `/`.
    pub in_place: bool,
    /// When to replace what is there.
    pub overwrite: Overwrite,
    /// Remove from restored directories what the snapshot does not hold, and directories that
    /// stand where it holds something else.
    pub delete: bool,
    /// Write nothing, and find out what would be done.
    pub dry_run: bool,
    /// With `dry_run`: find out as well which packs would be read.
    pub list_packs: bool,
    /// Compare the content of files that seem unchanged, and replace those that differ. Together
    /// with `dry_run` and [`Overwrite::IfChanged`]: verifies an earlier restore.
    pub verify: bool,
    /// What to take. `None` takes everything.
    pub filter: Option<PathFilter>,
    /// Whom to give things to. `None` keeps the owners' numbers.
    pub owners: Option<OwnerMap>,
    /// Threads that read, open and write; 0 for as many as the storage or the machine serves.
    pub threads: usize,
    /// Bytes of memory for reading and planning.
    pub memory: usize,
}

impl RestoreOptions {
    /// Everything in the snapshot, with the defaults.
    pub fn new(snapshot: SnapshotInfo) -> Self {
        Self {
            snapshot,
            path: None,
            in_place: false,
            overwrite: Overwrite::default(),
            delete: false,
            dry_run: false,
            list_packs: false,
            verify: false,
            filter: None,
            owners: None,
            threads: 0,
            memory: 96 << 20,
        }
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("snapshot", &self.snapshot.id)
            .field("path", &self.path.as_deref().map(String::from_utf8_lossy))
            .field("in_place", &self.in_place)
            .field("overwrite", &self.overwrite)
            .field("delete", &self.delete)
            .field("dry_run", &self.dry_run)
            .field("list_packs", &self.list_packs)
            .field("verify", &self.verify)
            .field("filter", &self.filter.is_some())
            .field("owners", &self.owners.is_some())
            .field("threads", &self.threads)
            .field("memory", &self.memory)
            .finish()
    }
}

/// Failures that are listed one by one.
pub const LISTED_FAILURES: usize = 1000;

/// What a restore did, or would do.
#[derive(Debug, Clone, Default)]
pub struct RestoreReport {
    /// Regular files written, hard links among them.
    pub files: u64,
    /// Directories made, or found and given their attributes.
    pub directories: u64,
    /// Symbolic links, devices, FIFOs and sockets made.
    pub others: u64,
    /// Bytes of content written: what a dry run finds to be needed.
    pub bytes: u64,
    /// Of all that was written: what was not there before.
    pub created: u64,
    /// Of all that was written: what took the place of something else.
    pub replaced: u64,
    /// Non-directories that were there already as they should be.
    pub unchanged: u64,
    /// Their bytes.
    pub unchanged_bytes: u64,
    /// Of these: how many were given other attributes.
    pub attributes: u64,
    /// What the overwrite policy left as it was.
    pub skipped: u64,
    /// What was removed.
    pub deleted: u64,
    /// Metadata that could not be set.
    pub unset: Unset,
    /// What could not be restored and why, by absolute path at the origin: the first
    /// [`LISTED_FAILURES`].
    pub failed: Vec<(Vec<u8>, String)>,
    /// How much could not be restored in all, things in directories that failed included.
    pub failures: u64,
    /// Whether something failed because the repository lacks it, or has it damaged.
    pub lacking: bool,
    /// Packs that content would be read from, if they were to be listed.
    pub packs: BTreeSet<ObjectId>,
    /// Bytes the destination had free before, where it tells.
    pub free_space: Option<u64>,
}

impl RestoreReport {
    fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.others += other.others;
        self.bytes += other.bytes;
        self.created += other.created;
        self.replaced += other.replaced;
        self.unchanged += other.unchanged;
        self.unchanged_bytes += other.unchanged_bytes;
        self.attributes += other.attributes;
        self.skipped += other.skipped;
        self.deleted += other.deleted;
        self.unset.merge(other.unset);
        self.failures += other.failures;
    }
}

/// Restores. What fails for one path is in the report; an error means that the restore stopped.
///
/// `index` needs no session: a reader that meets a missing pack lists the index again.
/// An interrupted restore leaves no temporary file, and the next one goes on where it ended.
pub fn restore(
    repository: &Repository,
    index: &Index,
    options: &RestoreOptions,
    destination: &dyn Destination,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    monitor.phase(Phase::Planning);
    let reader = BlobReader::new(repository, index).within(options.memory / 3);
    let selected = select::select(&reader, options)?;
    let run = Run::new(&reader, options, destination, monitor, interrupt, selected.total);
    for (path, error) in selected.lost {
        run.fail(&path, error);
    }
    if !options.dry_run {
        destination.prepare()?;
    }
    let free_space = destination.free_space().unwrap_or(None);
    let vacant = match destination.list(b"") {
        Ok(names) => names.is_empty(),
        Err(e) if e.kind == DestinationErrorKind::NotFound => true,
        Err(e) => return Err(e.into()),
    };
    if vacant {
        run.fresh.insert(b"");
    }
    let parts = selected.parts;
    monitor.phase(Phase::Restore);
    let mut finish = directories::Finish::default();
    finish.start(&run, &parts);
    let mut walk = walk::Walk::new(&run, &parts);
    let mut next = walk.next_window()?;
    while let Some(window) = next.take() {
        if run.is_stopping() {
            break;
        }
        // The next window is read while this one is written.
        next = std::thread::scope(|scope| {
            let ahead = scope.spawn(|| walk.next_window());
            write_window(&run, &parts, window, &mut finish);
            ahead.join().unwrap_or_else(|_| Err(Error::Worker("tree reader".into())))
        })?;
    }
    if !run.is_stopping() {
        monitor.phase(Phase::Finishing);
        finish.finish(&run, &parts)?;
    }
    reader.healed_notes().iter().for_each(|note| monitor.note(note));
    let mut report = run.into_report()?;
    report.free_space = free_space;
    Ok(report)
}

/// What a restore would do: [`restore`] as a dry run.
pub fn preview(
    repository: &Repository,
    index: &Index,
    options: &RestoreOptions,
    destination: &dyn Destination,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<RestoreReport> {
    let options = RestoreOptions { dry_run: true, ..options.clone() };
    restore(repository, index, &options, destination, monitor, interrupt)
}

fn write_window(
    run: &Run<'_>,
    parts: &[select::Part<'_>],
    mut window: walk::Window,
    finish: &mut directories::Finish,
) {
    let directories = std::mem::take(&mut window.directories);
    finish.make(run, parts, directories);
    window.look_up_parents(run, parts);
    let (todos, links) = entries::write_entries(run, parts, &window);
    content::write_contents(run, parts, &window, &todos);
    let todos = entries::write_links(run, parts, &window, &links);
    content::write_contents(run, parts, &window, &todos);
}
