//! Signing in with the password and, if there is one, the second factor; and signing out.

use std::net::{IpAddr, SocketAddr};

use askama::Template;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use holdfast_app::{Class, Problem};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde::Deserialize;

use crate::accounts::{Accounts, FORGOTTEN, Limiter, seconds};
use crate::failure::{self, Failure, Note};
use crate::guard::apart;
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

/// Where somebody wanted to go who is not signed in; `None`: it was a part of a page, which is no
/// place to sign in, and none to come back to.
pub(crate) fn wanted(request: &Request) -> Option<String> {
    if request.headers().contains_key("x-fragment") {
        return None;
    }
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Some(if request.method() == Method::GET { path } else { "/" }.to_owned())
}

/// What they see: a way in that leads back to there.
pub(crate) async fn needed(state: &Shared, wanted: Option<String>, cookies: &str) -> Response {
    match wanted {
        Some(to) => page(state, cookies, &to, Err(StatusCode::UNAUTHORIZED)).await,
        None => (StatusCode::UNAUTHORIZED, [("x-location", "/sign-in")]).into_response(),
    }
}

/// What somebody sees whose one-time address is not good any more.
pub(crate) async fn refused(state: &Shared, cookies: &str) -> Response {
    page(state, cookies, "/", Err(StatusCode::UNAUTHORIZED)).await
}

/// The page, with what went wrong, or else with this status.
async fn page(
    state: &Shared,
    cookies: &str,
    to: &str,
    problem: Result<&Problem, StatusCode>,
) -> Response {
    let asked =
        apart(state, |accounts| Ok((accounts.has_password()?, accounts.has_factor()?))).await;
    match asked {
        Ok((has_password, has_factor)) => {
            let status = problem.map_or_else(|status| status, |p| failure::refusal(p.class));
            let (theme, note) = (view::theme(cookies), problem.ok().map(Note::from));
            let page = Page { theme, has_password, has_factor, to: to.to_owned(), note };
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
    page(&state, cookies(&headers), &to.to, Err(StatusCode::OK)).await
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
    let agent = agent(&headers).to_owned();
    let worker = state.clone();
    let tried =
        apart(&state, move |accounts| check(accounts, &worker.limiter, client, &agent, &posted));
    match tried.await {
        Ok(id) => with_cookie(&state, Some(&id), own_path(&to)),
        Err(problem) => page(&state, &cookies, &to, Ok(&problem)).await,
    }
}

/// The secret of a new session, if password and code are right.
fn check(
    accounts: &Accounts,
    limiter: &Limiter,
    client: IpAddr,
    agent: &str,
    posted: &Posted,
) -> Result<String, Problem> {
    // One answer for both, so that nobody learns which of them was wrong. A code is used up only
    // beside the right password.
    let is_right = limiter.attempt(client, || {
        Ok(accounts.is_password(posted.text("password"))?
            && accounts.is_code(posted.text("code"), seconds())?)
    })?;
    if !is_right {
        accounts.note(&client.to_string(), "failed to sign in")?;
        return Err(
            Problem::new(Class::Authentication, "password or code is not right").hint(FORGOTTEN)
        );
    }
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
    // Browsers take a backslash for a slash, and tabs and line ends out of an address.
    let is_plain = path.bytes().all(|c| c.is_ascii_graphic() && c != b'\\');
    let ours = is_plain && path.starts_with('/') && !path.starts_with("//");
    if ours { path } else { "/" }
}

/// What a browser says of itself.
pub(crate) fn agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default()
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
        for path in
            ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", ""]
        {
            assert_eq!(own_path(path), "/", "{path:?}");
        }
    }
}
