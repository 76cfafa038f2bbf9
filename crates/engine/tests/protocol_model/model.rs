//! The whole state, the `stateright` model over it and the properties.
//!
//! One action is one storage call of one process, or a snapshot PUT under way that takes place.
//! Suspension needs no action: a process is suspended while others are chosen, and dead if it is
//! never chosen again; the `always` properties are tested after every prefix of every run.

use stateright::{Model, Property};

use super::others::{self, Forget, Reader, ReaderAt};
use super::repair::{self, Repair};
use super::rules::{Config, Repairs};
use super::store::{Store, bit8, each};
use super::{gc, writer};

/// What the properties need and no process may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// Sessions whose writer saw no fence after its snapshot (and snapshot 0).
    pub(crate) believed: u8,
    pub(crate) forgotten: u8,
    pub(crate) deleted: bool,
    pub(crate) copied: bool,
    pub(crate) refused: bool,
    /// A repair has condemned the damaged pack, and these of its blobs it holds to be saved.
    pub(crate) repaired: bool,
    pub(crate) saved: u8,
    /// Sessions that began since.
    pub(crate) later: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) writers: Vec<writer::Writer>,
    pub(crate) gcs: Vec<gc::Gc>,
    pub(crate) forget: Forget,
    pub(crate) reader: Reader,
    pub(crate) repair: Repair,
    pub(crate) forgets: u8,
    pub(crate) crashes: u8,
    pub(crate) lost: u8,
    pub(crate) duplicates: u8,
    /// Calls that the hostile process has made: fence, then confirmation of snapshot 0.
    hostile: u8,
    pub(crate) ghost: Ghost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Writer(u8, writer::At, writer::Choice),
    Gc(u8, gc::At, u8),
    Forget(Forget, u8),
    Reader(ReaderAt, u8),
    Lands(u8),
    Hostile,
    Repair(repair::At),
}

#[derive(Clone, Debug)]
pub(crate) struct Protocol(pub(crate) Config);

pub(crate) const RESTORES: &str = "every committed snapshot restores";
pub(crate) const PACKS_STAY: &str = "packs of committed snapshots stay";
pub(crate) const EXCLUDE: &str = "committed and confirmed fenced exclude each other";
pub(crate) const SEEN: &str = "readers see every committed snapshot";
pub(crate) const HISTORY: &str = "history stays until it is forgotten";
pub(crate) const NO_FALSE_ALARM: &str = "a reader reports no damage where there is none";
pub(crate) const NO_DANGLING: &str = "with one gc and no writer the index names no absent pack";
pub(crate) const SAVED_STAYS: &str = "what a repair has saved stays whole";
pub(crate) const STORED_AGAIN: &str = "who begins after a repair relies on nothing damaged";
pub(crate) const MENDED: &str = "the damaged pack goes and nothing is lost";
pub(crate) const DELETES: &str = "gc deletes garbage";
pub(crate) const ALL_COMMIT: &str = "all writers commit";
pub(crate) const REFUSED_THEN_COMMITS: &str = "a fenced writer commits under a new id";
pub(crate) const COPIES: &str = "gc copies out of a condemned pack";

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let cfg = &self.0;
        let init = cfg.scenes.iter().map(|scene| {
            let store = Store::new(*scene);
            State {
                ghost: Ghost { believed: store.snapshots, ..Ghost::default() },
                store,
                writers: vec![writer::Writer::new(cfg); cfg.writers.len()],
                gcs: vec![gc::Gc::default(); cfg.gcs],
                forget: Forget::Choose,
                reader: Reader::default(),
                repair: Repair::default(),
                forgets: cfg.forgets,
                crashes: cfg.crashes,
                lost: cfg.lost,
                duplicates: cfg.duplicates,
                hostile: if cfg.hostile { 0 } else { 2 },
            }
        });
        init.collect()
    }

    fn actions(&self, s: &State, actions: &mut Vec<Action>) {
        let cfg = &self.0;
        for (w, me) in s.writers.iter().enumerate() {
            let mut choices = Vec::with_capacity(4);
            writer::choices(cfg, s, w, &mut choices);
            actions.extend(choices.into_iter().map(|c| Action::Writer(w as u8, me.at, c)));
        }
        let mut numbers = Vec::with_capacity(8);
        for (g, me) in s.gcs.iter().enumerate() {
            gc::choices(cfg, s, g, &mut numbers);
            actions.extend(numbers.drain(..).map(|c| Action::Gc(g as u8, me.at, c)));
        }
        others::forget_choices(s, &mut numbers);
        actions.extend(numbers.drain(..).map(|c| Action::Forget(s.forget, c)));
        others::reader_choices(cfg, s, &mut numbers);
        actions.extend(numbers.drain(..).map(|c| Action::Reader(s.reader.at, c)));
        actions.extend(each(u16::from(s.store.in_flight)).map(Action::Lands));
        if s.hostile < 2 && s.store.snapshots & 1 != 0 {
            actions.push(Action::Hostile);
        }
        if repair::can_go_on(cfg, s) {
            actions.push(Action::Repair(s.repair.at));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let cfg = &self.0;
        let mut s = last.clone();
        match action {
            Action::Writer(w, _, choice) => writer::step(cfg, &mut s, w as usize, choice),
            Action::Gc(g, _, choice) => gc::step(cfg, &mut s, g as usize, choice),
            Action::Forget(_, choice) => others::forget(cfg, &mut s, choice),
            Action::Reader(_, choice) => others::reader(cfg, &mut s, choice),
            Action::Lands(id) => {
                s.store.in_flight &= !bit8(id);
                s.store.snapshots |= bit8(id);
            }
            Action::Hostile => {
                s.hostile += 1;
                if s.hostile == 1 {
                    s.store.fences |= 1;
                } else {
                    s.store.confirmed |= 1;
                }
            }
            Action::Repair(_) => repair::step(cfg, &mut s),
        }
        Some(s)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = vec![
            Property::always(PACKS_STAY, |_, s: &State| {
                let store = &s.store;
                refers(store, store.visible()) & !store.blobs(store.packs) == 0
            }),
            Property::always(NO_FALSE_ALARM, |_, s: &State| s.reader.at != ReaderAt::Failed),
        ];
        if !self.0.damaged() {
            all.push(Property::always(RESTORES, |_, s: &State| {
                refers(&s.store, s.store.visible()) & !s.store.readable() == 0
            }));
            all.push(Property::always(HISTORY, |_, s: &State| {
                let kept = s.ghost.believed & !s.ghost.forgotten;
                kept & !s.store.snapshots == 0 && refers(&s.store, kept) & !s.store.readable() == 0
            }));
            all.push(Property::sometimes(DELETES, |_, s: &State| s.ghost.deleted));
        }
        if self.0.repair == Some(Repairs::Packs) {
            all.push(Property::always(SAVED_STAYS, |_, s: &State| {
                refers(&s.store, s.store.visible()) & s.ghost.saved & !s.store.whole() == 0
            }));
            all.push(Property::always(STORED_AGAIN, |_, s: &State| {
                let later = s.store.visible() & s.ghost.later;
                refers(&s.store, later) & !s.store.whole() == 0
            }));
            all.push(Property::sometimes(MENDED, |_, s: &State| {
                s.ghost.deleted && refers(&s.store, s.store.visible()) & !s.store.whole() == 0
            }));
        }
        if self.0.gcs == 1 && self.0.writers.is_empty() && self.0.repair.is_none() {
            all.push(Property::always(NO_DANGLING, |_, s: &State| {
                s.store.indexed(s.store.segments) & !s.store.packs == 0
            }));
        }
        if !self.0.hostile {
            all.push(Property::always(EXCLUDE, |_, s: &State| {
                s.ghost.believed & !s.ghost.forgotten & s.store.confirmed == 0
            }));
            all.push(Property::always(SEEN, |_, s: &State| {
                s.ghost.believed & !s.ghost.forgotten & !s.store.visible() == 0
            }));
        }
        if !self.0.writers.is_empty() && !self.0.damaged() {
            all.push(Property::sometimes(ALL_COMMIT, |m: &Self, s: &State| {
                (0..m.0.writers.len()).all(|w| believes(s, w))
            }));
            if self.0.gcs > 0 {
                all.push(Property::sometimes(COPIES, |_, s: &State| s.ghost.copied));
                all.push(Property::sometimes(REFUSED_THEN_COMMITS, |_, s: &State| {
                    s.ghost.refused && s.ghost.believed & 0b10100 != 0
                }));
            }
        }
        all
    }
}

fn refers(store: &Store, snapshots: u8) -> u8 {
    each(u16::from(snapshots)).fold(0, |all, id| all | store.refers[id as usize])
}

fn believes(s: &State, w: usize) -> bool {
    let ids = bit8(Config::writer_id(w, 0)) | bit8(Config::writer_id(w, 1));
    s.ghost.believed & ids != 0
}
