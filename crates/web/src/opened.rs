//! Repositories that are open stay open, with their index and the list of their snapshots, so that
//! pages are there at once. The list is read again when it is some seconds old, the index when the
//! snapshots changed; what nobody looked at for a while is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_app::ask::Nobody;
use holdfast_app::jobs::Target;
use holdfast_app::open::open_storage;
use holdfast_app::paths::Paths;
use holdfast_app::text::shell_word;
use holdfast_app::{Class, Place, Problem, Resolved, catalogue, times};
use holdfast_engine::error::chain_text;
use holdfast_engine::format::keyslot::Secret;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::forget::freed;
use holdfast_engine::ops::gc::{GcOptions, GcPlan, gc};
use holdfast_engine::repo::notes::{Change, Notes};
use holdfast_engine::repo::open::{self, OpenOptions};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{BlobReader, Index, Repository};

/// How old a list of snapshots may be, usually.
const FRESH: Duration = Duration::from_secs(5);
/// How long a repository stays open that nobody looks at.
pub(crate) const IDLE: Duration = Duration::from_secs(15 * 60);

/// An open repository, as it was when its snapshots were listed last.
#[derive(Debug)]
pub(crate) struct Open {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// What people call it.
    pub(crate) title: String,
    /// The repository.
    pub(crate) repository: Arc<Repository>,
    index: Arc<Index>,
    /// All snapshots, oldest first, interrupted runs included.
    pub(crate) snapshots: Vec<SnapshotInfo>,
    /// What was said of them later.
    pub(crate) notes: Notes,
    /// What cannot be read of index and notes.
    pub(crate) warnings: Vec<String>,
    index_warnings: Vec<String>,
    read: Instant,
}

impl Open {
    fn read(
        name: &str,
        title: String,
        repository: Arc<Repository>,
        before: Option<&Self>,
    ) -> Result<Self, Problem> {
        let explain = |e| catalogue::explain(&e, None);
        let read = Instant::now();
        let (snapshots, notes) = repository.snapshots_with_notes().map_err(explain)?;
        let ids = |list: &[SnapshotInfo]| list.iter().map(|info| info.id).collect::<Vec<_>>();
        let same = before.filter(|before| ids(&before.snapshots) == ids(&snapshots));
        let (index, index_warnings) = match same {
            Some(before) => (before.index.clone(), before.index_warnings.clone()),
            None => {
                let (index, problems) = Index::load_readable(&repository).map_err(explain)?;
                (Arc::new(index), problems.iter().map(|e| chain_text(e)).collect())
            }
        };
        let mut warnings = index_warnings.clone();
        warnings.extend(notes.unreadable().map(|(_, e)| chain_text(e)));
        let name = name.to_owned();
        Ok(Self {
            name,
            title,
            repository,
            index,
            snapshots,
            notes,
            warnings,
            index_warnings,
            read,
        })
    }

    /// A reader of its blobs.
    pub(crate) fn reader(&self) -> BlobReader<'_> {
        BlobReader::new(&self.repository, &self.index)
    }

    /// Its index.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Its index, for another thread.
    pub(crate) fn shared_index(&self) -> Arc<Index> {
        self.index.clone()
    }

    /// The snapshot whose id begins so; "latest" is the newest complete one. Errors: there is none,
    /// or there are several, of which none is more meant than the others.
    pub(crate) fn snapshot(&self, id: &str) -> Result<&SnapshotInfo, Problem> {
        let fits = |info: &&SnapshotInfo| match id {
            "latest" => !info.record.partial,
            id => !id.is_empty() && info.id.to_string().starts_with(id),
        };
        let mut fitting = self.snapshots.iter().rev().filter(fits);
        let shown = || holdfast_app::text::printable(id.as_bytes());
        let found = fitting.next().ok_or_else(|| {
            Problem::new(Class::NoSuchSnapshot, format!("there is no snapshot {}", shown()))
                .hint("it may have been forgotten: go back to the list of snapshots")
        })?;
        if id != "latest" && fitting.next().is_some() {
            let text = format!("several snapshots begin with {}", shown());
            return Err(Problem::new(Class::NoSuchSnapshot, text).hint("send more of the id"));
        }
        Ok(found)
    }

    /// The repository for a job.
    pub(crate) fn target(&self) -> Target {
        Target { location: format!("@{}", self.name), opened: Some(self.repository.clone()) }
    }

    /// The snapshots of these ids, oldest first. Errors: one is not there.
    pub(crate) fn chosen(&self, ids: &[&str]) -> Result<Vec<&SnapshotInfo>, Problem> {
        let mut chosen = Vec::with_capacity(ids.len());
        for id in ids {
            chosen.push(self.snapshot(id)?);
        }
        chosen.sort_by_key(|info| (info.record.time, info.id));
        chosen.dedup_by_key(|info| info.id);
        Ok(chosen)
    }

    /// Changes what is said of a snapshot.
    pub(crate) fn annotate(&self, info: &SnapshotInfo, change: &Change) -> Result<(), Problem> {
        let changed = self.repository.annotate(info, &self.notes, change, times::now());
        let at = shell_word(&self.name);
        changed.map(drop).map_err(|e| catalogue::explain(&e, Some(at.as_ref())))
    }

    /// About how many bytes only these snapshots hold. Reads the structure of all of them.
    pub(crate) fn freed(&self, going: &[&SnapshotInfo]) -> Result<u64, Problem> {
        let staying = self.snapshots.iter().filter(|i| !going.iter().any(|g| g.id == i.id));
        let free = freed(
            &self.reader(),
            staying.map(|info| &info.record),
            going.iter().map(|info| &info.record),
            &NoMonitor,
            &Interrupt::new(),
        );
        free.map(|free| free.bytes).map_err(|e| catalogue::explain(&e, None))
    }

    /// What a gc would do.
    pub(crate) fn gc_plan(&self) -> Result<GcPlan, Problem> {
        let options = GcOptions { dry_run: true, ..GcOptions::default() };
        let mut plan = GcPlan::default();
        let mut keep = |found: &GcPlan| plan = found.clone();
        gc(&self.repository, &options, &NoMonitor, &Interrupt::new(), &mut keep)
            .map_err(|e| catalogue::explain(&e, None))?;
        Ok(plan)
    }

    /// The complete snapshot of the same places before this one.
    pub(crate) fn before(&self, id: SnapshotId) -> Option<&SnapshotInfo> {
        let at = self.snapshots.iter().position(|info| info.id == id)?;
        let this = self.snapshots.get(at)?;
        let origin = |info: &SnapshotInfo| {
            let paths = info.record.roots.iter().map(|root| root.path.clone());
            (info.record.host.clone(), paths.collect::<Vec<_>>())
        };
        let of = origin(this);
        let earlier = self.snapshots.get(..at).unwrap_or_default();
        earlier.iter().rev().find(|info| !info.record.partial && origin(info) == of)
    }
}

#[derive(Debug)]
struct Slot {
    place: Place,
    open: Arc<Open>,
    used: Instant,
}

type Shared = Arc<Mutex<Option<Slot>>>;

/// All open repositories of a console.
#[derive(Debug)]
pub(crate) struct Shelf {
    slots: Mutex<HashMap<String, Shared>>,
    /// How old a list of snapshots may be.
    fresh: Duration,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { slots: Mutex::default(), fresh: FRESH }
    }
}

impl Shelf {
    fn slot(&self, name: &str) -> Shared {
        lock(&self.slots).entry(name.to_owned()).or_default().clone()
    }

    /// The repository of the named location, its snapshots at most some seconds old; with `now`, as
    /// they are now. Errors: it cannot be reached, or [`Class::PassphraseNeeded`].
    pub(crate) fn open(&self, paths: &Paths, name: &str, now: bool) -> Result<Arc<Open>, Problem> {
        let (place, title) = named(paths, name)?;
        let shared = self.slot(name);
        let mut slot = lock(&shared);
        let known = slot.take().filter(|slot| slot.place == place.place);
        let open = match &known {
            Some(known) if !now && known.open.read.elapsed() < self.fresh => known.open.clone(),
            Some(Slot { open, .. }) => {
                let read = Open::read(name, title, open.repository.clone(), Some(open));
                if read.is_err() {
                    // It stays open: with a passphrase that is kept nowhere, perhaps.
                    *slot = known;
                }
                Arc::new(read?)
            }
            None => {
                let access = paths.access(Arc::new(Nobody));
                let repository = paths.open_repository(&place, &access)?;
                Arc::new(Open::read(name, title, Arc::new(repository), None)?)
            }
        };
        *slot = Some(Slot { place: place.place, open: open.clone(), used: Instant::now() });
        Ok(open)
    }

    /// Opens a repository with what somebody typed, for as long as it is looked at.
    pub(crate) fn unlock(&self, paths: &Paths, name: &str, secret: Secret) -> Result<(), Problem> {
        let (place, title) = named(paths, name)?;
        let storage = open_storage(&place, &paths.access(Arc::new(Nobody)))?;
        let options = OpenOptions { secret: Some(secret), cache: paths.cache.clone() };
        let repository = open::open(storage, options).map_err(|e| catalogue::explain(&e, None))?;
        let open = Arc::new(Open::read(name, title, Arc::new(repository), None)?);
        let slot = Slot { place: place.place, open, used: Instant::now() };
        *lock(&self.slot(name)) = Some(slot);
        Ok(())
    }

    /// Drops what nobody looked at for so long.
    pub(crate) fn sweep(&self, idle: Duration) {
        let mut slots = lock(&self.slots);
        slots.retain(|_, slot| {
            // One that somebody has, or has locked, is in use.
            Arc::strong_count(slot) > 1
                || slot.try_lock().map_or(true, |slot| {
                    slot.as_ref().is_some_and(|slot| slot.used.elapsed() < idle)
                })
        });
    }
}

fn named(paths: &Paths, name: &str) -> Result<(Resolved, String), Problem> {
    let config = paths.load_config()?;
    config.expect(name)?;
    let title = config.title_of(name).to_owned();
    Ok((paths.resolve(format!("@{name}").as_ref(), &config)?, title))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_app::{Config, adopt};

    #[test]
    fn a_repository_stays_open_until_it_is_idle_or_elsewhere()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let paths = Paths {
            config: dir.path().join("config.toml"),
            state: dir.path().join("state"),
            cache: None,
            home: None,
        };
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let set = |key: &str, value: &str| {
            Config::edit(&paths.config, None, |config| config.set("disk", key, value).map(drop))
        };
        let passphrase = || Secret::Passphrase(zeroize::Zeroizing::new(b"right one".to_vec()));
        set("location", &at("one"))?;
        adopt::create(&paths, "disk", passphrase())?;
        let shelf = Shelf { fresh: Duration::MAX, ..Shelf::default() };
        let first = shelf.open(&paths, "disk", false)?;
        assert!(Arc::ptr_eq(&first, &shelf.open(&paths, "disk", false)?), "listed again");
        let again = shelf.open(&paths, "disk", true)?;
        assert!(!Arc::ptr_eq(&first, &again), "not listed again");
        assert!(Arc::ptr_eq(&first.repository, &again.repository), "opened again");
        assert!(Arc::ptr_eq(&first.index, &again.index), "index read again");
        shelf.sweep(Duration::from_secs(60));
        assert!(Arc::ptr_eq(&again, &shelf.open(&paths, "disk", false)?), "dropped too early");
        // A slot that a thread has taken, and is about to fill, is not lost.
        let taken = shelf.slot("disk");
        shelf.sweep(Duration::ZERO);
        assert!(Arc::ptr_eq(&taken, &shelf.slot("disk")), "dropped while in use");
        drop(taken);
        shelf.sweep(Duration::ZERO);
        let anew = shelf.open(&paths, "disk", false)?;
        assert!(!Arc::ptr_eq(&first.repository, &anew.repository), "not dropped");
        // Without its key file it asks for the passphrase, and what was typed is kept by nobody.
        Config::edit(&paths.config, None, |config| {
            config.unset("disk", "repository_key_file").map(drop)
        })?;
        assert!(shelf.open(&paths, "disk", false).is_ok(), "closed without a reason");
        shelf.sweep(Duration::ZERO);
        let class = |result: Result<_, Problem>| result.err().map(|p: Problem| p.class);
        assert_eq!(
            class(shelf.open(&paths, "disk", false).map(drop)),
            Some(Class::PassphraseNeeded)
        );
        let wrong = Secret::Passphrase(zeroize::Zeroizing::new(b"wrong one".to_vec()));
        assert_eq!(class(shelf.unlock(&paths, "disk", wrong)), Some(Class::WrongPassphrase));
        shelf.unlock(&paths, "disk", passphrase())?;
        assert!(shelf.open(&paths, "disk", true).is_ok());
        assert_eq!(
            class(Shelf::default().open(&paths, "disk", false).map(drop)),
            Some(Class::PassphraseNeeded)
        );
        // Another place under the same name is another repository.
        set("location", &at("two"))?;
        assert_eq!(class(shelf.open(&paths, "disk", false).map(drop)), Some(Class::NoRepository));
        Ok(())
    }
}
