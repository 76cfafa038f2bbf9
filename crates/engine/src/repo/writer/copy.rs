//! Storing once more what is stored already: what a session relies on in packs that were condemned,
//! and what gc moves.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::Result;
use crate::bundle::Members;
use crate::crypto::BlobKind;
use crate::hash::{BlobId, ObjectId};
use crate::repo::BlobReader;

use super::{Blob, BlobWriter, Frame, Job, PackJob, bit, lock};

/// Lines of condemned packs that are held at once: 4 MiB.
const LINES_COPIED: usize = 64 << 10;

/// A blob that is stored already, to be stored once more.
#[derive(Debug)]
pub struct Copied {
    /// Its kind.
    pub kind: BlobKind,
    /// Its id.
    pub id: BlobId,
    /// Members, for a bundle.
    pub members: u32,
    /// What is to be stored.
    pub content: CopiedContent,
}

/// What is stored of a blob that is copied.
#[derive(Debug)]
pub enum CopiedContent {
    /// Its frame as it was, of a blob of `plain` bytes.
    Frame {
        /// The frame.
        bytes: Vec<u8>,
        /// Length of the plain bytes.
        plain: u32,
        /// A bundle that lacks some of its members.
        hollow: bool,
    },
    /// Its plain bytes.
    Plain {
        /// The bytes.
        bytes: Vec<u8>,
        /// A bundle that lacks some of its members.
        hollow: bool,
    },
}

impl BlobWriter<'_> {
    /// Stores a blob once more, whatever the index says of it. Waits as [`put`](Self::put) does.
    pub fn copy(&self, blob: Copied) -> Result<()> {
        let Copied { kind, id, members, content } = blob;
        let length = match &content {
            CopiedContent::Frame { plain, .. } => *plain as usize,
            CopiedContent::Plain { bytes, .. } => bytes.len(),
        };
        *lock(&self.waiting.0) += 1;
        if !self.budget.acquire(length, &self.failed) {
            return Err(self.stopped());
        }
        match content {
            CopiedContent::Plain { bytes: plain, hollow } => {
                let blob = Blob { kind, id, members, hollow, plain };
                self.jobs.send(Job::Blob(blob)).map_err(|_| self.stopped())
            }
            CopiedContent::Frame { bytes, plain, hollow } => {
                let [data, trees] = &self.packers;
                let packer = if kind.is_structure() { trees } else { data };
                let frame = Frame { kind, id, members, hollow, plain, bytes };
                packer.send(PackJob::Frame(frame)).map_err(|_| self.stopped())
            }
        }
    }

    /// From now on nothing is found in these packs. What this session relies on in them must be
    /// copied out next.
    pub fn leave(&self, condemned: &BTreeSet<ObjectId>) -> Result<()> {
        let _shut = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        self.index.each_pack(&mut |number, id, _| {
            if condemned.contains(&id)
                && let Some(word) = self.left.get(number as usize / 64)
            {
                word.fetch_or(1 << (number % 64), Ordering::Relaxed);
            }
            Ok(())
        })
    }

    /// Rule 2: of the packs in `condemned` that this session relies on or has written, copies
    /// every blob into new packs. Returns how many. All that was put must be flushed.
    pub fn copy_out(&self, condemned: &BTreeSet<ObjectId>) -> Result<u64> {
        if condemned.is_empty() {
            return Ok(0);
        }
        let (mut wanted, own) = (Vec::new(), self.index.loaded_end()..self.index.end());
        self.index.each_pack(&mut |number, id, _| {
            if self.is_used(number) && condemned.contains(&id) {
                wanted.push(number);
            }
            Ok(())
        })?;
        for number in own {
            if self.index.pack(number)?.is_some_and(|pack| condemned.contains(&pack.id)) {
                wanted.push(number);
            }
        }
        let mut copied = 0;
        let reader = BlobReader::new(self.repository, self.index);
        self.index.packs_with_lines(&wanted, LINES_COPIED, &mut |packs| {
            // Nobody may rely on a hollow bundle, so that none needs saving from here.
            let lines = packs.iter().flat_map(|pack| &pack.lines);
            for (id, place) in lines.filter(|(_, place)| !place.hollow) {
                // Where this copy is gone, since the session was shut out, a hollow one is no
                // substitute: it would be stored as a whole one, and others would rely on it.
                let (plain, _) = reader.read_blob(place.kind, id, &Members::are_all_there)?;
                *lock(&self.waiting.0) += 1;
                self.put(place.kind, *id, place.members, plain)?;
                copied += 1;
            }
            Ok(())
        })?;
        Ok(copied)
    }

    /// Whether every pack that this session relies on fits, by name and size. Needs a flush before.
    pub fn relies_only_on(&self, fits: impl Fn(ObjectId, u64) -> bool) -> Result<bool> {
        let mut all = true;
        self.index.each_pack(&mut |number, id, size| {
            all &= !self.is_used(number) || fits(id, size);
            Ok(())
        })?;
        for number in self.index.loaded_end()..self.index.end() {
            all &= self.index.pack(number)?.is_none_or(|pack| fits(pack.id, pack.size));
        }
        Ok(all)
    }

    /// Whether this session relies on the pack of this number, known when the index was loaded.
    fn is_used(&self, number: u32) -> bool {
        bit(&self.used, number)
    }
}
