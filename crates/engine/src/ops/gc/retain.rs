//! Where what is stored cannot be deleted for some time, that time is extended for all that is still
//! needed: a lock that runs out protects nobody. What is condemned is left to run out.

use crate::Result;
use crate::hash::ObjectId;
use crate::repo::condemned::{packs_of, segments_of};
use crate::storage::{Folder, ObjectInfo, ObjectName};

use super::{GcReport, Run};

/// What is needed for as long as it is there; sessions, fences and lists of gc are not.
const FOLDERS: [Folder; 7] = [
    Folder::Keys,
    Folder::Packs,
    Folder::Index,
    Folder::Snapshots,
    Folder::Notes,
    Folder::Parity,
    Folder::Settings,
];

/// Objects that one call is about, so that an interruption is heeded.
const AT_ONCE: usize = 1000;

impl Run<'_> {
    /// Extends the retention of all that is there and not condemned.
    pub(super) fn extend_retention(&self, report: &mut GcReport) -> Result<()> {
        let storage = self.repository.storage();
        let config = storage.stat(&ObjectName::config())?;
        let Some(mut extended) = storage.extend_retention(&[config])? else { return Ok(()) };
        let records = self.repository.condemned()?;
        let (packs, segments) = (packs_of(&records), segments_of(&records));
        drop(records);
        let goes = |folder: Folder, info: &ObjectInfo| {
            let condemned = match folder {
                Folder::Packs | Folder::Parity => &packs,
                Folder::Index => &segments,
                _ => return false,
            };
            ObjectId::from_hex(info.name.base()).is_ok_and(|id| condemned.contains(&id))
        };
        for folder in FOLDERS {
            let mut stays = Vec::new();
            storage.list(folder, &mut |info| {
                if !goes(folder, &info) {
                    stays.push(info);
                }
            })?;
            for objects in stays.chunks(AT_ONCE) {
                self.stop_if_asked()?;
                extended += storage.extend_retention(objects)?.unwrap_or(0);
            }
        }
        report.locked_again = Some(extended);
        Ok(())
    }
}
