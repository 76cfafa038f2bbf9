//! Who may use the console, in a database of the state directory: the password and the second
//! factor, sessions, one-time tokens, tokens for programs, and a record of what was done. Tokens are
//! kept as hashes: who reads the file cannot use them. Beside them stands what storages held when they
//! were last measured.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_app::{Class, Problem, catalogue, random, runs, times};
use holdfast_engine::hash::{Sha256, to_hex};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::watch;

mod factor;
mod figures;
mod limit;
mod password;
mod scope;

pub(crate) use factor::{Codes, Offer};
pub(crate) use figures::Measured;
pub(crate) use limit::Limiter;
pub use scope::LIVES;
pub(crate) use scope::{Program, Scope};

/// What helps who does not know the password any more.
pub(crate) const FORGOTTEN: &str =
    "forgotten? On the console's machine: holdfast ui reset-password";
/// How long a one-time address may be used, in nanoseconds.
const TOKEN_LIFE: i64 = 600 * SECOND;
/// How long a session lasts without a request.
const IDLE: i64 = 12 * 3600 * SECOND;
/// How long a session lasts at all.
const LIFE: i64 = 30 * 86_400 * SECOND;
/// A session that is used is noted no more often than this.
const NOTED: i64 = 60 * SECOND;
/// Entries of the record that stay.
const RECORDS: i64 = 10_000;
const SECOND: i64 = 1_000_000_000;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS account (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        password TEXT,
        secret BLOB,
        pending BLOB,
        step INTEGER NOT NULL DEFAULT 0
    );
    INSERT OR IGNORE INTO account (id) VALUES (1);
    CREATE TABLE IF NOT EXISTS recovery (hash TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS once (hash TEXT PRIMARY KEY, made INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS sessions (
        hash TEXT PRIMARY KEY,
        csrf TEXT NOT NULL,
        made INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        address TEXT NOT NULL,
        agent TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS tokens (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE,
        scope TEXT NOT NULL,
        made INTEGER NOT NULL,
        used INTEGER,
        expires INTEGER
    );
    CREATE TABLE IF NOT EXISTS record (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time INTEGER NOT NULL,
        address TEXT NOT NULL,
        what TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS measured (
        storage TEXT PRIMARY KEY,
        time INTEGER NOT NULL,
        stored INTEGER NOT NULL,
        snapshots INTEGER NOT NULL,
        logical INTEGER NOT NULL
    ) WITHOUT ROWID;";

/// A session as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// What it is known by in the list of sessions.
    pub(crate) hash: String,
    /// What forms send back. Not the cookie's value, so that a page that leaks gives no session.
    pub(crate) csrf: String,
}

/// A session as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) hash: String,
    pub(crate) made: i64,
    pub(crate) seen: i64,
    pub(crate) address: String,
    pub(crate) agent: String,
}

/// A token of a program as it is listed. Times are nanoseconds since the epoch.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its number.
    pub id: i64,
    /// What will use it.
    pub name: String,
    /// Name of what it may do.
    pub scope: String,
    /// When it was made.
    pub made: i64,
    /// When it was last shown; `None`: never.
    pub used: Option<i64>,
    /// From when on it is refused; `None`: it is not.
    pub expires: Option<i64>,
}

/// What was done, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) time: i64,
    pub(crate) address: String,
    pub(crate) what: String,
}

/// The accounts of a state directory. Several processes may have them open.
#[derive(Debug)]
pub struct Accounts {
    connection: Mutex<Connection>,
    path: PathBuf,
    /// Changes when this process ends sessions.
    ended: watch::Sender<()>,
}

impl Accounts {
    /// Opens the accounts; the database is made (0600) if it is not there.
    pub fn open(state: &Path) -> Result<Self, Problem> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(state);
        made.map_err(|e| catalogue::io("make", state, &e))?;
        let path = state.join("console.sqlite");
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| catalogue::io("open", &path, &e))?;
        let attempt = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&path)?;
            runs::write_ahead(&connection)?;
            let transaction =
                Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
            transaction.execute_batch(TABLES)?;
            scope::add_expiry(&transaction)?;
            transaction.commit()?;
            Ok(connection)
        };
        let connection = attempt().map_err(|e| failed(&path, &e))?;
        Ok(Self { connection: Mutex::new(connection), path, ended: watch::Sender::new(()) })
    }

    fn with<T>(&self, body: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Problem> {
        let connection: MutexGuard<'_, Connection> =
            self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        body(&connection).map_err(|e| failed(&self.path, &e))
    }

    /// Like [`Self::with`], alone among all processes; nothing stays if it fails or is cut off.
    fn write<T>(
        &self,
        body: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Problem> {
        self.with(|c| {
            let transaction = Transaction::new_unchecked(c, TransactionBehavior::Immediate)?;
            let value = body(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// A token that signs in once.
    pub(crate) fn new_once(&self) -> Result<String, Problem> {
        let (token, now) = (secret()?, times::now());
        self.with(|c| {
            c.execute("DELETE FROM once WHERE made < ?1", [now - TOKEN_LIFE])?;
            c.execute("INSERT INTO once (hash, made) VALUES (?1, ?2)", params![hash(&token), now])
        })?;
        Ok(token)
    }

    /// Uses a one-time token up; whether it was good.
    pub(crate) fn redeem(&self, token: &str) -> Result<bool, Problem> {
        let since = times::now() - TOKEN_LIFE;
        let sql = "DELETE FROM once WHERE hash = ?1 RETURNING made >= ?2";
        let found = self
            .with(|c| c.query_row(sql, params![hash(token), since], |row| row.get(0)).optional())?;
        Ok(found.unwrap_or(false))
    }

    /// Opens a session: the secret for its cookie.
    pub(crate) fn open_session(&self, address: &str, agent: &str) -> Result<String, Problem> {
        let (id, csrf, now) = (secret()?, secret()?, times::now());
        let agent: String = agent.chars().take(200).collect();
        self.with(|c| {
            let old = params![now - IDLE, now - LIFE];
            c.execute("DELETE FROM sessions WHERE seen < ?1 OR made < ?2", old)?;
            c.execute(
                "INSERT INTO sessions (hash, csrf, made, seen, address, agent)
                 VALUES (?1, ?2, ?3, ?3, ?4, ?5)",
                params![hash(&id), csrf, now, address, agent],
            )
        })?;
        Ok(id)
    }

    /// The session that a cookie's secret means.
    pub(crate) fn session(&self, id: &str) -> Result<Option<Session>, Problem> {
        let (hash, now) = (hash(id), times::now());
        self.with(|c| {
            let found = c
                .prepare_cached(
                    "SELECT csrf, seen FROM sessions
                     WHERE hash = ?1 AND seen >= ?2 AND made >= ?3",
                )?
                .query_row(params![hash, now - IDLE, now - LIFE], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            let Some((csrf, seen)) = found else { return Ok(None) };
            if seen < now - NOTED {
                c.execute("UPDATE sessions SET seen = ?2 WHERE hash = ?1", params![hash, now])?;
            }
            Ok(Some(Session { hash, csrf }))
        })
    }

    /// Whether a session is still good. Unlike a request, asking does not keep it alive.
    pub(crate) fn is_open(&self, hash: &str) -> Result<bool, Problem> {
        let now = times::now();
        let sql = "SELECT COUNT(*) FROM sessions WHERE hash = ?1 AND seen >= ?2 AND made >= ?3";
        self.with(|c| {
            c.prepare_cached(sql)?.query_row(params![hash, now - IDLE, now - LIFE], |r| r.get(0))
        })
    }

    /// Says when sessions were ended by this process. Others may end them too.
    pub(crate) fn ends(&self) -> watch::Receiver<()> {
        self.ended.subscribe()
    }

    /// All sessions, the newest first.
    pub(crate) fn sessions(&self) -> Result<Vec<Listed>, Problem> {
        self.with(|c| {
            let mut statement = c.prepare(
                "SELECT hash, made, seen, address, agent FROM sessions ORDER BY seen DESC",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(Listed {
                    hash: row.get(0)?,
                    made: row.get(1)?,
                    seen: row.get(2)?,
                    address: row.get(3)?,
                    agent: row.get(4)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Ends a session; with `None`, all but `keep`.
    pub(crate) fn end_session(&self, hash: Option<&str>, keep: &str) -> Result<(), Problem> {
        self.with(|c| match hash {
            Some(hash) => c.execute("DELETE FROM sessions WHERE hash = ?1", [hash]),
            None => c.execute("DELETE FROM sessions WHERE hash <> ?1", [keep]),
        })?;
        self.ended.send_replace(());
        Ok(())
    }

    /// The tokens of programs.
    pub fn tokens(&self) -> Result<Vec<Token>, Problem> {
        self.with(|c| {
            let sql = "SELECT id, name, scope, made, used, expires FROM tokens ORDER BY id";
            let mut statement = c.prepare(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(Token {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    scope: row.get(2)?,
                    made: row.get(3)?,
                    used: row.get(4)?,
                    expires: row.get(5)?,
                })
            })?;
            rows.collect()
        })
    }

    /// Takes a program's token away.
    pub fn revoke(&self, id: i64) -> Result<(), Problem> {
        self.with(|c| c.execute("DELETE FROM tokens WHERE id = ?1", [id])).map(drop)
    }

    /// Notes what was done.
    pub fn note(&self, address: &str, what: &str) -> Result<(), Problem> {
        self.with(|c| {
            c.execute(
                "INSERT INTO record (time, address, what) VALUES (?1, ?2, ?3)",
                params![times::now(), address, what],
            )?;
            let oldest = c.last_insert_rowid() - RECORDS;
            c.execute("DELETE FROM record WHERE id <= ?1", [oldest])
        })
        .map(drop)
    }

    /// What was done, the newest first, at most `limit` entries.
    pub(crate) fn record(&self, limit: u32) -> Result<Vec<Record>, Problem> {
        self.with(|c| {
            let sql = "SELECT time, address, what FROM record ORDER BY id DESC LIMIT ?1";
            let mut statement = c.prepare(sql)?;
            let rows = statement.query_map([limit], |row| {
                Ok(Record { time: row.get(0)?, address: row.get(1)?, what: row.get(2)? })
            })?;
            rows.collect()
        })
    }
}

/// Seconds since the epoch, as codes of apps count them.
pub(crate) fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())
}

fn failed(path: &Path, error: &rusqlite::Error) -> Problem {
    let shown = holdfast_app::text::printable_os(path);
    Problem::new(Class::Io, format!("the console's accounts {shown} cannot be used")).cause(error)
}

/// 256 random bits.
fn secret() -> Result<String, Problem> {
    Ok(to_hex(&random::<32>()?))
}

/// What is kept of a secret that is random enough not to be guessed.
fn hash(secret: &str) -> String {
    Sha256::of(secret.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_lets_nobody_in() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let accounts = Accounts::open(dir.path())?;
        let age = |sql: &str, by: i64| accounts.with(|c| c.execute(sql, [by]));
        let seen = "UPDATE sessions SET seen = seen - ?1";
        for (sql, life) in [(seen, IDLE), ("UPDATE sessions SET made = made - ?1", LIFE)] {
            let id = accounts.open_session("", "")?;
            age(sql, life - 60 * SECOND)?;
            assert!(accounts.session(&id)?.is_some(), "{sql}: too early");
            age(sql, life)?;
            assert!(accounts.session(&id)?.is_none(), "{sql}");
        }
        // A session that is used lives on.
        let id = accounts.open_session("", "")?;
        for _ in 0..3 {
            age(seen, IDLE - 60 * SECOND)?;
            assert!(accounts.session(&id)?.is_some(), "its use was not noted");
        }
        let (one, two) = (accounts.new_once()?, accounts.new_once()?);
        let made = "UPDATE once SET made = made - ?1";
        age(made, TOKEN_LIFE - 60 * SECOND)?;
        assert!(accounts.redeem(&one)?);
        age(made, 61 * SECOND)?;
        assert!(!accounts.redeem(&two)?);
        Ok(())
    }

    #[test]
    fn tokens_and_sessions_are_good_once_or_until_they_are_ended()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let accounts = Accounts::open(dir.path())?;
        let token = accounts.new_once()?;
        assert!(!accounts.redeem("")? && accounts.redeem(&token)? && !accounts.redeem(&token)?);
        let id = accounts.open_session("127.0.0.1", "test")?;
        let session = accounts.session(&id)?.ok_or("no session")?;
        assert!(accounts.session(&session.hash)?.is_none(), "the list gives sessions away");
        let other = accounts.open_session("127.0.0.1", "test")?;
        accounts.end_session(None, &session.hash)?;
        assert!(accounts.session(&other)?.is_none() && accounts.session(&id)?.is_some());
        accounts.end_session(Some(&session.hash), "")?;
        assert!(accounts.session(&id)?.is_none());
        let id = accounts.open_session("127.0.0.1", "test")?;
        let session = accounts.session(&id)?.ok_or("no session")?;
        assert!(accounts.is_open(&session.hash)?);
        accounts.with(|c| c.execute("UPDATE sessions SET seen = seen - ?1", [IDLE + SECOND]))?;
        assert!(!accounts.is_open(&session.hash)?, "open after its time");
        let token = accounts.new_token("x", "run", "")?;
        let found = accounts.program(&token)?.ok_or("no program")?;
        assert_eq!((found.name.as_str(), found.scope), ("x", Scope::Run));
        for name in ["console.sqlite", "console.sqlite-wal"] {
            let bytes = std::fs::read(dir.path().join(name))?;
            let kept = String::from_utf8_lossy(&bytes);
            assert!(!kept.contains(&token) && !kept.contains(&id), "{name} gives secrets away");
        }
        assert!(accounts.new_token("x", "all", "").is_err());
        accounts.revoke(accounts.tokens()?.first().ok_or("no token")?.id)?;
        assert!(accounts.program(&token)?.is_none());
        Ok(())
    }
}
