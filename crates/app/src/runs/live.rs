//! Whose runs are still at work. Each process that runs something holds the lock of a file of its
//! own: the lock goes with the process, however that ends, so that whoever looks knows for sure.
//! Numbers of processes would not do: they come again, and differ between containers.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use rusqlite::params;

use super::{History, Outcome, ProblemRecord, Report, RunId};
use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::random;

/// This process, as the history knows it. The runs of one that is dropped count as interrupted.
#[derive(Debug)]
pub struct Owner {
    name: String,
    path: PathBuf,
    /// Its lock says that the process lives.
    _lock: File,
}

impl Owner {
    /// Its name in the history.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl History {
    fn owners(&self) -> PathBuf {
        self.directory.join("at-work")
    }

    /// Makes this process one that may own runs.
    pub fn own(&self) -> Result<Owner, Problem> {
        let directory = self.owners();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|e| catalogue::io("make", &directory, &e))?;
        let random = holdfast_engine::hash::to_hex(&random::<8>()?);
        let name = format!("{}-{random}", std::process::id());
        // Under a name that nobody looks for until it is locked.
        let path = directory.join(&name);
        let making = directory.join(format!(".{name}"));
        let failed = |error: std::io::Error| catalogue::io("make", &path, &error);
        let mut options = OpenOptions::new();
        let lock =
            options.write(true).create_new(true).mode(0o600).open(&making).map_err(failed)?;
        lock.try_lock().map_err(|error| failed(error.into()))?;
        std::fs::rename(&making, &path).map_err(failed)?;
        Ok(Owner { name, path, _lock: lock })
    }

    /// Whether the process of this name is there.
    fn lives(&self, owner: &str) -> bool {
        let is_name = !owner.is_empty() && !owner.contains(['/', '.']);
        let Some(path) = is_name.then(|| self.owners().join(owner)) else { return false };
        match File::open(&path).map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => true,
            // What cannot be looked at may live.
            Ok(Err(TryLockError::Error(_))) => true,
            Ok(Ok(())) => {
                let _ = std::fs::remove_file(&path);
                false
            }
            Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// Runs that were open and whose process is gone become [`Outcome::Interrupted`]. Which.
    pub fn reconcile(&self) -> Result<Vec<RunId>, Problem> {
        let open: Vec<(RunId, String, String)> = self.read(|connection| {
            let sql = "SELECT id, owner, report FROM runs WHERE outcome IN ('queued', 'running')";
            let mut statement = connection.prepare(sql)?;
            let rows =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })?;
        let mut found = Vec::new();
        for (run, owner, report) in open {
            if self.lives(&owner) {
                continue;
            }
            let problem = Problem::new(
                Class::Interrupted,
                "the process that ran it ended in the middle: it crashed, was killed, or the \
                 machine went off",
            )
            .hint(
                "nothing that was there before is lost; the next run goes on from what was stored",
            );
            let mut report = Report::from_json(&report);
            report.problem = Some(ProblemRecord::from(&problem));
            // The end is not known: the last sign of life is the best guess.
            let changed = self.write(|transaction| {
                transaction.execute(
                    "UPDATE runs SET outcome = ?2, report = ?3, progress = NULL,
                         ended = coalesce(seen, started)
                     WHERE id = ?1 AND outcome IN ('queued', 'running')",
                    params![run, Outcome::Interrupted.name(), report.to_json()],
                )
            })?;
            if changed > 0 {
                found.push(run);
            }
        }
        Ok(found)
    }

    /// Interrupted runs of which nobody was told yet; from now on they count as told.
    pub fn untold(&self) -> Result<Vec<RunId>, Problem> {
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE runs SET told = 1 WHERE outcome = 'interrupted' AND told = 0 RETURNING id",
            )?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        })
    }
}
