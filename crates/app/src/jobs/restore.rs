//! A restore: what was picked of a snapshot, to where it was or to another place, and a look
//! afterwards whether all of it is there.

use std::ffi::OsStr;
use std::sync::Arc;

use holdfast_connectors::local::destination::LocalDestinationOptions;
use holdfast_engine::destination::{Destination, Unset};
use holdfast_engine::error::chain_text;
use holdfast_engine::hash::SnapshotId;
use holdfast_engine::monitor::{Interrupt, Monitor, NoMonitor};
use holdfast_engine::ops::restore::{
    self as engine, Choice, Overwrite, PathFilter, RestoreOptions, RestoreReport,
};
use holdfast_engine::repo::snapshots::{SnapshotInfo, is_within};
use holdfast_engine::repo::{Index, Repository};

use super::{Limits, Target, Work};
use crate::ask::Nobody;
use crate::catalogue;
use crate::open::open_destination;
use crate::paths::Paths;
use crate::problem::{Class, Problem};
use crate::runs::{Level, ProblemRecord, Report};
use crate::text::{plural, printable, size};

/// Where a restore goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The original paths.
    InPlace,
    /// A directory, or another location.
    Location(String),
}

/// A restore that asks nobody.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The repository.
    pub from: Target,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Absolute path in it: the content of a directory goes right into the place. `None` makes all
    /// paths again below it.
    pub path: Option<Vec<u8>>,
    /// Absolute paths below `path` that are wanted; all, if there are none.
    pub picks: Vec<Vec<u8>>,
    /// Where to.
    pub to: To,
    /// When to replace what is there.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not hold from directories that are restored.
    pub delete: bool,
    /// Take owners by number even where their names have other numbers.
    pub numeric_ids: bool,
    /// Read back and compare afterwards.
    pub verify: bool,
    /// Write nothing: count what would be written, and what cannot be.
    pub dry_run: bool,
}

impl Restore {
    /// What the history calls it.
    pub(super) fn verb(&self) -> &'static str {
        if self.dry_run { "preview" } else { "restore" }
    }

    fn options(&self, snapshot: &SnapshotInfo) -> Result<RestoreOptions, Problem> {
        if self.to == To::InPlace {
            check_in_place(snapshot)?;
        }
        let mut options = RestoreOptions::new(snapshot.clone());
        options.path.clone_from(&self.path);
        options.in_place = self.to == To::InPlace;
        options.overwrite = self.overwrite;
        options.delete = self.delete;
        options.dry_run = self.dry_run;
        options.filter = picks_filter(self.picks.clone());
        Ok(options)
    }

    fn destination(&self, paths: &Paths) -> Result<Box<dyn Destination>, Problem> {
        let location = match &self.to {
            To::InPlace => "/",
            To::Location(location) => location,
        };
        let place = paths.resolve(OsStr::new(location), &paths.load_config()?)?;
        let local = LocalDestinationOptions { numeric_ids: self.numeric_ids };
        open_destination(&place, local, &paths.access(Arc::new(Nobody)))
    }
}

/// Refuses a restore to the original paths where there are none on this machine.
pub fn check_in_place(snapshot: &SnapshotInfo) -> Result<(), Problem> {
    if snapshot.record.kind == "local" {
        return Ok(());
    }
    let kind = printable(snapshot.record.kind.as_bytes());
    let text = format!("a snapshot of kind {kind} has no original place on this machine");
    Err(Problem::new(Class::Unsupported, text).hint("restore it to another place"))
}

/// What takes these absolute paths and all that lies below them; everything, if there are none.
fn picks_filter(picks: Vec<Vec<u8>>) -> Option<PathFilter> {
    if picks.is_empty() {
        return None;
    }
    Some(Arc::new(move |path: &[u8], is_directory| {
        if picks.iter().any(|pick| is_within(path, pick)) {
            Choice::Take
        } else if is_directory && picks.iter().any(|pick| is_within(pick, path)) {
            Choice::Enter
        } else {
            Choice::Skip
        }
    }))
}

/// What a restore would do, of a repository that is open already.
pub fn preview(
    paths: &Paths,
    restore: &Restore,
    repository: &Repository,
    index: &Index,
    snapshot: &SnapshotInfo,
    interrupt: &Interrupt,
) -> Result<RestoreReport, Problem> {
    let options = restore.options(snapshot)?;
    let destination = restore.destination(paths)?;
    engine::preview(repository, index, &options, &*destination, &NoMonitor, interrupt)
        .map_err(|e| catalogue::explain(&e, None))
}

/// Restores.
pub fn run(work: &Work<'_>, restore: &Restore) -> Result<Report, Problem> {
    let explain = |e| catalogue::explain(&e, Some(restore.from.location.as_ref()));
    let destination = restore.destination(work.paths)?;
    let repository = restore.from.open(work, Limits::default())?;
    let ((snapshots, notes), (index, problems)) =
        repository.snapshots_and_index().map_err(explain)?;
    for (_, problem) in notes.lost() {
        work.watch.log(Level::Warning, &chain_text(problem));
    }
    let snapshot = snapshots.into_iter().find(|info| info.id == restore.snapshot);
    let snapshot = snapshot.ok_or_else(|| {
        let selector = restore.snapshot.short();
        explain(holdfast_engine::Error::NoSuchSnapshot { selector })
    })?;
    let options = restore.options(&snapshot)?;
    for problem in problems {
        work.watch.log(Level::Warning, &format!("{problem}; going on with the rest"));
    }
    work.watch.step(restore.verb());
    let go = |options: &RestoreOptions, monitor: &dyn Monitor| {
        engine::restore(&repository, &index, options, &*destination, monitor, work.interrupt)
            .map_err(explain)
    };
    let done = go(&options, work.watch)?;
    if !restore.dry_run {
        tell(work, &done, &destination.location());
    }
    let mut report = report_of(&done);
    if restore.verify && !restore.dry_run && !work.interrupt.is_raised() {
        work.watch.step("verify");
        // What the rule left as it was is none of it.
        let again = RestoreOptions { dry_run: true, verify: true, delete: false, ..options };
        let again = match again.overwrite {
            Overwrite::Always => RestoreOptions { overwrite: Overwrite::IfChanged, ..again },
            _ => again,
        };
        let found = go(&again, &Quiet(work))?;
        verified(work, &done, &found, &mut report);
    }
    Ok(report)
}

/// Tells how far it is. What cannot be read was told of by the restore itself.
#[derive(Debug)]
struct Quiet<'a>(&'a Work<'a>);

impl Monitor for Quiet<'_> {
    fn progress(&self, progress: &holdfast_engine::monitor::Progress, current: &[u8]) {
        self.0.watch.progress(progress, current);
    }
}

fn tell(work: &Work<'_>, done: &RestoreReport, target: &str) {
    let text = format!(
        "wrote {}, {} to {}",
        plural(done.files + done.others, "file", "files"),
        size(done.bytes),
        printable(target.as_bytes()),
    );
    work.watch.log(Level::Info, &text);
    let unset = unset_names(done.unset);
    if !unset.is_empty() {
        let hint = if done.unset.owner { " (owners need root)" } else { "" };
        work.watch.log(Level::Warning, &format!("could not be set: {}{hint}", unset.join(", ")));
    }
}

/// What a restore did, or would do, as the history keeps it.
pub fn report_of(done: &RestoreReport) -> Report {
    let mut report = Report::default();
    if let Some(free) = done.free_space {
        report.add("free_space", free);
    }
    for (name, number) in [
        ("files", done.files),
        ("directories", done.directories),
        ("others", done.others),
        ("bytes", done.bytes),
        ("created", done.created),
        ("replaced", done.replaced),
        ("unchanged", done.unchanged),
        ("unchanged_bytes", done.unchanged_bytes),
        ("left", done.skipped),
        ("deleted", done.deleted),
        ("errors", done.failures),
    ] {
        report.add(name, number);
    }
    report
}

/// What reading back found. What could not be restored differs by right.
fn verified(work: &Work<'_>, done: &RestoreReport, found: &RestoreReport, report: &mut Report) {
    for (path, reason) in &found.failed {
        work.watch.log(Level::Error, &format!("{}: {reason}", printable(path)));
    }
    let differ = (found.files + found.others + found.failures).saturating_sub(done.failures);
    report.add("verified", found.unchanged);
    report.add("differ", differ);
    if differ == 0 {
        let text = format!("read back and compared: {} as in the snapshot", {
            plural(found.unchanged, "file is", "files are")
        });
        return work.watch.log(Level::Info, &text);
    }
    let files = plural(differ, "file is", "files are");
    let problem = Problem::new(Class::Changed, format!("{files} not as in the snapshot"))
        .cause("they were written, read back, and differ")
        .hint("somebody may have changed them meanwhile: restore them once more")
        .hint("if they differ again, look at the disk that they are on");
    report.problem = Some(ProblemRecord::from(&problem));
}

/// Names of metadata that could not be set.
pub fn unset_names(unset: Unset) -> Vec<&'static str> {
    let parts = [
        (unset.owner, "owner"),
        (unset.mode, "permissions"),
        (unset.xattrs, "extended attributes"),
        (unset.acls, "ACLs"),
        (unset.times, "times"),
        (unset.fractions, "fractions of seconds"),
        (unset.sparse, "holes"),
    ];
    parts.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_take_what_lies_below_them_and_nothing_else() {
        assert!(picks_filter(Vec::new()).is_none());
        let filter = picks_filter(vec![b"/a/b".to_vec(), b"/a/x.txt".to_vec()]);
        let choice = |path: &[u8], dir| filter.as_ref().map(|filter| filter(path, dir));
        assert_eq!(choice(b"/a", true), Some(Choice::Enter));
        assert_eq!(choice(b"/a/b", true), Some(Choice::Take));
        assert_eq!(choice(b"/a/b/c/d", false), Some(Choice::Take));
        assert_eq!(choice(b"/a/x.txt", false), Some(Choice::Take));
        assert_eq!(choice(b"/a/bc", true), Some(Choice::Skip));
        assert_eq!(choice(b"/a/x.txt.bak", false), Some(Choice::Skip));
        assert_eq!(choice(b"/b", true), Some(Choice::Skip));
    }
}
