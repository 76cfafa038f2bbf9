//! Trees: the sorted table of a source root's entries, as a content-defined B-tree ("prolly
//! tree") of blobs. [`entry`] holds the types, [`build`] makes trees from a sorted stream,
//! [`read`] walks and looks up, [`totals`] are the sums of every directory, [`chunks`] the chunk
//! lists of big files, [`content`] streams what a file holds, [`same`] compares entries, and
//! [`distinct`] reads many trees that share most of their nodes.

use std::cmp::Ordering;

pub mod build;
pub mod chunks;
pub mod content;
pub mod distinct;
pub mod entry;
pub mod read;
pub mod same;
pub mod totals;
pub mod view;
pub(crate) mod work;

pub use build::TreeBuilder;
pub use entry::{ChunkRef, Content, Entry};
pub use read::{PathEntry, TreeReader};

/// Compares two paths name by name (`/` sorts before every other byte): a directory comes before
/// what lies below it.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |c: &u8| if *c == b'/' { 0 } else { *c };
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => a.get(at).map(weight).cmp(&b.get(at).map(weight)),
        None => a.len().cmp(&b.len()),
    }
}

/// Compares two tree keys: parents name by name, then names.
pub fn compare_keys(a: (&[u8], &[u8]), b: (&[u8], &[u8])) -> Ordering {
    if a.0 == b.0 { a.1.cmp(b.1) } else { compare_paths(a.0, b.0) }
}

/// Compares two paths name by name so that a directory comes after all that lies below it: the
/// order of totals trees.
pub fn compare_post_order(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |c: Option<&u8>| match c {
        // The end of a path is above all that may follow it, and a new name before any longer one.
        None => 256_u16,
        Some(b'/') => 0,
        Some(c) => u16::from(*c),
    };
    if a.is_empty() || b.is_empty() {
        return b.len().cmp(&a.len());
    }
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => weight(a.get(at)).cmp(&weight(b.get(at))),
        None if a.len() == b.len() => Ordering::Equal,
        // One is the start of the other. If a name ends there, the longer path lies below the
        // shorter and comes first; else the shorter name comes first.
        None => {
            let (short, long, order) =
                if a.len() < b.len() { (a, b, Ordering::Greater) } else { (b, a, Ordering::Less) };
            if long.get(short.len()) == Some(&b'/') { order } else { order.reverse() }
        }
    }
}

/// `parent/name`, or whichever of them is not empty.
pub fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    if !parent.is_empty() && !name.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Splits a path into its parent and its last name.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|c| *c == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(path: &[u8]) -> Vec<&[u8]> {
        if path.is_empty() { Vec::new() } else { path.split(|c| *c == b'/').collect() }
    }

    /// A last component above every name stands for "after all below".
    fn post(mut components: Vec<&[u8]>) -> Vec<&[u8]> {
        components.push(&[0xff; 8]);
        components
    }

    #[test]
    fn orders_agree_with_component_lists() {
        let paths: [&[u8]; 12] = [
            b"",
            b"a",
            b"a/b",
            b"a/b/c",
            b"a-b",
            b"a-b/c",
            b"ab",
            b"a!",
            b"b",
            b"a/bc",
            b"a/b!/d",
            b"\xff/\x01",
        ];
        for a in paths {
            for b in paths {
                let (x, y) = (components(a), components(b));
                assert_eq!(compare_paths(a, b), x.cmp(&y), "{a:?} {b:?}");
                assert_eq!(compare_post_order(a, b), post(x).cmp(&post(y)), "{a:?} {b:?}");
            }
        }
    }
}
