//! One file a page, or a folder where a page has several steps: what it shows, and what its forms
//! do. The templates stand in `templates/` under the same names.

pub(crate) mod alerts;
pub(crate) mod appearance;
pub(crate) mod browse;
pub(crate) mod compare;
pub(crate) mod find;
pub(crate) mod home;
pub(crate) mod open;
pub(crate) mod plans;
pub(crate) mod repository;
pub(crate) mod restore;
pub(crate) mod runs;
pub(crate) mod settings;
pub(crate) mod sign_in;
pub(crate) mod snapshots;
pub(crate) mod start;
pub(crate) mod storages;
pub(crate) mod unlock;

use axum::response::{IntoResponse, Redirect, Response};
use http::HeaderMap;

/// Leads to another page, also where our script asked for a part of one.
pub(crate) fn go(headers: &HeaderMap, to: &str) -> Response {
    if headers.contains_key("x-fragment") {
        return [("x-location", to.to_owned())].into_response();
    }
    Redirect::to(to).into_response()
}
