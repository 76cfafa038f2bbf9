//! The switches of the model: which rule of docs/design/protocol.md is disabled, which
//! processes run, which faults they may meet and from which repositories they start.
//!
//! A configuration disables at most one rule. Slot numbers (sessions, packs, segments,
//! records) are fixed per process, so that interleavings do not differ by names only.

/// A rule to disable. Each variant names the *wrong* behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    // Begin (rule 1)
    LeaseAfterCondemned,
    CondemnedListedLast,
    PacksListedBeforeIndex,
    DedupAgainstCondemned,
    PackPresenceNotTested,
    ParentUntested,
    // Commit (rule 2)
    CommitWithoutRelist,
    FenceNotRead,
    SnapshotBeforeIndex,
    RetrySameId,
    UnknownEndsWithoutFence,
    RetryKeepsView,
    RetryTrustsOwnPacks,
    // Partial (rule 3)
    PartialKeepsView,
    // Fence (rule 4)
    ConfirmWithoutGet,
    FenceNeverConfirmed,
    FenceReaped,
    LeaseReapedUnresolved,
    ForgetLeavesFence,
    // gc (rule 5)
    ConfirmedNotMarked,
    OpenSetBeforeCondemned,
    NoWait,
    NoSecondMark,
    PacksDeletedBeforeIndex,
    CondemnedComesBack,
    CopyOnlyFromOwnRecords,
    RecordDeletedFirst,
    GcListsCondemnedLast,
    GcListsPacksBeforeIndex,
    GcWithoutLease,
    FinishesUnwaitedRecords,
    SegmentsDeletedAtOnce,
    // Stop, progress, readers (rules 6 to 8)
    NoStop,
    AckWithoutCopy,
    ReaderReportsFirstMiss,
    ReaderReportsSecondMiss,
    // Repair
    RepairTrustsCondemned,
    RepairFenceNotRead,
    RepairCondemnsNothing,
    FinishesUnsaved,
    RepairListsPacksFirst,
}

/// What lies in the storage before the first step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scene {
    /// Pack 0 holds blob 0, indexed; no snapshot needs it.
    Garbage,
    /// Pack 0 holds blob 0, indexed; snapshot 0 refers to it.
    Live,
    /// Pack 0 holds blobs 0 and 1, indexed; snapshot 0 refers to blob 1 only.
    Sparse,
    /// Packs 0 and 1 both hold blob 0, indexed; snapshot 0 refers to it.
    Twice,
    /// As `Garbage`, and a gc that died has left a condemned record naming pack 0.
    Condemned,
    /// As `Live`, and a record names pack 0: the snapshot was committed between mark and record.
    CondemnedLive,
    /// Pack 0 holds blob 0; segment 1 has superseded segment 0; snapshot 0 refers to blob 0.
    Superseded,
    /// As `Live`, but the storage has lost the index segment.
    LostSegment,
    /// As `Garbage`, but the storage has lost the pack and kept the index entry.
    LostPack,
    /// Pack 0 holds blobs 0 and 1, indexed, but blob 0 does not open any more; snapshot 0 refers to
    /// both.
    Damaged,
    /// As `Damaged`, and pack 1 holds blob 0, indexed.
    DamagedTwice,
}

/// What is repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repairs {
    /// Pack 0, which is damaged.
    Packs,
    /// The index, from the packs alone.
    Index,
}

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) off: Option<Rule>,
    pub(crate) scenes: Vec<Scene>,
    /// For each writer the set of blobs that it backs up.
    pub(crate) writers: Vec<u8>,
    pub(crate) gcs: usize,
    pub(crate) forgets: u8,
    pub(crate) reader: bool,
    /// Each writer's first attempt is a partial snapshot of its lowest blob.
    pub(crate) partial: bool,
    /// A writer may acknowledge condemned records once per attempt.
    pub(crate) acks: bool,
    /// Writers that may die and start again under a new id.
    pub(crate) crashes: u8,
    /// Snapshot PUTs whose reply is lost, whether they took place or are still under way.
    pub(crate) lost: u8,
    /// Answered snapshot PUTs of which a second copy is still under way (a transport's retry).
    pub(crate) duplicates: u8,
    /// Forgetting fences and confirms every snapshot before it deletes it (an amendment).
    pub(crate) tombstones: bool,
    /// Somebody with the right to write fences and confirms snapshot 0.
    pub(crate) hostile: bool,
    /// Whether gc also fences before its first mark.
    pub(crate) early_fence: bool,
    /// Somebody repairs, once.
    pub(crate) repair: Option<Repairs>,
}

impl Config {
    pub(crate) fn new(writers: &[u8], gcs: usize, scenes: &[Scene]) -> Self {
        Self {
            off: None,
            scenes: scenes.to_vec(),
            writers: writers.to_vec(),
            gcs,
            forgets: 0,
            reader: false,
            partial: false,
            acks: false,
            crashes: 0,
            lost: 0,
            duplicates: 0,
            tombstones: false,
            hostile: false,
            early_fence: false,
            repair: None,
        }
    }

    pub(crate) fn without(mut self, rule: Rule) -> Self {
        self.off = Some(rule);
        self
    }

    pub(crate) fn off(&self, rule: Rule) -> bool {
        self.off == Some(rule)
    }

    pub(crate) fn damaged(&self) -> bool {
        self.scenes.contains(&Scene::LostSegment)
    }

    /// Session id of a writer's attempt; 0 is the snapshot that was there before.
    pub(crate) fn writer_id(w: usize, attempt: u8) -> u8 {
        1 + 2 * w as u8 + attempt
    }

    pub(crate) fn gc_id(g: usize) -> u8 {
        5 + g as u8
    }

    /// Slot of the pack number `k` of a writer's attempt (its segment has the same number).
    pub(crate) fn writer_slot(&self, w: usize, attempt: u8, k: u8) -> u8 {
        let each = if self.acks { 3 } else { 2 };
        assert!(k < each, "a writer has used up its pack slots");
        2 + (2 * w as u8 + attempt) * each + k
    }

    /// Slot of a gc's repacked pack (`k` = 0) or of its copies and superseding segment (1).
    pub(crate) fn gc_slot(&self, g: usize, k: u8) -> u8 {
        let each = if self.acks { 3 } else { 2 };
        2 + self.writers.len() as u8 * 2 * each + 2 * g as u8 + k
    }
}
