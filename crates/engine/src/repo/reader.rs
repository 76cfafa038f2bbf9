//! Reading blobs: find, fetch, open, expand, and check the id of what came out. Bytes that do
//! not open are read once more before they are called damaged.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bundle::{self, Members};
use crate::compress::Decompressor;
use crate::crypto::{BlobKind, ObjectKind};
use crate::format::envelope::Header;
use crate::hash::{BlobId, MemberHash, ObjectId};
use crate::storage::{Folder, ObjectName, StorageErrorKind};
use crate::{Error, Result};

use super::Repository;
use super::heal::{Healed, Healing};
use super::index::{Index, PackInfo, Place};

/// Structure is read in windows of so many bytes: nodes that are needed one after the other lie one
/// after the other. Also rounds requests, so that they do not tell what was looked at. From storage
/// that serves few requests at once, and from other storage, where an answer takes its time.
const WINDOW: (u64, u64) = (1 << 20, 2 << 20);

/// Bytes of windows that are kept.
const WINDOWS: usize = 12 << 20;

/// Decoded bundles kept, for reading single small files.
const BUNDLES: usize = 8;

/// About how many bytes a bundle has.
const BUNDLE: usize = 2 << 20;

impl Repository {
    /// Opens a blob as stored in `pack` at `place`: decrypts `sealed` in place, expands it into
    /// `plain` and checks it against `id`. For a bundle, its members.
    pub fn open_blob(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
        sealed: &mut [u8],
        decompressor: &mut Decompressor,
        plain: &mut Vec<u8>,
    ) -> Result<Members> {
        let name = ObjectName::pack(pack.id);
        let what = |text: String| {
            Error::damaged(&name, format!("{} {}: {text}", place.kind.name(), id.short()))
        };
        let kind =
            if place.kind.is_structure() { ObjectKind::TreePack } else { ObjectKind::DataPack };
        let cipher = Header::cipher(&self.keys, &self.id, kind, &pack.header).map_err(what)?;
        let frame =
            cipher.open(u64::from(place.ordinal), &[], sealed).map_err(|e| what(e.to_string()))?;
        decompressor.expand(frame, place.plain as usize, plain).map_err(|e| match e {
            Error::Damaged { what: text, .. } => what(text),
            other => other,
        })?;
        if place.kind == BlobKind::Bundle {
            return bundle::open(&self.keys, id, plain).map_err(|e| what(e.to_string()));
        }
        if self.keys.blob_id(place.kind, plain) != *id {
            return Err(what("its content does not match its id".into()));
        }
        Ok(Members::default())
    }
}

/// A bundle, expanded.
#[derive(Debug)]
pub struct OpenBundle {
    pub(super) id: BlobId,
    pub(super) bytes: Vec<u8>,
    pub(super) members: Members,
}

impl OpenBundle {
    /// A member's bytes.
    pub fn member(&self, number: u32) -> Result<&[u8]> {
        self.member_and_hash(number).map(|(bytes, _)| bytes)
    }

    /// A member's bytes and its hash.
    pub fn member_and_hash(&self, number: u32) -> Result<(&[u8], MemberHash)> {
        self.members
            .get(number)
            .and_then(|(range, hash)| Some((self.bytes.get(range)?, hash)))
            .ok_or_else(|| Error::MissingBlob { id: format!("{} member {number}", self.id) })
    }

    /// A member's bytes, if it is in this copy.
    pub(crate) fn get(&self, number: u32) -> Option<&[u8]> {
        self.members.get(number).and_then(|(range, _)| self.bytes.get(range))
    }

    /// Its plain bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All its members.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }
}

/// A pack, the number of a window in it, and its bytes.
type Window = (ObjectId, u64, Arc<Vec<u8>>);

/// The index as it was listed again, and the segments that there were.
type Newest = (BTreeSet<ObjectName>, Option<Index>);

/// Whether a blob could not be read because its pack is not there: a newer index may know where it
/// is now.
pub fn is_gone(error: &Error) -> bool {
    match error {
        Error::MissingBlob { .. } => true,
        Error::Storage(e) => e.is_not_found(),
        _ => false,
    }
}

/// Borrowed for as long as something runs, or shared by what has no end in sight.
#[derive(Debug)]
enum Held<'a, T> {
    Borrowed(&'a T),
    Shared(Arc<T>),
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(held) => held,
            Self::Shared(held) => held,
        }
    }
}

/// Whether it may be the pack that is damaged, so that its parity helps.
pub(crate) fn may_heal(error: &Error) -> bool {
    match error {
        Error::Damaged { .. } => true,
        Error::Storage(e) => e.kind == StorageErrorKind::Io,
        _ => false,
    }
}

/// Reads blobs of one repository through one index. Shared between threads.
#[derive(Debug)]
pub struct BlobReader<'a> {
    repository: Held<'a, Repository>,
    index: Held<'a, Index>,
    windows: Mutex<VecDeque<Window>>,
    bundles: Mutex<VecDeque<Arc<OpenBundle>>>,
    decompressors: Mutex<Vec<Decompressor>>,
    /// Bytes of a window.
    window: u64,
    /// How many windows and how many bundles are kept.
    kept: (usize, usize),
    /// Held while a pack is healed: one at a time takes memory enough.
    healing: Mutex<Healing>,
    /// `None`: what the index does not know is not there.
    newest: Option<Mutex<Newest>>,
}

impl BlobReader<'static> {
    /// As [`of_index`](Self::of_index), for whoever reads for as long as it is there.
    pub fn shared(repository: Arc<Repository>, index: Index) -> Self {
        Self::held(Held::Shared(repository), Held::Shared(Arc::new(index)))
    }
}

impl<'a> BlobReader<'a> {
    /// A reader. What its index does not have any more it looks for in a newer one.
    pub fn new(repository: &'a Repository, index: &'a Index) -> Self {
        let newest = Some(Mutex::default());
        Self { newest, ..Self::of_index(repository, index) }
    }

    /// A reader to which its index is all there is.
    pub fn of_index(repository: &'a Repository, index: &'a Index) -> Self {
        Self::held(Held::Borrowed(repository), Held::Borrowed(index))
    }

    /// The same, keeping at most so many bytes of what it read, and at least a little.
    pub fn within(mut self, memory: usize) -> Self {
        let half = memory / 2;
        let (windows, bundles) = (half / self.window as usize, half / BUNDLE);
        self.kept = (windows.clamp(2, self.kept.0), bundles.clamp(1, BUNDLES));
        self
    }

    fn held(repository: Held<'a, Repository>, index: Held<'a, Index>) -> Self {
        let window = if repository.is_near() { WINDOW.0 } else { WINDOW.1 };
        Self {
            repository,
            index,
            windows: Mutex::default(),
            bundles: Mutex::default(),
            decompressors: Mutex::default(),
            window,
            kept: (WINDOWS / window as usize, BUNDLES),
            healing: Mutex::default(),
            newest: None,
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The index.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The plain bytes of a blob of this kind.
    pub fn read(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
        self.read_blob(kind, id, &|_| true).map(|(plain, _)| plain)
    }

    /// A copy of a bundle that has this member, expanded; the last few are kept.
    pub fn bundle(&self, id: &BlobId, number: u32) -> Result<Arc<OpenBundle>> {
        let kept = || self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |bundle: &OpenBundle| bundle.id == *id && bundle.get(number).is_some();
        if let Some(bundle) = kept().iter().find(|bundle| has(bundle)) {
            return Ok(bundle.clone());
        }
        let (bytes, members) =
            self.read_blob(BlobKind::Bundle, id, &|members| members.get(number).is_some())?;
        let bundle = Arc::new(OpenBundle { id: *id, bytes, members });
        let mut kept = kept();
        kept.push_front(bundle.clone());
        kept.truncate(self.kept.1);
        Ok(bundle)
    }

    /// The copy of a bundle at this place, expanded. `None` if it is damaged and no parity heals
    /// it.
    pub(crate) fn bundle_at(&self, place: &Place, id: &BlobId) -> Result<Option<OpenBundle>> {
        let read = match self.read_place(&self.index, place, BlobKind::Bundle, id) {
            Err(error) if may_heal(&error) => match self.index.pack(place.pack)? {
                Some(pack) => self.read_healed(&pack, place, id),
                None => None,
            },
            other => Some(other?),
        };
        Ok(read.map(|(bytes, members)| OpenBundle { id: *id, bytes, members }))
    }

    /// Reads the first copy that can be read and that `serves`.
    pub(super) fn read_blob(
        &self,
        kind: BlobKind,
        id: &BlobId,
        serves: &dyn Fn(&Members) -> bool,
    ) -> Result<(Vec<u8>, Members)> {
        match self.read_from(&self.index, kind, id, serves) {
            Err(error) if is_gone(&error) => self.read_again(kind, id, serves, error),
            other => other,
        }
    }

    /// Whoever reads holds no lease, so a gc may have moved the blob since the index was listed.
    /// It is listed again for as long as that tells something new; only then is `error` true.
    pub(crate) fn read_again(
        &self,
        kind: BlobKind,
        id: &BlobId,
        serves: &dyn Fn(&Members) -> bool,
        mut error: Error,
    ) -> Result<(Vec<u8>, Members)> {
        let Some(newest) = &self.newest else { return Err(error) };
        let mut newest = newest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut has_tried = false;
        loop {
            let mut segments = BTreeSet::new();
            self.repository.storage().list(Folder::Index, &mut |info| {
                segments.insert(info.name);
            })?;
            let (listed, index) = &mut *newest;
            let index = match index {
                Some(index) if *listed == segments => {
                    if has_tried {
                        return Err(error);
                    }
                    index
                }
                _ => {
                    *listed = segments;
                    index.insert(Index::load(&self.repository, &BTreeSet::new())?)
                }
            };
            match self.read_from(index, kind, id, serves) {
                Err(e) if is_gone(&e) => error = e,
                other => return other,
            }
            has_tried = true;
        }
    }

    fn read_from(
        &self,
        index: &Index,
        kind: BlobKind,
        id: &BlobId,
        serves: &dyn Fn(&Members) -> bool,
    ) -> Result<(Vec<u8>, Members)> {
        let (mut failure, mut heals) = (None, false);
        // Where one copy fails, another may not: a pack lost by the server was stored once more.
        let places = index.places(id)?;
        for place in &places {
            match self.read_place(index, place, kind, id) {
                Ok(read) if serves(&read.1) => return Ok(read),
                Ok(_) => {}
                Err(error) => {
                    heals |= may_heal(&error);
                    failure.get_or_insert(error);
                }
            }
        }
        if heals {
            for place in places.iter().filter(|place| place.kind == kind) {
                let Some(pack) = index.pack(place.pack)? else { continue };
                match self.read_healed(&pack, place, id) {
                    Some(read) if serves(&read.1) => return Ok(read),
                    _ => {}
                }
            }
        }
        Err(failure.unwrap_or_else(|| Error::MissingBlob { id: id.to_string() }))
    }

    /// Reads the copy of a blob at this place, and no other.
    pub(crate) fn read_place(
        &self,
        index: &Index,
        place: &Place,
        kind: BlobKind,
        id: &BlobId,
    ) -> Result<(Vec<u8>, Members)> {
        if place.kind != kind {
            return Err(Error::damaged(
                "index",
                format!("blob {} is a {}, not a {}", id.short(), place.kind.name(), kind.name()),
            ));
        }
        let missing = || Error::MissingBlob { id: id.to_string() };
        let pack = index.pack(place.pack)?.ok_or_else(missing)?;
        match self.try_read(&pack, place, id, true) {
            Err(Error::Damaged { .. }) => self.try_read(&pack, place, id, false),
            other => other,
        }
    }

    /// Reads a blob out of its pack as the pack's parity heals it. `None` if it does not.
    pub(crate) fn read_healed(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
    ) -> Option<(Vec<u8>, Members)> {
        let healed = self.heal(pack).ok()?.ok()?;
        let from = place.offset as usize;
        let sealed = healed.bytes.get(from..from.checked_add(place.sealed as usize)?)?;
        self.open(pack, place, id, &mut sealed.to_vec()).ok()
    }

    /// A damaged pack as its parity heals it, or why that cannot be done.
    pub(crate) fn heal(&self, pack: &PackInfo) -> Result<std::result::Result<Healed, String>> {
        let mut healing = self.healing.lock().unwrap_or_else(PoisonError::into_inner);
        healing.heal(&self.repository, pack.id, pack.size)
    }

    /// Packs of which something was read that only their parity could tell, and how many of their
    /// pieces were computed: damage that cost nothing this time.
    pub fn healed(&self) -> Vec<(ObjectId, u64)> {
        self.healing.lock().unwrap_or_else(PoisonError::into_inner).healed()
    }

    /// What to say of them: who only reads would not notice, until more is damaged than is healed.
    pub fn healed_notes(&self) -> Vec<String> {
        let note = |(pack, pieces)| {
            format!(
                "{} is damaged in {pieces} of its pieces; its parity healed them, and nothing was \
                 lost: `repair packs` writes it anew",
                ObjectName::pack(pack)
            )
        };
        self.healed().into_iter().map(note).collect()
    }

    fn try_read(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
        cached: bool,
    ) -> Result<(Vec<u8>, Members)> {
        let mut sealed = if cached && place.kind.is_structure() {
            self.through_windows(pack, place)?
        } else {
            let mut bytes = Vec::new();
            self.repository.storage().get_range(
                &ObjectName::pack(pack.id),
                u64::from(place.offset),
                place.sealed as usize,
                &mut bytes,
            )?;
            bytes
        };
        self.open(pack, place, id, &mut sealed)
    }

    fn open(
        &self,
        pack: &PackInfo,
        place: &Place,
        id: &BlobId,
        sealed: &mut [u8],
    ) -> Result<(Vec<u8>, Members)> {
        let pool = || self.decompressors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decompressor = pool().pop().unwrap_or_default();
        let mut plain = Vec::new();
        let opened =
            self.repository.open_blob(pack, place, id, sealed, &mut decompressor, &mut plain);
        pool().push(decompressor);
        Ok((plain, opened?))
    }

    /// The stored bytes of a blob, put together from windows of its pack.
    fn through_windows(&self, pack: &PackInfo, place: &Place) -> Result<Vec<u8>> {
        let (start, end) =
            (u64::from(place.offset), u64::from(place.offset) + u64::from(place.sealed));
        let mut bytes = Vec::with_capacity(place.sealed as usize);
        for number in start / self.window..=end.saturating_sub(1) / self.window {
            let window = self.window(pack, number)?;
            let from = start.saturating_sub(number * self.window) as usize;
            let to = (end - number * self.window).min(self.window) as usize;
            let part = window.get(from..to).ok_or_else(|| {
                Error::damaged(ObjectName::pack(pack.id), "it is shorter than the index says")
            })?;
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    fn window(&self, pack: &PackInfo, number: u64) -> Result<Arc<Vec<u8>>> {
        let kept = || self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept().iter().find(|w| w.0 == pack.id && w.1 == number).map(|w| w.2.clone());
        if let Some(window) = found {
            return Ok(window);
        }
        let at = number * self.window;
        let length = pack.size.saturating_sub(at).min(self.window) as usize;
        let mut bytes = Vec::with_capacity(length);
        let name = ObjectName::pack(pack.id);
        self.repository.storage().get_range(&name, at, length, &mut bytes)?;
        let window = Arc::new(bytes);
        let mut kept = kept();
        kept.push_front((pack.id, number, window.clone()));
        kept.truncate(self.kept.0);
        Ok(window)
    }
}
