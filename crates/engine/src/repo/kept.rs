//! Small objects that are read by every command (snapshots, what is said of them, settings), as this
//! machine keeps them: those of a folder in one file of the cache, so that ten thousand snapshots are
//! one file to read. They are kept as they are stored, sealed: one that is damaged here says so, and
//! is read from the storage. The file is disposable.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use prost::Message;

use crate::crypto::ObjectKind;
use crate::format::envelope;
use crate::storage::{Folder, ObjectName};
use crate::{Error, Result};

use super::Repository;
use super::memory::store_in_cache;

/// A row's length in the file: name and object follow their lengths, little-endian.
const LENGTHS: usize = 2 + 4;

/// The objects of a folder that are kept.
#[derive(Debug, Default)]
struct Kept {
    path: Option<PathBuf>,
    bytes: Vec<u8>,
    /// Where in `bytes` each row is, and in it the object.
    rows: HashMap<ObjectName, (Range<usize>, usize)>,
    /// Whether there is more in the file than rows: a writer was interrupted.
    is_torn: bool,
    /// Rows of what was read from the storage since.
    fresh: Mutex<Vec<u8>>,
}

impl Kept {
    fn load(repository: &Repository, folder: Folder) -> Self {
        let Some(cache) = repository.cache() else { return Self::default() };
        let path = cache.join(format!("{}.kept", folder.name()));
        let bytes = std::fs::read(&path).unwrap_or_default();
        let (mut rows, mut at) = (HashMap::new(), 0);
        while let Some((name, length, object)) = bytes.get(at..).and_then(row) {
            rows.insert(name, (at..at + length, at + object));
            at += length;
        }
        Self { path: Some(path), is_torn: at < bytes.len(), bytes, rows, fresh: Mutex::default() }
    }

    fn object(&self, name: &ObjectName) -> Option<&[u8]> {
        let (row, object) = self.rows.get(name)?;
        self.bytes.get(*object..row.end)
    }

    /// Reads an object, from the storage only if it has to be.
    fn read<M: Message + Default>(
        &self,
        repository: &Repository,
        kind: ObjectKind,
        name: &ObjectName,
    ) -> Result<M> {
        let open = |bytes| -> Result<M> {
            let opened =
                envelope::open(&repository.keys, &repository.id, kind, name.as_str(), bytes);
            M::decode(&opened?[..]).map_err(|e| Error::damaged(name, e))
        };
        if let Some(kept) = self.object(name)
            && let Ok(message) = open(kept.to_vec())
        {
            return Ok(message);
        }
        let bytes = repository.storage.get(name)?;
        let message = match open(bytes.clone()) {
            Err(Error::Damaged { .. }) => return open(repository.storage.get(name)?),
            other => other?,
        };
        let text = name.as_str().as_bytes();
        if let (Ok(short), Ok(long)) = (u16::try_from(text.len()), u32::try_from(bytes.len())) {
            let row = [&short.to_le_bytes()[..], &long.to_le_bytes(), text, &bytes].concat();
            self.fresh.lock().unwrap_or_else(PoisonError::into_inner).extend(row);
        }
        Ok(message)
    }

    /// Adds what is new to the file; writes it anew where most of it is not `listed` any more.
    fn save(self, listed: impl Iterator<Item = ObjectName>) {
        let Some(path) = &self.path else { return };
        let fresh = self.fresh.into_inner().unwrap_or_else(PoisonError::into_inner);
        let rows = listed.filter_map(|name| self.bytes.get(self.rows.get(&name)?.0.clone()));
        let used = rows.collect::<Vec<_>>().concat();
        if self.is_torn || used.len() <= self.bytes.len() / 2 {
            store_in_cache(path, &[used, fresh].concat());
        } else if !fresh.is_empty() {
            let file = OpenOptions::new().append(true).open(path);
            // Failing to is no problem, and what it leaves is found next time.
            let _ = file.and_then(|mut file| file.write_all(&fresh));
        }
    }
}

/// The first row of `bytes`: its name, its length, and where the object is in it.
fn row(bytes: &[u8]) -> Option<(ObjectName, usize, usize)> {
    let (short, rest) = bytes.split_first_chunk::<2>()?;
    let long = rest.first_chunk::<4>()?;
    let object = LENGTHS + usize::from(u16::from_le_bytes(*short));
    let length = object.checked_add(usize::try_from(u32::from_le_bytes(*long)).ok()?)?;
    let name = std::str::from_utf8(bytes.get(LENGTHS..object)?).ok()?;
    (length <= bytes.len()).then_some((ObjectName::parse(name)?, length, object))
}

impl Repository {
    /// The small objects of a folder, all that were `listed`, several at once: what is in each, or
    /// what is wrong with it alone. One that is gone since is left out. What is in the cache is not
    /// asked of the storage: these objects are written once.
    pub(super) fn each_small<T: Copy + Send + Sync, M: Message + Default>(
        &self,
        folder: Folder,
        kind: ObjectKind,
        listed: &[T],
        name: impl Fn(T) -> ObjectName + Sync,
    ) -> Result<Vec<(T, Result<M>)>> {
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let kept = Kept::load(self, folder);
        let read = self.each_listed(listed, |of| kept.read(self, kind, &name(of)))?;
        kept.save(listed.iter().map(|of| name(*of)));
        Ok(read)
    }
}
