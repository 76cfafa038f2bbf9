//! What goes: packs of which nothing is needed, packs in no segment, and as many of the sparsest
//! others as it takes to leave no more unneeded bytes than may stay.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::Result;
use crate::hash::ObjectId;
use crate::repo::index::inventory::Inventory;

use super::marks::Marks;
use super::{GcPlan, Run};

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Packs to condemn as they are, with their sizes.
    pub(super) dead: Vec<(ObjectId, u64)>,
    /// Numbers of packs to copy from and then condemn, those first of which least is needed.
    pub(super) sparse: Vec<u32>,
}

/// A pack of which some is needed.
struct Candidate {
    number: u32,
    size: u64,
    needed: u64,
    unneeded: u64,
}

impl Plan {
    /// Decides. Packs stored since the first open session began may be about to be needed: leaving
    /// the young ones alone saves a writer from storing them once more.
    pub(super) fn make(
        run: &Run<'_>,
        inventory: &Inventory,
        marks: &Marks<'_>,
        condemned: &BTreeSet<ObjectId>,
        told: &mut GcPlan,
    ) -> Result<Self> {
        let mut plan = Self::default();
        let mut candidates = Vec::new();
        let is_young = |id: &ObjectId| inventory.young.contains(id);
        inventory.index.each_pack(&mut |number, id, size| {
            if !inventory.index.is_usable(number) {
                return Ok(());
            }
            told.packs.add(size);
            if marks.is_condemned(number) {
                told.condemned.add(size);
                return Ok(());
            }
            let (filled, needed) = marks.fill(number);
            told.needed += needed;
            if is_young(&id) {
                told.young.add(size);
                return Ok(());
            }
            told.unneeded += filled - needed;
            if needed == 0 {
                told.dead.add(size);
                plan.dead.push((id, size));
            } else if needed < filled {
                candidates.push(Candidate { number, size, needed, unneeded: filled - needed });
            }
            Ok(())
        })?;
        for (id, size) in &inventory.orphans {
            told.packs.add(*size);
            if condemned.contains(id) {
                told.condemned.add(*size);
            } else if is_young(id) {
                told.young.add(*size);
            } else {
                told.orphans.add(*size);
                plan.dead.push((*id, *size));
            }
        }
        plan.choose(run, candidates, told);
        Ok(plan)
    }

    /// Chooses the packs to copy from: where most is gained for each byte copied.
    fn choose(&mut self, run: &Run<'_>, mut candidates: Vec<Candidate>, told: &mut GcPlan) {
        let part = run.options.max_unused;
        let may_stay = if part < 1.0 { told.needed as f64 * part / (1.0 - part) } else { f64::MAX };
        let share = |c: &Candidate| (u128::from(c.unneeded) << 64) / u128::from(c.needed.max(1));
        candidates.sort_by_cached_key(|c| (Reverse(share(c)), c.number));
        told.left = candidates.iter().map(|c| c.unneeded).sum();
        for candidate in candidates {
            if told.left as f64 <= may_stay {
                break;
            }
            let moved = told.moved.saturating_add(candidate.needed);
            if run.options.max_repack.is_some_and(|most| moved > most) {
                continue;
            }
            told.moved = moved;
            // Some may be copied along in bundles.
            let part = run.dead_in_bundles();
            let along = candidate.needed as f64 * part / (1.0 - part);
            told.left -= candidate.unneeded.saturating_sub(along as u64);
            told.sparse.add(candidate.size);
            self.sparse.push(candidate.number);
        }
    }
}
