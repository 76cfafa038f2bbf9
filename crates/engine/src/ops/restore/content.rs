//! Content: references of a window are sorted by where they lie, joined into long reads, and
//! each read is opened and written by one thread from start to end. A chunk or bundle is opened
//! once for all the places it goes to.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::bundle::Members;
use crate::error::chain_text;
use crate::format::pack::MAX_BLOB;
use crate::hash::BlobId;
use crate::repo::index::{PackInfo, Place};
use crate::repo::reader::may_heal;
use crate::storage::ObjectName;
use crate::tree::entry::ChunkRef;
use crate::tree::{Content, Entry, chunks};
use crate::{Error, Result};

use super::entries::{Todo, with_attributes, write_whole, written};
use super::select::Part;
use super::state::{Run, Worker};
use super::walk::{Item, Window};

use file::OpenFile;

mod file;

/// References that are planned at once: 5 MiB of plan, 32 GiB of a big file.
const REFERENCES: usize = 64 << 10;

/// Files of several chunks that may be open at once.
const OPEN_FILES: usize = 256;

/// Unwanted bytes that are read rather than asking again.
const GAP: u64 = 256 << 10;

/// Ends of reads are rounded to this, so that requests do not tell what was looked for.
const ROUND: u64 = 64 << 10;

/// Number of a file that is written whole.
const WHOLE: u32 = u32::MAX;

/// A place where a blob's bytes, or some of them, go.
#[derive(Debug, Clone, Copy)]
struct Reference {
    place: Place,
    id: BlobId,
    item: u32,
    /// Number of the open file, or [`WHOLE`].
    file: u32,
    replace: bool,
    /// Where in the file's content it goes.
    at: u64,
    /// Length that the tree says; 0 for a bundle.
    length: u32,
}

/// References to resolve together.
#[derive(Default)]
struct Batch {
    references: Vec<Reference>,
    files: Vec<OpenFile>,
    last: Option<(BlobId, Place)>,
    /// Counts what turns out to be done while it is planned.
    planner: Worker,
}

/// A read: some references to one pack.
#[derive(Debug)]
struct Span {
    pack: u32,
    start: u64,
    end: u64,
    first: usize,
    count: usize,
}

struct Writer<'a> {
    run: &'a Run<'a>,
    parts: &'a [Part<'a>],
    window: &'a Window,
}

/// Writes the files of `todos`.
pub(super) fn write_contents(run: &Run<'_>, parts: &[Part<'_>], window: &Window, todos: &[Todo]) {
    let writer = Writer { run, parts, window };
    let mut batch = Batch::default();
    for todo in todos {
        if run.is_stopping() {
            break;
        }
        let Some(item) = window.items.get(todo.item as usize) else { continue };
        if batch.references.len() >= REFERENCES || batch.files.len() >= OPEN_FILES {
            writer.execute(&mut batch);
            batch.files.clear();
        }
        if let Err(error) = writer.plan(&mut batch, item, *todo) {
            writer.fail(item, error);
            batch.planner.done(run, 1, 0);
        }
    }
    writer.execute(&mut batch);
    batch.planner.flush(run);
}

impl Batch {
    fn find(&mut self, run: &Run<'_>, id: &BlobId) -> Result<Place> {
        if let Some((last, place)) = &self.last
            && last == id
        {
            return Ok(*place);
        }
        let place = run.reader.index().find_any(id)?;
        let place = place.ok_or_else(|| Error::MissingBlob { id: id.to_string() })?;
        self.last = Some((*id, place));
        Ok(place)
    }
}

impl Writer<'_> {
    fn fail(&self, item: &Item, error: Error) {
        self.run.fail(&self.window.origin(self.parts, item), error);
    }

    /// Adds the references of a file.
    fn plan(&self, batch: &mut Batch, item: &Item, todo: Todo) -> Result<()> {
        let Todo { item: number, replace } = todo;
        let whole = |id, place, length| Reference {
            place,
            id,
            item: number,
            file: WHOLE,
            replace,
            at: 0,
            length,
        };
        match &item.entry.content {
            Content::None | Content::Inline(_) => Ok(()),
            Content::Member { bundle, .. } => {
                let place = batch.find(self.run, bundle)?;
                batch.references.push(whole(*bundle, place, 0));
                Ok(())
            }
            Content::Chunks(only) if only.len() == 1 => {
                for ChunkRef { id, length } in only {
                    let place = batch.find(self.run, id)?;
                    batch.references.push(whole(*id, place, *length));
                }
                Ok(())
            }
            content => self.plan_chunks(batch, &item.entry, content, todo),
        }
    }

    fn plan_chunks(
        &self,
        batch: &mut Batch,
        entry: &Entry,
        content: &Content,
        todo: Todo,
    ) -> Result<()> {
        batch.files.push(OpenFile::new(todo, entry));
        let mut at = 0;
        let planned = chunks::for_each(self.run.reader, content, &mut |chunk| {
            if batch.references.len() >= REFERENCES {
                // A file of very many chunks goes on in the next batch.
                self.execute(batch);
                let open = batch.files.pop();
                batch.files.clear();
                batch.files.extend(open);
            }
            if self.run.is_stopping() {
                return Err(Error::Interrupted);
            }
            let number = batch.files.len().saturating_sub(1) as u32;
            let place = batch.find(self.run, &chunk.id)?;
            let Some(file) = batch.files.last_mut() else { return Ok(()) };
            file.expect_one_more();
            batch.references.push(Reference {
                place,
                id: chunk.id,
                item: todo.item,
                file: number,
                replace: todo.replace,
                at,
                length: chunk.length,
            });
            at += u64::from(chunk.length);
            Ok(())
        });
        let Some(file) = batch.files.last() else { return Ok(()) };
        let expected = match entry.extents.is_empty() {
            true => entry.metadata.size,
            false => entry.extents.iter().map(|extent| extent.length).sum(),
        };
        let planned = planned.and_then(|()| match at == expected || !entry.error.is_empty() {
            true => Ok(()),
            false => {
                Err(Error::damaged("entry", format!("its content is {at} bytes, not {expected}")))
            }
        });
        if planned.is_err() {
            // Whoever failed first has reported it.
            if !file.give_up() {
                return Ok(());
            }
            return planned;
        }
        self.release(&mut batch.planner, file);
        Ok(())
    }

    /// Reads and writes what is planned.
    fn execute(&self, batch: &mut Batch) {
        let mut references = std::mem::take(&mut batch.references);
        references.sort_unstable_by_key(|r| (r.place.pack, r.place.offset, r.item, r.at));
        let spans = self.spans(&references);
        let cursor = AtomicUsize::new(0);
        let files = &batch.files[..];
        self.run.parallel(spans.len(), |worker| {
            while let Some(span) = spans.get(cursor.fetch_add(1, Ordering::Relaxed)) {
                if self.run.is_stopping() {
                    break;
                }
                let end = span.first + span.count;
                let references = references.get(span.first..end).unwrap_or_default();
                self.write_span(worker, files, span, references);
            }
        });
        references.clear();
        batch.references = references;
    }

    /// Joins references into reads.
    fn spans(&self, references: &[Reference]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (first, reference) in references.iter().enumerate() {
            let Place { pack, offset, sealed, .. } = reference.place;
            let start = u64::from(offset);
            let end = start + u64::from(sealed);
            match spans.last_mut() {
                Some(span)
                    if span.pack == pack
                        && start <= span.end + GAP
                        && (end <= span.end || end - span.start <= self.run.read_max) =>
                {
                    span.end = span.end.max(end);
                    span.count += 1;
                }
                _ => spans.push(Span { pack, start, end, first, count: 1 }),
            }
        }
        // Where one read does not go on where another ended, its ends are rounded.
        for at in 0..spans.len() {
            let before = at.checked_sub(1).and_then(|i| spans.get(i)).map(|s| (s.pack, s.end));
            let after = spans.get(at + 1).map(|s| (s.pack, s.start));
            let Some(span) = spans.get_mut(at) else { break };
            // An index that fails does so again where the pack is read.
            let pack = self.run.reader.index().pack(span.pack).ok().flatten();
            let size = pack.map_or(0, |pack| pack.size);
            if before.is_none_or(|(pack, end)| pack != span.pack || end < span.start) {
                span.start -= span.start % ROUND;
            }
            if after.is_none_or(|(pack, start)| pack != span.pack || start > span.end) {
                span.end = span.end.next_multiple_of(ROUND).min(size.max(span.end));
            }
        }
        spans
    }

    fn write_span(
        &self,
        worker: &mut Worker,
        files: &[OpenFile],
        span: &Span,
        references: &[Reference],
    ) {
        let mut sealed = std::mem::take(&mut worker.sealed);
        let mut plain = std::mem::take(&mut worker.plain);
        let pack = match self.run.reader.index().pack(span.pack) {
            Ok(pack) => pack,
            Err(error) => return self.run.stop(error),
        };
        let read = pack.as_ref().is_some_and(|pack| {
            let length = usize::try_from(span.end - span.start).unwrap_or(usize::MAX);
            let name = ObjectName::pack(pack.id);
            let storage = self.run.reader.repository().storage();
            storage.get_range(&name, span.start, length, &mut sealed).is_ok()
        });
        for group in references.chunk_by(|a, b| a.place.offset == b.place.offset) {
            let Some(first) = group.first() else { continue };
            if self.run.is_stopping() {
                break;
            }
            let at = usize::try_from(u64::from(first.place.offset) - span.start).unwrap_or(0);
            let frame = match read {
                true => sealed.get_mut(at..at.saturating_add(first.place.sealed as usize)),
                false => None,
            };
            let opened = match (&pack, frame) {
                (Some(pack), Some(frame)) => self.open(worker, pack, first, frame, &mut plain),
                _ => Err(Error::MissingBlob { id: first.id.to_string() }),
            };
            // What does not open, or could not be read with its neighbours, is read once more.
            let opened = opened.or_else(|_| self.recover(worker, first, &mut plain));
            match opened {
                Ok(members) => {
                    for reference in group {
                        self.deliver(worker, files, reference, &plain, &members);
                    }
                }
                Err(error) => self.lose(worker, files, group, error),
            }
        }
        if plain.capacity() > 16 << 20 {
            plain = Vec::new();
        }
        worker.sealed = sealed;
        worker.plain = plain;
    }

    fn open(
        &self,
        worker: &mut Worker,
        pack: &PackInfo,
        reference: &Reference,
        frame: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Members> {
        let Reference { place, id, .. } = reference;
        let repository = self.run.reader.repository();
        repository.open_blob(pack, place, id, frame, &mut worker.decompressor, plain)
    }

    /// Tries again: from the same place, from other packs with a copy, and from the packs that
    /// the storage holds by now. Returns the first error if all fail.
    fn recover(
        &self,
        worker: &mut Worker,
        reference: &Reference,
        plain: &mut Vec<u8>,
    ) -> Result<Members> {
        let index = self.run.reader.index();
        let own = index.pack(reference.place.pack)?;
        let tried = own.as_ref().map(|pack| pack.id);
        let failed = match self.read_one(worker, own, reference, plain) {
            Ok(members) => return Ok(members),
            Err(error) if super::state::concerns_all(&error) => return Err(error),
            Err(error) => error,
        };
        let mut heals = may_heal(&failed);
        for place in index.places(&reference.id)? {
            let pack = index.pack(place.pack)?;
            if pack.as_ref().map(|pack| pack.id) == tried {
                continue;
            }
            let other = Reference { place, ..*reference };
            match self.read_one(worker, pack, &other, plain) {
                Ok(members) => return Ok(members),
                Err(error) => heals |= may_heal(&error),
            }
        }
        if heals {
            for place in index.places(&reference.id)? {
                if let Some(pack) = index.pack(place.pack)?
                    && let Some((bytes, members)) =
                        self.run.reader.read_healed(&pack, &place, &reference.id)
                {
                    *plain = bytes;
                    return Ok(members);
                }
            }
        }
        let Reference { place, id, .. } = reference;
        match self.run.reader.read_again(place.kind, id, &|_| true, failed) {
            Ok((bytes, members)) => {
                *plain = bytes;
                Ok(members)
            }
            Err(error) => Err(error),
        }
    }

    fn read_one(
        &self,
        worker: &mut Worker,
        pack: Option<PackInfo>,
        reference: &Reference,
        plain: &mut Vec<u8>,
    ) -> Result<Members> {
        let missing = || Error::MissingBlob { id: reference.id.to_string() };
        let pack = pack.ok_or_else(missing)?;
        let Place { offset, sealed, .. } = reference.place;
        if sealed > MAX_BLOB + (1 << 20) {
            return Err(missing());
        }
        let mut frame = Vec::new();
        let name = ObjectName::pack(pack.id);
        let storage = self.run.reader.repository().storage();
        storage.get_range(&name, u64::from(offset), sealed as usize, &mut frame)?;
        self.open(worker, &pack, reference, &mut frame, plain)
    }

    /// Writes a blob, or the member of it that is meant, to one place.
    fn deliver(
        &self,
        worker: &mut Worker,
        files: &[OpenFile],
        reference: &Reference,
        plain: &[u8],
        members: &Members,
    ) {
        let Some(item) = self.window.items.get(reference.item as usize) else { return };
        let mut content = content_of(&item.entry, reference, plain, members);
        let other;
        // Of a bundle there may be several copies that lack different members.
        if let (Err(Error::MissingBlob { .. }), Content::Member { bundle, number, .. }) =
            (&content, &item.entry.content)
            && let Ok(found) = self.run.reader.bundle(bundle, *number)
        {
            other = found;
            content = content_of(&item.entry, reference, other.bytes(), other.members());
        }
        let bytes = match content {
            Ok(bytes) => bytes,
            Err(error) => {
                return self.lose(worker, files, std::slice::from_ref(reference), error);
            }
        };
        let (run, parts, window) = (self.run, self.parts, self.window);
        if reference.file == WHOLE {
            window.path(parts, item, &mut worker.path);
            let done = write_whole(run, parts, window, worker, item, bytes, reference.replace);
            if let Err(error) = done {
                self.fail(item, error);
                worker.done(run, 1, 0);
            }
            return;
        }
        let Some(file) = files.get(reference.file as usize) else { return };
        window.path(parts, item, &mut worker.path);
        match file.write(run.destination, &worker.path, item, reference.at, bytes) {
            Ok(()) => {
                worker.report.bytes += bytes.len() as u64;
                worker.done(run, 0, bytes.len() as u64);
            }
            Err(error) => {
                if file.give_up() {
                    self.fail(item, error);
                }
            }
        }
        self.release(worker, file);
    }

    /// Records every file that a lost blob belongs to.
    fn lose(&self, worker: &mut Worker, files: &[OpenFile], group: &[Reference], error: Error) {
        if super::state::concerns_all(&error) {
            return self.run.stop(error);
        }
        self.run.note_lack(&error);
        let reason = chain_text(&error);
        for reference in group {
            let Some(item) = self.window.items.get(reference.item as usize) else { continue };
            let file = files.get(reference.file as usize);
            if file.is_none_or(OpenFile::give_up) {
                self.run.fail_because(&self.window.origin(self.parts, item), reason.clone());
            }
            match file {
                Some(file) => self.release(worker, file),
                None => worker.done(self.run, 1, 0),
            }
        }
    }

    /// Takes note that a part of the file is done; the last one finishes it.
    fn release(&self, worker: &mut Worker, file: &OpenFile) {
        if !file.is_last() {
            return;
        }
        let Some(item) = self.window.items.get(file.todo.item as usize) else { return };
        let (run, parts, window) = (self.run, self.parts, self.window);
        let Some(open) = file.close() else {
            worker.done(run, 1, 0);
            return;
        };
        let finished =
            with_attributes(run, parts, window, item, |attributes| open.finish(attributes));
        match finished {
            Ok(unset) => {
                worker.report.unset.merge(unset);
                written(run, worker, &item.entry, file.todo.replace);
            }
            Err(error) => self.fail(item, error.into()),
        }
    }
}

/// The bytes of a blob that a reference means, checked against what the tree says of them.
fn content_of<'b>(
    entry: &Entry,
    reference: &Reference,
    plain: &'b [u8],
    members: &Members,
) -> Result<&'b [u8]> {
    let Content::Member { bundle, number, hash } = &entry.content else {
        if plain.len() != reference.length as usize {
            return Err(Error::damaged("entry", "a chunk is not as long as it says"));
        }
        return Ok(plain);
    };
    let gone = || Error::MissingBlob { id: format!("{bundle} member {number}") };
    let (range, found) = members.get(*number).ok_or_else(gone)?;
    if found != *hash {
        return Err(Error::damaged("entry", "its bundle holds something else in its place"));
    }
    plain.get(range).ok_or_else(gone)
}
