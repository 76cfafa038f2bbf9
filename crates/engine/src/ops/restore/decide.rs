//! What stands at a path already, weighed against the snapshot's entry and the overwrite policy.

use crate::destination::{Destination, DestinationResult};
use crate::meta::{Kind, Metadata, Time, Xattr};
use crate::tree::Entry;

use super::{Overwrite, RestoreOptions};

/// What to do with a non-directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is there.
    Create,
    /// Something is there that has to go.
    Replace,
    /// A directory is there, which has to go with all that is in it.
    ReplaceDirectory,
    /// It is there as it should be; whether its attributes are to be set right.
    Unchanged(bool),
    /// The policy is to leave what is there.
    Leave,
    /// A directory is there, and nothing was said about deleting.
    InTheWay,
}

/// Decides about a non-directory at `path`.
pub(super) fn decide(
    options: &RestoreOptions,
    destination: &dyn Destination,
    entry: &Entry,
    path: &[u8],
    existing: Option<&Metadata>,
) -> DestinationResult<Verdict> {
    let Some(existing) = existing else { return Ok(Verdict::Create) };
    if existing.kind == Kind::Directory {
        return Ok(match options.overwrite {
            Overwrite::Never => Verdict::Leave,
            _ if options.delete => Verdict::ReplaceDirectory,
            _ => Verdict::InTheWay,
        });
    }
    let mut same = is_same(destination, &entry.metadata, existing);
    if same && existing.kind == Kind::Symlink && !entry.target.is_empty() {
        same = destination.link_target(path)? == entry.target;
    }
    Ok(match options.overwrite {
        Overwrite::Always => Verdict::Replace,
        Overwrite::IfChanged if same => Verdict::Unchanged(true),
        Overwrite::IfNewer | Overwrite::Never if same => Verdict::Unchanged(false),
        Overwrite::IfChanged => Verdict::Replace,
        Overwrite::IfNewer if destination.kept_time(entry.metadata.mtime) > existing.mtime => {
            Verdict::Replace
        }
        Overwrite::IfNewer | Overwrite::Never => Verdict::Leave,
    })
}

/// Whether what is there is the snapshot's entry, content included, as far as `lstat` can tell.
pub(super) fn is_same(
    destination: &dyn Destination,
    wanted: &Metadata,
    existing: &Metadata,
) -> bool {
    wanted.kind == existing.kind
        && match wanted.kind {
            Kind::File | Kind::Symlink => {
                wanted.size == existing.size
                    && is_same_time(destination.kept_time(wanted.mtime), existing.mtime)
            }
            Kind::CharDevice | Kind::BlockDevice => wanted.device == existing.device,
            Kind::Directory | Kind::Fifo | Kind::Socket => true,
        }
}

/// Whether a time is the wanted one, as far as the destination can keep it: file systems and
/// protocols keep times in steps of 100 ns, 1 µs, 10 ms, or whole seconds.
fn is_same_time(wanted: Time, existing: Time) -> bool {
    let keeps = |step: u32| wanted.nanos - wanted.nanos % step == existing.nanos;
    wanted.seconds == existing.seconds
        && [1, 100, 1000, 1_000_000, 10_000_000, 1_000_000_000].into_iter().any(keeps)
}

/// Whether attributes have to be set on what is there.
pub(super) fn attributes_differ(
    destination: &dyn Destination,
    wanted: &Metadata,
    wanted_xattrs: &[Xattr],
    existing: &Metadata,
    existing_xattrs: &[Xattr],
) -> bool {
    let mode_differs = wanted.mode != existing.mode && wanted.kind != Kind::Symlink;
    let owner_differs =
        (wanted.owner.uid, wanted.owner.gid) != (existing.owner.uid, existing.owner.gid);
    let mut kept = wanted_xattrs.iter().filter(|x| destination.keeps_xattr(&x.name));
    // Labels that the system gives by itself are no reason to touch a file.
    let own = |x: &&Xattr| !x.name.starts_with(b"security.");
    mode_differs
        || owner_differs
        || !is_same_time(destination.kept_time(wanted.mtime), existing.mtime)
        || kept.clone().filter(own).count() != existing_xattrs.iter().filter(own).count()
        || !kept.all(|x| existing_xattrs.contains(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_compared_as_coarsely_as_the_destination_keeps_them() {
        let time = |nanos| Time { seconds: 5, nanos };
        let wanted = time(123_456_789);
        for kept in [123_456_789, 123_456_700, 123_456_000, 123_000_000, 120_000_000, 0] {
            assert!(is_same_time(wanted, time(kept)), "{kept}");
        }
        for other in [123_456_788, 124_000_000, 1] {
            assert!(!is_same_time(wanted, time(other)), "{other}");
        }
        assert!(!is_same_time(time(0), time(1)));
        assert!(!is_same_time(wanted, Time { seconds: 6, nanos: 123_456_789 }));
    }
}
