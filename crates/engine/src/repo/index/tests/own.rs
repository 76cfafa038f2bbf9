//! What a run stores: found at once, settled in tables, numbered for good.

use super::*;

/// Adds packs of 50 blobs to an index and, after every fourth, writes a segment.
fn store(world: &mut World, index: &Index, packs: std::ops::Range<u64>) {
    let mut waiting = Vec::new();
    for n in packs {
        let blobs: Vec<u64> = (n * 50..n * 50 + 50).collect();
        let pack = pack(n, &blobs, false);
        index.add(&pack).expect("add");
        waiting.push(pack);
        if n % 4 == 3 {
            let packs = std::mem::take(&mut waiting);
            let id = world.add(packs.clone(), &[]);
            let segment = Segment { supersedes: Vec::new(), packs };
            index.segment_written(id, &segment).expect("written");
        }
    }
}

#[test]
fn what_is_stored_is_found_and_keeps_its_number() {
    for cache in [true, false] {
        let mut world = World::new(Limits { settled: 500, ..Limits::default() });
        store(&mut world, &Index::from_segments(&[], Vec::new()).expect("index"), 0..8);
        let store_of = |world: &World| match cache {
            true => world.store(),
            false => world.store().in_memory(),
        };
        let index = Index::load_into(&world.repository, &BTreeSet::new(), &|| store_of(&world));
        let index = index.expect("load");
        assert_eq!((index.loaded_end(), index.end()), (8, 8));
        let mut numbers = Vec::new();
        for step in 0..25 {
            let from = 8 + step * 4;
            store(&mut world, &index, from..from + 4);
            let number_of = |n: u64| index.find(&blob(n * 50 + 7)).expect("find").expect("there");
            numbers.extend((from..from + 4).map(|n| number_of(n).pack));
            assert_eq!(numbers, (8..from as u32 + 4).collect::<Vec<_>>());
            for (n, number) in (8..).zip(&numbers) {
                assert_eq!(number_of(n).pack, *number);
                let found = index.pack(*number).expect("pack").expect("pack");
                assert_eq!(Some(found.id), pack(n, &[], false).object_id());
                assert!(found.usable && index.is_usable(*number));
            }
        }
        assert!(index.own().settled.len() <= 6, "{} tables", index.own().settled.len());
        let memory = index.own().memory_used();
        assert!(memory < 300_000, "{memory} bytes for what is not settled");
        // Packs with their lines, of all places where they can be.
        store(&mut world, &index, 108..112);
        let wanted: Vec<u32> = (8..112).step_by(3).collect();
        let mut seen = Vec::new();
        let mut check = |group: Vec<PackLines>| {
            for one in group {
                let first = u64::from(one.number) * 50;
                let ids: Vec<_> = one.lines.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids, (first..first + 50).map(blob).collect::<Vec<_>>());
                assert!(one.lines.iter().all(|(_, place)| place.pack == one.number));
                seen.push(one.number);
            }
            Ok(())
        };
        index.packs_with_lines(&wanted, 700, &mut check).expect("lines");
        assert_eq!(seen, wanted);
        drop(index);
        if cache {
            world.memory.lock().fetched = 0;
            world.compare(&world.load().expect("load"), 5600);
            let fetched = world.memory.lock().fetched;
            assert!(fetched < 12, "{fetched} segments read that this run wrote itself");
            assert_eq!(world.fetches(), 0);
        }
    }
}

#[test]
fn a_settled_table_that_is_damaged_is_an_error() {
    let mut world = World::new(Limits { settled: 500, ..Limits::default() });
    let index = world.load().expect("load");
    store(&mut world, &index, 0..100);
    for path in world.files() {
        let mut bytes = std::fs::read(&path).expect("read");
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        // In place: the file that is open changes.
        std::fs::write(&path, bytes).expect("write");
    }
    let results: Vec<_> = (0..5000).map(|number| index.find(&blob(number))).collect();
    assert!(results.iter().any(Result::is_err));
    assert!(results.into_iter().flatten().all(|found| found.is_some()), "a wrong answer");
    world.compare(&world.load().expect("load"), 5000);
}
