//! Every target of `holdfast_engine::fuzz`: the first byte says which.

#![no_main]

use holdfast_engine::crypto::{Keys, RootKey};
use holdfast_engine::fuzz::TARGETS;
use holdfast_engine::hash::RepositoryId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((number, bytes)) = bytes.split_first() else { return };
    let Some((_, target)) = TARGETS.get(usize::from(*number)) else { return };
    target(&Keys::derive(&RootKey::new([7; 32])), &RepositoryId::default(), bytes);
});
