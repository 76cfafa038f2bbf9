//! A strict storage in memory: it does exactly what the contract says and nothing kinder, so that
//! what works on it works elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use holdfast_engine::storage::{
    Folder, ObjectInfo, ObjectName, Storage, StorageError, StorageErrorKind, StorageResult, Upload,
};

use crate::locked;

/// A storage in memory. Clones are the same storage.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    prepared: bool,
    objects: BTreeMap<ObjectName, Object>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Arc<[u8]>,
    modified: i64,
}

impl MemoryStorage {
    /// A storage in which nothing is there yet: until [`prepare`](Storage::prepare), everything
    /// is `NotFound`, as in a directory that does not exist.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names of all objects, sorted.
    pub fn names(&self) -> Vec<ObjectName> {
        locked(&self.state).objects.keys().cloned().collect()
    }

    /// Total size of all objects in bytes.
    pub fn size(&self) -> u64 {
        locked(&self.state).objects.values().map(|o| o.bytes.len() as u64).sum()
    }

    /// Replaces an object's bytes behind the back of whoever uses the storage, or adds one, for
    /// tests of damage.
    pub fn tamper(&self, name: &ObjectName, bytes: &[u8]) {
        let object = Object { bytes: bytes.into(), modified: now() };
        locked(&self.state).objects.insert(name.clone(), object);
    }

    fn object(&self, operation: &'static str, name: &ObjectName) -> StorageResult<Object> {
        let state = locked(&self.state);
        state.objects.get(name).cloned().ok_or_else(|| not_found(operation, name.as_str()))
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn not_found(operation: &'static str, object: &str) -> StorageError {
    StorageError::new(StorageErrorKind::NotFound, operation, format!("memory:{object}"))
}

impl Storage for MemoryStorage {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn prepare(&self) -> StorageResult<()> {
        locked(&self.state).prepared = true;
        Ok(())
    }

    fn put(&self, name: &ObjectName, bytes: &[u8]) -> StorageResult<()> {
        let mut state = locked(&self.state);
        if !state.prepared {
            return Err(not_found("write", ""));
        }
        if state.objects.contains_key(name) {
            let kind = StorageErrorKind::AlreadyExists;
            return Err(StorageError::new(kind, "write", format!("memory:{name}")));
        }
        state.objects.insert(name.clone(), Object { bytes: bytes.into(), modified: now() });
        Ok(())
    }

    fn upload(&self) -> StorageResult<Box<dyn Upload + '_>> {
        if !locked(&self.state).prepared {
            return Err(not_found("write", ""));
        }
        Ok(Box::new(MemoryUpload { storage: self, bytes: Vec::new() }))
    }

    fn get(&self, name: &ObjectName) -> StorageResult<Vec<u8>> {
        Ok(self.object("read", name)?.bytes.to_vec())
    }

    fn get_range(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        into: &mut Vec<u8>,
    ) -> StorageResult<()> {
        into.clear();
        let object = self.object("read", name)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| object.bytes.get(start..start.checked_add(length)?));
        let Some(range) = range else {
            let object = format!("memory:{name}");
            return Err(StorageError::new(StorageErrorKind::Io, "read", object));
        };
        into.extend_from_slice(range);
        Ok(())
    }

    fn list(&self, folder: Folder, each: &mut dyn FnMut(ObjectInfo)) -> StorageResult<()> {
        let found: Vec<ObjectInfo> = {
            let state = locked(&self.state);
            if !state.prepared {
                return Err(not_found("list", folder.name()));
            }
            let prefix = format!("{}/", folder.name());
            let of_folder = |name: &ObjectName| name.as_str().starts_with(&prefix);
            state
                .objects
                .iter()
                .filter(|(name, _)| of_folder(name))
                .map(|(name, object)| ObjectInfo {
                    name: name.clone(),
                    size: object.bytes.len() as u64,
                    modified: object.modified,
                })
                .collect()
        };
        // Not under the lock: `each` may use the storage.
        found.into_iter().for_each(each);
        Ok(())
    }

    fn stat(&self, name: &ObjectName) -> StorageResult<ObjectInfo> {
        let object = self.object("stat", name)?;
        Ok(ObjectInfo {
            name: name.clone(),
            size: object.bytes.len() as u64,
            modified: object.modified,
        })
    }

    fn delete(&self, name: &ObjectName) -> StorageResult<()> {
        let removed = locked(&self.state).objects.remove(name);
        removed.map(|_| ()).ok_or_else(|| not_found("delete", name.as_str()))
    }
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
        self.storage.put(name, &self.bytes)
    }
}
