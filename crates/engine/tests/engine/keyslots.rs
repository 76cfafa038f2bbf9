//! Key slots: there is always one left that opens the repository.

use std::sync::Arc;

use crate::common::repository;
use holdfast_engine::Error;
use holdfast_engine::format::keyslot::{Cost, Secret};
use holdfast_engine::repo::OpenOptions;
use holdfast_engine::repo::open::open;
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_testkit::{FaultStorage, MemoryStorage, Operation};

#[test]
fn two_who_remove_each_others_slots_do_not_remove_the_last() {
    let storage = MemoryStorage::new();
    let first = repository(storage.clone()).slots().expect("slots")[0].id;
    let other = Secret::KeyFile(zeroize::Zeroizing::new([8; 32]));
    let second = repository(storage.clone())
        .add_slot(&other, Cost::default(), "second", "host", 1)
        .expect("a second slot");
    let faulty = FaultStorage::new(storage.clone());
    let here = repository(faulty.clone());
    // Elsewhere the first one is removed at the moment when the second one goes here.
    let elsewhere = storage.clone();
    faulty.set_plan(move |_, call| {
        if call.operation == Operation::Delete {
            elsewhere.remove(&ObjectName::key(first));
        }
        None
    });
    let refused = here.remove_slot(second).expect_err("it is the last one by now");
    assert!(matches!(refused, Error::LastSlot { .. }), "{refused}");
    assert_eq!(storage.names_in(Folder::Keys), [ObjectName::key(second)]);
    let options = OpenOptions { secret: Some(other), cache: None };
    open(Arc::new(storage), options).expect("it opens the repository");
}
