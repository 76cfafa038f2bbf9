//! Forgetting snapshots that were named one by one.

use holdfast_engine::hash::SnapshotId;
use holdfast_engine::ops::forget::{ForgetOptions, forget};

use super::{Limits, Target, Work};
use crate::catalogue;
use crate::problem::Problem;
use crate::runs::{Level, Report};
use crate::times::local;

/// Snapshots to forget. Pinned ones are refused.
#[derive(Debug, Clone)]
pub struct Forget {
    /// The repository.
    pub from: Target,
    /// Which.
    pub snapshots: Vec<SnapshotId>,
}

/// Forgets them.
pub fn run(work: &Work<'_>, options: &Forget) -> Result<Report, Problem> {
    let repository = options.from.open(work, Limits::default())?;
    let mut report = Report::default();
    let chosen = ForgetOptions { snapshots: options.snapshots.clone(), force: false };
    let result = forget(&repository, &chosen, work.interrupt, &mut |info| {
        report.add("snapshots_forgotten", 1);
        let text = format!("forgot {} of {}", info.id.short(), local(info.record.time));
        work.watch.log(Level::Info, &text);
        Ok(())
    });
    result.map_err(|e| catalogue::explain(&e, Some(options.from.location.as_ref())))?;
    Ok(report)
}
