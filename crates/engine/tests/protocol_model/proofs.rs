//! The protocol as it is: no property fails in any reachable state of these configurations, and
//! each thing that should be able to happen does happen in some run.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Instant;

use stateright::{Checker, Expectation, Model};

use super::model::{ALL_COMMIT, COPIES, DELETES, MENDED, Protocol, REFUSED_THEN_COMMITS};
use super::rules::{Config, Repairs, Scene};

const ALL: &[Scene] = &[
    Scene::Garbage,
    Scene::Live,
    Scene::Sparse,
    Scene::Twice,
    Scene::Condemned,
    Scene::CondemnedLive,
    Scene::Superseded,
];

/// Explores everything; `happens` are the `sometimes` properties that have to be met.
fn proves(name: &str, cfg: Config, happens: &[&'static str]) {
    let began = Instant::now();
    let checker = Protocol(cfg).checker().spawn_dfs().join();
    let found = checker.discoveries();
    let line = format!(
        "{name}: {} states, {} steps, depth {}, {:.1} s\n",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32()
    );
    // Straight to the stream: the figures of docs/design/protocol.md, with `--nocapture`.
    let _ = std::io::stderr().write_all(line.as_bytes());
    for property in checker.model().properties() {
        if let (Expectation::Always, Some(path)) = (&property.expectation, found.get(property.name))
        {
            panic!("{name}: {} fails after\n{:#?}", property.name, path.clone().into_actions());
        }
    }
    let met: BTreeSet<_> = found.keys().copied().collect();
    for wanted in happens {
        assert!(met.contains(wanted), "{name}: never: {wanted}");
    }
}

const FEW: &[Scene] = &[Scene::Garbage, Scene::Live];
const RECORDS: &[Scene] = &[Scene::CondemnedLive];

#[test]
fn one_writer_one_gc() {
    let mut cfg = Config::new(&[0b11], 1, ALL);
    (cfg.crashes, cfg.lost, cfg.early_fence) = (1, 1, true);
    proves("writer + gc", cfg, &[DELETES, ALL_COMMIT, REFUSED_THEN_COMMITS, COPIES]);
}

#[test]
fn two_writers_one_gc() {
    let cfg = Config::new(&[0b01, 0b01], 1, &[Scene::Garbage, Scene::CondemnedLive]);
    proves("2 writers + gc", cfg, &[DELETES, ALL_COMMIT, REFUSED_THEN_COMMITS]);
}

#[test]
fn one_writer_two_gcs() {
    let cfg = Config::new(&[0b01], 2, &[Scene::Twice]);
    proves("writer + 2 gcs", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
fn writer_gc_forget() {
    let mut cfg = Config::new(&[0b01], 1, &[Scene::Live, Scene::Sparse, Scene::CondemnedLive]);
    (cfg.crashes, cfg.lost, cfg.forgets) = (1, 1, 1);
    proves("writer + gc + forget", cfg, &[DELETES, ALL_COMMIT, REFUSED_THEN_COMMITS]);
}

#[test]
fn partial_snapshots() {
    let mut cfg = Config::new(&[0b11], 1, ALL);
    (cfg.partial, cfg.lost, cfg.forgets) = (true, 1, 1);
    proves("partial writer + gc + forget", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
fn acknowledged_records() {
    let mut cfg = Config::new(&[0b11], 1, ALL);
    (cfg.acks, cfg.crashes) = (true, 1);
    proves("acknowledging writer + gc", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
fn reader_and_two_gcs() {
    let mut cfg = Config::new(&[], 2, &[Scene::Sparse, Scene::Twice, Scene::Superseded]);
    cfg.reader = true;
    proves("reader + 2 gcs", cfg, &[DELETES]);
    let mut cfg = Config::new(&[], 1, ALL);
    (cfg.reader, cfg.forgets) = (true, 1);
    proves("reader + gc + forget", cfg, &[DELETES]);
}

#[test]
fn hostile_fence() {
    let mut cfg = Config::new(&[0b01], 1, &[Scene::Live, Scene::Sparse]);
    (cfg.hostile, cfg.forgets) = (true, 1);
    proves("hostile fence", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
fn lost_objects() {
    let mut cfg = Config::new(&[0b01], 1, &[Scene::LostPack]);
    cfg.crashes = 1;
    proves("lost pack", cfg, &[ALL_COMMIT]);
    let cfg = Config::new(&[0b10], 1, &[Scene::LostSegment]);
    proves("lost segment", cfg, &[]);
}

const HURT: &[Scene] = &[Scene::Damaged, Scene::DamagedTwice];

#[test]
fn repair_of_packs() {
    let mut cfg = Config::new(&[0b01], 1, HURT);
    cfg.repair = Some(Repairs::Packs);
    proves("writer + gc + repair packs", cfg, &[DELETES, ALL_COMMIT, COPIES, MENDED]);
    let mut cfg = Config::new(&[], 1, HURT);
    (cfg.repair, cfg.forgets) = (Some(Repairs::Packs), 1);
    proves("gc + forget + repair packs", cfg, &[DELETES, MENDED]);
}

#[test]
fn repair_of_the_index() {
    let mut cfg = Config::new(&[0b01], 1, &[Scene::Sparse, Scene::CondemnedLive]);
    cfg.repair = Some(Repairs::Index);
    proves("writer + gc + repair index", cfg, &[DELETES, ALL_COMMIT]);
    let mut cfg = Config::new(&[0b01], 1, &[Scene::LostSegment]);
    cfg.repair = Some(Repairs::Index);
    proves("lost segment + repair index", cfg, &[]);
}

#[test]
fn duplicated_put_and_tombstones() {
    let mut cfg = Config::new(&[0b01], 1, FEW);
    (cfg.duplicates, cfg.forgets, cfg.tombstones) = (1, 1, true);
    proves("duplicated PUT, tombstones", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
#[ignore = "long: every scene and fault"]
fn long_two_writers_one_gc() {
    let mut cfg = Config::new(&[0b01, 0b01], 1, &[Scene::Garbage]);
    cfg.lost = 1;
    proves("long: 2 writers + gc", cfg, &[DELETES, ALL_COMMIT, REFUSED_THEN_COMMITS]);
}

#[test]
#[ignore = "long: every scene and fault"]
fn long_one_writer_two_gcs() {
    let cfg = Config::new(&[0b01], 2, RECORDS);
    proves("long: writer + 2 gcs", cfg, &[DELETES, ALL_COMMIT, REFUSED_THEN_COMMITS]);
}

#[test]
#[ignore = "long: every scene and fault"]
fn long_repairs() {
    let mut cfg = Config::new(&[0b01], 1, HURT);
    (cfg.repair, cfg.crashes, cfg.lost) = (Some(Repairs::Packs), 1, 1);
    proves("long: writer + gc + repair packs", cfg, &[DELETES, ALL_COMMIT, MENDED]);
    let mut cfg = Config::new(&[], 2, HURT);
    cfg.repair = Some(Repairs::Packs);
    proves("long: 2 gcs + repair packs", cfg, &[DELETES, MENDED]);
    let mut cfg = Config::new(&[0b11], 1, ALL);
    cfg.repair = Some(Repairs::Index);
    proves("long: writer + gc + repair index", cfg, &[DELETES, ALL_COMMIT]);
}

#[test]
#[ignore = "long: every scene and fault"]
fn long_two_gcs_forget() {
    let mut cfg = Config::new(&[0b01], 2, &[Scene::Live]);
    cfg.forgets = 1;
    proves("long: writer + 2 gcs + forget", cfg, &[DELETES, ALL_COMMIT]);
}
