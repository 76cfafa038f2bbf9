//! Writing blobs: a few threads compress, two more seal and pack, and finished packs are made
//! durable and indexed. What is on its way is bounded in bytes.
//!
//! ```text
//! put() ─▶ compress (one a core) ─▶ pack data ─▶ finish ─▶ index segment
//!                                └▶ pack trees ─▶ finish ┘   (and beside each: hash)
//! ```

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use prost::Message;

use crate::compress::{self, Compressor, Level};
use crate::crypto::{BlobKind, ObjectKind, TAG_LEN};
use crate::format::index::{IndexedPack, Segment};
use crate::format::{envelope, padme};
use crate::hash::{BlobId, ObjectId, Sha256};
use crate::parity::Encoder;
use crate::storage::{ObjectName, StorageError, StorageErrorKind, Upload};
use crate::{Error, Result};

use super::Repository;
use super::index::Index;
use budget::Budget;
use finish::{Finish, Finishing};
use pack::{Hasher, OpenPack};

mod budget;
mod copy;
mod finish;
mod options;
mod pack;

pub use copy::{Copied, CopiedContent};
pub use options::WriterOptions;

/// Packs after which an index segment is written.
const PACKS_PER_SEGMENT: usize = 64;

/// Blobs in them after which one is written: very small blobs must not fill the memory.
const BLOBS_PER_SEGMENT: usize = 128 << 10;

/// Time after which one is written in any case.
const SEGMENT_INTERVAL: Duration = Duration::from_secs(300);

/// More than what a pack of one blob has beside it.
const OVERHEAD: usize = 1024;

/// Capacities of buffers that are kept for the next blob.
const KEPT: (usize, usize) = (128 << 10, 2 << 20);

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Blobs.
    pub blobs: u64,
    /// Their plain bytes.
    pub plain: u64,
    /// Bytes of packs.
    pub stored: u64,
    /// Packs.
    pub packs: u64,
}

/// A poisoned lock means that a thread panicked; the data under it is still whole here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bit for each pack.
fn bits(count: u32) -> Vec<AtomicU64> {
    (0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()
}

fn bit(bits: &[AtomicU64], number: u32) -> bool {
    let word = bits.get(number as usize / 64).map_or(0, |word| word.load(Ordering::Relaxed));
    word >> (number % 64) & 1 == 1
}

struct Blob {
    kind: BlobKind,
    id: BlobId,
    members: u32,
    hollow: bool,
    plain: Vec<u8>,
}

enum Job {
    Blob(Blob),
    Stop,
}

struct Frame {
    kind: BlobKind,
    id: BlobId,
    members: u32,
    hollow: bool,
    plain: u32,
    bytes: Vec<u8>,
}

enum PackJob {
    Frame(Frame),
    /// Ends the open pack and answers when all before it is durable.
    Close(Sender<()>),
    Stop,
}

/// Writes blobs. Shared between the threads of an operation; see [`with_writer`].
pub struct BlobWriter<'a> {
    repository: &'a Repository,
    index: &'a Index,
    options: WriterOptions,
    jobs: Sender<Job>,
    packers: [Sender<PackJob>; 2],
    budget: Budget,
    /// Blobs that are claimed, or put, and not in a pack yet.
    waiting: (Mutex<u64>, Condvar),
    /// Shut while a flush waits: nobody claims anything then.
    gate: RwLock<()>,
    claimed: [Mutex<HashSet<BlobId>>; 16],
    used: Vec<AtomicU64>,
    /// Packs that are on their way out, and that nothing may be found in any more; of those known
    /// when the index was loaded.
    left: Vec<AtomicU64>,
    unindexed: Mutex<(Vec<IndexedPack>, Instant)>,
    /// Whether packs get parity; asked when the first one is begun.
    parity: Mutex<Option<bool>>,
    /// Segments are written one after the other.
    segments: Mutex<()>,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    buffers: Mutex<Vec<Vec<u8>>>,
    counters: [AtomicU64; 4],
}

impl std::fmt::Debug for BlobWriter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobWriter({:?})", self.options)
    }
}

/// Runs `body` with a writer. What it has put is durable and indexed after a
/// [`flush`](BlobWriter::flush); whatever was put and not flushed may be lost.
pub fn with_writer<R>(
    repository: &Repository,
    index: &Index,
    options: WriterOptions,
    body: impl FnOnce(&BlobWriter<'_>) -> Result<R>,
) -> Result<R> {
    let threads = options.threads.max(1);
    let (jobs, job_queue) = bounded::<Job>(256);
    let (data, data_queue) = bounded::<PackJob>(64);
    let (trees, tree_queue) = bounded::<PackJob>(64);
    let writer = BlobWriter {
        repository,
        index,
        options,
        jobs,
        packers: [data, trees],
        budget: Budget::new(options.budget),
        waiting: (Mutex::new(0), Condvar::new()),
        gate: RwLock::new(()),
        claimed: Default::default(),
        used: bits(index.loaded_end()),
        left: bits(index.loaded_end()),
        unindexed: Mutex::new((Vec::new(), Instant::now())),
        parity: Mutex::new(options.parity),
        segments: Mutex::default(),
        failed: AtomicBool::new(false),
        failure: Mutex::new(None),
        buffers: Mutex::default(),
        counters: Default::default(),
    };
    let writer = &writer;
    let result = std::thread::scope(|scope| {
        // Whatever happens to the body, the threads end, or the scope would wait for ever.
        let _stop = StopAll { writer, threads };
        for _ in 0..threads {
            let queue = job_queue.clone();
            scope.spawn(move || writer.compress_all(&queue));
        }
        let kinds = [(ObjectKind::DataPack, data_queue), (ObjectKind::TreePack, tree_queue)];
        let hint = options.uploads(repository.storage().uploads());
        for (kind, queue) in kinds {
            // What waits is held open, where uploads are kept in memory all of it.
            let waiting = if hint.longest.is_some() { 0 } else { 2 };
            let (finishing, finish) = Finishing::new(waiting);
            for _ in 0..hint.at_once.max(1) {
                let finish = finish.clone();
                scope.spawn(move || writer.finish_all(&finish));
            }
            let (hasher, hashed) = Hasher::new();
            scope.spawn(move || {
                hashed.work(|bytes, plain| {
                    writer.recycle(bytes);
                    writer.done(plain);
                });
            });
            scope.spawn(move || writer.pack_all(kind, &queue, &hasher, &finishing));
        }
        drop(job_queue);
        body(writer)
    });
    match lock(&writer.failure).take() {
        Some(failure) => Err(failure),
        None => result,
    }
}

struct StopAll<'a, 'b> {
    writer: &'a BlobWriter<'b>,
    threads: usize,
}

impl Drop for StopAll<'_, '_> {
    fn drop(&mut self) {
        for _ in 0..self.threads {
            let _ = self.writer.jobs.send(Job::Stop);
        }
        for packer in &self.writer.packers {
            let _ = packer.send(PackJob::Stop);
        }
    }
}

impl<'a> BlobWriter<'a> {
    /// Whether a usable copy of the blob is stored already or on its way. If not, the caller has
    /// claimed it, and must put it.
    pub fn known_or_claim(&self, id: &BlobId) -> bool {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let Some(shard) = self.claims(id) else { return true };
        if !lock(shard).insert(*id) {
            return true;
        }
        // Only now: a claim is given up when the index has the blob, not before.
        let stored = self.find(id);
        if stored {
            lock(shard).remove(id);
        } else {
            *lock(&self.waiting.0) += 1;
        }
        stored
    }

    fn claims(&self, id: &BlobId) -> Option<&Mutex<HashSet<BlobId>>> {
        let [first, ..] = *id.as_bytes();
        self.claimed.get(usize::from(first % 16))
    }

    /// Whether a usable copy is stored already. If so, its pack counts as used by this session.
    /// If that cannot be told, the writer stops, and nothing is committed.
    pub fn is_stored(&self, id: &BlobId) -> bool {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        self.find(id)
    }

    /// The same, with the gate held: between finding a pack and noting that it is used nobody may
    /// leave it.
    fn find(&self, id: &BlobId) -> bool {
        let stays = |pack| !bit(&self.left, pack);
        let place = match self.index.find_in(id, &stays) {
            Ok(Some(place)) => place,
            Ok(None) => return false,
            Err(error) => {
                self.fail(error);
                return true;
            }
        };
        if let Some(word) = self.used.get(place.pack as usize / 64) {
            word.fetch_or(1 << (place.pack % 64), Ordering::Relaxed);
        }
        true
    }

    /// Stores a blob that was claimed. Waits while too much is on its way.
    pub fn put(&self, kind: BlobKind, id: BlobId, members: u32, plain: Vec<u8>) -> Result<()> {
        if !self.budget.acquire(plain.len(), &self.failed) {
            return Err(self.stopped());
        }
        let blob = Blob { kind, id, members, hollow: false, plain };
        self.jobs.send(Job::Blob(blob)).map_err(|_| self.stopped())
    }

    /// Identifies and, if it is new, stores a blob of structure; its id.
    pub fn put_structure(&self, kind: BlobKind, plain: Vec<u8>) -> Result<BlobId> {
        let id = self.repository.keys().blob_id(kind, &plain);
        if !self.known_or_claim(&id) {
            self.put(kind, id, 0, plain)?;
        }
        Ok(id)
    }

    /// Waits until all that was claimed is put and durable, and indexes it. Other threads may go
    /// on meanwhile: whoever finds a blob claimed by now may refer to it afterwards.
    pub fn flush(&self) -> Result<()> {
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = lock(&self.waiting.0);
        while *waiting > 0 && !self.failed.load(Ordering::Relaxed) {
            let wait = self.waiting.1.wait_timeout(waiting, Duration::from_millis(100));
            waiting = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(waiting);
        // Both kinds at once: the storage may be far away.
        let close = |packer: &Sender<PackJob>| {
            let (done, finished) = bounded(1);
            packer.send(PackJob::Close(done)).map_err(|_| self.stopped())?;
            Ok::<_, Error>(finished)
        };
        let [data, trees] = self.packers.each_ref().map(close);
        for finished in [data?, trees?] {
            finished.recv().map_err(|_| self.stopped())?;
        }
        if self.failed.load(Ordering::Relaxed) {
            return Err(self.stopped());
        }
        self.write_segment()
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        let [blobs, plain, stored, packs] =
            self.counters.each_ref().map(|c| c.load(Ordering::Relaxed));
        Written { blobs, plain, stored, packs }
    }

    /// A buffer to fill and put; taken from those that came back.
    pub fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    /// Gives back a buffer that was not put.
    pub fn recycle(&self, mut buffer: Vec<u8>) {
        // Fresh memory costs a page fault every 4 KiB; but what is kept must stay little.
        let mut kept = lock(&self.buffers);
        if kept.len() < 6 && (KEPT.0..=KEPT.1).contains(&buffer.capacity()) {
            buffer.clear();
            kept.push(buffer);
        }
    }

    /// The error that stopped the writer stays for [`with_writer`] to return.
    fn stopped(&self) -> Error {
        Error::Worker("the writer failed".into())
    }

    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    fn done(&self, plain: usize) {
        self.budget.release(plain);
        *lock(&self.waiting.0) -= 1;
        self.waiting.1.notify_all();
    }

    fn compress_all(&self, queue: &Receiver<Job>) {
        let mut compressor = Compressor::new(self.options.level);
        let mut output = Vec::new();
        // Tree nodes are always compressed, else a repository without compression would grow by
        // their size every day.
        let mut structure = match self.options.level {
            Level::None => Some(Compressor::new(Level::default())),
            Level::Zstd(_) => None,
        };
        while let Ok(Job::Blob(blob)) = queue.recv() {
            let Blob { kind, id, members, hollow, plain } = blob;
            let length = plain.len();
            if self.failed.load(Ordering::Relaxed) {
                self.done(length);
                continue;
            }
            let compressor = match &mut structure {
                Some(structure) if kind.is_structure() => structure,
                _ => &mut compressor,
            };
            let bytes = if compressor.shrink(&plain, &mut output) {
                self.recycle(plain);
                // What waits in a queue takes no more room than it needs.
                let mut bytes = Vec::with_capacity(output.len() + TAG_LEN);
                bytes.extend_from_slice(&output);
                bytes
            } else {
                compress::raw(plain)
            };
            let frame = Frame { kind, id, members, hollow, plain: length as u32, bytes };
            let [data, trees] = &self.packers;
            let packer = if kind.is_structure() { trees } else { data };
            if packer.send(PackJob::Frame(frame)).is_err() {
                self.done(length);
            }
        }
    }

    fn pack_all<'s>(
        &'s self,
        kind: ObjectKind,
        queue: &Receiver<PackJob>,
        hasher: &Hasher,
        finishing: &Finishing<'s>,
    ) {
        let mut open: Option<OpenPack<'s>> = None;
        while let Ok(job) = queue.recv() {
            match job {
                PackJob::Frame(frame) => {
                    let length = frame.plain as usize;
                    let packed = match self.failed.load(Ordering::Relaxed) {
                        true => Err(self.stopped()),
                        false => self.pack_one(kind, &mut open, frame, hasher, finishing),
                    };
                    // Else it is done when it is hashed.
                    if let Err(error) = packed {
                        open = None;
                        self.fail(error);
                        self.done(length);
                    }
                }
                PackJob::Close(done) => {
                    if let Some(pack) = open.take()
                        && let Err(error) = self.close(pack, finishing)
                    {
                        self.fail(error);
                    }
                    finishing.wait();
                    let _ = done.send(());
                }
                PackJob::Stop => break,
            }
        }
    }

    fn pack_one<'s>(
        &'s self,
        kind: ObjectKind,
        open: &mut Option<OpenPack<'s>>,
        frame: Frame,
        hasher: &Hasher,
        finishing: &Finishing<'s>,
    ) -> Result<()> {
        let target = match kind {
            ObjectKind::DataPack => self.repository.config().data_pack,
            _ => self.repository.config().tree_pack,
        };
        let hint = self.options.uploads(self.repository.storage().uploads());
        let target = target.min(hint.longest.unwrap_or(u32::MAX));
        // A pack ends before the target: just beyond it, Padmé would add 3 %.
        let full = |pack: &OpenPack<'_>| pack.length_with(&frame) > u64::from(target);
        if open.as_ref().is_some_and(full)
            && let Some(pack) = open.take()
        {
            self.close(pack, finishing)?;
        }
        let mut pack = match open.take() {
            Some(pack) => pack,
            None => {
                let longest = frame.bytes.len().saturating_add(OVERHEAD).max(target as usize);
                let parity = self.wants_parity()?.then(|| Encoder::new(padme(longest as u64)));
                OpenPack::start(self.repository, kind, &frame.id, parity, hasher)?
            }
        };
        let [blobs, plain, ..] = &self.counters;
        blobs.fetch_add(1, Ordering::Relaxed);
        plain.fetch_add(u64::from(frame.plain), Ordering::Relaxed);
        pack.add(frame)?;
        *open = Some(pack);
        Ok(())
    }

    fn wants_parity(&self) -> Result<bool> {
        let mut known = lock(&self.parity);
        match *known {
            Some(wants) => Ok(wants),
            None => Ok(*known.insert(self.repository.settings()?.wants_parity())),
        }
    }

    fn close<'s>(&self, pack: OpenPack<'s>, finishing: &Finishing<'s>) -> Result<()> {
        let min_size = match pack.kind {
            ObjectKind::DataPack => self.repository.config().data_pack_min,
            _ => self.repository.config().data_pack_min.min(1),
        };
        let (upload, indexed, parity) = pack.close(min_size)?;
        if finishing.send(upload, indexed, parity) { Ok(()) } else { Err(self.stopped()) }
    }

    fn finish_all(&self, queue: &Receiver<Finish<'_>>) {
        while let Ok(mut finish) = queue.recv() {
            let pack = std::mem::take(&mut *finish.pack);
            if let Err(error) = self.finish_one(finish.upload, pack, finish.parity) {
                self.fail(error);
            }
        }
    }

    fn finish_one(
        &self,
        upload: Box<dyn Upload + '_>,
        indexed: IndexedPack,
        parity: Option<Encoder>,
    ) -> Result<()> {
        let id = ObjectId::from_slice(&indexed.id).unwrap_or_default();
        ok_if_exists(upload.finish(&ObjectName::pack(id)))?;
        if let Some(parity) = parity.and_then(Encoder::finish) {
            ok_if_exists(self.repository.storage().put(&ObjectName::parity(id), &parity))?;
        }
        let [.., stored, packs] = &self.counters;
        stored.fetch_add(indexed.size, Ordering::Relaxed);
        packs.fetch_add(1, Ordering::Relaxed);
        // Under one lock: a segment lists packs in the order in which the index got them.
        let mut unindexed = lock(&self.unindexed);
        self.index.add(&indexed)?;
        let ids = indexed.directory.iter().flat_map(|directory| directory.ids.chunks_exact(32));
        for id in ids.filter_map(BlobId::from_slice) {
            if let Some(shard) = self.claims(&id) {
                lock(shard).remove(&id);
            }
        }
        unindexed.0.push(indexed);
        let blobs: usize =
            unindexed.0.iter().filter_map(|p| Some(p.directory.as_ref()?.len())).sum();
        let due = unindexed.0.len() >= PACKS_PER_SEGMENT
            || blobs >= BLOBS_PER_SEGMENT
            || unindexed.1.elapsed() > SEGMENT_INTERVAL;
        drop(unindexed);
        if due { self.write_segment() } else { Ok(()) }
    }

    fn write_segment(&self) -> Result<()> {
        let _one_at_a_time = lock(&self.segments);
        let packs = {
            let mut unindexed = lock(&self.unindexed);
            unindexed.1 = Instant::now();
            std::mem::take(&mut unindexed.0)
        };
        if packs.is_empty() {
            return Ok(());
        }
        let segment = Segment { supersedes: Vec::new(), packs };
        match put_segment(self.repository, &segment) {
            Ok(id) => self.index.segment_written(id, &segment),
            Err(error) => {
                // A run goes on after a renewal that failed: the next segment has to list these
                // packs, in the order in which the index got them.
                lock(&self.unindexed).0.splice(0..0, segment.packs);
                Err(error)
            }
        }
    }
}

/// Seals and stores an index segment; its name.
pub(crate) fn put_segment(repository: &Repository, segment: &Segment) -> Result<ObjectId> {
    let salt = repository.salt(b"index")?;
    let bytes = envelope::seal(
        repository.keys(),
        repository.id(),
        ObjectKind::Index,
        &salt,
        "index",
        &segment.encode_to_vec(),
    )?;
    let id = Sha256::of(&bytes);
    ok_if_exists(repository.storage().put(&ObjectName::index(id), &bytes))?;
    Ok(id)
}

/// An object named by its content that is there already is there.
fn ok_if_exists(result: std::result::Result<(), StorageError>) -> Result<()> {
    match result {
        Err(e) if e.kind == StorageErrorKind::AlreadyExists => Ok(()),
        other => Ok(other?),
    }
}
