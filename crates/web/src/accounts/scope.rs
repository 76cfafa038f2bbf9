//! Tokens of programs: what they may do, and until when. Each scope includes those before it.

use holdfast_app::{Class, Problem, times};
use rusqlite::{Connection, OptionalExtension, params};

use super::{Accounts, hash, secret};

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// See plans, runs, storages, snapshots and figures.
    Read,
    /// Also start and cancel what reads or adds: plans, checks, tests.
    Run,
    /// Also look into snapshots, and restore: write files wherever the service can.
    Restore,
    /// Also what takes something away, or says who may: forget, gc, tags and pins, keys, the record.
    Admin,
}

impl Scope {
    /// All of them, from the least on.
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Run, Self::Restore, Self::Admin];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Restore => "restore",
            Self::Admin => "admin",
        }
    }

    /// What it allows, in words.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "read, and run and cancel",
            Self::Restore => "read, run, and restore",
            Self::Admin => "everything, forget and gc too",
        }
    }

    /// The scope of this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// How long a token may be good: what a form sends, and what it says. The first is what counts where
/// nothing is said.
pub const LIVES: [(&str, &str); 4] =
    [("365", "for a year"), ("90", "for 90 days"), ("30", "for 30 days"), ("never", "for good")];

/// A day in nanoseconds.
const DAY: i64 = 86_400 * 1_000_000_000;

/// Accounts of earlier versions know no end of a token: theirs have none.
pub(super) fn add_expiry(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT COUNT(*) FROM pragma_table_info('tokens') WHERE name = 'expires'";
    if connection.query_row(sql, [], |row| row.get::<_, i64>(0))? == 0 {
        connection.execute("ALTER TABLE tokens ADD COLUMN expires INTEGER", [])?;
    }
    Ok(())
}

/// A program that showed a token.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What the token is called.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scope: Scope,
}

impl Accounts {
    /// Makes a token for a program: what it has to send. `scope` is the name of one, `life` is one of
    /// [`LIVES`] or empty.
    pub fn new_token(&self, name: &str, scope: &str, life: &str) -> Result<String, Problem> {
        if name.trim().is_empty() {
            return Err(Problem::usage("the token has no name")
                .hint("name what will use it, such as «dashboard»"));
        }
        let Some(scope) = Scope::from_name(scope) else {
            return Err(Problem::usage("nothing says what the token may do")
                .hint(format!("its scope is one of {}", Scope::ALL.map(Scope::name).join(", "))));
        };
        let [(standard, _), ..] = LIVES;
        let life = if life.is_empty() { standard } else { life };
        if !LIVES.iter().any(|(known, _)| *known == life) {
            return Err(Problem::usage("nothing says how long the token is good")
                .hint(format!("its days are one of {}", LIVES.map(|(days, _)| days).join(", "))));
        }
        let now = times::now();
        let expires = life.parse::<i64>().ok().map(|days| now + days * DAY);
        let token = format!("hf_{}", secret()?);
        self.with(|c| {
            c.execute(
                "INSERT INTO tokens (name, hash, scope, made, expires) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name.trim(), hash(&token), scope.name(), now, expires],
            )
        })?;
        Ok(token)
    }

    /// Whose token this is; `None` if it is nobody's. Errors: [`Class::Authentication`] if its time is
    /// over.
    pub(crate) fn program(&self, token: &str) -> Result<Option<Program>, Problem> {
        let (hash, now) = (hash(token), times::now());
        let sql =
            "UPDATE tokens SET used = ?2 WHERE hash = ?1 AND (expires IS NULL OR expires > ?2)
                   RETURNING name, scope";
        let found = self.with(|c| {
            c.query_row(sql, params![hash, now], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))
                .optional()
        })?;
        if let Some((name, scope)) = found {
            // A scope that this version does not know allows nothing.
            return Ok(Scope::from_name(&scope).map(|scope| Program { name, scope }));
        }
        let sql = "SELECT name, expires FROM tokens WHERE hash = ?1";
        let old = self.with(|c| {
            let row =
                |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
            c.query_row(sql, [hash], row).optional()
        })?;
        old.map_or(Ok(None), |(name, ended)| {
            let text = format!("the token {name} expired on {}", times::local(ended));
            Err(Problem::new(Class::Authentication, text)
                .hint("make another: holdfast token create NAME, or in the console's settings"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_end_and_those_of_earlier_versions_do_not() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        // As the table was.
        let before = Connection::open(dir.path().join("console.sqlite"))?;
        before.execute_batch(
            "CREATE TABLE tokens (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,
             hash TEXT NOT NULL UNIQUE, scope TEXT NOT NULL, made INTEGER NOT NULL, used INTEGER);",
        )?;
        let sql = "INSERT INTO tokens (name, hash, scope, made) VALUES ('old', ?1, 'read', 1)";
        before.execute(sql, [hash("hf_old")])?;
        drop(before);
        drop(Accounts::open(dir.path())?);
        let accounts = Accounts::open(dir.path())?;
        let later = |days: i64| {
            let sql = "UPDATE tokens SET expires = expires - ?1";
            accounts.with(|c| c.execute(sql, [days * DAY]))
        };
        let standard = accounts.new_token("a", "read", "")?;
        let month = accounts.new_token("b", "read", "30")?;
        let ever = accounts.new_token("c", "read", "never")?;
        let name = |token: &str| match accounts.program(token) {
            Ok(program) => program.map(|p| p.name),
            Err(problem) => Some(problem.message),
        };
        later(29)?;
        let good: Vec<_> = [&*standard, &*month, &*ever, "hf_old", "hf_no"].map(name).into();
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(good, [some("a"), some("b"), some("c"), some("old"), None]);
        later(2)?;
        assert!(name(&month).is_some_and(|text| text.starts_with("the token b expired on ")));
        assert!(accounts.program(&month).is_err_and(|p| p.class == Class::Authentication));
        assert_eq!(name(&standard), some("a"));
        later(365 - 30)?;
        assert!(accounts.program(&standard).is_err());
        assert_eq!([name(&ever), name("hf_old")], [some("c"), some("old")]);
        assert!(accounts.new_token("d", "read", "12").is_err());
        Ok(())
    }
}
