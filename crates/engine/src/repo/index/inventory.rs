//! The index as gc needs it: blobs by the position of their lines, so that a bit can be kept for
//! each, and which segment lists which packs.

use std::collections::BTreeSet;

use crate::Result;
use crate::hash::{BlobId, ObjectId};

use super::listing::{PackListing, State};
use super::table::Section;
use super::{Index, Place};

/// Index, segments and packs at one moment.
#[derive(Debug)]
pub(crate) struct Inventory {
    /// The index of all segments that count. A pack counts if it is present at its size.
    pub(crate) index: Index,
    /// Segments that are present with their sizes, sorted.
    pub(crate) segments: Vec<(ObjectId, u64)>,
    /// Segments that a present one supersedes, present or not.
    pub(crate) superseded: BTreeSet<ObjectId>,
    /// Packs that are present.
    pub(crate) packs: PackListing,
    /// Those of them that were written after the moment asked about.
    pub(crate) young: BTreeSet<ObjectId>,
    /// Packs that are in no segment that counts, with their sizes.
    pub(crate) orphans: Vec<(ObjectId, u64)>,
}

impl Inventory {
    /// Whether what a segment says counts.
    pub(crate) fn is_live(&self, id: &ObjectId) -> bool {
        self.segments.binary_search_by_key(id, |(id, _)| *id).is_ok()
            && !self.superseded.contains(id)
    }

    /// Calls `each` with every pack that a segment which counts lists: the segment and the pack,
    /// also where another segment lists it as well.
    pub(crate) fn each_listed(&self, each: &mut dyn FnMut(ObjectId, ObjectId)) -> Result<()> {
        for mount in &self.index.loaded {
            let segments = mount.table.segments();
            mount.table.each_pack(|_, row| {
                if let Some(segment) = segments.get(row.segment as usize)
                    && segment.lined
                    && self.is_live(&segment.id)
                {
                    each(segment.id, row.id);
                }
                Ok::<(), crate::Error>(())
            })?;
        }
        Ok(())
    }
}

/// A copy of a blob in a present pack, and where the index has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The page of the line, counted through all tables.
    pub(crate) page: u64,
    /// The line in its page.
    pub(crate) line: u32,
    /// For a bundle: members of the bundles before it in its page.
    pub(crate) members_before: u64,
    /// Where the copy lies.
    pub(crate) place: Place,
}

impl Index {
    /// Lines of a page.
    pub(crate) fn lines_per_page() -> u64 {
        Section::Lines.per_page()
    }

    /// Replaces `into` by the copies of a blob that were present when the index was loaded, always
    /// in the same order.
    pub(crate) fn spots(&self, id: &BlobId, into: &mut Vec<Spot>) -> Result<()> {
        into.clear();
        let mut first = 0;
        for mount in &self.loaded {
            mount.table.visit_slots(id, &mut |place, slot| {
                if mount.state(place.pack) == State::Usable {
                    into.push(Spot {
                        page: first + slot.page,
                        line: slot.line,
                        members_before: slot.members,
                        place: Place { pack: mount.base.wrapping_add(place.pack), ..place },
                    });
                }
                false
            })?;
            first += mount.table.lines().div_ceil(Self::lines_per_page());
        }
        Ok(())
    }

    /// Calls `each` with every line known when the index was loaded, in the order of their pages:
    /// the page, the line in it, the blob, its place, and whether its pack is present.
    pub(crate) fn each_line(
        &self,
        each: &mut dyn FnMut(u64, u32, BlobId, Place, bool) -> Result<()>,
    ) -> Result<()> {
        let per_page = Self::lines_per_page();
        let mut first = 0;
        for mount in &self.loaded {
            let (mut lines, mut number) = (mount.table.lines_in_order(), 0_u64);
            while let Some((id, place)) = lines.next(|_| true)? {
                let is_present = mount.state(place.pack) == State::Usable;
                let place = Place { pack: mount.base.wrapping_add(place.pack), ..place };
                let (page, line) = (first + number / per_page, (number % per_page) as u32);
                each(page, line, id, place, is_present)?;
                number += 1;
            }
            first += mount.table.lines().div_ceil(per_page);
        }
        Ok(())
    }
}
