//! What is done to objects beside writing and reading them: uploads that nobody will complete are
//! given up, and archived objects are brought back.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use holdfast_engine::storage::{Folder, ObjectInfo, ObjectName, Warmth};

use super::S3Storage;
use super::problem::Trouble;
use super::write::KEPT;
use crate::s3::client::{Archive, Class, OpenUpload};

/// Requests at once; the limiter counts them too.
const AT_ONCE: usize = 64;

/// Classes from which everything can be read at once, where the server names them.
const WARM: [&str; 6] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "REDUCED_REDUNDANCY",
    "INTELLIGENT_TIERING",
    "GLACIER_IR",
];

/// How long bringing an object back takes, as services announce it for their usual speed.
const FROM_ARCHIVE: Duration = Duration::from_secs(5 * 60 * 60);
const FROM_DEEP_ARCHIVE: Duration = Duration::from_secs(12 * 60 * 60);

impl S3Storage {
    /// Gives up the uploads in parts of this repository that were begun longer ago than `age`. How
    /// many there were. Where they cannot be listed, a rule of the bucket has to remove them.
    pub(super) async fn abort_uploads(&self, age: Duration) -> Result<u64, Trouble> {
        let uploads = match self.client.open_uploads(&self.client.key("")).await {
            Ok(uploads) => uploads,
            Err(error) if matches!(error.class, Class::AccessDenied | Class::NotImplemented) => {
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        };
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let latest = self.client.now().saturating_sub(age);
        let mut old: Vec<&OpenUpload> = uploads.iter().collect();
        old.retain(|upload| upload.begun < latest && self.is_ours_by_name(&upload.key));
        let all = stream::iter(&old).map(|upload| self.client.abort_upload(upload));
        all.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        Ok(old.len() as u64)
    }

    /// Whether a key can be that of an object of a repository here.
    fn is_ours_by_name(&self, key: &str) -> bool {
        let prefix = self.client.key("");
        let Some(name) = key.strip_prefix(&prefix).and_then(ObjectName::parse) else {
            return false;
        };
        let folder = name.as_str().split('/').next().unwrap_or_default();
        name == ObjectName::config() || Folder::ALL.iter().any(|known| known.name() == folder)
    }

    /// Asks for those of these objects that are archived.
    pub(super) async fn bring_back(
        &self,
        names: &[ObjectName],
        days: u32,
    ) -> Result<Warmth, Trouble> {
        let each = stream::iter(names).map(|name| self.bring_one_back(name, days));
        let warmth = each.buffer_unordered(AT_ONCE).try_fold(Warmth::default(), |sum, one| {
            let Warmth { warm, cold, asked, wait } = one;
            let all = Warmth {
                warm: sum.warm + warm,
                cold: sum.cold + cold,
                asked: sum.asked + asked,
                wait: sum.wait.max(wait),
            };
            std::future::ready(Ok(all))
        });
        warmth.await
    }

    /// Locks those of these objects again that were stored more than half of `days` ago and are not
    /// locked for more than half of them from now on. How many that were.
    pub(super) async fn lock_again(
        &self,
        objects: &[ObjectInfo],
        days: u32,
    ) -> Result<u64, Trouble> {
        let half = i64::from(days) * 24 * 60 * 60 / 2;
        let latest = self.client.now().saturating_sub(half);
        let mut old: Vec<&ObjectInfo> = objects.iter().collect();
        old.retain(|object| {
            let folder = object.name.as_str().split('/').next().unwrap_or_default();
            KEPT.contains(&folder) && object.modified < latest
        });
        let each = stream::iter(&old).map(|object| async {
            let key = self.client.key(object.name.as_str());
            let enough = self.client.now().saturating_add(half);
            let locked = match self.client.head(&key).await {
                Ok(found) if found.locked_until.is_some_and(|until| until > enough) => Ok(0),
                Ok(_) => self.client.lock_until(&key, days).await.map(|()| 1),
                Err(error) => Err(error),
            };
            match locked {
                // Another client may have removed it meanwhile.
                Err(error) if error.is_no_such_key() => Ok(0),
                // It is locked for longer, and the server did not say so before.
                Err(error) if error.class == Class::Locked => Ok(0),
                other => other.map_err(Trouble::from),
            }
        });
        each.buffer_unordered(AT_ONCE)
            .try_fold(0, |sum, one| std::future::ready(Ok(sum + one)))
            .await
    }

    async fn bring_one_back(&self, name: &ObjectName, days: u32) -> Result<Warmth, Trouble> {
        let warm = Warmth { warm: 1, ..Warmth::default() };
        let key = self.client.key(name.as_str());
        let found = match self.client.head(&key).await {
            Ok(found) => found,
            // What is missing, who reads it finds out.
            Err(error) if error.is_no_such_key() => return Ok(warm),
            Err(error) => return Err(error.into()),
        };
        let class = found.storage_class.as_deref().unwrap_or("STANDARD");
        let asked = match found.archive {
            Archive::Back => return Ok(warm),
            Archive::OnItsWay => 0,
            Archive::Untold if WARM.contains(&class) => return Ok(warm),
            Archive::Untold => match self.client.restore_object(&key, days).await? {
                true => return Ok(warm),
                false => 1,
            },
        };
        let wait = if class == "DEEP_ARCHIVE" { FROM_DEEP_ARCHIVE } else { FROM_ARCHIVE };
        Ok(Warmth { warm: 0, cold: 1, asked, wait })
    }
}
