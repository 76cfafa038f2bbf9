//! Free space, watched where the server tells it: a pack that cannot fit is refused before the disk
//! is full to the last byte. Small objects are not refused: with them space is made.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use holdfast_engine::storage::StorageErrorKind;

use super::SftpStorage;
use super::problem::Trouble;
use crate::locked;

/// How old an answer may be.
const AGE: Duration = Duration::from_secs(30);
/// So much free, and nobody counts.
const PLENTY: u64 = 1 << 30;
/// Left for small objects.
const RESERVE: u64 = 4 << 20;

/// What the server said last, less what was written since.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<Option<(Instant, Option<u64>)>>);

impl SftpStorage {
    /// An error if there is no room for so many bytes more.
    pub(super) async fn take_space(&self, bytes: u64) -> Result<(), Trouble> {
        for fresh in [false, true] {
            let known = *locked(&self.space.0);
            let left = match known {
                Some((when, left)) if when.elapsed() < AGE && !fresh => left,
                // Others may have made room; but a full disk is not asked with every piece.
                Some((when, left)) if fresh && when.elapsed() < Duration::from_secs(1) => left,
                _ => {
                    let found = self.file_system().await.map(|found| found.available());
                    *locked(&self.space.0) = Some((Instant::now(), found));
                    found
                }
            };
            let Some(left) = left else { return Ok(()) };
            if left >= PLENTY || left >= bytes + RESERVE {
                if let Some((_, Some(left))) = &mut *locked(&self.space.0) {
                    *left = left.saturating_sub(bytes);
                }
                return Ok(());
            }
            if fresh {
                let what = format!("{left} bytes are free, too few for what is to be written");
                return Err(Trouble::Found(StorageErrorKind::NoSpace, what));
            }
        }
        Ok(())
    }
}
