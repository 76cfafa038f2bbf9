//! The schedule: one call at a time, of the actor that the seed chooses; and what befalls the
//! calls.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};
use holdfast_testkit::MemoryStorage;
use holdfast_testkit::clock::rng;
use rand::Rng;
use rand::rngs::StdRng;

use super::trace::{Line, Trace};

/// How rough it is. Rates are one in so many; 0 means never.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    /// Calls whose replies are lost, that fail, in which the process dies.
    pub(super) lost: u32,
    pub(super) fails: u32,
    pub(super) dies: u32,
    /// Snapshots that are stored some time after their writers were told that they failed.
    pub(super) late: u32,
    /// Suspensions before any call; and before one that lists, stores or deletes, where the rules
    /// of the protocol part.
    pub(super) suspended: u32,
    pub(super) suspended_at_turns: u32,
    /// Steps that a suspension lasts, at most; and that an actor rests between two processes.
    pub(super) long: u64,
    pub(super) rest: u64,
    /// Steps at which the clock jumps by a day (a rate); and seconds that every step takes.
    pub(super) jumps: u32,
    pub(super) tick: i64,
}

fn one_in(rng: &mut StdRng, many: u32) -> bool {
    many > 0 && rng.random_ratio(1, many)
}

/// What may come before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// It is the first of a process, which begins whenever it likes.
    Rest,
    /// A turn.
    Turn,
    /// A call like any other, or all that could come has come.
    Nothing,
}

/// A call, as far as the schedule looks at it.
enum Call<'a> {
    Read,
    List,
    Put(&'a ObjectName, &'a [u8]),
    Upload,
    Delete,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Happens,
    /// The reply is lost.
    Lost,
    /// It does not take place.
    Fails,
    /// A snapshot is stored some time after its writer was told that it failed.
    Late,
    /// The process dies before or after it.
    DiesBefore,
    DiesAfter,
}

/// A call that waits for its turn.
#[derive(Debug)]
struct Waiting {
    before: Before,
    /// Told when the call may go on. One each: waking all for every call took most of the time.
    go: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct Actor {
    /// By the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    is_done: bool,
    /// Suspended until this step.
    until: u64,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    weather: Weather,
    actors: Vec<Actor>,
    tickets: u64,
    step: u64,
    /// The call that takes place now, and what becomes of it.
    granted: Option<(u64, Fate)>,
    /// Snapshots that are still on their way, and when they arrive.
    late: Vec<(u64, ObjectName, Vec<u8>)>,
    is_over: bool,
}

#[derive(Debug)]
struct Shared {
    storage: MemoryStorage,
    state: Mutex<State>,
    /// For the schedule alone: a call waits, took place, or an actor is done.
    changed: Condvar,
    trace: Trace,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fate(&mut self) -> Fate {
        let Weather { lost, fails, dies, late, .. } = self.weather;
        let fates = [
            (lost, Fate::Lost),
            (fails, Fate::Fails),
            (dies, Fate::DiesBefore),
            (dies, Fate::DiesAfter),
            (late, Fate::Late),
        ];
        let befalls = |(many, _): &(u32, Fate)| one_in(&mut self.rng, *many);
        fates.into_iter().find(befalls).map_or(Fate::Happens, |(_, fate)| fate)
    }
}

pub(super) struct Schedule(Arc<Shared>);

/// What an actor makes its processes with. Dropped when it is done.
pub(super) struct Handle {
    shared: Arc<Shared>,
    actor: usize,
    processes: AtomicUsize,
}

/// The storage as a process sees it.
pub(super) struct Process {
    shared: Arc<Shared>,
    actor: usize,
    number: usize,
    has_begun: AtomicBool,
    is_dead: AtomicBool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.actor)
    }
}

impl Schedule {
    pub(super) fn new(storage: MemoryStorage, weather: Weather, seed: u64) -> Self {
        let state = State {
            rng: rng(seed),
            weather,
            actors: Vec::new(),
            tickets: 0,
            step: 0,
            granted: None,
            late: Vec::new(),
            is_over: false,
        };
        let (state, changed, trace) = (Mutex::new(state), Condvar::new(), Trace::new());
        Self(Arc::new(Shared { storage, state, changed, trace }))
    }

    /// Keeps all that is there before anybody does anything.
    pub(super) fn keep_all(&self) {
        let storage = &self.0.storage;
        for name in storage.names() {
            let bytes = storage.get(&name).ok();
            let (text, object) = ("is there".into(), name.as_str().to_owned());
            self.0.trace.add(Line { step: 0, actor: 0, process: 0, text, object, bytes });
        }
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.0.trace
    }

    pub(super) fn actor(&self) -> Handle {
        let mut state = self.0.lock();
        state.actors.push(Actor::default());
        let actor = state.actors.len() - 1;
        Handle { shared: self.0.clone(), actor, processes: AtomicUsize::new(0) }
    }

    /// Lets one call after the other take place until all actors are done.
    pub(super) fn run(&self, mut after: impl FnMut()) {
        let _over = Over(&self.0);
        while self.step() {
            after();
        }
    }

    fn step(&self) -> bool {
        let shared = &*self.0;
        let mut state = shared.lock();
        state.step += 1;
        let step = state.step;
        let weather = state.weather;
        shared.storage.clock().advance(weather.tick);
        // A clock that jumps makes whoever is at work look dead.
        if one_in(&mut state.rng, weather.jumps) {
            shared.storage.clock().advance(25 * 3600);
        }
        let (now, later) = std::mem::take(&mut state.late).into_iter().partition(|l| l.0 <= step);
        state.late = later;
        let arrived: Vec<(u64, ObjectName, Vec<u8>)> = now;
        for (_, name, bytes) in arrived {
            let _ = shared.storage.put(&name, &bytes);
        }
        let live: Vec<usize> =
            (0..state.actors.len()).filter(|actor| !state.actors[*actor].is_done).collect();
        let awake = |actor: &usize| state.actors[*actor].until <= step;
        let mut choice: Vec<usize> = live.iter().copied().filter(awake).collect();
        if choice.is_empty() {
            // All sleep: the first to wake wakes now.
            let Some(first) = live.into_iter().min_by_key(|actor| state.actors[*actor].until)
            else {
                for (_, name, bytes) in std::mem::take(&mut state.late) {
                    let _ = shared.storage.put(&name, &bytes);
                }
                return false;
            };
            state.actors[first].until = step;
            choice.push(first);
        }
        let actor = choice[state.rng.random_range(0..choice.len())];
        while state.actors[actor].waiting.is_empty() && !state.actors[actor].is_done {
            state = shared.wait(state);
        }
        let Some((ticket, mut call)) = state.actors[actor].waiting.pop_first() else { return true };
        let pause = match call.before {
            Before::Rest => weather.rest,
            Before::Turn if one_in(&mut state.rng, weather.suspended_at_turns) => weather.long,
            _ if one_in(&mut state.rng, weather.suspended) => weather.long,
            _ => 0,
        };
        if pause > 0 {
            call.before = Before::Nothing;
            state.actors[actor].waiting.insert(ticket, call);
            state.actors[actor].until = step + state.rng.random_range(1..=pause);
            return true;
        }
        let fate = state.fate();
        state.granted = Some((ticket, fate));
        call.go.notify_one();
        while state.granted.is_some() {
            state = shared.wait(state);
        }
        true
    }
}

/// Lets all go on, without faults, should the check have failed.
struct Over<'a>(&'a Shared);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        let waiting = state.actors.iter().flat_map(|actor| actor.waiting.values());
        waiting.for_each(|call| call.go.notify_one());
    }
}

impl Handle {
    /// Keeps what an actor says for the trace.
    pub(super) fn say(&self, text: impl std::fmt::Display) {
        let step = self.shared.lock().step;
        let process = self.processes.load(Ordering::SeqCst).saturating_sub(1);
        let (actor, text, object) = (self.actor, format!("says {text}"), String::new());
        self.shared.trace.add(Line { step, actor, process, text, object, bytes: None });
    }

    pub(super) fn process(&self) -> Process {
        let (has_begun, is_dead) = Default::default();
        let number = self.processes.fetch_add(1, Ordering::SeqCst);
        Process { shared: self.shared.clone(), actor: self.actor, number, has_begun, is_dead }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().actors[self.actor].is_done = true;
        self.shared.changed.notify_one();
    }
}

impl Process {
    /// Keeps a call for the trace.
    fn keep(&self, step: u64, object: &str, call: &Call<'_>, fate: Fate, is_ok: bool) {
        if !self.shared.trace.is_kept() {
            return;
        }
        let (verb, stores) = match call {
            Call::Read => ("read", false),
            Call::List => ("list", false),
            Call::Put(..) => ("put", true),
            Call::Upload => ("upload", true),
            Call::Delete => ("delete", false),
        };
        let name = ObjectName::parse(object).filter(|_| stores);
        let bytes = name.and_then(|name| self.shared.storage.get(&name).ok());
        let text = format!("{verb} {fate:?} {}", if is_ok { "ok" } else { "error" });
        let (actor, process, object) = (self.actor, self.number, object.to_owned());
        self.shared.trace.add(Line { step, actor, process, text, object, bytes });
    }

    fn dead(&self, object: &str) -> StorageError {
        StorageError::new(StorageErrorKind::Injected, "reach", object)
    }

    fn call<T>(
        &self,
        object: &str,
        call: &Call<'_>,
        happen: impl FnOnce() -> StorageResult<T>,
    ) -> StorageResult<T> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(self.dead(object));
        }
        let before = match call {
            _ if !self.has_begun.swap(true, Ordering::SeqCst) => Before::Rest,
            Call::Read => Before::Nothing,
            _ => Before::Turn,
        };
        let mut state = self.shared.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        let go = Arc::new(Condvar::new());
        state.actors[self.actor].waiting.insert(ticket, Waiting { before, go: go.clone() });
        self.shared.changed.notify_one();
        let fate = loop {
            match state.granted {
                _ if state.is_over => return Err(self.dead(object)),
                Some((granted, fate)) if granted == ticket => break fate,
                _ => state = go.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let answer = match fate {
            // Another thread of the process has died meanwhile.
            _ if self.is_dead.load(Ordering::SeqCst) => Err(self.dead(object)),
            Fate::Late => match call {
                Call::Put(name, bytes) if object.starts_with("snapshots/") => {
                    let when = state.step + state.rng.random_range(1..400);
                    state.late.push((when, (*name).clone(), bytes.to_vec()));
                    Err(self.dead(object))
                }
                _ => happen(),
            },
            Fate::Happens => happen(),
            Fate::Fails => Err(self.dead(object)),
            Fate::Lost => happen().and_then(|_| Err(self.dead(object))),
            Fate::DiesBefore | Fate::DiesAfter => {
                if fate == Fate::DiesAfter {
                    let _ = happen();
                }
                self.is_dead.store(true, Ordering::SeqCst);
                Err(self.dead(object))
            }
        };
        self.keep(state.step, object, call, fate, answer.is_ok());
        state.granted = None;
        drop(state);
        self.shared.changed.notify_one();
        answer
    }
}

/// Whether it was written when the repository was made, once for all: no step of any protocol.
fn is_fixed(name: &str) -> bool {
    name == "config" || name.starts_with("keys/")
}

impl Storage for Process {
    fn location(&self) -> String {
        self.shared.storage.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let storage = &self.shared.storage;
        self.call(name.as_str(), &Call::Put(name, bytes), || storage.put(name, bytes))
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        Ok(Box::new(ProcessUpload { process: self, inner: self.shared.storage.upload()? }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        if is_fixed(name.as_str()) {
            return self.shared.storage.get(name);
        }
        self.call(name.as_str(), &Call::Read, || self.shared.storage.get(name))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let storage = &self.shared.storage;
        self.call(name.as_str(), &Call::Read, || storage.get_range(name, offset, length, into))
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        if folder == Folder::Keys {
            return self.shared.storage.list(folder, each);
        }
        let mut found = Vec::new();
        let storage = &self.shared.storage;
        self.call(folder.name(), &Call::List, || {
            storage.list(folder, &mut |info| found.push(info))
        })?;
        found.into_iter().for_each(each);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        if is_fixed(name.as_str()) {
            return self.shared.storage.stat(name);
        }
        self.call(name.as_str(), &Call::Read, || self.shared.storage.stat(name))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.call(name.as_str(), &Call::Delete, || self.shared.storage.delete(name))
    }

    fn concurrency(&self) -> usize {
        1
    }
}

struct ProcessUpload<'a> {
    process: &'a Process,
    inner: Box<dyn Upload + 'a>,
}

impl Upload for ProcessUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        self.inner.write(bytes)
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let Self { process, inner } = *self;
        process.call(name.as_str(), &Call::Upload, || inner.finish(name))
    }
}
