//! A storage in memory that is as strict as the contract allows: write-once, nothing visible
//! before it is whole, listings in an order nobody can rely on. Tests reach around the contract to
//! damage, remove, dump and load objects.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};

use crate::clock::TestClock;
use crate::lock;

/// An object as it lies in the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// When it was written, in seconds since the Unix epoch.
    pub modified: i64,
}

/// Everything a storage held at one moment. Cheap to clone: objects are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump(pub BTreeMap<ObjectName, StoredObject>);

#[derive(Debug, Default)]
struct State {
    /// Its place is yet to be made: nothing can be listed or stored.
    is_missing: bool,
    objects: BTreeMap<ObjectName, StoredObject>,
    read_only: bool,
    capacity: Option<u64>,
}

/// A storage in memory. Clones share the objects, as several processes share a repository.
#[derive(Clone)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
    clock: TestClock,
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStorage({} objects)", lock(&self.state).objects.len())
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStorage {
    /// An empty storage with a clock of its own.
    pub fn new() -> Self {
        Self::with_clock(TestClock::new())
    }

    /// One whose place is not there before [`prepare`](Storage::prepare), as that of a directory.
    pub fn missing() -> Self {
        let storage = Self::new();
        lock(&storage.state).is_missing = true;
        storage
    }

    /// An empty storage that stamps its objects with the time of `clock`.
    pub fn with_clock(clock: TestClock) -> Self {
        Self { state: Arc::default(), clock }
    }

    /// A storage of its own that holds what was dumped.
    pub fn from_dump(dump: Dump) -> Self {
        let storage = Self::new();
        storage.load(dump);
        storage
    }

    /// The clock that stamps objects.
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// Everything it holds now.
    pub fn dump(&self) -> Dump {
        Dump(lock(&self.state).objects.clone())
    }

    /// Replaces everything it holds.
    pub fn load(&self, dump: Dump) {
        lock(&self.state).objects = dump.0;
    }

    /// Names of all objects, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    /// Names of the objects below a folder, sorted.
    pub fn names_in(&self, folder: Folder) -> Vec<ObjectName> {
        self.names().into_iter().filter(|name| is_in(name, folder)).collect()
    }

    /// Bytes in all objects.
    pub fn total_size(&self) -> u64 {
        lock(&self.state).objects.values().map(|o| o.bytes.len() as u64).sum()
    }

    /// Changes an object in place, as no program may. Panics if it is not there.
    pub fn corrupt(&self, name: &ObjectName, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = lock(&self.state);
        let Some(object) = state.objects.get_mut(name) else { panic!("corrupt: no {name}") };
        change(Arc::make_mut(&mut object.bytes));
    }

    /// Removes an object behind the program's back. Whether it was there.
    pub fn remove(&self, name: &ObjectName) -> bool {
        lock(&self.state).objects.remove(name).is_some()
    }

    /// Puts an object there behind the program's back, replacing what was there.
    pub fn plant(&self, name: &ObjectName, bytes: Vec<u8>) {
        let object = StoredObject { bytes: Arc::new(bytes), modified: self.clock.now().seconds };
        lock(&self.state).objects.insert(name.clone(), object);
    }

    /// Exchanges the contents of two objects. Panics unless both are there.
    pub fn swap(&self, one: &ObjectName, other: &ObjectName) {
        let mut state = lock(&self.state);
        let (Some(a), Some(b)) =
            (state.objects.get(one).cloned(), state.objects.get(other).cloned())
        else {
            panic!("swap: {one} and {other} must both be there")
        };
        state.objects.insert(one.clone(), b);
        state.objects.insert(other.clone(), a);
    }

    /// While set, everything that writes or deletes fails with `ReadOnly`.
    pub fn set_read_only(&self, read_only: bool) {
        lock(&self.state).read_only = read_only;
    }

    /// Lets writes beyond so many bytes in all fail with `NoSpace`; `None` lifts the limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        lock(&self.state).capacity = capacity;
    }

    fn error(&self, kind: StorageErrorKind, what: &'static str, object: &str) -> StorageError {
        StorageError::new(kind, what, format!("{}/{object}", self.location()))
    }

    fn store(&self, name: &ObjectName, bytes: Vec<u8>) -> StorageResult<()> {
        let mut state = lock(&self.state);
        if state.is_missing {
            return Err(self.error(StorageErrorKind::NotFound, "write", ""));
        }
        if state.read_only {
            return Err(self.error(StorageErrorKind::ReadOnly, "write", name.as_str()));
        }
        if state.objects.contains_key(name) {
            return Err(self.error(StorageErrorKind::AlreadyExists, "write", name.as_str()));
        }
        if let Some(capacity) = state.capacity {
            let held: u64 = state.objects.values().map(|o| o.bytes.len() as u64).sum();
            if held + bytes.len() as u64 > capacity {
                return Err(self.error(StorageErrorKind::NoSpace, "write", name.as_str()));
            }
        }
        let object = StoredObject { bytes: Arc::new(bytes), modified: self.clock.now().seconds };
        state.objects.insert(name.clone(), object);
        Ok(())
    }

    fn find(&self, what: &'static str, name: &ObjectName) -> StorageResult<StoredObject> {
        let found = lock(&self.state).objects.get(name).cloned();
        found.ok_or_else(|| self.error(StorageErrorKind::NotFound, what, name.as_str()))
    }
}

/// Whether `name` is an object of `folder`, at the depth where the folder keeps its objects.
fn is_in(name: &ObjectName, folder: Folder) -> bool {
    let mut parts = name.as_str().split('/');
    parts.next() == Some(folder.name()) && parts.count() == 1 + usize::from(folder.is_nested())
}

/// FNV-1a, to list in an order that looks arbitrary and is the same in every run.
fn scramble(name: &ObjectName) -> u64 {
    name.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn prepare(&self) -> StorageResult<()> {
        let mut state = lock(&self.state);
        if state.read_only {
            return Err(self.error(StorageErrorKind::ReadOnly, "write", ""));
        }
        state.is_missing = false;
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        self.store(name, bytes.to_vec())
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        if lock(&self.state).read_only {
            return Err(self.error(StorageErrorKind::ReadOnly, "write", "(upload)"));
        }
        Ok(Box::new(MemoryUpload { storage: self, bytes: Vec::new() }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        Ok(self.find("read", name)?.bytes.to_vec())
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        into.clear();
        let object = self.find("read", name)?;
        let part = usize::try_from(offset)
            .ok()
            .and_then(|start| object.bytes.get(start..start.checked_add(length)?))
            .ok_or_else(|| self.error(StorageErrorKind::Io, "read", name.as_str()))?;
        into.extend_from_slice(part);
        Ok(())
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        // Collected first: `each` may call the storage.
        let state = lock(&self.state);
        if state.is_missing {
            return Err(self.error(StorageErrorKind::NotFound, "list", folder.name()));
        }
        let mut found: Vec<_> = state
            .objects
            .iter()
            .filter(|(name, _)| is_in(name, folder))
            .map(|(name, object)| info(name, object))
            .collect();
        drop(state);
        found.sort_by_key(|info| scramble(&info.name));
        found.into_iter().for_each(each);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        Ok(info(name, &self.find("stat", name)?))
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        let mut state = lock(&self.state);
        if state.read_only {
            return Err(self.error(StorageErrorKind::ReadOnly, "delete", name.as_str()));
        }
        let gone = state.objects.remove(name).map(drop);
        gone.ok_or_else(|| self.error(StorageErrorKind::NotFound, "delete", name.as_str()))
    }
}

fn info(name: &ObjectName, object: &StoredObject) -> ObjectInfo {
    ObjectInfo { name: name.clone(), size: object.bytes.len() as u64, modified: object.modified }
}

struct MemoryUpload<'a> {
    storage: &'a MemoryStorage,
    bytes: Vec<u8>,
}

impl Upload for MemoryUpload<'_> {
    fn write(&mut self, bytes: &[u8]) -> StorageResult<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>, name: &ObjectName) -> StorageResult<()> {
        self.storage.store(name, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::parse(text).unwrap()
    }

    #[test]
    fn objects_are_written_once() {
        let storage = MemoryStorage::new();
        storage.put(&name("keys/a"), b"one").unwrap();
        let again = storage.put(&name("keys/a"), b"two").unwrap_err();
        assert_eq!(again.kind, StorageErrorKind::AlreadyExists);
        assert_eq!(storage.clone().get(&name("keys/a")).unwrap(), b"one");

        let mut upload = storage.upload().unwrap();
        upload.write(b"12").unwrap();
        upload.write(b"34").unwrap();
        assert_eq!(storage.names().len(), 1, "nothing shows before finish");
        upload.finish(&name("packs/ab/abcd")).unwrap();
        let mut part = vec![9];
        storage.get_range(&name("packs/ab/abcd"), 1, 2, &mut part).unwrap();
        assert_eq!(part, b"23");
        assert!(storage.get_range(&name("packs/ab/abcd"), 3, 2, &mut part).is_err());

        storage.delete(&name("keys/a")).unwrap();
        assert!(storage.delete(&name("keys/a")).unwrap_err().is_not_found());
    }

    #[test]
    fn listings_know_the_depth_of_their_folder() {
        let storage = MemoryStorage::new();
        for text in ["config", "packs/ab/abcd", "packs/odd", "keys/a", "notes/a/b"] {
            storage.put(&name(text), b"x").unwrap();
        }
        let listed = |folder| {
            let mut names = Vec::new();
            storage.list(folder, &mut |info| names.push(info.name.to_string())).unwrap();
            names
        };
        assert_eq!(listed(Folder::Packs), ["packs/ab/abcd"]);
        assert_eq!(listed(Folder::Keys), ["keys/a"]);
        assert_eq!(listed(Folder::Notes), ["notes/a/b"]);
    }

    #[test]
    fn tests_reach_around_the_contract() {
        let storage = MemoryStorage::new();
        storage.put(&name("keys/a"), b"one").unwrap();
        let before = storage.dump();
        storage.corrupt(&name("keys/a"), |bytes| bytes[0] ^= 1);
        assert_eq!(storage.get(&name("keys/a")).unwrap(), b"nne");
        storage.load(before.clone());
        assert_eq!(storage.dump(), before);
        storage.set_capacity(Some(4));
        let full = storage.put(&name("keys/b"), b"two").unwrap_err();
        assert_eq!(full.kind, StorageErrorKind::NoSpace);
        storage.set_read_only(true);
        assert_eq!(storage.delete(&name("keys/a")).unwrap_err().kind, StorageErrorKind::ReadOnly);
        assert!(storage.remove(&name("keys/a")));
    }
}
