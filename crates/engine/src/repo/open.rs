//! Creating and opening repositories.

use std::path::PathBuf;
use std::sync::Arc;

use crate::crypto::{Keys, RootKey};
use crate::format::config::{Config, ConfigError};
use crate::format::keyslot::{Cost, KeySlot, Secret};
use crate::hash::{RecordId, RepositoryId};
use crate::storage::{Folder, ObjectName, Storage, StorageErrorKind};
use crate::{Error, Result};

use super::{Repository, random, several};

/// How to create a repository.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// Secrets that will open it; none means it is not encrypted.
    pub secrets: Vec<(Secret, String)>,
    /// Cost of passphrase slots.
    pub cost: Cost,
    /// Host that creates it.
    pub host: String,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// Chunks all of this size instead of content-defined ones.
    pub chunk_fixed: Option<u32>,
    /// Whether packs get parity.
    pub parity: bool,
    /// Directory for disposable caches.
    pub cache: Option<PathBuf>,
}

/// How to open a repository.
#[derive(Debug, Default)]
pub struct OpenOptions {
    /// What opens it. `None` opens only a repository that is not encrypted.
    pub secret: Option<Secret>,
    /// Directory for disposable caches.
    pub cache: Option<PathBuf>,
}

/// What can be known of a location before a secret is at hand.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Whether a secret is needed.
    pub encrypted: bool,
    bytes: Vec<u8>,
    config: Config,
    /// Its key slots, where they were listed already.
    slots: Option<Vec<ObjectName>>,
}

impl Probe {
    /// Which repository it says it is, unproved until it is opened.
    pub fn id(&self) -> Option<RepositoryId> {
        RepositoryId::from_slice(&self.config.repository)
    }
}

/// Looks whether there is a repository, and whether it is encrypted. Where answers take long, its
/// key slots are listed meanwhile.
pub fn probe(storage: &dyn Storage) -> Result<Probe> {
    let location = storage.location();
    let get = || storage.get(&ObjectName::config());
    let (got, slots) = match several::is_near(storage) {
        true => (get(), None),
        false => std::thread::scope(|scope| {
            // Whether there is a repository, and what is wrong with it, the config says.
            let listing = scope.spawn(|| slots(storage).ok());
            (get(), listing.join().ok().flatten())
        }),
    };
    let bytes = match got {
        Ok(bytes) => bytes,
        Err(e) if e.is_not_found() => {
            return Err(match is_left(storage) {
                true => Error::ConfigLost { location },
                false => Error::NoRepository { location, answer: Some(Box::new(e)) },
            });
        }
        Err(e) => return Err(e.into()),
    };
    let config = Config::parse(&bytes).map_err(|e| match e {
        ConfigError::NotAConfig => Error::NoRepository { location: location.clone(), answer: None },
        ConfigError::Newer(what) => Error::NewerFormat { location: location.clone(), what },
        ConfigError::Damaged(what) => Error::damaged("config", what),
    })?;
    if let Some(feature) = Config::unknown_feature(&config.features_read) {
        return Err(Error::NewerFormat { location, what: format!("feature {feature}") });
    }
    Ok(Probe { encrypted: config.is_encrypted(), bytes, config, slots })
}

/// Whether there is something of a repository without its config.
fn is_left(storage: &dyn Storage) -> bool {
    [Folder::Snapshots, Folder::Keys].into_iter().any(|folder| {
        let mut count = 0;
        storage.list(folder, &mut |_| count += 1).is_ok() && count > 0
    })
}

fn slots(storage: &dyn Storage) -> Result<Vec<ObjectName>> {
    let mut names = Vec::new();
    storage.list(Folder::Keys, &mut |info| names.push(info.name))?;
    names.sort();
    Ok(names)
}

/// Creates a repository.
pub fn create(storage: Arc<dyn Storage>, options: CreateOptions) -> Result<Repository> {
    check_vacant(&*storage)?;
    storage.prepare()?;
    let mut config = Config::with_defaults(random()?, options.time);
    config.chunk_fixed = options.chunk_fixed.unwrap_or(0);
    let root = RootKey::generate().map_err(|e| Error::Worker(e.to_string()))?;
    if options.secrets.is_empty() {
        config.root_key = root.as_bytes().to_vec();
        config.data_pack_min = 0;
    }
    let keys = Keys::derive(&root);
    let sealed = config.seal(&keys);
    let repository = Repository::new(storage.clone(), config, root, keys, options.cache)?;
    for (secret, label) in &options.secrets {
        repository.add_slot(secret, options.cost, label, &options.host, options.time)?;
    }
    // The config comes last: until it stands there is no repository.
    match storage.put(&ObjectName::config(), &sealed) {
        Err(e) if e.kind == StorageErrorKind::AlreadyExists => {
            // It is this one if the answer to a first try was lost.
            if storage.get(&ObjectName::config())? != sealed {
                return Err(Error::RepositoryExists { location: storage.location() });
            }
        }
        other => other?,
    }
    // Settings belong to a repository that is there.
    if options.parity {
        repository.set_parity(true, options.time)?;
    }
    Ok(repository)
}

/// An error unless nothing of a repository is there yet.
pub fn check_vacant(storage: &dyn Storage) -> Result<()> {
    let location = storage.location();
    match storage.stat(&ObjectName::config()) {
        Ok(_) => return Err(Error::RepositoryExists { location }),
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    for folder in [Folder::Snapshots, Folder::Packs] {
        let mut count = 0;
        match storage.list(folder, &mut |_| count += 1) {
            Ok(()) if count > 0 => return Err(Error::NotEmpty { location }),
            Ok(()) => {}
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Opens a repository.
pub fn open(storage: Arc<dyn Storage>, options: OpenOptions) -> Result<Repository> {
    let probe = probe(&*storage)?;
    open_probed(storage, probe, options)
}

/// Opens a repository that was looked at before, without reading its config again.
pub fn open_probed(
    storage: Arc<dyn Storage>,
    probe: Probe,
    options: OpenOptions,
) -> Result<Repository> {
    let Probe { bytes, config, slots, .. } = probe;
    let location = storage.location();
    let root = match (&options.secret, config.is_encrypted()) {
        (None, true) => return Err(Error::KeyNeeded { location }),
        // Somebody may have put an unencrypted config in the place of an encrypted one, to have
        // the next backup sent to him in the clear.
        (Some(_), false) => return Err(Error::UnexpectedlyUnencrypted { location }),
        (None, false) => {
            let root = <[u8; 32]>::try_from(&config.root_key[..]).unwrap_or_default();
            RootKey::new(root)
        }
        (Some(secret), true) => unwrap_root(&*storage, &config, secret, slots)?,
    };
    let keys = Keys::derive(&root);
    if !Config::verify(&keys, &bytes) {
        return Err(Error::damaged("config", "its MAC is wrong"));
    }
    Repository::new(storage, config, root, keys, options.cache)
}

/// Puts back the config of a repository that has lost it, from a copy of its bytes; its id. The
/// secret shows that the copy belongs to what is there. A config that is there is never replaced.
pub fn restore_config(
    storage: &dyn Storage,
    bytes: &[u8],
    secret: &Secret,
) -> Result<RepositoryId> {
    let location = storage.location();
    match storage.stat(&ObjectName::config()) {
        Ok(_) => return Err(Error::RepositoryExists { location }),
        Err(e) if e.is_not_found() => {}
        Err(e) => return Err(e.into()),
    }
    let config = Config::parse(bytes).map_err(|e| Error::damaged("the copy of config", e))?;
    let root = unwrap_root(storage, &config, secret, None)?;
    if !Config::verify(&Keys::derive(&root), bytes) {
        return Err(Error::damaged("the copy of config", "its MAC is wrong"));
    }
    match storage.put(&ObjectName::config(), bytes) {
        Err(e) if e.kind == StorageErrorKind::AlreadyExists => {
            Err(Error::RepositoryExists { location })
        }
        Err(e) => Err(e.into()),
        Ok(()) => Ok(RepositoryId::from_slice(&config.repository).unwrap_or_default()),
    }
}

/// Tries all key slots; `listed` are those, if they were listed before.
fn unwrap_root(
    storage: &dyn Storage,
    config: &Config,
    secret: &Secret,
    listed: Option<Vec<ObjectName>>,
) -> Result<RootKey> {
    let repository = RepositoryId::from_slice(&config.repository).unwrap_or_default();
    let names = listed.map_or_else(|| slots(storage), Ok)?;
    let mut tried = 0;
    let mut broken = None;
    for name in names {
        let Ok(id) = RecordId::from_hex(name.base()) else { continue };
        let bytes = match storage.get(&name) {
            Ok(bytes) => bytes,
            // Removed since the listing.
            Err(e) if e.is_not_found() => continue,
            // One bad sector must not lock out whoever has another key.
            Err(e)
                if matches!(e.kind, StorageErrorKind::Io | StorageErrorKind::PermissionDenied) =>
            {
                broken = Some(e.into());
                continue;
            }
            Err(e) => return Err(e.into()),
        };
        let slot = match KeySlot::parse(&bytes) {
            Ok(slot) => slot,
            Err(what) => {
                broken = Some(Error::damaged(&name, what));
                continue;
            }
        };
        if slot.kind != secret.kind() {
            continue;
        }
        match slot.unwrap(secret, &repository, id) {
            Ok(Some(root)) => return Ok(root),
            Ok(None) => tried += 1,
            Err(what) => broken = Some(Error::damaged(&name, what)),
        }
    }
    let wrong = Error::WrongKey { location: storage.location(), slots: tried, what: secret.name() };
    // A damaged slot beside whole ones that do not open says little about the secret.
    Err(broken.filter(|_| tried == 0).unwrap_or(wrong))
}
