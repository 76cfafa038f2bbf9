//! `forget`: removes snapshots, one after the other. Which ones a rule lets go is not decided here:
//! that needs a calendar (`app::retention`). What would become free is in [`freed`].

use crate::format::config::Config;
use crate::format::snapshot::Snapshot;
use crate::hash::SnapshotId;
use crate::monitor::Interrupt;
use crate::repo::Repository;
use crate::repo::notes::Notes;
use crate::repo::snapshots::SnapshotInfo;
use crate::{Error, Result};

mod freed;

pub use freed::{Freed, freed};

/// What to forget.
#[derive(Debug, Clone, Default)]
pub struct ForgetOptions {
    /// The snapshots. Those that are gone already are as good as forgotten.
    pub snapshots: Vec<SnapshotId>,
    /// Also those that are pinned, or may be, since a note of theirs cannot be read.
    pub force: bool,
}

/// Why a snapshot must not go, as the end of a sentence; `None` if it may.
pub fn protection(info: &SnapshotInfo, notes: &Notes) -> Option<&'static str> {
    if notes.is_unreadable(info.id) {
        return Some("may be pinned: a note of it cannot be read");
    }
    info.record.pinned.then_some("is pinned")
}

/// Forgets snapshots, and calls `each` with every one that is gone. All are looked at before the
/// first one goes: [`Error::Kept`] means that nothing has changed. Of one that cannot be read
/// nothing is known but what was said of it later.
pub fn forget(
    repository: &Repository,
    options: &ForgetOptions,
    interrupt: &Interrupt,
    each: &mut dyn FnMut(&SnapshotInfo) -> Result<()>,
) -> Result<()> {
    if let Some(feature) = Config::unknown_feature(&repository.config().features_write) {
        let what = format!("feature {feature}");
        return Err(Error::NewerFormat { location: repository.location(), what });
    }
    // Looked at once more: somebody may have pinned one since it was chosen.
    let (snapshots, notes) = repository.snapshots_with_notes()?;
    let mut chosen: Vec<_> =
        snapshots.into_iter().filter(|info| options.snapshots.contains(&info.id)).collect();
    chosen.extend(notes.lost().filter(|(id, _)| options.snapshots.contains(id)).map(|(id, _)| {
        let mut record = Snapshot::default();
        notes.apply(id, &mut record);
        SnapshotInfo { id, record }
    }));
    if !options.force {
        for info in &chosen {
            if let Some(why) = protection(info, &notes) {
                return Err(Error::Kept { snapshot: info.id, why });
            }
        }
    }
    if chosen.len() < options.snapshots.len() {
        let shut_out = repository.shut_out_snapshots()?;
        chosen.extend(shut_out.into_iter().filter(|info| options.snapshots.contains(&info.id)));
    }
    for info in &chosen {
        if interrupt.is_raised() {
            return Err(Error::Interrupted);
        }
        repository.forget(info.id, &notes)?;
        each(info)?;
    }
    Ok(())
}
