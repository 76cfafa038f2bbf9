//! The second pass: everybody who may rely on what was condemned has come to an end. Marks again,
//! copies out what turned out to be needed, and deletes. A condemned pack never comes back.

use std::collections::BTreeSet;

use crate::Result;
use crate::hash::{ObjectId, RecordId};
use crate::monitor::Phase;
use crate::repo::Index;
use crate::repo::condemned::{packs_of, segments_of};
use crate::storage::ObjectName;

use super::marks::Marks;
use super::{GcReport, Run, is_full, merge};

impl Run<'_> {
    /// Steps 7 and 8 for these records. `before` is the first mark: what that found needs not be
    /// walked again.
    pub(super) fn finish(
        &self,
        finish: &BTreeSet<RecordId>,
        before: &Marks<'_>,
        report: &mut GcReport,
    ) -> Result<()> {
        let (visible, fenced) = self.repository.all_snapshots()?;
        let mut records = self.repository.condemned()?;
        let inventory = Index::inventory(self.repository, None)?;
        let unsaved = {
            let condemned = packs_of(&records);
            let mut marks = Marks::new(&inventory.index, &condemned)?;
            if !marks.take_over(before)? {
                marks = Marks::new(&inventory.index, &condemned)?;
            }
            drop(condemned);
            self.mark(&marks, &inventory.index, &visible, &fenced)?;
            self.save(&inventory, &marks, report)?
        };
        self.stop_if_asked()?;

        // A record that another gc has finished is gone with its packs. One first seen now is not
        // ours to finish: nobody has waited for those who were open then.
        records.retain(|id, record| {
            finish.contains(id) && !record.packs.iter().any(|id| unsaved.contains(id))
        });
        let mut go = packs_of(&records);
        go.retain(|id| inventory.packs.size(id).is_some());
        let mut segments = segments_of(&records);
        segments.retain(|id| inventory.superseded.contains(id));
        self.monitor.phase(Phase::Deleting);
        let mut refused = BTreeSet::new();
        let index_first = match merge::supersede(self, &inventory, &go, report) {
            // No room for a new index. Entries of packs that are gone harm nobody, and deleting
            // the packs makes room.
            Err(error) if is_full(&error) => false,
            other => other.map(|()| true)?,
        };
        if index_first {
            refused.extend(self.delete_segments(&segments, report)?);
        }
        let parity = self.parity()?;
        let row = |id: &ObjectId| {
            let parity = parity.contains(id).then(|| ObjectName::parity(*id));
            (*id, [ObjectName::pack(*id)].into_iter().chain(parity).collect())
        };
        let kept = self.delete(go.iter().map(row), report)?;
        for id in go.iter().filter(|id| !kept.contains(id)) {
            report.deleted.add(inventory.packs.size(id).unwrap_or(0));
        }
        refused.extend(kept);
        if !index_first {
            merge::supersede(self, &inventory, &go, report)?;
            refused.extend(self.delete_segments(&segments, report)?);
        }
        let done = records.iter().filter(|(_, record)| {
            !record.packs.iter().chain(&record.segments).any(|id| refused.contains(id))
        });
        let done = done.map(|(id, _)| (*id, vec![ObjectName::condemned(*id)]));
        self.delete(done, report).map(drop)
    }

    /// Those that were refused.
    fn delete_segments(
        &self,
        segments: &BTreeSet<ObjectId>,
        report: &mut GcReport,
    ) -> Result<BTreeSet<ObjectId>> {
        let rows = segments.iter().map(|id| (*id, vec![ObjectName::index(*id)]));
        let kept = self.delete(rows, report)?;
        report.segments_deleted += segments.len().saturating_sub(kept.len()) as u64;
        Ok(kept)
    }
}
