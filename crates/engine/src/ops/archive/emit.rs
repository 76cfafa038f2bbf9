//! Handing windows to the sink, in order. A file is begun only when what the window has of it could
//! be read.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::chain_text;
use crate::format::snapshot::Sum;
use crate::hash::BlobId;
use crate::meta::Kind;
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::many::{Loaded, LoadedBlobs};
use crate::tree::content::Placement;
use crate::tree::{Content, Entry};
use crate::{Error, Result};

use super::plan::{Item, Piece, Step, Window};
use super::{ArchiveError, ArchiveReport, LISTED_FAILURES, Member, Sink, is_local};

/// Progress is told this often.
const TICK: Duration = Duration::from_millis(200);

/// Where a file of several windows stands.
#[derive(Debug, Clone, Copy)]
enum Open {
    /// None is open.
    Nothing,
    /// It is being written.
    Writing(Placement),
    /// It was left out.
    Skipping,
}

/// Writes windows.
#[derive(Debug)]
pub(super) struct Emitter<'a> {
    sink: &'a mut dyn Sink,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    report: ArchiveReport,
    progress: Progress,
    told: Instant,
    open: Open,
    /// Names of files that were left out, so that their other names are too.
    failed: HashSet<Vec<u8>>,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        sink: &'a mut dyn Sink,
        monitor: &'a dyn Monitor,
        interrupt: &'a Interrupt,
        total: Option<Sum>,
    ) -> Self {
        let progress = Progress {
            total_files: total.map(|sum| sum.entries()),
            total_bytes: total.map(|sum| sum.bytes),
            ..Progress::default()
        };
        Self {
            sink,
            monitor,
            interrupt,
            report: ArchiveReport::default(),
            progress,
            told: Instant::now(),
            open: Open::Nothing,
            failed: HashSet::new(),
        }
    }

    pub(super) fn into_report(self) -> ArchiveReport {
        self.monitor.progress(&self.progress, b"");
        self.report
    }

    /// Writes a window with the blobs that were read for it.
    pub(super) fn window(
        &mut self,
        window: Window,
        blobs: &LoadedBlobs,
    ) -> std::result::Result<(), ArchiveError> {
        for step in window.steps {
            if self.interrupt.is_raised() {
                return Err(Error::Interrupted.into());
            }
            match step {
                Step::LeftOut => self.report.left_out += 1,
                Step::Failed(path, error) => self.fail(&path, &error),
                Step::Whole(item) => self.whole(&item)?,
                Step::File { item, pieces, begins, ends, failed } => {
                    let read = match failed {
                        Some(error) => Err(error),
                        None => check(&pieces, blobs),
                    };
                    self.pieces(&item, &pieces, blobs, (begins, ends), read)?;
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, path: &[u8], error: &Error) {
        let reason = chain_text(error);
        self.monitor.problem(&String::from_utf8_lossy(path), &reason);
        self.report.failures += 1;
        if self.report.failed.len() < LISTED_FAILURES {
            self.report.failed.push((path.to_vec(), reason));
        }
    }

    fn begin(&mut self, item: &Item) -> io::Result<()> {
        let Item { name, entry, xattrs, link_to, .. } = item;
        let link_to = link_to.as_deref();
        self.sink.begin(&Member { name, entry, xattrs, link_to })
    }

    fn done(&mut self, item: &Item) {
        match item.entry.metadata.kind {
            Kind::File => self.report.files += 1,
            Kind::Directory => self.report.directories += 1,
            _ => self.report.others += 1,
        }
        self.progress.files += 1;
        self.tell(&item.path);
    }

    fn tell(&mut self, path: &[u8]) {
        if self.told.elapsed() >= TICK {
            self.told = Instant::now();
            self.monitor.progress(&self.progress, path);
        }
    }

    /// A member with no stored content.
    fn whole(&mut self, item: &Item) -> std::result::Result<(), ArchiveError> {
        if item.link_to.as_ref().is_some_and(|first| self.failed.contains(first)) {
            let why = "it is another name of a file that could not be archived";
            self.fail(&item.path, &Error::Usage(why.into()));
            return Ok(());
        }
        let has_content = item.entry.metadata.kind == Kind::File && item.link_to.is_none();
        if has_content {
            let bytes = match &item.entry.content {
                Content::Inline(bytes) => &bytes[..],
                _ => &[],
            };
            // Its length can be told before it is begun.
            let placement = Placement::new(&item.entry);
            let mut trial = placement;
            let fits = trial
                .data(&item.entry, bytes, &mut |_| Ok(()))
                .and_then(|()| trial.finish(&item.entry, &mut |_| Ok(())))
                .and_then(|given| complete(&item.entry, given));
            if let Err(error) = fits {
                self.leave_out(item, &error);
                return Ok(());
            }
            self.begin(item)?;
            let placement = self.place(item, placement, bytes)?;
            self.finish(item, placement)?;
        } else {
            self.begin(item)?;
        }
        self.done(item);
        Ok(())
    }

    fn leave_out(&mut self, item: &Item, error: &Error) {
        self.fail(&item.path, error);
        self.failed.insert(item.name.clone());
    }

    fn pieces(
        &mut self,
        item: &Arc<Item>,
        pieces: &[Piece],
        blobs: &LoadedBlobs,
        (begins, ends): (bool, bool),
        read: Result<()>,
    ) -> std::result::Result<(), ArchiveError> {
        let read = match read {
            // What is there in full can be measured as well.
            Ok(()) if begins && ends => measure(item, pieces, blobs),
            other => other,
        };
        match read {
            Err(error) if !is_local(&error) => return Err(error.into()),
            Err(error) if begins => {
                self.leave_out(item, &error);
                self.open = if ends { Open::Nothing } else { Open::Skipping };
                return Ok(());
            }
            Err(error) => {
                if !matches!(self.open, Open::Skipping) {
                    let object = format!("content of {}", String::from_utf8_lossy(&item.path));
                    return Err(Error::damaged(object, chain_text(&error)).into());
                }
            }
            Ok(()) if begins => {
                self.begin(item)?;
                self.open = Open::Writing(Placement::new(&item.entry));
            }
            Ok(()) => {}
        }
        let Open::Writing(mut placement) = self.open else {
            self.open = if ends { Open::Nothing } else { Open::Skipping };
            return Ok(());
        };
        for piece in pieces {
            let bytes = bytes_of(piece, blobs)?;
            placement = self.place(item, placement, bytes)?;
            self.tell(&item.path);
        }
        self.open = Open::Writing(placement);
        if ends {
            self.open = Open::Nothing;
            self.finish(item, placement)?;
            self.done(item);
        }
        Ok(())
    }

    /// Hands over stored bytes, and the holes between them if the sink wants them.
    fn place(
        &mut self,
        item: &Item,
        mut placement: Placement,
        bytes: &[u8],
    ) -> std::result::Result<Placement, ArchiveError> {
        let skips = self.sink.skips_holes();
        let mut unwritten = None;
        let sink = &mut self.sink;
        let placed = placement.data(&item.entry, bytes, &mut |bytes| {
            if skips {
                return Ok(());
            }
            sink.data(bytes).map_err(|e| output(&mut unwritten, e))
        });
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        placed?;
        if skips && !bytes.is_empty() {
            self.sink.data(bytes)?;
        }
        self.report.bytes += bytes.len() as u64;
        self.progress.bytes += bytes.len() as u64;
        Ok(placement)
    }

    fn finish(
        &mut self,
        item: &Item,
        placement: Placement,
    ) -> std::result::Result<(), ArchiveError> {
        let skips = self.sink.skips_holes();
        let mut unwritten = None;
        let sink = &mut self.sink;
        let finished = placement.finish(&item.entry, &mut |bytes| {
            if skips {
                return Ok(());
            }
            sink.data(bytes).map_err(|e| output(&mut unwritten, e))
        });
        if let Some(error) = unwritten {
            return Err(error.into());
        }
        complete(&item.entry, finished?)?;
        Ok(self.sink.end()?)
    }
}

/// Keeps the sink's error, and gives one that ends what is under way.
fn output(kept: &mut Option<io::Error>, error: io::Error) -> Error {
    *kept = Some(error);
    Error::Interrupted
}

/// The same error once more: a blob may be part of several files.
fn again(id: &BlobId, error: &Error) -> Error {
    match error {
        Error::MissingBlob { id } => Error::MissingBlob { id: id.clone() },
        Error::Damaged { object, what } => Error::damaged(object, what),
        other => Error::damaged(format!("blob {}", id.short()), chain_text(other)),
    }
}

/// Whether all pieces could be read.
fn check(pieces: &[Piece], blobs: &LoadedBlobs) -> Result<()> {
    pieces.iter().try_for_each(|piece| bytes_of(piece, blobs).map(drop))
}

/// Whether the pieces are as much as the entry says.
fn measure(item: &Item, pieces: &[Piece], blobs: &LoadedBlobs) -> Result<()> {
    let mut placement = Placement::new(&item.entry);
    for piece in pieces {
        placement.data(&item.entry, bytes_of(piece, blobs)?, &mut |_| Ok(()))?;
    }
    complete(&item.entry, placement.finish(&item.entry, &mut |_| Ok(()))?)
}

/// A header has told the size. A file that changed while it was backed up is no exception.
fn complete(entry: &Entry, given: u64) -> Result<()> {
    if given == entry.metadata.size {
        return Ok(());
    }
    let name = entry.name.escape_ascii();
    Err(Error::damaged(format!("content of {name}"), "it is not as long as its entry says"))
}

/// The bytes of a piece, checked against what the tree says of them.
fn bytes_of<'b>(piece: &Piece, blobs: &'b LoadedBlobs) -> Result<&'b [u8]> {
    let (Piece::Chunk(id, _) | Piece::Member(id, ..)) = piece;
    let missing = || Error::MissingBlob { id: id.to_string() };
    let loaded = match blobs.get(id) {
        Some(Ok(loaded)) => &**loaded,
        Some(Err(error)) => return Err(again(id, error)),
        None => return Err(missing()),
    };
    match (piece, loaded) {
        (Piece::Chunk(_, length), Loaded::Chunk(bytes)) if bytes.len() == *length as usize => {
            Ok(bytes)
        }
        (Piece::Member(_, number, hash), Loaded::Bundle(bundle)) => {
            let (bytes, found) = bundle.member_and_hash(*number)?;
            if found != *hash {
                return Err(Error::damaged(
                    "entry",
                    "its bundle holds something else in its place",
                ));
            }
            Ok(bytes)
        }
        _ => Err(Error::damaged("entry", "a chunk is not as long as it says")),
    }
}
