//! Packs that no segment lists. They matter only when something is missing: then their
//! directories are read, and if one holds what is missing, the loss is that of an index segment
//! and can be undone, and the check can go on below the nodes in it.

use crate::Result;

use super::super::fault_text;
use super::Walk;

impl Walk<'_> {
    /// Adds the orphans to the index in memory, once. Whether that was done just now.
    pub(super) fn adopt_orphans(&self) -> Result<bool> {
        let mut result = Ok(false);
        // Other threads wait here until the directories are in.
        self.adopted.get_or_init(|| result = self.adopt_all().map(|()| true));
        result
    }

    fn adopt_all(&self) -> Result<()> {
        for (id, size) in self.context.orphans {
            self.context.stop_if_asked()?;
            match self.context.repository.read_directory(*id, *size) {
                Ok(pack) => self.context.index.add(&pack)?,
                // Not whole, or being written: nothing can rely on it.
                Err(error) => drop(fault_text(error)?),
            }
        }
        Ok(())
    }
}
