//! Going through the trees: what is written, in order, and which blobs that takes, cut into windows
//! of bounded memory.

use std::collections::HashMap;
use std::sync::Arc;

use crate::crypto::BlobKind;
use crate::hash::{BlobId, MemberHash};
use crate::meta::{Kind, Xattr};
use crate::repo::BlobReader;
use crate::repo::many::Want;
use crate::repo::snapshots::is_within;
use crate::tree::content::read_xattrs;
use crate::tree::view::absolute;
use crate::tree::{Content, Entry, chunks};
use crate::{Error, Result};

use super::select::{Part, Selected};
use super::{PathFilter, is_local};

/// Members after which a window ends, whatever their content.
const STEPS: usize = 16 << 10;

/// What the sink can hold, and how much a window does.
pub(super) struct Rules {
    pub(super) links: bool,
    /// By number of the kind, less one.
    pub(super) holds: [bool; 7],
    pub(super) window: u64,
    pub(super) filter: Option<PathFilter>,
}

impl Rules {
    fn holds(&self, kind: Kind) -> bool {
        let at = Kind::ALL.iter().position(|other| *other == kind);
        at.and_then(|at| self.holds.get(at)).is_some_and(|holds| *holds)
    }
}

/// A member to be.
#[derive(Debug)]
pub(super) struct Item {
    /// Absolute path at the origin.
    pub(super) path: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) entry: Arc<Entry>,
    pub(super) xattrs: Vec<Xattr>,
    /// Name of the member that it is another name of.
    pub(super) link_to: Option<Vec<u8>>,
}

/// A piece of content.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece {
    /// A chunk and its length.
    Chunk(BlobId, u32),
    /// A member of a bundle.
    Member(BlobId, u32, MemberHash),
}

/// What is next.
#[derive(Debug)]
pub(super) enum Step {
    /// A member with no stored content.
    Whole(Item),
    /// Pieces of a file.
    File {
        item: Arc<Item>,
        pieces: Vec<Piece>,
        /// The first ones.
        begins: bool,
        /// The last ones.
        ends: bool,
        /// Why there are no more, though there should be.
        failed: Option<Error>,
    },
    /// What cannot be archived.
    Failed(Vec<u8>, Error),
    /// What the format cannot hold.
    LeftOut,
}

/// Some of what is to be written.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) steps: Vec<Step>,
    /// The blobs of its pieces.
    pub(super) wanted: Vec<Want>,
    /// Their bytes, each blob counted once.
    bytes: u64,
    /// Places in `wanted`.
    seen: HashMap<BlobId, usize>,
}

/// Takes windows.
pub(super) type Take<'a> = &'a mut dyn FnMut(Window) -> Result<()>;

struct Planner<'a> {
    reader: &'a BlobReader<'a>,
    selected: &'a Selected<'a>,
    rules: &'a Rules,
    take: Take<'a>,
    window: Window,
    /// Names of members that others may be links to, by a hash of root and path in it.
    firsts: HashMap<[u8; 16], Vec<u8>>,
}

/// Plans everything; the windows go to `take`, which may end it by an error.
pub(super) fn plan(
    reader: &BlobReader<'_>,
    selected: &Selected<'_>,
    rules: &Rules,
    take: Take<'_>,
) -> Result<()> {
    let (window, firsts) = Default::default();
    let mut planner = Planner { reader, selected, rules, take, window, firsts };
    for (path, error) in &selected.lost {
        let error = Error::damaged("tree", error);
        planner.window.steps.push(Step::Failed(path.clone(), error));
    }
    for (path, entry) in &selected.above {
        planner.add(None, path.clone(), entry.clone())?;
    }
    for part in &selected.parts {
        planner.part(part)?;
    }
    planner.close()
}

impl<'a> Planner<'a> {
    fn close(&mut self) -> Result<()> {
        if self.window.steps.is_empty() {
            return Ok(());
        }
        (self.take)(std::mem::take(&mut self.window))
    }

    fn push(&mut self, step: Step) -> Result<()> {
        self.window.steps.push(step);
        if self.window.steps.len() >= STEPS { self.close() } else { Ok(()) }
    }

    fn part(&mut self, part: &'a Part<'a>) -> Result<()> {
        let base = absolute(&part.root, &part.start, b"");
        self.add(Some((part, &part.start)), base.clone(), part.top.clone())?;
        if part.top.metadata.kind != Kind::Directory {
            return Ok(());
        }
        let mut entries = part.tree.below(&part.start);
        loop {
            let leaf = match entries.next_leaf() {
                Ok(Some(leaf)) => leaf,
                Ok(None) => return Ok(()),
                Err(error) if is_local(&error) => {
                    // The leaves behind it are still to be had.
                    self.push(Step::Failed(base.clone(), error))?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for found in leaf {
                if found.entry.name.is_empty() {
                    continue;
                }
                if !part.start.is_empty() && !is_within(&found.parent, &part.start) {
                    return Ok(());
                }
                let path = absolute(&part.root, &found.parent, &found.entry.name);
                self.add(Some((part, &found.path())), path, Arc::new(found.entry))?;
            }
        }
    }

    /// Adds an entry. `place`: its part and its path in the tree.
    fn add(
        &mut self,
        place: Option<(&Part<'_>, &[u8])>,
        path: Vec<u8>,
        entry: Arc<Entry>,
    ) -> Result<()> {
        let kind = entry.metadata.kind;
        let filter = self.rules.filter.as_ref();
        if filter.is_some_and(|filter| !filter(&path, kind == Kind::Directory)) {
            return Ok(());
        }
        if !self.rules.holds(kind) {
            return self.push(Step::LeftOut);
        }
        let unread = match kind {
            Kind::File => entry.content == Content::None && entry.metadata.size > 0,
            Kind::Symlink => entry.target.is_empty(),
            _ => false,
        };
        if unread && !entry.error.is_empty() {
            let why = format!("it could not be read when it was backed up: {}", entry.error);
            return self.push(Step::Failed(path, Error::Usage(why)));
        }
        let xattrs = match &entry.xattrs_blob {
            None => entry.xattrs.clone(),
            Some(id) => match read_xattrs(self.reader, id) {
                Ok(xattrs) => xattrs,
                Err(error) if is_local(&error) => {
                    // The rest of it is archived.
                    self.push(Step::Failed(path.clone(), error))?;
                    Vec::new()
                }
                Err(error) => return Err(error),
            },
        };
        let name = self.selected.name(&path);
        let link_to = match place {
            Some((part, at)) if self.rules.links && kind != Kind::Directory => {
                self.link(part, at, &entry, &name)
            }
            _ => None,
        };
        let item = Item { path, name, entry, xattrs, link_to };
        self.add_item(item)
    }

    /// The member that an entry is another name of. If there is none, it may be the first one.
    fn link(&mut self, part: &Part<'_>, at: &[u8], entry: &Entry, name: &[u8]) -> Option<Vec<u8>> {
        if entry.metadata.links < 2 && entry.hard_link.is_empty() {
            return None;
        }
        let first = if entry.hard_link.is_empty() { at } else { &entry.hard_link };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&part.root).update(&[0]).update(first);
        let key = hasher.finalize().as_bytes().first_chunk::<16>().copied()?;
        match self.firsts.get(&key) {
            Some(first) => Some(first.clone()),
            None => {
                self.firsts.insert(key, name.to_vec());
                None
            }
        }
    }

    fn add_item(&mut self, item: Item) -> Result<()> {
        let entry = item.entry.clone();
        if item.link_to.is_some() {
            return self.push(Step::Whole(item));
        }
        match &entry.content {
            Content::None => self.push(Step::Whole(item)),
            Content::Inline(bytes) => {
                self.window.bytes += bytes.len() as u64;
                self.push(Step::Whole(item))
            }
            Content::Member { bundle, number, hash } => {
                let size = match self.window.seen.contains_key(bundle) {
                    true => 0,
                    // All of the bundle is read for it. One that is missing is found to be so later.
                    false => self.reader.index().find_any(bundle)?.map_or(0, |place| place.plain),
                };
                self.begin(item, u64::from(size))?;
                self.piece(Piece::Member(*bundle, *number, *hash), u64::from(size))?;
                self.end(None)
            }
            content @ (Content::Chunks(_) | Content::List(_)) => {
                let size = match entry.extents.is_empty() {
                    true => entry.metadata.size,
                    false => entry.extents.iter().map(|extent| extent.length).sum(),
                };
                self.begin(item, size)?;
                let reader = self.reader;
                let planned = chunks::for_each(reader, content, &mut |chunk| {
                    self.piece(Piece::Chunk(chunk.id, chunk.length), u64::from(chunk.length))
                });
                match planned {
                    Ok(()) => self.end(None),
                    Err(error) if is_local(&error) => self.end(Some(error)),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Begins a file that takes so many bytes of blobs: in a window that holds all of it, if one can.
    fn begin(&mut self, item: Item, size: u64) -> Result<()> {
        if self.window.bytes > 0 && self.window.bytes.saturating_add(size) > self.rules.window {
            self.close()?;
        }
        self.window.steps.push(Step::File {
            item: Arc::new(item),
            pieces: Vec::new(),
            begins: true,
            ends: false,
            failed: None,
        });
        Ok(())
    }

    /// Adds a piece, which takes so many bytes of blobs, to the file that was begun last.
    fn piece(&mut self, piece: Piece, length: u64) -> Result<()> {
        if self.window.bytes > 0
            && self.window.bytes.saturating_add(length) > self.rules.window
            && let Some(Step::File { item, .. }) = self.window.steps.last()
        {
            let (item, pieces) = (item.clone(), Vec::new());
            self.close()?;
            let rest = Step::File { item, pieces, begins: false, ends: false, failed: None };
            self.window.steps.push(rest);
        }
        let (kind, id, member) = match piece {
            Piece::Chunk(id, _) => (BlobKind::Chunk, id, None),
            Piece::Member(id, number, _) => (BlobKind::Bundle, id, Some(number)),
        };
        let Window { seen, wanted, bytes, .. } = &mut self.window;
        let place = *seen.entry(id).or_insert_with(|| {
            *bytes += length;
            wanted.push(Want { kind, id, members: Vec::new() });
            wanted.len() - 1
        });
        if let Some(want) = wanted.get_mut(place) {
            want.members.extend(member);
        }
        if let Some(Step::File { pieces, .. }) = self.window.steps.last_mut() {
            pieces.push(piece);
        }
        Ok(())
    }

    fn end(&mut self, why: Option<Error>) -> Result<()> {
        if let Some(Step::File { ends, failed, .. }) = self.window.steps.last_mut() {
            *ends = true;
            *failed = why;
        }
        if self.window.steps.len() >= STEPS { self.close() } else { Ok(()) }
    }
}
