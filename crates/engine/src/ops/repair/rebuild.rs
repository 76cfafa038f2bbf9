//! A tree without what is lost: every leaf that can be read is taken over entry by entry, content
//! and all; what an entry needs and is not there marks it as unread; where leaves are lost,
//! directories are made for what lies below them. Content is not read, but for what lies only in
//! packs on their way out.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::crypto::BlobKind;
use crate::format::snapshot::Sum;
use crate::hash::BlobId;
use crate::meta::{Kind, Metadata};
use crate::monitor::Interrupt;
use crate::repo::BlobReader;
use crate::repo::writer::{BlobWriter, Copied, CopiedContent};
use crate::tree::build::NodeLimits;
use crate::tree::chunks::{self, Part};
use crate::tree::read::{leaf_entries, read_node};
use crate::tree::totals::TotalsBuilder;
use crate::tree::{ChunkRef, Content, Entry, PathEntry, TreeBuilder, compare_keys, join, split};
use crate::{Error, Result};

use super::super::check::fault_text;

/// Higher than any tree can become.
const MAX_LEVEL: u32 = 32;

/// What is said of an entry whose content is lost.
const CONTENT: &str = "its content was lost in the repository";
/// The same of attributes.
const ATTRIBUTES: &str = "its attributes were lost in the repository";
/// The same of a directory of which only what lies below it is left.
const DIRECTORY: &str = "its own entry was lost in the repository";

/// What was cut out of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// Entries that are there and marked as unread.
    pub files: u64,
    /// Entries that are gone, as far as the nodes above them tell how many they were.
    pub entries: u64,
    /// Paths of the marked ones, and directories in which entries are gone, each with what is lost.
    pub paths: Vec<(Vec<u8>, String)>,
}

/// A root that was made anew.
pub(super) struct Made {
    pub(super) tree: BlobId,
    pub(super) totals: Option<BlobId>,
    pub(super) sum: Sum,
}

/// What cannot be read, less what was stored anew.
#[derive(Debug, Default)]
pub(super) struct Lost {
    blobs: HashSet<BlobId>,
    mended: RefCell<HashSet<BlobId>>,
}

impl Lost {
    pub(super) fn new(blobs: HashSet<BlobId>) -> Self {
        Self { blobs, ..Self::default() }
    }

    fn contains(&self, id: &BlobId) -> bool {
        self.blobs.contains(id) && !self.mended.borrow().contains(id)
    }
}

type Key = (Vec<u8>, Vec<u8>);

/// What a walk comes upon.
enum Piece {
    Leaf(Vec<PathEntry>),
    /// From this key on so many entries are lost.
    Gap(Key, u64),
}

/// The trees that are being built.
struct Output {
    tree: TreeBuilder,
    totals: TotalsBuilder,
    last: Option<Key>,
}

pub(super) struct Rebuild<'a> {
    reader: &'a BlobReader<'a>,
    writer: &'a BlobWriter<'a>,
    lost: &'a Lost,
    interrupt: &'a Interrupt,
    cut: Cut,
    /// The bundle asked for last, and how many members it has if it can be relied on.
    last_bundle: Option<(BlobId, Option<u32>)>,
    /// First names of files with several.
    firsts: HashSet<[u8; 16]>,
    /// What took the place of a first name that is lost.
    renamed: HashMap<Vec<u8>, Vec<u8>>,
}

fn hash(path: &[u8]) -> [u8; 16] {
    blake3::hash(path).as_bytes().first_chunk::<16>().copied().unwrap_or_default()
}

fn order(a: &Key, b: &Key) -> Ordering {
    compare_keys((&a.0, &a.1), (&b.0, &b.1))
}

impl<'a> Rebuild<'a> {
    pub(super) fn new(
        reader: &'a BlobReader<'a>,
        writer: &'a BlobWriter<'a>,
        lost: &'a Lost,
        interrupt: &'a Interrupt,
    ) -> Self {
        let (cut, last_bundle, firsts, renamed) = Default::default();
        Self { reader, writer, lost, interrupt, cut, last_bundle, firsts, renamed }
    }

    /// Makes the tree below `root` anew.
    pub(super) fn run(mut self, root: &BlobId) -> Result<(Made, Cut)> {
        let mut missing = self.missing_directories(root)?.into_iter().peekable();
        let repository = self.reader.repository();
        let keys = Arc::new(repository.keys().clone());
        let limits = NodeLimits::of(repository.config());
        let mut output = Output {
            tree: TreeBuilder::new(keys.clone(), limits),
            totals: TotalsBuilder::new(keys, limits),
            last: None,
        };
        self.walk(root, None, (Key::default(), 0), &mut |this, piece| {
            let entries = match piece {
                Piece::Leaf(entries) => entries,
                Piece::Gap(key, count) => {
                    while let Some(made) = missing.next_if(|made| order(made, &key).is_le()) {
                        this.made_directory(&mut output, made)?;
                    }
                    let text = format!("{count} entries or more from here on were lost");
                    output.totals.error(&|kind, plain| this.store(kind, plain), &key.0, &text)?;
                    this.cut.entries += count;
                    this.cut.paths.push((key.0, text));
                    return Ok(());
                }
            };
            for PathEntry { parent, entry } in entries {
                let key = (parent.to_vec(), entry.name.clone());
                while let Some(made) = missing.next_if(|made| order(made, &key).is_lt()) {
                    this.made_directory(&mut output, made)?;
                }
                // Nodes that overlap are damage that no tree may be made of.
                if output.last.as_ref().is_some_and(|last| order(last, &key).is_ge()) {
                    this.cut.entries += 1;
                    this.cut.paths.push((join(&key.0, &key.1), "it stood out of order".into()));
                    continue;
                }
                let entry = this.settled(&key.0, entry)?;
                this.add(&mut output, &parent, entry)?;
            }
            Ok(())
        })?;
        for made in missing {
            self.made_directory(&mut output, made)?;
        }
        let put = |kind, plain| self.store(kind, plain);
        let (totals, sum) = output.totals.finish(&put)?;
        // The root's own entry is there, or was made.
        let none = || Error::Worker("a tree without entries".into());
        let tree = output.tree.finish(&put)?.ok_or_else(none)?;
        Ok((Made { tree, totals, sum }, self.cut))
    }

    fn add(&self, output: &mut Output, parent: &Arc<[u8]>, entry: Entry) -> Result<()> {
        let put = |kind, plain| self.store(kind, plain);
        output.last = Some((parent.to_vec(), entry.name.clone()));
        output.totals.add(&put, parent, &entry)?;
        output.tree.add(&put, parent, entry)
    }

    fn made_directory(&mut self, output: &mut Output, (parent, name): Key) -> Result<()> {
        self.cut.files += 1;
        self.cut.paths.push((join(&parent, &name), DIRECTORY.into()));
        // Nobody else may look into it: who was allowed to is not known.
        let metadata = Metadata { kind: Kind::Directory, mode: 0o700, ..Metadata::default() };
        let entry = Entry { name, metadata, error: DIRECTORY.into(), ..Entry::default() };
        self.add(output, &parent.into(), entry)
    }

    /// Directories that have no entry, though something below them has one or is lost; in order.
    fn missing_directories(&mut self, root: &BlobId) -> Result<Vec<Key>> {
        let (mut seen, mut missing) = (HashSet::new(), Vec::new());
        let mut last = None;
        let mut note = |seen: &mut HashSet<[u8; 16]>, mut path: &[u8]| {
            while seen.insert(hash(path)) {
                let (parent, name) = split(path);
                missing.push((parent.to_vec(), name.to_vec()));
                path = parent;
            }
        };
        self.walk(root, None, (Key::default(), 0), &mut |_, piece| {
            match piece {
                Piece::Gap((parent, _), _) => note(&mut seen, &parent),
                Piece::Leaf(entries) => {
                    for found in entries {
                        let is_root = found.entry.name.is_empty();
                        if !is_root && last.as_ref() != Some(&found.parent) {
                            note(&mut seen, &found.parent);
                            last = Some(found.parent.clone());
                        }
                        if is_root || found.entry.metadata.kind == Kind::Directory {
                            seen.insert(hash(&found.path()));
                        }
                    }
                }
            }
            Ok(())
        })?;
        missing.sort_by(order);
        Ok(missing)
    }

    /// Walks the tree in order. Of `first` and `count` the node above tells.
    fn walk(
        &mut self,
        id: &BlobId,
        level: Option<u32>,
        (first, count): (Key, u64),
        each: &mut dyn FnMut(&mut Self, Piece) -> Result<()>,
    ) -> Result<()> {
        if self.interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        let node = match read_node(self.reader, id) {
            Ok(node) if node.level > MAX_LEVEL || level.is_some_and(|l| l != node.level) => None,
            Ok(node) => Some(node),
            Err(error) => fault_text(error).map(|_| None)?,
        };
        let Some(node) = node else { return each(self, Piece::Gap(first, count)) };
        if node.level == 0 {
            return match leaf_entries(id, node) {
                Ok(entries) => each(self, Piece::Leaf(entries)),
                Err(error) => {
                    fault_text(error)?;
                    each(self, Piece::Gap(first, count))
                }
            };
        }
        for child in node.children {
            let below = ((child.parent, child.name), child.entries);
            match BlobId::from_slice(&child.id) {
                Some(id) => self.walk(&id, Some(node.level - 1), below, each)?,
                None => each(self, Piece::Gap(below.0, below.1))?,
            }
        }
        Ok(())
    }

    /// An entry that refers only to what is there.
    fn settled(&mut self, parent: &[u8], mut entry: Entry) -> Result<Entry> {
        let path = join(parent, &entry.name);
        self.settle_link(&path, &mut entry);
        let mut what = None;
        if let Some(id) = entry.xattrs_blob
            && !self.keeps(BlobKind::Attributes, &id)?
        {
            entry.xattrs_blob = None;
            what = Some(ATTRIBUTES);
        }
        match self.content(&entry)? {
            Some(content) => entry.content = content,
            None => {
                entry.content = Content::None;
                entry.extents.clear();
                what = Some(CONTENT);
            }
        }
        if let Some(what) = what {
            entry.error = what.into();
            self.cut.files += 1;
            self.cut.paths.push((path, what.into()));
        }
        Ok(entry)
    }

    /// Where the first name of a file is lost, the next one takes its place.
    fn settle_link(&mut self, path: &[u8], entry: &mut Entry) {
        if entry.hard_link.is_empty() {
            if entry.metadata.links > 1 {
                self.firsts.insert(hash(path));
            }
        } else if let Some(first) = self.renamed.get(&entry.hard_link) {
            entry.hard_link.clone_from(first);
        } else if !self.firsts.contains(&hash(&entry.hard_link)) {
            self.renamed.insert(std::mem::take(&mut entry.hard_link), path.to_vec());
        }
    }

    /// Where an entry's content is; `None` if some of it is lost.
    fn content(&mut self, entry: &Entry) -> Result<Option<Content>> {
        let content = entry.content.clone();
        let is_file = entry.metadata.kind == Kind::File;
        let expected = match entry.extents.is_empty() {
            true => entry.metadata.size,
            false => entry.extents.iter().fold(0, |sum: u64, e| sum.saturating_add(e.length)),
        };
        let fits = |length| !entry.error.is_empty() || length == expected;
        match &content {
            Content::None => Ok((!is_file || fits(0)).then_some(content)),
            Content::Inline(bytes) => Ok(fits(bytes.len() as u64).then_some(content)),
            Content::Member { bundle, number, .. } => {
                if self.members(bundle)?.is_some_and(|members| *number < members) {
                    return Ok(Some(content));
                }
                self.member_alone(bundle, *number)
            }
            Content::Chunks(_) | Content::List(_) => {
                Ok(self.chunks(&content)?.filter(|length| fits(*length)).map(|_| content))
            }
        }
    }

    /// The members of a bundle that this session can rely on.
    fn members(&mut self, id: &BlobId) -> Result<Option<u32>> {
        if let Some((last, members)) = self.last_bundle
            && last == *id
        {
            return Ok(members);
        }
        let is_there = !self.lost.contains(id) && self.writer.is_stored(id);
        let place = if is_there { self.reader.index().find(id)? } else { None };
        let members = place.map(|place| place.members);
        self.last_bundle = Some((*id, members));
        Ok(members)
    }

    /// A file of a bundle that gc took members out of, or that lies in packs on their way out:
    /// nobody may rely on that, so what is needed of it becomes a chunk.
    fn member_alone(&self, bundle: &BlobId, number: u32) -> Result<Option<Content>> {
        if self.lost.contains(bundle) {
            return Ok(None);
        }
        let opened = self.reader.bundle(bundle, number);
        let bytes = match opened.and_then(|bundle| Ok(bundle.member(number)?.to_vec())) {
            Ok(bytes) => bytes,
            Err(error) => return fault_text(error).map(|_| None),
        };
        let length = bytes.len() as u32;
        if length == 0 {
            return Ok(Some(Content::None));
        }
        let id = self.store(BlobKind::Chunk, bytes)?;
        Ok(Some(Content::Chunks(vec![ChunkRef { id, length }])))
    }

    /// The length of content in chunks; `None` if one is lost, or not as long as it should be.
    fn chunks(&self, content: &Content) -> Result<Option<u64>> {
        let (mut whole, mut length) = (true, 0_u64);
        let visited = chunks::visit(self.reader, content, &mut |part| {
            whole &= match part {
                Part::Node(id) => self.keeps(BlobKind::ChunkList, &id)?,
                Part::Chunk(chunk) => {
                    length = length.saturating_add(u64::from(chunk.length));
                    let place = self.reader.index().find_any(&chunk.id)?;
                    place.is_none_or(|place| place.plain == chunk.length)
                        && self.keeps(BlobKind::Chunk, &chunk.id)?
                }
            };
            Ok(())
        });
        match visited {
            Ok(()) => Ok(whole.then_some(length)),
            Err(error) => fault_text(error).map(|_| None),
        }
    }

    /// Whether a blob is there for the new snapshot. One that lies only in packs on their way out
    /// is stored anew, as for any other writer.
    fn keeps(&self, kind: BlobKind, id: &BlobId) -> Result<bool> {
        if self.lost.contains(id) {
            return Ok(false);
        }
        if self.writer.is_stored(id) {
            return Ok(true);
        }
        match self.reader.read(kind, id) {
            Ok(plain) => self.store(kind, plain).map(|_| true),
            Err(error) => fault_text(error).map(|_| false),
        }
    }

    /// Stores a blob if it is new. The index may hold a copy that cannot be read: then it is
    /// stored once more, and whatever else lacked it has it again.
    fn store(&self, kind: BlobKind, plain: Vec<u8>) -> Result<BlobId> {
        let id = self.reader.repository().keys().blob_id(kind, &plain);
        if self.lost.contains(&id) {
            let content = CopiedContent::Plain { bytes: plain, hollow: false };
            self.writer.copy(Copied { kind, id, members: 0, content })?;
            self.lost.mended.borrow_mut().insert(id);
        } else if !self.writer.known_or_claim(&id) {
            self.writer.put(kind, id, 0, plain)?;
        }
        Ok(id)
    }
}
