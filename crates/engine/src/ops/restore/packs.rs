//! Which packs a restore would read: what has to be brought back where they are archived.

use crate::Result;
use crate::hash::BlobId;
use crate::tree::{Content, Entry, chunks};

use super::state::{Run, lock};

/// Takes note of the packs that hold the content of an entry. What is in none of them, the restore
/// itself tells.
pub(super) fn list(run: &Run<'_>, entry: &Entry) -> Result<()> {
    let mut found = Vec::new();
    let mut find = |id: &BlobId| {
        let place = run.reader.index().find_any(id)?;
        match place.map(|place| place.pack) {
            Some(pack) if found.last() != Some(&pack) => found.push(pack),
            _ => {}
        }
        Ok(())
    };
    match &entry.content {
        Content::Member { bundle, .. } => find(bundle)?,
        content => chunks::for_each(run.reader, content, &mut |chunk| find(&chunk.id))?,
    }
    lock(&run.packs).extend(found);
    Ok(())
}
