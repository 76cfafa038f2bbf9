//! `backup`: from sources to a new snapshot.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use crate::error::chain_text;
use crate::format::config::Config;
use crate::format::snapshot::{Ancestor, Root, Snapshot, Stats, Sum, Unread};
use crate::hash::SnapshotId;
use crate::meta::Metadata;
use crate::monitor::{Interrupt, Monitor, Phase};
use crate::repo::memory::VANISHED;
use crate::repo::session::{Session, Writer};
use crate::repo::snapshots::{SnapshotInfo, newest};
use crate::repo::writer::{BlobWriter, WriterOptions, with_writer};
use crate::repo::{BlobReader, Repository};
use crate::source::Source;
use crate::storage::ObjectName;
use crate::tree::Entry;
use crate::tree::entry::encode_alone;
use crate::{Error, Result};

mod bundles;
mod files;
mod known;
mod links;
mod parent;
mod replay;
mod root;
mod small;

pub(crate) use parent::{ParentTree, Trust};
pub(crate) use replay::RecordedRoot;

use files::Context;
use known::KnownFiles;
use parent::Cursor;
use root::{Finished, Keeping, Kept, Parts, RootRun, Tally};

/// Threads that read from a source over a network, at least.
const REMOTE_READERS: usize = 8;

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
    /// Keep the snapshot for ever: no rule forgets it.
    pub pinned: bool,
    /// Program and version.
    pub program: String,
    /// Process number, for the lease.
    pub process: u32,
    /// Now, nanoseconds since the epoch.
    pub time: i64,
    /// Exclude rules in force, for the record.
    pub excludes: Vec<String>,
    /// The plan that asks for it, as a configuration without secrets, for the record.
    pub plan: String,
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

/// Backs up. After an interruption asked for once, what was done so far is kept as a partial
/// snapshot; asked for twice, the run ends at once with [`Error::Interrupted`].
pub fn backup(
    repository: &Repository,
    options: &BackupOptions,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    monitor.phase(Phase::Opening);
    let dry = options.dry_run.then(|| repository.without_writing());
    let repository = dry.as_ref().unwrap_or(repository);
    let writer = Writer {
        host: options.host.clone(),
        process: options.process,
        verb: "backup".into(),
        time: options.time,
    };
    // Who stores no pack need not know the settings; but who does would wait for them.
    let settings = || (!repository.is_near()).then(|| repository.settings()).transpose();
    let read = || repository.both(|| repository.committed_snapshots(), settings);
    in_session(repository, writer, read, |session, ((snapshots, lost), settings), started| {
        for (id, problem) in lost {
            monitor.problem(ObjectName::snapshot(*id).as_str(), &chain_text(problem));
        }
        for id in repository.vanished(snapshots) {
            if !lost.iter().any(|(lost, _)| *lost == id) {
                monitor.problem(ObjectName::snapshot(id).as_str(), VANISHED);
            }
        }
        let (copied, heads) = (None, newest(snapshots));
        let parity = settings.map(|settings| settings.wants_parity());
        let options = &BackupOptions {
            writer: WriterOptions { parity, ..options.writer },
            ..options.clone()
        };
        Run { repository, options, monitor, interrupt, snapshots, heads, copied, started }
            .with_writer(session)
    })
}

/// A snapshot of another repository, to be stored as it is.
#[derive(Debug)]
pub(crate) struct Copied<'a> {
    /// Its record. Trees, parent and heads are made anew.
    pub(crate) record: Snapshot,
    /// Its roots, in the order of the record.
    pub(crate) roots: Vec<CopiedRoot<'a>>,
    /// The snapshot that counts as the one it was compared with.
    pub(crate) parent: Option<SnapshotId>,
}

/// A root of it.
#[derive(Debug)]
pub(crate) struct CopiedRoot<'a> {
    /// What reads it.
    pub(crate) source: RecordedRoot<'a>,
    /// What to compare it with, the best first.
    pub(crate) parents: Vec<ParentTree>,
}

/// Stores a snapshot of another repository, for `sync`. As [`backup`], with these differences:
/// `snapshots` are those of `repository`, oldest first, so that they need not be read for each of
/// many; of `options` host and kind are those of the record, and roots, names and parent are not
/// looked at; what cannot be read ends the run.
pub(crate) fn copy(
    repository: &Repository,
    snapshots: &[SnapshotInfo],
    copied: &Copied<'_>,
    options: &BackupOptions,
    writer: Writer,
    monitor: &dyn Monitor,
    interrupt: &Interrupt,
) -> Result<BackupReport> {
    monitor.phase(Phase::Opening);
    let copied = Some(copied);
    // `snapshots` were read before: since then one may have been forgotten, and the mark that says
    // so may be gone.
    let read = || Ok(newest(&repository.still_visible(snapshots)?));
    in_session(repository, writer, read, |session, heads, started| {
        let heads = heads.clone();
        Run { repository, options, monitor, interrupt, snapshots, heads, copied, started }
            .with_writer(session)
    })
}

/// Runs `body` in a session of its own, with what `read` reads once its lease is there, and the moment
/// when it began.
fn in_session<T: Send>(
    repository: &Repository,
    writer: Writer,
    read: impl FnOnce() -> Result<T> + Send,
    body: impl FnOnce(&Session<'_>, &T, Instant) -> Result<BackupReport>,
) -> Result<BackupReport> {
    if let Some(feature) = Config::unknown_feature(&repository.config().features_write) {
        return Err(Error::NewerFormat {
            location: repository.location(),
            what: format!("feature {feature}"),
        });
    }
    let started = Instant::now();
    let (session, read) = Session::begin_and(repository, writer, read)?;
    let result = body(&session, &read, started).map_err(|error| session.cause_of(error));
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
    /// The newest snapshots that were there after the session had begun: from then on gc keeps
    /// what says that they were forgotten.
    heads: Vec<Vec<u8>>,
    copied: Option<&'a Copied<'a>>,
    started: Instant,
}

/// A root, wherever it comes from.
struct Input<'a> {
    path: &'a [u8],
    source: &'a dyn Source,
    stream: bool,
    ancestors: Vec<Ancestor>,
    parents: Vec<ParentTree>,
    recorded: Option<&'a RecordedRoot<'a>>,
}

impl Run<'_> {
    fn with_writer(&self, session: &Session<'_>) -> Result<BackupReport> {
        with_writer(self.repository, session.index(), self.options.writer, |writer| {
            self.roots_and_commit(session, writer)
        })
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let Some(copied) = self.copied else {
            let roots = self.options.roots.iter();
            let inputs = roots.map(|root| Input {
                path: &root.path,
                source: &*root.source,
                stream: root.stream,
                ancestors: ancestors(root),
                parents: parent::trees(self.snapshots, self.options, &root.path),
                recorded: None,
            });
            return inputs.collect();
        };
        let roots = copied.record.roots.iter().zip(&copied.roots);
        let inputs = roots.map(|(root, from)| Input {
            path: &root.path,
            source: &from.source,
            stream: false,
            ancestors: root.ancestors.clone(),
            parents: from.parents.clone(),
            recorded: Some(&from.source),
        });
        inputs.collect()
    }

    fn roots_and_commit(
        &self,
        session: &Session<'_>,
        writer: &BlobWriter<'_>,
    ) -> Result<BackupReport> {
        let Self { options, snapshots, started, .. } = *self;
        let (phase, parent) = match self.copied {
            None => (Phase::Backup, parent::choose(snapshots, options)),
            Some(copied) => (Phase::Copying, copied.parent),
        };
        self.monitor.phase(phase);
        let mut tally = Tally::default();
        let mut roots: Vec<Root> = Vec::new();
        let read = AtomicU64::new(0);
        let last_kept = Cell::new(Kept { when: started, bytes: 0, files: 0 });
        let last_renewed = Cell::new(started);
        for input in &self.inputs() {
            if self.interrupt.is_raised() {
                break;
            }
            let keep = |finished: Finished, tally: &Tally| {
                let mut so_far = roots.clone();
                so_far.push(root_record(input, finished));
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
            let mut finished = match self.root(session, writer, input, &mut tally, &read, keeping) {
                // Nothing of this root was there yet; those before it are whole.
                Err(Error::Interrupted) if !self.interrupt.is_immediate() && !roots.is_empty() => {
                    break;
                }
                finished => finished?,
            };
            if let Some(source) = input.recorded
                && !self.interrupt.is_raised()
            {
                source.take_sums(self.repository, writer, &mut finished)?;
            }
            roots.push(root_record(input, finished));
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
        let id = session.commit(writer, &snapshot)?;
        if !partial {
            self.repository.saw(id);
        }
        report.snapshot = Some(id);
        Ok(report)
    }

    fn root(
        &self,
        session: &Session<'_>,
        writer: &BlobWriter<'_>,
        input: &Input<'_>,
        tally: &mut Tally,
        read: &AtomicU64,
        keeping: Keeping<'_>,
    ) -> Result<Finished> {
        let chunker = self.repository.chunker()?;
        let reader = BlobReader::new(self.repository, session.index());
        let context = Context {
            source: input.source,
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
            let suits = if context.source.is_remote() { REMOTE_READERS } else { 2 };
            let readers = self.options.writer.readers(self.options.writer.threads.max(suits));
            for _ in 0..readers {
                let (jobs, done) = (job_queue.clone(), send_done.clone());
                scope.spawn(move || context.work(&jobs, &done));
            }
            drop((job_queue, send_done));
            let parents = input.parents.iter();
            let parents = parents.map(|tree| Cursor::start(scope, reader, *tree)).collect();
            let parts = Parts {
                context,
                reader,
                monitor: self.monitor,
                path: input.path,
                stream: input.stream,
                recorded: input.recorded,
                expected: self.copied.map(|copied| copied.record.sum()),
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
        // A partial one may be committed by a session of its own, which has seen nothing.
        let heads = if partial { Vec::new() } else { self.heads.clone() };
        let parent = parent.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        if let Some(copied) = self.copied {
            let pinned = copied.record.pinned && !partial;
            return Snapshot { partial, roots, parent, heads, pinned, ..copied.record.clone() };
        }
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
            parent,
            heads,
            stats: Some(tally.stats),
            unread: tally.unread,
            excludes: options.excludes.clone(),
            // What the run leaves on its way is nothing that anybody asked to keep.
            pinned: options.pinned && !partial,
            origin: None,
            plan: options.plan.clone(),
        }
    }
}

/// What a snapshot says of the directories above a root.
fn ancestors(root: &RootSource) -> Vec<Ancestor> {
    let ancestors = root.ancestors.iter().map(|(name, metadata)| {
        let entry = Entry { name: name.clone(), metadata: metadata.clone(), ..Entry::default() };
        let (entry, owner) = encode_alone(entry);
        Ancestor { entry: Some(entry), owner: Some(owner) }
    });
    ancestors.collect()
}

/// What a snapshot says of a root.
fn root_record(input: &Input<'_>, finished: Finished) -> Root {
    Root {
        path: input.path.to_vec(),
        tree: finished.tree.as_bytes().to_vec(),
        totals: finished.totals.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
        sum: Some(finished.sum),
        ancestors: input.ancestors.clone(),
    }
}
