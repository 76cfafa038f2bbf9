//! The driver of a backup: one root from its walk to its tree.
//!
//! Entries arrive in tree order and leave in tree order; in between they wait in a queue for
//! their content to be read, bundled or cut. Only this thread touches the queue, the bundles and
//! the tree, so that the same source always gives the same tree.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use prost::Message;

use crate::crypto::BlobKind;
use crate::format::snapshot::{Stats, Sum, Unread};
use crate::format::tree::AttributeList;
use crate::hash::{BlobId, MemberHash};
use crate::meta::Kind;
use crate::monitor::{Monitor, Progress};
use crate::repo::BlobReader;
use crate::source::{
    Details, Source, SourceDirectory, SourceEntry, SourceError, SourceErrorKind, WalkBatch,
};
use crate::tree::build::NodeLimits;
use crate::tree::entry::encode_xattrs;
use crate::tree::totals::TotalsBuilder;
use crate::tree::{Content, Entry, TreeBuilder, join};
use crate::{Error, Result};

use super::bundles::Bundles;
use super::files::{Body, Context, Done, Failure, Item, Job, Outcome};
use super::known::KnownFiles;
use super::links::{LinkKey, Links, Name};
use super::parent::{Cursor, ParentTree, Trust};
use super::replay::RecordedRoot;
use super::small::{Place, SmallFiles};

mod keeping;
mod replayed;
mod unchanged;

pub(super) use keeping::{Keeping, Kept};

use unchanged::is_unchanged;

/// Entries that may wait for content at once.
const QUEUE: usize = 1 << 13;

/// Bytes of small files that may be on their way from a source of this machine, and from another:
/// there more has to be on its way to fill the line.
const SMALL_IN_FLIGHT: (u64, u64) = (3 << 20, 16 << 20);

/// A batch of small files is sent off at this size, or this many files.
const BATCH: (u64, usize) = (240 << 10, 64);

/// Attributes longer than this, together, are stored out of line.
const XATTRS_INLINE: usize = 1 << 10;

/// Unreadable paths that a snapshot names one by one.
const UNREAD_NAMED: usize = 1000;

/// What waits in the queue. Entries are nearly all of it, so that boxing them would only cost.
#[expect(clippy::large_enum_variant, reason = "nearly every slot is an entry")]
enum Slot {
    /// An entry; the first name of a file with several carries that file's key.
    Entry {
        parent: Arc<[u8]>,
        entry: Entry,
        state: State,
        first: Option<LinkKey>,
    },
    /// The directory could not be listed, or an entry in it not examined.
    Error {
        path: Vec<u8>,
        text: String,
    },
    Gone,
}

enum State {
    Ready,
    /// Being read; where the parent had its content.
    Reading(Option<Content>),
    /// A small file, whose bundle may still be open.
    Small(Place),
    /// As the file with this path, which came earlier.
    SameAs(LinkKey),
    /// The content of a file that came earlier, and nothing else of it.
    ContentOf(LinkKey),
}

/// A batch that was read, before its turn: what became of each file, and their bytes.
type Arrived = (Vec<(u64, Outcome)>, Vec<u8>);

/// What a root came to.
pub(super) struct Finished {
    pub(super) tree: BlobId,
    pub(super) totals: Option<BlobId>,
    pub(super) sum: Sum,
}

/// Sums of the run, over all roots.
#[derive(Default, Clone)]
pub(super) struct Tally {
    pub(super) stats: Stats,
    pub(super) unread: Vec<Unread>,
    pub(super) errors: u64,
    pub(super) files: u64,
    pub(super) unchanged_bytes: u64,
}

/// The driver's view of one root.
pub(super) struct RootRun<'a> {
    parts: Parts<'a>,
    inline_up_to: u64,
    small: SmallFiles<'a>,
    tree: TreeBuilder,
    totals: TotalsBuilder,
    queue: VecDeque<Slot>,
    first: u64,
    links: Links,
    batch: (Vec<Item>, u64),
    batches: (u64, u64),
    arrived: BTreeMap<u64, Arrived>,
    small_in_flight: u64,
    reading: u64,
    checked_bundle: Option<(BlobId, bool)>,
    reported: Instant,
}

/// What a [`RootRun`] is made of.
pub(super) struct Parts<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) reader: &'a BlobReader<'a>,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) path: &'a [u8],
    pub(super) stream: bool,
    /// The source, if it is a snapshot of another repository.
    pub(super) recorded: Option<&'a RecordedRoot<'a>>,
    /// What the run will come to, if that is known.
    pub(super) expected: Option<Sum>,
    pub(super) jobs: Sender<Job>,
    pub(super) done: Receiver<Done>,
    pub(super) parents: Vec<Cursor>,
    pub(super) tally: &'a mut Tally,
    pub(super) keeping: Keeping<'a>,
}

impl<'a> RootRun<'a> {
    pub(super) fn new(parts: Parts<'a>, known: KnownFiles<'a>) -> Self {
        let repository = parts.reader.repository();
        let config = repository.config();
        let keys = Arc::new(repository.keys().clone());
        let limits = NodeLimits::of(config);
        let bundles =
            Bundles::new(parts.context.writer, parts.context.keys, config.bundle_limits());
        let small = SmallFiles::new(bundles, known);
        Self {
            parts,
            inline_up_to: u64::from(config.inline_up_to),
            small,
            tree: TreeBuilder::new(keys.clone(), limits),
            totals: TotalsBuilder::new(keys, limits),
            queue: VecDeque::new(),
            first: 0,
            links: Links::default(),
            batch: (Vec::new(), 0),
            batches: (0, 0),
            arrived: BTreeMap::new(),
            small_in_flight: 0,
            reading: 0,
            checked_bundle: None,
            reported: Instant::now(),
        }
    }

    /// Takes the walk to its end, or to an interruption.
    pub(super) fn run(mut self, walk: Receiver<WalkBatch>) -> Result<Finished> {
        let (near, far) = SMALL_IN_FLIGHT;
        let small_at_once = if self.parts.context.source.is_remote() { far } else { near };
        let mut walking = true;
        while walking || !self.queue.is_empty() {
            self.report();
            if self.parts.context.interrupt.is_immediate() {
                return Err(Error::Interrupted);
            }
            if walking && self.parts.context.interrupt.is_raised() {
                walking = false;
                self.send_batch()?;
            }
            let full = self.queue.len() >= QUEUE || self.small_in_flight >= small_at_once;
            if walking && !full {
                crossbeam_channel::select_biased! {
                    recv(self.parts.done) -> done => self.take(done.map_err(|_| stopped())?)?,
                    recv(walk) -> batch => match batch {
                        Ok(batch) => self.walked(batch)?,
                        Err(_) => {
                            walking = false;
                            self.send_batch()?;
                        }
                    },
                    // The source is slow: what has gathered need not wait for it.
                    default(Duration::from_millis(5)) => self.send_batch()?,
                }
            } else if self.reading > 0 {
                self.send_batch()?;
                if let Ok(done) = self.parts.done.recv_timeout(Duration::from_millis(200)) {
                    self.take(done)?;
                }
            } else {
                // Nothing more will be read before something leaves the queue.
                self.send_batch()?;
                if self.reading == 0 {
                    self.small.close_all(self.parts.monitor)?;
                }
            }
            self.drain()?;
            self.keep_partial()?;
        }
        let put = |kind, plain| self.parts.context.writer.put_structure(kind, plain);
        let (totals, sum) = self.totals.finish(&put)?;
        match self.tree.finish(&put)? {
            Some(tree) => Ok(Finished { tree, totals, sum }),
            None if self.parts.context.interrupt.is_raised() => Err(Error::Interrupted),
            // It was there when the walk began, and gone when it was to be read.
            None => Err(vanished(self.parts.context.source).into()),
        }
    }

    fn walked(&mut self, batch: WalkBatch) -> Result<()> {
        let parent: Arc<[u8]> = Arc::from(&batch.directory.path[..]);
        self.parts.tally.stats.excluded += batch.excluded;
        for error in batch.errors {
            let error = unless_lost(error)?;
            let text = error.text();
            self.unread(&batch.directory.path, &text);
            self.queue.push_back(Slot::Error { path: batch.directory.path.clone(), text });
        }
        for entry in batch.entries {
            match self.parts.recorded {
                Some(source) => self.replayed(source, &batch.directory, &parent, entry)?,
                None => self.entry(&batch.directory, &parent, entry)?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &Arc<SourceDirectory>,
        parent: &Arc<[u8]>,
        found: SourceEntry,
    ) -> Result<()> {
        let before = self.before(parent, &found.name);
        let number = self.first + self.queue.len() as u64;
        let mut entry = Entry {
            name: found.name.clone(),
            metadata: found.metadata.clone(),
            ..Entry::default()
        };
        let trusts = |tree: &ParentTree| tree.trust == Trust::Metadata;
        let trusted = before.as_ref().is_some_and(|(_, tree)| trusts(tree));
        let unchanged = match &before {
            Some((old, tree)) if trusts(tree) => {
                is_unchanged(old, &found, tree.time) && self.is_stored(old)?
            }
            _ => false,
        };
        let is_file = found.metadata.kind == Kind::File;
        if is_file {
            let stats = &mut self.parts.tally.stats;
            *match (unchanged, trusted) {
                (true, _) => &mut stats.files_unchanged,
                (false, true) => &mut stats.files_changed,
                (false, false) => &mut stats.files_new,
            } += 1;
        }
        let name = self.links.note(parent, &found, &mut entry);
        let old = before.map(|(old, _)| old);
        let state = if unchanged {
            if let Name::Later(key) = name {
                self.links.pass(key);
            }
            if let Some(old) = old {
                if is_file {
                    self.parts.tally.unchanged_bytes += found.metadata.size;
                }
                entry.content = old.content;
                entry.target = old.target;
                entry.xattrs = old.xattrs;
                entry.xattrs_blob = old.xattrs_blob;
                entry.extents = old.extents;
            }
            State::Ready
        } else if let Name::Later(key) = name {
            self.details(directory, &found, &mut entry)?;
            State::SameAs(key)
        } else if is_file
            && (self.parts.stream
                || found.metadata.size > 0
                || self.parts.context.source.reads_empty())
        {
            self.request(Item { number, directory: directory.clone(), entry: found })?;
            State::Reading(old.map(|old| old.content))
        } else {
            self.details(directory, &found, &mut entry)?;
            State::Ready
        };
        let first = match name {
            Name::First(key) => Some(key),
            _ => None,
        };
        self.queue.push_back(Slot::Entry { parent: parent.clone(), entry, state, first });
        Ok(())
    }

    /// Attributes and link target of what is not read.
    fn details(
        &mut self,
        directory: &SourceDirectory,
        found: &SourceEntry,
        entry: &mut Entry,
    ) -> Result<()> {
        match self.parts.context.source.details(directory, found) {
            Ok(details) => self.set_details(entry, details),
            Err(error) => {
                let error = unless_lost(error)?;
                entry.error = error.text();
                let path = join(&directory.path, &found.name);
                self.unread(&path, &error.text());
                Ok(())
            }
        }
    }

    fn set_details(&mut self, entry: &mut Entry, details: Details) -> Result<()> {
        entry.target = details.target;
        let length: usize = details.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum();
        if length > XATTRS_INLINE {
            let list = AttributeList { xattrs: encode_xattrs(details.xattrs) };
            let id = self
                .parts
                .context
                .writer
                .put_structure(BlobKind::Attributes, list.encode_to_vec())?;
            entry.xattrs_blob = Some(id);
        } else {
            entry.xattrs = details.xattrs;
        }
        Ok(())
    }

    fn request(&mut self, item: Item) -> Result<()> {
        let size = item.entry.metadata.size;
        self.reading += 1;
        if self.parts.stream || item.entry.sparse || size >= self.parts.context.small_below {
            return self.parts.jobs.send(Job::Big(item, self.parts.stream)).map_err(|_| stopped());
        }
        self.small_in_flight += size;
        self.batch.1 += size;
        self.batch.0.push(item);
        if self.batch.1 >= BATCH.0 || self.batch.0.len() >= BATCH.1 {
            self.send_batch()?;
        }
        Ok(())
    }

    fn send_batch(&mut self) -> Result<()> {
        let (items, _) = std::mem::take(&mut self.batch);
        if items.is_empty() {
            return Ok(());
        }
        let number = self.batches.0;
        self.batches.0 += 1;
        self.parts.jobs.send(Job::Small(number, items)).map_err(|_| stopped())
    }

    fn take(&mut self, done: Done) -> Result<()> {
        match done {
            Done::Big(number, outcome) => self.read(number, outcome, &[]),
            Done::Small { batch, items, bytes } => {
                self.arrived.insert(batch, (items, bytes));
                // Bundles are filled in the order of the walk, whoever read faster.
                while let Some((items, bytes)) = self.arrived.remove(&self.batches.1) {
                    self.batches.1 += 1;
                    for (number, outcome) in items {
                        self.small_in_flight -= self.size_of(number).min(self.small_in_flight);
                        self.read(number, outcome, &bytes)?;
                    }
                    self.parts.context.writer.recycle(bytes);
                }
                Ok(())
            }
        }
    }

    fn size_of(&self, number: u64) -> u64 {
        match self.queue.get((number - self.first) as usize) {
            Some(Slot::Entry { entry, .. }) => entry.metadata.size,
            _ => 0,
        }
    }

    /// A file was read, or could not be.
    fn read(&mut self, number: u64, outcome: Outcome, bytes: &[u8]) -> Result<()> {
        self.reading -= 1;
        let at = (number - self.first) as usize;
        let Some(slot) = self.queue.get_mut(at) else { return Ok(()) };
        let Slot::Entry { parent, mut entry, state, first } = std::mem::replace(slot, Slot::Gone)
        else {
            return Ok(());
        };
        let State::Reading(before) = state else { return Ok(()) };
        let file = match outcome {
            Ok(file) => file,
            Err(Failure::Gone) => return Ok(()),
            Err(Failure::Fatal(error)) => return Err(error),
            Err(Failure::Unreadable(error)) => {
                entry.error = error.text();
                self.unread(&join(&parent, &entry.name), &error.text());
                self.put_back(at, Slot::Entry { parent, entry, state: State::Ready, first });
                return Ok(());
            }
        };
        // What is recorded stays as it is.
        if self.parts.recorded.is_none() {
            entry.metadata = file.metadata;
            entry.extents = file.extents;
            self.set_details(&mut entry, file.details)?;
            if file.changed {
                entry.error = "it changed while it was read".into();
                let text = entry.error.clone();
                self.unread(&join(&parent, &entry.name), &text);
            }
        }
        let state = match file.body {
            Body::Stored(content) => {
                entry.content = content;
                State::Ready
            }
            Body::Bytes(range, hash) => {
                let content = bytes.get(range).unwrap_or_default();
                self.place_small(&mut entry, content, hash, before)?
            }
        };
        self.put_back(at, Slot::Entry { parent, entry, state, first });
        Ok(())
    }

    fn put_back(&mut self, at: usize, slot: Slot) {
        if let Some(old) = self.queue.get_mut(at) {
            *old = slot;
        }
    }

    fn place_small(
        &mut self,
        entry: &mut Entry,
        content: &[u8],
        hash: MemberHash,
        before: Option<Content>,
    ) -> Result<State> {
        if content.is_empty() {
            return Ok(State::Ready);
        }
        if content.len() as u64 <= self.inline_up_to {
            entry.content = Content::Inline(content.to_vec());
            return Ok(State::Ready);
        }
        match before {
            Some(Content::Member { bundle, number, hash: old })
                if old == hash && self.parts.context.writer.is_stored(&bundle) =>
            {
                entry.content = Content::Member { bundle, number, hash };
                Ok(State::Ready)
            }
            before => {
                let owner = entry.metadata.owner.uid;
                let is_new = before.is_none();
                let monitor = self.parts.monitor;
                Ok(State::Small(self.small.add(owner, content, hash, is_new, monitor)?))
            }
        }
    }

    /// Moves what is complete from the front of the queue into the trees.
    fn drain(&mut self) -> Result<()> {
        let put = |kind, plain| self.parts.context.writer.put_structure(kind, plain);
        loop {
            let mut is_gone = false;
            if let Some(Slot::Entry { entry, state, .. }) = self.queue.front_mut() {
                match state {
                    State::Ready => {}
                    State::Reading(_) => return Ok(()),
                    State::Small(place) => {
                        let Some(content) = self.small.content(place) else { return Ok(()) };
                        entry.content = content;
                    }
                    State::SameAs(key) => {
                        if !self.links.share(*key, entry) {
                            entry.error = "its first name vanished while it was read".into();
                        }
                    }
                    State::ContentOf(key) => match self.links.content(*key) {
                        Some(content) => entry.content = content,
                        // The run is being interrupted: neither is in its partial snapshot.
                        None => is_gone = true,
                    },
                }
            }
            let Some(slot) = self.queue.pop_front() else { return Ok(()) };
            self.first += 1;
            match slot {
                Slot::Gone => {}
                _ if is_gone => {}
                Slot::Error { path, text } => self.totals.error(&put, &path, &text)?,
                Slot::Entry { parent, entry, first, state } => {
                    if matches!(state, State::SameAs(_)) && !entry.error.is_empty() {
                        let error = entry.error.clone();
                        self.unread(&join(&parent, &entry.name), &error);
                    }
                    if let Some(key) = first {
                        self.links.first_is_done(key, &entry);
                    }
                    self.parts.tally.files += 1;
                    self.totals.add(&put, &parent, &entry)?;
                    self.tree.add(&put, &parent, entry)?;
                }
            }
        }
    }

    fn unread(&mut self, path: &[u8], reason: &str) {
        let mut absolute = self.parts.path.to_vec();
        if !path.is_empty() {
            if !absolute.ends_with(b"/") {
                absolute.push(b'/');
            }
            absolute.extend_from_slice(path);
        }
        self.parts.tally.errors += 1;
        self.parts.monitor.problem(&String::from_utf8_lossy(&absolute), reason);
        if self.parts.tally.unread.len() < UNREAD_NAMED {
            self.parts.tally.unread.push(Unread { path: absolute, reason: reason.into() });
        }
    }

    fn report(&mut self) {
        if self.reported.elapsed() < Duration::from_millis(100) {
            return;
        }
        self.reported = Instant::now();
        let current = match self.queue.front() {
            Some(Slot::Entry { parent, entry, .. }) => join(parent, &entry.name),
            _ => Vec::new(),
        };
        let progress = Progress {
            files: self.parts.tally.files,
            bytes: self.parts.context.read.load(Ordering::Relaxed)
                + self.parts.tally.unchanged_bytes,
            total_files: self.parts.expected.map(|sum| sum.entries()),
            total_bytes: self.parts.expected.map(|sum| sum.bytes),
            stored: self.parts.context.writer.written().stored,
        };
        self.parts.monitor.progress(&progress, &current);
    }
}

/// What concerns one entry is noted with it; a source that is out of reach ends the run.
fn unless_lost(error: SourceError) -> Result<SourceError> {
    if error.kind == SourceErrorKind::Unreachable { Err(error.into()) } else { Ok(error) }
}

fn vanished(source: &dyn Source) -> SourceError {
    let kind = SourceErrorKind::NotFound;
    SourceError { kind, operation: "read", path: source.location(), source: None }
}

fn stopped() -> Error {
    Error::Worker("the reading threads stopped".into())
}
