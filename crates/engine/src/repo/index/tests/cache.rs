//! The cache folder: shared, damaged, deleted, read-only, full, absent.

use std::time::{Duration, SystemTime};

use super::super::page::PAGE;
use super::*;

fn world(segments: u64) -> World {
    let limits = Limits { small: 0, ..Limits::default() };
    let mut world = World::new(limits);
    for n in 0..segments {
        add(&mut world, n);
    }
    world
}

/// Adds a segment with a pack of 100 blobs.
fn add(world: &mut World, n: u64) -> ObjectId {
    let blobs: Vec<u64> = (n * 100..n * 100 + 100).collect();
    world.add(vec![pack(n, &blobs, false)], &[])
}

#[test]
fn a_segment_is_read_once_and_tables_stay_few() {
    let mut world = world(0);
    for n in 0..200 {
        add(&mut world, n);
        assert_eq!(world.fetches(), 1, "the new one");
        assert!(world.files().len() <= 8, "{} tables", world.files().len());
    }
    let index = world.load().expect("load");
    world.compare(&index, 20_000);
    assert!(world.files().len() > 1, "not all is written again each time");
}

#[test]
fn tables_that_are_half_dead_are_written_again() {
    let mut world = world(0);
    let old: Vec<_> = (0..40).map(|n| add(&mut world, n)).collect();
    world.load().expect("load");
    let size = |world: &World| -> u64 {
        world.files().iter().map(|path| path.metadata().expect("file").len()).sum()
    };
    let before = size(&world);
    let kept: Vec<_> = old.iter().take(4).flat_map(|id| world.segments[id].packs.clone()).collect();
    world.add(kept, &old);
    let index = world.load().expect("load");
    world.compare(&index, 4000);
    assert!(size(&world) < before / 4, "{} of {before} bytes", size(&world));
    // Superseded segments are known, and not read again.
    assert_eq!(world.fetches(), 0);
    for id in &old {
        world.remove(id);
    }
    assert_eq!(world.fetches(), 0);
    world.compare(&world.load().expect("load"), 4000);
}

#[test]
fn a_superseding_segment_that_goes_brings_back_what_it_replaced() {
    let mut world = world(3);
    let old = world.live();
    let by = world.add(Vec::new(), &old);
    world.compare(&world.load().expect("load"), 300);
    world.remove(&by);
    let index = world.load().expect("load");
    world.compare(&index, 300);
    assert_eq!(index.blob_count(), 300);
    assert_eq!(world.fetches(), 0);
}

#[test]
fn one_wrong_byte_is_never_a_wrong_answer() {
    let world = world(30);
    world.load().expect("load");
    let [file] = &world.files()[..] else { panic!("one table") };
    let whole = std::fs::read(file).expect("read");
    assert!(whole.len() > 40 * PAGE);
    let damages = (0..whole.len()).step_by(1021).flat_map(|at| [(at, true), (at, false)]);
    for (at, is_flip) in damages {
        let mut bytes = whole.clone();
        match is_flip {
            true => bytes[at] ^= 1 << (at % 8),
            false => bytes.truncate(at),
        }
        std::fs::write(file, &bytes).expect("write");
        // What is needed at once is read from the storage again.
        let index = world.load().expect("load");
        let mut told = false;
        for number in 0..3100 {
            match index.find(&blob(number)) {
                Ok(found) => assert_eq!(found.is_some(), number < 3000, "byte {at}"),
                Err(error) => {
                    assert!(matches!(error, Error::DamagedCache { removed: true, .. }));
                    told = true;
                }
            }
        }
        told |= index.pack(0).is_err();
        assert_eq!(told, told && !file.exists(), "byte {at}");
        world.compare(&world.load().expect("load"), 0);
        for path in world.files() {
            std::fs::remove_file(path).expect("remove");
        }
    }
}

#[test]
fn damage_that_a_merge_meets_is_put_right_at_once() {
    let mut world = world(30);
    world.load().expect("load");
    let [file] = &world.files()[..] else { panic!("one table") };
    let mut bytes = std::fs::read(file).expect("read");
    let at = bytes.len() - 3 * PAGE;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).expect("write");
    // As many lines again, so that the damaged table is merged.
    for n in 30..50 {
        add(&mut world, n);
    }
    world.compare(&world.load().expect("load"), 5000);
    assert_eq!(world.fetches(), 0);
}

#[test]
fn deleted_in_the_middle_it_goes_on() {
    let mut world = world(30);
    let index = world.load().expect("load");
    std::fs::remove_dir_all(world.cache.path()).expect("remove");
    world.compare(&index, 3000);
    let more = pack(99, &[5000, 5001], false);
    index.add(&more).expect("add");
    let segment = Segment { supersedes: Vec::new(), packs: vec![more] };
    index.segment_written(ObjectId::default(), &segment).expect("written");
    assert!(index.find(&blob(5000)).expect("find").is_some());
    add(&mut world, 30);
    world.compare(&world.load().expect("load"), 3100);
    assert_eq!(world.fetches(), 0, "it is there again");
}

#[test]
fn without_a_folder_that_can_be_written_it_works() {
    let mut world = world(30);
    // A file stands where the folder would be, so nothing can be written, even by root.
    std::fs::write(world.repository.cache().expect("cache"), "in the way").expect("write");
    for n in 30..33 {
        add(&mut world, n);
        world.compare(&world.load().expect("load"), 3300);
    }
    assert_eq!(world.fetches(), 33);
}

#[test]
fn a_table_cut_off_while_it_is_written_is_not_used() {
    let mut world = world(3);
    world.load().expect("load");
    let writer = world.store().create_file().expect("file");
    let extension = |path: &PathBuf| path.extension().expect("extension").to_owned();
    assert_eq!(world.files().iter().filter(|path| extension(path) == "tmp").count(), 1);
    drop(writer);
    assert_eq!(world.files().len(), 1, "an unfinished table goes");
    // One of a process that was killed goes after a day; so do files of other kinds.
    let (young, old) = (world.folder().join("a.tmp"), world.folder().join("b.tmp"));
    let segment = world.folder().join(ObjectId::default().to_string());
    for path in [&young, &old, &segment] {
        std::fs::write(path, "something").expect("write");
    }
    let days = SystemTime::now() - Duration::from_secs(3 * 24 * 60 * 60);
    let file = std::fs::File::options().write(true).open(&old).expect("open");
    file.set_modified(days).expect("time");
    add(&mut world, 3);
    world.load().expect("load");
    assert!(young.exists() && !old.exists() && !segment.exists());
}

#[test]
fn several_at_once_disturb_nobody() {
    let mut world = world(60);
    for round in 0..10 {
        add(&mut world, 60 + round);
        let expected = 6100 + 100 * round;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let repository = world.opened(Some(world.cache.path().into()));
                    let index = Index::load(&repository, &BTreeSet::new()).expect("load");
                    for number in (0..expected + 50).step_by(7) {
                        let found = index.find(&blob(number)).expect("find");
                        assert_eq!(found.is_some(), number < expected);
                    }
                });
            }
        });
        // Whatever they left, it is settled by the next one.
        world.load().expect("load");
        assert_eq!(world.fetches(), 0);
        world.compare(&world.load().expect("load"), expected);
    }
}

#[test]
fn another_repositorys_tables_do_not_open() {
    let world = world(3);
    world.load().expect("load");
    let other = World::new(Limits::default());
    std::fs::create_dir_all(other.folder()).expect("folder");
    let [file] = &world.files()[..] else { panic!("one table") };
    let copy = other.folder().join(file.file_name().expect("name"));
    std::fs::copy(file, &copy).expect("copy");
    assert_eq!(other.load().expect("load").blob_count(), 0);
    assert!(!copy.exists());
    let bytes = std::fs::read(file).expect("read");
    assert!(!bytes.windows(32).any(|window| window == blob(0).as_bytes()), "ids are sealed");
}

#[test]
fn readable_parts_of_segments_are_used_and_not_kept() {
    let mut world = world(2);
    let mut wrong = pack(50, &[900, 901], false);
    wrong.header.truncate(10);
    let good = pack(51, &[902], false);
    world.memory.lock().packs.insert(good.object_id().expect("id"), good.size);
    let segment = Segment { supersedes: Vec::new(), packs: vec![wrong, good] };
    let partly = world.plant(&segment.encode_to_vec());
    let not_at_all = world.plant(b"no segment");
    assert!(matches!(world.load(), Err(Error::Damaged { .. })));
    for _ in 0..2 {
        let (index, problems) = Index::load_readable(&world.repository).expect("load");
        let about = |id: ObjectId| {
            problems.iter().filter(|p| p.to_string().contains(&id.to_string())).count()
        };
        assert_eq!((about(partly), about(not_at_all)), (1, 1), "{problems:?}");
        assert!(index.find(&blob(902)).expect("find").is_some());
        assert!(index.find(&blob(5)).expect("find").is_some());
        assert!(index.find(&blob(900)).expect("find").is_none());
    }
    assert!(matches!(world.load(), Err(Error::Damaged { .. })), "the cache hides nothing");
    world.remove(&partly);
    world.remove(&not_at_all);
    world.compare(&world.load().expect("load"), 200);
}
