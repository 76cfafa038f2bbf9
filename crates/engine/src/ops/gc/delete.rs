//! Deleting, several objects at once. What is gone already is as good; what the storage refuses
//! to delete, because it is locked or the right is missing, is put off and told, never a failure.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use crate::storage::{ObjectName, StorageErrorKind};
use crate::tree::work::work_off;
use crate::{Error, Result};

use super::{GcReport, Run};

/// Refused objects that a report names.
const REFUSED_NAMED: usize = 100;

impl Run<'_> {
    /// Deletes rows of objects, each row in its order; the rest of a row stays if one of it is
    /// refused. The objects that were refused.
    pub(super) fn delete(
        &self,
        rows: Vec<Vec<ObjectName>>,
        report: &mut GcReport,
    ) -> Result<BTreeSet<ObjectName>> {
        let refused = Mutex::new(BTreeSet::new());
        let threads = self.threads.min(rows.len());
        work_off(threads, rows, |row, _| {
            for name in row {
                // Asked to stop, what is left is left to the next run.
                self.stop_if_asked()?;
                match self.repository.storage().delete(&name) {
                    Ok(()) => {}
                    Err(e) if e.is_not_found() => {}
                    Err(e) if e.kind == StorageErrorKind::PermissionDenied => {
                        refused.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
                        break;
                    }
                    Err(e) => return Err(Error::from(e)),
                }
            }
            Ok(())
        })?;
        let refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.refused_total += refused.len() as u64;
        let named = REFUSED_NAMED.saturating_sub(report.refused.len());
        report.refused.extend(refused.iter().take(named).map(ToString::to_string));
        Ok(refused)
    }
}
