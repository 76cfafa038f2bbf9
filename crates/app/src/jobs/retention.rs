//! Forgetting by the rules of a plan: only what the plan itself made.

use holdfast_engine::error::chain_text;
use holdfast_engine::ops::forget::{ForgetOptions, forget};
use holdfast_engine::repo::Repository;
use holdfast_engine::repo::snapshots::Filter;

use super::{Work, is_of_plan};
use crate::catalogue;
use crate::plans::Plan;
use crate::problem::Problem;
use crate::retention::{GroupBy, Question, decide};
use crate::runs::{Level, Report};
use crate::schedule::time_zone;
use crate::text::plural;
use crate::times::{local, now};

/// Forgets what the rules of `plan` let go. A group of which they keep nothing is left as it is.
pub(super) fn run(
    work: &Work<'_>,
    plan: &Plan,
    repository: &Repository,
) -> Result<Report, Problem> {
    let explain = |error| catalogue::explain(&error, Some(plan.repository_location().as_ref()));
    let (mut all, notes) = repository.snapshots_with_notes().map_err(explain)?;
    for (_, problem) in notes.unreadable() {
        work.watch.log(Level::Warning, &chain_text(problem));
    }
    all.retain(|info| is_of_plan(plan, &info.record));
    let question = Question {
        retention: &plan.keep,
        group_by: GroupBy::default(),
        filter: &Filter::default(),
        allow_empty: false,
        now: now(),
        zone: &time_zone(plan.timezone.as_deref())?,
    };
    let groups = decide(&question, &all, &|id| notes.is_unreadable(id));
    let mut report = Report::default();
    let mut snapshots = Vec::new();
    for group in &groups {
        if group.refused {
            let text = format!("the rules keep nothing of {}, which stays as it is", group.key);
            work.watch.log(Level::Warning, &text);
        }
        for decision in &group.decisions {
            match decision.stays() {
                true => report.add("snapshots_kept", 1),
                false => snapshots.push(decision.snapshot.id),
            }
        }
    }
    let mut forgotten = 0;
    let options = ForgetOptions { snapshots, force: false };
    let result = forget(repository, &options, work.interrupt, &mut |info| {
        forgotten += 1;
        let text = format!("forgot {} of {}", info.id.short(), local(info.record.time));
        work.watch.log(Level::Info, &text);
        Ok(())
    });
    report.add("snapshots_forgotten", forgotten);
    if forgotten > 0 {
        let text = format!("{} forgotten by rules", plural(forgotten, "snapshot", "snapshots"));
        work.watch.log(Level::Info, &text);
    }
    result.map(|()| report).map_err(explain)
}
