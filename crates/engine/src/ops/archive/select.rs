//! Which parts of a snapshot's trees are archived, and under which names.

use std::sync::Arc;

use crate::format::snapshot::{Root, Sum};
use crate::meta::Kind;
use crate::repo::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::tree::entry::{Entry, decode_alone};
use crate::tree::view::{self, Located, absolute};
use crate::tree::{TreeReader, split};
use crate::{Error, Result};

use super::ArchiveOptions;

/// A subtree to archive.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) tree: TreeReader<'a>,
    /// Path of the tree's root.
    pub(super) root: Vec<u8>,
    /// Path in the tree where the part starts.
    pub(super) start: Vec<u8>,
    /// The entry there.
    pub(super) top: Arc<Entry>,
}

/// What was selected.
#[derive(Debug)]
pub(super) struct Selected<'a> {
    /// Directories above the parts, by absolute path, the topmost first.
    pub(super) above: Vec<(Vec<u8>, Arc<Entry>)>,
    pub(super) parts: Vec<Part<'a>>,
    /// What is left away in front of absolute paths.
    pub(super) strip: Vec<u8>,
    /// Roots whose tree cannot be read at all.
    pub(super) lost: Vec<(Vec<u8>, Error)>,
    /// What is in the parts, where it is known.
    pub(super) total: Option<Sum>,
}

impl Selected<'_> {
    /// The name of an absolute path in the archive.
    pub(super) fn name(&self, path: &[u8]) -> Vec<u8> {
        let rest = path.strip_prefix(&self.strip[..]).unwrap_or(path);
        rest.strip_prefix(b"/").unwrap_or(rest).to_vec()
    }
}

/// Finds the parts that the options mean.
pub(super) fn select<'a>(
    reader: &'a BlobReader<'a>,
    snapshot: &SnapshotInfo,
    options: &ArchiveOptions,
) -> Result<Selected<'a>> {
    let record = &snapshot.record;
    let path = options.path.as_deref().map_or_else(|| b"/".to_vec(), view::normalize);
    let missing = || Error::NoSuchPath {
        snapshot: snapshot.id.short(),
        path: String::from_utf8_lossy(&path).into_owned(),
    };
    let strip = |path: &[u8]| if path == b"/" { Vec::new() } else { path.to_vec() };
    match view::locate(record, &path).ok_or_else(missing)? {
        Located::Above(roots) => {
            let mut selected = Selected {
                above: Vec::new(),
                parts: Vec::new(),
                strip: strip(&path),
                lost: Vec::new(),
                total: options.filter.is_none().then(Sum::default),
            };
            for root in roots {
                selected.add_root(reader, root, &path)?;
            }
            Ok(selected)
        }
        Located::Within { root, path: start } => {
            let tree = view::tree(reader, root)?;
            let top = Arc::new(tree.lookup(&start)?.ok_or_else(missing)?.entry);
            let is_directory = top.metadata.kind == Kind::Directory;
            let strip = if is_directory { strip(&path) } else { strip(split(&path).0) };
            let total = root.sum.filter(|_| start.is_empty() && options.filter.is_none());
            let part = Part { tree, root: root.path.clone(), start, top };
            let (above, lost) = Default::default();
            Ok(Selected { above, parts: vec![part], strip, lost, total })
        }
    }
}

impl<'a> Selected<'a> {
    fn add_root(&mut self, reader: &'a BlobReader<'a>, root: &Root, from: &[u8]) -> Result<()> {
        check_path(&root.path)?;
        match (&mut self.total, root.sum) {
            (Some(total), Some(sum)) => total.add(&sum),
            (total, _) => *total = None,
        }
        let mut path = Vec::new();
        for ancestor in &root.ancestors {
            let (Some(record), Some(owner)) = (&ancestor.entry, &ancestor.owner) else { continue };
            let entry = decode_alone(record.clone(), owner.clone())
                .map_err(|what| Error::damaged("snapshot", what))?;
            path = absolute(&path, b"", &entry.name);
            // The directory at the top is one that holds only the way through.
            let is_below = path.len() > from.len() && path.starts_with(from);
            if is_below && path != root.path && !self.above.iter().any(|(seen, _)| *seen == path) {
                self.above.push((path.clone(), Arc::new(entry)));
            }
        }
        let tree = view::tree(reader, root)?;
        match tree.lookup(b"") {
            Ok(Some(top)) => {
                let (root, start, top) = (root.path.clone(), Vec::new(), Arc::new(top.entry));
                self.parts.push(Part { tree, root, start, top });
            }
            Ok(None) => {
                let error = Error::damaged("tree", "it does not hold its own root");
                self.lost.push((root.path.clone(), error));
            }
            Err(error) if super::is_local(&error) => self.lost.push((root.path.clone(), error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Names come from the snapshot: nothing in them may lead out of where an archive is unpacked.
fn check_path(path: &[u8]) -> Result<()> {
    if path.contains(&0) || path.split(|c| *c == b'/').any(|n| matches!(n, b"." | b"..")) {
        return Err(Error::damaged("snapshot", "a root's path is not one"));
    }
    Ok(())
}
