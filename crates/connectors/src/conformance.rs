//! What every storage must do, as one suite that runs on each connector and each wrapper of it, and
//! the same for destinations ([`destination`]). They panic at the first promise that is broken,
//! naming it. For tests only.

pub mod destination;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_engine::hash::{ObjectId, RecordId, Sha256, SnapshotId};
use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageErrorKind, StorageResult,
};

/// Runs the whole suite; `make` gives a fresh storage whose place does not exist yet.
///
/// # Panics
/// When the storage breaks a promise.
#[doc(hidden)]
pub fn storage_conformance(make: &dyn Fn() -> Box<dyn Storage>) {
    type Check = fn(&dyn Storage);
    let unprepared = make();
    expect(unprepared.list(Folder::Keys, &mut |_| {}), StorageErrorKind::NotFound);
    expect(unprepared.get(&ObjectName::config()), StorageErrorKind::NotFound);
    let checks: &[Check] =
        &[empty, objects, ranges, names_taken, folders, uploads, concurrent, many_objects];
    for check in checks {
        let storage = make();
        good(storage.prepare());
        good(storage.prepare());
        check(&*storage);
    }
}

#[track_caller]
fn good<T>(answer: StorageResult<T>) -> T {
    match answer {
        Ok(value) => value,
        Err(e) => panic!("{}", holdfast_engine::error::chain_text(&e)),
    }
}

#[track_caller]
fn expect<T>(answer: StorageResult<T>, kind: StorageErrorKind) {
    match answer {
        Ok(_) => panic!("went well, though it had to fail as {kind:?}"),
        Err(e) => assert_eq!(e.kind, kind, "{}", holdfast_engine::error::chain_text(&e)),
    }
}

#[track_caller]
fn listed(storage: &dyn Storage, folder: Folder) -> BTreeMap<String, ObjectInfo> {
    let mut found = BTreeMap::new();
    good(storage.list(folder, &mut |info| {
        let twice = found.insert(info.name.to_string(), info);
        assert!(twice.is_none(), "listed twice: {twice:?}");
    }));
    found
}

fn pack(number: u64) -> ObjectName {
    ObjectName::pack(Sha256::of(&number.to_le_bytes()))
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn empty(storage: &dyn Storage) {
    for folder in Folder::ALL {
        assert!(listed(storage, folder).is_empty(), "{folder:?} is not empty at first");
    }
    let name = ObjectName::key(RecordId::new([7; 16]));
    expect(storage.get(&name), StorageErrorKind::NotFound);
    expect(storage.stat(&name), StorageErrorKind::NotFound);
    expect(storage.delete(&name), StorageErrorKind::NotFound);
    expect(storage.get_range(&name, 0, 1, &mut Vec::new()), StorageErrorKind::NotFound);
    let note = ObjectName::note(SnapshotId::new([1; 16]), RecordId::new([2; 16]));
    expect(storage.get(&note), StorageErrorKind::NotFound);
    expect(storage.delete(&note), StorageErrorKind::NotFound);
}

fn objects(storage: &dyn Storage) {
    for length in [0, 1, 4096, 70_000] {
        let name = ObjectName::key(RecordId::new([length as u8; 16]));
        let bytes = pattern(length);
        good(storage.put(&name, &bytes));
        assert_eq!(good(storage.get(&name)), bytes);
        let info = good(storage.stat(&name));
        assert_eq!((&info.name, info.size), (&name, length as u64));
        assert!(info.modified > 1_500_000_000, "no time: {info:?}");
        let seen = listed(storage, Folder::Keys);
        assert_eq!(
            seen.get(name.as_str()).map(|i| (i.size, i.modified)),
            Some((info.size, info.modified))
        );
        good(storage.delete(&name));
        expect(storage.get(&name), StorageErrorKind::NotFound);
        expect(storage.delete(&name), StorageErrorKind::NotFound);
        assert!(listed(storage, Folder::Keys).is_empty(), "listed after its deletion");
        // The name is free again.
        good(storage.put(&name, b"again"));
        assert_eq!(good(storage.get(&name)), b"again");
        good(storage.delete(&name));
    }
    good(storage.put(&ObjectName::config(), b"config"));
    assert_eq!(good(storage.get(&ObjectName::config())), b"config");
}

fn ranges(storage: &dyn Storage) {
    let bytes = pattern(10_000);
    let name = pack(1);
    good(storage.put(&name, &bytes));
    let mut into = b"what was there before".to_vec();
    for (offset, length) in [(0, 10_000), (0, 1), (9_999, 1), (5_000, 0), (10_000, 0), (17, 4_242)]
    {
        good(storage.get_range(&name, offset as u64, length, &mut into));
        assert_eq!(into, bytes[offset..offset + length], "{length} bytes at {offset}");
    }
    for (offset, length) in [(9_999, 2), (10_000, 1), (20_000, 5), (0, 10_001)] {
        expect(storage.get_range(&name, offset, length, &mut into), StorageErrorKind::Io);
    }
}

fn names_taken(storage: &dyn Storage) {
    let name = pack(1);
    good(storage.put(&name, b"first"));
    expect(storage.put(&name, b"second"), StorageErrorKind::AlreadyExists);
    let mut upload = good(storage.upload());
    good(upload.write(b"third"));
    expect(upload.finish(&name), StorageErrorKind::AlreadyExists);
    assert_eq!(good(storage.get(&name)), b"first");
    assert_eq!(listed(storage, Folder::Packs).len(), 1);
}

/// Each object shows in its own folder and in no other.
fn folders(storage: &dyn Storage) {
    let (snapshot, record) = (SnapshotId::new([0xab; 16]), RecordId::new([0xcd; 16]));
    let object = ObjectId::new([0xef; 32]);
    let all = [
        (Folder::Keys, vec![ObjectName::key(record)]),
        (Folder::Packs, vec![ObjectName::pack(object), pack(1), pack(2)]),
        (Folder::Index, vec![ObjectName::index(object)]),
        (Folder::Snapshots, vec![ObjectName::snapshot(snapshot)]),
        (Folder::Notes, vec![ObjectName::note(snapshot, record)]),
        (
            Folder::Sessions,
            vec![
                ObjectName::session(snapshot, 0),
                ObjectName::session(snapshot, 1),
                ObjectName::session_end(snapshot),
                ObjectName::session(SnapshotId::new([0xac; 16]), 0),
            ],
        ),
        (Folder::Fences, vec![ObjectName::fence(snapshot), ObjectName::fence_confirmed(snapshot)]),
        (Folder::Condemned, vec![ObjectName::condemned(record)]),
        (Folder::Settings, vec![ObjectName::setting(record)]),
        (Folder::Parity, vec![ObjectName::parity(object)]),
    ];
    for name in all.iter().flat_map(|(_, names)| names) {
        good(storage.put(name, name.as_str().as_bytes()));
    }
    for (folder, names) in &all {
        let mut wanted: Vec<_> = names.iter().map(ToString::to_string).collect();
        wanted.sort();
        let found: Vec<_> = listed(storage, *folder).into_keys().collect();
        assert_eq!(found, wanted);
    }
    // Removing one of a nested folder leaves the others, the last one an empty folder.
    let (_, sessions) = &all[5];
    for (gone, name) in sessions.iter().enumerate() {
        good(storage.delete(name));
        assert_eq!(listed(storage, Folder::Sessions).len(), sessions.len() - gone - 1);
    }
    good(storage.put(&ObjectName::session(snapshot, 0), b"again"));
    assert_eq!(listed(storage, Folder::Sessions).len(), 1);
}

fn uploads(storage: &dyn Storage) {
    let part = pattern(1 << 20);
    let mut upload = good(storage.upload());
    for _ in 0..9 {
        good(upload.write(&part));
        assert!(listed(storage, Folder::Packs).is_empty(), "an unfinished upload shows");
    }
    good(upload.finish(&pack(1)));
    assert_eq!(good(storage.stat(&pack(1))).size, 9 << 20);
    let mut into = Vec::new();
    good(storage.get_range(&pack(1), (4 << 20) - 1, 3, &mut into));
    assert_eq!(into, [part[(1 << 20) - 1], part[0], part[1]]);
    // Dropped half-way, or empty.
    let mut upload = good(storage.upload());
    good(upload.write(&part));
    drop(upload);
    drop(good(storage.upload()));
    assert_eq!(listed(storage, Folder::Packs).len(), 1);
    good(good(storage.upload()).finish(&pack(2)));
    assert_eq!(good(storage.get(&pack(2))), b"");
}

fn concurrent(storage: &dyn Storage) {
    let (made, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (made, taken) = (&made, &taken);
            scope.spawn(move || {
                for i in 0..10 {
                    good(storage.put(&pack(thread * 100 + i), &i.to_le_bytes()));
                    let session = ObjectName::session(SnapshotId::new([thread as u8; 16]), 0);
                    good(storage.put(&session, b"lease"));
                    good(storage.delete(&session));
                    // All four want this name; one gets it.
                    let wanted = ObjectName::key(RecordId::new([i as u8; 16]));
                    match storage.put(&wanted, &thread.to_le_bytes()) {
                        Ok(()) => made.fetch_add(1, Ordering::Relaxed),
                        Err(e) if e.kind == StorageErrorKind::AlreadyExists => {
                            taken.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(e) => panic!("{}", holdfast_engine::error::chain_text(&e)),
                    };
                }
            });
        }
    });
    assert_eq!((made.into_inner(), taken.into_inner()), (10, 30));
    assert_eq!(listed(storage, Folder::Packs).len(), 40);
    assert_eq!(listed(storage, Folder::Keys).len(), 10);
}

fn many_objects(storage: &dyn Storage) {
    let mut wanted = BTreeMap::new();
    for number in 0..300 {
        let bytes = pattern(number as usize);
        good(storage.put(&pack(number), &bytes));
        wanted.insert(pack(number).to_string(), number);
    }
    let found: BTreeMap<_, _> =
        listed(storage, Folder::Packs).into_iter().map(|(n, i)| (n, i.size)).collect();
    assert_eq!(found, wanted);
}
