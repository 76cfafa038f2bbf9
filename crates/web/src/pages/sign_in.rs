//! Signing in with the password and, if there is one, the second factor; and signing out.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use holdfast_app::text::duration;
use holdfast_app::{Class, Problem};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::failure::{self, Failure, Note};
use crate::posted::Posted;
use crate::state::Shared;
use crate::view::{self, View};

#[derive(Template)]
#[template(path = "sign-in.html")]
struct Page {
    theme: &'static str,
    /// There is a password to sign in with.
    has_password: bool,
    has_factor: bool,
    to: String,
    note: Option<Note>,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct To {
    #[serde(default)]
    to: String,
}

/// What somebody sees who is not signed in: a way in that leads back to where they were going.
pub(crate) fn needed(state: &Shared, request: &Request, cookies: &str) -> Response {
    let path = request.uri().path_and_query().map(|p| p.as_str()).unwrap_or("/");
    let to = if request.method() == Method::GET { path } else { "/" };
    page(state, cookies, to, Err(StatusCode::UNAUTHORIZED))
}

/// What somebody sees whose one-time address is not good any more.
pub(crate) fn refused(state: &Shared, cookies: &str) -> Response {
    page(state, cookies, "/", Err(StatusCode::UNAUTHORIZED))
}

/// The page, with what went wrong, or else with this status.
fn page(
    state: &Shared,
    cookies: &str,
    to: &str,
    problem: Result<&Problem, StatusCode>,
) -> Response {
    let attempt = || -> Result<Page, Problem> {
        Ok(Page {
            theme: view::theme(cookies),
            has_password: state.accounts.has_password()?,
            has_factor: state.accounts.has_factor()?,
            to: to.to_owned(),
            note: problem.ok().map(Note::from),
        })
    };
    match attempt() {
        Ok(page) => {
            let status = problem.map_or_else(|status| status, |p| failure::status(p.class));
            (status, view::html(&page)).into_response()
        }
        Err(problem) => failure::bare(&problem, cookies),
    }
}

/// `GET /sign-in`
pub(crate) async fn show(
    State(state): State<Shared>,
    Query(to): Query<To>,
    headers: HeaderMap,
) -> Response {
    page(&state, cookies(&headers), &to.to, Err(StatusCode::OK))
}

/// `POST /sign-in`
pub(crate) async fn enter(
    State(state): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    posted: Posted,
) -> Response {
    let cookies = cookies(&headers).to_owned();
    // Forms of ours say where they come from; what does not is no browser that keeps a cookie.
    if !headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "A sign-in comes from the console's own page.\n")
            .into_response();
    }
    let client = state.client(peer, &headers);
    let to = posted.text("to").to_owned();
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
    let agent = agent.unwrap_or_default().to_owned();
    let worker = state.clone();
    let tried = tokio::task::spawn_blocking(move || check(&worker, client, &agent, &posted)).await;
    let tried = tried.unwrap_or_else(|e| {
        Err(Problem::new(Class::Internal, "a part of the console broke off").cause(e))
    });
    match tried {
        Ok(id) => with_cookie(&state, Some(&id), own_path(&to)),
        Err(problem) => page(&state, &cookies, &to, Ok(&problem)),
    }
}

/// The secret of a new session, if password and code are right.
fn check(
    state: &Shared,
    client: std::net::IpAddr,
    agent: &str,
    posted: &Posted,
) -> Result<String, Problem> {
    let accounts = &state.accounts;
    if let Some(wait) = state.limiter.wait(client, Instant::now()) {
        let text = format!("too many tries: wait {}", duration(wait));
        return Err(Problem::new(Class::SlowDown, text)
            .hint("forgotten? On the console's machine: holdfast ui reset-password"));
    }
    // Counted before it is known, so that many at once are no way around the limit.
    state.limiter.failed(client, Instant::now());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    // Both are looked at, so that nobody learns which of them was wrong.
    let password = accounts.is_password(posted.text("password"))?;
    let is_right = password && accounts.is_code(posted.text("code"), now)?;
    if !is_right {
        accounts.note(&client.to_string(), "failed to sign in")?;
        return Err(Problem::new(Class::Authentication, "password or code is not right")
            .hint("forgotten? On the console's machine: holdfast ui reset-password"));
    }
    state.limiter.passed(client);
    accounts.note(&client.to_string(), "signed in with the password")?;
    accounts.open_session(&client.to_string(), agent)
}

/// `POST /sign-out`
pub(crate) async fn leave(view: View) -> Result<Response, Failure> {
    let hash = view.session.hash.clone();
    view.blocking(move |state| state.accounts.end_session(Some(&hash), "")).await?;
    Ok(with_cookie(&view.state, None, "/sign-in"))
}

fn with_cookie(state: &Shared, id: Option<&str>, to: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Ok(cookie) = HeaderValue::try_from(state.set_cookie(id)) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// A path of our own, never another site's.
pub(crate) fn own_path(path: &str) -> &str {
    let ours = path.starts_with('/') && !path.starts_with("//") && !path.contains('\\');
    if ours { path } else { "/" }
}

pub(crate) fn cookies(headers: &HeaderMap) -> &str {
    headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere() {
        assert_eq!(own_path("/plans?x=1"), "/plans?x=1");
        for path in ["//evil.example", "https://evil.example", "/\\evil.example", ""] {
            assert_eq!(own_path(path), "/", "{path}");
        }
    }
}
