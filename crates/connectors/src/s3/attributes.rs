//! What is stored with an object as extended attributes of a file, and back: `user.s3.etag`,
//! `user.s3.content-type`, `user.s3.meta.NAME`, … A file with `user.s3.etag` came from a bucket.

use std::collections::BTreeMap;

use holdfast_engine::meta::Xattr;

use super::client::{Headers, ObjectInfo};

/// What all of them begin with.
pub(super) const PREFIX: &[u8] = b"user.s3.";
const META: &str = "meta.";

/// When the object of which this is a copy was last modified; only restores make it.
pub(super) const MTIME: &str = "holdfast-mtime";

/// Sorted by name. `key`: the object's key, where its path does not tell it.
pub(super) fn to_xattrs(info: &ObjectInfo, key: Option<&str>) -> Vec<Xattr> {
    let headers = &info.headers;
    let mut all = BTreeMap::new();
    let mut put = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            all.insert([PREFIX, name.as_bytes()].concat(), value.as_bytes().to_vec());
        }
    };
    put("key", key);
    // Of an object without one too: it tells where the file is from.
    put("etag", Some(info.etag.as_deref().unwrap_or_default()));
    put("version-id", info.version_id.as_deref());
    put("storage-class", info.storage_class.as_deref());
    put("content-type", headers.content_type.as_deref());
    put("content-encoding", headers.content_encoding.as_deref());
    put("content-language", headers.content_language.as_deref());
    put("content-disposition", headers.content_disposition.as_deref());
    put("cache-control", headers.cache_control.as_deref());
    put("expires", headers.expires.as_deref());
    put("website-redirect-location", headers.website_redirect.as_deref());
    for (name, value) in headers.metadata.iter().filter(|(name, _)| *name != MTIME) {
        put(&format!("{META}{name}"), Some(value));
    }
    all.into_iter().map(|(name, value)| Xattr { name, value }).collect()
}

/// Whether an attribute becomes something that is stored with an object: not what only tells where
/// it was.
pub(super) fn is_stored(name: &[u8]) -> bool {
    let told: [&[u8]; 4] = [b"key", b"etag", b"version-id", b"storage-class"];
    name.strip_prefix(PREFIX).is_some_and(|name| !told.contains(&name))
}

/// What an object is stored with, if the file came from a bucket; values that are not text are
/// left out.
pub(super) fn from_xattrs(xattrs: &[Xattr]) -> Option<Headers> {
    let mut headers = Headers::default();
    let mut is_from_bucket = false;
    for xattr in xattrs {
        let name = xattr.name.strip_prefix(PREFIX).and_then(|n| std::str::from_utf8(n).ok());
        let value = std::str::from_utf8(&xattr.value).ok().map(str::to_owned);
        let Some((name, value)) = name.zip(value) else { continue };
        match name {
            "etag" => is_from_bucket = true,
            "content-type" => headers.content_type = Some(value),
            "content-encoding" => headers.content_encoding = Some(value),
            "content-language" => headers.content_language = Some(value),
            "content-disposition" => headers.content_disposition = Some(value),
            "cache-control" => headers.cache_control = Some(value),
            "expires" => headers.expires = Some(value),
            "website-redirect-location" => headers.website_redirect = Some(value),
            _ => {
                if let Some(name) = name.strip_prefix(META) {
                    headers.metadata.insert(name.to_owned(), value);
                }
            }
        }
    }
    is_from_bucket.then_some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_comes_back() {
        let headers = Headers {
            content_type: Some("text/html".into()),
            cache_control: Some("no-store".into()),
            website_redirect: Some("/x".into()),
            metadata: [("a".to_owned(), "ä b".to_owned())].into(),
            ..Headers::default()
        };
        let etag = Some("0f".to_owned());
        let mut info = ObjectInfo { etag, headers: headers.clone(), ..ObjectInfo::default() };
        info.headers.metadata.insert(MTIME.into(), "5".into());
        let xattrs = to_xattrs(&info, Some("a//b"));
        let names: Vec<_> = xattrs.iter().map(|x| String::from_utf8_lossy(&x.name)).collect();
        assert_eq!(
            names,
            [
                "user.s3.cache-control",
                "user.s3.content-type",
                "user.s3.etag",
                "user.s3.key",
                "user.s3.meta.a",
                "user.s3.website-redirect-location",
            ]
        );
        assert_eq!(from_xattrs(&xattrs), Some(headers));
        let other = Xattr { name: b"user.s3.content-type".to_vec(), value: b"x".to_vec() };
        assert_eq!(from_xattrs(&[other]), None);
    }
}
