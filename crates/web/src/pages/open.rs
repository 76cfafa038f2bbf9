//! The one-time address that `holdfast ui` prints: it signs in and leads to Home, or to the
//! snapshots of a repository.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{self, HeaderValue};
use serde::Deserialize;

use crate::failure::{self, Failure};
use crate::pages::snapshots::encode;
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
    Query(token): Query<Token>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let cookies = headers.get(header::COOKIE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let set = state.sessions.redeem(&token.token)?;
    let theme = view::theme(cookies);
    let to = match token.at.as_str() {
        "" => "/".to_owned(),
        at => format!("/snapshots?at={}", encode(at)),
    };
    match set.and_then(|set| HeaderValue::try_from(set).ok()) {
        Some(set) => {
            Ok(([(header::SET_COOKIE, set)], view::html(&Opened { theme, to })).into_response())
        }
        // Who is signed in already is led on.
        None if state.sessions.find(cookies).is_some() => Ok(view::html(&Opened { theme, to })),
        None => Ok(failure::sign_in(cookies)),
    }
}
