//! Directories as a restore knows them. A bucket has none: one is there if a key lies below it, or
//! if this restore made it and has not stored anything in it yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use crate::{join, locked};

/// What is known of the directories, by path. The empty path is the destination.
#[derive(Debug, Default)]
pub(super) struct Directories(Mutex<BTreeMap<Vec<u8>, State>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was there before.
    Found,
    /// Made, and nothing was stored below it.
    Empty,
    /// Made, with something below it.
    Filled,
}

impl Directories {
    pub(super) fn knows(&self, path: &[u8]) -> bool {
        locked(&self.0).contains_key(path)
    }

    /// Whether this restore made it.
    pub(super) fn is_made(&self, path: &[u8]) -> bool {
        matches!(locked(&self.0).get(path), Some(State::Empty | State::Filled))
    }

    /// Whether this restore made it and stored nothing in it.
    pub(super) fn is_empty(&self, path: &[u8]) -> bool {
        locked(&self.0).get(path) == Some(&State::Empty)
    }

    pub(super) fn found(&self, path: &[u8]) {
        locked(&self.0).entry(path.to_vec()).or_insert(State::Found);
    }

    pub(super) fn made(&self, path: &[u8]) {
        locked(&self.0).insert(path.to_vec(), State::Empty);
    }

    /// Something was stored right in it.
    pub(super) fn filled(&self, path: &[u8]) {
        let mut all = locked(&self.0);
        let mut path = path;
        while let Some(state) = all.get_mut(path) {
            if *state != State::Empty {
                return;
            }
            *state = State::Filled;
            path = parent(path);
        }
    }

    pub(super) fn removed(&self, path: &[u8]) {
        locked(&self.0).remove(path);
    }

    /// Names of the directories in this one that this restore made.
    pub(super) fn made_in(&self, path: &[u8]) -> BTreeSet<Vec<u8>> {
        let within = join(path, b"");
        let all = locked(&self.0);
        let below = all.range(within.clone()..).take_while(|(at, _)| at.starts_with(&within));
        let name = |(at, state): (&Vec<u8>, &State)| {
            let name = at.get(within.len()..).filter(|name| !name.is_empty())?;
            (*state != State::Found && !name.contains(&b'/')).then(|| name.to_vec())
        };
        below.filter_map(name).collect()
    }
}

/// The directory that a path lies in.
pub(super) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_fills_all_above() {
        let all = Directories::default();
        all.found(b"");
        for path in ["a", "a/b", "a/b/c", "a-b", "d"] {
            all.made(path.as_bytes());
        }
        all.filled(b"a/b");
        assert!(!all.is_empty(b"a") && !all.is_empty(b"a/b"));
        assert!(all.is_empty(b"a/b/c") && all.is_empty(b"d") && all.is_made(b"a"));
        all.found(b"a");
        assert!(all.is_made(b"a") && !all.is_made(b""));
        let names = |path: &[u8]| all.made_in(path).into_iter().collect::<Vec<_>>();
        assert_eq!(names(b""), [&b"a"[..], b"a-b", b"d"]);
        assert_eq!(names(b"a"), [b"b"]);
        all.removed(b"a/b/c");
        assert!(!all.knows(b"a/b/c") && names(b"a/b").is_empty());
        assert_eq!((parent(b"a/b"), parent(b"a")), (&b"a"[..], &b""[..]));
    }
}
