//! A writer: Begin, upload, commit, the unknown outcome, the partial snapshot, a new attempt.
//!
//! `step` carries out exactly one storage call. Copying out of a condemned pack always works
//! here (the writer may still hold the bytes, or read its source again); dying for ever is the
//! same as never being scheduled again, so only a restart needs a step of its own.

use super::model::{Ghost, State};
use super::rules::{Config, Rule};
use super::store::{Segment, Store, bit, bit8};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    #[default]
    PutLease,
    ListCondemned,
    ListIndex,
    GetSegments,
    ListPacks,
    ChooseParent,
    PutPack,
    PutSegment,
    /// LIST condemned before the commit, or before a renewal that acknowledges.
    Relist,
    CopyPack,
    CopySegment,
    PutAck,
    PutSnapshot,
    LateSegment,
    GetSnapshot,
    FenceOwn,
    ConfirmOwn,
    GetFence,
    PutEnd,
    Done,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Writer {
    pub(crate) at: At,
    pub(crate) attempt: u8,
    condemned: u16,
    /// Segments listed, then packs they name.
    index: u16,
    listed: u16,
    /// Packs that count: found at Begin, and this run's own.
    pub(crate) have: u16,
    own: u16,
    /// Blobs believed to be there without a pack known (`ParentUntested`).
    trusted: u8,
    /// Packs written in this attempt.
    written: u8,
    /// Records seen by a renewal that are to be acknowledged.
    renewing: u8,
    renewed: bool,
}

/// What a step may choose. `Plain` is the only choice of most steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    Plain,
    /// Renew the lease and acknowledge, instead of committing now.
    Renew,
    Parent(u8),
    /// The snapshot was stored, its reply was lost.
    LostReply,
    /// The reply was lost and the PUT may take place at any later time.
    LostUnderWay,
    /// The PUT was answered and a second copy of it is under way.
    Duplicated,
    /// The process dies; another run starts under a new id.
    Restart,
}

fn begin(cfg: &Config) -> [At; 5] {
    use At::{GetSegments, ListCondemned, ListIndex, ListPacks, PutLease};
    match cfg.off {
        Some(Rule::LeaseAfterCondemned) => {
            [ListCondemned, PutLease, ListIndex, GetSegments, ListPacks]
        }
        Some(Rule::CondemnedListedLast) => {
            [PutLease, ListIndex, GetSegments, ListPacks, ListCondemned]
        }
        Some(Rule::PacksListedBeforeIndex) => {
            [PutLease, ListCondemned, ListPacks, ListIndex, GetSegments]
        }
        _ => [PutLease, ListCondemned, ListIndex, GetSegments, ListPacks],
    }
}

fn first(cfg: &Config) -> At {
    begin(cfg)[0]
}

impl Writer {
    pub(crate) fn new(cfg: &Config) -> Self {
        Self { at: first(cfg), ..Self::default() }
    }
}

pub(crate) fn choices(cfg: &Config, s: &State, w: usize, out: &mut Vec<Choice>) {
    let me = &s.writers[w];
    if me.at == At::Done {
        return;
    }
    match me.at {
        At::PutSnapshot => {
            out.push(Choice::Plain);
            if s.lost > 0 {
                out.extend([Choice::LostReply, Choice::LostUnderWay]);
            }
            if s.duplicates > 0 {
                out.push(Choice::Duplicated);
            }
        }
        At::Relist if cfg.acks && !me.renewed => out.extend([Choice::Plain, Choice::Renew]),
        At::ChooseParent => {
            out.push(Choice::Plain);
            out.extend((0..8).filter(|id| s.store.visible() & bit8(*id) != 0).map(Choice::Parent));
        }
        _ => out.push(Choice::Plain),
    }
    if s.crashes > 0 && me.at != first(cfg) {
        out.push(Choice::Restart);
    }
}

pub(crate) fn step(cfg: &Config, s: &mut State, w: usize, choice: Choice) {
    if choice == Choice::Restart {
        s.crashes -= 1;
        again(cfg, &mut s.writers[w]);
        return;
    }
    let id = Config::writer_id(w, s.writers[w].attempt);
    let wants = wants(cfg, w, s.writers[w].attempt);
    let State { writers, store, ghost, lost, duplicates, .. } = s;
    let me = &mut writers[w];
    match me.at {
        At::PutLease => {
            store.leases |= bit8(id);
            if ghost.repaired {
                ghost.later |= bit8(id);
            }
            after_begin_step(cfg, me, store, wants);
        }
        At::ListCondemned => {
            me.condemned = store.named_by(store.records).packs;
            after_begin_step(cfg, me, store, wants);
        }
        At::ListIndex => {
            me.index = store.segments;
            after_begin_step(cfg, me, store, wants);
        }
        At::GetSegments => match store.load(me.index) {
            Some(read) => {
                me.index = store.indexed(read);
                after_begin_step(cfg, me, store, wants);
            }
            None => me.at = At::ListIndex,
        },
        At::ListPacks => {
            me.listed = store.packs;
            after_begin_step(cfg, me, store, wants);
        }
        At::ChooseParent => {
            if let Choice::Parent(id) = choice {
                me.trusted = store.refers[id as usize] & wants;
            }
            begun(me, store, wants);
        }
        At::PutPack => {
            let slot = cfg.writer_slot(w, me.attempt, me.written);
            store.put_pack(slot, wants & !known(me, store));
            me.have |= bit(slot);
            me.own |= bit(slot);
            me.at = if cfg.off(Rule::SnapshotBeforeIndex) { At::Relist } else { At::PutSegment };
        }
        At::PutSegment | At::LateSegment => {
            let slot = cfg.writer_slot(w, me.attempt, me.written);
            store.put_segment(slot, Segment { packs: bit(slot), supersedes: 0 });
            me.written += 1;
            me.at = if me.at == At::PutSegment { At::Relist } else { At::GetFence };
        }
        At::Relist => relist(cfg, me, store, wants, choice == Choice::Renew),
        At::CopyPack => {
            let slot = cfg.writer_slot(w, me.attempt, me.written);
            let gone = me.condemned;
            let blobs = wants & !store.held(me.have & !gone);
            if blobs & !store.good(me.have) != 0 {
                // What it relied on is damaged, and its source was not read: there is no commit.
                me.at = At::PutEnd;
                me.condemned = 0;
                return;
            }
            store.put_pack(slot, blobs);
            me.have = me.have & !gone | bit(slot);
            me.own |= bit(slot);
            me.condemned = 0;
            me.at = At::CopySegment;
        }
        At::CopySegment => {
            let slot = cfg.writer_slot(w, me.attempt, me.written);
            store.put_segment(slot, Segment { packs: bit(slot), supersedes: 0 });
            me.written += 1;
            me.at = if me.renewing == 0 { At::PutSnapshot } else { At::PutAck };
        }
        At::PutAck => {
            store.acks[id as usize] |= me.renewing & store.records;
            me.renewing = 0;
            me.at = At::Relist;
        }
        At::PutSnapshot => {
            store.refers[id as usize] = wants;
            match choice {
                Choice::LostReply => {
                    *lost -= 1;
                    store.put_snapshot(id, wants);
                    me.at = At::GetSnapshot;
                }
                Choice::LostUnderWay => {
                    *lost -= 1;
                    store.in_flight |= bit8(id);
                    me.at = At::GetSnapshot;
                }
                _ => {
                    if choice == Choice::Duplicated {
                        *duplicates -= 1;
                        store.in_flight |= bit8(id);
                    }
                    store.put_snapshot(id, wants);
                    me.at = committed(cfg, me, ghost, id);
                }
            }
        }
        At::GetSnapshot => {
            let there = store.snapshots & bit8(id) != 0;
            me.at = match cfg.off {
                _ if there => committed(cfg, me, ghost, id),
                Some(Rule::RetrySameId) => At::PutSnapshot,
                Some(Rule::UnknownEndsWithoutFence) => {
                    // One call: the lease is ended although the snapshot may still appear.
                    store.ended |= bit8(id);
                    again(cfg, me);
                    return;
                }
                _ => At::FenceOwn,
            };
        }
        At::FenceOwn => {
            store.fences |= bit8(id);
            me.at = At::ConfirmOwn;
        }
        At::ConfirmOwn => {
            store.confirmed |= bit8(id);
            again(cfg, me);
        }
        At::GetFence => {
            if store.fences & bit8(id) == 0 {
                ghost.believed |= bit8(id);
                conclude(cfg, me);
            } else {
                ghost.refused = true;
                again(cfg, me);
            }
        }
        At::PutEnd => {
            store.ended |= bit8(id);
            conclude(cfg, me);
        }
        At::Done => {}
    }
}

fn wants(cfg: &Config, w: usize, attempt: u8) -> u8 {
    let all = cfg.writers[w];
    if cfg.partial && attempt == 0 { all & all.wrapping_neg() } else { all }
}

fn known(me: &Writer, store: &Store) -> u8 {
    store.held(me.have) | me.trusted
}

/// The next call of Begin, in the order of the rule (or of the disabled one).
fn after_begin_step(cfg: &Config, me: &mut Writer, store: &Store, wants: u8) {
    if cfg.off(Rule::RetryKeepsView) && me.attempt > 0 && me.at == At::PutLease {
        begun(me, store, wants);
        return;
    }
    let order = begin(cfg);
    if let Some(next) = order.iter().skip_while(|at| **at != me.at).nth(1) {
        me.at = *next;
        return;
    }
    me.have = me.index;
    if !cfg.off(Rule::PackPresenceNotTested) {
        me.have &= me.listed;
    }
    if !cfg.off(Rule::DedupAgainstCondemned) {
        me.have &= !me.condemned;
    }
    if cfg.off(Rule::RetryTrustsOwnPacks) {
        me.have |= me.own;
    }
    (me.condemned, me.index, me.listed) = (0, 0, 0);
    if cfg.off(Rule::ParentUntested) {
        me.at = At::ChooseParent;
    } else {
        begun(me, store, wants);
    }
}

fn begun(me: &mut Writer, store: &Store, wants: u8) {
    me.at = if wants & !known(me, store) != 0 { At::PutPack } else { At::Relist };
}

fn relist(cfg: &Config, me: &mut Writer, store: &Store, wants: u8, renew: bool) {
    if cfg.off(Rule::CommitWithoutRelist) && !renew {
        me.at = At::PutSnapshot;
        return;
    }
    let gone = store.named_by(store.records).packs & me.have;
    me.renewing = if renew { store.records } else { 0 };
    me.renewed |= renew;
    let after = if me.renewing != 0 {
        At::PutAck
    } else if renew {
        At::Relist
    } else {
        At::PutSnapshot
    };
    // A blob with another pack that counts needs no copy.
    let lacking = wants & store.held(me.have & gone) & !store.held(me.have & !gone);
    if me.renewing != 0 && cfg.off(Rule::AckWithoutCopy) {
        me.at = after;
    } else if lacking == 0 {
        me.have &= !gone;
        me.at = after;
    } else {
        me.condemned = gone;
        me.at = At::CopyPack;
    }
}

fn committed(cfg: &Config, me: &Writer, ghost: &mut Ghost, id: u8) -> At {
    if cfg.off(Rule::FenceNotRead) {
        ghost.believed |= bit8(id);
        At::PutEnd
    } else if cfg.off(Rule::SnapshotBeforeIndex) && me.own != 0 {
        At::LateSegment
    } else {
        At::GetFence
    }
}

/// What follows once a session has come to its end.
fn conclude(cfg: &Config, me: &mut Writer) {
    if cfg.partial && me.attempt == 0 {
        next(cfg, me);
    } else {
        finish(me);
    }
}

/// Another attempt after a refusal or a restart.
fn again(cfg: &Config, me: &mut Writer) {
    if me.attempt == 0 { next(cfg, me) } else { finish(me) }
}

fn next(cfg: &Config, me: &mut Writer) {
    let old = std::mem::take(me);
    me.attempt = old.attempt + 1;
    me.at = first(cfg);
    if cfg.off(Rule::RetryTrustsOwnPacks) {
        me.own = old.own;
    }
    if cfg.off(Rule::RetryKeepsView) {
        me.have = old.have;
    }
    if cfg.off(Rule::PartialKeepsView) {
        // Goes on with what it knew: no lease of the new id, no listing.
        me.have = old.have;
        me.at = At::PutPack;
    }
}

fn finish(me: &mut Writer) {
    *me = Writer { at: At::Done, attempt: me.attempt, ..Writer::default() };
}
