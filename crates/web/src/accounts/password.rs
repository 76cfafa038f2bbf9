//! The password, as Argon2id.

use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::HEXLOWER;
use holdfast_app::{Class, Problem, random};
use rusqlite::params;

use super::Accounts;

/// Memory in KiB, passes, lanes: what a sign-in costs, and what guessing costs as well.
const COST: (u32, u32, u32) = (64 * 1024, 3, 1);
/// Characters that a password has at least.
const SHORTEST: usize = 10;

impl Accounts {
    /// Whether there is a password.
    pub fn has_password(&self) -> Result<bool, Problem> {
        self.with(|c| c.query_row("SELECT password IS NOT NULL FROM account", [], |r| r.get(0)))
    }

    /// Sets the password. All sessions end, since somebody else may have one.
    pub fn set_password(&self, password: &str) -> Result<(), Problem> {
        let kept = kept(password)?;
        self.write(|c| {
            c.execute("UPDATE account SET password = ?1", params![kept])?;
            c.execute("DELETE FROM sessions", [])
        })?;
        self.ended.send_replace(());
        Ok(())
    }

    /// Sets the password in place of all that lets somebody in: second factor, sessions, one-time
    /// addresses, tokens of programs. Nothing is changed if this one is refused.
    pub fn reset(&self, password: &str) -> Result<(), Problem> {
        let kept = kept(password)?;
        self.write(|c| {
            let sql = "UPDATE account SET password = ?1, secret = NULL, pending = NULL, step = 0";
            c.execute(sql, params![kept])?;
            c.execute_batch(
                "DELETE FROM recovery; DELETE FROM sessions; DELETE FROM once; DELETE FROM tokens;",
            )
        })?;
        self.ended.send_replace(());
        Ok(())
    }

    /// Whether this is the password. Without one none is right.
    pub(crate) fn is_password(&self, password: &str) -> Result<bool, Problem> {
        let sql = "SELECT password FROM account";
        let kept: Option<String> = self.with(|c| c.query_row(sql, [], |row| row.get(0)))?;
        let Some((cost, salt, hash)) = kept.as_deref().and_then(parse) else { return Ok(false) };
        Ok(is_same(&derive(password, &salt, cost)?, &hash))
    }
}

/// What is kept of a new password. Errors: it is too short.
fn kept(password: &str) -> Result<String, Problem> {
    if password.chars().count() < SHORTEST {
        return Err(Problem::usage(format!("the password is shorter than {SHORTEST} letters"))
            .hint("several words are easy to keep in mind and hard to guess"));
    }
    let salt = random::<16>()?;
    let (m, t, p) = COST;
    let hash = HEXLOWER.encode(&derive(password, &salt, COST)?);
    Ok(format!("argon2id:{m}:{t}:{p}:{}:{hash}", HEXLOWER.encode(&salt)))
}

type Kept = ((u32, u32, u32), Vec<u8>, Vec<u8>);

fn parse(text: &str) -> Option<Kept> {
    let mut parts = text.strip_prefix("argon2id:")?.split(':');
    let mut number = || parts.next()?.parse().ok();
    let cost = (number()?, number()?, number()?);
    let salt = HEXLOWER.decode(parts.next()?.as_bytes()).ok()?;
    let hash = HEXLOWER.decode(parts.next()?.as_bytes()).ok()?;
    Some((cost, salt, hash))
}

fn derive(password: &str, salt: &[u8], (m, t, p): (u32, u32, u32)) -> Result<[u8; 32], Problem> {
    let failed = |e: argon2::Error| {
        Problem::new(Class::Internal, "the password cannot be worked on").cause(e)
    };
    let params = Params::new(m, t, p, Some(32)).map_err(failed)?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut out)
        .map_err(failed)?;
    Ok(out)
}

/// Compares in the same time, wherever two differ.
pub(super) fn is_same(one: &[u8], two: &[u8]) -> bool {
    one.len() == two.len() && one.iter().zip(two).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_is_right_and_a_new_one_ends_sessions()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let accounts = Accounts::open(dir.path())?;
        assert!(!accounts.has_password()? && !accounts.is_password("")?);
        assert!(accounts.set_password("short").is_err());
        let id = accounts.open_session("", "")?;
        accounts.set_password("correct horse")?;
        assert!(accounts.session(&id)?.is_none());
        assert!(accounts.is_password("correct horse")? && !accounts.is_password("correct house")?);
        Ok(())
    }

    #[test]
    fn a_reset_that_is_refused_changes_nothing_and_another_leaves_no_way_in_but_it()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let accounts = Accounts::open(dir.path())?;
        accounts.set_password("correct horse")?;
        accounts.offer_factor("tern")?;
        let (once, token) = (accounts.new_once()?, accounts.new_token("x", "read", "")?);
        let session = accounts.open_session("", "")?;
        // As if the factor had been confirmed.
        accounts.with(|c| c.execute("UPDATE account SET secret = pending", []))?;
        assert!(accounts.reset("short").is_err());
        assert!(accounts.is_password("correct horse")? && accounts.has_factor()?);
        assert!(accounts.session(&session)?.is_some() && accounts.program(&token)?.is_some());
        accounts.reset("another horse")?;
        assert!(accounts.is_password("another horse")? && !accounts.has_factor()?);
        assert!(accounts.session(&session)?.is_none() && accounts.program(&token)?.is_none());
        assert!(!accounts.redeem(&once)?);
        Ok(())
    }
}
