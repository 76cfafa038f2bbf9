//! The decoders of what a server sends, fed with bytes that may be anything. They return nothing;
//! what counts is that they do, without a panic.

use super::attributes::Attributes;
use super::reply::Reply;
use super::wire::{ATTRS, DATA, EXTENDED_REPLY, Fields, HANDLE, NAME, STATUS, VERSION};

/// Every decoder for replies, on the body of one: all of a packet that is behind its id.
pub fn reply(body: &[u8]) {
    let of = |kind| Reply { kind, body: body.to_vec() };
    for kind in [STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY, VERSION] {
        let _ = of(kind).status();
        let _ = of(kind).handle();
        let _ = of(kind).path();
    }
    for most in [0, 10, usize::MAX] {
        if let Ok(data) = of(DATA).data(most) {
            assert!(data.len() <= most && data.len() <= body.len());
        }
    }
    if let Ok(entries) = of(NAME).entries(true) {
        assert!(entries.iter().all(|entry| !entry.name.is_empty() && entry.long_name.is_some()));
        assert!(entries.iter().all(|entry| !entry.name.contains(&b'/')));
    }
    let _ = of(EXTENDED_REPLY).limits();
    let _ = of(EXTENDED_REPLY).file_system().map(|found| (found.available(), found.total()));
    if let Ok(names) = of(EXTENDED_REPLY).names(3, 2) {
        assert_eq!((names.users.len(), names.groups.len()), (3, 2));
    }
    let _ = of(VERSION).version();
}

/// Attributes alone; those that can be read are written and read again.
pub fn attributes(bytes: &[u8]) {
    let Ok(found) = Attributes::decode(&mut Fields::new(bytes)) else { return };
    let _ = (found.kind(), found.uid(), found.gid(), found.modified());
    let mut again = Vec::new();
    found.encode(&mut again);
    assert_eq!(Attributes::decode(&mut Fields::new(&again)), Ok(found));
}
