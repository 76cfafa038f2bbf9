//! Forget, and a reader without a lease.
//!
//! A reader plans from the index, leaves out the packs it has found missing, and lists the
//! index again when a blob has no candidate left; it reports damage only if that listing says
//! nothing new.

use super::model::State;
use super::rules::{Config, Rule};
use super::store::{Store, bit, bit8, each};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Forget {
    #[default]
    Choose,
    GetFence(u8),
    PutFence(u8),
    Confirm(u8),
    Delete(u8),
    /// Says that the snapshot was forgotten, which resolves its session as its end would.
    Mark(u8),
}

pub(crate) fn forget_choices(s: &State, out: &mut Vec<u8>) {
    match s.forget {
        Forget::Choose if s.forgets == 0 => {}
        Forget::Choose => {
            let open = s.store.snapshots & !s.ghost.forgotten;
            out.extend(each(u16::from(open)));
        }
        _ => out.push(0),
    }
}

pub(crate) fn forget(cfg: &Config, s: &mut State, choice: u8) {
    let store = &mut s.store;
    s.forget = match s.forget {
        Forget::Choose => {
            s.forgets -= 1;
            s.ghost.forgotten |= bit8(choice);
            if cfg.off(Rule::ForgetLeavesFence) {
                Forget::Delete(choice)
            } else if cfg.tombstones {
                Forget::PutFence(choice)
            } else {
                Forget::GetFence(choice)
            }
        }
        Forget::GetFence(x) if store.fences & bit8(x) == 0 => Forget::Delete(x),
        Forget::GetFence(x) => Forget::Confirm(x),
        Forget::PutFence(x) => {
            store.fences |= bit8(x);
            Forget::Confirm(x)
        }
        Forget::Confirm(x) => {
            store.confirmed |= bit8(x);
            Forget::Delete(x)
        }
        Forget::Delete(x) => {
            store.delete_snapshot(x);
            Forget::Mark(x)
        }
        Forget::Mark(x) => {
            store.ended |= bit8(x);
            Forget::Choose
        }
    };
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum ReaderAt {
    #[default]
    ListSnapshots,
    ListIndex,
    GetSegments,
    Read,
    Done,
    /// Reported damage in a snapshot that is committed.
    Failed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) at: ReaderAt,
    snapshot: u8,
    listed: u16,
    index: u16,
    missing: u16,
    /// Blobs still to be read.
    blobs: u8,
    misses: u8,
    /// Index of the plan before, once a blob has had no candidate.
    before: Option<u16>,
}

pub(crate) fn reader_choices(cfg: &Config, s: &State, out: &mut Vec<u8>) {
    let me = &s.reader;
    match me.at {
        _ if !cfg.reader => {}
        ReaderAt::ListSnapshots => out.extend(each(u16::from(s.store.visible()))),
        ReaderAt::ListIndex | ReaderAt::GetSegments => out.push(0),
        ReaderAt::Read => out.extend(each(candidates(me, &s.store))),
        ReaderAt::Done | ReaderAt::Failed => {}
    }
}

pub(crate) fn reader(cfg: &Config, s: &mut State, choice: u8) {
    let store = &s.store;
    let me = &mut s.reader;
    match me.at {
        ReaderAt::ListSnapshots => {
            me.snapshot = choice;
            me.blobs = store.refers[choice as usize];
            me.at = ReaderAt::ListIndex;
        }
        ReaderAt::ListIndex => {
            me.listed = store.segments;
            me.at = ReaderAt::GetSegments;
        }
        ReaderAt::GetSegments => {
            let Some(read) = store.load(me.listed) else {
                me.at = ReaderAt::ListIndex;
                return;
            };
            me.listed = 0;
            me.index = store.indexed(read);
            me.at = ReaderAt::Read;
            plan(me, store);
        }
        ReaderAt::Read => {
            if store.packs & bit(choice) != 0 {
                me.blobs &= !store.held(bit(choice));
                if me.blobs == 0 {
                    *me = Reader { at: ReaderAt::Done, ..Reader::default() };
                    return;
                }
            } else {
                me.missing |= bit(choice);
                me.misses += 1;
                let most = match cfg.off {
                    Some(Rule::ReaderReportsFirstMiss) => 1,
                    Some(Rule::ReaderReportsSecondMiss) => 2,
                    _ => u8::MAX,
                };
                if me.misses == most {
                    report(me, store.visible());
                    return;
                }
                if most == 2 {
                    me.at = ReaderAt::ListIndex;
                    return;
                }
                if most == u8::MAX {
                    me.misses = 0;
                }
            }
            plan(me, store);
        }
        ReaderAt::Done | ReaderAt::Failed => {}
    }
}

/// Packs that the index names for a blob still to be read, except those found missing.
fn candidates(me: &Reader, store: &Store) -> u16 {
    each(me.index & !me.missing)
        .filter(|n| store.held(bit(*n)) & me.blobs != 0)
        .fold(0, |all, n| all | bit(n))
}

fn plan(me: &mut Reader, store: &Store) {
    if me.blobs & !store.held(candidates(me, store)) == 0 {
        return;
    }
    if me.before == Some(me.index) {
        report(me, store.visible());
    } else {
        me.before = Some(me.index);
        me.at = ReaderAt::ListIndex;
    }
}

fn report(me: &mut Reader, visible: u8) {
    let real = visible & bit8(me.snapshot) != 0;
    let at = if real { ReaderAt::Failed } else { ReaderAt::Done };
    *me = Reader { at, ..Reader::default() };
}
