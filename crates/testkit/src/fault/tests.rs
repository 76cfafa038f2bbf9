//! Each fault, seen from both sides: what the caller is told and what the storage holds.

use super::*;
use crate::memory::MemoryStorage;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn storage() -> FaultStorage<MemoryStorage> {
    FaultStorage::new(MemoryStorage::new())
}

#[test]
fn every_call_is_counted_and_recorded() {
    let storage = storage();
    storage.prepare().unwrap();
    storage.put(&name("keys/a"), b"abc").unwrap();
    let mut upload = storage.upload().unwrap();
    upload.write(b"12").unwrap();
    upload.finish(&name("keys/b")).unwrap();
    storage.get(&name("keys/a")).unwrap();
    storage.get_range(&name("keys/a"), 0, 1, &mut Vec::new()).unwrap();
    storage.list(Folder::Keys, &mut |_| {}).unwrap();
    storage.stat(&name("keys/a")).unwrap();
    storage.delete(&name("keys/a")).unwrap();
    let operations: Vec<_> = storage.log().iter().map(|call| call.operation).collect();
    use Operation as O;
    assert_eq!(
        operations,
        [
            O::Prepare,
            O::Put,
            O::Upload,
            O::Write,
            O::Finish,
            O::Get,
            O::GetRange,
            O::List,
            O::Stat,
            O::Delete
        ]
    );
    assert_eq!((storage.calls(), storage.count(O::Put)), (10, 1));
    assert_eq!(storage.log()[1], call(O::Put, "keys/a", 3));
}

#[test]
fn errors_come_before_or_after_the_deed() {
    let storage = storage();
    storage.fail_at(0, Fault::ErrorBefore).fail_at(1, Fault::ErrorAfter);
    for (present, object) in [(false, "keys/a"), (true, "keys/b")] {
        let error = storage.put(&name(object), b"x").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::Injected);
        assert_eq!(storage.inner().get(&name(object)).is_ok(), present);
    }
    storage.put(&name("keys/a"), b"x").unwrap();
    assert_eq!(storage.injected(), [(0, Fault::ErrorBefore), (1, Fault::ErrorAfter)]);
}

#[test]
fn the_dead_stay_dead() {
    for (fault, present) in [(Fault::CrashBefore, false), (Fault::CrashAfter, true)] {
        let storage = storage();
        storage.fail_at(1, fault);
        let upload = storage.upload().unwrap();
        assert!(upload.finish(&name("keys/a")).is_err());
        assert_eq!(storage.inner().get(&name("keys/a")).is_ok(), present);
        assert!(storage.is_crashed());
        storage.clear_faults();
        assert!(storage.list(Folder::Keys, &mut |_| {}).is_err());
        assert_eq!((storage.calls(), storage.refused()), (2, 1));
    }
}

#[test]
fn duplicates_answer_twice() {
    let storage = storage();
    storage.fail_at(0, Fault::Duplicate).fail_at(2, Fault::Duplicate).fail_at(3, Fault::Duplicate);
    let kind = |result: StorageResult<()>| result.unwrap_err().kind;
    assert_eq!(kind(storage.put(&name("keys/a"), b"x")), StorageErrorKind::AlreadyExists);
    let upload = storage.upload().unwrap();
    assert_eq!(kind(upload.finish(&name("keys/b"))), StorageErrorKind::AlreadyExists);
    assert_eq!(kind(storage.delete(&name("keys/a"))), StorageErrorKind::NotFound);
    assert_eq!(storage.inner().names(), [name("keys/b")]);
}

#[test]
fn reads_are_corrupted_once() {
    let storage = storage();
    storage.put(&name("keys/a"), &[0; 9]).unwrap();
    storage.fail_at(1, Fault::FlipBit).fail_at(2, Fault::FlipBit);
    let ones = |bytes: &[u8]| bytes.iter().map(|b| b.count_ones()).sum::<u32>();
    assert_eq!(ones(&storage.get(&name("keys/a")).unwrap()), 1);
    let mut part = Vec::new();
    storage.get_range(&name("keys/a"), 2, 3, &mut part).unwrap();
    assert_eq!(ones(&part), 1);
    assert_eq!(storage.get(&name("keys/a")).unwrap(), [0; 9]);
}

#[test]
fn broken_listings_deliver_a_part() {
    let storage = storage();
    for object in ["keys/a", "keys/b", "keys/c", "keys/d"] {
        storage.put(&name(object), b"x").unwrap();
    }
    storage.fail_at(4, Fault::ErrorAfter);
    let mut seen = 0;
    assert!(storage.list(Folder::Keys, &mut |_| seen += 1).is_err());
    assert_eq!(seen, 2);
}

#[test]
fn seeds_and_plans_decide() {
    let run = |seed| {
        let storage = FaultStorage::random(MemoryStorage::new(), seed, Rates::errors(0.3));
        for _ in 0..100 {
            let _ = storage.stat(&name("config"));
        }
        storage.injected()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    assert!((10..60).contains(&run(3).len()));

    let storage = storage();
    let other = storage.inner().clone();
    storage.set_plan(move |_, call| {
        // Another writer is quicker.
        if call.operation == Operation::Put {
            other.put(&name(&call.object), b"other").unwrap();
        }
        (call.operation == Operation::Get).then_some(Fault::ErrorBefore)
    });
    let beaten = storage.put(&name("keys/a"), b"x").unwrap_err();
    assert_eq!(beaten.kind, StorageErrorKind::AlreadyExists);
    assert!(storage.get(&name("keys/a")).is_err());
}
