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

/// Rows that are held at once: of a million packs the names alone would take much memory.
const AT_ONCE: usize = 1 << 14;

impl Run<'_> {
    /// Deletes rows of objects, each row in its order; the rest of a row stays if one of it is
    /// refused. The keys of the rows of which something was refused.
    pub(super) fn delete<K: Ord + Send>(
        &self,
        rows: impl IntoIterator<Item = (K, Vec<ObjectName>)>,
        report: &mut GcReport,
    ) -> Result<BTreeSet<K>> {
        let refused = Mutex::new((BTreeSet::new(), Vec::new()));
        let named = REFUSED_NAMED.saturating_sub(report.refused.len());
        let mut rows = rows.into_iter();
        loop {
            let some: Vec<_> = rows.by_ref().take(AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            work_off(self.threads.min(some.len()), some, |(key, row), _| {
                for name in row {
                    // Asked to stop, what is left is left to the next run.
                    self.stop_if_asked()?;
                    match self.repository.storage().delete(&name) {
                        Ok(()) => {}
                        Err(e) if e.is_not_found() => {}
                        Err(e) if e.kind == StorageErrorKind::PermissionDenied => {
                            let mut refused =
                                refused.lock().unwrap_or_else(PoisonError::into_inner);
                            refused.0.insert(key);
                            if refused.1.len() < named {
                                refused.1.push(name.to_string());
                            }
                            break;
                        }
                        Err(e) => return Err(Error::from(e)),
                    }
                }
                Ok(())
            })?;
        }
        let (keys, mut names) = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        names.sort_unstable();
        report.refused_total += keys.len() as u64;
        report.refused.append(&mut names);
        Ok(keys)
    }
}
