//! Directories: made as the walk meets them, and finished at the very end, the deepest first:
//! what the snapshot does not hold is removed, and attributes are set, since everything done in
//! a directory changes its time and may need its permissions.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::destination::Attributes;
use crate::hash::BlobId;
use crate::meta::Kind;
use crate::tree::content::read_xattrs;
use crate::tree::read::{leaf_entries, read_node};
use crate::tree::{PathEntry, compare_paths};
use crate::{Error, Result};

use super::select::Part;
use super::state::{Run, Worker, concerns_all, lock};
use super::walk::{Directory, is_taken, map_owner};
use super::{Choice, Overwrite};

/// Directories whose attributes are kept in memory until the end: some 30 MiB. If there are
/// more, the trees are read once more for them.
const KEPT: usize = 64 << 10;

/// Directories finished together, when the trees are read again.
const BATCH: usize = 16 << 10;

/// Directories to be finished at the end.
#[derive(Debug, Default)]
pub(super) struct Finish {
    /// Those above the parts and the parts' own.
    tops: Vec<Directory>,
    kept: Vec<Directory>,
    /// There were too many: none is kept.
    overflowed: bool,
}

fn depth(path: &[u8]) -> usize {
    match path.is_empty() {
        true => 0,
        false => 1 + path.iter().filter(|c| **c == b'/').count(),
    }
}

impl Finish {
    /// Makes the directories above the parts where they are missing.
    pub(super) fn start(&mut self, run: &Run<'_>, parts: &[Part<'_>]) {
        let mut worker = Worker::default();
        for (number, part) in (0..).zip(parts) {
            for (path, entry) in &part.above {
                // The destination itself stands for this directory.
                let is_destination = path.is_empty();
                let mut directory = Directory::new(number, path.clone(), entry.clone());
                map_owner(run, &mut directory.metadata);
                make_one(run, part, &mut worker, &mut directory);
                if directory.usable && (directory.fresh || is_destination && number == 0) {
                    self.tops.push(directory);
                }
            }
            // What no record tells of is made too, with the attributes of any new directory.
            let ends = part.prefix.iter().enumerate().filter(|(_, c)| **c == b'/');
            for end in ends.map(|(at, _)| at) {
                let path = part.prefix.get(..end).unwrap_or_default();
                if !run.options.dry_run
                    && let Err(error) = run.destination.make_directory(path)
                {
                    run.fail(&part.origin(path), error.into());
                    run.blocked.insert(path);
                    break;
                }
            }
        }
        worker.flush(run);
    }

    /// Makes a window's directories, those of one depth at the same time.
    pub(super) fn make(
        &mut self,
        run: &Run<'_>,
        parts: &[Part<'_>],
        mut directories: Vec<Directory>,
    ) {
        // Stable, so that each level stays in tree order.
        directories.sort_by_key(|directory| depth(&directory.path));
        let is_same_level = |a: &Directory, b: &Directory| depth(&a.path) == depth(&b.path);
        for level in directories.chunk_by_mut(is_same_level) {
            let shares: Vec<_> = level.chunks_mut(8).map(Mutex::new).collect();
            let cursor = AtomicUsize::new(0);
            run.parallel(shares.len(), |worker| {
                while let Some(share) = shares.get(cursor.fetch_add(1, Ordering::Relaxed)) {
                    if run.is_stopping() {
                        break;
                    }
                    for directory in lock(share).iter_mut() {
                        let Some(part) = parts.get(directory.part as usize) else { continue };
                        make_one(run, part, worker, directory);
                        worker.done(run, 1, 0);
                    }
                }
            });
        }
        for directory in directories.into_iter().filter(|directory| directory.usable) {
            let is_top = parts
                .get(directory.part as usize)
                .is_some_and(|part| part.prefix == directory.path);
            if is_top {
                self.tops.push(directory);
            } else if !self.overflowed {
                self.kept.push(directory);
            }
        }
        if self.kept.len() > KEPT {
            self.kept = Vec::new();
            self.overflowed = true;
        }
    }

    /// Finishes all directories.
    pub(super) fn finish(self, run: &Run<'_>, parts: &[Part<'_>]) -> Result<()> {
        let Self { tops, kept, overflowed } = self;
        if overflowed {
            for (number, part) in parts.iter().enumerate().rev() {
                finish_again(run, parts, number as u32, part)?;
            }
        } else {
            finish_all(run, parts, kept);
        }
        finish_all(run, parts, tops);
        Ok(())
    }
}

/// Makes one directory, and notes whether anything can go into it.
fn make_one(run: &Run<'_>, part: &Part<'_>, worker: &mut Worker, directory: &mut Directory) {
    let path = &directory.path;
    if run.blocked.covers(path) {
        worker.report.failures += 1;
        return;
    }
    match make_directory(run, directory) {
        Ok(Made::New) => {
            directory.fresh = true;
            directory.usable = true;
            if !run.fresh.covers(path) {
                run.fresh.insert(path);
            }
            worker.report.created += 1;
        }
        Ok(Made::Existed) => directory.usable = true,
        Ok(Made::Left) => {
            run.blocked.insert(path);
            worker.report.skipped += 1;
        }
        Err(error) => {
            run.blocked.insert(path);
            run.fail(&part.origin(path), error);
        }
    }
}

enum Made {
    New,
    Existed,
    /// Something else is there, and the policy is to leave it.
    Left,
}

fn make_directory(run: &Run<'_>, directory: &Directory) -> Result<Made> {
    let (path, options) = (&directory.path, run.options);
    if options.dry_run && run.fresh.covers(path) {
        return Ok(Made::New);
    }
    let refused = if options.dry_run {
        None
    } else {
        match run.destination.make_directory(path) {
            Ok(true) => return Ok(Made::New),
            Ok(false) => return Ok(Made::Existed),
            Err(error) => Some(error),
        }
    };
    let existing = run.destination.stat(path)?;
    match (existing.map(|existing| existing.kind), refused) {
        (None, None) => Ok(Made::New),
        (Some(Kind::Directory), None) => Ok(Made::Existed),
        (Some(Kind::Directory) | None, Some(error)) => Err(error.into()),
        (Some(_), refused) => match options.overwrite {
            Overwrite::IfNewer | Overwrite::Never => Ok(Made::Left),
            Overwrite::Always | Overwrite::IfChanged if refused.is_none() => Ok(Made::New),
            Overwrite::Always | Overwrite::IfChanged => {
                run.destination.remove(path)?;
                run.destination.make_directory(path)?;
                Ok(Made::New)
            }
        },
    }
}

/// Finishes directories, the deepest first, those of one depth at the same time.
fn finish_all(run: &Run<'_>, parts: &[Part<'_>], mut directories: Vec<Directory>) {
    directories.sort_by_key(|directory| std::cmp::Reverse(depth(&directory.path)));
    for level in directories.chunk_by(|a, b| depth(&a.path) == depth(&b.path)) {
        let cursor = AtomicUsize::new(0);
        run.parallel(level.len().div_ceil(16), |worker| {
            while let Some(directory) = level.get(cursor.fetch_add(1, Ordering::Relaxed)) {
                if run.is_stopping() {
                    break;
                }
                let Some(part) = parts.get(directory.part as usize) else { continue };
                if let Err(error) = finish_one(run, part, worker, directory) {
                    run.fail(&part.origin(&directory.path), error);
                }
            }
        });
    }
}

fn finish_one(
    run: &Run<'_>,
    part: &Part<'_>,
    worker: &mut Worker,
    directory: &Directory,
) -> Result<()> {
    let Directory { path, metadata, xattrs, xattrs_blob, fresh, .. } = directory;
    if run.options.delete && !fresh && path.len() >= part.prefix.len() {
        remove_others(run, part, worker, path)?;
    }
    worker.report.directories += 1;
    let is_left = run.options.overwrite == Overwrite::Never && !fresh;
    if run.options.dry_run || is_left {
        return Ok(());
    }
    let read = xattrs_blob.as_ref().map(|id| read_xattrs(run.reader, id));
    let (far, problem) = match read {
        None => (None, None),
        Some(Ok(xattrs)) => (Some(xattrs), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let xattrs = far.as_ref().unwrap_or(xattrs);
    let unset = run.destination.set_attributes(path, Attributes { metadata, xattrs })?;
    worker.report.unset.merge(unset);
    problem.map_or(Ok(()), Err)
}

/// Removes from a directory what the snapshot does not hold there.
fn remove_others(run: &Run<'_>, part: &Part<'_>, worker: &mut Worker, path: &[u8]) -> Result<()> {
    let mut names = match run.destination.list(path) {
        Ok(names) => names,
        // A dry run did not make it.
        Err(_) if run.options.dry_run => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    let mut held = part.tree.list(&part.tree_path(path)).peekable();
    for name in names {
        // If a node cannot be read, nothing is known of the names in it: nothing is removed.
        while let Some(entry) =
            held.next_if(|entry| entry.as_ref().map_or(true, |e| e.entry.name < name))
        {
            entry?;
        }
        let is_held = matches!(held.peek(), Some(Ok(entry)) if entry.entry.name == name);
        if is_held || run.is_stopping() {
            continue;
        }
        remove_tree(run, part, worker, &crate::tree::join(path, &name))?;
    }
    Ok(())
}

/// Removes what stands at `path`, but for what the filter excludes. Links are removed and not
/// followed. False if something is left.
pub(super) fn remove_tree(
    run: &Run<'_>,
    part: &Part<'_>,
    worker: &mut Worker,
    path: &[u8],
) -> Result<bool> {
    let Some(existing) = run.destination.stat(path)? else { return Ok(true) };
    let is_directory = existing.kind == Kind::Directory;
    let choice = match &run.options.filter {
        Some(filter) => filter(&part.origin(path), is_directory),
        None => Choice::Take,
    };
    if choice == Choice::Skip || run.is_stopping() {
        return Ok(false);
    }
    let mut is_empty = true;
    if is_directory {
        for name in run.destination.list(path)? {
            is_empty &= remove_tree(run, part, worker, &crate::tree::join(path, &name))?;
        }
    }
    if !is_empty || choice != Choice::Take {
        return Ok(false);
    }
    if !run.options.dry_run {
        run.destination.remove(path)?;
    }
    worker.report.deleted += 1;
    Ok(true)
}

/// Finishes the directories of a part whose attributes were too many to keep: reads the tree's
/// leaves again, from the last to the first, so that the deepest come first here too.
fn finish_again(run: &Run<'_>, parts: &[Part<'_>], number: u32, part: &Part<'_>) -> Result<()> {
    let mut leaves = Vec::new();
    collect_leaves(run, part, &part.id, 0, &mut leaves)?;
    let mut batch = Vec::new();
    for id in leaves.into_iter().rev() {
        if run.is_stopping() {
            return Ok(());
        }
        let leaf = match read_node(run.reader, &id).and_then(|node| leaf_entries(&id, node)) {
            Ok(leaf) => leaf,
            Err(error) if concerns_all(&error) => return Err(error),
            // The walk has reported it.
            Err(_) => continue,
        };
        for found in leaf {
            batch.extend(finishable(run, part, number, found)?);
        }
        if batch.len() >= BATCH {
            finish_all(run, parts, std::mem::take(&mut batch));
        }
    }
    finish_all(run, parts, batch);
    Ok(())
}

fn finishable(
    run: &Run<'_>,
    part: &Part<'_>,
    number: u32,
    found: PathEntry,
) -> Result<Option<Directory>> {
    let is_directory = found.entry.metadata.kind == Kind::Directory;
    let path = found.path();
    if !is_directory || path.len() <= part.start.len() {
        return Ok(None);
    }
    if !part.start.is_empty() && !crate::repo::snapshots::is_within(&path, &part.start) {
        return Ok(None);
    }
    let mut destination = Vec::new();
    part.destination(&path, b"", &mut destination);
    if run.blocked.covers(&destination) {
        return Ok(None);
    }
    if run.options.filter.is_some() && !is_taken(run, part, &path, true) {
        // Perhaps it was made because something in it was taken, and perhaps it was not.
        let made = run.fresh.covers(&destination) && run.destination.stat(&destination)?.is_some();
        if !made {
            return Ok(None);
        }
    }
    let mut directory = Directory::new(number, destination, found.entry);
    map_owner(run, &mut directory.metadata);
    directory.fresh = run.fresh.covers(&directory.path);
    Ok(Some(directory))
}

/// The leaves that may hold something of the part, in order.
fn collect_leaves(
    run: &Run<'_>,
    part: &Part<'_>,
    id: &BlobId,
    above: u32,
    leaves: &mut Vec<BlobId>,
) -> Result<()> {
    let node = match read_node(run.reader, id) {
        Ok(node) => node,
        Err(error) if concerns_all(&error) => return Err(error),
        Err(_) => return Ok(()),
    };
    if node.level == 0 {
        leaves.push(*id);
        return Ok(());
    }
    if above > 0 && node.level >= above {
        return Err(Error::damaged(format!("tree node {}", id.short()), "its level is wrong"));
    }
    for (at, child) in node.children.iter().enumerate() {
        let next = node.children.get(at + 1);
        if next.is_some_and(|next| compare_paths(&next.parent, &part.start).is_lt()) {
            continue;
        }
        let Some(child) = BlobId::from_slice(&child.id) else { continue };
        if node.level == 1 {
            leaves.push(child);
        } else {
            collect_leaves(run, part, &child, node.level, leaves)?;
        }
    }
    Ok(())
}
