//! Several writers, gcs and a forgetter on one storage, in an order that a seed decides call by
//! call, with processes that die, are suspended, lose replies, and clocks that jump. After some
//! steps and at the end: what was committed and not forgotten is whole, and was not shut out.
//!
//! Each actor runs the real operations in threads of its own; they block at every call until the
//! schedule lets that actor go on. Ids are random, so that a seed gives the same order of actors
//! and faults, but not the same names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{assert_holds, options, read_back, repository, try_repository};
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, NoMonitor};
use holdfast_engine::ops::backup::{BackupOptions, backup};
use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::notes::Notes;
use holdfast_engine::storage::{Folder, ObjectName};
use holdfast_testkit::clock::{random_bytes, rng, sub_seed};
use holdfast_testkit::{MemoryStorage, MemoryTree};
use rand::Rng;
use rand::rngs::StdRng;

use schedule::{Handle, Schedule};

mod schedule;

/// What the world should hold.
#[derive(Debug, Default)]
struct Model {
    /// Snapshots whose writers were told that they are committed.
    committed: BTreeMap<SnapshotId, MemoryTree>,
    gcs_done: u64,
    fenced: u64,
    forgotten: u64,
}

type Shared = Arc<std::sync::Mutex<Model>>;

fn lock(model: &Shared) -> std::sync::MutexGuard<'_, Model> {
    model.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Small files that share bundles, and now and then one of chunks. Few contents, so that writers
/// find each other's, and what was forgotten comes back.
fn change(tree: &mut MemoryTree, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        let path = format!("{}/{}", rng.random_range(0..2), rng.random_range(0..5));
        let content = match rng.random_ratio(1, 6) {
            true => random_bytes(rng.random_range(0..3), 140_000),
            false => random_bytes(rng.random_range(10..16), 1_500),
        };
        match tree.node(&path) {
            Some(_) => tree.set_content(&path, content),
            None => tree.file(&path, content),
        };
    }
}

fn write(handle: &Handle, model: &Shared, seed: u64, host: &str, runs: usize) {
    let mut rng = rng(seed);
    let mut tree = MemoryTree::new();
    for run in 0..runs {
        change(&mut tree, &mut rng);
        // A process that died is started again, and so is one that was shut out.
        for _attempt in 0..3 {
            let often = rng.random_ratio(1, 2).then_some(Duration::ZERO);
            let plain = options(tree.source(), run as i64 + 1);
            let options = BackupOptions {
                host: host.into(),
                partial_every: often.filter(|_| rng.random_ratio(1, 2)),
                renew_every: often,
                ..plain
            };
            let done = try_repository(handle.process())
                .and_then(|r| backup(&r, &options, &NoMonitor, &Interrupt::new()));
            match done {
                Ok(report) => {
                    let id = report.snapshot.expect("a snapshot");
                    lock(model).committed.insert(id, tree.clone());
                    break;
                }
                Err(holdfast_engine::Error::Fenced) => lock(model).fenced += 1,
                Err(_) => {}
            }
        }
    }
}

fn collect(handle: &Handle, model: &Shared, seed: u64, runs: usize) {
    let mut rng = rng(seed);
    for _ in 0..runs {
        let options = GcOptions {
            max_unused: if rng.random() { 0.0 } else { 0.1 },
            threads: 1,
            ..GcOptions::default()
        };
        let done = try_repository(handle.process())
            .and_then(|r| gc(&r, &options, &NoMonitor, &Interrupt::new(), &mut |_| {}));
        lock(model).gcs_done += u64::from(done.is_ok_and(|report| report.deleted.count > 0));
    }
}

fn forget(handle: &Handle, model: &Shared, seed: u64, runs: usize) {
    let mut rng = rng(seed);
    for _ in 0..runs {
        let Ok(repository) = try_repository(handle.process()) else { continue };
        let mut held = lock(model);
        let ids: Vec<SnapshotId> = held.committed.keys().copied().collect();
        if ids.len() < 2 {
            continue;
        }
        let id = ids[rng.random_range(0..ids.len())];
        // From now on it may be gone, whatever the answer.
        held.committed.remove(&id);
        held.forgotten += 1;
        drop(held);
        let _ = repository.forget(id, &Notes::default());
    }
}

/// Panics unless all that must be there is.
fn check(storage: &MemoryStorage, model: &Shared, whole: bool) {
    let repository = repository(storage.clone());
    let committed = lock(model).committed.clone();
    let visible: Vec<_> = repository.snapshots().expect("snapshots");
    for (id, tree) in &committed {
        let names = storage.names_in(Folder::Fences);
        assert!(
            !names.contains(&ObjectName::fence_confirmed(*id)),
            "{id} was committed and shut out"
        );
        assert!(visible.iter().any(|s| s.id == *id), "{id} is not seen");
        if whole {
            assert_holds(&repository, *id, tree);
        }
    }
    for snapshot in visible {
        if let Err(error) = read_back(&repository, snapshot.id) {
            panic!("snapshot {} is broken: {error}", snapshot.id);
        }
    }
}

fn simulate(seed: u64) -> Model {
    let storage = MemoryStorage::new();
    repository(storage.clone());
    let model = Shared::default();
    let mut setup = rng(sub_seed(seed, 0));
    let schedule = Schedule::new(storage.clone(), sub_seed(seed, 1));
    let (writers, gcs) = (setup.random_range(1..=3), setup.random_range(1..=2));
    std::thread::scope(|scope| {
        for number in 0..writers {
            let (handle, model) = (schedule.actor(), model.clone());
            let runs = setup.random_range(1..=3);
            let seed = sub_seed(seed, 10 + number);
            // Trees of one host would look alike: their clocks and inodes are the same.
            let host = format!("host{number}");
            scope.spawn(move || write(&handle, &model, seed, &host, runs));
        }
        for number in 0..gcs {
            let (handle, model) = (schedule.actor(), model.clone());
            let runs = setup.random_range(1..=4);
            let seed = sub_seed(seed, 20 + number);
            scope.spawn(move || collect(&handle, &model, seed, runs));
        }
        let (handle, shared) = (schedule.actor(), model.clone());
        let runs = setup.random_range(1..=5);
        scope.spawn(move || forget(&handle, &shared, sub_seed(seed, 30), runs));
        let mut steps = 0_u64;
        schedule.run(|| {
            steps += 1;
            if steps.is_multiple_of(20) {
                check(&storage, &model, false);
            }
        });
    });
    check(&storage, &model, true);
    // In peace, two gcs leave nothing that is of no use.
    storage.clock().advance(48 * 3600);
    let repository = repository(storage.clone());
    let options = GcOptions { threads: 1, ..GcOptions::default() };
    let collect = |options: &GcOptions| {
        gc(&repository, options, &NoMonitor, &Interrupt::new(), &mut |_| {}).expect("gc in peace")
    };
    assert!(collect(&options).waiting.is_empty());
    collect(&options);
    let plan = collect(&GcOptions { dry_run: true, ..options }).plan;
    assert!(plan.unneeded * 10 <= plan.needed + plan.unneeded, "{plan:?}");
    assert_eq!((plan.dead.count, plan.orphans.count, plan.condemned.count), (0, 0, 0), "{plan:?}");
    check(&storage, &model, true);
    drop(repository);
    Arc::try_unwrap(model).expect("all are done").into_inner().expect("no panic")
}

fn simulate_all(seeds: std::ops::Range<u64>) {
    let mut all = Model::default();
    for seed in seeds {
        let done = std::panic::catch_unwind(|| simulate(seed));
        let Ok(done) = done else { panic!("seed {seed}") };
        all.gcs_done += done.gcs_done;
        all.fenced += done.fenced;
        all.forgotten += done.forgotten;
    }
    // Else it would prove nothing.
    assert!(all.gcs_done > 0 && all.fenced > 0 && all.forgotten > 0, "{all:?}");
}

#[test]
fn writers_gcs_and_a_forgetter_in_any_order() {
    simulate_all(0..40);
}

/// `HOLDFAST_SCHEDULES=100000 cargo test -p holdfast-engine --test engine simulation -- --ignored`
#[test]
#[ignore = "as many schedules as HOLDFAST_SCHEDULES says, from HOLDFAST_SEED on"]
fn many_schedules() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first: u64 = number("HOLDFAST_SEED").unwrap_or(1000);
    simulate_all(first..first + number("HOLDFAST_SCHEDULES").unwrap_or(1000));
}
