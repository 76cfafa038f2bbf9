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
    lead(headers.contains_key("x-fragment"), to)
}

/// [`go`], where it is known already whether a part of a page was asked for.
pub(crate) fn lead(is_fragment: bool, to: &str) -> Response {
    let to = in_header(to);
    match is_fragment {
        true => [("x-location", to)].into_response(),
        false => Redirect::to(&to).into_response(),
    }
}

/// An address as a header can hold it: browsers read headers as Latin-1, and names may have any
/// letters.
fn in_header(address: &str) -> String {
    let mut text = String::with_capacity(address.len());
    for byte in address.bytes() {
        match byte.is_ascii_graphic() {
            true => text.push(char::from(byte)),
            false => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_header_is_ascii() -> Result<(), Box<dyn std::error::Error>> {
        let to = "/storages/b\u{fc}ro/ready?path=a%20b&x=~c3";
        assert_eq!(in_header(to), "/storages/b%C3%BCro/ready?path=a%20b&x=~c3");
        let part = lead(true, to).headers().get("x-location").cloned();
        let page = lead(false, to).headers().get("location").cloned();
        assert_eq!(part, page);
        assert_eq!(part.ok_or("no header")?.to_str()?, in_header(to));
        Ok(())
    }
}
