//! `backup`: from sources to a new snapshot.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use crate::chunker::{Chunker, Params};
use crate::error::chain_text;
use crate::format::config::Config;
use crate::format::snapshot::{Ancestor, Root, Snapshot, Stats, Sum, Unread};
use crate::hash::SnapshotId;
use crate::meta::Metadata;
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::session::{Session, Writer};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::writer::{BlobWriter, WriterOptions, with_writer};
use crate::repo::{BlobReader, Repository};
use crate::source::Source;
use crate::tree::Entry;
use crate::tree::entry::encode_alone;
use crate::{Error, Result};

mod bundles;
mod files;
mod known;
mod links;
mod parent;
mod root;
mod small;

use files::Context;
use known::KnownFiles;
use parent::Cursor;
use root::{Finished, Keeping, Kept, Parts, RootRun, Tally};

/// Threads that read from a source over a network, at least.
const REMOTE_READERS: usize = 8;

/// Newest snapshots that a new one names, so that their loss shows.
const HEADS: usize = 8;

/// A root to back up.
#[derive(Debug, Clone)]
pub struct RootSource {
    /// Absolute path at the origin.
    pub path: Vec<u8>,
    /// What reads it.
    pub source: Arc<dyn Source>,
    /// Names and metadata of the directories above it, from the topmost down.
    pub ancestors: Vec<(Vec<u8>, Metadata)>,
    /// Content of unknown size (standard input): read to its end.
    pub stream: bool,
}

impl RootSource {
    /// A root of which nothing above is known.
    pub fn new(path: impl Into<Vec<u8>>, source: Arc<dyn Source>) -> Self {
        Self { path: path.into(), source, ancestors: Vec::new(), stream: false }
    }
}

/// Which snapshot to compare with.
#[derive(Debug, Clone, Copy, Default)]
pub enum Parent {
    /// The newest of the same host, kind and places.
    #[default]
    Automatic,
    /// None: read everything.
    None,
    /// This one.
    Snapshot(SnapshotId),
}

/// How to back up. The default has no roots and no names.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Roots; they must not overlap.
    pub roots: Vec<RootSource>,
    /// Host the data is from.
    pub host: String,
    /// User who runs it.
    pub user: String,
    /// Kind of source: "local", "sftp", "s3", "stdin".
    pub kind: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Description.
    pub description: String,
    /// Program and version.
    pub program: String,
    /// Process number, for the lease.
    pub process: u32,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// Exclude rules in force, for the record.
    pub excludes: Vec<String>,
    /// What to compare with.
    pub parent: Parent,
    /// Find out what would be stored, and store nothing.
    pub dry_run: bool,
    /// Make no snapshot if it would be equal to the parent.
    pub skip_if_unchanged: bool,
    /// How often what was done so far is kept as a partial snapshot, if anything new was stored;
    /// `None`: only when the run is interrupted.
    pub partial_every: Option<Duration>,
    /// How often the lease is renewed, so that a gc neither waits for this run nor takes it for
    /// dead; `None`: never.
    pub renew_every: Option<Duration>,
    /// How to write.
    pub writer: WriterOptions,
}

/// What a backup did.
#[derive(Debug, Clone, Default)]
pub struct BackupReport {
    /// The snapshot; `None` for a dry run, or where nothing had changed and none was wanted.
    pub snapshot: Option<SnapshotId>,
    /// It is partial: the run was interrupted.
    pub partial: bool,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// What was done.
    pub stats: Stats,
    /// What the snapshot holds.
    pub sum: Sum,
    /// What could not be read (the first thousand).
    pub unread: Vec<Unread>,
    /// How much could not be read in all.
    pub errors: u64,
}

fn chunker(repository: &Repository) -> Result<Chunker> {
    let config = repository.config();
    let bad = |e: crate::chunker::ParamsError| Error::damaged("config", e);
    if config.chunk_fixed > 0 {
        return Chunker::fixed(config.chunk_fixed).map_err(bad);
    }
    let params = Params::new(config.chunk_min, config.chunk_avg, config.chunk_max).map_err(bad)?;
    Ok(Chunker::new(repository.keys().chunker(), params))
}

/// Backs up. After an interruption asked for once, what was done so far is kept as a partial
/// snapshot; asked for twice, the run ends at once with [`Error::Interrupted`].
pub fn backup(
    repository: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    if let Some(feature) = Config::unknown_feature(&repository.config().features_write) {
        return Err(Error::NewerFormat {
            location: repository.location(),
            what: format!("feature {feature}"),
        });
    }
    monitor.phase(Phase::Opening);
    if options.dry_run {
        let dry = repository.without_writing();
        return run(&dry, options, monitor, interrupt);
    }
    run(repository, options, monitor, interrupt)
}

fn run(
    repository: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    let started = Instant::now();
    let session = Session::begin(
        repository,
        Writer {
            host: options.host.clone(),
            process: options.process,
            verb: "backup".into(),
            time: options.time,
        },
    )?;
    let result = repository.snapshots().and_then(|snapshots| {
        with_writer(repository, session.index(), options.writer, |writer| {
            let run = Run { repository, options, monitor, interrupt, snapshots: &snapshots };
            run.roots_and_commit(&session, writer, started)
        })
    });
    if result.is_err() {
        // Nobody should wait for this session. If even that fails, a gc will find out.
        let _ = session.end("failed");
    }
    result
}

struct Run<'a> {
    repository: &'a Repository,
    options: &'a BackupOptions,
    monitor: &'a dyn Monitor,
    interrupt: &'a Interrupt,
    snapshots: &'a [SnapshotInfo],
}

impl Run<'_> {
    fn roots_and_commit(
        &self,
        session: &Session<'_>,
        writer: &BlobWriter<'_>,
        started: Instant,
    ) -> Result<BackupReport> {
        let Self { options, snapshots, .. } = *self;
        self.monitor.phase(Phase::Backup);
        let parent = parent::choose(snapshots, options);
        let mut tally = Tally::default();
        let mut roots: Vec<Root> = Vec::new();
        let read = AtomicU64::new(0);
        let last_kept = Cell::new(Kept { when: started, bytes: 0, files: 0 });
        let last_renewed = Cell::new(started);
        for source in &options.roots {
            if self.interrupt.is_raised() {
                break;
            }
            let keep = |finished: Finished, tally: &Tally| {
                let mut so_far = roots.clone();
                so_far.push(root_record(source, finished));
                let record = self.record(so_far, parent, true, tally.clone());
                writer.flush()?;
                // It has a session of its own: what became of that is nothing to this run.
                if let Err(error) = session.commit_partial(writer, &record) {
                    let text = chain_text(&error);
                    self.monitor.note(&format!("no partial snapshot was kept: {text}"));
                }
                Ok(())
            };
            let every = options.partial_every.filter(|_| !options.dry_run);
            let renew_every = options.renew_every.filter(|_| !options.dry_run);
            let renew = || {
                if renew_every.is_some_and(|every| last_renewed.get().elapsed() >= every) {
                    // Without it a gc waits for this run, or shuts it out after a day.
                    if let Err(error) = session.renew(writer) {
                        let text = chain_text(&error);
                        self.monitor.note(&format!("the lease was not renewed: {text}"));
                    }
                    last_renewed.set(Instant::now());
                }
            };
            let keeping = Keeping { every, last: &last_kept, keep: &keep, renew: &renew };
            let finished = self.root(session, writer, source, &mut tally, &read, keeping)?;
            roots.push(root_record(source, finished));
        }
        let partial = self.interrupt.is_raised();
        let mut sum = Sum::default();
        roots.iter().filter_map(|root| root.sum).for_each(|root| sum.add(&root));
        let mut report = BackupReport {
            partial,
            parent,
            sum,
            unread: tally.unread.clone(),
            errors: tally.errors,
            ..BackupReport::default()
        };
        roots.sort_by(|a, b| a.path.cmp(&b.path));
        let unchanged = !partial && self.equals_parent(parent, &roots);
        if !(options.skip_if_unchanged && unchanged) {
            self.monitor.phase(Phase::Committing);
            // What was stored is known only after the flush; the record tells of the blobs.
            writer.flush()?;
        }
        let written = writer.written();
        tally.stats.bytes_read = read.load(Ordering::Relaxed);
        tally.stats.bytes_new = written.plain;
        tally.stats.bytes_stored = written.stored;
        tally.stats.blobs_new = written.blobs;
        tally.stats.nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        report.stats = tally.stats;
        if options.dry_run || options.skip_if_unchanged && unchanged {
            session.end("nothing to commit")?;
            return Ok(report);
        }
        let snapshot = self.record(roots, parent, partial, tally);
        report.snapshot = Some(session.commit(writer, &snapshot)?);
        Ok(report)
    }

    fn root(
        &self,
        session: &Session<'_>,
        writer: &BlobWriter<'_>,
        source: &RootSource,
        tally: &mut Tally,
        read: &AtomicU64,
        keeping: Keeping<'_>,
    ) -> Result<Finished> {
        let chunker = chunker(self.repository)?;
        let reader = BlobReader::new(self.repository, session.index());
        let context = Context {
            source: &*source.source,
            keys: self.repository.keys(),
            chunker: &chunker,
            writer,
            interrupt: self.interrupt,
            small_below: u64::from(self.repository.config().bundle_below),
            chunk_max: chunker.max(),
            read,
        };
        let (context, reader) = (&context, &reader);
        std::thread::scope(|scope| {
            let (send_walk, walk) = bounded(16);
            let (jobs, job_queue) = unbounded();
            let (send_done, done) = unbounded();
            let walker = scope.spawn(move || {
                context.source.walk(&mut |batch| match send_walk.send(batch) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            let remote = if context.source.is_remote() { REMOTE_READERS } else { 2 };
            for _ in 0..self.options.writer.threads.max(remote) {
                let (jobs, done) = (job_queue.clone(), send_done.clone());
                scope.spawn(move || context.work(&jobs, &done));
            }
            drop((job_queue, send_done));
            let parents = parent::trees(self.snapshots, self.options, &source.path)
                .into_iter()
                .map(|tree| Cursor::start(scope, reader, tree))
                .collect();
            let parts = Parts {
                context,
                reader,
                monitor: self.monitor,
                path: &source.path,
                stream: source.stream,
                jobs,
                done,
                parents,
                tally,
                keeping,
            };
            let known = KnownFiles::new(reader, parent::all_trees(self.snapshots, self.options));
            let finished = RootRun::new(parts, known).run(walk);
            match walker.join() {
                // A root that cannot be listed to its end is never committed as if it could.
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(())) => finished,
                Err(_) => Err(Error::Worker("the walk".into())),
            }
        })
    }

    fn equals_parent(&self, parent: Option<SnapshotId>, roots: &[Root]) -> bool {
        let parent = self.snapshots.iter().find(|s| Some(s.id) == parent);
        parent.is_some_and(|parent| {
            !parent.record.partial
                && parent
                    .record
                    .roots
                    .iter()
                    .map(|r| (&r.path, &r.tree))
                    .eq(roots.iter().map(|r| (&r.path, &r.tree)))
        })
    }

    fn record(
        &self,
        mut roots: Vec<Root>,
        parent: Option<SnapshotId>,
        partial: bool,
        tally: Tally,
    ) -> Snapshot {
        let options = self.options;
        // The roots of a partial snapshot come in the order of the run.
        roots.sort_by(|a, b| a.path.cmp(&b.path));
        let mut tags = options.tags.clone();
        tags.sort();
        tags.dedup();
        let heads = self.snapshots.iter().rev().take(HEADS);
        Snapshot {
            time: options.time,
            host: options.host.clone(),
            user: options.user.clone(),
            kind: options.kind.clone(),
            tags,
            description: options.description.clone(),
            program: options.program.clone(),
            partial,
            roots,
            parent: parent.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            heads: heads.map(|s| s.id.as_bytes().to_vec()).collect(),
            stats: Some(tally.stats),
            unread: tally.unread,
            excludes: options.excludes.clone(),
        }
    }
}

/// What a snapshot says of a root.
fn root_record(source: &RootSource, finished: Finished) -> Root {
    let ancestors = source.ancestors.iter().map(|(name, metadata)| {
        let entry = Entry { name: name.clone(), metadata: metadata.clone(), ..Entry::default() };
        let (entry, owner) = encode_alone(entry);
        Ancestor { entry: Some(entry), owner: Some(owner) }
    });
    Root {
        path: source.path.clone(),
        tree: finished.tree.as_bytes().to_vec(),
        totals: finished.totals.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        sum: Some(finished.sum),
        ancestors: ancestors.collect(),
    }
}
