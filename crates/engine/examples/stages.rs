//! What a first backup costs the processor at least: chunking or bundling, hashing, zstd and sealing
//! of a tree that is in memory already, by threads that share nothing. No disk, no tree, no index,
//! no order. `stages DIRECTORY [THREADS]` prints the seconds of each stage and of all together;
//! `bench/run` tells what a backup makes of that.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_engine::bundle::BundleBuilder;
use holdfast_engine::chunker::{Chunker, Params};
use holdfast_engine::compress::{Compressor, Level};
use holdfast_engine::crypto::{BlobKind, Keys, ObjectKind, RootKey};
use holdfast_engine::format::config::Config;
use holdfast_engine::format::envelope::Header;
use holdfast_engine::hash::{RepositoryId, Sha256};

const STAGES: [&str; 4] = ["cut", "hash", "zstd", "seal"];

/// What a thread does at once: a file to cut, or small files that become a bundle.
enum Work {
    File(Vec<u8>),
    Bundle(Vec<Vec<u8>>),
}

#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let root = words.next().ok_or("usage: stages DIRECTORY [THREADS]")?;
    let cores = std::thread::available_parallelism()?.get();
    let threads = words.next().map_or(Ok(cores), |word| word.parse())?;
    let config = Config::with_defaults([1; 32], 0);
    let work = read(Path::new(&root), &config)?;
    let next = AtomicUsize::new(0);
    let all = Mutex::new(([Duration::ZERO; 4], 0_u64, 0_u64));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..threads {
            let (work, next, all, config) = (&work, &next, &all, &config);
            scope.spawn(move || {
                let mut one = Stages::new(config, number as u8);
                while let Some(work) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one.run(work);
                }
                let mut all = all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                all.0.iter_mut().zip(one.took).for_each(|(sum, took)| *sum += took);
                all.1 += one.bytes;
                all.2 += one.stored;
            });
        }
    });
    let wall = start.elapsed();
    let (took, bytes, stored) = all.into_inner().map_err(|_| "a thread died")?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{:.1} MiB, {:.1} MiB as stored, {threads} threads", mib(bytes), mib(stored));
    for (name, took) in STAGES.iter().zip(took) {
        println!("{name}: {:.2} s of processor time", took.as_secs_f64());
    }
    println!("all: {:.2} s, {:.0} MiB/s", wall.as_secs_f64(), mib(bytes) / wall.as_secs_f64());
    Ok(())
}

/// The files of a tree in the order in which a backup meets them, into memory.
fn read(root: &Path, config: &Config) -> std::io::Result<Vec<Work>> {
    let mut work = Vec::new();
    let (mut small, mut length) = (Vec::new(), 0);
    let mut pending: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(directory)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                pending.push(entry.path());
            }
            if !kind.is_file() {
                continue;
            }
            let bytes = std::fs::read(entry.path())?;
            if bytes.len() >= config.bundle_below as usize {
                work.push(Work::File(bytes));
            } else if bytes.len() > config.inline_up_to as usize {
                length += bytes.len();
                small.push(bytes);
                if length >= config.bundle_avg as usize {
                    work.push(Work::Bundle(std::mem::take(&mut small)));
                    length = 0;
                }
            }
        }
    }
    if !small.is_empty() {
        work.push(Work::Bundle(small));
    }
    Ok(work)
}

/// One thread's.
struct Stages {
    keys: Keys,
    chunker: Chunker,
    compressor: Compressor,
    cipher: holdfast_engine::crypto::ObjectCipher,
    name: Sha256,
    frame: Vec<u8>,
    ordinal: u64,
    took: [Duration; 4],
    bytes: u64,
    stored: u64,
}

impl Stages {
    fn new(config: &Config, number: u8) -> Self {
        let keys = Keys::derive(&RootKey::new([7; 32]));
        let repository = RepositoryId::new([1; 32]);
        let (_, cipher) = Header::create(&keys, &repository, ObjectKind::DataPack, &[number; 32]);
        let params = Params::new(config.chunk_min, config.chunk_avg, config.chunk_max);
        Self {
            chunker: Chunker::new(keys.chunker(), params.unwrap_or_default()),
            keys,
            compressor: Compressor::new(Level::default()),
            cipher,
            name: Sha256::default(),
            frame: Vec::new(),
            ordinal: 0,
            took: [Duration::ZERO; 4],
            bytes: 0,
            stored: 0,
        }
    }

    fn run(&mut self, work: &Work) {
        match work {
            Work::File(bytes) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let start = Instant::now();
                    let cut = self.chunker.next_cut(rest, true).unwrap_or(rest.len());
                    let (chunk, after) = rest.split_at(cut);
                    self.note(0, start);
                    let start = Instant::now();
                    std::hint::black_box(self.keys.blob_id(BlobKind::Chunk, chunk));
                    self.note(1, start);
                    self.store(chunk);
                    self.bytes += chunk.len() as u64;
                    rest = after;
                }
            }
            Work::Bundle(files) => {
                let start = Instant::now();
                let mut bundle = BundleBuilder::default();
                for file in files {
                    bundle.add(file, self.keys.member_hash(file));
                    self.bytes += file.len() as u64;
                }
                let (_, bytes) = bundle.finish(&self.keys);
                self.note(1, start);
                self.store(&bytes);
            }
        }
    }

    fn store(&mut self, plain: &[u8]) {
        let start = Instant::now();
        if !self.compressor.shrink(plain, &mut self.frame) {
            self.frame.clear();
            self.frame.extend_from_slice(plain);
        }
        self.note(2, start);
        let start = Instant::now();
        let sealed = self.cipher.seal(self.ordinal, &[], &mut self.frame);
        assert!(sealed.is_ok(), "sealing failed");
        self.ordinal += 1;
        // The name of a pack is the hash of what is in it.
        self.name.update(&self.frame);
        self.note(3, start);
        self.stored += self.frame.len() as u64;
    }

    fn note(&mut self, stage: usize, start: Instant) {
        if let Some(took) = self.took.get_mut(stage) {
            *took += start.elapsed();
        }
    }
}
