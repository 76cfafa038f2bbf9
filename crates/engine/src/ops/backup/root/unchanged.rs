//! When a file is taken as unchanged: nothing that a write to it would change has changed, and all
//! that the parent's entry refers to is still stored.

use crate::meta::{Kind, Metadata};
use crate::source::SourceEntry;
use crate::tree::chunks::{self, Part};
use crate::tree::{Content, Entry};
use crate::{Error, Result};

use super::super::parent::ParentTree;
use super::RootRun;

impl RootRun<'_> {
    /// The entry of this key in the best parent that has one. Keys rise from call to call.
    pub(super) fn before(&mut self, parent: &[u8], name: &[u8]) -> Option<(Entry, ParentTree)> {
        let monitor = self.parts.monitor;
        let mut problem =
            |e: &Error| monitor.problem("parent snapshot", &crate::error::chain_text(e));
        self.parts.parents.iter_mut().find_map(|cursor| {
            let hit = cursor.find((parent, name), &mut problem)?;
            Some((hit.entry, cursor.tree))
        })
    }

    /// Whether what the parent's entry refers to can still be referred to.
    pub(super) fn is_stored(&mut self, old: &Entry) -> Result<bool> {
        let writer = self.parts.context.writer;
        if old.xattrs_blob.is_some_and(|id| !writer.is_stored(&id)) {
            return Ok(false);
        }
        Ok(match &old.content {
            Content::None | Content::Inline(_) => true,
            Content::Member { bundle, .. } => match self.checked_bundle {
                Some((checked, stored)) if checked == *bundle => stored,
                _ => {
                    let stored = writer.is_stored(bundle);
                    self.checked_bundle = Some((*bundle, stored));
                    stored
                }
            },
            Content::Chunks(chunks) => chunks.iter().all(|chunk| writer.is_stored(&chunk.id)),
            content @ Content::List(_) => {
                let mut all = true;
                let read = chunks::visit(self.parts.reader, content, &mut |part| {
                    all &= match part {
                        Part::Node(id) => writer.is_stored(&id),
                        Part::Chunk(chunk) => writer.is_stored(&chunk.id),
                    };
                    Ok(())
                });
                read.is_ok() && all
            }
        })
    }
}

/// How long before the run that read it a file must have been written, where there is no ctime: the
/// coarsest times that file systems keep are two seconds apart, and the clock that made them, on
/// another machine, may not agree to the last with ours.
const SETTLED: i64 = 3_000_000_000;

/// Whether a file needs no reading: nothing that a write to it would change has changed. `read_at`
/// is when the run began that found it as `old`, in nanoseconds since the epoch.
pub(super) fn is_unchanged(old: &Entry, found: &SourceEntry, read_at: i64) -> bool {
    let (a, b) = (&old.metadata, &found.metadata);
    a.kind == b.kind
        && a.size == b.size
        && a.mtime == b.mtime
        && a.ctime == b.ctime
        && a.inode == b.inode
        && a.mode == b.mode
        && a.device == b.device
        && old.error.is_empty()
        && (a.ctime.is_some() || is_settled(old, found, read_at))
}

/// Without a ctime, size and mtime have to tell. Where times are whole seconds, a file that is
/// written again in the second in which it was read looks as it did; so one that was written
/// shortly before that run, or during it, is read once more. (Directories are not read.) And a
/// file put in another's place may well have its size and time, but hardly another owner.
fn is_settled(old: &Entry, found: &SourceEntry, read_at: i64) -> bool {
    let (a, b) = (&old.metadata, &found.metadata);
    let owner = |metadata: &Metadata| (metadata.owner.uid, metadata.owner.gid);
    let is_old = a.mtime.total_nanos() < read_at.saturating_sub(SETTLED);
    owner(a) == owner(b) && (is_old || a.kind == Kind::Directory)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::meta::{Owner, Time};

    fn found(seconds: i64, nanos: u32) -> SourceEntry {
        let metadata = Metadata { mtime: Time { seconds, nanos }, size: 7, ..Metadata::default() };
        SourceEntry { name: Vec::new(), metadata, device: 0, sparse: false }
    }

    fn stored(entry: &SourceEntry) -> Entry {
        Entry { metadata: entry.metadata.clone(), ..Entry::default() }
    }

    #[test]
    fn without_ctime_only_what_is_older_than_the_run_is_settled() {
        let read_at = 1_000_500_000_000;
        for (seconds, nanos, expected) in [
            (0, 0, true),
            (997, 0, true),
            (997, 499_999_999, true),
            (997, 500_000_000, false),
            (1000, 0, false),
            (2000, 0, false),
        ] {
            let mut now = found(seconds, nanos);
            let old = stored(&now);
            assert_eq!(is_unchanged(&old, &now, read_at), expected, "{seconds}.{nanos}");
            now.metadata.ctime = Some(Time { seconds, nanos });
            assert!(!is_unchanged(&old, &now, read_at));
            assert!(is_unchanged(&stored(&now), &now, read_at), "its ctime tells");
            now.metadata = Metadata { kind: Kind::Directory, ctime: None, ..now.metadata };
            assert!(is_unchanged(&stored(&now), &now, read_at), "nothing to read");
        }
    }

    #[test]
    fn without_ctime_another_owner_is_a_change() {
        let old = found(5, 0);
        let mut now = old.clone();
        now.metadata.owner = Arc::new(Owner { user: "name".into(), ..Owner::default() });
        assert!(is_unchanged(&stored(&old), &now, i64::MAX), "names come and go");
        now.metadata.owner = Arc::new(Owner { gid: 1, ..Owner::default() });
        assert!(!is_unchanged(&stored(&old), &now, i64::MAX));
        now.metadata = Metadata { mtime: Time::default(), ..old.metadata.clone() };
        assert!(!is_unchanged(&stored(&old), &now, i64::MAX));
    }
}
