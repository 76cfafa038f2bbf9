//! The protocol with one rule disabled. `caught` asserts that the checker finds a run that
//! breaks the named property; `tolerated` asserts that in these configurations there is none,
//! which docs/design/protocol.md explains rule by rule (defence in depth, or progress only).

use std::io::Write;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::model::{
    EXCLUDE, HISTORY, NO_DANGLING, NO_FALSE_ALARM, PACKS_STAY, Protocol, RESTORES, SAVED_STAYS,
    SEEN, STORED_AGAIN,
};
use super::rules::{Config, Repairs, Rule, Scene};

fn failures(cfg: &Config) -> Vec<(&'static str, usize)> {
    let checker =
        Protocol(cfg.clone()).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found = checker.discoveries();
    let mut failed = Vec::new();
    for property in checker.model().properties() {
        if let (Expectation::Always, Some(path)) = (&property.expectation, found.get(property.name))
        {
            if std::env::var_os("HOLDFAST_MODEL_TRACE").is_some() {
                let text = format!("{}: {:#?}\n", property.name, path.clone().into_actions());
                let _ = std::io::stderr().write_all(text.as_bytes());
            }
            failed.push((property.name, path.clone().into_actions().len()));
        }
    }
    let line = format!("{:?}: {} states, {failed:?}\n", cfg.off, checker.unique_state_count());
    let _ = std::io::stderr().write_all(line.as_bytes());
    failed
}

/// The rule's absence breaks one of the properties (the search stops at the first).
fn caught(cfg: Config, rule: Rule, properties: &[&'static str]) {
    let failed = failures(&cfg.without(rule));
    assert!(
        failed.iter().any(|(name, _)| properties.contains(name)),
        "{rule:?} should break one of {properties:?}, broke {failed:?}"
    );
}

/// No counterexample in this configuration, explored completely.
fn tolerated(cfg: Config, rule: Rule) {
    let failed = failures(&cfg.without(rule));
    assert!(failed.is_empty(), "{rule:?} has a counterexample now: {failed:?}; update the page");
}

fn small(scenes: &[Scene]) -> Config {
    Config::new(&[0b01], 1, scenes)
}

fn forgetting(scenes: &[Scene]) -> Config {
    Config { forgets: 1, ..small(scenes) }
}

fn two_gcs(scenes: &[Scene]) -> Config {
    Config::new(&[0b01], 2, scenes)
}

fn repairing(repair: Repairs, cfg: Config) -> Config {
    Config { repair: Some(repair), ..cfg }
}

const LOSS: &[&str] = &[RESTORES, PACKS_STAY, HISTORY];

macro_rules! caught {
    ($($name:ident: $rule:ident, $cfg:expr, $properties:expr;)*) => {
        $(#[test] fn $name() { caught($cfg, Rule::$rule, $properties); })*
    };
}
macro_rules! tolerated {
    ($($name:ident: $rule:ident, $cfg:expr;)*) => {
        $(#[test] fn $name() { tolerated($cfg, Rule::$rule); })*
    };
}

caught! {
    lease_after_condemned: LeaseAfterCondemned, small(&[Scene::Garbage]), LOSS;
    condemned_listed_last: CondemnedListedLast, small(&[Scene::Garbage]), LOSS;
    dedup_against_condemned: DedupAgainstCondemned,
        small(&[Scene::Condemned]), LOSS;
    pack_presence_not_tested: PackPresenceNotTested, small(&[Scene::LostPack]), LOSS;
    parent_untested: ParentUntested, forgetting(&[Scene::CondemnedLive]), LOSS;
    fence_not_read: FenceNotRead, small(&[Scene::Garbage]), &[EXCLUDE, SEEN];
    snapshot_before_index: SnapshotBeforeIndex,
        small(&[Scene::Condemned]), LOSS;
    retry_same_id: RetrySameId, Config { lost: 1, ..forgetting(&[Scene::Garbage]) }, LOSS;
    unknown_ends_without_fence: UnknownEndsWithoutFence,
        Config { lost: 1, ..small(&[Scene::Garbage]) }, LOSS;
    retry_keeps_view: RetryKeepsView, small(&[Scene::Garbage]), LOSS;
    retry_trusts_own_packs: RetryTrustsOwnPacks,
        Config { crashes: 1, ..small(&[Scene::Condemned]) }, LOSS;
    partial_keeps_view: PartialKeepsView,
        Config { partial: true, ..Config::new(&[0b11], 1, &[Scene::Sparse]) }, LOSS;
    confirm_without_get: ConfirmWithoutGet, small(&[Scene::Garbage]), &[EXCLUDE, SEEN];
    fence_never_confirmed: FenceNeverConfirmed, small(&[Scene::Garbage]), LOSS;
    fence_reaped: FenceReaped, small(&[Scene::Garbage]), LOSS;
    lease_reaped_unresolved: LeaseReapedUnresolved, small(&[Scene::Garbage]), LOSS;
    confirmed_not_marked: ConfirmedNotMarked,
        Config { hostile: true, ..small(&[Scene::Live]) }, &[HISTORY];
    open_set_before_condemned: OpenSetBeforeCondemned, small(&[Scene::Garbage]), LOSS;
    no_wait: NoWait, small(&[Scene::Garbage]), LOSS;
    no_second_mark: NoSecondMark, small(&[Scene::CondemnedLive, Scene::Garbage]), LOSS;
    condemned_comes_back: CondemnedComesBack, two_gcs(&[Scene::CondemnedLive]), LOSS;
    copy_only_from_own_records: CopyOnlyFromOwnRecords,
        Config::new(&[], 2, &[Scene::CondemnedLive, Scene::Twice]), LOSS;
    record_deleted_first: RecordDeletedFirst, small(&[Scene::Condemned]), LOSS;
    gc_lists_condemned_last: GcListsCondemnedLast,
        Config::new(&[], 2, &[Scene::Twice]), LOSS;
    gc_lists_packs_before_index: GcListsPacksBeforeIndex, small(&[Scene::Garbage]), LOSS;
    finishes_unwaited_records: FinishesUnwaitedRecords, two_gcs(&[Scene::Garbage]), LOSS;
    no_stop: NoStop, small(&[Scene::LostSegment]), LOSS;
    ack_without_copy: AckWithoutCopy, Config { acks: true, ..small(&[Scene::Garbage]) }, LOSS;
    packs_deleted_before_index: PacksDeletedBeforeIndex,
        Config::new(&[], 1, &[Scene::Twice]), &[NO_DANGLING];
    reader_reports_first_miss: ReaderReportsFirstMiss,
        Config { reader: true, ..Config::new(&[], 1, &[Scene::Sparse]) }, &[NO_FALSE_ALARM];
    reader_reports_second_miss: ReaderReportsSecondMiss,
        Config { reader: true, ..Config::new(&[], 2, &[Scene::Sparse]) }, &[NO_FALSE_ALARM];
    repair_trusts_condemned: RepairTrustsCondemned,
        repairing(Repairs::Packs, Config::new(&[], 1, &[Scene::DamagedTwice])), &[SAVED_STAYS];
    repair_fence_not_read: RepairFenceNotRead,
        repairing(Repairs::Packs, Config::new(&[], 1, &[Scene::DamagedTwice])), &[SAVED_STAYS];
    repair_condemns_nothing: RepairCondemnsNothing,
        repairing(Repairs::Packs, small(&[Scene::Damaged])), &[STORED_AGAIN];
    finishes_unsaved: FinishesUnsaved,
        repairing(Repairs::Packs, Config::new(&[], 1, &[Scene::Damaged])), LOSS;
    repair_lists_packs_first: RepairListsPacksFirst,
        repairing(Repairs::Index, small(&[Scene::Garbage])), LOSS;
}

tolerated! {
    packs_listed_before_index: PacksListedBeforeIndex, small(&[Scene::Garbage, Scene::Live]);
    commit_without_relist: CommitWithoutRelist,
        Config { crashes: 1, lost: 1, acks: true, ..small(&[Scene::Garbage, Scene::Live]) };
    gc_without_lease: GcWithoutLease, Config::new(&[], 2, &[Scene::Twice, Scene::Sparse]);
    forget_leaves_fence: ForgetLeavesFence,
        Config { lost: 1, crashes: 1, ..forgetting(&[Scene::Live]) };
    segments_deleted_at_once: SegmentsDeletedAtOnce,
        Config { reader: true, ..small(&[Scene::Garbage, Scene::Twice]) };
}

#[test]
#[ignore = "long: two gcs beside a writer"]
fn long_tolerated_with_two_gcs() {
    for rule in [
        Rule::CommitWithoutRelist,
        Rule::GcWithoutLease,
        Rule::SegmentsDeletedAtOnce,
        Rule::PacksListedBeforeIndex,
    ] {
        tolerated(two_gcs(&[Scene::Twice]), rule);
    }
}

/// Rule 4 as written lets a second copy of an answered PUT bring a forgotten snapshot back.
#[test]
fn duplicated_put_without_tombstone() {
    let cfg = Config { duplicates: 1, ..forgetting(&[Scene::Garbage]) };
    assert!(failures(&cfg).iter().any(|(name, _)| LOSS.contains(name)));
}
