//! Entries of a snapshot by absolute path, whether they lie in a root or above one, and their modes
//! in words.

use holdfast_engine::format::snapshot::{Ancestor, Root};
use holdfast_engine::meta::{Kind, Metadata};
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::tree::view::{self, Located};
use holdfast_engine::tree::{Entry, PathEntry, TreeReader, entry};
use holdfast_engine::{Error, Result as EngineResult};

use crate::text::printable;

/// Called with every entry's absolute path; an error of it ends the listing.
pub type Each<'a, E> = &'a mut dyn FnMut(&[u8], &Entry) -> Result<(), E>;

/// The entry at a path and the tree it lies in.
#[derive(Debug)]
pub struct Found<'a> {
    /// The root that holds it.
    pub root: &'a Root,
    /// The tree of that root.
    pub tree: TreeReader<'a>,
    /// Its path relative to the root.
    pub path: Vec<u8>,
    /// The entry.
    pub entry: Entry,
}

fn missing(snapshot: &SnapshotInfo, path: &[u8]) -> Error {
    Error::NoSuchPath { snapshot: snapshot.id.short(), path: printable(path) }
}

/// What stands at an absolute path. `None`: a directory above the roots.
///
/// # Errors
/// [`Error::NoSuchPath`] if nothing does.
pub fn find<'a>(
    reader: &'a BlobReader<'a>,
    snapshot: &'a SnapshotInfo,
    path: &[u8],
) -> EngineResult<Option<Found<'a>>> {
    match view::locate(&snapshot.record, path) {
        None => Err(missing(snapshot, path)),
        Some(Located::Above(_)) => Ok(None),
        Some(Located::Within { root, path: relative }) => {
            let tree = view::tree(reader, root)?;
            let found = tree.lookup(&relative)?.ok_or_else(|| missing(snapshot, path))?;
            Ok(Some(Found { root, tree, path: relative, entry: found.entry }))
        }
    }
}

/// Lists a directory, or all that lies below it; anything else is listed itself.
pub fn list<E: From<Error>>(
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    path: &[u8],
    recursive: bool,
    each: Each<'_, E>,
) -> Result<(), E> {
    let Some(found) = find(reader, snapshot, path)? else {
        return list_above(reader, snapshot, path, recursive, each);
    };
    if found.entry.metadata.kind != Kind::Directory {
        return each(&view::normalize(path), &found.entry);
    }
    if recursive {
        relay(&found.root.path, found.tree.below(&found.path), each)
    } else {
        relay(&found.root.path, found.tree.list(&found.path), each)
    }
}

fn relay<E: From<Error>>(
    root: &[u8],
    entries: impl Iterator<Item = EngineResult<PathEntry>>,
    each: Each<'_, E>,
) -> Result<(), E> {
    let mut path = Vec::new();
    for found in entries {
        let found = found?;
        path.clear();
        path.extend_from_slice(if root == b"/" { b"" } else { root });
        for part in [&found.parent[..], &found.entry.name] {
            if !part.is_empty() {
                path.push(b'/');
                path.extend_from_slice(part);
            }
        }
        each(&path, &found.entry)?;
    }
    Ok(())
}

fn list_above<E: From<Error>>(
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    path: &[u8],
    recursive: bool,
    each: Each<'_, E>,
) -> Result<(), E> {
    let path = view::normalize(path);
    let depth = names(&path).count();
    let Some(Located::Above(roots)) = view::locate(&snapshot.record, &path) else {
        return Ok(());
    };
    let mut last: Vec<Vec<u8>> = Vec::new();
    for root in roots {
        let parts: Vec<_> = names(&root.path).collect();
        let mut at = Vec::new();
        for (i, name) in parts.iter().enumerate() {
            at.push(b'/');
            at.extend_from_slice(name);
            if i < depth || !recursive && i > depth {
                continue;
            }
            let is_root = i + 1 == parts.len();
            if !last.contains(&at) {
                let entry = match root.ancestors.get(i).filter(|_| !is_root) {
                    Some(ancestor) => ancestor_entry(ancestor, name)?,
                    None if is_root => root_entry(reader, root, name)?,
                    None => directory(name),
                };
                each(&at, &entry)?;
                last.push(at.clone());
            }
            if is_root && recursive {
                relay(&root.path, view::tree(reader, root)?.below(b""), each)?;
            }
        }
    }
    Ok(())
}

/// The root's own entry, under its name.
fn root_entry(reader: &BlobReader<'_>, root: &Root, name: &[u8]) -> EngineResult<Entry> {
    let found = view::tree(reader, root)?.lookup(b"")?;
    let found = found.ok_or_else(|| Error::damaged("tree", "it has no root entry"))?;
    Ok(Entry { name: name.to_vec(), ..found.entry })
}

fn ancestor_entry(ancestor: &Ancestor, name: &[u8]) -> EngineResult<Entry> {
    let (Some(record), Some(owner)) = (ancestor.entry.clone(), ancestor.owner.clone()) else {
        return Ok(directory(name));
    };
    let entry = entry::decode_alone(record, owner).map_err(|e| Error::damaged("snapshot", e))?;
    Ok(Entry { name: name.to_vec(), ..entry })
}

fn directory(name: &[u8]) -> Entry {
    let metadata = Metadata { kind: Kind::Directory, mode: 0o755, ..Metadata::default() };
    Entry { name: name.to_vec(), metadata, ..Entry::default() }
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|c| *c == b'/').filter(|name| !name.is_empty())
}

/// `drwxr-xr-x`, as `ls -l` writes it.
pub fn mode_text(kind: Kind, mode: u32) -> String {
    let mut text = String::with_capacity(10);
    text.push(kind.letter());
    let special = [(0o4000, 's', 'S'), (0o2000, 's', 'S'), (0o1000, 't', 'T')];
    for (i, (bit, both, alone)) in special.into_iter().enumerate() {
        let bits = mode >> (6 - 3 * i);
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & bit != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => both,
            (false, true) => alone,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_people_know_them() {
        assert_eq!(mode_text(Kind::Directory, 0o755), "drwxr-xr-x");
        assert_eq!(mode_text(Kind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode_text(Kind::File, 0o2640), "-rw-r-S---");
        assert_eq!(mode_text(Kind::Directory, 0o1777), "drwxrwxrwt");
    }
}
