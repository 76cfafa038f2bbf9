//! What storages held when they were last measured, so that a page can say it without opening them.

use holdfast_app::{Problem, times};
use holdfast_engine::ops::info::RepositoryInfo;
use rusqlite::params;

use super::Accounts;

/// A storage as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    /// Its name in the configuration.
    pub(crate) storage: String,
    /// When, in nanoseconds since the epoch.
    pub(crate) time: i64,
    /// Bytes that its repository takes.
    pub(crate) stored: u64,
    /// Its snapshots.
    pub(crate) snapshots: u64,
    /// What these hold together, as if each were restored, in bytes.
    pub(crate) logical: u64,
}

impl Accounts {
    /// Remembers what a storage holds; `None`: no repository is there.
    pub(crate) fn remember(
        &self,
        storage: &str,
        found: Option<&RepositoryInfo>,
    ) -> Result<(), Problem> {
        let Some(found) = found else {
            let sql = "DELETE FROM measured WHERE storage = ?1";
            return self.with(|c| c.execute(sql, [storage])).map(drop);
        };
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let stored = found.stored.saturating_add(found.index);
        let numbers = [stored, found.snapshots, found.logical.bytes].map(number);
        let [stored, snapshots, logical] = numbers;
        self.with(|c| {
            c.execute(
                "INSERT OR REPLACE INTO measured (storage, time, stored, snapshots, logical)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![storage, times::now(), stored, snapshots, logical],
            )
        })
        .map(drop)
    }

    /// What is remembered of all storages.
    pub(crate) fn measured(&self) -> Result<Vec<Measured>, Problem> {
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        self.with(|c| {
            let sql = "SELECT storage, time, stored, snapshots, logical FROM measured";
            let mut statement = c.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Measured {
                    storage: row.get(0)?,
                    time: row.get(1)?,
                    stored: number(row.get(2)?),
                    snapshots: number(row.get(3)?),
                    logical: number(row.get(4)?),
                })
            })?;
            rows.collect()
        })
    }
}
