//! The history of runs: what the service, the console and `holdfast run` did, in one database of
//! the state directory. A run's row is there from its begin on, so that a crash leaves a trace;
//! [`live`] tells whose process is gone, [`query`] reads, [`record`] is what a row holds.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use crate::catalogue;
use crate::problem::{Class, Problem};
use crate::text::printable_os;
use crate::times;

mod live;
mod query;
mod record;
#[cfg(test)]
mod tests;

pub use live::Owner;
pub use query::{Day, Page};
pub use record::{
    By, ErrorClass, Level, LogLine, Outcome, PhaseTime, ProblemRecord, Report, Run, RunId, Sample,
};

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs are kept for so long, and their logs; nanoseconds.
const KEEP_RUNS: i64 = 400 * DAY;
const KEEP_LOGS: i64 = 90 * DAY;
const DAY: i64 = 24 * 3600 * 1_000_000_000;

/// Steps from each version of the tables to the next.
const STEPS: &[&str] = &["
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        plan TEXT,
        verb TEXT NOT NULL,
        place TEXT NOT NULL,
        by TEXT NOT NULL,
        due INTEGER,
        started INTEGER NOT NULL,
        ended INTEGER,
        outcome TEXT NOT NULL,
        owner TEXT NOT NULL,
        seen INTEGER,
        cancel INTEGER NOT NULL DEFAULT 0,
        told INTEGER NOT NULL DEFAULT 0,
        progress TEXT,
        report TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX runs_by_plan ON runs (plan, started);
    CREATE INDEX runs_by_time ON runs (started);
    CREATE INDEX runs_open ON runs (outcome) WHERE outcome IN ('queued', 'running');
    CREATE INDEX runs_untold ON runs (id) WHERE outcome = 'interrupted' AND told = 0;
    CREATE TABLE log (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        line INTEGER NOT NULL,
        time INTEGER NOT NULL,
        level TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (run, line)
    ) WITHOUT ROWID;
    CREATE TABLE armed (
        plan TEXT NOT NULL,
        part TEXT NOT NULL,
        calendar TEXT NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (plan, part)
    ) WITHOUT ROWID;
    CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        channel TEXT NOT NULL,
        event TEXT NOT NULL,
        plan TEXT,
        run INTEGER,
        error TEXT
    );
"];

/// The history. Many processes may hold it at once.
#[derive(Debug)]
pub struct History {
    connection: Mutex<Connection>,
    directory: PathBuf,
}

impl History {
    /// Opens the database in the state directory, made if it is not there.
    pub fn open(state: &Path) -> Result<Self, Problem> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .map_err(|e| catalogue::io("make", state, &e))?;
        let path = state.join("holdfast.sqlite");
        let failed = |error: rusqlite::Error| failed(&path, &error);
        make_private(&path)?;
        let mut connection = Connection::open(&path).map_err(failed)?;
        write_ahead(&connection).map_err(failed)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        upgrade(&mut connection, &path)?;
        Ok(Self { connection: Mutex::new(connection), directory: state.to_path_buf() })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` alone among all processes; nothing of it stays if it fails.
    fn write<T>(
        &self,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Problem> {
        let mut connection = self.connection();
        let attempt = || {
            let behavior = TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        attempt().map_err(|e| self.failed(&e))
    }

    fn read<T>(&self, body: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Problem> {
        body(&self.connection()).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &rusqlite::Error) -> Problem {
        failed(&self.directory.join("holdfast.sqlite"), error)
    }

    /// Begins a run, as [`Outcome::Queued`]. With `alone`, only if no other run of the same plan is
    /// open; then the error is [`Class::Busy`] and names it.
    pub fn begin(&self, new: &NewRun, owner: &Owner, alone: bool) -> Result<RunId, Problem> {
        let begun = self.write(|transaction| {
            if let (true, Some(plan)) = (alone, &new.plan) {
                let open = transaction
                    .query_row(
                        "SELECT id FROM runs WHERE plan = ?1 AND outcome IN ('queued', 'running')",
                        [plan],
                        |row| row.get::<_, RunId>(0),
                    )
                    .optional()?;
                if let Some(open) = open {
                    return Ok(Err(open));
                }
            }
            transaction.execute(
                "INSERT INTO runs (plan, verb, place, by, due, started, outcome, owner)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7)",
                params![
                    new.plan,
                    new.verb,
                    new.place,
                    new.by.name(),
                    new.due,
                    times::now(),
                    owner.name()
                ],
            )?;
            Ok(Ok(transaction.last_insert_rowid()))
        })?;
        begun.map_err(|open| {
            let plan = new.plan.as_deref().unwrap_or_default();
            Problem::new(Class::Busy, format!("the plan {plan} is at work already: run {open}"))
                .hint(format!("to see it: holdfast runs show {open}"))
                .hint(format!("to end it: holdfast runs cancel {open}"))
        })
    }

    /// A queued run begins its work.
    pub fn start(&self, run: RunId) -> Result<(), Problem> {
        self.write(|transaction| {
            let sql = "UPDATE runs SET outcome = 'running', started = ?2 WHERE id = ?1";
            transaction.execute(sql, params![run, times::now()]).map(drop)
        })
    }

    /// What an open run found out so far; how often it was asked to end. One that ended by now stays
    /// as it is.
    pub fn update(&self, run: RunId, progress: &str, report: &Report) -> Result<u8, Problem> {
        let report = report.to_json();
        self.write(|transaction| {
            transaction.execute(
                "UPDATE runs SET progress = ?2, report = ?3, seen = ?4
                 WHERE id = ?1 AND outcome IN ('queued', 'running')",
                params![run, progress, report, times::now()],
            )?;
            transaction.query_row("SELECT cancel FROM runs WHERE id = ?1", [run], |row| row.get(0))
        })
    }

    /// Ends a run.
    pub fn end(&self, run: RunId, outcome: Outcome, report: &Report) -> Result<(), Problem> {
        let report = report.to_json();
        self.write(|transaction| {
            transaction.execute(
                "UPDATE runs SET outcome = ?2, ended = ?3, report = ?4, progress = NULL
                 WHERE id = ?1",
                params![run, outcome.name(), times::now(), report],
            )?;
            Ok(())
        })
    }

    /// Records runs that did not take place, from the first to the last time at which they were
    /// due: one row, with their number as `missed`.
    pub fn missed(&self, new: &NewRun, missed: &Missed) -> Result<RunId, Problem> {
        let mut report = Report::default();
        report.numbers.insert("missed".into(), missed.count);
        report.problem = Some(ProblemRecord::from(&missed.problem));
        let report = report.to_json();
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO runs (plan, verb, place, by, due, started, ended, outcome, owner, report)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, 'missed', '', ?7)",
                params![new.plan, new.verb, new.place, new.by.name(), missed.first, missed.last, report],
            )?;
            Ok(transaction.last_insert_rowid())
        })
    }

    /// Adds lines to the log of a run.
    pub fn log(&self, run: RunId, lines: &[LogLine]) -> Result<(), Problem> {
        if lines.is_empty() {
            return Ok(());
        }
        self.write(|transaction| {
            let last: i64 = transaction.query_row(
                "SELECT coalesce(max(line), 0) FROM log WHERE run = ?1",
                [run],
                |row| row.get(0),
            )?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO log (run, line, time, level, text) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (line, number) in lines.iter().zip(last + 1..) {
                insert.execute(params![run, number, line.time, line.level.name(), line.text])?;
            }
            Ok(())
        })
    }

    /// Asks whoever owns an open run to end it: in good order, or, asked again, at once. How often
    /// it was asked; `None` if the run is not open.
    pub fn ask_to_cancel(&self, run: RunId) -> Result<Option<u8>, Problem> {
        self.write(|transaction| {
            transaction
                .query_row(
                    "UPDATE runs SET cancel = min(cancel + 1, 9)
                     WHERE id = ?1 AND outcome IN ('queued', 'running') RETURNING cancel",
                    [run],
                    |row| row.get(0),
                )
                .optional()
        })
    }

    /// When a part of a plan was due last, if its calendar is still the same. Another calendar, or a
    /// new one, counts from `now` on.
    pub fn armed(&self, plan: &str, part: &str, calendar: &str, now: i64) -> Result<i64, Problem> {
        // Asked each round of each plan: only what changes takes the lock of writers.
        let known: Option<(String, i64)> = self.read(|connection| {
            let sql = "SELECT calendar, last FROM armed WHERE plan = ?1 AND part = ?2";
            let row = connection.query_row(sql, [plan, part], |row| Ok((row.get(0)?, row.get(1)?)));
            row.optional()
        })?;
        if let Some((_, last)) = known.filter(|(known, _)| known == calendar) {
            return Ok(last);
        }
        self.write(|transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO armed (plan, part, calendar, last) VALUES (?1, ?2, ?3, ?4)",
                params![plan, part, calendar, now],
            )?;
            Ok(now)
        })
    }

    /// A part of a plan was due, and is taken care of.
    pub fn advance(&self, plan: &str, part: &str, last: i64) -> Result<(), Problem> {
        self.write(|transaction| {
            let sql = "UPDATE armed SET last = ?3 WHERE plan = ?1 AND part = ?2";
            transaction.execute(sql, params![plan, part, last]).map(drop)
        })
    }

    /// Forgets what is armed of plans that are not among these: one that is enabled later does not
    /// make up for what came before.
    pub fn disarm_all_but(&self, kept: &[(String, &str)]) -> Result<(), Problem> {
        self.write(|transaction| {
            let mut armed = transaction.prepare("SELECT plan, part FROM armed")?;
            let rows = armed.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let rows: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>()?;
            for (plan, part) in rows {
                if !kept.iter().any(|(known, of)| *known == plan && *of == part) {
                    transaction
                        .execute("DELETE FROM armed WHERE plan = ?1 AND part = ?2", [plan, part])?;
                }
            }
            Ok(())
        })
    }

    /// Records that a channel was told of something, or was not.
    pub fn delivered(&self, delivery: &Delivery) -> Result<(), Problem> {
        self.write(|transaction| {
            let Delivery { time, channel, event, plan, run, error } = delivery;
            transaction.execute(
                "INSERT INTO deliveries (time, channel, event, plan, run, error)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![time, channel, event, plan, run, error],
            )?;
            Ok(())
        })
    }

    /// History follows a plan to its new name.
    pub fn rename_plan(&self, old: &str, new: &str) -> Result<(), Problem> {
        self.write(|transaction| {
            transaction.execute("UPDATE runs SET plan = ?2 WHERE plan = ?1", [old, new])?;
            transaction.execute("UPDATE deliveries SET plan = ?2 WHERE plan = ?1", [old, new])?;
            transaction.execute("DELETE FROM armed WHERE plan = ?1", [new])?;
            transaction.execute("UPDATE armed SET plan = ?2 WHERE plan = ?1", [old, new]).map(drop)
        })
    }

    /// Deletes runs that ended long before `now`, and older logs and deliveries. The newest run of
    /// each plan, verb and outcome stays. How many went.
    pub fn rotate(&self, now: i64) -> Result<usize, Problem> {
        let (before, logs) = (now.saturating_sub(KEEP_RUNS), now.saturating_sub(KEEP_LOGS));
        self.write(|transaction| {
            transaction.execute(
                "DELETE FROM log WHERE run IN (SELECT id FROM runs WHERE ended < ?1)",
                [logs],
            )?;
            transaction.execute("DELETE FROM deliveries WHERE time < ?1", [logs])?;
            transaction.execute(
                "DELETE FROM runs WHERE ended < ?1
                 AND id NOT IN (SELECT max(id) FROM runs GROUP BY plan, verb, outcome)",
                [before],
            )
        })
    }
}

/// Prepares a connection to a database that several processes open at any time: they wait for one
/// another, and readers do not wait for writers. The busy timeout does not hold for the change of the
/// journal, which fails at once while another process makes it, or closes the database.
pub fn write_ahead(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    let until = Instant::now() + PATIENCE;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(e)
                if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < until =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

/// A run that begins, or did not take place.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its plan, if it is of one.
    pub plan: Option<String>,
    /// What is done: "backup", "restore", "check", …
    pub verb: String,
    /// The repository, as it is shown.
    pub place: String,
    /// Who began it.
    pub by: By,
    /// When it was due, if it was.
    pub due: Option<i64>,
}

/// What was told to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// When; nanoseconds since the epoch.
    pub time: i64,
    /// Name of the channel.
    pub channel: String,
    /// Name of the event, or "test".
    pub event: String,
    /// Plan that it was about.
    pub plan: Option<String>,
    /// Run that it was about.
    pub run: Option<RunId>,
    /// Why it did not come through.
    pub error: Option<String>,
}

/// Runs that did not take place.
#[derive(Debug, Clone)]
pub struct Missed {
    /// How many.
    pub count: u64,
    /// When the first of them was due.
    pub first: i64,
    /// When the last of them was.
    pub last: i64,
    /// Why.
    pub problem: Problem,
}

/// The database may tell of names of files: it is nobody's business but the owner's.
fn make_private(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    match options.append(true).create(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(e) => Err(catalogue::io("open", path, &e)),
    }
}

fn upgrade(connection: &mut Connection, path: &Path) -> Result<(), Problem> {
    let failed = |error: rusqlite::Error| failed(path, &error);
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    let version: u32 = transaction
        .query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))
        .map_err(failed)?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > STEPS.len() {
        let shown = printable_os(path);
        let text = format!("the history {shown} was written by a later version of holdfast");
        return Err(Problem::new(Class::NewerFormat, text)
            .hint("install the newest holdfast on this machine"));
    }
    for step in STEPS.iter().skip(version) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", STEPS.len().to_string()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn failed(path: &Path, error: &rusqlite::Error) -> Problem {
    let shown = printable_os(path);
    let class = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Class::Busy,
        Some(ErrorCode::DiskFull) => Class::NoSpace,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Class::PermissionDenied,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Class::Damage,
        _ => Class::Io,
    };
    let problem = Problem::new(class, format!("the history {shown} cannot be used")).cause(error);
    match class {
        Class::Damage => problem.hint(
            "it holds no backups, only when they ran: move the file away, and a new one is made",
        ),
        Class::Busy => problem.hint("another process holds it for long: see who has it open"),
        _ => problem,
    }
}
