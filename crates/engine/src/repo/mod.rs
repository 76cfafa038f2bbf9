//! An open repository: its storage, parameters and keys, and what is common to all operations.
//!
//! `create` and `open` are in [`open`], key slots in [`keyslots`], the index in [`index`],
//! reading blobs in [`reader`], writing them in [`writer`], the commit protocol in [`session`],
//! who is at work in [`sessions`], what is condemned in [`condemned`], snapshots in [`snapshots`], what is said of them later in
//! [`notes`], what is said of the repository in [`settings`], and damaged packs in [`heal`].

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chunker::{Chunker, Params, ParamsError};
use crate::crypto::{self, Keys, ObjectKind, RootKey};
use crate::format::config::Config;
use crate::format::envelope;
use crate::hash::{RepositoryId, SnapshotId};
use crate::storage::{ObjectName, Storage};
use crate::{Error, Result};

pub(crate) mod condemned;
mod directories;
mod discard;
mod heal;
pub mod index;
mod kept;
pub mod keyslots;
pub mod many;
pub(crate) mod memory;
pub mod notes;
pub mod open;
pub mod reader;
pub mod session;
pub mod sessions;
pub mod settings;
mod several;
pub mod snapshots;
pub mod writer;

pub use index::Index;
pub use memory::VANISHED;
pub use open::{CreateOptions, OpenOptions};
pub use reader::BlobReader;

/// An open repository.
#[derive(Debug)]
pub struct Repository {
    storage: Arc<dyn Storage>,
    config: Config,
    id: RepositoryId,
    root: RootKey,
    keys: Arc<Keys>,
    cache: Option<PathBuf>,
    salts: Salts,
}

/// Makes salts that are never used twice, even by a machine cloned while it runs.
#[derive(Debug)]
struct Salts {
    session: [u8; 16],
    counter: AtomicU64,
}

impl Repository {
    fn new(
        storage: Arc<dyn Storage>,
        config: Config,
        root: RootKey,
        keys: Keys,
        cache: Option<PathBuf>,
    ) -> Result<Self> {
        let id = RepositoryId::from_slice(&config.repository).unwrap_or_default();
        let cache = cache.map(|dir| dir.join(id.to_string()));
        let salts = Salts { session: random()?, counter: AtomicU64::new(0) };
        Ok(Self { storage, config, id, root, keys: Arc::new(keys), cache, salts })
    }

    /// The same repository, with every write going nowhere: for dry runs.
    pub fn without_writing(&self) -> Self {
        Self {
            storage: Arc::new(discard::DiscardStorage::new(self.storage.clone())),
            config: self.config.clone(),
            id: self.id,
            root: self.root.clone(),
            keys: self.keys.clone(),
            cache: self.cache.clone(),
            salts: Salts { session: self.salts.session, counter: AtomicU64::new(1 << 32) },
        }
    }

    /// Where its objects are.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Its location, for messages.
    pub fn location(&self) -> String {
        self.storage.location()
    }

    /// Its parameters.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its id.
    pub fn id(&self) -> &RepositoryId {
        &self.id
    }

    /// Its keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What cuts files into chunks here.
    pub fn chunker(&self) -> Result<Chunker> {
        let bad = |e: ParamsError| Error::damaged("config", e);
        let Config { chunk_min, chunk_avg, chunk_max, chunk_fixed, .. } = self.config;
        if chunk_fixed > 0 {
            return Chunker::fixed(chunk_fixed).map_err(bad);
        }
        let params = Params::new(chunk_min, chunk_avg, chunk_max).map_err(bad)?;
        Ok(Chunker::new(self.keys.chunker(), params))
    }

    /// Its directory for disposable things, if caching is on.
    pub fn cache(&self) -> Option<&std::path::Path> {
        self.cache.as_deref()
    }

    /// A fresh salt: hash of random bytes, this process's session, a counter and `first`.
    pub(crate) fn salt(&self, first: &[u8]) -> Result<[u8; 32]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&random::<32>()?);
        hasher.update(&self.salts.session);
        hasher.update(&self.salts.counter.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        hasher.update(first);
        Ok(*hasher.finalize().as_bytes())
    }

    /// Seals a small object under `name`.
    pub(crate) fn seal(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
        message: &[u8],
    ) -> Result<Vec<u8>> {
        let salt = self.salt(name.as_str().as_bytes())?;
        envelope::seal(&self.keys, &self.id, kind, &salt, name.as_str(), message)
    }

    /// Reads and opens a small object. Bytes that do not open are read once more before they are
    /// called damaged.
    pub(crate) fn get_sealed(&self, kind: ObjectKind, name: &ObjectName) -> Result<Vec<u8>> {
        let open = |bytes| envelope::open(&self.keys, &self.id, kind, name.as_str(), bytes);
        match open(self.storage.get(name)?) {
            Err(Error::Damaged { .. }) => open(self.storage.get(name)?),
            other => other,
        }
    }

    /// Seals and stores a small object.
    pub(crate) fn put_sealed(
        &self,
        kind: ObjectKind,
        name: &ObjectName,
        message: &[u8],
    ) -> Result<()> {
        Ok(self.storage.put(name, &self.seal(kind, name, message)?)?)
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    crypto::random().map_err(|e| Error::Worker(e.to_string()))
}

/// A fresh id for a session and its snapshot.
pub fn new_session_id() -> Result<SnapshotId> {
    Ok(SnapshotId::new(random()?))
}
