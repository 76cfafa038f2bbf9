//! The record of what was asked, so that tests can count and look.

use super::request::{Asked, S3Operation};

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct S3Request {
    /// What it asked for.
    pub operation: S3Operation,
    /// Empty if it was about none.
    pub bucket: String,
    /// Decoded; empty if it was about the bucket.
    pub key: String,
    /// Decoded, in order.
    pub query: Vec<(String, String)>,
    /// Names in lower case; without `authorization` and keys of encryption.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body that it announced.
    pub received: u64,
    /// Status of the answer; `None` while there is none, and if the connection was closed instead.
    pub status: Option<u16>,
    /// Bytes of the body that the answer announced.
    pub sent: u64,
}

impl S3Request {
    pub(super) fn new(asked: Asked, headers: &http::HeaderMap) -> Self {
        let secret = ["authorization", "x-amz-server-side-encryption-customer-key"];
        let headers: Vec<_> = headers
            .iter()
            .filter(|(name, _)| !secret.contains(&name.as_str()))
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let length = |of: &str| {
            headers.iter().find(|(name, _)| name == of).and_then(|(_, value)| value.parse().ok())
        };
        let received = length("x-amz-decoded-content-length").or(length("content-length"));
        Self {
            operation: asked.operation,
            bucket: asked.bucket,
            key: asked.key,
            query: asked.query,
            received: received.unwrap_or(0),
            headers,
            status: None,
            sent: 0,
        }
    }

    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }

    /// `name=value&…`, decoded.
    pub(super) fn query_text(&self) -> String {
        let pairs: Vec<_> = self.query.iter().map(|(n, v)| format!("{n}={v}")).collect();
        pairs.join("&")
    }
}
