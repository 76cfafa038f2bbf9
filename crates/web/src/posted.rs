//! The fields of a form as they were sent.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http::StatusCode;
use zeroize::Zeroizing;

use crate::view::pairs;

/// Fields in order; names may repeat. Line ends are those of Unix. May hold secrets.
#[derive(Clone, Default)]
pub(crate) struct Posted(Vec<(String, Zeroizing<String>)>);

impl std::fmt::Debug for Posted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Posted {
    /// From the body of a request.
    pub(crate) fn new(body: &[u8]) -> Self {
        let unix = |text: String| Zeroizing::new(text.replace("\r\n", "\n"));
        Self(pairs(body).into_iter().map(|(name, value)| (name, unix(value))).collect())
    }

    /// As these fields would be sent.
    #[cfg(test)]
    pub(crate) fn of(fields: &[(String, String)]) -> Self {
        let fields = fields.iter().cloned();
        Self(fields.map(|(name, value)| (name, Zeroizing::new(value))).collect())
    }

    /// The last value of a field; `None` if it was not sent.
    pub(crate) fn sent(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a field; empty if it was not sent.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.sent(name).unwrap_or_default()
    }
}

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = StatusCode;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let body = Bytes::from_request(request, state).await;
        body.map(|body| Self::new(&body)).map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_field_counts_and_lines_end_as_here() {
        let posted = Posted::new(b"a=1&a=2&k=x%0D%0Ay");
        assert_eq!(posted.text("a"), "2");
        assert_eq!(posted.text("k"), "x\ny");
        assert_eq!((posted.sent("b"), posted.text("b")), (None, ""));
        assert!(!format!("{posted:?}").contains('x'));
    }
}
