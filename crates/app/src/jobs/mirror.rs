//! Copying the snapshots of a plan to a second repository.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_engine::error::chain_text;
use holdfast_engine::ops::sync::{Sync, SyncOptions};
use holdfast_engine::repo::writer::WriterOptions;
use holdfast_engine::repo::{Index, Repository};

use super::backup::PARTIAL_EVERY;
use super::{Limits, Work, host, is_of_plan};
use crate::ask::Nobody;
use crate::catalogue;
use crate::plans::Plan;
use crate::problem::{Class, Problem};
use crate::runs::{Level, ProblemRecord, Report};
use crate::text::size;
use crate::times;

/// Copies what the repository at `to` lacks of the snapshots of `plan` in `from`.
pub(super) fn run(
    work: &Work<'_>,
    plan: &Plan,
    from: &Repository,
    to: &str,
) -> Result<Report, Problem> {
    let source = plan.repository_location();
    let of_source = |error| catalogue::explain(&error, Some(source.as_ref()));
    let of_target = |error| catalogue::explain(&error, Some(to.as_ref()));
    let access = work.paths.access(Arc::new(Nobody));
    let place = Limits::of(plan).place(work.paths, to)?;
    let target = work.paths.open_repository(&place, &access)?;
    let mut sync = Sync::between(from, &target).map_err(of_target)?;
    for (location, problem) in sync.problems() {
        work.watch.log(Level::Warning, &format!("{location}: {problem}"));
    }
    let of_plan = sync.candidates().iter().filter(|info| is_of_plan(plan, &info.record));
    let chosen: BTreeSet<_> = of_plan.map(|info| info.id).collect();
    let missing = sync.missing(&chosen);
    let mut report = Report::default();
    if missing.is_empty() {
        return Ok(report);
    }
    let (index, problems) = Index::load_readable(from).map_err(of_source)?;
    for problem in problems {
        work.watch.log(Level::Warning, &chain_text(&problem));
    }
    let options = SyncOptions {
        host: host(),
        process: std::process::id(),
        time: times::now(),
        partial_every: Some(PARTIAL_EVERY),
        renew_every: Some(PARTIAL_EVERY),
        writer: WriterOptions::default(),
    };
    let done = sync
        .run(&index, &missing, &options, work.watch, work.interrupt, &mut |info, copy| {
            let stored = size(copy.stats.bytes_stored);
            let text = format!("{} copied to {to}: {stored} stored", info.id.short());
            work.watch.log(Level::Info, &text);
        })
        .map_err(of_target)?;
    for copy in &done.copied {
        report.add("snapshots_copied", u64::from(!copy.report.partial));
        report.add("bytes_copied", copy.report.stats.bytes_stored);
    }
    for failed in &done.failed {
        let text = format!("{} not copied: {}", failed.from.short(), failed.reason);
        work.watch.log(Level::Error, &text);
    }
    if let Some(failed) = done.failed.first() {
        let text = format!("{} could not be copied to {to}", failed.from.short());
        let problem = Problem::new(Class::Damage, text).cause(&failed.reason);
        report.problem = Some(ProblemRecord::from(&problem));
    }
    Ok(report)
}
