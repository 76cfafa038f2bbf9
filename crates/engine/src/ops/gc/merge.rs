//! Superseding segments: one (or a few) in the place of all that list packs on their way out, and
//! of small ones that have become many. Only gc merges, so that no two writers do.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::Result;
use crate::format::index::Segment;
use crate::hash::ObjectId;
use crate::repo::index::inventory::Inventory;
use crate::repo::index::segment::fetch_raw;
use crate::repo::writer::put_segment;

use super::{GcReport, Run};

/// Bytes of a segment above which another one is begun.
const FULL: u64 = 16 << 20;

/// Segments of about one size (between a power of eight and the next) become one when there are
/// so many: so each line is written a few times in all.
const LEVEL: usize = 8;

/// Writes segments that list what is left when the packs of `go` are gone, in the place of those
/// that list one of them, or one that is not there. Nothing else of the index changes.
pub(super) fn supersede(
    run: &Run<'_>,
    inventory: &Inventory,
    go: &BTreeSet<ObjectId>,
    report: &mut GcReport,
) -> Result<()> {
    let old: Vec<ObjectId> = choose(inventory, go)?.into_iter().collect();
    if old.is_empty() {
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    let (mut next, mut bytes) = (Segment::default(), 0);
    for round in old.chunks(run.threads) {
        run.stop_if_asked()?;
        for segment in run.repository.each_of(round, |id| fetch_raw(run.repository, *id))? {
            for pack in segment.packs {
                let Some(id) = pack.object_id() else { continue };
                let is_there = inventory.packs.size(&id).is_some();
                if !is_there || go.contains(&id) || !seen.insert((id, pack.size)) {
                    continue;
                }
                bytes += pack.encoded_len() as u64;
                next.packs.push(pack);
            }
            if bytes > FULL {
                // Until the last one is there, the old ones count as well, and say the same.
                put_segment(run.repository, &std::mem::take(&mut next))?;
                report.merged.0 += 1;
                bytes = 0;
            }
        }
    }
    next.supersedes = old.iter().map(|id| id.as_bytes().to_vec()).collect();
    put_segment(run.repository, &next)?;
    report.merged.0 += 1;
    report.merged.1 += old.len() as u64;
    Ok(())
}

fn choose(inventory: &Inventory, go: &BTreeSet<ObjectId>) -> Result<BTreeSet<ObjectId>> {
    let mut chosen = BTreeSet::new();
    inventory.each_listed(&mut |segment, pack| {
        if go.contains(&pack) || inventory.packs.size(&pack).is_none() {
            chosen.insert(segment);
        }
    })?;
    let mut levels: BTreeMap<u32, Vec<ObjectId>> = BTreeMap::new();
    for (id, size) in inventory
        .segments
        .iter()
        .filter(|(id, size)| *size < FULL && inventory.is_live(id) && !chosen.contains(id))
    {
        levels.entry(size.max(&1).ilog(LEVEL as u64)).or_default().push(*id);
    }
    chosen.extend(levels.into_values().filter(|same| same.len() >= LEVEL).flatten());
    Ok(chosen)
}
