//! A snapshot as one tree of absolute paths: finding which root a path belongs to, and the
//! directories above the roots.

use crate::format::snapshot::{Root, Snapshot};
use crate::hash::BlobId;
use crate::repo::BlobReader;
use crate::repo::snapshots::is_within;
use crate::{Error, Result};

use super::read::TreeReader;

/// Where an absolute path lies in a snapshot.
#[derive(Debug, Clone)]
pub enum Located<'a> {
    /// In a root (or it is one: then `path` is empty).
    Within {
        /// The root.
        root: &'a Root,
        /// Path relative to it.
        path: Vec<u8>,
    },
    /// Above these roots: a directory that the snapshot holds only the way through.
    Above(Vec<&'a Root>),
}

/// `path` with single slashes, none at the end, and one at the start.
pub fn normalize(path: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(path.len() + 1);
    for name in path.split(|c| *c == b'/').filter(|name| !name.is_empty()) {
        normal.push(b'/');
        normal.extend_from_slice(name);
    }
    if normal.is_empty() {
        normal.push(b'/');
    }
    normal
}

/// The absolute path of an entry: of this name (empty for the root itself) in the directory
/// `parent` of a root.
pub fn absolute(root: &[u8], parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = root.strip_suffix(b"/").unwrap_or(root).to_vec();
    for part in [parent, name].into_iter().filter(|part| !part.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() { root.to_vec() } else { path }
}

/// The part of a root that an absolute path (normalized) asks for, relative to the root; all of
/// the root if there is no path. `None` if they have nothing to do with each other.
pub fn part_of(root: &[u8], path: Option<&[u8]>) -> Option<Vec<u8>> {
    match path {
        None => Some(Vec::new()),
        Some(path) if is_within(root, path) => Some(Vec::new()),
        Some(path) if is_within(path, root) => {
            let rest = path.get(root.len()..).unwrap_or_default();
            Some(rest.strip_prefix(b"/").unwrap_or(rest).to_vec())
        }
        Some(_) => None,
    }
}

/// Finds an absolute path (normalized first). `None` if no root has to do with it.
pub fn locate<'a>(snapshot: &'a Snapshot, path: &[u8]) -> Option<Located<'a>> {
    let path = normalize(path);
    if let Some(root) = snapshot.roots.iter().find(|root| is_within(&path, &root.path)) {
        let rest = path.get(root.path.len()..).unwrap_or_default();
        let path = rest.strip_prefix(b"/").unwrap_or(rest).to_vec();
        return Some(Located::Within { root, path });
    }
    let below: Vec<_> = snapshot.roots.iter().filter(|root| is_within(&root.path, &path)).collect();
    (!below.is_empty()).then_some(Located::Above(below))
}

/// The root node of a root's tree.
pub fn root_id(root: &Root) -> Result<BlobId> {
    BlobId::from_slice(&root.tree).ok_or_else(|| Error::damaged("snapshot", "a root has no tree"))
}

/// The tree of a root.
pub fn tree<'a>(reader: &'a BlobReader<'a>, root: &Root) -> Result<TreeReader<'a>> {
    Ok(TreeReader::new(reader, root_id(root)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_in_and_above_roots() {
        let root = |path: &[u8]| Root { path: path.to_vec(), ..Root::default() };
        let snapshot =
            Snapshot { roots: vec![root(b"/etc"), root(b"/home/anna")], ..Snapshot::default() };
        let found = |path: &[u8]| match locate(&snapshot, path) {
            Some(Located::Within { root, path }) => Some((root.path.clone(), path)),
            Some(Located::Above(roots)) => Some((b"above".to_vec(), vec![roots.len() as u8])),
            None => None,
        };
        assert_eq!(found(b"/etc//hosts/"), Some((b"/etc".to_vec(), b"hosts".to_vec())));
        assert_eq!(found(b"etc"), Some((b"/etc".to_vec(), b"".to_vec())));
        assert_eq!(found(b"/home"), Some((b"above".to_vec(), vec![1])));
        assert_eq!(found(b"/"), Some((b"above".to_vec(), vec![2])));
        assert_eq!(found(b"/etcetera"), None);
        let entry = |root: &[u8]| (absolute(root, b"", b""), absolute(root, b"a/b", b"c"));
        assert_eq!(entry(b"/"), (b"/".to_vec(), b"/a/b/c".to_vec()));
        assert_eq!(entry(b"/x"), (b"/x".to_vec(), b"/x/a/b/c".to_vec()));
        let part = |path: &[u8]| part_of(b"/home/anna", Some(path));
        assert_eq!(part(b"/home/anna/x/y"), Some(b"x/y".to_vec()));
        assert_eq!((part(b"/home"), part(b"/")), (Some(Vec::new()), Some(Vec::new())));
        assert_eq!((part(b"/home/ann"), part(b"/etc")), (None, None));
        let all = Snapshot { roots: vec![root(b"/")], ..Snapshot::default() };
        assert!(matches!(locate(&all, b"/x"), Some(Located::Within { path, .. }) if path == b"x"));
    }
}
