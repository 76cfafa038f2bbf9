//! A storage that fails on purpose: around any other, it counts and records every call, and
//! lets chosen calls fail, lose their reply, happen twice, return a flipped bit, or end the
//! process. Plans are explicit, random from a seed, or a function.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast_engine::hash::ObjectId;
use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
    UploadHint, Warmth,
};
use rand::Rng;

use crate::clock::{rng, sub_seed};
use crate::lock;

/// Which method was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`Storage::prepare`].
    Prepare,
    /// [`Storage::put`].
    Put,
    /// [`Storage::upload`].
    Upload,
    /// [`Upload::write`].
    Write,
    /// [`Upload::finish`].
    Finish,
    /// [`Storage::get`].
    Get,
    /// [`Storage::get_range`].
    GetRange,
    /// [`Storage::list`].
    List,
    /// [`Storage::stat`].
    Stat,
    /// [`Storage::delete`].
    Delete,
}

impl Operation {
    /// Whether it can change what the storage shows.
    pub fn is_change(self) -> bool {
        matches!(self, Self::Put | Self::Finish | Self::Delete)
    }

    fn verb(self) -> &'static str {
        match self {
            Self::Prepare | Self::Put | Self::Upload | Self::Write | Self::Finish => "write",
            Self::Get | Self::GetRange => "read",
            Self::List => "list",
            Self::Stat => "stat",
            Self::Delete => "delete",
        }
    }
}

/// A call as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub operation: Operation,
    /// The object's name or the folder's; empty where there is none yet.
    pub object: String,
    /// Bytes sent (put, write) or asked for (range), else 0.
    pub bytes: u64,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing has happened.
    ErrorBefore,
    /// It happens, and the reply is lost: the caller sees an error. A listing delivers half of
    /// its entries first.
    ErrorAfter,
    /// The process dies before it happens: this and every later call fails.
    CrashBefore,
    /// It happens and the process dies: this and every later call fails.
    CrashAfter,
    /// A put, finish or delete reaches the storage twice, and the second answer comes back
    /// (`AlreadyExists`, `NotFound`). Other calls are served as usual.
    Duplicate,
    /// A get or range returns one flipped bit, this once. Other calls are served as usual.
    FlipBit,
}

/// How often random calls go wrong, each as a probability from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// [`Fault::ErrorBefore`].
    pub error_before: f64,
    /// [`Fault::ErrorAfter`].
    pub error_after: f64,
    /// [`Fault::Duplicate`].
    pub duplicate: f64,
    /// [`Fault::FlipBit`].
    pub flip_bit: f64,
    /// [`Fault::CrashBefore`] or [`Fault::CrashAfter`], evenly.
    pub crash: f64,
}

impl Rates {
    /// Plain errors at `rate` in all: half of them before, half after the call happened.
    pub fn errors(rate: f64) -> Self {
        Self { error_before: rate / 2.0, error_after: rate / 2.0, ..Self::default() }
    }
}

type Plan = Box<dyn FnMut(usize, &Call) -> Option<Fault> + Send>;

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    refused: usize,
    crashed: bool,
    explicit: BTreeMap<usize, Fault>,
    random: Option<(u64, Rates)>,
    injected: Vec<(usize, Fault)>,
}

/// A storage with faults around another. Clones share counters and plan, so a test keeps a
/// handle to what it gives away. Calls are numbered from 0.
pub struct FaultStorage<S> {
    inner: Arc<S>,
    state: Arc<Mutex<State>>,
    // Apart from the state, so that a plan may take its time and look at the counters.
    plan: Arc<Mutex<Option<Plan>>>,
    kind: StorageErrorKind,
}

impl<S> Clone for FaultStorage<S> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            state: Arc::clone(&self.state),
            plan: Arc::clone(&self.plan),
            kind: self.kind,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultStorage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStorage({:?}, {} calls)", self.inner, lock(&self.state).calls.len())
    }
}

impl<S: Storage> FaultStorage<S> {
    /// Counts and records; nothing fails yet.
    pub fn new(inner: S) -> Self {
        let kind = StorageErrorKind::Injected;
        Self { inner: Arc::new(inner), state: Arc::default(), plan: Arc::default(), kind }
    }

    /// The same, with errors of this kind.
    pub fn failing_as(mut self, kind: StorageErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Random faults from a seed. Call number and seed alone decide, so a run with one thread can
    /// be repeated, and one with several nearly so.
    pub fn random(inner: S, seed: u64, rates: Rates) -> Self {
        let storage = Self::new(inner);
        lock(&storage.state).random = Some((seed, rates));
        storage
    }

    /// Lets the `k`th call from the beginning (from 0) fail. Explicit faults go before others.
    pub fn fail_at(&self, k: usize, fault: Fault) -> &Self {
        lock(&self.state).explicit.insert(k, fault);
        self
    }

    /// Asks `plan` at every call without an explicit fault, before it happens. It may also do
    /// things of its own (let another writer run, move a clock), but not through this storage:
    /// calls of other threads wait for it.
    pub fn set_plan(&self, plan: impl FnMut(usize, &Call) -> Option<Fault> + Send + 'static) {
        *lock(&self.plan) = Some(Box::new(plan));
    }

    /// From now on nothing fails (a process that crashed stays dead).
    pub fn clear_faults(&self) {
        let mut state = lock(&self.state);
        state.explicit.clear();
        state.random = None;
        drop(state);
        *lock(&self.plan) = None;
    }

    /// The process dies now: every call from here on fails.
    pub fn crash(&self) {
        lock(&self.state).crashed = true;
    }

    /// Whether the process is dead.
    pub fn is_crashed(&self) -> bool {
        lock(&self.state).crashed
    }

    /// Calls so far, without those after a crash.
    pub fn calls(&self) -> usize {
        lock(&self.state).calls.len()
    }

    /// Calls that were refused because the process is dead.
    pub fn refused(&self) -> usize {
        lock(&self.state).refused
    }

    /// Calls of one kind so far.
    pub fn count(&self, operation: Operation) -> usize {
        lock(&self.state).calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Every call so far, in order; its index is its number.
    pub fn log(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    /// Faults that came to pass, with the numbers of their calls.
    pub fn injected(&self) -> Vec<(usize, Fault)> {
        lock(&self.state).injected.clone()
    }

    /// Forgets the calls, so that numbers start from 0 again. Faults yet to come stay planned.
    pub fn reset_log(&self) {
        let mut state = lock(&self.state);
        state.calls.clear();
        state.injected.clear();
        state.refused = 0;
    }

    /// The storage inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn injected_error(&self, call: &Call) -> StorageError {
        let object = format!("{}/{}", self.inner.location(), call.object);
        StorageError::new(self.kind, call.operation.verb(), object)
    }

    /// Records a call and decides what goes wrong with it. Fails if the process is dead.
    fn begin(&self, call: &Call) -> StorageResult<Option<(usize, Fault)>> {
        let (number, mut fault) = {
            let mut state = lock(&self.state);
            if state.crashed {
                state.refused += 1;
                return Err(self.injected_error(call));
            }
            let number = state.calls.len();
            state.calls.push(call.clone());
            (number, state.explicit.remove(&number))
        };
        if fault.is_none() {
            fault = lock(&self.plan).as_mut().and_then(|plan| plan(number, call));
        }
        let mut state = lock(&self.state);
        if let (None, Some((seed, rates))) = (fault, state.random) {
            fault = draw(sub_seed(seed, number as u64), rates);
        }
        if let Some(fault) = fault {
            state.injected.push((number, fault));
        }
        if fault == Some(Fault::CrashBefore) {
            state.crashed = true;
        }
        // The plan, or another thread meanwhile, may have ended the process.
        if state.crashed { Err(self.injected_error(call)) } else { Ok(fault.map(|f| (number, f))) }
    }

    /// Serves a call as its fault says. Returns, beside the result, a number for choosing the bit
    /// to flip, if one is to be.
    fn serve<T>(
        &self,
        call: &Call,
        mut happen: impl FnMut() -> StorageResult<T>,
    ) -> StorageResult<(T, Option<u64>)> {
        let fault = self.begin(call)?;
        let mut flip = None;
        let result = match fault {
            Some((_, Fault::ErrorBefore | Fault::CrashBefore)) => {
                return Err(self.injected_error(call));
            }
            Some((_, Fault::ErrorAfter)) => {
                // An error of its own wins: it is what the storage would have answered.
                happen().and_then(|_| Err(self.injected_error(call)))
            }
            Some((_, Fault::CrashAfter)) => {
                let _ = happen();
                self.crash();
                return Err(self.injected_error(call));
            }
            Some((_, Fault::Duplicate)) if call.operation.is_change() => {
                let _ = happen();
                happen()
            }
            Some((number, Fault::FlipBit)) => {
                flip = Some(sub_seed(0, number as u64));
                happen()
            }
            Some((_, Fault::Duplicate)) | None => happen(),
        };
        // A dead process gets no answers, even to what was under way when it died.
        if self.is_crashed() {
            return Err(self.injected_error(call));
        }
        result.map(|value| (value, flip))
    }
}

fn draw(seed: u64, rates: Rates) -> Option<Fault> {
    let mut rng = rng(seed);
    let crash = if rng.random() { Fault::CrashBefore } else { Fault::CrashAfter };
    let mut point: f64 = rng.random();
    for (rate, fault) in [
        (rates.error_before, Fault::ErrorBefore),
        (rates.error_after, Fault::ErrorAfter),
        (rates.duplicate, Fault::Duplicate),
        (rates.flip_bit, Fault::FlipBit),
        (rates.crash, crash),
    ] {
        if point < rate {
            return Some(fault);
        }
        point -= rate;
    }
    None
}

fn flip_bit(bytes: &mut [u8], choice: u64) {
    if let Some(bits) = (bytes.len() as u64 * 8).checked_sub(1) {
        let bit = choice % (bits + 1);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

fn call(operation: Operation, object: impl Into<String>, bytes: usize) -> Call {
    Call { operation, object: object.into(), bytes: bytes as u64 }
}

impl<S: Storage> Storage for FaultStorage<S> {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn prepare(&self) -> StorageResult<()> {
        self.serve(&call(Operation::Prepare, "", 0), || self.inner.prepare()).map(|done| done.0)
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let call = call(Operation::Put, name.as_str(), bytes.len());
        self.serve(&call, || self.inner.put(name, bytes)).map(|done| done.0)
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        let (inner, _) = self.serve(&call(Operation::Upload, "", 0), || self.inner.upload())?;
        Ok(Box::new(FaultUpload { storage: self, inner }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        let call = call(Operation::Get, name.as_str(), 0);
        let (mut bytes, flip) = self.serve(&call, || self.inner.get(name))?;
        if let Some(choice) = flip {
            flip_bit(&mut bytes, choice);
        }
        Ok(bytes)
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        let call = call(Operation::GetRange, name.as_str(), length);
        let ((), flip) = self.serve(&call, || self.inner.get_range(name, offset, length, into))?;
        if let Some(choice) = flip {
            flip_bit(into, choice);
        }
        Ok(())
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let call = call(Operation::List, folder.name(), 0);
        let mut found = Vec::new();
        let listed = self.serve(&call, || {
            found.clear();
            self.inner.list(folder, &mut |info| found.push(info))
        });
        // What arrived before the reply broke off must not be taken for the whole.
        let delivered = if listed.is_err() { found.len() / 2 } else { found.len() };
        found.into_iter().take(delivered).for_each(each);
        listed.map(|done| done.0)
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        let call = call(Operation::Stat, name.as_str(), 0);
        self.serve(&call, || self.inner.stat(name)).map(|done| done.0)
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        let call = call(Operation::Delete, name.as_str(), 0);
        self.serve(&call, || self.inner.delete(name)).map(|done| done.0)
    }

    fn sha256(&self, names: &[ObjectName]) -> StorageResult<Option<Vec<Option<ObjectId>>>> {
        self.inner.sha256(names)
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    fn uploads(&self) -> UploadHint {
        self.inner.uploads()
    }

    fn reap(&self, age: Duration) -> StorageResult<u64> {
        self.inner.reap(age)
    }

    fn warm_up(&self, names: &[ObjectName], days: u32) -> StorageResult<Warmth> {
        self.inner.warm_up(names, days)
    }

    fn extend_retention(&self, objects: &[ObjectInfo]) -> StorageResult<Option<u64>> {
        self.inner.extend_retention(objects)
    }

    fn settle(&self) -> Duration {
        self.inner.settle()
    }
}

struct FaultUpload<'a, S> {
    storage: &'a FaultStorage<S>,
    inner: Box<dyn Upload + 'a>,
}

impl<S: Storage> Upload for FaultUpload<'_, S> {
    fn may_be_cold(&mut self) {
        self.inner.may_be_cold();
    }

    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        let call = call(Operation::Write, "", bytes.len());
        let Self { storage, inner } = self;
        storage.serve(&call, || inner.write(bytes)).map(|done| done.0)
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        let call = call(Operation::Finish, name.as_str(), 0);
        let Self { storage, inner } = *self;
        let mut inner = Some(inner);
        // The second of two finishes finds the name taken, by the first.
        let happen = || match inner.take() {
            Some(upload) => upload.finish(name),
            None => Err(StorageError::new(StorageErrorKind::AlreadyExists, "write", name.as_str())),
        };
        storage.serve(&call, happen).map(|done| done.0)
    }
}

#[cfg(test)]
mod tests;
