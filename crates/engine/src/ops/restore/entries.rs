//! Writing entries one by one: what needs no stored content at once, the rest is handed on to
//! [`super::content`]. Hard links come after the content of their window.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::destination::{Attributes, DestinationError, DestinationErrorKind};
use crate::meta::{Kind, Metadata};
use crate::tree::content::read_xattrs;
use crate::tree::{Content, Entry};
use crate::{Error, Result};

use super::decide::{self, Verdict, decide};
use super::select::Part;
use super::state::{Run, Worker, lock};
use super::verify;
use super::walk::{Item, Window, is_taken, tree_path};

/// Items that a thread takes at once: enough for threads to be in different directories mostly,
/// since making a file locks its directory.
const SHARE: usize = 128;

/// An item whose turn comes later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Todo {
    /// Its number in the window.
    pub(super) item: u32,
    /// Something is there that has to go.
    pub(super) replace: bool,
}

/// What remains to be done with an item.
enum Next {
    Nothing,
    Content,
    Link,
}

/// Writes a window's entries as far as that needs no stored content. Returns those that do, and
/// the hard links.
pub(super) fn write_entries(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
) -> (Vec<Todo>, Vec<Todo>) {
    let cursor = AtomicUsize::new(0);
    let left = Mutex::new((Vec::new(), Vec::new()));
    run.parallel(window.items.len().div_ceil(SHARE), |worker| {
        let (mut contents, mut links) = (Vec::new(), Vec::new());
        loop {
            let first = cursor.fetch_add(SHARE, Ordering::Relaxed);
            let share = window.items.iter().enumerate().skip(first).take(SHARE);
            if share.len() == 0 || run.is_stopping() {
                break;
            }
            for (number, item) in share {
                let (next, replace) =
                    write_entry(run, parts, window, worker, item).unwrap_or_else(|error| {
                        run.fail(&window.origin(parts, item), error);
                        worker.done(run, 1, 0);
                        (Next::Nothing, false)
                    });
                let todo = Todo { item: number as u32, replace };
                match next {
                    Next::Nothing => {}
                    Next::Content => contents.push(todo),
                    Next::Link => links.push(todo),
                }
            }
        }
        let mut left = lock(&left);
        left.0.append(&mut contents);
        left.1.append(&mut links);
    });
    let (mut contents, mut links) =
        left.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    contents.sort_unstable_by_key(|todo: &Todo| todo.item);
    links.sort_unstable_by_key(|todo: &Todo| todo.item);
    (contents, links)
}

/// A name in the same directory that nothing else has in this run.
fn beside(path: &[u8]) -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let directory = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!(".holdfast-tmp-{}-{number}", std::process::id());
    [path.get(..directory).unwrap_or_default(), name.as_bytes()].concat()
}

/// Makes an entry. What it replaces goes only once it is known that it can be made.
fn make_there<T, E: From<DestinationError>>(
    run: &Run<'_>,
    path: &[u8],
    replace: bool,
    make: impl Fn(&[u8]) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    if replace {
        let trial = beside(path);
        make(&trial)?;
        run.destination.remove(&trial)?;
        run.destination.remove(path)?;
    }
    make(path)
}

fn write_entry(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    worker: &mut Worker,
    item: &Item,
) -> Result<(Next, bool)> {
    let nothing = Ok((Next::Nothing, false));
    let Some(group) = window.group(item) else { return nothing };
    if group.blocked {
        // Its directory is in the list of failures.
        worker.report.failures += 1;
        worker.done(run, 1, 0);
        return nothing;
    }
    window.path(parts, item, &mut worker.path);
    let entry = &item.entry;
    let existing = if group.fresh { None } else { run.destination.stat(&worker.path)? };
    let mut verdict = decide(run.options, run.destination, entry, &worker.path, existing.as_ref())?;
    if let Verdict::Unchanged(_) = verdict
        && run.options.verify
        && !verify::has_content(run, entry, &worker.path)?
    {
        verdict = Verdict::Replace;
    }
    match verdict {
        Verdict::Create | Verdict::Replace => {}
        Verdict::ReplaceDirectory => {
            let part = parts.get(group.part as usize).ok_or_else(super::walk::no_part)?;
            let path = std::mem::take(&mut worker.path);
            let gone = super::directories::remove_tree(run, part, worker, &path);
            worker.path = path;
            if !gone? {
                let what = "a directory is in the way that holds excluded things";
                return Err(Error::Usage(what.into()));
            }
        }
        Verdict::Unchanged(fix) => {
            // A hard link is unchanged only if it is one, where that can be told.
            let can_tell = existing.as_ref().is_some_and(|existing| existing.inode != 0);
            let is_link = fix && can_tell && !entry.hard_link.is_empty() && !run.options.dry_run;
            if is_link && first_of(run, parts, window, item).is_some() {
                return Ok((Next::Link, true));
            }
            if let Some(existing) = existing.filter(|_| fix) {
                fix_attributes(run, parts, window, worker, item, &existing)?;
            }
            unchanged(run, worker, entry);
            return nothing;
        }
        Verdict::Leave => {
            worker.report.skipped += 1;
            worker.done(run, 1, 0);
            return nothing;
        }
        Verdict::InTheWay => return Err(Error::Usage("a directory is in the way".into())),
    }
    let replace = verdict == Verdict::Replace;
    if run.options.dry_run {
        let bytes = if entry.hard_link.is_empty() { stored_size(entry) } else { 0 };
        if run.options.list_packs {
            super::packs::list(run, entry)?;
        }
        worker.report.bytes += bytes;
        written(run, worker, entry, verdict != Verdict::Create);
        worker.done(run, 0, bytes);
        return nothing;
    }
    if !entry.hard_link.is_empty() {
        return Ok((Next::Link, replace));
    }
    write_own(run, parts, window, worker, item, replace).map(|next| (next, replace))
}

/// Bytes of content that an entry needs: what is in its extents, if it has holes.
fn stored_size(entry: &Entry) -> u64 {
    match (entry.metadata.kind, entry.extents.is_empty()) {
        (Kind::File, true) if entry.content == Content::None => 0,
        (Kind::File, true) => entry.metadata.size,
        (Kind::File, false) => entry.extents.iter().map(|extent| extent.length).sum(),
        _ => 0,
    }
}

/// Writes the item at the worker's path, if that needs no stored content.
fn write_own(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    worker: &mut Worker,
    item: &Item,
    replace: bool,
) -> Result<Next> {
    let entry = &item.entry;
    let unread = match entry.metadata.kind {
        Kind::File => entry.content == Content::None && entry.metadata.size > 0,
        Kind::Symlink => entry.target.is_empty(),
        _ => false,
    };
    if unread && !entry.error.is_empty() {
        let why = format!("it could not be read when it was backed up: {}", entry.error);
        return Err(Error::Usage(why));
    }
    if entry.metadata.kind != Kind::File {
        let make = |path: &[u8]| {
            with_attributes(run, parts, window, item, |attributes| {
                if entry.metadata.kind == Kind::Symlink {
                    run.destination.make_symlink(path, &entry.target, attributes)
                } else {
                    run.destination.make_special(path, attributes)
                }
            })
        };
        let unset = make_there(run, &worker.path, replace, make)?;
        worker.report.unset.merge(unset);
        written(run, worker, entry, replace);
        return Ok(Next::Nothing);
    }
    match &entry.content {
        Content::None => {
            write_whole(run, parts, window, worker, item, b"", replace).map(|()| Next::Nothing)
        }
        Content::Inline(bytes) => {
            write_whole(run, parts, window, worker, item, bytes, replace).map(|()| Next::Nothing)
        }
        _ => Ok(Next::Content),
    }
}

/// Writes a regular file whose whole content is at hand, to the worker's path.
pub(super) fn write_whole(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    worker: &mut Worker,
    item: &Item,
    content: &[u8],
    replace: bool,
) -> Result<()> {
    let entry = &item.entry;
    let holes = !entry.extents.is_empty() || content.is_empty() && entry.metadata.size > 0;
    let unset = if holes {
        let file = run.destination.create_file(&worker.path, entry.metadata.size, replace)?;
        let mut rest = content;
        for extent in &entry.extents {
            let length = usize::try_from(extent.length).unwrap_or(usize::MAX).min(rest.len());
            let (bytes, after) = rest.split_at(length);
            file.write_at(extent.offset, bytes)?;
            rest = after;
        }
        if !rest.is_empty() {
            return Err(Error::damaged("entry", "its content is longer than its extents"));
        }
        with_attributes(run, parts, window, item, |attributes| file.finish(attributes))?
    } else {
        with_attributes(run, parts, window, item, |attributes| {
            run.destination.write_file(&worker.path, content, attributes, replace)
        })?
    };
    worker.report.unset.merge(unset);
    worker.report.bytes += content.len() as u64;
    written(run, worker, entry, replace);
    worker.done(run, 0, content.len() as u64);
    Ok(())
}

/// Counts a written entry.
pub(super) fn written(run: &Run<'_>, worker: &mut Worker, entry: &Entry, replaced: bool) {
    match entry.metadata.kind {
        Kind::File => worker.report.files += 1,
        _ => worker.report.others += 1,
    }
    if replaced {
        worker.report.replaced += 1;
    } else {
        worker.report.created += 1;
    }
    worker.done(run, 1, 0);
}

fn unchanged(run: &Run<'_>, worker: &mut Worker, entry: &Entry) {
    let bytes = if entry.metadata.kind == Kind::File { entry.metadata.size } else { 0 };
    worker.report.unchanged += 1;
    worker.report.unchanged_bytes += bytes;
    worker.done(run, 1, bytes);
}

fn fix_attributes(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    worker: &mut Worker,
    item: &Item,
    existing: &Metadata,
) -> Result<()> {
    let found = run.destination.xattrs(&worker.path)?;
    let fixed = with_attributes(run, parts, window, item, |attributes| {
        let Attributes { metadata, xattrs } = attributes;
        if !decide::attributes_differ(run.destination, metadata, xattrs, existing, &found) {
            return Ok(None);
        }
        if run.options.dry_run {
            return Ok(Some(crate::destination::Unset::default()));
        }
        run.destination.set_attributes(&worker.path, attributes).map(Some)
    })?;
    if let Some(unset) = fixed {
        worker.report.attributes += 1;
        worker.report.unset.merge(unset);
    }
    Ok(())
}

/// Calls `body` with all attributes of an item. Extended attributes that cannot be read are
/// recorded, and the rest of the item is restored.
pub(super) fn with_attributes<T>(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    item: &Item,
    body: impl FnOnce(Attributes<'_>) -> T,
) -> T {
    let Entry { metadata, xattrs, xattrs_blob, .. } = &item.entry;
    let Some(id) = xattrs_blob else { return body(Attributes { metadata, xattrs }) };
    let xattrs = read_xattrs(run.reader, id).unwrap_or_else(|error| {
        run.fail(&window.origin(parts, item), error);
        Vec::new()
    });
    body(Attributes { metadata, xattrs: &xattrs })
}

/// Makes hard links. Returns the items that could not be linked and have to be written with
/// content of their own.
pub(super) fn write_links(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    links: &[Todo],
) -> Vec<Todo> {
    let cursor = AtomicUsize::new(0);
    let left = Mutex::new(Vec::new());
    run.parallel(links.len().div_ceil(8), |worker| {
        loop {
            let next = links.get(cursor.fetch_add(1, Ordering::Relaxed));
            let Some(todo) = next.filter(|_| !run.is_stopping()) else { break };
            let Some(item) = window.items.get(todo.item as usize) else { continue };
            window.path(parts, item, &mut worker.path);
            match write_link(run, parts, window, worker, item, todo.replace) {
                Ok(None) => {}
                Ok(Some(replace)) => lock(&left).push(Todo { replace, ..*todo }),
                Err(error) => {
                    run.fail(&window.origin(parts, item), error);
                    worker.done(run, 1, 0);
                }
            }
        }
    });
    let mut left = left.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    left.sort_unstable_by_key(|todo: &Todo| todo.item);
    left
}

/// Links one item. `Some` if it needs content instead, and whether it replaces something.
fn write_link(
    run: &Run<'_>,
    parts: &[Part<'_>],
    window: &Window,
    worker: &mut Worker,
    item: &Item,
    replace: bool,
) -> Result<Option<bool>> {
    if let Some(first) = first_of(run, parts, window, item) {
        // The time is set last: a first one of the right size and time is complete.
        let found = run.destination.stat(&first)?;
        let existing = if replace { run.destination.stat(&worker.path)? } else { None };
        if let Some(found) =
            found.filter(|found| decide::is_same(run.destination, &item.entry.metadata, found))
        {
            let is_linked = existing.is_some_and(|e| e.inode != 0 && e.inode == found.inode);
            if is_linked {
                unchanged(run, worker, &item.entry);
                return Ok(None);
            }
            let link = |path: &[u8]| run.destination.make_hard_link(path, &first);
            match make_there(run, &worker.path, replace, link) {
                Ok(()) => {
                    written(run, worker, &item.entry, replace);
                    return Ok(None);
                }
                Err(e) if e.kind == DestinationErrorKind::Unsupported => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    match write_own(run, parts, window, worker, item, replace)? {
        Next::Content => Ok(Some(replace)),
        _ => Ok(None),
    }
}

/// Where the first of an item's hard links is restored to, if this run restores it.
fn first_of(run: &Run<'_>, parts: &[Part<'_>], window: &Window, item: &Item) -> Option<Vec<u8>> {
    let part = parts.get(window.group(item)?.part as usize)?;
    let first = &item.entry.hard_link;
    let is_sane = first.split(|c| *c == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
    if !is_sane || *first == tree_path(window, item) || !is_taken(run, part, first, false) {
        return None;
    }
    let mut path = Vec::new();
    part.destination(first, b"", &mut path);
    Some(path)
}
