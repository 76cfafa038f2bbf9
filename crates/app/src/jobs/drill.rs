//! A restore drill: a sample of the newest snapshot of a plan is restored to a scratch directory,
//! and what lies there then is compared with what the snapshot says, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use holdfast_connectors::local::destination::{LocalDestination, LocalDestinationOptions};
use holdfast_engine::error::chain_text;
use holdfast_engine::meta::Kind;
use holdfast_engine::ops::restore::{Choice, Overwrite, RestoreOptions, RestoreReport, restore};
use holdfast_engine::repo::snapshots::SnapshotInfo;
use holdfast_engine::repo::{BlobReader, Index, Repository};
use holdfast_engine::tree::view;

use super::{Limits, Work, is_of_plan};
use crate::ask::Nobody;
use crate::catalogue;
use crate::plans::{Drill, Plan};
use crate::problem::{Class, Problem};
use crate::random;
use crate::runs::{Level, ProblemRecord, Report};
use crate::text::{plural, printable, shell_word, size};

/// Scratch directories of drills that were killed are removed after this time.
const LEFT_OVER: Duration = Duration::from_secs(24 * 3600);

/// A file of the sample.
struct Chosen {
    path: Vec<u8>,
    bytes: u64,
}

/// Runs the drill of a plan; one that says nothing of drills has one of the usual size.
pub fn run(work: &Work<'_>, name: &str) -> Result<Report, Problem> {
    let plan = work.paths.load_config()?.plan(name)?;
    let (files, bytes) =
        plan.drill.as_ref().map_or(Drill::USUAL, |drill| (drill.files, drill.bytes));
    let at = plan.repository_location();
    let access = work.paths.access(Arc::new(Nobody));
    let place = Limits::of(&plan).place(work.paths, &at)?;
    let repository = work.paths.open_repository(&place, &access)?;
    let explain = |error| catalogue::explain(&error, Some(at.as_ref()));
    let snapshot = newest(&repository, &plan, dice()?).map_err(explain)?;
    let snapshot = snapshot.ok_or_else(|| no_snapshot(&plan))?;
    let (index, problems) = Index::load_readable(&repository).map_err(explain)?;
    for problem in problems {
        work.watch.log(Level::Warning, &chain_text(&problem));
    }
    let reader = BlobReader::new(&repository, &index);
    let sample = sample(work, &reader, &snapshot, (files, bytes), dice()?).map_err(explain)?;
    if sample.is_empty() {
        let text = match snapshot.record.roots.is_empty() {
            true => format!("snapshot {} holds nothing to restore", snapshot.id.short()),
            false => {
                format!("no file of snapshot {} is small enough for a drill", snapshot.id.short())
            }
        };
        return Err(Problem::new(Class::Unsupported, text)
            .hint(format!("allow more than {}: drill = {{ bytes = \"100G\", … }}", size(bytes))));
    }
    let wanted: u64 = sample.iter().map(|chosen| chosen.bytes).sum();
    let text = format!(
        "{} of snapshot {}, {}",
        plural(sample.len() as u64, "file", "files"),
        snapshot.id.short(),
        size(wanted)
    );
    work.watch.log(Level::Info, &text);
    let scratch = scratch(&work.paths.state)?;
    let drill = Exercise { work, repository: &repository, index: &index, at: &at };
    let mut report = drill.restore(&snapshot, &sample, scratch.path())?;
    report.snapshots.push(snapshot.id.to_string());
    report.add("drill_files", sample.len() as u64);
    report.add("drill_bytes", wanted);
    scratch.close().map_err(|e| catalogue::io("remove", "the scratch directory", &e))?;
    Ok(report)
}

/// One of the newest complete snapshots of a plan, of all its origins by chance: a run makes one for
/// each, and none is to be left out for ever.
fn newest(
    repository: &Repository,
    plan: &Plan,
    dice: u64,
) -> holdfast_engine::Result<Option<SnapshotInfo>> {
    let mut newest = BTreeMap::new();
    let is_whole = |info: &SnapshotInfo| !info.record.partial && is_of_plan(plan, &info.record);
    // Oldest first.
    for info in repository.snapshots()?.into_iter().filter(is_whole) {
        newest.insert((info.record.kind.clone(), info.record.host.clone()), info);
    }
    let chosen = dice % (newest.len() as u64).max(1);
    Ok(newest.into_values().nth(usize::try_from(chosen).unwrap_or(0)))
}

/// A number by chance, not 0.
fn dice() -> Result<u64, Problem> {
    Ok(u64::from_le_bytes(random()?) | 1)
}

fn no_snapshot(plan: &Plan) -> Problem {
    let text = format!("the plan {} has no complete snapshot to restore from", plan.name);
    Problem::new(Class::NoSuchSnapshot, text)
        .hint(format!("run it first: holdfast run {}", shell_word(&plan.name)))
}

/// Where the scratch directories of drills are.
pub(super) fn scratches(state: &Path) -> PathBuf {
    state.join("drills")
}

/// Removes what drills that were killed left behind.
pub(crate) fn sweep(state: &Path) {
    for entry in std::fs::read_dir(scratches(state)).into_iter().flatten().flatten() {
        let made = entry.metadata().and_then(|metadata| metadata.modified());
        let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
        if age.is_some_and(|age| age > LEFT_OVER) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A fresh directory that goes away when it is dropped.
fn scratch(state: &Path) -> Result<tempfile::TempDir, Problem> {
    let above = scratches(state);
    let failed = |e: std::io::Error| catalogue::io("make", &above, &e);
    DirBuilder::new().recursive(true).mode(0o700).create(&above).map_err(failed)?;
    tempfile::Builder::new().prefix("drill-").tempdir_in(&above).map_err(failed)
}

/// Regular files chosen by chance (`dice` is not 0), each as likely as any other: at most so many, and
/// at most so many bytes in all.
fn sample(
    work: &Work<'_>,
    reader: &BlobReader<'_>,
    snapshot: &SnapshotInfo,
    (files, most): (u64, u64),
    mut dice: u64,
) -> holdfast_engine::Result<Vec<Chosen>> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut seen = 0_u64;
    for root in &snapshot.record.roots {
        let mut entries = view::tree(reader, root)?.entries();
        while let Some(leaf) = entries.next_leaf()? {
            if work.interrupt.is_raised() {
                return Err(holdfast_engine::Error::Interrupted);
            }
            for found in leaf {
                let entry = &found.entry;
                let is_whole = entry.error.is_empty() && entry.hard_link.is_empty();
                if entry.metadata.kind != Kind::File || !is_whole || entry.metadata.size > most {
                    continue;
                }
                seen += 1;
                let path = view::absolute(&root.path, &found.parent, &entry.name);
                let found = Chosen { path, bytes: entry.metadata.size };
                if (chosen.len() as u64) < files {
                    chosen.push(found);
                    continue;
                }
                // The nth file takes the place of another with the chance files/n.
                dice = roll(dice);
                let place = usize::try_from(dice % seen).ok();
                if let Some(place) = place.and_then(|place| chosen.get_mut(place)) {
                    *place = found;
                }
            }
        }
    }
    let mut left = most;
    chosen.retain(|found| match left.checked_sub(found.bytes) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    });
    Ok(chosen)
}

/// The next number of an xorshift: chance enough for a sample.
fn roll(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}

struct Exercise<'a> {
    work: &'a Work<'a>,
    repository: &'a Repository,
    index: &'a Index,
    at: &'a str,
}

impl Exercise<'_> {
    /// Restores the sample, then reads what was restored and compares it.
    fn restore(
        &self,
        snapshot: &SnapshotInfo,
        sample: &[Chosen],
        scratch: &Path,
    ) -> Result<Report, Problem> {
        let wanted: Arc<BTreeSet<Vec<u8>>> =
            Arc::new(sample.iter().map(|chosen| chosen.path.clone()).collect());
        let mut options = RestoreOptions::new(snapshot.clone());
        options.filter = Some(Arc::new(move |path, is_directory| match is_directory {
            _ if wanted.contains(path) => Choice::Take,
            true if is_on_the_way(&wanted, path) => Choice::Enter,
            _ => Choice::Skip,
        }));
        self.work.watch.step("restore");
        let restored = self.once(&options, scratch)?;
        self.work.watch.step("compare");
        options.dry_run = true;
        options.verify = true;
        options.overwrite = Overwrite::IfChanged;
        let compared = self.once(&options, scratch)?;
        let mut report = Report::default();
        report.add("drill_failures", restored.failures);
        let differing = compared.created + compared.replaced;
        report.add("drill_differing", differing);
        for (path, reason) in restored.failed.iter().chain(&compared.failed) {
            self.work.watch.log(Level::Error, &format!("{}: {reason}", printable(path)));
        }
        let same = compared.unchanged;
        if same == sample.len() as u64 && restored.failures == 0 && compared.failures == 0 {
            let files = plural(same, "file is", "files are");
            self.work.watch.log(Level::Info, &format!("{files} as the snapshot says"));
            return Ok(report);
        }
        let at = shell_word(self.at);
        let text = format!("{same} of {} files came back as they should", sample.len());
        let problem = Problem::new(Class::Damage, text)
            .hint("the log of the run names the files")
            .hint(format!("to see how far it goes: holdfast at {at} check --read-data"));
        report.problem = Some(ProblemRecord::from(&problem));
        Ok(report)
    }

    fn once(&self, options: &RestoreOptions, to: &Path) -> Result<RestoreReport, Problem> {
        let destination =
            LocalDestination::new(to.to_path_buf(), LocalDestinationOptions::default());
        let (watch, interrupt) = (self.work.watch, self.work.interrupt);
        restore(self.repository, self.index, options, &destination, watch, interrupt)
            .map_err(|e| catalogue::explain(&e, Some(self.at.as_ref())))
    }
}

/// Whether something wanted lies below this directory.
fn is_on_the_way(wanted: &BTreeSet<Vec<u8>>, directory: &[u8]) -> bool {
    let mut start = directory.strip_suffix(b"/").unwrap_or(directory).to_vec();
    start.push(b'/');
    wanted.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
}
