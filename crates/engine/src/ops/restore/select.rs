//! Which parts of a snapshot's trees a restore takes, and where below the destination each goes.

use crate::format::snapshot::{Root, Sum};
use crate::hash::BlobId;
use crate::meta::Kind;
use crate::repo::BlobReader;
use crate::repo::snapshots::is_within;
use crate::tree::entry::{Entry, decode_alone};
use crate::tree::view::{self, Located};
use crate::tree::{TreeReader, join, split, totals};
use crate::{Error, Result};

use super::{Choice, RestoreOptions};

/// A subtree to restore.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) tree: TreeReader<'a>,
    /// Root node of the tree.
    pub(super) id: BlobId,
    /// Path in the tree where the part starts.
    pub(super) start: Vec<u8>,
    /// The entry there.
    pub(super) top: Entry,
    /// Whether that entry is wanted itself.
    pub(super) choice: Choice,
    /// Where it goes, relative to the destination.
    pub(super) prefix: Vec<u8>,
    /// Its absolute path at the origin.
    pub(super) base: Vec<u8>,
    /// Directories above it to be made where they are missing: destination path and entry, the
    /// topmost first.
    pub(super) above: Vec<(Vec<u8>, Entry)>,
}

impl Part<'_> {
    /// A tree path without the part's start.
    fn below<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let rest = path.get(self.start.len()..).unwrap_or_default();
        rest.strip_prefix(b"/").unwrap_or(rest)
    }

    /// Puts the destination path of an entry into `into`.
    pub(super) fn destination(&self, parent: &[u8], name: &[u8], into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.prefix);
        for more in [self.below(parent), name] {
            if !into.is_empty() && !more.is_empty() {
                into.push(b'/');
            }
            into.extend_from_slice(more);
        }
    }

    /// The absolute path at the origin of a destination path.
    pub(super) fn origin(&self, destination: &[u8]) -> Vec<u8> {
        match destination.get(self.prefix.len()..) {
            Some(rest) => {
                let mut path = self.base.clone();
                if !rest.is_empty() && !rest.starts_with(b"/") && !path.ends_with(b"/") {
                    path.push(b'/');
                }
                // The root directory ends in a slash already.
                let rest = if path.ends_with(b"/") {
                    rest.strip_prefix(b"/").unwrap_or(rest)
                } else {
                    rest
                };
                path.extend_from_slice(rest);
                path
            }
            // A directory above the part: the prefix is the end of the base.
            None => {
                let shorter = self.prefix.len() - destination.len();
                let path = self.base.get(..self.base.len().saturating_sub(shorter));
                view::normalize(path.unwrap_or_default())
            }
        }
    }

    /// The tree path of a destination path within the part.
    pub(super) fn tree_path(&self, destination: &[u8]) -> Vec<u8> {
        let rest = destination.get(self.prefix.len()..).unwrap_or_default();
        join(&self.start, rest.strip_prefix(b"/").unwrap_or(rest))
    }
}

/// What was selected.
#[derive(Debug)]
pub(super) struct Selected<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// Roots whose tree cannot be read at all.
    pub(super) lost: Vec<(Vec<u8>, Error)>,
    /// What is in the parts, where it is known.
    pub(super) total: Option<Sum>,
}

/// Finds the parts that the options mean.
pub(super) fn select<'a>(
    reader: &'a BlobReader<'a>,
    options: &RestoreOptions,
) -> Result<Selected<'a>> {
    let snapshot = &options.snapshot.record;
    let Some(path) = options.path.as_deref().map(view::normalize) else {
        return select_roots(reader, options, snapshot.roots.iter().collect(), b"/");
    };
    let strip = if options.in_place { &b"/"[..] } else { &path };
    match view::locate(snapshot, &path) {
        None => Err(no_such_path(options, &path)),
        Some(Located::Above(roots)) => select_roots(reader, options, roots, strip),
        Some(Located::Within { root, path: start }) => {
            let found = view::tree(reader, root)?.lookup(&start)?;
            let top = found.ok_or_else(|| no_such_path(options, &path))?.entry;
            // A directory's content goes right into the destination, anything else gets there
            // under its name.
            let strip = match top.metadata.kind {
                Kind::Directory => strip,
                _ if options.in_place => strip,
                _ => split(&path).0,
            };
            let mut part = part(reader, root, start, top, strip)?;
            let tree = part.tree;
            let inner = part.start.clone();
            let ends = inner.iter().enumerate().filter(|(_, c)| **c == b'/').map(|(at, _)| at);
            let above = std::iter::once(0).filter(|_| !inner.is_empty()).chain(ends);
            for above in above.filter_map(|end| inner.get(..end)) {
                let absolute = absolute(&root.path, above);
                let Some(to) = relative(&absolute, strip) else { continue };
                if to.is_empty() {
                    continue;
                }
                part.above.extend(tree.lookup(above)?.map(|found| (to, found.entry)));
            }
            let total = if options.filter.is_none() { sum_of(reader, root, &part) } else { None };
            Ok(Selected { parts: vec![part], lost: Vec::new(), total })
        }
    }
}

/// What a part holds, if the totals tree tells. Only the progress depends on it.
fn sum_of(reader: &BlobReader<'_>, root: &Root, part: &Part<'_>) -> Option<Sum> {
    if part.start.is_empty() {
        return root.sum;
    }
    if part.top.metadata.kind != Kind::Directory {
        return Some(Sum { files: 1, bytes: part.top.metadata.size, ..Sum::default() });
    }
    let (parent, name) = split(&part.start);
    let lines = totals::children(reader, &BlobId::from_slice(&root.totals)?, parent).ok()?;
    let mut sum = lines.into_iter().find(|line| line.name == name)?.sum?;
    sum.directories += 1;
    Some(sum)
}

fn select_roots<'a>(
    reader: &'a BlobReader<'a>,
    options: &RestoreOptions,
    roots: Vec<&Root>,
    strip: &[u8],
) -> Result<Selected<'a>> {
    let mut total = options.filter.is_none().then(Sum::default);
    let mut selected = Selected { parts: Vec::new(), lost: Vec::new(), total: None };
    for root in roots {
        match (&mut total, root.sum) {
            (Some(total), Some(sum)) => total.add(&sum),
            _ => total = None,
        }
        let top = view::tree(reader, root).and_then(|tree| tree.lookup(b""));
        let top = match top {
            Ok(Some(top)) => top.entry,
            Ok(None) => {
                let error = Error::damaged("tree", "it does not hold its own root");
                selected.lost.push((root.path.clone(), error));
                continue;
            }
            Err(error) => {
                selected.lost.push((root.path.clone(), error));
                continue;
            }
        };
        let is_directory = top.metadata.kind == Kind::Directory;
        let choice =
            options.filter.as_ref().map_or(Choice::Take, |filter| filter(&root.path, is_directory));
        if choice != Choice::Skip && (is_directory || choice == Choice::Take) {
            selected.parts.push(Part { choice, ..part(reader, root, Vec::new(), top, strip)? });
        }
    }
    selected.total = total;
    Ok(selected)
}

fn part<'a>(
    reader: &'a BlobReader<'a>,
    root: &Root,
    start: Vec<u8>,
    top: Entry,
    strip: &[u8],
) -> Result<Part<'a>> {
    let base = absolute(&root.path, &start);
    let prefix = relative(&base, strip).unwrap_or_default();
    // Names come from the snapshot: nothing in them may lead out of the destination.
    let clean = |path: &[u8]| !path.split(|c| *c == b'/').any(|n| matches!(n, b"." | b".."));
    if !clean(&prefix) || prefix.contains(&0) {
        return Err(Error::damaged("snapshot", "a root's path is not one"));
    }
    let mut above = Vec::new();
    let mut path = Vec::new();
    for ancestor in &root.ancestors {
        let (Some(record), Some(owner)) = (&ancestor.entry, &ancestor.owner) else { continue };
        let entry = decode_alone(record.clone(), owner.clone())
            .map_err(|what| Error::damaged("snapshot", what))?;
        if !entry.name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(&entry.name);
        }
        // The part's own place is not above it, nor is anything beside its path.
        if path == base || !is_within(&base, &path) {
            continue;
        }
        if let Some(to) = relative(&path, strip)
            && !path.is_empty()
            && !(to.is_empty() && strip == b"/")
        {
            above.push((to, entry));
        }
    }
    let id = BlobId::from_slice(&root.tree)
        .ok_or_else(|| Error::damaged("snapshot", "a root has no tree"))?;
    let tree = TreeReader::new(reader, id);
    Ok(Part { tree, id, start, top, choice: Choice::Take, prefix, base, above })
}

fn absolute(root: &[u8], path: &[u8]) -> Vec<u8> {
    let mut absolute = root.to_vec();
    if !path.is_empty() {
        if !absolute.ends_with(b"/") {
            absolute.push(b'/');
        }
        absolute.extend_from_slice(path);
    }
    absolute
}

/// `path` below `strip`, without a slash in front. `None` if it is not below.
fn relative(path: &[u8], strip: &[u8]) -> Option<Vec<u8>> {
    let rest = path.strip_prefix(strip)?;
    if !rest.is_empty() && !rest.starts_with(b"/") && !strip.ends_with(b"/") && !strip.is_empty() {
        return None;
    }
    Some(rest.strip_prefix(b"/").unwrap_or(rest).to_vec())
}

fn no_such_path(options: &RestoreOptions, path: &[u8]) -> Error {
    Error::NoSuchPath {
        snapshot: options.snapshot.id.short(),
        path: String::from_utf8_lossy(path).into_owned(),
    }
}
