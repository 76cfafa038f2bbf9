//! A gc run: fence, mark, repack, condemn, wait, mark again, copy out, delete.
//!
//! `step` carries out exactly one storage call. Each gc does one run; a run that stops anywhere
//! for ever is a crash, and the other gc is "a later run". What is condemned is the most that
//! the rules allow (every pack that the mark does not need, orphans too), never a careful part.

use super::model::State;
use super::rules::{Config, Rule};
use super::store::{Record, Segment, Store, bit, bit8, each};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    #[default]
    PutLease,
    ListCondemned,
    ChooseSilent,
    ListSnapshots,
    ListIndex,
    GetSegments,
    ListPacks,
    PutRepacked,
    PutRepackedSegment,
    PutRecord,
    ListSessions,
    Wait,
    AgainListSnapshots,
    AgainListCondemned,
    AgainListIndex,
    AgainGetSegments,
    AgainListPacks,
    PutCopy,
    PutSuperseding,
    DeleteSegment,
    DeletePack,
    DeleteRecord,
    PutEnd,
    Done,
    /// Shutting out the session `silent`.
    PutFence,
    GetSnapshot,
    PutConfirmed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gc {
    pub(crate) at: At,
    /// Where to go on after a fence.
    back: At,
    silent: u8,
    /// Records that this run will finish: those seen at its start, and its own.
    finish: u8,
    condemned: u16,
    /// Blobs needed by a snapshot that readers see, and by any snapshot with its references.
    needed: u8,
    snapshots: u8,
    confirmed: u8,
    refers: [u8; 8],
    index: u16,
    packs: u16,
    /// Plan: content of a new pack, packs and segments to name in the record or to delete.
    fresh: u8,
    go: u16,
    go_segments: u16,
    entries: u16,
    open: u8,
    pub(crate) deleted: bool,
    pub(crate) copied: bool,
}

/// 0 is the plain choice; at `ChooseSilent` and `Wait` 1 + the session to fence; at `ListPacks`
/// 1 is "repack what is sparse".
pub(crate) fn choices(cfg: &Config, s: &State, g: usize, out: &mut Vec<u8>) {
    let me = &s.gcs[g];
    let others = s.store.leases & !bit8(Config::gc_id(g));
    let silent = each(u16::from(others & !s.store.resolved())).map(|id| id + 1);
    match me.at {
        At::Done => {}
        At::ChooseSilent => {
            out.push(0);
            if cfg.early_fence {
                out.extend(silent);
            }
        }
        At::Wait => {
            let waited = unresolved(me, &s.store);
            if waited == 0 || cfg.off(Rule::NoWait) {
                out.push(0);
            } else {
                out.extend(silent.filter(|id| waited & bit8(id - 1) != 0));
            }
        }
        At::ListPacks => out.extend([0, 1]),
        _ => out.push(0),
    }
}

/// Sessions of the open set that are neither resolved nor have acknowledged every record.
fn unresolved(me: &Gc, store: &Store) -> u8 {
    let acked = |id: u8| me.finish & store.records & !store.acks[id as usize] == 0;
    each(u16::from(me.open & !store.resolved() & store.leases))
        .filter(|id| *id >= 5 || !acked(*id))
        .fold(0, |all, id| all | bit8(id))
}

pub(crate) fn step(cfg: &Config, s: &mut State, g: usize, choice: u8) {
    let id = Config::gc_id(g);
    let State { gcs, store, ghost, .. } = s;
    let me = &mut gcs[g];
    me.at = match me.at {
        At::PutLease => {
            if !cfg.off(Rule::GcWithoutLease) {
                store.leases |= bit8(id);
            }
            At::ListCondemned
        }
        At::ListCondemned => {
            me.finish = store.records;
            me.condemned = store.named_by(store.records).packs;
            At::ChooseSilent
        }
        At::ChooseSilent if choice == 0 => At::ListSnapshots,
        At::Wait if choice == 0 && cfg.off(Rule::NoSecondMark) => At::AgainListCondemned,
        At::Wait if choice == 0 => At::AgainListSnapshots,
        at @ (At::ChooseSilent | At::Wait) => {
            me.silent = choice - 1;
            me.back = at;
            At::PutFence
        }
        At::PutFence if cfg.off(Rule::LeaseReapedUnresolved) => {
            store.leases &= !bit8(me.silent);
            me.back
        }
        At::PutFence => {
            store.fences |= bit8(me.silent);
            match cfg.off {
                Some(Rule::ConfirmWithoutGet) => At::PutConfirmed,
                _ => At::GetSnapshot,
            }
        }
        At::GetSnapshot if store.snapshots & bit8(me.silent) != 0 => fenced(me),
        At::GetSnapshot if cfg.off(Rule::FenceNeverConfirmed) => {
            // Taken for resolved although nothing says so to readers.
            store.ended |= bit8(me.silent);
            fenced(me)
        }
        At::GetSnapshot => At::PutConfirmed,
        At::PutConfirmed => {
            store.confirmed |= bit8(me.silent);
            if cfg.off(Rule::FenceReaped) {
                // The session is resolved, so its fence, confirmation and lease are tidied away.
                store.fences &= !bit8(me.silent);
                store.confirmed &= !bit8(me.silent);
                store.ended |= bit8(me.silent);
            }
            fenced(me)
        }
        At::ListSnapshots | At::AgainListSnapshots => {
            me.snapshots = store.snapshots;
            me.confirmed = store.confirmed & store.snapshots;
            me.refers = [0; 8];
            for id in each(u16::from(store.snapshots)) {
                me.refers[id as usize] = store.refers[id as usize];
            }
            match me.at {
                At::ListSnapshots => At::ListIndex,
                _ if cfg.off(Rule::GcListsCondemnedLast) => At::AgainListIndex,
                _ => At::AgainListCondemned,
            }
        }
        At::ListIndex | At::AgainListIndex => {
            me.index = store.segments;
            if me.at == At::ListIndex { At::GetSegments } else { At::AgainGetSegments }
        }
        At::GetSegments => match store.load(me.index) {
            None => At::ListIndex,
            Some(read) => {
                me.index = read;
                At::ListPacks
            }
        },
        At::ListPacks => {
            me.packs = store.packs;
            me.fresh = choice;
            plan(cfg, me, store, g)
        }
        // Damage stops it.
        At::PutRepacked if me.fresh & !store.good(me.entries) != 0 => At::PutEnd,
        At::PutRepacked => {
            store.put_pack(cfg.gc_slot(g, 0), me.fresh);
            me.entries = 0;
            At::PutRepackedSegment
        }
        At::PutRepackedSegment => {
            let slot = cfg.gc_slot(g, 0);
            store.put_segment(slot, Segment { packs: bit(slot), supersedes: 0 });
            me.fresh = 0;
            record_next(cfg, me)
        }
        At::PutRecord => {
            store.put_record(g as u8, Record { packs: me.go, segments: me.go_segments });
            me.finish |= bit8(g as u8);
            (me.go, me.go_segments) = (0, 0);
            if cfg.off(Rule::OpenSetBeforeCondemned) { At::Wait } else { At::ListSessions }
        }
        At::ListSessions => {
            me.open = store.leases & !store.resolved() & !bit8(id);
            if me.go | me.go_segments == 0 { At::Wait } else { At::PutRecord }
        }
        At::AgainListCondemned => {
            if cfg.off(Rule::FinishesUnwaitedRecords) {
                me.finish = store.records;
            }
            let counts = match cfg.off {
                Some(Rule::CopyOnlyFromOwnRecords) => me.finish,
                _ => store.records,
            };
            me.condemned = store.named_by(counts).packs;
            if cfg.off(Rule::GcListsCondemnedLast) {
                plan_again(cfg, me, store)
            } else if cfg.off(Rule::GcListsPacksBeforeIndex) {
                At::AgainListPacks
            } else {
                At::AgainListIndex
            }
        }
        At::AgainGetSegments => match store.load(me.index) {
            None => At::AgainListIndex,
            Some(read) => {
                me.index = read;
                if cfg.off(Rule::GcListsPacksBeforeIndex) {
                    plan_again(cfg, me, store)
                } else {
                    At::AgainListPacks
                }
            }
        },
        At::AgainListPacks => {
            me.packs = store.packs;
            if cfg.off(Rule::GcListsCondemnedLast) {
                At::AgainListCondemned
            } else if cfg.off(Rule::GcListsPacksBeforeIndex) {
                At::AgainListIndex
            } else {
                plan_again(cfg, me, store)
            }
        }
        At::PutCopy => {
            let from = me.entries & store.packs;
            if me.fresh & !store.good(from) != 0 {
                // Another gc was quicker; this run ends and leaves the records as they are.
                At::PutEnd
            } else {
                me.copied = true;
                store.put_pack(cfg.gc_slot(g, 1), me.fresh);
                me.entries |= bit(cfg.gc_slot(g, 1));
                me.fresh = 0;
                At::PutSuperseding
            }
        }
        At::PutSuperseding => {
            let supersedes = store.live(me.index);
            let packs = me.entries & !me.go;
            store.put_segment(cfg.gc_slot(g, 1), Segment { packs, supersedes });
            if cfg.off(Rule::SegmentsDeletedAtOnce) {
                me.go_segments |= supersedes;
            }
            me.index = 0;
            if cfg.off(Rule::PacksDeletedBeforeIndex) { records_next(me) } else { deletes(cfg, me) }
        }
        At::DeleteSegment => {
            let n = me.go_segments.trailing_zeros() as u8;
            me.go_segments &= !bit(n);
            store.delete_segment(n);
            deletes(cfg, me)
        }
        At::DeletePack => {
            let n = me.go.trailing_zeros() as u8;
            me.go &= !bit(n);
            me.deleted |= store.packs & bit(n) != 0;
            ghost.deleted |= me.deleted;
            store.delete_pack(n);
            deletes(cfg, me)
        }
        At::DeleteRecord => {
            let n = me.finish.trailing_zeros() as u8;
            me.finish &= !bit8(n);
            store.delete_record(n);
            if me.finish == 0 && cfg.off(Rule::RecordDeletedFirst) {
                deletes(cfg, me)
            } else {
                records_next(me)
            }
        }
        At::PutEnd => {
            store.ended |= bit8(id);
            ghost.copied |= me.copied;
            *me = Gc::default();
            At::Done
        }
        At::Done => At::Done,
    };
    if me.at == At::PutEnd {
        *me = Gc { at: At::PutEnd, copied: me.copied, ..Gc::default() };
    }
}

fn fenced(me: &mut Gc) -> At {
    me.silent = 0;
    me.back
}

/// Blobs that must stay. `None`: a committed snapshot refers to a blob with no pack (Stop).
fn reachable(cfg: &Config, me: &mut Gc, counted: u16, store: &Store) -> Option<u8> {
    let there = store.held(counted);
    let mut needed = 0;
    let mut broken = false;
    for id in each(u16::from(me.snapshots)) {
        let refers = me.refers[id as usize];
        let confirmed = me.confirmed & bit8(id) != 0;
        let resolves = refers & !there == 0;
        if !confirmed || (resolves && !cfg.off(Rule::ConfirmedNotMarked)) {
            needed |= refers;
            broken |= !resolves;
        }
    }
    if !cfg.off(Rule::NoSecondMark) {
        (me.snapshots, me.confirmed, me.refers) = (0, 0, [0; 8]);
    }
    (!broken || cfg.off(Rule::NoStop)).then_some(needed & there)
}

/// After the first mark: which packs to condemn, what to repack.
fn plan(cfg: &Config, me: &mut Gc, store: &Store, g: usize) -> At {
    let repack = me.fresh == 1;
    me.fresh = 0;
    let counted = store.indexed(me.index) & me.packs;
    let Some(needed) = reachable(cfg, me, counted, store) else {
        return At::PutEnd;
    };
    // One copy of each needed blob stays; the two gcs prefer different copies.
    let mut keep = 0;
    let mut order: Vec<u8> = each(counted & !me.condemned).collect();
    if g == 1 {
        order.reverse();
    }
    for n in order {
        if store.held(bit(n)) & needed & !store.held(keep) != 0 {
            keep |= bit(n);
        }
    }
    if repack {
        for n in each(keep) {
            let held = store.held(bit(n));
            if held & !needed != 0 {
                me.fresh |= held & needed;
                keep &= !bit(n);
            }
        }
        if me.fresh == 0 {
            // Nothing is sparse: the same as not repacking, and so not a state of its own.
            keep = u16::MAX;
        }
    }
    let loaded = me.index;
    let superseded = loaded & !store.live(loaded);
    let already = store.named_by(store.records).segments;
    me.go = me.packs & !me.condemned & !keep;
    me.go_segments = superseded & !already;
    (me.index, me.packs, me.condemned) = (0, 0, 0);
    // Where it copies from.
    me.entries = if me.fresh == 0 { 0 } else { counted };
    if me.go | me.go_segments | u16::from(me.finish) == 0 {
        At::PutEnd
    } else if me.fresh != 0 {
        At::PutRepacked
    } else {
        record_next(cfg, me)
    }
}

fn record_next(cfg: &Config, me: &Gc) -> At {
    if me.go | me.go_segments == 0 || cfg.off(Rule::OpenSetBeforeCondemned) {
        At::ListSessions
    } else {
        At::PutRecord
    }
}

/// After the second mark: what to copy out, what to delete.
fn plan_again(cfg: &Config, me: &mut Gc, store: &Store) -> At {
    me.open = 0;
    let counted = store.indexed(me.index) & me.packs;
    let Some(needed) = reachable(cfg, me, counted, store) else {
        return At::PutEnd;
    };
    let mut lacking = needed & !store.held(counted & !me.condemned);
    let unsaved = lacking & !store.good(counted);
    if unsaved != 0 && !cfg.off(Rule::FinishesUnsaved) {
        // What cannot be read of them stays where it is.
        let keeps = |n: &u8| {
            let held = store.held(store.condemned[*n as usize].packs & me.packs);
            held & unsaved != 0
        };
        let kept = each(u16::from(me.finish)).filter(keeps).fold(0, |all, n| all | bit8(n));
        me.finish &= !kept;
    }
    lacking &= !unsaved;
    let named = store.named_by(me.finish);
    me.go = named.packs & me.packs;
    me.go_segments = named.segments & me.index;
    me.entries = counted;
    me.fresh = 0;
    if lacking != 0 && cfg.off(Rule::CondemnedComesBack) {
        for n in each(me.go) {
            if store.held(bit(n)) & lacking != 0 {
                me.go &= !bit(n);
            }
        }
    } else if !cfg.off(Rule::NoSecondMark) {
        me.fresh = lacking;
    }
    let drops = store.indexed(me.index) & !(counted & !me.go) != 0;
    me.packs = 0;
    me.condemned = 0;
    if me.fresh != 0 {
        At::PutCopy
    } else if cfg.off(Rule::RecordDeletedFirst) {
        records_next(me)
    } else if drops && !cfg.off(Rule::PacksDeletedBeforeIndex) {
        At::PutSuperseding
    } else {
        deletes(cfg, me)
    }
}

fn deletes(cfg: &Config, me: &mut Gc) -> At {
    if me.go_segments != 0 {
        At::DeleteSegment
    } else if me.go != 0 {
        At::DeletePack
    } else if me.index != 0 && cfg.off(Rule::PacksDeletedBeforeIndex) {
        At::PutSuperseding
    } else {
        records_next(me)
    }
}

fn records_next(me: &mut Gc) -> At {
    (me.index, me.entries) = (0, 0);
    if me.finish == 0 { At::PutEnd } else { At::DeleteRecord }
}
