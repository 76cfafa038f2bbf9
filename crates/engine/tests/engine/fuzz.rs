//! Every decoder against mutants of real objects: none panics, and none takes much memory. In the
//! default set this is a fixed number of inputs; `HOLDFAST_FUZZ_SECONDS` makes it longer.
//! `HOLDFAST_FUZZ_CORPUS` names a directory to which the inputs are written, for `fuzz/`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{back_up, blobs, repository};
use holdfast_engine::bundle::BundleBuilder;
use holdfast_engine::compress::{Compressor, Level, raw};
use holdfast_engine::crypto::{BlobKind, ObjectKind};
use holdfast_engine::format::envelope;
use holdfast_engine::format::index::Segment;
use holdfast_engine::format::snapshot::Note;
use holdfast_engine::format::tree::ChunkList;
use holdfast_engine::fuzz::{TARGETS, table_of};
use holdfast_engine::parity::Encoder;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::storage::{Folder, ObjectName, Storage};
use holdfast_testkit::clock::text_bytes;
use holdfast_testkit::{Budget, MemoryStorage, MemoryTree, fuzz_for};
use prost::Message;

type Corpus = BTreeMap<&'static str, Vec<Vec<u8>>>;

fn tree() -> MemoryTree {
    let mut tree = MemoryTree::new();
    for i in 0..60_u64 {
        tree.file(format!("d{}/f{i}", i % 7), text_bytes(i, 40 * i as usize));
    }
    tree.file("big", text_bytes(1, 200_000)).symlink("link", "big").hard_link("other", "big");
    tree.sparse_file("sparse", 300_000, &[(4096, vec![1; 4096])]);
    tree
}

fn open(repository: &Repository, kind: ObjectKind, name: &ObjectName) -> Vec<u8> {
    let bytes = repository.storage().get(name).expect("get");
    let bound = if kind == ObjectKind::Index { "index" } else { name.as_str() };
    envelope::open(repository.keys(), repository.id(), kind, bound, bytes).expect("open")
}

/// Real objects, in the form in which each decoder takes them.
fn corpus(storage: &MemoryStorage, repository: &Repository) -> Corpus {
    let mut corpus = Corpus::new();
    let mut add = |target, bytes| corpus.entry(target).or_default().push(bytes);
    add("config", storage.get(&ObjectName::config()).expect("config"));
    for name in storage.names_in(Folder::Keys) {
        add("key slot", storage.get(&name).expect("slot"));
    }
    for name in storage.names_in(Folder::Index) {
        add("envelope", storage.get(&name).expect("segment"));
        let message = open(repository, ObjectKind::Index, &name);
        for pack in Segment::decode(&message[..]).expect("segment").packs {
            add("directory", pack.directory.expect("directory").encode_to_vec());
        }
        add("index table", table_of(&message));
        add("segment", message);
    }
    for name in storage.names_in(Folder::Snapshots) {
        add("snapshot", open(repository, ObjectKind::Snapshot, &name));
    }
    for name in storage.names_in(Folder::Sessions) {
        add("records", open(repository, ObjectKind::Session, &name));
    }
    for name in storage.names() {
        add("object name", name.as_str().as_bytes().to_vec());
    }
    let index = Index::load(repository, &Default::default()).expect("index");
    let reader = BlobReader::new(repository, &index);
    for (id, place) in &blobs(&index) {
        let plain = reader.read(place.kind, id).expect("blob");
        match place.kind {
            BlobKind::Node => add("node", plain),
            BlobKind::Totals => add("totals", plain),
            BlobKind::Bundle => add("bundle", [&id.as_bytes()[..], &plain].concat()),
            BlobKind::ChunkList => add("chunk list", plain),
            BlobKind::Chunk | BlobKind::Attributes => {}
        }
    }
    for pack in storage.names_in(Folder::Packs) {
        let bytes = storage.get(&pack).expect("pack");
        if bytes.len() < 60_000 {
            add("trailer", bytes);
        }
    }
    // Small ones made for the purpose: mutants of big inputs seldom hit what matters.
    let mut bundle = BundleBuilder::default();
    for content in [&b"one"[..], b"two", b""] {
        bundle.add(content, repository.keys().member_hash(content));
    }
    let (id, bytes) = bundle.finish(repository.keys());
    add("bundle", [&id.as_bytes()[..], &bytes].concat());
    let list = ChunkList { level: 0, ids: vec![7; 96], lengths: vec![1, 300, 70_000] };
    add("chunk list", list.encode_to_vec());
    add("chunker", text_bytes(5, 5000));
    add("chunker", [&[0][..], &[7; 3000]].concat());
    let note = Note { time: 1, add_tags: vec!["a".into()], pinned: Some(true), ..Note::default() };
    add("note", note.encode_to_vec());
    let mut parity = Encoder::new(1);
    parity.update(&text_bytes(9, 3000));
    add("parity", parity.finish().expect("parity"));
    for level in [Level::None, Level::default()] {
        let (plain, mut frame) = (text_bytes(3, 3000), Vec::new());
        if !Compressor::new(level).shrink(&plain, &mut frame) {
            frame = raw(plain);
        }
        add("frame", [&3000_u32.to_le_bytes()[..], &frame].concat());
    }
    corpus
}

fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Writes inputs for `fuzz/`: the target's number comes first.
fn write_corpus(directory: &Path, target: u8, inputs: &[Vec<u8>]) {
    for (number, input) in inputs.iter().enumerate() {
        let path = directory.join(format!("{target:02}-{number}"));
        std::fs::write(path, [&[target][..], input].concat()).expect("write the corpus");
    }
}

#[test]
fn decoders_take_any_bytes() {
    let storage = MemoryStorage::new();
    let repository = repository(storage.clone());
    back_up(&repository, &tree(), 1);
    let corpus = corpus(&storage, &repository);
    let before = peak_memory();
    for (number, (name, target)) in (0..).zip(TARGETS) {
        let inputs = corpus.get(name).cloned().unwrap_or_default();
        if let Some(directory) = std::env::var_os("HOLDFAST_FUZZ_CORPUS") {
            write_corpus(directory.as_ref(), number, &inputs);
        }
        // Mutants of nothing would test the first check of a decoder only.
        assert!(!inputs.is_empty(), "no input for {name}");
        let run = |bytes: &[u8]| target(repository.keys(), repository.id(), bytes);
        fuzz_for(Budget::from_env_or(30_000), 11, &inputs, &run);
    }
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 256 << 10, "decoders took {grown} KiB");
}
