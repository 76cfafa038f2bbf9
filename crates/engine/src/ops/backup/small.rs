//! Where small files go: to a file of equal content that another tree holds already, or into a
//! bundle.
//!
//! Bundles are found again only if all their members come together again. A moved directory, a
//! copy, or another host with much the same files would bundle everything anew. So the first new
//! files of a run are held back until it is plain whether there are enough of them to make
//! looking into the other trees worth its cost ([`KnownFiles::are_worth`]).

use std::collections::HashMap;

use crate::Result;
use crate::hash::MemberHash;
use crate::monitor::Monitor;
use crate::tree::Content;

use super::bundles::{Bundles, Ticket};
use super::known::KnownFiles;

/// Files held back at once, at most, and their bytes.
const HELD: (usize, usize) = (64, 512 << 10);

/// Where a small file is.
#[derive(Debug)]
pub(super) enum Place {
    /// With an equal one, in a bundle that is stored.
    Known(Content),
    /// In a bundle of this run.
    Bundled(Ticket, MemberHash),
    /// Held back under this number.
    Held(u64),
}

struct Held {
    owner: u32,
    content: Vec<u8>,
    hash: MemberHash,
}

/// All small files of a root.
pub(super) struct SmallFiles<'a> {
    bundles: Bundles<'a>,
    known: KnownFiles<'a>,
    /// Files that the parent does not have.
    new: u64,
    /// Still holding files back.
    holding: bool,
    held: Vec<Held>,
    held_bytes: usize,
    /// Where the held ones went, by number, until they are asked for.
    released: HashMap<u64, Place>,
}

impl<'a> SmallFiles<'a> {
    pub(super) fn new(bundles: Bundles<'a>, known: KnownFiles<'a>) -> Self {
        Self {
            bundles,
            new: 0,
            holding: known.has_trees(),
            known,
            held: Vec::new(),
            held_bytes: 0,
            released: HashMap::new(),
        }
    }

    /// Takes a file of this owner. `is_new`: the parent has no file of its name.
    pub(super) fn add(
        &mut self,
        owner: u32,
        content: &[u8],
        hash: MemberHash,
        is_new: bool,
        monitor: &dyn Monitor,
    ) -> Result<Place> {
        self.new += u64::from(is_new);
        if !self.holding || !is_new && self.held.is_empty() {
            if self.known.are_worth(self.new) {
                self.known.load(monitor);
            }
            return self.place(owner, content, hash);
        }
        // Changed files wait behind new ones, so that bundles are filled in the walk's order.
        let number = self.held.len() as u64;
        self.held.push(Held { owner, content: content.to_vec(), hash });
        self.held_bytes += content.len();
        if self.held.len() >= HELD.0 || self.held_bytes >= HELD.1 {
            self.release(monitor)?;
        }
        Ok(Place::Held(number))
    }

    /// What stands in the file's entry, once that is certain.
    pub(super) fn content(&mut self, place: &Place) -> Option<Content> {
        match place {
            Place::Known(content) => Some(content.clone()),
            Place::Bundled((bundle, number), hash) => {
                Some(Content::Member { bundle: *bundle.get()?, number: *number, hash: *hash })
            }
            Place::Held(number) => {
                let place = self.released.remove(number)?;
                let content = self.content(&place);
                if content.is_none() {
                    self.released.insert(*number, place);
                }
                content
            }
        }
    }

    /// Gives every file its place.
    pub(super) fn close_all(&mut self, monitor: &dyn Monitor) -> Result<()> {
        self.release(monitor)?;
        self.bundles.close_all()
    }

    /// Ends the holding back.
    fn release(&mut self, monitor: &dyn Monitor) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.holding = false;
        if self.known.are_worth(self.new) {
            self.known.load(monitor);
        }
        for (number, held) in (0..).zip(std::mem::take(&mut self.held)) {
            let place = self.place(held.owner, &held.content, held.hash)?;
            self.released.insert(number, place);
        }
        Ok(())
    }

    fn place(&mut self, owner: u32, content: &[u8], hash: MemberHash) -> Result<Place> {
        if let Some((bundle, number)) = self.known.find(&hash)
            && self.bundles.writer().is_stored(&bundle)
        {
            return Ok(Place::Known(Content::Member { bundle, number, hash }));
        }
        Ok(Place::Bundled(self.bundles.add(owner, content, hash)?, hash))
    }
}
