//! The schedule: one call at a time, of the actor that the seed chooses; and what befalls the
//! calls.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};
use holdfast_testkit::MemoryStorage;
use holdfast_testkit::clock::rng;
use rand::Rng;
use rand::rngs::StdRng;

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

#[derive(Debug, Default)]
struct Actor {
    waiting: BTreeSet<u64>,
    is_done: bool,
    /// Suspended until this step.
    until: u64,
}

#[derive(Debug)]
struct State {
    rng: StdRng,
    actors: Vec<Actor>,
    tickets: u64,
    step: u64,
    /// The call that may take place now, and what becomes of it.
    granted: Option<(u64, Fate)>,
    /// Snapshots that are still on their way, and when they arrive.
    late: Vec<(u64, ObjectName, Vec<u8>)>,
    is_over: bool,
}

#[derive(Debug)]
struct Shared {
    storage: MemoryStorage,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Schedule(Arc<Shared>);

/// What an actor makes its processes with. Dropped when it is done.
pub(super) struct Handle {
    shared: Arc<Shared>,
    actor: usize,
}

/// The storage as a process sees it.
pub(super) struct Process {
    shared: Arc<Shared>,
    actor: usize,
    is_dead: AtomicBool,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.actor)
    }
}

impl Schedule {
    pub(super) fn new(storage: MemoryStorage, seed: u64) -> Self {
        let state = State {
            rng: rng(seed),
            actors: Vec::new(),
            tickets: 0,
            step: 0,
            granted: None,
            late: Vec::new(),
            is_over: false,
        };
        Self(Arc::new(Shared { storage, state: Mutex::new(state), changed: Condvar::new() }))
    }

    pub(super) fn actor(&self) -> Handle {
        let mut state = self.0.lock();
        state.actors.push(Actor::default());
        Handle { shared: self.0.clone(), actor: state.actors.len() - 1 }
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
        // A clock that jumps makes whoever is at work look dead.
        if state.rng.random_ratio(1, 80) {
            shared.storage.clock().advance(25 * 3600);
        }
        let (now, later) = std::mem::take(&mut state.late).into_iter().partition(|l| l.0 <= step);
        state.late = later;
        let arrived: Vec<(u64, ObjectName, Vec<u8>)> = now;
        for (_, name, bytes) in arrived {
            let _ = shared.storage.put(&name, &bytes);
        }
        let live = |state: &State, suspended: bool| -> Vec<usize> {
            let may = |actor: &Actor| !actor.is_done && (suspended || actor.until <= step);
            (0..state.actors.len()).filter(|number| may(&state.actors[*number])).collect()
        };
        let mut choice = live(&state, false);
        if choice.is_empty() {
            choice = live(&state, true);
        }
        if choice.is_empty() {
            for (_, name, bytes) in std::mem::take(&mut state.late) {
                let _ = shared.storage.put(&name, &bytes);
            }
            return false;
        }
        let actor = choice[state.rng.random_range(0..choice.len())];
        if state.rng.random_ratio(1, 60) {
            state.actors[actor].until = step + state.rng.random_range(20..300);
            return true;
        }
        while state.actors[actor].waiting.is_empty() && !state.actors[actor].is_done {
            state = shared.wait(state);
        }
        let Some(ticket) = state.actors[actor].waiting.pop_first() else { return true };
        let fate = match state.rng.random_range(0..1000) {
            0..8 => Fate::Lost,
            8..14 => Fate::Fails,
            14..24 => Fate::Late,
            24..28 => Fate::DiesBefore,
            28..32 => Fate::DiesAfter,
            _ => Fate::Happens,
        };
        state.granted = Some((ticket, fate));
        shared.changed.notify_all();
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
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

impl Handle {
    pub(super) fn process(&self) -> Process {
        let is_dead = AtomicBool::new(false);
        Process { shared: self.shared.clone(), actor: self.actor, is_dead }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().actors[self.actor].is_done = true;
        self.shared.changed.notify_all();
    }
}

impl Process {
    fn dead(&self, object: &str) -> StorageError {
        StorageError::new(StorageErrorKind::Injected, "reach", object)
    }

    fn call<T>(
        &self,
        object: &str,
        put: Option<(&ObjectName, &[u8])>,
        happen: impl FnOnce() -> StorageResult<T>,
    ) -> StorageResult<T> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(self.dead(object));
        }
        let mut state = self.shared.lock();
        let ticket = state.tickets;
        state.tickets += 1;
        state.actors[self.actor].waiting.insert(ticket);
        self.shared.changed.notify_all();
        let fate = loop {
            match state.granted {
                _ if state.is_over => return Err(self.dead(object)),
                Some((granted, fate)) if granted == ticket => break fate,
                _ => state = self.shared.wait(state),
            }
        };
        let is_snapshot = object.starts_with("snapshots/");
        let answer = match fate {
            // Another thread of the process has died meanwhile.
            _ if self.is_dead.load(Ordering::SeqCst) => Err(self.dead(object)),
            Fate::Late => match put {
                Some((name, bytes)) if is_snapshot => {
                    let when = state.step + state.rng.random_range(1..400);
                    state.late.push((when, name.clone(), bytes.to_vec()));
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
        state.granted = None;
        drop(state);
        self.shared.changed.notify_all();
        answer
    }
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
        self.call(name.as_str(), Some((name, bytes)), || storage.put(name, bytes))
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        Ok(Box::new(ProcessUpload { process: self, inner: self.shared.storage.upload()? }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        self.call(name.as_str(), None, || self.shared.storage.get(name))
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let storage = &self.shared.storage;
        self.call(name.as_str(), None, || storage.get_range(name, offset, length, into))
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let mut found = Vec::new();
        let storage = &self.shared.storage;
        self.call(folder.name(), None, || storage.list(folder, &mut |info| found.push(info)))?;
        found.into_iter().for_each(each);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        self.call(name.as_str(), None, || self.shared.storage.stat(name))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        self.call(name.as_str(), None, || self.shared.storage.delete(name))
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
        process.call(name.as_str(), None, || inner.finish(name))
    }
}
