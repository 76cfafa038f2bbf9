//! The one-time address that `holdfast ui` prints: it signs in and leads to Home.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use http::header::{self, HeaderValue};
use serde::Deserialize;

use crate::failure::{self, Failure};
use crate::state::Shared;
use crate::view;

#[derive(Debug, Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    token: String,
}

/// Goes on to Home by itself. A redirect would not do: where another site led here, browsers do
/// not send a strict cookie along it.
#[derive(Template)]
#[template(path = "open.html")]
struct Opened {
    theme: &'static str,
}

/// `GET /open?token=…`
pub(crate) async fn open(
    State(state): State<Shared>,
    Query(token): Query<Token>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let cookies = headers.get(header::COOKIE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let set = state.sessions.redeem(&token.token)?;
    let theme = view::theme(cookies);
    match set.and_then(|set| HeaderValue::try_from(set).ok()) {
        Some(set) => {
            Ok(([(header::SET_COOKIE, set)], view::html(&Opened { theme })).into_response())
        }
        // Who is signed in already is led on.
        None if state.sessions.find(cookies).is_some() => Ok(view::html(&Opened { theme })),
        None => Ok(failure::sign_in(cookies)),
    }
}
