//! What a server says of a file, in the engine's terms; owner names, asked for once each.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use holdfast_engine::meta::{Kind, Metadata, Owner, Time};

use crate::locked;
use crate::sftp::client::{Attributes, Client, ClientResult, Extension, FileKind, Names};

/// What is known of an entry, small enough to be kept for a hundred thousand of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    mode: u16,
    /// User and group. A server that does not tell them gets the zeros.
    pub(super) owner: (u32, u32),
    pub(super) size: u64,
    modified: i64,
}

impl Facts {
    /// `None` if the kind is not told, or the length of a file. A time that is not told is `now`.
    pub(super) fn of(attributes: &Attributes, now: i64) -> Option<Self> {
        let kind = match attributes.kind()? {
            FileKind::File => Kind::File,
            FileKind::Directory => Kind::Directory,
            FileKind::Symlink => Kind::Symlink,
            FileKind::Fifo => Kind::Fifo,
            FileKind::Socket => Kind::Socket,
            FileKind::CharDevice => Kind::CharDevice,
            FileKind::BlockDevice => Kind::BlockDevice,
        };
        let size = match kind {
            Kind::File => attributes.size?,
            Kind::Symlink => attributes.size.unwrap_or(0),
            _ => 0,
        };
        Some(Self {
            kind,
            mode: (attributes.permissions? & 0o7777) as u16,
            owner: attributes.owner.unwrap_or_default(),
            size,
            modified: attributes.modified().map_or(now, |low| nearest(low, now)),
        })
    }

    /// Whether nothing is missing that `lstat` might tell.
    pub(super) fn are_whole(attributes: &Attributes) -> bool {
        attributes.kind().is_some()
            && attributes.size.is_some()
            && attributes.owner.is_some()
            && attributes.times.is_some()
    }

    /// Whether a file that was opened can be the one that was looked at: it may have been written
    /// meanwhile, but it still is a file of the same owner and mode.
    pub(super) fn may_be(&self, listed: &Self) -> bool {
        (self.kind, self.mode, self.owner) == (listed.kind, listed.mode, listed.owner)
    }

    /// No inode, no ctime; names of the owner where they were learnt.
    pub(super) fn metadata(&self, owners: &Owners) -> Metadata {
        Metadata {
            kind: self.kind,
            mode: self.mode.into(),
            owner: owners.get(self.owner),
            size: self.size,
            mtime: Time { seconds: self.modified, nanos: 0 },
            ctime: None,
            inode: 0,
            links: 1,
            device: None,
        }
    }

    /// What [`Facts::may_be`] needs, from metadata.
    pub(super) fn of_metadata(metadata: &Metadata) -> Self {
        Self {
            kind: metadata.kind,
            mode: (metadata.mode & 0o7777) as u16,
            owner: (metadata.owner.uid, metadata.owner.gid),
            size: metadata.size,
            modified: metadata.mtime.seconds,
        }
    }
}

/// Servers send the low 32 bits of their times: of all times with these bits, the one nearest to
/// now. So files of before 1970 keep their time, and those of after 2106 will.
fn nearest(low: u32, now: i64) -> i64 {
    let behind = i64::from((now as u32).wrapping_sub(low) as i32);
    now.saturating_sub(behind)
}

/// Owners met so far with their names.
#[derive(Debug, Default)]
pub(super) struct Owners(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    owners: HashMap<(u32, u32), Arc<Owner>>,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// Asks the server for the names of those that are not known yet, if it offers that. Only a
    /// broken connection is an error: otherwise the names stay empty.
    pub(super) async fn learn(&self, client: &Client, owners: &[(u32, u32)]) -> ClientResult<()> {
        let (users, groups) = {
            let known = locked(&self.0);
            let users = owners.iter().map(|o| o.0).filter(|id| !known.users.contains_key(id));
            let users: BTreeSet<u32> = users.collect();
            let groups = owners.iter().map(|o| o.1).filter(|id| !known.groups.contains_key(id));
            (users, groups.collect::<BTreeSet<u32>>())
        };
        if users.is_empty() && groups.is_empty() || !client.supports(Extension::UsersGroupsById) {
            return Ok(());
        }
        let (users, groups): (Vec<_>, Vec<_>) =
            (users.into_iter().collect(), groups.into_iter().collect());
        let names = match client.names_by_id(&users, &groups).await {
            Ok(names) => names,
            Err(error) if error.is_disconnect() => return Err(error),
            Err(_) => Names { users: vec![None; users.len()], groups: vec![None; groups.len()] },
        };
        let mut known = locked(&self.0);
        known.users.extend(users.into_iter().zip(names.users.into_iter().map(text)));
        known.groups.extend(groups.into_iter().zip(names.groups.into_iter().map(text)));
        Ok(())
    }

    /// The owner with these numbers.
    fn get(&self, (uid, gid): (u32, u32)) -> Arc<Owner> {
        let mut known = locked(&self.0);
        if let Some(owner) = known.owners.get(&(uid, gid)) {
            return Arc::clone(owner);
        }
        let user = known.users.get(&uid).cloned();
        let group = known.groups.get(&gid).cloned();
        let is_known = user.is_some() && group.is_some();
        let (user, group) = (user.unwrap_or_default(), group.unwrap_or_default());
        let owner = Arc::new(Owner { uid, gid, user, group });
        if is_known {
            known.owners.insert((uid, gid), Arc::clone(&owner));
        }
        owner
    }
}

/// A name that is not UTF-8 counts as none, as in the snapshot of a local tree.
fn text(name: Option<Vec<u8>>) -> String {
    name.and_then(|name| String::from_utf8(name).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_nearest_to_now() {
        let now = 1_790_000_000;
        for time in [0, 1, -1, -300_000_000, now, now + 1, 2_500_000_000, 3_900_000_000] {
            assert_eq!(nearest(time as u32, now), time);
        }
        // A hundred years later.
        let later = now + 3_155_760_000;
        assert_eq!(nearest(later as u32, later), later);
        assert_eq!(nearest((later - 5) as u32, later), later - 5);
    }

    #[test]
    fn what_a_server_must_tell() {
        let whole = Attributes {
            size: Some(7),
            owner: Some((1, 2)),
            permissions: Some(0o104_755),
            times: Some((5, 6)),
            extended: Vec::new(),
        };
        let facts = Facts::of(&whole, 1_790_000_000).unwrap();
        let metadata = facts.metadata(&Owners::default());
        assert_eq!((metadata.kind, metadata.mode, metadata.size), (Kind::File, 0o4755, 7));
        assert_eq!((metadata.mtime.seconds, metadata.owner.gid), (6, 2));
        assert!(Facts::are_whole(&whole) && Facts::of_metadata(&metadata) == facts);
        for lacking in [
            Attributes { size: None, ..whole.clone() },
            Attributes { permissions: None, ..whole.clone() },
            Attributes { permissions: Some(0o644), ..whole.clone() },
        ] {
            assert_eq!(Facts::of(&lacking, 0), None);
        }
        let untimed = Attributes { times: None, ..whole };
        assert!(!Facts::are_whole(&untimed));
        assert_eq!(Facts::of(&untimed, 99).map(|f| f.modified), Some(99));
    }
}
