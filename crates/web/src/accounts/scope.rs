//! Tokens of programs, and what they may do. Each scope includes those before it.

use holdfast_app::{Problem, times};
use rusqlite::{OptionalExtension, params};

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

/// A program that showed a token.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// What the token is called.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scope: Scope,
}

impl Accounts {
    /// Makes a token for a program: what it has to send. `scope` is the name of one.
    pub(crate) fn new_token(&self, name: &str, scope: &str) -> Result<String, Problem> {
        if name.trim().is_empty() {
            return Err(Problem::usage("the token has no name")
                .hint("name what will use it, such as «dashboard»"));
        }
        let Some(scope) = Scope::from_name(scope) else {
            return Err(Problem::usage("nothing says what the token may do")
                .hint(format!("its scope is one of {}", Scope::ALL.map(Scope::name).join(", "))));
        };
        let token = format!("hf_{}", secret()?);
        self.with(|c| {
            c.execute(
                "INSERT INTO tokens (name, hash, scope, made) VALUES (?1, ?2, ?3, ?4)",
                params![name.trim(), hash(&token), scope.name(), times::now()],
            )
        })?;
        Ok(token)
    }

    /// Whose token this is; `None` if it is nobody's.
    pub(crate) fn program(&self, token: &str) -> Result<Option<Program>, Problem> {
        let sql = "UPDATE tokens SET used = ?2 WHERE hash = ?1 RETURNING name, scope";
        let found = self.with(|c| {
            c.query_row(sql, params![hash(token), times::now()], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?))
            })
            .optional()
        })?;
        // A scope that this version does not know allows nothing.
        Ok(found.and_then(|(name, scope)| Some(Program { name, scope: Scope::from_name(&scope)? })))
    }
}
