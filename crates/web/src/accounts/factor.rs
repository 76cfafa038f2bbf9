//! The second factor: codes of an app (RFC 6238), each good once, and recovery codes for the day on
//! which the app is lost.

use data_encoding::BASE32_NOPAD;
use holdfast_app::{Class, Problem, random};
use rusqlite::{OptionalExtension, params};
use totp_rs::{Algorithm, TOTP};

use super::{Accounts, hash};

/// Seconds for which a code is shown.
const STEP: u64 = 30;
/// Recovery codes that are made.
const CODES: usize = 10;

/// A second factor that is still to be confirmed.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// The secret, to be typed into an app.
    pub(crate) secret: String,
    /// The same as an address that apps understand.
    pub(crate) url: String,
}

/// Recovery codes, shown once.
pub(crate) type Codes = Vec<String>;

impl Accounts {
    /// Whether a second factor is asked for.
    pub(crate) fn has_factor(&self) -> Result<bool, Problem> {
        self.with(|c| c.query_row("SELECT secret IS NOT NULL FROM account", [], |r| r.get(0)))
    }

    /// A new secret for an app. It counts once a code of it was typed.
    pub(crate) fn offer_factor(&self, machine: &str) -> Result<Offer, Problem> {
        let secret = random::<20>()?;
        self.with(|c| c.execute("UPDATE account SET pending = ?1", params![secret.to_vec()]))?;
        // A colon would end the issuer.
        let totp = totp(secret.to_vec(), &machine.replace(':', " "))?;
        Ok(Offer { secret: BASE32_NOPAD.encode(&secret), url: totp.get_url() })
    }

    /// Turns the second factor on if `code` is of the app. `now` in seconds since the epoch.
    pub(crate) fn confirm_factor(&self, code: &str, now: u64) -> Result<Codes, Problem> {
        let sql = "SELECT pending FROM account";
        let pending: Option<Vec<u8>> = self.with(|c| c.query_row(sql, [], |row| row.get(0)))?;
        let pending = pending.ok_or_else(|| {
            Problem::usage("no second factor waits to be confirmed").hint("begin anew")
        })?;
        let Some(step) = step_of(&totp(pending.clone(), "")?, code, now) else {
            return Err(wrong());
        };
        let mut codes = Vec::with_capacity(CODES);
        for _ in 0..CODES {
            let text = BASE32_NOPAD.encode(&random::<10>()?).to_lowercase();
            let (one, rest) = text.split_at(8);
            codes.push(format!("{one}-{rest}"));
        }
        self.write(|c| {
            c.execute(
                "UPDATE account SET secret = ?1, pending = NULL, step = ?2",
                params![pending, i64::try_from(step).unwrap_or(i64::MAX)],
            )?;
            c.execute("DELETE FROM recovery", [])?;
            for code in &codes {
                c.execute("INSERT INTO recovery (hash) VALUES (?1)", [hash(code)])?;
            }
            Ok(())
        })?;
        Ok(codes)
    }

    /// Whether `code` is one of the app that was not used yet, or a recovery code, which is used up.
    pub(crate) fn is_code(&self, code: &str, now: u64) -> Result<bool, Problem> {
        let code = code.trim().to_lowercase();
        let sql = "SELECT secret FROM account";
        let secret: Option<Vec<u8>> = self.with(|c| c.query_row(sql, [], |row| row.get(0)))?;
        let Some(secret) = secret else { return Ok(true) };
        if let Some(step) = step_of(&totp(secret, "")?, &code, now) {
            let step = i64::try_from(step).unwrap_or(i64::MAX);
            // Taken in one step, so that two at once cannot both use it.
            let sql = "UPDATE account SET step = ?1 WHERE step < ?1";
            return Ok(self.with(|c| c.execute(sql, [step]))? == 1);
        }
        let sql = "DELETE FROM recovery WHERE hash = ?1 RETURNING 1";
        let found: Option<i64> =
            self.with(|c| c.query_row(sql, [hash(&code)], |row| row.get(0)).optional())?;
        Ok(found.is_some())
    }

    /// Turns the second factor off.
    pub(crate) fn drop_factor(&self) -> Result<(), Problem> {
        self.write(|c| {
            c.execute_batch(
                "UPDATE account SET secret = NULL, pending = NULL, step = 0; DELETE FROM recovery;",
            )
        })
    }
}

fn wrong() -> Problem {
    Problem::new(Class::Authentication, "this code is not right")
        .hint("type the six digits that the app shows now; the clocks of both must agree")
}

fn totp(secret: Vec<u8>, machine: &str) -> Result<TOTP, Problem> {
    let account = if machine.is_empty() { "console" } else { machine };
    TOTP::new(Algorithm::SHA1, 6, 1, STEP, secret, Some("Holdfast".into()), account.into())
        .map_err(|e| Problem::new(Class::Internal, "the second factor cannot be used").cause(e))
}

/// The step of which `code` is, among now and one step to either side.
fn step_of(totp: &TOTP, code: &str, now: u64) -> Option<u64> {
    let now = now / STEP;
    (now.saturating_sub(1)..=now + 1).find(|step| {
        super::password::is_same(totp.generate(step * STEP).as_bytes(), code.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_good_once_and_recovery_codes_are_too() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let accounts = Accounts::open(dir.path())?;
        let now = 1_700_000_000;
        assert!(accounts.is_code("", now)?, "nothing is asked for while there is no factor");
        let offer = accounts.offer_factor("tern")?;
        assert!(offer.url.starts_with("otpauth://totp/Holdfast"), "{}", offer.url);
        let app = totp(BASE32_NOPAD.decode(offer.secret.as_bytes())?, "tern")?;
        assert!(accounts.confirm_factor("000000", now).is_err() && !accounts.has_factor()?);
        let codes = accounts.confirm_factor(&app.generate(now), now)?;
        assert!(accounts.has_factor()?);
        // The one that confirmed is used up.
        assert!(!accounts.is_code(&app.generate(now), now)?);
        let later = now + 60;
        assert!(!accounts.is_code(&app.generate(now), later)?, "an old code");
        assert!(accounts.is_code(&app.generate(later), later)?);
        assert!(!accounts.is_code(&app.generate(later), later)?, "a code was good twice");
        let code = codes.first().ok_or("no codes")?;
        assert!(accounts.is_code(&code.to_uppercase(), later)? && !accounts.is_code(code, later)?);
        accounts.drop_factor()?;
        assert!(!accounts.has_factor()?);
        Ok(())
    }
}
