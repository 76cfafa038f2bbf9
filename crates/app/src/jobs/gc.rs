//! Freeing the space that forgotten snapshots leave.

use holdfast_engine::ops::gc::{GcOptions, gc};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::session::Writer;

use super::{Limits, Target, Work, host};
use crate::catalogue;
use crate::problem::Problem;
use crate::runs::{Level, Report};
use crate::text::{plural, size};
use crate::times;

/// A gc of a repository.
#[derive(Debug, Clone, Default)]
pub struct Gc {
    /// The plan that it is of, if any.
    pub plan: Option<String>,
    /// The repository.
    pub repository: Target,
    /// How fast, where it is not open already.
    pub limits: Limits,
}

/// Opens the repository and collects.
pub fn run(work: &Work<'_>, options: &Gc) -> Result<Report, Problem> {
    let repository = options.repository.open(work, options.limits)?;
    collect(work, &repository, &options.repository.location)
}

/// Collects in a repository that is open already; `at` is its location.
pub fn collect(work: &Work<'_>, repository: &Repository, at: &str) -> Result<Report, Problem> {
    let who =
        Writer { host: host(), process: std::process::id(), verb: "gc".into(), time: times::now() };
    let options = GcOptions { who, ..GcOptions::default() };
    let done = gc(repository, &options, work.watch, work.interrupt, &mut |plan| {
        let text = format!("{} needed, about {} to free", size(plan.needed), size(plan.frees()));
        work.watch.log(Level::Info, &text);
    })
    .map_err(|e| catalogue::explain(&e, Some(at.as_ref())))?;
    for session in &done.waiting {
        let text = format!(
            "nothing was deleted: a {} on {} is at work since {}; the next gc goes on",
            session.verb,
            session.host,
            times::local(session.started)
        );
        work.watch.log(Level::Warning, &text);
    }
    if done.refused_total > 0 {
        let objects = plural(done.refused_total, "object", "objects");
        let text = format!("the storage refused to delete {objects}; a later gc tries again");
        work.watch.log(Level::Warning, &text);
    }
    let mut report = Report::default();
    let freed = done.deleted.bytes.saturating_sub(done.copied.bytes);
    report.add("packs_deleted", done.deleted.count);
    report.add("bytes_freed", freed);
    report.add("objects_refused", done.refused_total);
    let packs = plural(done.deleted.count, "pack", "packs");
    work.watch.log(Level::Info, &format!("deleted {packs}, freed {}", size(freed)));
    Ok(report)
}
