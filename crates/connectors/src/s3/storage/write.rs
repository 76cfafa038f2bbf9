//! Writing an object: one request, or parts of a large one, under its final name.
//!
//! A name that is taken is refused by the server itself where it honours `If-None-Match: *`. Whether
//! it does is tried with the first small object that is written: sent twice, the second time must be
//! refused. The answer to that is waited for by who writes or deletes next. Servers that ignore the
//! condition would replace what is there; those are asked first. Two writers with one name at the same
//! moment could pass that; names are random or made from the content, so that they do not meet.
//!
//! A snapshot's name is given by one request (docs/design/protocol.md): it is sent again only if the
//! server has certainly not done it.

use std::sync::OnceLock;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::problem::Trouble;
use super::{S3Storage, sha256};
use crate::s3::client::{Class, Put};

/// Objects above this go up in parts of that size.
const IN_PARTS: (usize, usize) = (64 << 20, 16 << 20);

/// The largest object that is sent twice to try the condition out.
const TRIAL: usize = 64 << 10;

/// Folders whose objects are kept until somebody removes them on purpose: those that a lock
/// protects. What sessions and gc leave behind has to be removable.
pub(super) const KEPT: [&str; 8] =
    ["config", "keys", "packs", "index", "snapshots", "notes", "parity", "settings"];

/// Whether the server honours `If-None-Match: *`.
#[derive(Debug, Default)]
pub(super) struct Condition {
    known: OnceLock<bool>,
    /// What finds it out; `None` from it if nothing was to be learnt.
    trial: Mutex<Option<JoinHandle<Option<bool>>>>,
}

impl Condition {
    /// What is known; of a trial that is under way the end is waited for.
    pub(super) async fn settled(&self) -> Option<bool> {
        if self.known.get().is_none()
            && let Some(trial) = self.trial.lock().await.take()
            && let Ok(Some(honoured)) = trial.await
        {
            let _ = self.known.set(honoured);
        }
        self.known.get().copied()
    }
}

/// What a trial has found out so far.
enum Tried {
    /// All.
    Known(bool),
    /// Not whether a name that is taken is refused: that is being asked.
    UnderWay(JoinHandle<Option<bool>>),
}

impl S3Storage {
    /// Stores an object under its name.
    pub(super) async fn store(
        &self,
        name: &str,
        bytes: Bytes,
        may_be_cold: bool,
    ) -> Result<(), Trouble> {
        let options = self.client.options();
        let folder = name.split('/').next().unwrap_or_default();
        let key = self.client.key(name);
        let mut how = Put {
            once: folder == "snapshots",
            sha256: Some(sha256(&bytes)),
            storage_class: options.storage_class.clone().filter(|_| may_be_cold),
            lock_days: options.object_lock.filter(|_| KEPT.contains(&folder)),
            ..Put::default()
        };
        how.only_if_absent = loop {
            match self.condition.settled().await {
                Some(honoured) => break honoured,
                None if bytes.len() > TRIAL || how.once => break false,
                None => {}
            }
            let mut trial = self.condition.trial.lock().await;
            // Unless somebody else tries it, or did so just now.
            if trial.is_none() && self.condition.known.get().is_none() {
                // A lease is named by chance: nothing stands there.
                let is_new = folder == "sessions" && name.ends_with("/0");
                let (tried, stored) = self.try_out(&key, &bytes, &how, is_new).await?;
                match tried {
                    Tried::Known(honoured) => drop(self.condition.known.set(honoured)),
                    Tried::UnderWay(asked) => *trial = Some(asked),
                }
                return stored;
            }
        };
        if !how.only_if_absent && self.is_there(&key).await? {
            return Err(Trouble::exists());
        }
        let stored = match bytes.len() > IN_PARTS.0 {
            true => self.client.put_in_parts(&key, bytes.clone(), IN_PARTS.1, &how).await,
            false => self.client.put(&key, bytes.clone(), &how).await,
        };
        match stored {
            Ok(_) => Ok(()),
            Err(error) if how.once => Err(error.into()),
            // Its own request may have taken place though the answer was lost.
            Err(error) if error.may_have_been_done() => match self.is_ours(&key, &bytes).await? {
                true => Ok(()),
                false if error.class == Class::PreconditionFailed => Err(Trouble::exists()),
                false => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Stores a small object, and tries whether the condition is honoured. What became of the object
    /// is the second part.
    async fn try_out(
        &self,
        key: &str,
        bytes: &Bytes,
        how: &Put,
        is_new: bool,
    ) -> Result<(Tried, Result<(), Trouble>), Trouble> {
        if !is_new && self.is_there(key).await? {
            // It says nothing of the condition, and the name is not ours to try it on. Asking
            // first does for this run.
            return Ok((Tried::Known(false), Err(Trouble::exists())));
        }
        let conditional = Put { only_if_absent: true, ..how.clone() };
        match self.client.put(key, bytes.clone(), &conditional).await {
            Ok(_) => {}
            Err(error) if error.class == Class::PreconditionFailed => {
                let is_ours = error.may_have_been_done() && self.is_ours(key, bytes).await?;
                let stored = if is_ours { Ok(()) } else { Err(Trouble::exists()) };
                return Ok((Tried::Known(true), stored));
            }
            Err(error) if error.is_refused_condition() => {
                self.client.put(key, bytes.clone(), how).await?;
                return Ok((Tried::Known(false), Ok(())));
            }
            Err(error) => return Err(error.into()),
        }
        let (client, key, bytes) = (self.client.clone(), key.to_owned(), bytes.clone());
        let asked = self.client.runtime().spawn(async move {
            match client.put(&key, bytes, &conditional).await {
                // The same bytes once more.
                Ok(_) => Some(false),
                Err(error) if error.class == Class::PreconditionFailed => Some(true),
                Err(_) => None,
            }
        });
        Ok((Tried::UnderWay(asked), Ok(())))
    }

    async fn is_there(&self, key: &str) -> Result<bool, Trouble> {
        match self.client.head(key).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_no_such_key() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what stands there is what was sent. Of large objects the size has to do: packs and
    /// segments are named after their content.
    async fn is_ours(&self, key: &str, bytes: &Bytes) -> Result<bool, Trouble> {
        let found = match bytes.len() <= TRIAL {
            true => self.client.get(key, None).await.map(|object| object.bytes == *bytes),
            false => self.client.head(key).await.map(|info| info.size == bytes.len() as u64),
        };
        match found {
            Ok(is_ours) => Ok(is_ours),
            Err(error) if error.is_no_such_key() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
