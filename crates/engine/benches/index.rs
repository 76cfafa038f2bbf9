//! Speed of lookups in the index: random ones, ones that miss, and the same few again and again.
//! `cargo bench -p holdfast-engine --bench index`; compare the fastest samples on a shared machine.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use holdfast_engine::crypto::{BlobKind, ObjectKind};
use holdfast_engine::format::envelope;
use holdfast_engine::format::index::{IndexedPack, Segment};
use holdfast_engine::format::pack::Directory;
use holdfast_engine::hash::{BlobId, Sha256};
use holdfast_engine::repo::Index;
use holdfast_engine::repo::open::{CreateOptions, create};
use holdfast_engine::storage::ObjectName;
use holdfast_testkit::MemoryStorage;
use prost::Message;

/// Where the tables are, and how many lines they have.
const CASES: [(&str, u64); 6] = [
    ("cache", 1 << 12),
    ("cache", 1 << 16),
    ("cache", 1 << 20),
    ("memory", 1 << 12),
    ("memory", 1 << 16),
    ("memory", 1 << 20),
];

/// Bytes of a pack of 64 blobs.
const PACK: u64 = 80 + 64 * 40;

fn main() {
    divan::main();
}

fn id(number: u64) -> BlobId {
    BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// An index of so many lines: in the cache, or in memory if there is none.
fn index(lines: u64, cache: Option<&Path>) -> Index {
    let storage = MemoryStorage::new();
    let options = CreateOptions { cache: cache.map(Path::to_owned), ..CreateOptions::default() };
    let repository = create(Arc::new(storage.clone()), options).expect("create");
    for part in (0..lines).step_by(1 << 12) {
        let mut packs = Vec::new();
        for first in (part..part + (1 << 12)).step_by(64) {
            let mut directory = Directory::default();
            for number in first..first + 64 {
                directory.push(&id(number), BlobKind::Chunk, 40, 51_200, 0);
            }
            let name = blake3::hash(&first.to_be_bytes()).as_bytes().to_vec();
            let header = vec![0; 80];
            packs.push(IndexedPack { id: name, size: PACK, header, directory: Some(directory) });
        }
        for pack in &packs {
            let name = ObjectName::pack(pack.object_id().expect("id"));
            storage.plant(&name, vec![0; PACK as usize]);
        }
        let message = Segment { supersedes: Vec::new(), packs }.encode_to_vec();
        let salt = blake3::hash(&part.to_le_bytes());
        let (keys, repository) = (repository.keys(), repository.id());
        let kind = ObjectKind::Index;
        let sealed = envelope::seal(keys, repository, kind, salt.as_bytes(), "index", &message);
        let sealed = sealed.expect("seal");
        storage.plant(&ObjectName::index(Sha256::of(&sealed)), sealed);
    }
    Index::load(&repository, &BTreeSet::new()).expect("index")
}

fn look_up(bencher: Bencher, kind: &str, lines: u64, wanted: impl Fn(u64) -> BlobId) {
    let folder = tempfile::tempdir().expect("folder");
    let index = index(lines, (kind == "cache").then_some(folder.path()));
    let ids: Vec<BlobId> = (0..4096).map(wanted).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| {
        for id in &ids {
            let _ = black_box(index.find(id));
        }
    });
}

#[divan::bench(args = CASES)]
fn random(bencher: Bencher, (kind, lines): (&str, u64)) {
    look_up(bencher, kind, lines, |i| id(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % lines));
}

#[divan::bench(args = CASES)]
fn missing(bencher: Bencher, (kind, lines): (&str, u64)) {
    look_up(bencher, kind, lines, |i| id(i + (1 << 40)));
}

#[divan::bench(args = CASES)]
fn same_few(bencher: Bencher, (kind, lines): (&str, u64)) {
    look_up(bencher, kind, lines, |i| id(i % 64));
}
