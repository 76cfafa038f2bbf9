//! Writing an object: one request, or parts of a large one, under its final name.
//!
//! A name that is taken is refused by the server itself where it honours `If-None-Match: *`. Whether
//! it does is tried with the first small object that is written: sent twice, the second time must be
//! refused. Servers that ignore the condition would replace what is there; those are asked first. Two
//! writers with one name at the same moment could pass that; names are random or made from the
//! content, so that they do not meet.
//!
//! A snapshot's name is given by one request (docs/design/protocol.md): it is sent again only if the
//! server has certainly not done it.

use bytes::Bytes;
use tokio::sync::OnceCell;

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

/// Whether the server honours `If-None-Match: *`, once that is known.
pub(super) type Condition = OnceCell<bool>;

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
        if self.condition.get().is_none() && bytes.len() <= TRIAL && !how.once {
            let mut first = None;
            let tried = self.condition.get_or_try_init(|| async {
                let (honoured, stored) = self.try_out(&key, &bytes, &how).await?;
                first = Some(stored);
                Ok::<_, Trouble>(honoured)
            });
            tried.await?;
            if let Some(stored) = first {
                return stored;
            }
        }
        how.only_if_absent = self.condition.get() == Some(&true);
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

    /// Stores a small object, and finds out whether the condition is honoured. What became of the
    /// object is the second part.
    async fn try_out(
        &self,
        key: &str,
        bytes: &Bytes,
        how: &Put,
    ) -> Result<(bool, Result<(), Trouble>), Trouble> {
        if self.is_there(key).await? {
            // It says nothing of the condition, and the name is not ours to try it on. Asking
            // first does for this run.
            return Ok((false, Err(Trouble::exists())));
        }
        let conditional = Put { only_if_absent: true, ..how.clone() };
        match self.client.put(key, bytes.clone(), &conditional).await {
            Ok(_) => {}
            Err(error) if error.class == Class::PreconditionFailed => {
                let is_ours = error.may_have_been_done() && self.is_ours(key, bytes).await?;
                return Ok((true, if is_ours { Ok(()) } else { Err(Trouble::exists()) }));
            }
            Err(error) if error.is_refused_condition() => {
                self.client.put(key, bytes.clone(), how).await?;
                return Ok((false, Ok(())));
            }
            Err(error) => return Err(error.into()),
        }
        match self.client.put(key, bytes.clone(), &conditional).await {
            // The same bytes once more.
            Ok(_) => Ok((false, Ok(()))),
            Err(error) if error.class == Class::PreconditionFailed => Ok((true, Ok(()))),
            Err(error) => Err(error.into()),
        }
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
