//! `archive`: a snapshot, or a part of it, as one stream of members in the order of the trees.
//!
//! [`plan`] goes through the trees and cuts what is to be written into windows of bounded memory,
//! whose content is read by several threads while the window before is handed to the [`Sink`] in
//! order ([`emit`]). How members are encoded is the sink's affair: the engine knows no formats.

use std::fmt;
use std::io;
use std::sync::Arc;

use crossbeam_channel::bounded;

use crate::meta::{Kind, Xattr};
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::Entry;
use crate::{Error, Result};

mod emit;
mod plan;
mod select;

/// A member of an archive.
#[derive(Debug)]
pub struct Member<'a> {
    /// Its path in the archive, names joined by `/`; empty for the directory that is the archive's
    /// top.
    pub name: &'a [u8],
    /// What is known of it.
    pub entry: &'a Entry,
    /// Its extended attributes.
    pub xattrs: &'a [Xattr],
    /// It is another name for the member with this name, which came before.
    pub link_to: Option<&'a [u8]>,
}

impl Member<'_> {
    /// Whether content follows: it is a regular file, and no link to another.
    pub fn has_content(&self) -> bool {
        self.entry.metadata.kind == Kind::File && self.link_to.is_none()
    }
}

/// Receives members, one after the other. Of a regular file ([`Member::has_content`]) the content
/// follows in pieces, and then its end. An error ends the archive.
pub trait Sink: fmt::Debug {
    /// Whether members of this kind can be stored.
    fn holds(&self, kind: Kind) -> bool;

    /// Whether hard links can be; else each gets its own content.
    fn holds_hard_links(&self) -> bool;

    /// Whether the content of a sparse file is given without its holes: only what lies in
    /// [`Entry::extents`]. Else holes come as zeros.
    fn skips_holes(&self) -> bool;

    /// Begins a member.
    fn begin(&mut self, member: &Member<'_>) -> io::Result<()>;

    /// The next bytes of its content.
    fn data(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The content is complete.
    fn end(&mut self) -> io::Result<()>;
}

/// Says whether an absolute path (and whether it is a directory) is wanted. What lies below an
/// unwanted directory is asked for as well.
pub type PathFilter = Arc<dyn Fn(&[u8], bool) -> bool + Send + Sync>;

/// What to archive.
#[derive(Clone)]
pub struct ArchiveOptions {
    /// Absolute path in the snapshot: the content of a directory lies at the top of the archive,
    /// anything else lies there under its name. `None` for all absolute paths, without the first
    /// slash.
    pub path: Option<Vec<u8>>,
    /// What to take. `None` takes everything.
    pub filter: Option<PathFilter>,
    /// Threads that read and open; 0 for as many as serve.
    pub threads: usize,
    /// Bytes of content in a window. Two windows are in memory at once, and a file that fits into
    /// one is archived whole or not at all.
    pub window: u64,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        Self { path: None, filter: None, threads: 0, window: 32 << 20 }
    }
}

impl fmt::Debug for ArchiveOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveOptions")
            .field("path", &self.path.as_deref().map(String::from_utf8_lossy))
            .field("filter", &self.filter.is_some())
            .field("threads", &self.threads)
            .field("window", &self.window)
            .finish()
    }
}

/// Failures that are listed one by one.
pub const LISTED_FAILURES: usize = 1000;

/// What was archived.
#[derive(Debug, Clone, Default)]
pub struct ArchiveReport {
    /// Regular files, hard links among them.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links, devices, FIFOs.
    pub others: u64,
    /// Bytes of content handed over.
    pub bytes: u64,
    /// What the format cannot hold: sockets, and in some formats devices and FIFOs.
    pub left_out: u64,
    /// What could not be archived and why, by absolute path: the first [`LISTED_FAILURES`]. Each is
    /// told to the monitor.
    pub failed: Vec<(Vec<u8>, String)>,
    /// How much could not be archived in all.
    pub failures: u64,
}

/// What ended an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The sink failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// Reading the repository failed, or the archive was interrupted.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// Archives. A file that is damaged is left out and told, and the rest goes on. But a file of more
/// than a window is begun before all of it was read: if it turns out to be damaged then, the
/// archive ends with [`Error::Damaged`], for no format can take back what was written.
pub fn archive(
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    options: &ArchiveOptions,
    sink: &mut dyn Sink,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> std::result::Result<ArchiveReport, ArchiveError> {
    monitor.phase(Phase::Planning);
    let selected = select::select(reader, snapshot, options)?;
    let rules = plan::Rules {
        links: sink.holds_hard_links(),
        holds: Kind::ALL.map(|kind| sink.holds(kind)),
        window: options.window,
        filter: options.filter.clone(),
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let requests = reader.repository().storage().concurrency();
    let threads = match options.threads {
        0 => cores.max(requests).clamp(2, 16),
        threads => threads,
    };
    monitor.phase(Phase::Archive);
    let mut emitter = emit::Emitter::new(sink, monitor, interrupt, selected.total);
    let (send, receive) = bounded(0);
    std::thread::scope(|scope| {
        let (selected, rules) = (&selected, &rules);
        let planner = scope.spawn(move || {
            plan::plan(reader, selected, rules, &mut |window: plan::Window| {
                let mut blobs = reader.read_many(&window.wanted, threads)?;
                let is_fatal = |blob: &Result<_>| blob.as_ref().is_err_and(|e| !is_local(e));
                let fatal = blobs.iter().find(|(_, blob)| is_fatal(blob)).map(|(id, _)| *id);
                if let Some(Err(error)) = fatal.and_then(|id| blobs.remove(&id)) {
                    return Err(error);
                }
                // Nobody listens: the other side has failed and says so.
                send.send((window, blobs)).map_err(|_| Error::Interrupted)
            })
        });
        let mut written = Ok(());
        for (window, blobs) in &receive {
            written = emitter.window(window, &blobs);
            if written.is_err() {
                break;
            }
        }
        drop(receive);
        let planned = planner.join().unwrap_or_else(|_| Err(Error::Worker("planner".into())));
        written?;
        Ok::<_, ArchiveError>(planned?)
    })?;
    reader.healed_notes().iter().for_each(|note| monitor.note(note));
    Ok(emitter.into_report())
}

/// Whether an error concerns what was to be read alone, or the place that it was to have.
fn is_local(error: &Error) -> bool {
    error.is_local() || matches!(error, Error::Usage(_))
}
