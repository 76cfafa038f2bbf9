//! A folder of a snapshot: read page by page from the tree, folders first, so that the first page of
//! a hundred thousand entries is there at once. Another order, or a search, reads all of it.

use std::collections::BTreeMap;

use holdfast_app::text::printable;
use holdfast_app::{Problem, catalogue, entries};
use holdfast_engine::Error;
use holdfast_engine::format::snapshot::{Root, Sum};
use holdfast_engine::hash::BlobId;
use holdfast_engine::meta::Kind;
use holdfast_engine::repo::BlobReader;
use holdfast_engine::repo::snapshots::{SnapshotInfo, is_within};
use holdfast_engine::tree::{Entry, TreeReader, split, totals};

/// Entries on one page.
const PAGE: usize = 200;

/// How entries are sorted. Folders come first where it is by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Name,
    NameDown,
    Size,
    SizeDown,
    Time,
    TimeDown,
}

impl Order {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "-name" => Self::NameDown,
            "size" => Self::Size,
            "-size" => Self::SizeDown,
            "time" => Self::Time,
            "-time" => Self::TimeDown,
            _ => Self::Name,
        }
    }
}

/// Which entries are wanted.
#[derive(Debug)]
pub(crate) struct Entries {
    pub(crate) order: Order,
    /// Only names with this in them, in small letters.
    pub(crate) only: String,
    /// Where the page before ended.
    pub(crate) after: Vec<u8>,
    /// How many come before, where all were read.
    pub(crate) from: usize,
}

/// A page of entries.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Entries; folders with what lies below them.
    pub(crate) rows: Vec<(Entry, Option<Sum>)>,
    /// Where the next page goes on, if there is one.
    pub(crate) after: Option<Vec<u8>>,
    /// Or how many entries come before it.
    pub(crate) from: Option<usize>,
    /// How many there are, where all were read.
    pub(crate) all: Option<u64>,
}

/// A folder.
#[derive(Debug)]
pub(crate) struct Folder<'a> {
    reader: &'a BlobReader<'a>,
    snapshot: &'a SnapshotInfo,
    path: Vec<u8>,
    /// Its tree and its path there; none above the roots.
    inside: Option<(TreeReader<'a>, Vec<u8>)>,
    /// What lies below each folder in it; none if that is not known.
    below: Option<BTreeMap<Vec<u8>, Sum>>,
    /// What lies below it.
    pub(crate) sum: Sum,
}

impl<'a> Folder<'a> {
    /// Finds a folder. Errors: it is not there, or is none.
    pub(crate) fn find(
        reader: &'a BlobReader<'a>,
        snapshot: &'a SnapshotInfo,
        path: &[u8],
    ) -> Result<Self, Problem> {
        let found = entries::find(reader, snapshot, path).map_err(explain)?;
        let Some(found) = found else {
            let roots: Vec<_> = roots_below(snapshot, path).collect();
            let mut sum = Sum::default();
            roots.iter().for_each(|root| sum.add(&root.sum.unwrap_or_default()));
            let (path, inside, below) = (path.to_vec(), None, None);
            return Ok(Self { reader, snapshot, path, inside, below, sum });
        };
        if found.entry.metadata.kind != Kind::Directory {
            let shown = printable(path);
            return Err(Problem::usage(format!("{shown} is no folder"))
                .hint("open the folder that it is in"));
        }
        let below = sums(reader, found.root, &found.path);
        let sum = match split(&found.path) {
            (_, b"") => found.root.sum,
            (parent, name) => {
                sums(reader, found.root, parent).and_then(|sums| sums.get(name).copied())
            }
        };
        let inside = Some((found.tree, found.path));
        let path = path.to_vec();
        Ok(Self { reader, snapshot, path, inside, below, sum: sum.unwrap_or_default() })
    }

    /// A page of it.
    pub(crate) fn entries(&self, wanted: &Entries) -> Result<Found, Problem> {
        if let (Some((tree, path)), Some(below)) = (&self.inside, &self.below)
            && wanted.order == Order::Name
            && wanted.only.is_empty()
        {
            return paged(tree, path, below, &wanted.after).map_err(explain);
        }
        self.sorted(wanted)
    }

    /// All entries, sorted and cut.
    fn sorted(&self, wanted: &Entries) -> Result<Found, Problem> {
        let mut all: Vec<(Entry, Option<Sum>)> = Vec::new();
        let fits = |name: &[u8]| {
            wanted.only.is_empty() || printable(name).to_lowercase().contains(&wanted.only)
        };
        let mut each = |path: &[u8], entry: &Entry| -> Result<(), Error> {
            let name = split(path).1;
            if fits(name) {
                let entry = Entry { name: name.to_vec(), ..entry.clone() };
                let sum = (entry.metadata.kind == Kind::Directory)
                    .then(|| self.sum_of(path, &entry.name))
                    .flatten();
                all.push((entry, sum));
            }
            Ok(())
        };
        entries::list(self.reader, self.snapshot, &self.path, false, &mut each).map_err(explain)?;
        let size =
            |(entry, sum): &(Entry, Option<Sum>)| sum.map_or(entry.metadata.size, |s| s.bytes);
        let time = |(entry, sum): &(Entry, Option<Sum>)| {
            let own = entry.metadata.mtime.total_nanos();
            sum.map_or(own, |sum| sum.latest.max(own))
        };
        let kind = |(entry, _): &(Entry, Option<Sum>)| entry.metadata.kind != Kind::Directory;
        // Sorted by name already, so that what is equal stays in that order.
        match wanted.order {
            Order::Name => all.sort_by_key(kind),
            Order::NameDown => {
                all.reverse();
                all.sort_by_key(kind);
            }
            Order::Size => all.sort_by_key(size),
            Order::SizeDown => all.sort_by_key(|row| std::cmp::Reverse(size(row))),
            Order::Time => all.sort_by_key(time),
            Order::TimeDown => all.sort_by_key(|row| std::cmp::Reverse(time(row))),
        }
        let count = all.len();
        let rows: Vec<_> = all.into_iter().skip(wanted.from).take(PAGE).collect();
        let end = wanted.from + rows.len();
        Ok(Found { rows, after: None, from: (end < count).then_some(end), all: Some(count as u64) })
    }

    fn sum_of(&self, path: &[u8], name: &[u8]) -> Option<Sum> {
        if self.inside.is_some() {
            return self.below.as_ref()?.get(name).copied();
        }
        let mut sum = Sum::default();
        for root in roots_below(self.snapshot, path) {
            sum.add(&root.sum.unwrap_or_default());
        }
        Some(sum)
    }
}

fn explain(error: Error) -> Problem {
    catalogue::explain(&error, None)
}

fn roots_below<'a>(snapshot: &'a SnapshotInfo, path: &[u8]) -> impl Iterator<Item = &'a Root> {
    let path = path.to_vec();
    snapshot.record.roots.iter().filter(move |root| is_within(&root.path, &path))
}

/// What lies below each folder in `path`; `None` where that cannot be read.
fn sums(reader: &BlobReader<'_>, root: &Root, path: &[u8]) -> Option<BTreeMap<Vec<u8>, Sum>> {
    if root.totals.is_empty() {
        // There is no folder below the root at all.
        return Some(BTreeMap::new());
    }
    let lines = totals::children(reader, &BlobId::from_slice(&root.totals)?, path).ok()?;
    Some(lines.into_iter().map(|line| (line.name, line.sum.unwrap_or_default())).collect())
}

/// A page from where the last one ended: `d` or `f` and a name. First folders, which the totals list,
/// then the rest, from the tree.
fn paged(
    tree: &TreeReader<'_>,
    path: &[u8],
    below: &BTreeMap<Vec<u8>, Sum>,
    after: &[u8],
) -> Result<Found, Error> {
    use std::ops::Bound;
    let mut found = Found::default();
    let (is_file, last) = match after.split_first() {
        Some((b'f', name)) => (true, name),
        Some((_, name)) => (false, name),
        None => (false, after),
    };
    if !is_file {
        let bounds = (Bound::Excluded(last.to_vec()), Bound::Unbounded);
        for (name, sum) in below.range(bounds.clone()).take(PAGE) {
            if let Some(entry) = tree.lookup(&join_relative(path, name))? {
                found.rows.push((entry.entry, Some(*sum)));
            }
        }
        if found.rows.len() == PAGE && below.range(bounds).nth(PAGE).is_some() {
            found.after = mark(b'd', &found.rows);
            return Ok(found);
        }
    }
    let start = if is_file { last } else { b"" };
    for entry in tree.list_from(path, start) {
        let entry = entry?.entry;
        if entry.metadata.kind == Kind::Directory || is_file && entry.name == last {
            continue;
        }
        if found.rows.len() == PAGE {
            found.after = match found.rows.last() {
                Some((row, _)) if row.metadata.kind == Kind::Directory => mark(b'd', &found.rows),
                _ => mark(b'f', &found.rows),
            };
            break;
        }
        found.rows.push((entry, None));
    }
    Ok(found)
}

fn mark(kind: u8, rows: &[(Entry, Option<Sum>)]) -> Option<Vec<u8>> {
    let mut mark = vec![kind];
    mark.extend_from_slice(&rows.last()?.0.name);
    Some(mark)
}

fn join_relative(path: &[u8], name: &[u8]) -> Vec<u8> {
    holdfast_engine::tree::join(path, name)
}

/// The path of an entry of a folder.
pub(crate) fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = folder.strip_suffix(b"/").unwrap_or(folder).to_vec();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// "anna 644": who owns it, and its permissions.
pub(super) fn owner(entry: &Entry) -> String {
    let owner = &entry.metadata.owner;
    let user = match owner.user.as_ref() {
        "" => owner.uid.to_string(),
        user => printable(user.as_bytes()),
    };
    format!("{user} {:03o}", entry.metadata.mode)
}

/// The icon of an entry.
pub(super) fn icon(entry: &Entry) -> &'static str {
    match entry.metadata.kind {
        Kind::Directory => "i-folder",
        _ if super::preview::is_image_name(&entry.name) => "i-image",
        _ => "i-file",
    }
}
