//! Reading many chunks and bundles at once: sorted by where they lie, joined into long reads, and
//! opened by several threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::bundle::Members;
use crate::compress::Decompressor;
use crate::crypto::BlobKind;
use crate::hash::BlobId;
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::BlobReader;
use super::index::Place;
use super::reader::OpenBundle;

/// Unwanted bytes that are read rather than asking again.
const GAP: u64 = 256 << 10;

/// Ends of reads are rounded to this, so that requests do not tell what was looked for.
const ROUND: u64 = 64 << 10;

/// Longest read from storage that serves few requests at once, and from other storage.
const READ: (u64, u64) = (2 << 20, 8 << 20);

/// A blob, expanded and verified.
#[derive(Debug)]
pub enum Loaded {
    /// The bytes of a chunk.
    Chunk(Vec<u8>),
    /// A bundle.
    Bundle(OpenBundle),
}

/// What became of each blob.
pub type LoadedBlobs = HashMap<BlobId, Result<Arc<Loaded>>>;

/// A blob that is wanted.
#[derive(Debug)]
pub struct Want {
    /// A chunk or a bundle.
    pub kind: BlobKind,
    /// Its id.
    pub id: BlobId,
    /// What is wanted of a bundle: not every copy has all members.
    pub members: Vec<u32>,
}

impl Want {
    fn is_served_by(&self, members: &Members) -> bool {
        self.members.iter().all(|number| members.get(*number).is_some())
    }
}

/// A blob to read, and where the first copy is.
#[derive(Debug, Clone, Copy)]
struct Wanted<'a> {
    want: &'a Want,
    place: Place,
}

/// Blobs of one pack that are read together.
#[derive(Debug, Clone, Copy)]
struct Span {
    pack: u32,
    start: u64,
    end: u64,
    first: usize,
    count: usize,
}

impl BlobReader<'_> {
    /// Reads chunks and bundles, each once however often it is asked for. What is damaged or
    /// missing is told in its place; an error means that nothing more can be read.
    pub fn read_many(&self, blobs: &[Want], threads: usize) -> Result<LoadedBlobs> {
        let mut loaded = LoadedBlobs::with_capacity(blobs.len());
        let mut wanted = Vec::with_capacity(blobs.len());
        for want in blobs {
            match self.index().find_any(&want.id)? {
                Some(place) => wanted.push(Wanted { want, place }),
                None => {
                    // A gc may have moved it.
                    let alone = self.read_alone(want).map(Arc::new);
                    loaded.insert(want.id, alone);
                }
            }
        }
        wanted.sort_unstable_by_key(|w| (w.place.pack, w.place.offset));
        wanted.dedup_by_key(|w| w.want.id);
        let spans = spans(&wanted, self.repository().is_near());
        let loaded = Mutex::new(loaded);
        let cursor = AtomicUsize::new(0);
        let work = || {
            let mut decompressor = Decompressor::default();
            while let Some(span) = spans.get(cursor.fetch_add(1, Ordering::Relaxed)) {
                let wanted = wanted.get(span.first..span.first + span.count).unwrap_or_default();
                let read = self.read_span(span, wanted, &mut decompressor);
                loaded.lock().unwrap_or_else(PoisonError::into_inner).extend(read);
            }
        };
        let threads = threads.min(spans.len());
        if threads <= 1 {
            work();
        } else {
            std::thread::scope(|scope| {
                let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
                let died = handles.into_iter().filter_map(|handle| handle.join().err()).count();
                if died == 0 { Ok(()) } else { Err(Error::Worker("a reading thread".into())) }
            })?;
        }
        Ok(loaded.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_span(
        &self,
        span: &Span,
        wanted: &[Wanted<'_>],
        decompressor: &mut Decompressor,
    ) -> LoadedBlobs {
        // An index that fails does so again where the blob is read alone.
        let pack = self.index().pack(span.pack).ok().flatten();
        let base = span.start - span.start % ROUND;
        let mut sealed = Vec::new();
        let read = pack.as_ref().is_some_and(|pack| {
            let end = span.end.next_multiple_of(ROUND).min(pack.size.max(span.end));
            let length = usize::try_from(end - base).unwrap_or(usize::MAX);
            let name = ObjectName::pack(pack.id);
            self.repository().storage().get_range(&name, base, length, &mut sealed).is_ok()
        });
        let mut open = |wanted: &Wanted<'_>| -> Result<Loaded> {
            let Wanted { want, place } = wanted;
            let (id, kind) = (&want.id, &want.kind);
            let mut opened = None;
            let at = usize::try_from(u64::from(place.offset) - base).unwrap_or(usize::MAX);
            let range = at..at.saturating_add(place.sealed as usize);
            let frame = if read && place.kind == *kind { sealed.get_mut(range) } else { None };
            if let (Some(pack), Some(frame)) = (&pack, frame) {
                let mut plain = Vec::new();
                let repository = self.repository();
                if let Ok(members) =
                    repository.open_blob(pack, place, id, frame, decompressor, &mut plain)
                {
                    let serves = want.is_served_by(&members);
                    let this = loaded(*kind, *id, plain, members);
                    if serves {
                        return Ok(this);
                    }
                    opened = Some(this);
                }
            }
            match (self.read_alone(want), opened) {
                // It has at least some of the members.
                (Err(_), Some(opened)) => Ok(opened),
                (read, _) => read,
            }
        };
        wanted.iter().map(|wanted| (wanted.want.id, open(wanted).map(Arc::new))).collect()
    }

    /// What does not open, or could not be read with its neighbours, is read once more, and from
    /// wherever else there is a copy.
    fn read_alone(&self, want: &Want) -> Result<Loaded> {
        let (plain, members) =
            self.read_blob(want.kind, &want.id, &|members| want.is_served_by(members))?;
        Ok(loaded(want.kind, want.id, plain, members))
    }
}

fn loaded(kind: BlobKind, id: BlobId, bytes: Vec<u8>, members: Members) -> Loaded {
    match kind {
        BlobKind::Bundle => Loaded::Bundle(OpenBundle { id, bytes, members }),
        _ => Loaded::Chunk(bytes),
    }
}

/// Joins neighbours into reads.
fn spans(wanted: &[Wanted<'_>], is_near: bool) -> Vec<Span> {
    let longest = if is_near { READ.0 } else { READ.1 };
    let mut spans: Vec<Span> = Vec::new();
    for (first, Wanted { place, .. }) in wanted.iter().enumerate() {
        let start = u64::from(place.offset);
        let end = start + u64::from(place.sealed);
        match spans.last_mut() {
            Some(span)
                if span.pack == place.pack
                    && start <= span.end + GAP
                    && end - span.start <= longest =>
            {
                span.end = span.end.max(end);
                span.count += 1;
            }
            _ => spans.push(Span { pack: place.pack, start, end, first, count: 1 }),
        }
    }
    spans
}
