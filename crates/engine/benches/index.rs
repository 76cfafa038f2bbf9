//! Speed of lookups in the index: random ones, ones that miss, and the same few again and again.
//! `cargo bench -p holdfast-engine --bench index`; compare the fastest samples on a shared machine.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use holdfast_engine::crypto::BlobKind;
use holdfast_engine::format::index::{IndexedPack, Segment};
use holdfast_engine::format::pack::Directory;
use holdfast_engine::hash::{BlobId, ObjectId};
use holdfast_engine::repo::Index;

fn main() {
    divan::main();
}

fn id(number: u64) -> BlobId {
    BlobId::new(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn index(lines: u64) -> Index {
    let mut packs = Vec::new();
    for first in (0..lines).step_by(64) {
        let mut directory = Directory::default();
        for number in first..first + 64 {
            directory.push(&id(number), BlobKind::Chunk, 500_000, 512_000, 0);
        }
        let name = blake3::hash(&first.to_be_bytes()).as_bytes().to_vec();
        let header = vec![0; 80];
        packs.push(IndexedPack { id: name, size: 1 << 25, header, directory: Some(directory) });
    }
    let segment = Segment { supersedes: Vec::new(), packs };
    Index::from_segments(vec![(ObjectId::default(), segment)], |_| true).expect("index")
}

fn look_up(bencher: Bencher, lines: u64, wanted: impl Fn(u64) -> BlobId) {
    let index = index(lines);
    let ids: Vec<BlobId> = (0..4096).map(wanted).collect();
    bencher.counter(ItemsCount::new(ids.len())).bench_local(|| {
        for id in &ids {
            let _ = black_box(index.find(id));
        }
    });
}

#[divan::bench(args = [1 << 12, 1 << 16, 1 << 20])]
fn random(bencher: Bencher, lines: u64) {
    look_up(bencher, lines, |i| id(i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % lines));
}

#[divan::bench(args = [1 << 12, 1 << 16, 1 << 20])]
fn missing(bencher: Bencher, lines: u64) {
    look_up(bencher, lines, |i| id(i + (1 << 40)));
}

#[divan::bench(args = [1 << 12, 1 << 16, 1 << 20])]
fn same_few(bencher: Bencher, lines: u64) {
    look_up(bencher, lines, |i| id(i % 64));
}
