//! What is lost here, taken from a second repository. Of a copy of this one's files blobs are taken
//! as they are. Any other one has other keys, so content is looked for by path, size and time, and
//! cut anew: what then has the id of something that is lost is that, wherever it came from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::bundle::{self, Members};
use crate::crypto::BlobKind;
use crate::error::chain_text;
use crate::hash::{BlobId, MemberHash};
use crate::meta::{Extent, Kind};
use crate::monitor::{Interrupt, Monitor, Progress};
use crate::repo::index::Place;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::writer::{BlobWriter, Copied, CopiedContent};
use crate::repo::{BlobReader, Index, Repository};
use crate::tree::chunks::{self, Part};
use crate::tree::content::read_content;
use crate::tree::distinct::{Tree, Walk, read_distinct};
use crate::tree::read::PathEntry;
use crate::tree::same::ContentId;
use crate::tree::view::{self, Located};
use crate::tree::{ChunkRef, Content, Entry};
use crate::{Error, Result};

use super::super::check::fault_text;

/// What a second repository gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Donated {
    /// It is a copy of this repository's files.
    pub is_copy: bool,
    /// Blobs that were looked for.
    pub wanted: u64,
    /// Blobs that were found whole.
    pub blobs: u64,
    /// Bytes that were found, those of members of bundles included.
    pub bytes: u64,
    /// Files there that were read.
    pub files: u64,
}

/// A donation and what it takes.
pub(super) struct Donation<'a> {
    pub(super) repository: &'a Repository,
    pub(super) reader: &'a BlobReader<'a>,
    pub(super) writer: &'a BlobWriter<'a>,
    pub(super) donor: &'a Repository,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) interrupt: &'a Interrupt,
}

/// What is lost, and where the index has it.
pub(super) type Wanted = HashMap<BlobId, Place>;

/// A file that lacks something.
struct Need {
    path: Vec<u8>,
    entry: Entry,
}

/// All that lack something.
#[derive(Default)]
struct Needs {
    files: Vec<Need>,
    /// Members of each lost bundle, as far as entries refer to them.
    bundles: HashMap<BlobId, BTreeMap<u32, Vec<Need>>>,
    /// Whether a chunk list leads to something lost.
    lists: HashMap<BlobId, bool>,
}

/// The donor's side.
struct Theirs<'a> {
    reader: BlobReader<'a>,
    /// The newest first.
    snapshots: Vec<SnapshotInfo>,
}

#[derive(Default)]
struct Given {
    told: Donated,
    ids: HashSet<BlobId>,
    /// Those of them that lack nothing: of a bundle perhaps only some members were found.
    whole: HashSet<BlobId>,
}

impl Donation<'_> {
    /// Stores what can be had of `wanted`; what of it is whole now.
    pub(super) fn run(&self, wanted: &Wanted) -> Result<(Donated, HashSet<BlobId>)> {
        // What is damaged over there costs what it said: the rest may be all that is needed.
        let (index, problems) = Index::load_readable(self.donor)?;
        self.tell(problems.iter());
        let mut given = Given::default();
        given.told.wanted = wanted.len() as u64;
        given.told.is_copy = self.donor.id() == self.repository.id();
        if given.told.is_copy {
            self.copy(&BlobReader::new(self.donor, &index), wanted, &mut given)?;
        } else if !wanted.is_empty() {
            let (mut snapshots, notes) = self.donor.snapshots_with_notes()?;
            self.tell(notes.lost().map(|(_, problem)| problem));
            snapshots.reverse();
            let theirs = Theirs { reader: BlobReader::new(self.donor, &index), snapshots };
            let needs = self.needs(wanted)?;
            self.files(&theirs, wanted, &needs.files, &mut given)?;
            for (id, members) in &needs.bundles {
                self.stop_if_asked()?;
                self.bundle(&theirs, wanted, id, members, &mut given)?;
            }
        }
        Ok((given.told, given.whole))
    }

    /// Tells what is damaged over there.
    fn tell<'e>(&self, problems: impl Iterator<Item = &'e Error>) {
        for problem in problems {
            let text = chain_text(problem);
            self.monitor.note(&format!("{}: {text}; going on without it", self.donor.location()));
        }
    }

    fn stop_if_asked(&self) -> Result<()> {
        if self.interrupt.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Takes blobs as they are.
    fn copy(&self, theirs: &BlobReader<'_>, wanted: &Wanted, given: &mut Given) -> Result<()> {
        for (id, place) in wanted {
            self.stop_if_asked()?;
            match theirs.read(place.kind, id) {
                Ok(plain) => self.give(place.kind, *id, plain, given)?,
                Err(error) => drop(fault_text(error)?),
            }
        }
        Ok(())
    }

    fn give(&self, kind: BlobKind, id: BlobId, bytes: Vec<u8>, given: &mut Given) -> Result<()> {
        let (mut members, mut hollow) = (0, false);
        if kind == BlobKind::Bundle {
            let opened = bundle::open(self.repository.keys(), &id, &bytes)?;
            members = opened.len() as u32;
            hollow = (0..members).any(|number| opened.get(number).is_none());
        }
        if given.ids.insert(id) {
            if !hollow {
                given.whole.insert(id);
                given.told.blobs += 1;
            }
            given.told.bytes += bytes.len() as u64;
            let content = CopiedContent::Plain { bytes, hollow };
            self.writer.copy(Copied { kind, id, members, content })?;
        }
        Ok(())
    }

    /// The entries of all snapshots that lack something of `wanted`.
    fn needs(&self, wanted: &Wanted) -> Result<Needs> {
        let (snapshots, _) = self.repository.snapshots_with_notes()?;
        let roots = snapshots.iter().flat_map(|s| &s.record.roots);
        let mut paths: Vec<Vec<u8>> = roots.clone().map(|root| root.path.clone()).collect();
        paths.sort_unstable();
        paths.dedup();
        let mut trees = Vec::new();
        for (number, root) in (0..).zip(roots) {
            let context = paths.binary_search(&root.path).unwrap_or(0) as u32;
            trees.push(Tree { root: view::root_id(root)?, context, number });
        }
        let needs = Mutex::new(Needs::default());
        let leaf = |context: u32, entries: Vec<PathEntry>| {
            self.stop_if_asked()?;
            let root = paths.get(context as usize).map_or(&b""[..], Vec::as_slice);
            for found in entries {
                self.add_need(&needs, root, found, wanted)?;
            }
            Ok(Vec::new())
        };
        let within = vec![Vec::new(); paths.len()];
        let walk = Walk { within: &within, threads: 0, leaf: &leaf, lost: &|_, _| {} };
        read_distinct(self.reader, &trees, &walk)?;
        Ok(needs.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn add_need(
        &self,
        needs: &Mutex<Needs>,
        root: &[u8],
        found: PathEntry,
        wanted: &Wanted,
    ) -> Result<()> {
        let lock = || needs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |id: &BlobId| wanted.contains_key(id);
        let path = view::absolute(root, &found.parent, &found.entry.name);
        let entry = found.entry;
        let lacks_attributes = entry.xattrs_blob.as_ref().is_some_and(is_wanted);
        let lacks_content = match &entry.content {
            Content::None | Content::Inline(_) => false,
            Content::Member { bundle, number, .. } => {
                if is_wanted(bundle) {
                    let need = Need { path: path.clone(), entry: entry.clone() };
                    let mut needs = lock();
                    let members = needs.bundles.entry(*bundle).or_default();
                    members.entry(*number).or_default().push(need);
                }
                false
            }
            Content::Chunks(chunks) => chunks.iter().any(|chunk| is_wanted(&chunk.id)),
            Content::List(root) => {
                let known = lock().lists.get(root).copied();
                match known {
                    Some(lacks) => lacks,
                    None => {
                        let lacks = self.list_lacks(&entry.content, wanted)?;
                        lock().lists.insert(*root, lacks);
                        lacks
                    }
                }
            }
        };
        if lacks_content || lacks_attributes {
            lock().files.push(Need { path, entry });
        }
        Ok(())
    }

    fn list_lacks(&self, content: &Content, wanted: &Wanted) -> Result<bool> {
        let mut lacks = false;
        let visited = chunks::visit(self.reader, content, &mut |part| {
            let (Part::Node(id) | Part::Chunk(ChunkRef { id, .. })) = part;
            lacks |= wanted.contains_key(&id);
            Ok(())
        });
        match visited {
            Ok(()) => Ok(lacks),
            Err(error) => fault_text(error).map(|_| true),
        }
    }

    /// Reads the files there that are what is needed, until nothing of them is lacking.
    fn files(
        &self,
        theirs: &Theirs<'_>,
        wanted: &Wanted,
        needs: &[Need],
        given: &mut Given,
    ) -> Result<()> {
        let keys = self.repository.keys();
        for (number, need) in needs.iter().enumerate() {
            self.stop_if_asked()?;
            let progress = Progress {
                files: number as u64,
                total_files: Some(needs.len() as u64),
                ..Progress::default()
            };
            self.monitor.progress(&progress, &need.path);
            if self.is_done(need, wanted, given) {
                continue;
            }
            theirs.each_like(need, self.donor, &mut |entry| {
                if let (Some(ours), Some(other)) = (need.entry.xattrs_blob, entry.xattrs_blob)
                    && wanted.contains_key(&ours)
                {
                    match theirs.reader.read(BlobKind::Attributes, &other) {
                        Ok(bytes) if keys.blob_id(BlobKind::Attributes, &bytes) == ours => {
                            self.give(BlobKind::Attributes, ours, bytes, given)?;
                        }
                        Ok(_) => {}
                        Err(error) => drop(fault_text(error)?),
                    }
                }
                if entry.metadata.kind == Kind::File {
                    given.told.files += 1;
                    match self.cut(theirs, need, entry, wanted, given) {
                        Ok(()) => {}
                        Err(error) => drop(fault_text(error)?),
                    }
                }
                Ok(self.is_done(need, wanted, given))
            })?;
        }
        Ok(())
    }

    /// Whether nothing is known that an entry still lacks.
    fn is_done(&self, need: &Need, wanted: &Wanted, given: &Given) -> bool {
        let has = |id: &BlobId| !wanted.contains_key(id) || given.ids.contains(id);
        let content = match &need.entry.content {
            Content::Chunks(chunks) => chunks.iter().all(|chunk| has(&chunk.id)),
            Content::List(_) => {
                let mut whole = true;
                let visited = chunks::visit(self.reader, &need.entry.content, &mut |part| {
                    let (Part::Node(id) | Part::Chunk(ChunkRef { id, .. })) = part;
                    whole &= has(&id);
                    Ok(())
                });
                // A list that is lost itself is known only once it is given.
                whole && visited.is_ok()
            }
            _ => true,
        };
        content && need.entry.xattrs_blob.as_ref().is_none_or(has)
    }

    /// Cuts a file of theirs as it would be cut here.
    fn cut(
        &self,
        theirs: &Theirs<'_>,
        need: &Need,
        entry: &Entry,
        wanted: &Wanted,
        given: &mut Given,
    ) -> Result<()> {
        let (chunker, keys) = (self.repository.chunker()?, self.repository.keys());
        let (mut buffer, mut refs, mut at) = (Vec::<u8>::new(), Vec::new(), 0);
        let mut take = |buffer: &mut Vec<u8>, is_end: bool, given: &mut Given| -> Result<()> {
            while buffer.len() >= chunker.max() || is_end && !buffer.is_empty() {
                let end = chunker.next_cut(buffer, is_end).unwrap_or(buffer.len());
                let rest = buffer.split_off(end.clamp(1, buffer.len()));
                let chunk = std::mem::replace(buffer, rest);
                let (id, length) = (keys.blob_id(BlobKind::Chunk, &chunk), chunk.len() as u32);
                refs.push(ChunkRef { id, length });
                if wanted.contains_key(&id) {
                    self.give(BlobKind::Chunk, id, chunk, given)?;
                }
            }
            Ok(())
        };
        read_content(&theirs.reader, entry, &mut |bytes| {
            self.stop_if_asked()?;
            stored_part(&need.entry.extents, at, bytes, &mut |part| {
                buffer.extend_from_slice(part);
            });
            at += bytes.len() as u64;
            take(&mut buffer, false, given)
        })?;
        take(&mut buffer, true, given)?;
        let lists = Mutex::new(Vec::new());
        chunks::store(
            &|kind, bytes| {
                let id = keys.blob_id(kind, &bytes);
                if wanted.contains_key(&id) {
                    lists.lock().unwrap_or_else(PoisonError::into_inner).push((kind, id, bytes));
                }
                Ok(id)
            },
            refs,
        )?;
        for (kind, id, bytes) in lists.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.give(kind, id, bytes, given)?;
        }
        Ok(())
    }

    /// Puts a bundle together from files of theirs. Its id tells whether the lengths and hashes of
    /// all its members, which entries here name, are right; some need not be found.
    fn bundle(
        &self,
        theirs: &Theirs<'_>,
        wanted: &Wanted,
        id: &BlobId,
        needs: &BTreeMap<u32, Vec<Need>>,
        given: &mut Given,
    ) -> Result<()> {
        let keys = self.repository.keys();
        let count = wanted.get(id).map_or(0, |place| place.members);
        let mut table: Vec<(u32, MemberHash)> = Vec::new();
        for number in 0..count {
            let need = needs.get(&number).and_then(|needs| needs.first());
            let Some(Need { entry, .. }) = need else { return Ok(()) };
            let Content::Member { hash, .. } = &entry.content else { return Ok(()) };
            table.push((member_length(entry), *hash));
        }
        let Some(members) = Members::of_table(keys, id, &table) else { return Ok(()) };
        let mut found: HashMap<u32, Vec<u8>> = HashMap::new();
        for ((number, needs), (_, hash)) in needs.iter().zip(&table) {
            for need in needs {
                if found.contains_key(number) {
                    break;
                }
                theirs.each_like(need, self.donor, &mut |entry| {
                    given.told.files += 1;
                    let mut bytes = Vec::new();
                    let read = read_content(&theirs.reader, entry, &mut |part| {
                        bytes.extend_from_slice(part);
                        Ok(())
                    });
                    if let Err(error) = read {
                        return fault_text(error).map(|_| false);
                    }
                    let is_it = keys.member_hash(&bytes) == *hash;
                    if is_it {
                        found.insert(*number, bytes);
                    }
                    Ok(is_it)
                })?;
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let bytes = bundle::with_members(&members, |number| found.get(&number).map(Vec::as_slice));
        self.give(BlobKind::Bundle, *id, bytes, given)
    }
}

/// Length of a bundled file.
fn member_length(entry: &Entry) -> u32 {
    u32::try_from(entry.metadata.size).unwrap_or(u32::MAX)
}

/// Gives what lies in the extents of a file of the bytes at `at` of its content, holes included.
fn stored_part(extents: &[Extent], at: u64, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
    if extents.is_empty() {
        return each(bytes);
    }
    let end = at + bytes.len() as u64;
    let from = extents.partition_point(|e| e.offset.saturating_add(e.length) <= at);
    for extent in extents.iter().skip(from).take_while(|extent| extent.offset < end) {
        let start = extent.offset.max(at) - at;
        let stop = extent.offset.saturating_add(extent.length).min(end) - at;
        each(bytes.get(start as usize..stop as usize).unwrap_or_default());
    }
}

impl Theirs<'_> {
    /// Calls `each` with the entries there that have the path, size and time of what is needed,
    /// the newest first and each content once, until it returns true.
    fn each_like(
        &self,
        need: &Need,
        donor: &Repository,
        each: &mut dyn FnMut(&Entry) -> Result<bool>,
    ) -> Result<()> {
        let (mut roots, mut tried) = (HashSet::new(), HashSet::new());
        for snapshot in &self.snapshots {
            let Some(Located::Within { root, path }) = view::locate(&snapshot.record, &need.path)
            else {
                continue;
            };
            if !roots.insert(&root.tree) {
                continue;
            }
            let found = match view::tree(&self.reader, root)?.lookup(&path) {
                Ok(found) => found,
                Err(error) => {
                    fault_text(error)?;
                    continue;
                }
            };
            let Some(PathEntry { entry, .. }) = found else { continue };
            let (ours, other) = (&need.entry.metadata, &entry.metadata);
            let is_like =
                (ours.kind, ours.size, ours.mtime) == (other.kind, other.size, other.mtime);
            let is_new = is_like
                && ContentId::of(donor.keys(), &entry).is_none_or(|content| tried.insert(content));
            if is_new && each(&entry)? {
                return Ok(());
            }
        }
        Ok(())
    }
}
