//! Style sheet and script, part of the program. Their addresses hold a hash of their content, so
//! that browsers may keep them and still never use old ones.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{self, HeaderMap};

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../assets/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../assets/console.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", bytes: include_bytes!("../assets/icon.svg") },
];

fn urls() -> &'static [(&'static Asset, String, String)] {
    static URLS: OnceLock<Vec<(&'static Asset, String, String)>> = OnceLock::new();
    URLS.get_or_init(|| {
        ASSETS
            .iter()
            .map(|asset| {
                let mut hasher = DefaultHasher::new();
                asset.bytes.hash(&mut hasher);
                let tag = format!("{:016x}", hasher.finish());
                (asset, format!("/assets/{}?v={tag}", asset.name), tag)
            })
            .collect()
    })
}

/// The address of an asset; empty if there is none of this name.
pub(crate) fn url(name: &str) -> &'static str {
    urls().iter().find(|(asset, ..)| asset.name == name).map_or("", |(_, url, _)| url)
}

/// Serves an asset.
pub(crate) async fn get(
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Some((asset, _, tag)) = urls().iter().find(|(asset, ..)| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let etag = format!("\"{tag}\"");
    let current = query.is_some_and(|query| query.strip_prefix("v=") == Some(tag));
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    let fields =
        [(header::CONTENT_TYPE, asset.kind), (header::CACHE_CONTROL, keep), (header::ETAG, &etag)];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|sent| sent.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fields).into_response();
    }
    (fields, asset.bytes).into_response()
}
