//! A run of a plan: its backup, tried again after what may pass, and what follows it.

use std::time::{Duration, Instant};

use super::Work;
use super::backup::{self, Backup};
use crate::plans::Plan;
use crate::problem::{Class, Problem};
use crate::runs::{Level, Report};
use crate::text::duration;

/// How often a wait looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the plan of this name, as the configuration says now.
pub fn run(work: &Work<'_>, name: &str) -> Result<Report, Problem> {
    let plan = work.paths.load_config()?.plan(name)?;
    work.watch.step("backup");
    retried(work, &plan, || backup::run(work, &backup_of(&plan)))
}

/// The backup that a plan asks for.
pub fn backup_of(plan: &Plan) -> Backup {
    let mut tags = plan.tags.clone();
    tags.push(plan.tag());
    Backup {
        repository: plan.repository_location(),
        places: plan.sources.clone(),
        exclude: plan.exclude.clone(),
        exclude_larger_than: plan.exclude_larger_than,
        exclude_caches: plan.exclude_caches,
        one_file_system: plan.one_file_system,
        tags,
        limit_upload: plan.limit_upload,
        limit_download: plan.limit_download,
    }
}

/// Tries until it is done, until it fails for a reason that will not pass, or as often as the plan
/// says.
fn retried<T>(
    work: &Work<'_>,
    plan: &Plan,
    mut body: impl FnMut() -> Result<T, Problem>,
) -> Result<T, Problem> {
    for tries in 0.. {
        let problem = match body() {
            Err(problem) if may_pass(problem.class) && !work.interrupt.is_raised() => problem,
            result => return result,
        };
        let Some(wait) = plan.retry.wait(tries) else { return Err(problem) };
        let text = format!(
            "{problem}; trying again in {}, {} of {}",
            duration(wait),
            tries + 1,
            plan.retry.times
        );
        work.watch.log(Level::Warning, &text);
        if !pause(work, wait) {
            return Err(problem);
        }
    }
    Err(Problem::new(Class::Internal, "the plan was tried too often"))
}

/// Waits; `false` if the run is to end.
fn pause(work: &Work<'_>, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    while !work.interrupt.is_raised() {
        let Some(left) = until.checked_duration_since(Instant::now()) else { return true };
        std::thread::sleep(left.min(LOOK));
    }
    false
}

/// Whether what failed may be well by itself after a while.
fn may_pass(class: Class) -> bool {
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
