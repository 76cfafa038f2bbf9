//! Open files, a few for each connection: a restore reads many ranges of one pack, and each shall
//! cost one round trip. Nobody waits for their closing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::locked;
use crate::sftp::client::{Attributes, ClientErrorKind, ClientResult, File, OpenFlags};
use crate::sftp::pool::{Lease, Pool};

/// Handles kept for each connection, at most; and of those that the server says it has, a quarter.
const KEPT: usize = 16;

/// Files by connection, those used last at the end.
#[derive(Debug, Default)]
pub(super) struct Handles(Mutex<HashMap<u64, Vec<Arc<File>>>>);

impl Handles {
    /// Does `work` with the file at `path`, open for reading. A handle that the server does not
    /// know any more is replaced by a new one, once.
    pub(super) async fn with<T>(
        &self,
        pool: &Pool,
        lease: &Lease,
        path: &[u8],
        mut work: impl AsyncFnMut(&File) -> ClientResult<T>,
    ) -> ClientResult<T> {
        if let Some(file) = self.take(lease.connection(), path) {
            match work(&file).await {
                // Of the handle, not of the file.
                Err(error)
                    if matches!(
                        error.kind,
                        ClientErrorKind::Failure
                            | ClientErrorKind::NotFound
                            | ClientErrorKind::BadMessage
                    ) =>
                {
                    self.forget(path);
                }
                other => return other,
            }
        }
        let opened = lease.client().open(path, OpenFlags::READ, &Attributes::default()).await?;
        let file = Arc::new(opened);
        let outcome = work(&file).await;
        if outcome.is_ok() {
            self.keep(pool, lease, file);
        }
        outcome
    }

    /// Opens what will be needed soon, unless it is open. If that fails, whoever needs it finds out.
    pub(super) async fn ready(&self, pool: &Pool, lease: &Lease, path: &[u8]) {
        if self.take(lease.connection(), path).is_none()
            && let Ok(file) =
                lease.client().open(path, OpenFlags::READ, &Attributes::default()).await
        {
            self.keep(pool, lease, Arc::new(file));
        }
    }

    /// Closes what is open of a path that is gone.
    pub(super) fn forget(&self, path: &[u8]) {
        for files in locked(&self.0).values_mut() {
            files.retain(|file| file.path() != path);
        }
    }

    fn take(&self, connection: u64, path: &[u8]) -> Option<Arc<File>> {
        let mut all = locked(&self.0);
        let files = all.get_mut(&connection)?;
        let place = files.iter().position(|file| file.path() == path)?;
        let file = files.remove(place);
        files.push(file.clone());
        Some(file)
    }

    fn keep(&self, pool: &Pool, lease: &Lease, file: Arc<File>) {
        let connection = lease.connection();
        let most = lease.client().limits().handles.map_or(KEPT, |has| (has / 4) as usize);
        let mut all = locked(&self.0);
        if !all.contains_key(&connection) {
            all.retain(|number, _| pool.is_open(*number));
        }
        let files = all.entry(connection).or_default();
        files.retain(|other| other.path() != file.path());
        files.push(file);
        let excess = files.len().saturating_sub(most.min(KEPT));
        files.drain(..excess);
    }
}
