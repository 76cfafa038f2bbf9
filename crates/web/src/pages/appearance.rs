//! Light, dark, or what the system says: kept in a cookie, so that pages arrive as they stay.

use axum::Form;
use axum::response::{IntoResponse, Redirect, Response};
use http::header;
use serde::Deserialize;

use super::sign_in::own_path;

#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    theme: String,
    #[serde(default)]
    back: String,
}

/// `POST /appearance`
pub(crate) async fn set(Form(choice): Form<Choice>) -> Response {
    let cookie = match choice.theme.as_str() {
        theme @ ("light" | "dark") => {
            format!("theme={theme}; Path=/; SameSite=Strict; Max-Age=31536000")
        }
        _ => "theme=; Path=/; SameSite=Strict; Max-Age=0".to_owned(),
    };
    ([(header::SET_COOKIE, cookie)], Redirect::to(own_path(&choice.back))).into_response()
}
