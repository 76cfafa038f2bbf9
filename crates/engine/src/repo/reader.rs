//! Reading blobs: find, fetch, open, expand, and check the id of what came out. Bytes that do
//! not open are read once more before they are called damaged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::bundle::{self, Members};
use crate::compress::Decompressor;
use crate::crypto::{BlobKind, ObjectKind};
use crate::format::envelope::Header;
use crate::hash::{BlobId, MemberHash};
use crate::storage::ObjectName;
use crate::{Error, Result};

use super::Repository;
use super::index::{Index, PackInfo, Place};

/// Structure is read in windows of this many bytes: nodes that are needed one after the other
/// lie one after the other. Also rounds requests, so that they do not tell what was looked at.
const WINDOW: u64 = 1 << 20;

/// Windows kept.
const WINDOWS: usize = 12;

/// Decoded bundles kept, for reading single small files.
const BUNDLES: usize = 8;

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
}

type Window = (u32, u64, Arc<Vec<u8>>);

/// Reads blobs of one repository through one index. Shared between threads.
#[derive(Debug)]
pub struct BlobReader<'a> {
    repository: &'a Repository,
    index: &'a Index,
    windows: Mutex<VecDeque<Window>>,
    bundles: Mutex<VecDeque<Arc<OpenBundle>>>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl<'a> BlobReader<'a> {
    /// A reader.
    pub fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self {
            repository,
            index,
            windows: Mutex::default(),
            bundles: Mutex::default(),
            decompressors: Mutex::default(),
        }
    }

    /// The repository.
    pub fn repository(&self) -> &'a Repository {
        self.repository
    }

    /// The index.
    pub fn index(&self) -> &'a Index {
        self.index
    }

    /// The plain bytes of a blob of this kind.
    pub fn read(&self, kind: BlobKind, id: &BlobId) -> Result<Vec<u8>> {
        self.read_blob(kind, id).map(|(plain, _)| plain)
    }

    /// A bundle, expanded; the last few are kept.
    pub fn bundle(&self, id: &BlobId) -> Result<Arc<OpenBundle>> {
        let kept = || self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bundle) = kept().iter().find(|bundle| bundle.id == *id) {
            return Ok(bundle.clone());
        }
        let (bytes, members) = self.read_blob(BlobKind::Bundle, id)?;
        let bundle = Arc::new(OpenBundle { id: *id, bytes, members });
        let mut kept = kept();
        kept.push_front(bundle.clone());
        kept.truncate(BUNDLES);
        Ok(bundle)
    }

    pub(super) fn read_blob(&self, kind: BlobKind, id: &BlobId) -> Result<(Vec<u8>, Members)> {
        let mut failure = None;
        // Where one copy fails, another may not: a pack lost by the server was stored once more.
        for place in self.index.places(id)? {
            match self.read_place(&place, kind, id) {
                Ok(read) => return Ok(read),
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::MissingBlob { id: id.to_string() }))
    }

    fn read_place(&self, place: &Place, kind: BlobKind, id: &BlobId) -> Result<(Vec<u8>, Members)> {
        if place.kind != kind {
            return Err(Error::damaged(
                "index",
                format!("blob {} is a {}, not a {}", id.short(), place.kind.name(), kind.name()),
            ));
        }
        let missing = || Error::MissingBlob { id: id.to_string() };
        let pack = self.index.pack(place.pack)?.ok_or_else(missing)?;
        match self.try_read(&pack, place, id, true) {
            Err(Error::Damaged { .. }) => self.try_read(&pack, place, id, false),
            other => other,
        }
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
        let pool = || self.decompressors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decompressor = pool().pop().unwrap_or_default();
        let mut plain = Vec::new();
        let opened =
            self.repository.open_blob(pack, place, id, &mut sealed, &mut decompressor, &mut plain);
        pool().push(decompressor);
        Ok((plain, opened?))
    }

    /// The stored bytes of a blob, put together from windows of its pack.
    fn through_windows(&self, pack: &PackInfo, place: &Place) -> Result<Vec<u8>> {
        let (start, end) =
            (u64::from(place.offset), u64::from(place.offset) + u64::from(place.sealed));
        let mut bytes = Vec::with_capacity(place.sealed as usize);
        for number in start / WINDOW..=end.saturating_sub(1) / WINDOW {
            let window = self.window(pack, place.pack, number)?;
            let from = start.saturating_sub(number * WINDOW) as usize;
            let to = (end - number * WINDOW).min(WINDOW) as usize;
            let part = window.get(from..to).ok_or_else(|| {
                Error::damaged(ObjectName::pack(pack.id), "it is shorter than the index says")
            })?;
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    fn window(&self, pack: &PackInfo, pack_number: u32, number: u64) -> Result<Arc<Vec<u8>>> {
        let kept = || self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            kept().iter().find(|w| w.0 == pack_number && w.1 == number).map(|w| w.2.clone());
        if let Some(window) = found {
            return Ok(window);
        }
        let length = pack.size.saturating_sub(number * WINDOW).min(WINDOW) as usize;
        let mut bytes = Vec::with_capacity(length);
        self.repository.storage().get_range(
            &ObjectName::pack(pack.id),
            number * WINDOW,
            length,
            &mut bytes,
        )?;
        let window = Arc::new(bytes);
        let mut kept = kept();
        kept.push_front((pack_number, number, window.clone()));
        kept.truncate(WINDOWS);
        Ok(window)
    }
}
