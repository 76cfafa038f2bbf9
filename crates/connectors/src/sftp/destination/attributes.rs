//! Setting owner, permissions and times with as few requests as the server lets us.
//!
//! One request sets all three. OpenSSH takes them in the order size, permissions, times, owner, and
//! goes on after a refusal; a change of the owner takes set-id bits away. So what has such bits,
//! and what was refused, is set one by one: owner, permissions, times.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_engine::destination::{Attributes as EngineAttributes, Unset};
use holdfast_engine::meta::{Kind, Owner, Time};

use super::problem::is_refusal;
use crate::locked;
use crate::sftp::client::{Attributes, Client, ClientResult, Extension, File};

const SET_ID_BITS: u32 = 0o6000;

/// What an entry shall have, as far as SFTP can carry it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    is_link: bool,
    owner: (u32, u32),
    mode: u32,
    /// Both times: SFTP sets none of them alone.
    times: (u32, u32),
    /// What SFTP cannot carry.
    unset: Unset,
}

/// The nearest time that SFTP can carry.
pub(super) fn kept_time(time: Time) -> Time {
    Time { seconds: time.seconds.clamp(0, u32::MAX.into()), nanos: 0 }
}

impl Wanted {
    pub(super) fn new(attributes: EngineAttributes<'_>) -> Self {
        let metadata = attributes.metadata;
        let Owner { uid, gid, .. } = *metadata.owner;
        let kept = kept_time(metadata.mtime);
        let seconds = u32::try_from(kept.seconds).unwrap_or(u32::MAX);
        let acls = attributes.xattrs.iter().filter(|x| x.name.starts_with(b"system.posix_acl_"));
        let acls = acls.count();
        let unset = Unset {
            xattrs: attributes.xattrs.len() > acls,
            acls: acls > 0,
            times: kept.seconds != metadata.mtime.seconds,
            fractions: metadata.mtime.nanos != 0,
            ..Unset::default()
        };
        Self {
            is_link: metadata.kind == Kind::Symlink,
            owner: (uid, gid),
            mode: metadata.mode & 0o7777,
            times: (seconds, seconds),
            unset,
        }
    }

    /// Whether one request sets it all.
    pub(super) fn is_plain(&self) -> bool {
        self.is_link || self.mode & SET_ID_BITS == 0
    }

    /// What is not so, where nothing can be set: links without the extension for them.
    pub(super) fn missing_from(&self, present: &Attributes) -> Unset {
        let mut unset = self.unset;
        unset.owner |= present.owner != Some(self.owner);
        unset.times |= present.modified() != Some(self.times.1);
        unset
    }

    /// The one request, for what was just made, and what it leaves unset.
    pub(super) fn at_once(&self, learnt: &Learnt) -> (Attributes, Unset) {
        let (owner, is_short) = learnt.owner_to_ask_for(self.owner);
        let mut unset = self.unset;
        unset.owner |= is_short;
        let permissions = (!self.is_link).then_some(self.mode);
        (Attributes { owner, permissions, times: Some(self.times), ..Attributes::default() }, unset)
    }
}

/// What refusals have taught.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    refusals: Mutex<Refusals>,
    /// The extension for attributes of links fails on what is none: in a chroot without `/proc`,
    /// or with an old C library.
    links_only: AtomicBool,
}

#[derive(Debug, Default)]
struct Refusals {
    /// Nothing can be given away: this is the only user that things can have.
    user: Option<u32>,
    /// The server does not even tell who that is.
    unknown: bool,
    groups: HashSet<u32>,
}

impl Learnt {
    /// Once refused, always refused: 300 000 files need not ask again. What to ask for, and
    /// whether it is less than what is wanted.
    fn owner_to_ask_for(&self, (user, group): (u32, u32)) -> (Option<(u32, u32)>, bool) {
        let refusals = locked(&self.refusals);
        match refusals.user {
            None if refusals.unknown => (None, true),
            None => (Some((user, group)), false),
            Some(_) if refusals.groups.contains(&group) => (None, true),
            Some(own) => (Some((own, group)), own != user),
        }
    }

    fn refused(&self, found: Option<(u32, u32)>) {
        let mut refusals = locked(&self.refusals);
        match found {
            Some((user, _)) => refusals.user = Some(user),
            None => refusals.unknown = true,
        }
    }

    fn group_refused(&self, group: u32) {
        locked(&self.refusals).groups.insert(group);
    }
}

/// What the attributes are set on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// An open file.
    File(&'a File),
    /// What stands at a path on the server, which was seen to be no link.
    Path(&'a Client, &'a [u8]),
    /// What a path on the server leads to.
    Followed(&'a Client, &'a [u8]),
    /// A symbolic link.
    Link(&'a Client, &'a [u8]),
}

impl Target<'_> {
    async fn send(self, learnt: &Learnt, to: &Attributes) -> ClientResult<()> {
        match self {
            Self::File(file) => file.set_attributes(to).await,
            Self::Link(client, path) => client.set_link_attributes(path, to).await,
            Self::Followed(client, path) => client.set_attributes(path, to).await,
            Self::Path(client, path) => {
                // A link that was put there meanwhile is not followed by this one.
                if client.supports(Extension::Lsetstat)
                    && !learnt.links_only.load(Ordering::Relaxed)
                {
                    match client.set_link_attributes(path, to).await {
                        Err(error) if is_refusal(&error) => {}
                        answer => return answer,
                    }
                    client.set_attributes(path, to).await?;
                    learnt.links_only.store(true, Ordering::Relaxed);
                    return Ok(());
                }
                client.set_attributes(path, to).await
            }
        }
    }

    async fn look(self) -> ClientResult<Attributes> {
        match self {
            Self::File(file) => file.attributes().await,
            Self::Followed(client, path) => client.stat(path).await,
            Self::Path(client, path) | Self::Link(client, path) => client.lstat(path).await,
        }
    }
}

/// Sets what is not so already; `present` is what is known to be there.
pub(super) async fn set(
    target: Target<'_>,
    learnt: &Learnt,
    wanted: &Wanted,
    present: Option<&Attributes>,
) -> ClientResult<Unset> {
    let (mut to, mut unset) = wanted.at_once(learnt);
    if let Some(present) = present {
        if present.owner == Some(wanted.owner) {
            to.owner = None;
            unset.owner = false;
        }
        let same_mode = present.permissions.map(|mode| mode & 0o7777) == Some(wanted.mode);
        if same_mode && (wanted.is_plain() || to.owner.is_none()) {
            to.permissions = None;
        }
        if present.modified() == Some(wanted.times.1) {
            to.times = None;
        }
    }
    if to == Attributes::default() {
        return Ok(unset);
    }
    if wanted.is_plain() {
        match target.send(learnt, &to).await {
            Ok(()) => return Ok(unset),
            Err(error) if is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
    }
    set_one_by_one(target, learnt, wanted, &to, &mut unset).await?;
    Ok(unset)
}

async fn set_one_by_one(
    target: Target<'_>,
    learnt: &Learnt,
    wanted: &Wanted,
    to: &Attributes,
    unset: &mut Unset,
) -> ClientResult<()> {
    if let Some(owner) = to.owner {
        unset.owner |= !set_owner(target, learnt, wanted, owner).await?;
    }
    if to.permissions.is_some() {
        let mut mode = wanted.mode;
        if unset.owner && mode & SET_ID_BITS != 0 {
            // Set-id to somebody else than intended: rather not at all.
            mode &= !SET_ID_BITS;
            unset.mode = true;
        }
        let only = Attributes::with_permissions(mode);
        refused(target.send(learnt, &only).await, &mut unset.mode)?;
        // A group's bit is dropped in silence where one is no member of the group.
        if mode & SET_ID_BITS != 0 {
            let found = target.look().await?.permissions;
            unset.mode |= found.is_some_and(|found| found & 0o7777 != mode);
        }
    }
    let only = Attributes { times: to.times, ..Attributes::default() };
    if only.times.is_some() {
        refused(target.send(learnt, &only).await, &mut unset.times)?;
    }
    Ok(())
}

/// False if it does not have its owner in the end.
async fn set_owner(
    target: Target<'_>,
    learnt: &Learnt,
    wanted: &Wanted,
    ask: (u32, u32),
) -> ClientResult<bool> {
    let to = |owner| Attributes { owner: Some(owner), ..Attributes::default() };
    match target.send(learnt, &to(ask)).await {
        Ok(()) => return Ok(ask == wanted.owner),
        Err(error) if is_refusal(&error) => {}
        Err(error) => return Err(error),
    }
    let found = target.look().await?.owner;
    if found == Some(wanted.owner) {
        return Ok(true);
    }
    learnt.refused(found);
    let (Some((user, group)), (_, wanted_group)) = (found, wanted.owner) else { return Ok(false) };
    // The group alone may still be one of ours.
    if group != wanted_group {
        let took = ask.0 != user
            && match target.send(learnt, &to((user, wanted_group))).await {
                Ok(()) => true,
                Err(error) if is_refusal(&error) => false,
                Err(error) => return Err(error),
            };
        if !took {
            learnt.group_refused(wanted_group);
        }
    }
    Ok(false)
}

/// What may not or cannot be set is noted.
fn refused(answer: ClientResult<()>, failed: &mut bool) -> ClientResult<()> {
    match answer {
        Err(error) if is_refusal(&error) => {
            *failed = true;
            Ok(())
        }
        answer => answer,
    }
}
