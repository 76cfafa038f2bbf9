//! What the threads of a restore share: options, counters, failures, the wish to stop, and the
//! buffers that each of them works with.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::compress::Decompressor;
use crate::destination::{Destination, DestinationErrorKind as D};
use crate::error::chain_text;
use crate::format::snapshot::Sum;
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::BlobReader;
use crate::repo::reader::is_gone;
use crate::storage::StorageErrorKind as S;
use crate::{Error, Result};

use super::{LISTED_FAILURES, RestoreOptions, RestoreReport};

/// Largest chunk of the default chunker: what a thread needs beside its read buffer.
const PLAIN: usize = 4 << 20;

/// Progress is told this often.
const TICK: Duration = Duration::from_millis(200);

/// Directories remembered by what became of them. Beyond, they are treated as unknown, which
/// costs time and nothing else.
const REMEMBERED: usize = 1 << 20;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Paths of directories, so that all below them is treated alike.
#[derive(Debug, Default)]
pub(super) struct PathSet(RwLock<HashSet<[u8; 16]>>);

impl PathSet {
    fn key(path: &[u8]) -> [u8; 16] {
        blake3::hash(path).as_bytes().first_chunk::<16>().copied().unwrap_or_default()
    }

    pub(super) fn insert(&self, path: &[u8]) {
        let mut set = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if set.len() < REMEMBERED {
            set.insert(Self::key(path));
        }
    }

    /// Whether `path` or a directory above it is in the set.
    pub(super) fn covers(&self, path: &[u8]) -> bool {
        let set = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if set.is_empty() {
            return false;
        }
        let mut ends = path.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at);
        set.contains(&Self::key(b""))
            || ends.any(|end| set.contains(&Self::key(path.get(..end).unwrap_or_default())))
            || set.contains(&Self::key(path))
    }
}

/// What one thread works with.
#[derive(Debug, Default)]
pub(super) struct Worker {
    /// The destination path at hand.
    pub(super) path: Vec<u8>,
    pub(super) sealed: Vec<u8>,
    pub(super) plain: Vec<u8>,
    pub(super) decompressor: Decompressor,
    pub(super) report: RestoreReport,
    /// Entries and bytes done since the last flush.
    done: (u64, u64),
}

impl Worker {
    /// Counts entries and bytes done; now and then they reach the monitor.
    pub(super) fn done(&mut self, run: &Run<'_>, entries: u64, bytes: u64) {
        self.done.0 += entries;
        self.done.1 += bytes;
        if self.done.0 >= 64 || self.done.1 >= 4 << 20 {
            self.flush(run);
        }
    }

    pub(super) fn flush(&mut self, run: &Run<'_>) {
        let mut tally = lock(&run.tally);
        tally.report.merge(&std::mem::take(&mut self.report));
        let (entries, bytes) = std::mem::take(&mut self.done);
        tally.progress.files += entries;
        tally.progress.bytes += bytes;
        if tally.told.elapsed() < TICK {
            return;
        }
        tally.told = Instant::now();
        let progress = tally.progress;
        drop(tally);
        run.monitor.progress(&progress, &self.path);
    }
}

#[derive(Debug)]
struct Tally {
    report: RestoreReport,
    progress: Progress,
    told: Instant,
}

/// A restore that is running.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) reader: &'a BlobReader<'a>,
    pub(super) options: &'a RestoreOptions,
    pub(super) destination: &'a dyn Destination,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    pub(super) threads: usize,
    /// Longest read, in bytes.
    pub(super) read_max: u64,
    /// Directories that this run made where nothing was: nothing can stand below them.
    pub(super) fresh: PathSet,
    /// Directories that could not be made, or stay what they are: nothing goes below them.
    pub(super) blocked: PathSet,
    /// Numbers of packs that would be read, if they are to be listed.
    pub(super) packs: Mutex<BTreeSet<u32>>,
    tally: Mutex<Tally>,
    stop: AtomicBool,
    fatal: Mutex<Option<Error>>,
    workers: Mutex<Vec<Worker>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        reader: &'a BlobReader<'a>,
        options: &'a RestoreOptions,
        destination: &'a dyn Destination,
        monitor: &'a dyn Monitor,
        interrupt: &'a Interrupt,
        total: Option<Sum>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let requests = reader.repository().storage().concurrency();
        let writes = destination.concurrency();
        // Each thread holds a read buffer and a plain blob.
        let most = (options.memory / (PLAIN + (1 << 20))).max(1);
        let threads = match options.threads {
            0 => cores.max(requests).max(writes).min(most).min(64),
            threads => threads,
        };
        // Near storage needs no long reads, and short ones stay in the processor's cache.
        let longest = if requests <= cores.max(4) { 2 << 20 } else { 16 << 20 };
        let room = (options.memory / threads.max(1)).saturating_sub(PLAIN).max(1 << 20);
        let progress = Progress {
            total_files: total.map(|sum| sum.entries()),
            total_bytes: total.map(|sum| sum.bytes),
            ..Progress::default()
        };
        Self {
            reader,
            options,
            destination,
            monitor,
            interrupt,
            threads,
            read_max: room.min(longest) as u64,
            fresh: PathSet::default(),
            blocked: PathSet::default(),
            packs: Mutex::default(),
            tally: Mutex::new(Tally {
                report: RestoreReport::default(),
                progress,
                told: Instant::now(),
            }),
            stop: AtomicBool::new(false),
            fatal: Mutex::default(),
            workers: Mutex::default(),
        }
    }

    /// Whether to stop: something failed for good, or the user asked to.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.interrupt.is_raised()
    }

    /// Stops the whole restore.
    pub(super) fn stop(&self, error: Error) {
        lock(&self.fatal).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Records that the path (absolute, at the origin) could not be restored, or stops if all
    /// others would fail as well.
    pub(super) fn fail(&self, origin: &[u8], error: Error) {
        if concerns_all(&error) {
            return self.stop(error);
        }
        self.note_lack(&error);
        self.fail_because(origin, chain_text(&error));
    }

    /// Records whether the repository is to blame for an error.
    pub(super) fn note_lack(&self, error: &Error) {
        if matches!(error, Error::Damaged { .. }) || is_gone(error) {
            lock(&self.tally).report.lacking = true;
        }
    }

    /// Records that the path could not be restored.
    pub(super) fn fail_because(&self, origin: &[u8], reason: String) {
        self.monitor.problem(&String::from_utf8_lossy(origin), &reason);
        let mut tally = lock(&self.tally);
        tally.report.failures += 1;
        if tally.report.failed.len() < LISTED_FAILURES {
            tally.report.failed.push((origin.to_vec(), reason));
        }
    }

    /// Runs `work` on up to `useful` threads, each with a worker of its own.
    pub(super) fn parallel(&self, useful: usize, work: impl Fn(&mut Worker) + Sync) {
        let one = || {
            let mut worker = lock(&self.workers).pop().unwrap_or_default();
            work(&mut worker);
            worker.flush(self);
            lock(&self.workers).push(worker);
        };
        let threads = self.threads.min(useful);
        if threads <= 1 {
            return one();
        }
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            for handle in handles {
                if handle.join().is_err() {
                    self.stop(Error::Worker("a restoring thread".into()));
                }
            }
        });
    }

    /// Ends the run.
    pub(super) fn into_report(self) -> Result<RestoreReport> {
        if let Some(error) = lock(&self.fatal).take() {
            return Err(error);
        }
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let tally = self.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.monitor.progress(&tally.progress, b"");
        let mut report = tally.report;
        for number in self.packs.into_inner().unwrap_or_else(PoisonError::into_inner) {
            report.packs.extend(self.reader.index().pack(number)?.map(|pack| pack.id));
        }
        Ok(report)
    }
}

/// Whether an error met at one path would be met at all others: better to stop than to list
/// thousands of failures.
pub(super) fn concerns_all(error: &Error) -> bool {
    match error {
        Error::Destination(e) => matches!(e.kind, D::NoSpace | D::Unreachable),
        Error::Storage(e) => !matches!(e.kind, S::NotFound | S::Io),
        Error::Interrupted | Error::Worker(_) | Error::DamagedCache { .. } => true,
        _ => false,
    }
}
