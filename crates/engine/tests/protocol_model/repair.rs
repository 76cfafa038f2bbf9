//! `repair packs` and `repair index`, each once.
//!
//! `repair packs` knows that pack 0 is damaged. It copies what opens of it, or of packs on their way
//! out, and is in no pack that counts, and condemns it; to all others it is a gc that died there.
//! `repair index` believes no segment: it lists every pack anew and supersedes the segments that it
//! found.

use super::model::State;
use super::rules::{Config, Repairs, Rule};
use super::store::{DAMAGED, Record, Segment, Store, bit, bit8};

/// Its session; nobody else has this number.
const SESSION: u8 = 7;

/// Its pack or segment, its record.
const SLOT: u8 = 15;
const RECORD: u8 = 3;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    #[default]
    PutLease,
    ListCondemned,
    ListIndex,
    GetSegments,
    ListPacks,
    PutPack,
    PutSegment,
    PutRecord,
    GetFence,
    PutEnd,
    Done,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    pub(crate) at: At,
    condemned: u16,
    index: u16,
    packs: u16,
    /// Content of the new pack, and the packs that it comes from.
    fresh: u8,
    from: u16,
    /// Blobs of the damaged pack that are whole elsewhere, as far as it knows.
    saved: u8,
}

pub(crate) fn can_go_on(cfg: &Config, s: &State) -> bool {
    cfg.repair.is_some() && s.repair.at != At::Done
}

pub(crate) fn step(cfg: &Config, s: &mut State) {
    let State { repair: me, store, ghost, .. } = s;
    let is_index = cfg.repair == Some(Repairs::Index);
    me.at = match me.at {
        At::PutLease => {
            store.leases |= bit8(SESSION);
            match is_index {
                true if cfg.off(Rule::RepairListsPacksFirst) => At::ListPacks,
                true => At::ListIndex,
                false => At::ListCondemned,
            }
        }
        At::ListCondemned => {
            me.condemned = store.named_by(store.records).packs;
            At::ListIndex
        }
        At::ListIndex => {
            me.index = store.segments;
            At::GetSegments
        }
        At::GetSegments => match store.load(me.index) {
            None => At::ListIndex,
            Some(read) => {
                me.index = read;
                if cfg.off(Rule::RepairListsPacksFirst) { At::PutSegment } else { At::ListPacks }
            }
        },
        At::ListPacks => {
            me.packs = store.packs;
            match is_index {
                true if cfg.off(Rule::RepairListsPacksFirst) => At::ListIndex,
                true => At::PutSegment,
                false => plan(cfg, me, store),
            }
        }
        At::PutPack => {
            let found = me.fresh & store.good(me.from);
            me.saved &= !me.fresh | found;
            store.put_pack(SLOT, found);
            At::PutSegment
        }
        At::PutSegment if is_index => {
            store.put_segment(SLOT, Segment { packs: me.packs, supersedes: me.index });
            At::PutEnd
        }
        At::PutSegment => {
            store.put_segment(SLOT, Segment { packs: bit(SLOT), supersedes: 0 });
            At::PutRecord
        }
        At::PutRecord => {
            if !cfg.off(Rule::RepairCondemnsNothing) {
                store.put_record(RECORD, Record { packs: bit(DAMAGED), segments: 0 });
            }
            ghost.repaired = true;
            At::GetFence
        }
        At::GetFence => {
            // Shut out, it does not say that anything is saved.
            if store.fences & bit8(SESSION) == 0 || cfg.off(Rule::RepairFenceNotRead) {
                ghost.saved = me.saved;
            }
            At::PutEnd
        }
        At::PutEnd => {
            store.ended |= bit8(SESSION);
            *me = Repair::default();
            At::Done
        }
        At::Done => At::Done,
    };
}

/// What to copy. A pack that is condemned may be gone tomorrow, so what lies in it is not saved, but
/// it may still be read.
fn plan(cfg: &Config, me: &mut Repair, store: &Store) -> At {
    let listed = store.indexed(me.index) & me.packs;
    let goes = if cfg.off(Rule::RepairTrustsCondemned) { 0 } else { me.condemned };
    let elsewhere = store.held(listed & !goes & !bit(DAMAGED));
    me.from = bit(DAMAGED) | listed & goes;
    let opens = store.good(me.from);
    me.fresh = opens & !elsewhere;
    me.saved = store.held(bit(DAMAGED)) & (opens | elsewhere);
    (me.index, me.packs, me.condemned) = (0, 0, 0);
    if me.fresh == 0 { At::PutRecord } else { At::PutPack }
}
