//! The index of a hundred million blobs: fifty tebibytes in chunks of half a mebibyte. Long, and
//! it takes about 11 GB below `TMPDIR`. `HOLDFAST_BLOBS` makes it smaller, `HOLDFAST_NEW_BLOBS` the
//! backup of very many new ones; with `HOLDFAST_GC_ALONE` nothing comes between opening and gc, as in a
//! process of its own; `HOLDFAST_LATENCY` is how many milliseconds each answer of the storage
//! takes.
//! `cargo test -p holdfast-engine --test engine index_scale -- --ignored --nocapture`

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_connectors::local::storage::LocalStorage;
use holdfast_engine::compress::Level;
use holdfast_engine::crypto::{BlobKind, ObjectKind};
use holdfast_engine::format::envelope::{self, Header};
use holdfast_engine::format::index::{IndexedPack, Segment};
use holdfast_engine::format::pack::Directory;
use holdfast_engine::hash::{BlobId, ObjectId, Sha256};
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::check::{CheckOptions, ReadData, check};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::open::{CreateOptions, OpenOptions, create, open};
use holdfast_engine::repo::session::{Session, Writer};
use holdfast_engine::repo::writer::{WriterOptions, with_writer};
use holdfast_engine::repo::{Index, Repository};
use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName, Storage, StorageResult, Upload};
use prost::Message;

use crate::check::rich_tree;
use crate::common::{assert_holds, back_up};

const BLOBS_PER_PACK: u64 = 64;
const PACKS_PER_SEGMENT: u64 = 64;
const PACK: u64 = 32 << 20;

/// A repository most of whose packs are only listed, and whose segments are made when they are read.
/// What is written to it goes into a folder, so that memory is that of the work alone.
#[derive(Debug, Clone)]
struct Made {
    stored: Arc<LocalStorage>,
    packs: u64,
    segments: Arc<HashMap<ObjectId, u64>>,
    keys: Option<Arc<Repository>>,
    fetched: Arc<AtomicUsize>,
    /// How long an answer takes.
    latency: Duration,
}

fn blob(number: u64) -> BlobId {
    BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn pack(number: u64) -> ObjectId {
    ObjectId::new(*blake3::hash(&number.to_be_bytes()).as_bytes())
}

fn segment(keys: &Repository, number: u64, packs: u64) -> Vec<u8> {
    let range = number * PACKS_PER_SEGMENT..((number + 1) * PACKS_PER_SEGMENT).min(packs);
    let packs = range.map(|number| {
        let mut directory = Directory::default();
        for n in number * BLOBS_PER_PACK..(number + 1) * BLOBS_PER_PACK {
            directory.push(&blob(n), BlobKind::Chunk, 500_000, 512 << 10, 0);
        }
        let (id, salt) = (pack(number).as_bytes().to_vec(), blake3::hash(&number.to_le_bytes()));
        let kind = ObjectKind::DataPack;
        let (header, _) = Header::create(keys.keys(), keys.id(), kind, salt.as_bytes());
        let (header, directory) = (header.to_vec(), Some(directory));
        IndexedPack { id, size: PACK, header, directory }
    });
    let message = Segment { supersedes: Vec::new(), packs: packs.collect() }.encode_to_vec();
    let salt = blake3::hash(&number.to_le_bytes());
    let (keys, id) = (keys.keys(), keys.id());
    envelope::seal(keys, id, ObjectKind::Index, salt.as_bytes(), "index", &message).expect("seal")
}

impl Storage for Made {
    fn location(&self) -> String {
        "made".into()
    }
    fn prepare(&self) -> StorageResult<()> {
        Ok(())
    }
    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.stored.put(name, bytes)
    }
    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        self.stored.upload()
    }
    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        std::thread::sleep(self.latency);
        let number = ObjectId::from_hex(name.base()).ok().and_then(|id| self.segments.get(&id));
        if let (Some(number), Some(keys)) = (number, &self.keys) {
            self.fetched.fetch_add(1, Ordering::Relaxed);
            return Ok(segment(keys, *number, self.packs));
        }
        self.stored.get(name)
    }
    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        std::thread::sleep(self.latency);
        self.stored.get_range(name, offset, length, into)
    }
    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        std::thread::sleep(self.latency);
        let mut tell = |name, size| each(ObjectInfo { name, size, modified: 0 });
        match folder {
            Folder::Packs => (0..self.packs).for_each(|n| tell(ObjectName::pack(pack(n)), PACK)),
            Folder::Index => {
                self.segments.keys().for_each(|id| tell(ObjectName::index(*id), 200 << 10));
            }
            _ => {}
        }
        self.stored.list(folder, each)
    }
    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.stored.stat(name)
    }
    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.stored.delete(name)
    }
    /// As the servers of S3 bear.
    fn concurrency(&self) -> usize {
        16
    }
}

/// Repository in `folder` with so many packs.
fn made(packs: u64, folder: &Path) -> (Made, Repository) {
    let stored = Arc::new(LocalStorage::new(folder.join("stored")));
    let keys = create(stored.clone(), CreateOptions::default()).expect("create");
    let name = |number| (Sha256::of(&segment(&keys, number, packs)), number);
    let segments: HashMap<_, _> = (0..packs.div_ceil(PACKS_PER_SEGMENT)).map(name).collect();
    let made = Made {
        stored,
        packs,
        segments: segments.into(),
        keys: Some(keys.into()),
        fetched: Arc::default(),
        latency: Duration::from_millis(number("HOLDFAST_LATENCY").unwrap_or(0)),
    };
    let options = OpenOptions { cache: Some(folder.join("cache")), ..OpenOptions::default() };
    let repository = open(Arc::new(made.clone()), options).expect("open");
    (made, repository)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

/// Runs a step; says how long it took, and fails if it took more than `most` MiB beside what steps
/// before it have left with the allocator: each would be a process of its own.
fn step<T>(name: &str, most: u64, run: impl FnOnce() -> T) -> T {
    // So that the peak is that of the step.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (start, before) = (Instant::now(), memory("RssAnon"));
    let result = run();
    let (peak, now) = (memory("VmHWM"), memory("RssAnon"));
    #[expect(clippy::print_stderr, reason = "figures are what this test is for")]
    {
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("{name}: {seconds:.1} s, peak {peak} MiB, private after it {now} MiB");
    }
    assert!(peak.saturating_sub(before) <= most, "{name}: {peak} MiB, {before} before it");
    result
}

#[test]
#[ignore = "long: a hundred million blobs"]
fn a_hundred_million_blobs_need_little_memory() {
    let blobs = number("HOLDFAST_BLOBS").unwrap_or(100_000_000);
    let folder = tempfile::tempdir().expect("folder");
    let packs = blobs / BLOBS_PER_PACK;
    let blobs = packs * BLOBS_PER_PACK;
    let (storage, repository) = made(packs, folder.path());
    step("listing", 192, || {
        let mut count = 0;
        storage.list(Folder::Packs, &mut |_| count += 1).expect("list");
        assert_eq!(count, packs);
    });
    let load = || Index::load(&repository, &BTreeSet::new()).expect("load");
    drop(step("first opening, nothing cached", 192, load));
    assert!(storage.fetched.load(Ordering::Relaxed) as u64 >= packs / PACKS_PER_SEGMENT);
    storage.fetched.store(0, Ordering::Relaxed);
    if number("HOLDFAST_GC_ALONE").is_some() {
        let run =
            || gc(&repository, &GcOptions::default(), &NoMonitor, &Interrupt::new(), &mut |_| {});
        let report = step("gc of all packs, alone", 512, run).expect("gc");
        assert_eq!((report.condemned.count, report.deleted.count), (packs, packs));
        return;
    }
    let index = step("opening", 192, load);
    assert_eq!(storage.fetched.load(Ordering::Relaxed), 0);
    assert_eq!((index.pack_count(), index.blob_count()), (packs, blobs));
    let scattered = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % blobs;
    step("100 000 blobs found", 128, || {
        for n in 0..100_000 {
            let number = scattered(n);
            let place = index.find(&blob(number)).expect("find").expect("there");
            assert_eq!(u64::from(place.ordinal), number % BLOBS_PER_PACK);
        }
    });
    step("100 000 blobs not found", 128, || {
        for n in 0..100_000 {
            assert!(index.find(&blob((1 << 50) + n)).expect("find").is_none());
        }
    });
    step("all blobs in order", 128, || {
        let mut count = 0;
        let mut add = |_, _| {
            count += 1;
            Ok(())
        };
        index.each_blob(&mut add).expect("blobs");
        assert_eq!(count, blobs);
    });
    let new = number("HOLDFAST_NEW_BLOBS").unwrap_or(blobs / 20).max(1);
    step("a backup of very many new blobs", 256, || {
        let dry = repository.without_writing();
        let options = WriterOptions {
            level: Level::None,
            threads: 2,
            budget: 8 << 20,
            ..WriterOptions::default()
        };
        let written = with_writer(&dry, &index, options, |writer| {
            for n in 0..new {
                let id = blob((1 << 40) + n);
                if !writer.known_or_claim(&id) {
                    writer.put(BlobKind::Chunk, id, 0, vec![1; 2000])?;
                }
            }
            writer.flush()?;
            Ok(writer.written())
        });
        assert_eq!(written.expect("written").blobs, new);
        assert!(index.find(&blob(1 << 40)).expect("find").is_some());
    });
    drop(index);
    let tree = rich_tree();
    let saved =
        step("a backup", 256, || back_up(&repository, &tree, 1).snapshot.expect("snapshot"));
    step("a backup without changes", 256, || back_up(&repository, &tree, 2));
    step("reading a snapshot back", 192, || assert_holds(&repository, saved, &tree));
    step("check", 512, || {
        let report = check(&repository, &CheckOptions::default(), &NoMonitor, &Interrupt::new());
        assert!(report.expect("check").blobs > blobs);
    });
    step("check --read-data of a part", 512, || {
        let read_data = ReadData::Subset { fraction: 1e-6, seed: 1 };
        let options = CheckOptions { read_data, ..CheckOptions::default() };
        let report = check(&repository, &options, &NoMonitor, &Interrupt::new());
        assert!(report.expect("check").blobs > blobs);
    });
    // Nearly all of it is of no use to the two snapshots.
    let plan = |dry_run| {
        let options = GcOptions { dry_run, ..GcOptions::default() };
        gc(&repository, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc")
    };
    let report = step("gc, only planned", 512, || plan(true));
    assert_eq!(report.plan.dead.count, packs);
    let session = step("a session", 192, || Session::begin(&repository, Writer::default()));
    let session = session.expect("session");
    let report = step("gc of all these packs, beside it", 512, || plan(false));
    assert_eq!((report.condemned.count, report.deleted.count), (packs, 0));
    step("a backup beside what is condemned", 256, || back_up(&repository, &tree, 3));
    session.end("done").expect("end");
    drop(session);
    let report = step("gc that deletes them", 512, || plan(false));
    assert_eq!((report.condemned.count, report.deleted.count), (0, packs));
    step("reading the snapshot back", 192, || assert_holds(&repository, saved, &tree));
}
