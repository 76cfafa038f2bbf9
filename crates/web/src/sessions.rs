//! Who is signed in: one-time tokens become sessions, sessions are known by a cookie and vouch for
//! forms by a token of their own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdfast_app::{Class, Problem};
use holdfast_engine::crypto;
use holdfast_engine::hash::to_hex;

/// How long a one-time address may be used.
const TOKEN_LIFE: Duration = Duration::from_secs(600);
/// How long a session lasts without a request.
const IDLE: Duration = Duration::from_secs(12 * 3600);

/// A session as handlers see it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// What forms send back. Not the cookie's value, so that a page that leaks gives no session.
    pub(crate) csrf: String,
}

struct Entry {
    session: Session,
    seen: Instant,
}

/// All sessions of a console.
pub(crate) struct Sessions {
    /// Cookies know no port: consoles beside each other must not share one.
    cookie: String,
    tokens: Mutex<HashMap<String, Instant>>,
    entries: Mutex<HashMap<String, Entry>>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

impl Sessions {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            cookie: format!("holdfast-{port}"),
            tokens: Mutex::default(),
            entries: Mutex::default(),
        }
    }

    /// A token that signs in once.
    pub(crate) fn new_token(&self) -> Result<String, Problem> {
        let token = secret()?;
        let mut tokens = lock(&self.tokens);
        tokens.retain(|_, made| made.elapsed() < TOKEN_LIFE);
        tokens.insert(token.clone(), Instant::now());
        Ok(token)
    }

    /// Uses a token up. The answer is the `Set-Cookie` of the session that it opened.
    pub(crate) fn redeem(&self, token: &str) -> Result<Option<String>, Problem> {
        let made = lock(&self.tokens).remove(token);
        match made {
            Some(made) if made.elapsed() < TOKEN_LIFE => self.open().map(Some),
            _ => Ok(None),
        }
    }

    /// Opens a session; the answer is its `Set-Cookie`.
    fn open(&self) -> Result<String, Problem> {
        let (id, csrf) = (secret()?, secret()?);
        let cookie = format!("{}={id}; Path=/; HttpOnly; SameSite=Strict", self.cookie);
        let mut entries = lock(&self.entries);
        entries.retain(|_, entry| entry.seen.elapsed() < IDLE);
        entries.insert(id, Entry { session: Session { csrf }, seen: Instant::now() });
        Ok(cookie)
    }

    /// The session that the text of a `Cookie` header means, if there is one.
    pub(crate) fn find(&self, cookies: &str) -> Option<Session> {
        let id = cookie(cookies, &self.cookie)?;
        let mut entries = lock(&self.entries);
        let entry = entries.get_mut(id).filter(|entry| entry.seen.elapsed() < IDLE)?;
        entry.seen = Instant::now();
        Some(entry.session.clone())
    }
}

/// The value of a cookie in the text of a `Cookie` header.
pub(crate) fn cookie<'a>(cookies: &'a str, name: &str) -> Option<&'a str> {
    cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v)
}

/// 256 random bits.
fn secret() -> Result<String, Problem> {
    let random = crypto::random::<32>()
        .map_err(|e| Problem::new(Class::Internal, "the system gives no random bytes").cause(e))?;
    Ok(to_hex(&random))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_one_session_and_no_more() -> Result<(), Box<dyn std::error::Error>> {
        let sessions = Sessions::new(1);
        let token = sessions.new_token()?;
        let set = sessions.redeem(&token)?.ok_or("no session")?;
        assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Strict"), "{set}");
        assert_eq!(sessions.redeem(&token)?, None);
        assert_eq!(sessions.redeem("")?, None);
        let cookie = set.split(';').next().ok_or("empty")?;
        assert!(sessions.find(&format!("theme=dark; {cookie}")).is_some());
        assert!(sessions.find("holdfast-1=00").is_none());
        assert!(sessions.find("").is_none());
        Ok(())
    }
}
