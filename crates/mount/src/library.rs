//! The repository as it is now: the snapshots that fit, looked for again when somebody looks at
//! them, and blobs through an index that is read again when one has moved.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use holdfast_app::times;
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::error::chain_text;
use holdfast_engine::hash::{BlobId, SnapshotId};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::repo::reader::{OpenBundle, is_gone};
use holdfast_engine::repo::snapshots::Filter;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::{Error, Result};

use crate::cache::Cache;
use crate::pages::Page;
use crate::shelves::Shelves;

/// How old what is known of the snapshots may be when somebody looks at a list of them, and how
/// long after an index that did not help the next one is read.
const FRESH: Duration = Duration::from_secs(5);

/// Hears of what goes wrong while the file system is in use. Called from several threads.
pub trait Events: Send + Sync + fmt::Debug {
    /// A file or directory (`SNAPSHOT:/path`) cannot be read, or not all of it.
    fn unreadable(&self, what: &str, why: &str);
    /// Something else that should be looked into.
    fn trouble(&self, message: &str);
}

/// How many bytes what was read may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Content of files.
    pub content: usize,
    /// Nodes of trees; as much again what is read of them.
    pub nodes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { content: 160 << 20, nodes: 48 << 20 }
    }
}

impl Memory {
    /// How to use `bytes` in all.
    pub fn within(bytes: usize) -> Self {
        // What the reader keeps takes as much as the nodes.
        Self { content: bytes / 2, nodes: bytes / 4 }
    }
}

/// Content of a file, as it is kept.
#[derive(Debug)]
pub(crate) enum Piece {
    Chunk(Vec<u8>),
    Bundle(Arc<OpenBundle>),
}

/// The repository, and what was read of it.
#[derive(Debug)]
pub(crate) struct Library {
    repository: Arc<Repository>,
    filter: Filter,
    /// Read anew when snapshots appear and when a blob is not where it was.
    reader: RwLock<Arc<BlobReader<'static>>>,
    /// When a newer index did not help.
    in_vain: Mutex<Option<Instant>>,
    shelves: Mutex<(Arc<Shelves>, Instant)>,
    /// Snapshots of which it was told that they cannot be read.
    told: Mutex<HashSet<SnapshotId>>,
    pub(crate) pages: Cache<BlobId, Page>,
    pub(crate) pieces: Cache<BlobId, Piece>,
    events: Arc<dyn Events>,
    unreadable: AtomicU64,
    begun: i64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Library {
    /// The snapshots that fit `filter`; without one, none is listed.
    pub(crate) fn new(
        repository: Repository,
        filter: Option<Filter>,
        memory: Memory,
        events: Arc<dyn Events>,
    ) -> Result<Self> {
        let repository = Arc::new(repository);
        let reader = RwLock::new(load(&repository, memory.nodes, &*events)?);
        let (mut snapshots, mut told) = (Vec::new(), HashSet::new());
        if filter.is_some() {
            let (all, notes) = repository.snapshots_with_notes()?;
            tell_lost(&notes, &mut told, &*events);
            snapshots = all;
        }
        let filter = filter.unwrap_or_default();
        let shelves = Arc::new(Shelves::new(snapshots, &filter));
        let now = Instant::now();
        Ok(Self {
            repository,
            filter,
            reader,
            in_vain: Mutex::default(),
            shelves: Mutex::new((shelves, now)),
            told: Mutex::new(told),
            pages: Cache::new(memory.nodes),
            pieces: Cache::new(memory.content),
            events,
            unreadable: AtomicU64::new(0),
            begun: times::now(),
        })
    }

    /// When it began, in nanoseconds since the epoch: the time of what is in no snapshot.
    pub(crate) fn begun(&self) -> i64 {
        self.begun
    }

    /// How many requests at once serve the storage well.
    pub(crate) fn concurrency(&self) -> usize {
        self.repository.storage().concurrency()
    }

    /// Says that something cannot be read.
    pub(crate) fn tell_unreadable(&self, what: &str, why: &str) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
        self.events.unreadable(what, why);
    }

    /// How often something could not be read.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// The snapshots, looked for again if that was some time ago. Where they cannot be listed now,
    /// those that were known stay.
    pub(crate) fn shelves(&self) -> Arc<Shelves> {
        let mut kept = lock(&self.shelves);
        if kept.1.elapsed() < FRESH {
            return kept.0.clone();
        }
        let newest = self.repository.snapshots_with_notes().and_then(|(snapshots, notes)| {
            tell_lost(&notes, &mut lock(&self.told), &*self.events);
            let newest = kept.0.renewed(snapshots, &self.filter);
            if newest.has_more_than(&kept.0) {
                self.renew()?;
            }
            Ok(newest)
        });
        match newest {
            Ok(newest) => kept.0 = Arc::new(newest),
            Err(error) => self.events.trouble(&format!(
                "the snapshots cannot be listed now, those that were known stay: {}",
                chain_text(&error)
            )),
        }
        kept.1 = Instant::now();
        kept.0.clone()
    }

    fn reader(&self) -> Arc<BlobReader<'static>> {
        self.reader.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the index again.
    fn renew(&self) -> Result<Arc<BlobReader<'static>>> {
        let reader = load(&self.repository, self.pages.room(), &*self.events)?;
        self.tell_healed();
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = reader.clone();
        Ok(reader)
    }

    /// Says what was read of damaged packs that their parity healed.
    pub(crate) fn tell_healed(&self) {
        self.reader().healed_notes().iter().for_each(|note| self.events.trouble(note));
    }

    /// Reads something. Whoever reads holds no lease: a gc may have moved a blob since the index
    /// was read, so that it is read again before a blob is called missing.
    pub(crate) fn reading<T>(&self, read: impl Fn(&BlobReader<'static>) -> Result<T>) -> Result<T> {
        let reader = self.reader();
        let error = match read(&reader) {
            Err(error) if is_gone(&error) => error,
            other => return other,
        };
        // One thread reads it for all that met the same gc.
        let mut in_vain = lock(&self.in_vain);
        let newest = self.reader();
        if !Arc::ptr_eq(&reader, &newest) {
            drop(in_vain);
            return read(&newest);
        }
        if in_vain.is_some_and(|then| then.elapsed() < FRESH) {
            return Err(error);
        }
        let result = read(&*self.renew()?);
        if result.as_ref().is_err_and(is_gone) {
            *in_vain = Some(Instant::now());
        }
        result
    }

    /// A chunk of a file.
    pub(crate) fn chunk(&self, id: &BlobId) -> Result<Arc<Piece>> {
        self.pieces.get(*id, || {
            let bytes = self.reading(|reader| reader.read(BlobKind::Chunk, id))?;
            let cost = bytes.capacity();
            Ok((Piece::Chunk(bytes), cost))
        })
    }

    /// A copy of a bundle that has this member.
    pub(crate) fn bundle(&self, id: &BlobId, number: u32) -> Result<Arc<OpenBundle>> {
        let piece = self.pieces.get(*id, || {
            let bundle = self.reading(|reader| reader.bundle(id, number))?;
            let cost = bundle.bytes().len();
            Ok((Piece::Bundle(bundle), cost))
        })?;
        match &*piece {
            Piece::Bundle(bundle) if bundle.member(number).is_ok() => Ok(bundle.clone()),
            // Of a bundle there may be several copies that lack different members.
            Piece::Bundle(_) => self.reading(|reader| reader.bundle(id, number)),
            Piece::Chunk(_) => Err(Error::damaged("entry", "its bundle is a chunk")),
        }
    }
}

/// Says of each snapshot that cannot be read so, once.
fn tell_lost(notes: &Notes, told: &mut HashSet<SnapshotId>, events: &dyn Events) {
    for (id, problem) in notes.lost() {
        if told.insert(id) {
            events.trouble(&format!("{}; going on without it", chain_text(problem)));
        }
    }
}

/// A reader with the index as it is now, which keeps at most so many bytes.
fn load(
    repository: &Arc<Repository>,
    memory: usize,
    events: &dyn Events,
) -> Result<Arc<BlobReader<'static>>> {
    let (index, problems) = Index::load_readable(repository)?;
    for problem in problems {
        events.trouble(&format!("{}; going on with the rest", chain_text(&problem)));
    }
    Ok(Arc::new(BlobReader::shared(repository.clone(), index).within(memory)))
}
