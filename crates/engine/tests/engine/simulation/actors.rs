//! Who is at work: writers, gcs, someone who forgets, someone who reads. Each does the real thing
//! several times, every time in a process of its own.

use std::sync::OnceLock;
use std::time::Duration;

use holdfast_engine::Error;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, backup};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::storage::Folder;
use holdfast_testkit::clock::{random_bytes, rng};
use holdfast_testkit::{MemoryStorage, MemoryTree};
use rand::Rng;
use rand::rngs::StdRng;

use super::schedule::Handle;
use super::{Shared, lock};
use crate::common::{options, read_back, try_repository};

/// A few of few contents, each always in the same place: writers find each other's, and what was
/// forgotten comes back. Half are chunks; the others share bundles.
pub(super) fn tree(rng: &mut StdRng) -> MemoryTree {
    static CONTENTS: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();
    let contents = CONTENTS.get_or_init(|| {
        let sizes = [("chunk", 132_000), ("small", 1_500)];
        let several = |(name, size)| {
            (0..5).map(move |n| (format!("{}/{name}{n}", n % 2), random_bytes(n, size)))
        };
        sizes.into_iter().flat_map(several).collect()
    });
    let mut tree = MemoryTree::new();
    for (path, content) in contents {
        if rng.random_ratio(2, 5) {
            tree.file(path, content.clone());
        }
    }
    tree
}

pub(super) fn write(handle: &Handle, model: &Shared, seed: u64, host: &str, runs: usize) {
    let mut rng = rng(seed);
    for run in 0..runs {
        let tree = tree(&mut rng);
        // A process that died is started again, and so is one that was shut out.
        for _attempt in 0..3 {
            let often = rng.random_ratio(1, 2).then_some(Duration::ZERO);
            let mut options = BackupOptions {
                host: host.into(),
                partial_every: often.filter(|_| rng.random_ratio(1, 2)),
                renew_every: often,
                ..options(tree.source(), run as i64 + 1)
            };
            options.writer.threads = 1;
            let done = try_repository(handle.process())
                .and_then(|r| backup(&r, &options, &NoMonitor, &Interrupt::new()));
            match done {
                Ok(report) => {
                    let id = report.snapshot.expect("a snapshot");
                    handle.say(format!("committed {id}"));
                    lock(model).committed.insert(id, tree.clone());
                    break;
                }
                Err(error) => {
                    handle.say(&error);
                    lock(model).fenced += u64::from(matches!(error, Error::Fenced));
                }
            }
        }
    }
}

pub(super) fn collect(
    handle: &Handle,
    model: &Shared,
    seed: u64,
    silent_after: Duration,
    runs: usize,
) {
    let mut rng = rng(seed);
    for _ in 0..runs {
        let options = GcOptions {
            max_unused: if rng.random_ratio(3, 4) { 0.0 } else { 0.1 },
            threads: 1,
            silent_after,
            packs_per_record: rng.random_range(1..4),
            ..GcOptions::default()
        };
        let interrupt = Interrupt::new();
        // One that is stopped at once shuts out who is silent, gcs too, and does no more.
        if rng.random_ratio(1, 4) {
            interrupt.raise();
        }
        let done = try_repository(handle.process())
            .and_then(|r| gc(&r, &options, &NoMonitor, &interrupt, &mut |_| {}));
        handle.say(format!("{done:?}"));
        lock(model).gcs_done += u64::from(done.is_ok_and(|report| report.deleted.count > 0));
    }
}

/// A snapshot that is there, committed or not.
fn any_snapshot(storage: &MemoryStorage, rng: &mut StdRng) -> Option<SnapshotId> {
    let names = storage.names_in(Folder::Snapshots);
    let name = names.get(rng.random_range(0..names.len().max(1)))?;
    SnapshotId::from_hex(name.base()).ok()
}

pub(super) fn forget(
    handle: &Handle,
    storage: &MemoryStorage,
    model: &Shared,
    seed: u64,
    runs: usize,
) {
    let mut rng = rng(seed);
    for _ in 0..runs {
        let Ok(repository) = try_repository(handle.process()) else { continue };
        // Whoever forgets has listed the snapshots before.
        if repository.snapshots().is_err() {
            continue;
        }
        let Some(id) = any_snapshot(storage, &mut rng) else { continue };
        // From now on it may be gone, whatever the answer.
        lock(model).forgotten.insert(id);
        let done = repository.forget(id, &Notes::default());
        handle.say(format!("forgets {id}: {done:?}"));
    }
}

pub(super) fn read(handle: &Handle, model: &Shared, seed: u64, runs: usize) {
    let mut rng = rng(seed);
    for _ in 0..runs {
        let Ok(repository) = try_repository(handle.process()) else { continue };
        let Ok(snapshots) = repository.snapshots() else { continue };
        let ids: Vec<SnapshotId> = lock(model).expected().map(|(id, _)| *id).collect();
        let visible = |id: &&SnapshotId| snapshots.iter().any(|s| s.id == **id);
        let ids: Vec<&SnapshotId> = ids.iter().filter(visible).collect();
        if ids.is_empty() {
            continue;
        }
        let id = *ids[rng.random_range(0..ids.len())];
        let is_damage = match read_back(&repository, id) {
            Ok(_) => false,
            Err(Error::Storage(e)) => e.is_not_found(),
            Err(_) => true,
        };
        let mut held = lock(model);
        held.read += 1;
        let is_forgotten = held.forgotten.contains(&id);
        drop(held);
        assert!(is_forgotten || !is_damage, "a reader takes {id} for damaged");
    }
}
