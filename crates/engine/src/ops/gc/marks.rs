//! What is needed: a bit for every blob of the index and one for every member of a bundle, found
//! by the position of the blob's first line; and how many bytes of each pack that makes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Result;
use crate::crypto::BlobKind;
use crate::hash::ObjectId;
use crate::repo::Index;
use crate::repo::index::Place;
use crate::repo::index::inventory::Spot;

/// Bytes that a member takes in its bundle's table: a length, or for one that was dropped also
/// its hash.
const TABLE: (u64, u64) = (2, 18);

/// Bits that threads set.
#[derive(Debug)]
struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(count: u64) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit. Whether it was not set before.
    fn set(&self, bit: u64) -> bool {
        let before = self.word(bit).map_or(0, |w| w.fetch_or(1 << (bit % 64), Ordering::Relaxed));
        before >> (bit % 64) & 1 == 0
    }

    fn get(&self, bit: u64) -> bool {
        self.word(bit).is_some_and(|w| w.load(Ordering::Relaxed) >> (bit % 64) & 1 == 1)
    }

    fn word(&self, bit: u64) -> Option<&AtomicU64> {
        self.0.get(usize::try_from(bit / 64).ok()?)
    }
}

/// Marks of one mark.
#[derive(Debug)]
pub(super) struct Marks<'a> {
    index: &'a Index,
    blobs: Bits,
    members: Bits,
    /// For each page of lines: the first bit of the members of its bundles.
    first_member: Vec<u64>,
    condemned: Bits,
    /// Of each pack: bytes of its lines, and of those what is needed.
    filled: Vec<u64>,
    needed: Vec<AtomicU64>,
}

impl<'a> Marks<'a> {
    /// Nothing is marked. What lies in `condemned` packs counts as there, but not as a copy that
    /// will stay.
    pub(super) fn new(index: &'a Index, condemned: &BTreeSet<ObjectId>) -> Result<Self> {
        let end = u64::from(index.loaded_end());
        let is_condemned = Bits::new(end);
        index.each_pack(&mut |number, id, _| {
            if condemned.contains(&id) {
                is_condemned.set(u64::from(number));
            }
            Ok(())
        })?;
        let mut filled = vec![0; index.loaded_end() as usize];
        let (mut first_member, mut members) = (Vec::new(), 0_u64);
        index.each_line(&mut |page, _, _, place, is_present| {
            while first_member.len() as u64 <= page {
                first_member.push(members);
            }
            members += u64::from(place.members);
            if is_present && let Some(filled) = filled.get_mut(place.pack as usize) {
                *filled += u64::from(place.sealed);
            }
            Ok(())
        })?;
        Ok(Self {
            index,
            blobs: Bits::new(first_member.len() as u64 * Index::lines_per_page()),
            members: Bits::new(members),
            first_member,
            condemned: is_condemned,
            needed: filled.iter().map(|_| AtomicU64::new(0)).collect(),
            filled,
        })
    }

    /// The index that it is about.
    pub(super) fn index(&self) -> &'a Index {
        self.index
    }

    fn bit(spot: &Spot) -> u64 {
        spot.page * Index::lines_per_page() + u64::from(spot.line)
    }

    fn member_bit(&self, spot: &Spot, number: u32) -> u64 {
        let page = usize::try_from(spot.page).ok().and_then(|page| self.first_member.get(page));
        page.map_or(u64::MAX, |first| first + spot.members_before + u64::from(number))
    }

    /// Whether a pack is in a condemned record.
    pub(super) fn is_condemned(&self, pack: u32) -> bool {
        self.condemned.get(u64::from(pack))
    }

    /// The copies that will stay, of those at `spots`: one whole one, or else all that lack
    /// members, for only reading tells which of them has what.
    pub(super) fn kept<'s>(&'s self, spots: &'s [Spot]) -> impl Iterator<Item = &'s Place> + 's {
        let stays = |place: &&Place| !self.is_condemned(place.pack);
        let whole = spots.iter().map(|spot| &spot.place).filter(stays).find(|place| !place.hollow);
        let hollow = spots.iter().map(|spot| &spot.place).filter(stays);
        whole.into_iter().chain(hollow.filter(move |_| whole.is_none()))
    }

    fn need(&self, place: &Place, plain: u64) {
        let sealed = u64::from(place.sealed);
        let bytes = match place.plain {
            0 => sealed,
            all => plain.saturating_mul(sealed).div_ceil(u64::from(all)),
        };
        if let Some(needed) = self.needed.get(place.pack as usize) {
            needed.fetch_add(bytes.clamp(1, sealed.max(1)), Ordering::Relaxed);
        }
    }

    /// Marks a blob whose copies are at `spots`, at least one. Whether it was not marked before.
    pub(super) fn mark(&self, spots: &[Spot]) -> bool {
        let Some(first) = spots.first() else { return false };
        if !self.blobs.set(Self::bit(first)) {
            return false;
        }
        for place in self.kept(spots) {
            if place.kind == BlobKind::Bundle {
                let line = if place.hollow { TABLE.1 } else { TABLE.0 };
                self.need(place, u64::from(place.members).saturating_mul(line));
            } else {
                self.need(place, u64::from(place.plain));
            }
        }
        true
    }

    /// Marks a member, `length` bytes long, of a bundle that is marked.
    pub(super) fn mark_member(&self, spots: &[Spot], number: u32, length: u64) {
        let Some(first) = spots.first().filter(|first| number < first.place.members) else {
            return;
        };
        if self.members.set(self.member_bit(first, number)) {
            self.kept(spots).for_each(|place| self.need(place, length));
        }
    }

    /// Whether a blob is needed.
    pub(super) fn is_marked(&self, spots: &[Spot]) -> bool {
        spots.first().is_some_and(|first| self.blobs.get(Self::bit(first)))
    }

    /// Whether a member of a bundle is needed.
    pub(super) fn is_member_marked(&self, spots: &[Spot], number: u32) -> bool {
        spots.first().is_some_and(|first| {
            number < first.place.members && self.members.get(self.member_bit(first, number))
        })
    }

    /// Bytes of a pack's blobs, and how many of them are needed from it.
    pub(super) fn fill(&self, pack: u32) -> (u64, u64) {
        let filled = self.filled.get(pack as usize).copied().unwrap_or(0);
        let needed = self.needed.get(pack as usize).map_or(0, |n| n.load(Ordering::Relaxed));
        (filled, needed.min(filled))
    }

    /// Marks all that is marked in `before`, a mark of an earlier moment. Whether all of it is
    /// still there: if not, this one must be made from the snapshots.
    pub(super) fn take_over(&self, before: &Marks<'_>) -> Result<bool> {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut whole = true;
        before.index.each_line(&mut |page, line, id, place, is_present| {
            let at = page * Index::lines_per_page() + u64::from(line);
            if !is_present || !before.blobs.get(at) || !whole {
                return Ok(());
            }
            before.index.spots(&id, &mut old)?;
            self.index.spots(&id, &mut new)?;
            whole = new.first().is_some_and(|new| {
                new.place.kind == place.kind && new.place.members == place.members
            });
            if whole {
                self.mark(&new);
                for number in 0..place.members {
                    if before.is_member_marked(&old, number) {
                        // Lengths matter to a plan only, and none is made of this.
                        self.mark_member(&new, number, 0);
                    }
                }
            }
            Ok(())
        })?;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_once() {
        let bits = Bits::new(130);
        for bit in [0, 63, 64, 129] {
            assert!(!bits.get(bit) && bits.set(bit) && bits.get(bit) && !bits.set(bit), "{bit}");
        }
        assert!(!bits.get(1) && !bits.get(128));
    }
}
