//! The one-time address that `holdfast ui` prints: it signs in and leads to Home, or to the
//! snapshots of a repository.

use std::net::SocketAddr;

use askama::Template;
use axum::extract::{ConnectInfo, Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{self, HeaderValue};
use serde::Deserialize;

use super::sign_in::{self, cookies};
use super::snapshots::encode;
use crate::failure;
use crate::guard::apart;
use crate::state::Shared;
use crate::view;

#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    token: String,
    /// A repository whose snapshots are shown first.
    #[serde(default)]
    at: String,
}

/// Goes on by itself. A redirect would not do: where another site led here, browsers do
/// not send a strict cookie along it.
#[derive(Template)]
#[template(path = "open.html")]
struct Opened {
    theme: &'static str,
    to: String,
}

/// `GET /open?token=…&at=…`
pub(crate) async fn open(
    State(state): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(token): Query<Token>,
    headers: HeaderMap,
) -> Response {
    let cookies = cookies(&headers);
    let to = match token.at.as_str() {
        "" => "/".to_owned(),
        at => format!("/snapshots?at={}", encode(at)),
    };
    let page = Opened { theme: view::theme(cookies), to };
    let client = state.client(peer, &headers).to_string();
    let agent = sign_in::agent(&headers).to_owned();
    let session = state.session_id(cookies).map(String::from);
    let opened = apart(&state, move |accounts| {
        if !accounts.redeem(&token.token)? {
            let session = session.map_or(Ok(None), |id| accounts.session(&id))?;
            return Ok(Err(session.is_some()));
        }
        accounts.note(&client, "signed in with a one-time address")?;
        accounts.open_session(&client, &agent).map(Ok)
    });
    match opened.await {
        Err(problem) => failure::bare(&problem, cookies),
        Ok(Ok(id)) => match HeaderValue::try_from(state.set_cookie(Some(&id))) {
            Ok(cookie) => ([(header::SET_COOKIE, cookie)], view::html(&page)).into_response(),
            Err(_) => view::html(&page),
        },
        // Who is signed in already is led on.
        Ok(Err(true)) => view::html(&page),
        Ok(Err(false)) => sign_in::refused(&state, cookies).await,
    }
}
