//! Settings: password and second factor, sessions, tokens for programs, and the record.

use std::net::IpAddr;

use askama::Template;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use holdfast_app::{Class, Problem, times};
use http::{HeaderMap, header};

use crate::accounts::{Codes, FORGOTTEN, LIVES, Offer, Scope, seconds};
use crate::failure::Failure;
use crate::pages::go;
use crate::posted::Posted;
use crate::state::{Shared, State};
use crate::view::{Frame, Nav, View, html};
use crate::words::{self, Sign};

/// Entries of the record that are shown.
const RECORD: u32 = 100;
/// What ends within this is marked, in nanoseconds: 14 days.
const SOON: i64 = 14 * 86_400 * 1_000_000_000;

/// The addresses of settings.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/settings", get(show))
        .route("/settings/password", post(password))
        .route("/settings/factor", post(offer))
        .route("/settings/factor/confirm", post(confirm))
        .route("/settings/factor/off", post(off))
        .route("/settings/sessions/end", post(end))
        .route("/settings/export", post(export))
        .route("/settings/export/whole", post(export_whole))
        .route("/settings/tokens", post(token))
        .route("/settings/tokens/revoke", post(revoke))
}

#[derive(Debug)]
struct SessionRow {
    hash: String,
    agent: String,
    address: String,
    made: String,
    seen: String,
    is_this: bool,
}

#[derive(Debug)]
struct TokenRow {
    id: i64,
    name: String,
    may: &'static str,
    made: String,
    used: String,
    until: String,
    /// What there is to say of that.
    sign: Option<Sign>,
}

/// What encrypts on the way to browsers.
#[derive(Debug)]
enum Encryption {
    /// Nothing: it is reached from this machine alone.
    None,
    /// What stands in front.
    Proxy,
    /// The console.
    Own {
        /// The file of the certificate, unless it was made here.
        file: Option<String>,
        fingerprint: String,
        ends: String,
        /// It ends soon, and nobody has renewed it.
        is_ending: bool,
    },
}

impl Encryption {
    fn of(state: &State, now: i64) -> Self {
        match &state.tls {
            Some(tls) => Self::Own {
                file: tls.file().map(holdfast_app::text::printable_os),
                fingerprint: tls.fingerprint(),
                ends: words::moment(tls.ends(), now),
                is_ending: tls.ends() - now < SOON,
            },
            None if state.is_behind_proxy => Self::Proxy,
            None => Self::None,
        }
    }
}

#[derive(Template)]
#[template(path = "settings.html")]
struct Page {
    frame: Frame,
    has_password: bool,
    has_factor: bool,
    sessions: Vec<SessionRow>,
    tokens: Vec<TokenRow>,
    /// Names of those whose time is over, or soon will be.
    ending: String,
    lives: [(&'static str, &'static str); 4],
    scopes: [(&'static str, &'static str); 4],
    record: Vec<(String, String, String)>,
    encryption: Encryption,
    config: String,
}

/// `GET /settings`
async fn show(view: View) -> Result<Response, Failure> {
    let frame = view.frame("Settings", Nav::Settings, "holdfast ui reset-password");
    let this = view.session.hash.clone();
    let page = view
        .blocking(move |state| {
            let (accounts, now) = (&state.accounts, times::now());
            let when = |time: i64| words::moment(time, now);
            let sessions = accounts.sessions()?.into_iter().map(|session| SessionRow {
                is_this: session.hash == this,
                made: when(session.made),
                seen: words::relative(session.seen, now),
                agent: browser(&session.agent),
                hash: session.hash,
                address: session.address,
            });
            let tokens = accounts.tokens()?.into_iter().map(|token| TokenRow {
                id: token.id,
                made: when(token.made),
                used: token.used.map_or_else(|| "never".into(), |time| words::relative(time, now)),
                may: Scope::from_name(&token.scope).map_or("nothing", Scope::words),
                until: token.expires.map_or_else(|| "for good".into(), when),
                sign: token.expires.and_then(|time| expiry(time, now)),
                name: token.name,
            });
            let tokens: Vec<_> = tokens.collect();
            let ending = tokens.iter().filter(|token| token.sign.is_some());
            let record = accounts.record(RECORD)?.into_iter();
            let record = record.map(|entry| (when(entry.time), entry.address, entry.what));
            Ok::<_, Problem>(Page {
                frame,
                has_password: accounts.has_password()?,
                has_factor: accounts.has_factor()?,
                sessions: sessions.collect(),
                ending: ending.map(|token| token.name.clone()).collect::<Vec<_>>().join(", "),
                tokens,
                lives: LIVES,
                scopes: Scope::ALL.map(|scope| (scope.name(), scope.words())),
                record: record.collect(),
                encryption: Encryption::of(state, now),
                config: holdfast_app::text::printable_os(&state.paths.config),
            })
        })
        .await?;
    Ok(html(&page))
}

/// How the end of a token is shown: not at all while it is far.
fn expiry(ends: i64, now: i64) -> Option<Sign> {
    let sign = |class, icon, word| Sign { class, icon, word, turns: false };
    match ends - now {
        ..=0 => Some(sign("bad", "i-bad", "Expired")),
        left if left < SOON => Some(sign("warn", "i-warn", "Expires soon")),
        _ => None,
    }
}

/// A browser's name out of what it says of itself.
fn browser(agent: &str) -> String {
    let known = ["Firefox", "Edg", "Chrome", "Safari", "curl"];
    let found = known.iter().find(|name| agent.contains(**name));
    found.map_or_else(|| "a browser".to_owned(), |name| name.replace("Edg", "Edge"))
}

/// Refuses what does not come with the password that is set now. Tries count as those of a sign-in:
/// a session that was stolen is no way around the limit.
fn with_password(state: &State, client: IpAddr, posted: &Posted) -> Result<(), Failure> {
    let accounts = &state.accounts;
    let is_password = || accounts.is_password(posted.text("current"));
    if accounts.has_password()? && !state.limiter.attempt(client, is_password)? {
        let problem = Problem::new(Class::Authentication, "the current password is not right");
        return Err(Failure::refusal(problem.hint(FORGOTTEN)));
    }
    Ok(())
}

/// `POST /settings/password`
async fn password(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    let client = view.client;
    view.blocking(move |state| {
        with_password(state, client, &posted)?;
        if posted.text("new") != posted.text("again") {
            return Err(Problem::usage("the two new passwords differ")
                .hint("nothing was changed; type the same twice")
                .into());
        }
        Ok::<_, Failure>(state.accounts.set_password(posted.text("new"))?)
    })
    .await?;
    Ok(go(&headers, "/sign-in"))
}

#[derive(Template)]
#[template(path = "factor-offer.html")]
struct Offered {
    offer: Offer,
}

/// `POST /settings/factor`: a secret for an app.
async fn offer(view: View, posted: Posted) -> Result<Response, Failure> {
    let client = view.client;
    let offer = view
        .blocking(move |state| {
            if !state.accounts.has_password()? {
                return Err(Problem::usage("a second factor needs a first one")
                    .hint("set a password above")
                    .into());
            }
            with_password(state, client, &posted)?;
            Ok::<_, Failure>(state.accounts.offer_factor(&state.machine)?)
        })
        .await?;
    Ok(html(&Offered { offer }))
}

#[derive(Template)]
#[template(path = "factor-codes.html")]
struct Confirmed {
    codes: Codes,
}

/// `POST /settings/factor/confirm`
async fn confirm(view: View, posted: Posted) -> Result<Response, Failure> {
    let codes = view
        .blocking(move |state| {
            let confirmed = state.accounts.confirm_factor(posted.text("code").trim(), seconds());
            confirmed.map_err(Failure::refusal)
        })
        .await?;
    Ok(html(&Confirmed { codes }))
}

/// `POST /settings/factor/off`
async fn off(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    let client = view.client;
    view.blocking(move |state| {
        with_password(state, client, &posted)?;
        Ok::<_, Failure>(state.accounts.drop_factor()?)
    })
    .await?;
    Ok(go(&headers, "/settings"))
}

/// `POST /settings/sessions/end`: one session, or all but this.
async fn end(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    let this = view.session.hash.clone();
    view.blocking(move |state| {
        let one = posted.sent("session").filter(|hash| !hash.is_empty());
        state.accounts.end_session(one, &this)
    })
    .await?;
    Ok(go(&headers, "/settings"))
}

#[derive(Template)]
#[template(path = "token-made.html")]
struct Made {
    token: String,
}

/// `POST /settings/tokens`
async fn token(view: View, posted: Posted) -> Result<Response, Failure> {
    let token = view
        .blocking(move |state| {
            state.accounts.new_token(posted.text("name"), posted.text("scope"), posted.text("days"))
        })
        .await?;
    Ok(html(&Made { token }))
}

/// `POST /settings/tokens/revoke`
async fn revoke(view: View, headers: HeaderMap, posted: Posted) -> Result<Response, Failure> {
    view.blocking(move |state| match posted.text("token").parse() {
        Ok(id) => state.accounts.revoke(id),
        Err(_) => Err(Problem::usage("nothing says which token")),
    })
    .await?;
    Ok(go(&headers, "/settings"))
}

/// `POST /settings/export`: the configuration as a file, without secrets.
async fn export(view: View) -> Result<Response, Failure> {
    let text = view.blocking(move |state| state.paths.load_config()?.without_secrets()).await?;
    Ok(as_file(text))
}

/// `POST /settings/export/whole`: the configuration as it is, for who knows the password.
async fn export_whole(view: View, posted: Posted) -> Result<Response, Failure> {
    let client = view.client;
    let text = view
        .blocking(move |state| {
            if !state.accounts.has_password()? {
                return Err(Problem::usage("secrets are given out only for a password")
                    .hint("set one above, or export without secrets")
                    .into());
            }
            with_password(state, client, &posted)?;
            Ok::<_, Failure>(state.paths.load_config()?.whole())
        })
        .await?;
    Ok(as_file(text))
}

fn as_file(text: String) -> Response {
    let fields = [
        (header::CONTENT_TYPE, "application/toml; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"holdfast-config.toml\""),
    ];
    (fields, text).into_response()
}
