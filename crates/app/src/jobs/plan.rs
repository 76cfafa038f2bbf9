//! A run of a plan: its hooks, its backup, tried again after what may pass, and what follows: rules,
//! gc, check and copies. What follows is done even if a part of it fails: the backup is there by then,
//! and the run says what is not.

use std::sync::Arc;

use super::backup::{self, Backup, Done};
use super::{Limits, Work, check, gc, hooks, mirror, network, pause, retention};
use crate::ask::Nobody;
use crate::config::Config;
use crate::plans::{Follows, Plan};
use crate::problem::{Class, Problem};
use crate::runs::{Level, ProblemRecord, Report};
use crate::text::duration;

/// Runs the plan of this name, as the configuration says now.
pub fn run(work: &Work<'_>, name: &str) -> Result<Report, Problem> {
    let config = work.paths.load_config()?;
    let plan = config.plan(name)?;
    hooks::allow(&plan, &config)?;
    reach(work, &plan, &config, &plan.sources)?;
    let mut facts = vec![("HOLDFAST_PLAN", plan.name.clone())];
    if !plan.hooks.before.is_empty() {
        work.watch.step("before");
    }
    let before = hooks::run(work, &plan.hooks, &plan.hooks.before, &facts, true);
    let mut result = before.and_then(|()| main(work, &plan));
    let (outcome, commands) = match &result {
        _ if work.interrupt.is_raised() => ("cancelled", None),
        Ok(report) if report.problem.is_none() => ("success", Some(&plan.hooks.success)),
        _ => ("failure", Some(&plan.hooks.failure)),
    };
    let report = result.as_ref().ok();
    facts.push(("HOLDFAST_OUTCOME", outcome.into()));
    let snapshots = report.map(|report| report.snapshots.join(" ")).unwrap_or_default();
    facts.push(("HOLDFAST_SNAPSHOTS", snapshots));
    let last = [commands, Some(&plan.hooks.after)];
    for commands in last.into_iter().flatten().filter(|commands| !commands.is_empty()) {
        work.watch.step("after");
        // What was stopped before the run must be started again even after a cancelled one.
        let after = hooks::run(work, &plan.hooks, commands, &facts, false);
        note(work, &mut result, "after", after.map(|()| Report::default()));
    }
    result
}

/// The backup, and what follows it.
fn main(work: &Work<'_>, plan: &Plan) -> Result<Report, Problem> {
    work.watch.step("backup");
    let (options, mut done) = (backup_of(plan), Done::default());
    // Of what failed it takes back itself what it counted: places that are done stay counted.
    let tried = again(work, plan, || backup::attempt(work, &options, &mut done), || ());
    let mut result = Ok(done.end(work, tried)?);
    if work.interrupt.is_raised() {
        return result;
    }
    let steps = steps(plan);
    if steps.is_empty() {
        return result;
    }
    let at = plan.repository_location();
    let access = work.paths.access(Arc::new(Nobody));
    let place = Limits::of(plan).place(work.paths, &at)?;
    let repository = retried(work, plan, || work.paths.open_repository(&place, &access));
    let repository = match repository {
        Ok(repository) => repository,
        Err(problem) => {
            note(work, &mut result, "opening the repository again", Err(problem));
            return result;
        }
    };
    for step in steps {
        if work.interrupt.is_raised() {
            break;
        }
        work.watch.step(step.name());
        let done = retried(work, plan, || match &step {
            Step::Retention => retention::run(work, plan, &repository),
            Step::Gc => gc::collect(work, &repository, &at),
            Step::Check(data) => check::look(work, &repository, &at, *data),
            Step::Mirror(to) => mirror::run(work, plan, &repository, to),
        });
        note(work, &mut result, step.name(), done);
    }
    result
}

enum Step {
    Retention,
    Gc,
    Check(u8),
    Mirror(String),
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Gc => "gc",
            Self::Check(_) => "check",
            Self::Mirror(_) => "mirror",
        }
    }
}

/// What follows the backup, in order: copies come before the check, which may take long.
fn steps(plan: &Plan) -> Vec<Step> {
    let mut steps = Vec::new();
    if !plan.keep.is_empty() {
        steps.push(Step::Retention);
    }
    if plan.gc == Follows::Run {
        steps.push(Step::Gc);
    }
    steps.extend(plan.mirror_locations().into_iter().map(Step::Mirror));
    if let Some(check) = plan.check.as_ref().filter(|check| check.schedule.is_none()) {
        steps.push(Step::Check(check.data));
    }
    steps
}

/// Adds what a step did; of its problem, if none was there before.
fn note(
    work: &Work<'_>,
    result: &mut Result<Report, Problem>,
    step: &str,
    done: Result<Report, Problem>,
) {
    let mut done = done.unwrap_or_else(|problem| Report {
        problem: Some(ProblemRecord::from(&problem)),
        ..Report::default()
    });
    if let Some(problem) = &mut done.problem {
        problem.message = format!("{step}: {}", problem.message);
        let causes = problem.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
        work.watch.log(Level::Error, &format!("{}{causes}", problem.message));
    }
    if let Ok(report) = result {
        let first = report.problem.take();
        report.merge(done);
        report.problem = first.or(report.problem.take());
    }
}

/// Another part of a plan than its backup: it waits for the network, and is tried again, as that.
/// Without a plan nothing says how.
pub(super) fn part(
    work: &Work<'_>,
    name: Option<&str>,
    mut body: impl FnMut() -> Result<Report, Problem>,
) -> Result<Report, Problem> {
    let Some(name) = name else { return body() };
    let config = work.paths.load_config()?;
    let plan = config.plan(name)?;
    reach(work, &plan, &config, &[])?;
    retried(work, &plan, body)
}

/// Waits for the network, if the plan's repository or any of its `sources` is beyond it.
fn reach(work: &Work<'_>, plan: &Plan, config: &Config, sources: &[String]) -> Result<(), Problem> {
    if plan.wait_for_network.is_zero() {
        return Ok(());
    }
    let mut places = Vec::new();
    for text in sources.iter().cloned().chain([plan.repository_location()]) {
        places.push(work.paths.resolve(text.as_ref(), config)?);
    }
    network::wait(work, &places, plan.wait_for_network)
}

/// The backup that a plan asks for.
fn backup_of(plan: &Plan) -> Backup {
    let mut tags = plan.tags.clone();
    tags.push(plan.tag());
    Backup {
        plan: Some(plan.name.clone()),
        repository: plan.repository_location(),
        mirrors: plan.mirror_locations(),
        places: plan.sources.clone(),
        exclude: plan.exclude.clone(),
        exclude_larger_than: plan.exclude_larger_than,
        exclude_caches: plan.exclude_caches,
        one_file_system: plan.one_file_system,
        tags,
        limits: Limits::of(plan),
    }
}

/// Tries again what failed; what could not be saved then counts no more.
fn retried<T>(
    work: &Work<'_>,
    plan: &Plan,
    body: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    let before = work.watch.failures();
    again(work, plan, body, || work.watch.forget_since(before.clone()))
}

/// Tries until it is done, until it fails for a reason that will not pass, or as often as the plan
/// says; before each further time it has `clean` take back what the last one left.
fn again<T>(
    work: &Work<'_>,
    plan: &Plan,
    mut body: impl FnMut() -> Result<T, Problem>,
    clean: impl Fn(),
) -> Result<T, Problem> {
    let mut tries = 0;
    loop {
        let problem = match body() {
            Err(problem) if may_pass(problem.class) && !work.interrupt.is_raised() => problem,
            result => return result,
        };
        let Some(wait) = plan.retry.wait(tries) else { return Err(problem) };
        tries += 1;
        let of = plan.retry.times;
        let text = format!("{problem}; trying again in {}, {tries} of {of}", duration(wait));
        work.watch.log(Level::Warning, &text);
        if !pause(work, wait) {
            return Err(problem);
        }
        clean();
    }
}

/// Whether what failed may be well by itself after a while.
pub(super) fn may_pass(class: Class) -> bool {
    matches!(
        class,
        Class::Busy
            | Class::Io
            | Class::Unreachable
            | Class::NameNotFound
            | Class::Refused
            | Class::Timeout
            | Class::SlowDown
            | Class::Fenced
    )
}
