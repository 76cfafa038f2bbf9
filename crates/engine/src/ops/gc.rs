//! `gc`: gives back the space of what no snapshot needs. Marks what is needed ([`mark`],
//! [`marks`]), decides what goes ([`plan`]), copies what is needed out of packs that are mostly not
//! ([`copy`]) and condemns those; and once every session that may rely on them has come to an end,
//! marks again and deletes ([`finish`]). The order of the storage calls is that of
//! docs/design/protocol.md, "gc": do not move one without the model.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::format::config::Config;
use crate::hash::{ObjectId, RecordId, SnapshotId};
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::condemned::{PACKS_PER_RECORD, packs_of, segments_of};
use crate::repo::index::listing::PackListing;
use crate::repo::reader::is_gone;
use crate::repo::session::Writer;
use crate::repo::sessions::{OpenSession, Sessions};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::writer::WriterOptions;
use crate::repo::{BlobReader, Index, Repository, random};
use crate::storage::{ObjectName, StorageErrorKind};
use crate::{Error, Result};

mod copy;
mod delete;
mod finish;
mod mark;
mod marks;
mod merge;
mod plan;
mod reap;
mod retain;

use mark::Marker;
use marks::Marks;
use plan::Plan;

/// How often to look whether other sessions have come to an end.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How to collect. The default has no names.
#[derive(Debug, Clone)]
pub struct GcOptions {
    /// Who runs it.
    pub who: Writer,
    /// Unneeded bytes that may stay, as a part (0 to 1) of all bytes of blobs.
    pub max_unused: f64,
    /// Bytes that may be copied; `None`: as many as it takes.
    pub max_repack: Option<u64>,
    /// After this time no further pack is copied; what was begun is brought to its end.
    pub max_time: Option<Duration>,
    /// A session that has given no sign of life for longer, by the storage's clock, is shut out.
    /// Temporary objects of this age are removed.
    pub silent_after: Duration,
    /// How long to wait for other sessions before what was condemned is left to a later run.
    pub wait: Duration,
    /// How long other computers may see what was there before; `None`: as the storage says.
    pub settle: Option<Duration>,
    /// Only find out what would be done. Nothing is written or deleted.
    pub dry_run: bool,
    /// Threads; 0 means as many as the cores and the storage make worthwhile.
    pub threads: usize,
    /// How to write what is compressed anew.
    pub writer: WriterOptions,
    /// Packs that one condemned record names.
    pub packs_per_record: usize,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            who: Writer::default(),
            max_unused: 0.1,
            max_repack: None,
            max_time: None,
            silent_after: Duration::from_secs(24 * 60 * 60),
            wait: Duration::ZERO,
            settle: None,
            dry_run: false,
            threads: 0,
            writer: WriterOptions::default(),
            packs_per_record: PACKS_PER_RECORD,
        }
    }
}

/// Packs, or other objects, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// What a gc is about to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcPlan {
    /// All packs that are there.
    pub packs: Amount,
    /// Bytes of blobs that snapshots need.
    pub needed: u64,
    /// Bytes of blobs that none needs, orphans not counted.
    pub unneeded: u64,
    /// Packs of which nothing is needed.
    pub dead: Amount,
    /// Packs that are in no index segment: left by runs that were interrupted.
    pub orphans: Amount,
    /// Packs that something will be copied out of.
    pub sparse: Amount,
    /// About how many bytes that is.
    pub moved: u64,
    /// Unneeded bytes that will stay.
    pub left: u64,
    /// Packs condemned by earlier runs.
    pub condemned: Amount,
    /// Packs written since the oldest open session began, which are left alone.
    pub young: Amount,
    /// Sessions that are open.
    pub open: Vec<OpenSession>,
    /// Sessions that are silent and are shut out (by a dry run: would be).
    pub shut_out: Vec<OpenSession>,
    /// Snapshots that were shut out and are there, whole: only `forget` removes them.
    pub fenced: Vec<SnapshotId>,
}

impl GcPlan {
    /// About how many bytes it will free.
    pub fn frees(&self) -> u64 {
        let gone = self.dead.bytes + self.orphans.bytes + self.sparse.bytes + self.condemned.bytes;
        gone.saturating_sub(self.moved)
    }
}

/// What a gc did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GcReport {
    /// What it had planned.
    pub plan: GcPlan,
    /// Packs that were condemned by this run, and wait to be deleted or are deleted.
    pub condemned: Amount,
    /// Packs written, and their bytes.
    pub copied: Amount,
    /// Packs deleted.
    pub deleted: Amount,
    /// Index segments written in the place of others, and how many those were.
    pub merged: (u64, u64),
    /// Index segments deleted.
    pub segments_deleted: u64,
    /// Leases, notes and temporary objects that were left over and are gone now.
    pub reaped: u64,
    /// Objects that are needed and are locked again for as long as when they were stored; `None`
    /// where nothing is locked.
    pub locked_again: Option<u64>,
    /// Sessions that must come to an end before what is condemned can be deleted. If there is
    /// one, nothing was deleted.
    pub waiting: Vec<OpenSession>,
    /// Objects that the storage refused to delete (a lock, or no right to): a later run tries
    /// again. The first hundred.
    pub refused: Vec<String>,
    /// How many that were.
    pub refused_total: u64,
    /// Why not all was copied that should have been.
    pub put_off: Option<PutOff>,
}

/// Why packs were not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOff {
    /// The time was up.
    Time,
    /// There was no space: the next run will have what this one has freed.
    Space,
}

/// What the steps share.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a GcOptions,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    begun: Instant,
    threads: usize,
}

/// Collects. `show` is told what is planned before anything is done. Beside other sessions it is
/// safe at any time; where one is open, it does what can be done and says whom it waits for.
///
/// Nothing is deleted if anything that a snapshot needs is missing or cannot be read: the error
/// says what.
pub fn gc(
    repository: &Repository,
    options: &GcOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
    show: &mut dyn FnMut(&GcPlan),
) -> Result<GcReport> {
    if let Some(feature) = Config::unknown_feature(&repository.config().features_gc) {
        let what = format!("feature {feature}");
        return Err(Error::NewerFormat { location: repository.location(), what });
    }
    if !(0.0..=1.0).contains(&options.max_unused) {
        return Err(Error::Usage("the unneeded part that may stay lies between 0 and 1".into()));
    }
    monitor.phase(Phase::Opening);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let threads = match options.threads {
        0 => cores.max(repository.storage().concurrency()).clamp(1, 16),
        threads => threads,
    };
    let run = Run { repository, options, monitor, interrupt, begun: Instant::now(), threads };
    let mut report = GcReport::default();
    if options.dry_run {
        run.plan_only(show, &mut report)?;
        return Ok(report);
    }
    let session = run.with_room(&mut report, || repository.put_lease(&options.who))?;
    let result = run.run(session, show, &mut report);
    let reason = if result.is_ok() { "done" } else { "failed" };
    // Nobody should wait for this session. If even that fails, another gc will find out.
    let ended = repository.put_mark(&ObjectName::session_end(session), reason);
    result.and(ended).map(|()| report)
}

impl Run<'_> {
    /// Dead members stay in a bundle in which they are no more than this part of the bytes: a
    /// bundle without them would not be found again by writers.
    fn dead_in_bundles(&self) -> f64 {
        (self.options.max_unused / 2.0).min(0.05)
    }

    fn stop_if_asked(&self) -> Result<()> {
        if self.interrupt.is_raised() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn plan_only(&self, show: &mut dyn FnMut(&GcPlan), report: &mut GcReport) -> Result<()> {
        let records = self.repository.condemned()?;
        let sessions = Sessions::list(self.repository, None)?;
        for id in sessions.silent_for(self.options.silent_after) {
            report.plan.shut_out.push(sessions.describe(self.repository, id)?);
        }
        let (visible, fenced) = self.repository.all_snapshots()?;
        let inventory = Index::inventory(self.repository, sessions.oldest_open())?;
        let condemned = packs_of(&records);
        let marks = Marks::new(&inventory.index, &condemned)?;
        let whole = self.mark(&marks, &inventory.index, &visible, &fenced)?;
        Plan::make(self, &inventory, &marks, &condemned, &mut report.plan)?;
        self.describe(&sessions, None, whole, &mut report.plan)?;
        show(&report.plan);
        Ok(())
    }

    fn describe(
        &self,
        sessions: &Sessions,
        own: Option<SnapshotId>,
        fenced: Vec<SnapshotId>,
        plan: &mut GcPlan,
    ) -> Result<()> {
        plan.fenced = fenced;
        for id in sessions.open().filter(|id| Some(*id) != own) {
            if !plan.shut_out.iter().any(|session| session.id == id) {
                plan.open.push(sessions.describe(self.repository, id)?);
            }
        }
        Ok(())
    }

    fn run(
        &self,
        session: SnapshotId,
        show: &mut dyn FnMut(&GcPlan),
        report: &mut GcReport,
    ) -> Result<()> {
        let repository = self.repository;
        let records = repository.condemned()?;
        let sessions = self.fence(session, report)?;
        let (visible, fenced) = repository.all_snapshots()?;
        let mut inventory = Index::inventory(repository, sessions.oldest_open())?;
        let condemned = packs_of(&records);
        let marks = Marks::new(&inventory.index, &condemned)?;
        let whole = self.mark(&marks, &inventory.index, &visible, &fenced)?;
        let plan = Plan::make(self, &inventory, &marks, &condemned, &mut report.plan)?;
        drop(condemned);
        self.describe(&sessions, Some(session), whole, &mut report.plan)?;
        show(&report.plan);
        self.stop_if_asked()?;

        let copied = self.repack(&inventory, &marks, &plan.sparse, report)?;
        let mut segments: BTreeSet<ObjectId> =
            inventory.segments.iter().map(|(id, _)| *id).collect();
        segments.retain(|id| inventory.superseded.contains(id));
        for named in segments_of(&records) {
            segments.remove(&named);
        }
        let mut finish: BTreeSet<RecordId> = records.into_keys().collect();
        let go = copied.into_iter().chain(plan.dead);
        finish.extend(self.condemn(session, go, segments, report)?);
        self.stop_if_asked()?;
        if finish.is_empty() {
            merge::supersede(self, &inventory, &BTreeSet::new(), report)?;
            return self.tidy(session, report);
        }
        // What there are millions of is not held twice: the second mark lists them again.
        inventory.packs = PackListing::default();
        self.settle()?;
        // The open set: whoever opened a session before the records could be seen.
        if self.wait_for_others(session, &finish, report)? {
            self.settle()?;
            self.finish(&finish, &marks, report)?;
        }
        self.tidy(session, report)
    }

    fn tidy(&self, session: SnapshotId, report: &mut GcReport) -> Result<()> {
        self.reap(session, report)?;
        self.extend_retention(report)
    }

    /// Step 2: shuts out who is silent. The sessions there are then.
    fn fence(&self, session: SnapshotId, report: &mut GcReport) -> Result<Sessions> {
        let sessions = Sessions::list(self.repository, Some(session))?;
        let silent = sessions.silent_for(self.options.silent_after);
        let mut fenced = false;
        for id in silent.into_iter().filter(|id| *id != session) {
            fenced = true;
            if self.repository.fence(id, "silent")? {
                report.plan.shut_out.push(sessions.describe(self.repository, id)?);
            }
        }
        if fenced { Sessions::list(self.repository, Some(session)) } else { Ok(sessions) }
    }

    /// Steps 3 and 7: marks what snapshots need. Of those that were shut out, which are whole:
    /// they count, or else a writer could delete history by shutting it out.
    fn mark(
        &self,
        marks: &Marks<'_>,
        index: &Index,
        visible: &[SnapshotInfo],
        fenced: &[SnapshotInfo],
    ) -> Result<Vec<SnapshotId>> {
        self.monitor.phase(Phase::Marking);
        let reader = BlobReader::of_index(self.repository, index);
        let marker = self.marker(marks, &reader, false);
        marker.mark(&visible.iter().collect::<Vec<_>>())?;
        let mut whole = Vec::new();
        for snapshot in fenced {
            let trial = Marks::new(index, &BTreeSet::new())?;
            match self.marker(&trial, &reader, true).mark(&[snapshot]) {
                Ok(()) => whole.push(snapshot),
                // An index may name a pack that is not there any more.
                Err(error) if is_gone(&error) || matches!(error, Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        marker.mark(&whole)?;
        Ok(whole.iter().map(|snapshot| snapshot.id).collect())
    }

    fn marker<'m>(
        &'m self,
        marks: &'m Marks<'m>,
        reader: &'m BlobReader<'m>,
        is_strict: bool,
    ) -> Marker<'m> {
        let Self { monitor, interrupt, threads, .. } = *self;
        Marker { marks, reader, monitor, interrupt, threads, is_strict }
    }

    /// Step 4: stores what goes, in as many records as it takes, each of which stands for itself.
    fn condemn(
        &self,
        session: SnapshotId,
        packs: impl Iterator<Item = (ObjectId, u64)>,
        segments: BTreeSet<ObjectId>,
        report: &mut GcReport,
    ) -> Result<Vec<RecordId>> {
        let (mut packs, mut segments) = (packs.peekable(), Vec::from_iter(segments));
        let mut records = Vec::new();
        while packs.peek().is_some() || !segments.is_empty() {
            let mut some = Vec::new();
            for (pack, size) in packs.by_ref().take(self.options.packs_per_record.max(1)) {
                report.condemned.add(size);
                some.push(pack);
            }
            let segments = std::mem::take(&mut segments);
            let id = RecordId::new(random()?);
            let put = || self.repository.put_condemned(id, session, &some, &segments);
            self.with_room(report, put)?;
            records.push(id);
        }
        Ok(records)
    }

    /// Steps 5 and 6: waits for whoever is at work now. Whether all have come to an end, or have
    /// acknowledged the records.
    fn wait_for_others(
        &self,
        session: SnapshotId,
        finish: &BTreeSet<RecordId>,
        report: &mut GcReport,
    ) -> Result<bool> {
        let mut sessions = Sessions::list(self.repository, Some(session))?;
        let open: BTreeSet<SnapshotId> = sessions.open().filter(|id| *id != session).collect();
        let begun = Instant::now();
        loop {
            let mut left = Vec::new();
            for id in sessions.open().filter(|id| open.contains(id)) {
                if !sessions.has_acknowledged(self.repository, id, finish)? {
                    left.push(id);
                }
            }
            if left.is_empty() {
                return Ok(true);
            }
            let Some(rest) = self.options.wait.checked_sub(begun.elapsed()) else {
                for id in left {
                    report.waiting.push(sessions.describe(self.repository, id)?);
                }
                return Ok(false);
            };
            self.monitor.phase(Phase::Waiting);
            self.pause(rest.min(LOOK_EVERY))?;
            sessions = Sessions::list(self.repository, Some(session))?;
        }
    }

    /// Waits until what was stored can be seen by all, and by us what others stored.
    fn settle(&self) -> Result<()> {
        let time = self.options.settle.unwrap_or_else(|| self.repository.storage().settle());
        if !time.is_zero() {
            self.monitor.phase(Phase::Waiting);
        }
        self.pause(time)
    }

    fn pause(&self, time: Duration) -> Result<()> {
        let begun = Instant::now();
        while let Some(rest) = time.checked_sub(begun.elapsed()).filter(|rest| !rest.is_zero()) {
            self.stop_if_asked()?;
            std::thread::sleep(rest.min(Duration::from_millis(100)));
        }
        Ok(())
    }
}

/// Whether there was no space left.
fn is_full(error: &Error) -> bool {
    matches!(error, Error::Storage(e) if e.kind == StorageErrorKind::NoSpace)
}
