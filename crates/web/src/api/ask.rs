//! What programs send: queries and bodies, of which nothing unknown is passed over in silence.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use data_encoding::HEXLOWER_PERMISSIVE;
use holdfast_app::Problem;
use holdfast_app::text::size;
use holdfast_engine::tree::view::normalize;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::refused;

/// The query of a request.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let asked = axum::extract::Query::try_from_uri(&parts.uri);
        asked.map(|axum::extract::Query(asked)| Self(asked)).map_err(|e| {
            let cause =
                std::error::Error::source(&e).map_or_else(|| e.to_string(), |e| e.to_string());
            refused(&unclear("query", &cause))
        })
    }
}

/// What stands in the address of a request.
pub(super) struct At<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let at = axum::extract::Path::from_request_parts(parts, state).await;
        at.map(|axum::extract::Path(at)| Self(at))
            .map_err(|e| refused(&unclear("address", &e.body_text())))
    }
}

/// The body of a request: an object of JSON. None at all is an empty one.
pub(super) struct Sent<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, state).await.map_err(|e| {
            refused(
                &Problem::usage("what was sent is too large, or broke off")
                    .cause(e)
                    .hint(format!("a body may hold {}", size(2 << 20))),
            )
        })?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|e| refused(&unclear("body", &e.to_string())))
    }
}

fn unclear(what: &str, cause: &str) -> Problem {
    Problem::usage(format!("the {what} of this request is not what is expected here"))
        .cause(cause)
        .hint("/api/v1/openapi.json describes it")
}

/// An absolute path: as text, or as bytes in base 16; `None` if there is neither.
pub(super) fn path(text: Option<&str>, bytes: Option<&str>) -> Result<Option<Vec<u8>>, Problem> {
    let path = match (text, bytes) {
        (None, None) => return Ok(None),
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => HEXLOWER_PERMISSIVE.decode(hex.as_bytes()).map_err(|e| {
            Problem::usage("path_bytes is not in base 16")
                .cause(e)
                .hint("send it as another answer gave it")
        })?,
        (Some(_), Some(_)) => {
            return Err(Problem::usage("path and path_bytes are given at once").hint("send one"));
        }
    };
    if !path.starts_with(b"/") {
        let shown = holdfast_app::text::printable(&path);
        return Err(Problem::usage(format!("the path {shown} is not given from the root"))
            .hint("write it like /home/anna"));
    }
    Ok(Some(normalize(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_text_or_bytes_and_absolute() -> Result<(), Problem> {
        assert_eq!(path(None, None)?, None);
        assert_eq!(path(Some("/a//b/"), None)?, Some(b"/a/b".to_vec()));
        assert_eq!(path(None, Some("2FfF"))?, Some(b"/\xff".to_vec()));
        for (text, bytes) in
            [(Some("a"), None), (None, Some("zz")), (None, Some("61")), (Some("/"), Some("2f"))]
        {
            assert!(path(text, bytes).is_err(), "{text:?} {bytes:?}");
        }
        Ok(())
    }
}
