//! Tables by themselves: what goes in comes out, many equal ids, and memory.

use super::super::build::{Batch, merge};
use super::super::segment::ReadPack;
use super::super::table::{Table, decode_line, encode_line};
use super::*;
use crate::format::pack::Line;

fn line(id: BlobId, ordinal: u32) -> Line {
    let (kind, offset, sealed, plain) = (BlobKind::Chunk, 80 + ordinal * 20, 20, 9);
    Line { id, kind, ordinal, offset, sealed, plain, members: 0, hollow: false }
}

fn segment(number: u64, lines: Vec<Line>) -> ReadSegment {
    let id = ObjectId::new(*blake3::hash(&number.to_le_bytes()).as_bytes());
    let pack = ReadPack { id, size: 1000, header: [1; HEADER_LEN], lines };
    ReadSegment { id, supersedes: Vec::new(), packs: vec![pack], problems: Vec::new() }
}

fn store() -> Store {
    Store::memory(Arc::new(Keys::derive(&RootKey::new([1; 32]))), RepositoryId::default())
}

#[test]
fn lines_keep_all_they_say() {
    for kind in BlobKind::ALL {
        for hollow in [false, true] {
            let (pack, ordinal, offset) = (u32::MAX, 7, u32::MAX - 1);
            let (sealed, plain, members) = (5, 6, super::super::table::MAX_MEMBERS);
            let place = Place { pack, ordinal, offset, sealed, plain, members, hollow, kind };
            let id = blob(ordinal.into());
            assert_eq!(decode_line(&encode_line(&id, &place)), Some((id, place)));
        }
    }
}

#[test]
fn copies_and_ids_that_begin_alike_may_fill_pages() {
    // Ids that differ at their end only, and one with copies over several pages.
    let alike = |n: u64| {
        let mut bytes = [7; 32];
        bytes[24..].copy_from_slice(&n.to_be_bytes());
        BlobId::new(bytes)
    };
    let (mut batch, many) = (Batch::default(), 300);
    for number in 0..many {
        let before = (0..2).map(|n| blob(number * 2 + n));
        let ids = before.chain([alike(number), alike(1000)]);
        let lines = (0..).zip(ids).map(|(ordinal, id)| line(id, ordinal)).collect();
        batch.add(&segment(number, lines), true);
    }
    let table = batch.finish(&store()).expect("table");
    let places = |id: &BlobId| {
        let mut packs = Vec::new();
        let mut each = |place: Place| {
            packs.push(place.pack);
            false
        };
        table.visit(id, &mut each).expect("visit");
        packs
    };
    for number in 0..many {
        assert_eq!(places(&alike(number)), [number as u32]);
        assert_eq!(places(&blob(number)), [number as u32 / 2]);
    }
    assert_eq!(places(&alike(1000)), (0..many as u32).collect::<Vec<_>>());
    for missing in
        [alike(999), alike(1001), blob(999), BlobId::new([0; 32]), BlobId::new([255; 32])]
    {
        assert!(places(&missing).is_empty());
    }
    let mut seen = 0;
    let stopped = table.visit(&alike(1000), &mut |_| {
        seen += 1;
        seen == 100
    });
    assert!(stopped.expect("visit") && seen == 100);
}

#[test]
fn three_million_lines_take_little_memory() {
    let folder = tempfile::tempdir().expect("folder");
    let options = CreateOptions { cache: Some(folder.path().into()), ..CreateOptions::default() };
    let repository = create(Arc::new(Memory::default()), options).expect("create");
    let store = Store::scratch(&repository);
    let (packs, per_pack) = (3000_u64, 1000);
    let tables: Vec<_> = (0..6)
        .map(|part| {
            let mut batch = Batch::default();
            for n in (0..packs).filter(|n| n % 6 == part) {
                let lines = (0..per_pack).map(|at| line(blob(n * per_pack + at), at as u32));
                batch.add(&segment(n, lines.collect()), true);
            }
            Arc::new(batch.finish(&store).expect("table"))
        })
        .collect();
    assert!(tables.iter().all(|table| table.backing().is_file()));
    let merged = merge(&store, &tables, &|_| true, &|_| true);
    let merged = Arc::new(merged.ok().expect("merged"));
    let states = vec![State::Usable; packs as usize];
    let index = Index::new(store, vec![merged], vec![states], (packs, packs * per_pack));
    let index = index.expect("index");
    for number in (0..packs * per_pack).step_by(173) {
        let place = index.find(&blob(number)).expect("find").expect("there");
        assert_eq!(u64::from(place.ordinal), number % per_pack);
        assert!(index.find(&blob(number + (1 << 40))).expect("find").is_none());
    }
    // 168 MB of lines. Pages that are kept are most of it.
    let memory = index.memory_used();
    assert!(memory < 6 << 20, "{memory} bytes");
    let table: &Table = &index.loaded[0].table;
    assert!(table.memory_used() < 1 << 20, "{} bytes", table.memory_used());
}

#[test]
fn packs_of_a_listing_are_found() {
    for count in [0, 1, 2, 31, 32, 1000, 40_000] {
        let id = |n: u64| pack(n, &[], false).object_id().expect("id");
        let listing = PackListing::new((0..count).map(|n| (id(n), n)).collect());
        for n in (0..count).step_by(1 + count as usize / 1000) {
            assert_eq!(listing.size(&id(n)), Some(n), "{n} of {count}");
        }
        for n in count..count + 100 {
            assert_eq!(listing.size(&id(n)), None, "{n} of {count}");
        }
    }
    let edges = [ObjectId::new([0; 32]), ObjectId::new([255; 32])];
    let listing = PackListing::new(edges.map(|id| (id, 7)).into());
    assert_eq!(edges.map(|id| listing.size(&id)), [Some(7); 2]);
}
