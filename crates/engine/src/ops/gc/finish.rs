//! The second pass: everybody who may rely on what was condemned has come to an end. Marks again,
//! copies out what turned out to be needed, and deletes. A condemned pack never comes back.

use std::collections::BTreeSet;

use crate::Result;
use crate::hash::{ObjectId, RecordId};
use crate::monitor::Phase;
use crate::repo::Index;
use crate::repo::session::packs_of;
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
        let inventory = Index::inventory(self.repository)?;
        let condemned = packs_of(&records);
        let mut marks = Marks::new(&inventory, &condemned)?;
        if !marks.take_over(before)? {
            marks = Marks::new(&inventory, &condemned)?;
        }
        self.mark(&marks, &inventory, &visible, &fenced)?;
        let unsaved = self.save(&inventory, &marks, report)?;
        drop(marks);
        self.stop_if_asked()?;

        // A record that another gc has finished is gone with its packs. One first seen now is not
        // ours to finish: nobody has waited for those who were open then.
        let is_unsaved =
            |id: &Vec<u8>| ObjectId::from_slice(id).is_some_and(|id| unsaved.contains(&id));
        records.retain(|id, record| finish.contains(id) && !record.packs.iter().any(is_unsaved));
        let go: Vec<(ObjectId, u64)> = packs_of(&records)
            .into_iter()
            .filter_map(|id| Some((id, inventory.packs.size(&id)?)))
            .collect();
        let ids: BTreeSet<ObjectId> = go.iter().map(|(id, _)| *id).collect();
        let named = records.values().flat_map(|record| &record.segments);
        let segments: Vec<ObjectId> = named
            .filter_map(|id| ObjectId::from_slice(id))
            .filter(|id| inventory.superseded.contains(id))
            .collect();
        self.monitor.phase(Phase::Deleting);
        let mut refused = BTreeSet::new();
        let index_first = match merge::supersede(self, &inventory, &ids, report) {
            // No room for a new index. Entries of packs that are gone harm nobody, and deleting
            // the packs makes room.
            Err(error) if is_full(&error) => false,
            other => other.map(|()| true)?,
        };
        if index_first {
            self.delete_segments(&segments, &mut refused, report)?;
        }
        let parity = self.parity()?;
        let row = |id: &ObjectId| {
            let parity = parity.contains(id).then(|| ObjectName::parity(*id));
            [ObjectName::pack(*id)].into_iter().chain(parity).collect()
        };
        let kept = self.delete(go.iter().map(|(id, _)| row(id)).collect(), report)?;
        for (id, size) in &go {
            if !kept.contains(&ObjectName::pack(*id)) {
                report.deleted.add(*size);
            }
        }
        refused.extend(kept);
        if !index_first {
            merge::supersede(self, &inventory, &ids, report)?;
            self.delete_segments(&segments, &mut refused, report)?;
        }
        let done = records.iter().filter(|(_, record)| {
            let packs = record.packs.iter().filter_map(|id| ObjectId::from_slice(id));
            let segments = record.segments.iter().filter_map(|id| ObjectId::from_slice(id));
            let mut names = packs.map(ObjectName::pack).chain(segments.map(ObjectName::index));
            !names.any(|name| refused.contains(&name))
        });
        let done = done.map(|(id, _)| vec![ObjectName::condemned(*id)]).collect();
        self.delete(done, report).map(drop)
    }

    fn delete_segments(
        &self,
        segments: &[ObjectId],
        refused: &mut BTreeSet<ObjectName>,
        report: &mut GcReport,
    ) -> Result<()> {
        let rows = segments.iter().map(|id| vec![ObjectName::index(*id)]).collect();
        let kept = self.delete(rows, report)?;
        report.segments_deleted += segments.len().saturating_sub(kept.len()) as u64;
        refused.extend(kept);
        Ok(())
    }
}
