//! Reading objects, and what is known about them.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::S3Client;
use super::error::{Class, S3Result};
use super::failure::{Failure, below, failure};
use super::objects::{Archive, Headers, Object, ObjectInfo, Wanted, unquoted};
use super::record::Operation;

impl S3Client {
    /// The object of this key, or a range of it, whole: as many bytes as the server announced,
    /// and for a range as many as were asked for. `InvalidRange` where it has fewer.
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> S3Result<Object> {
        self.get_wanted(key, &Wanted { range, ..Wanted::default() }).await
    }

    /// As [`get`](Self::get), under conditions.
    pub async fn get_wanted(&self, key: &str, wanted: &Wanted) -> S3Result<Object> {
        let Wanted { range, etag, most } = wanted;
        if let Some(range) = range.as_ref().filter(|range| range.is_empty()) {
            // A request cannot ask for nothing.
            let info = self.head(key).await?;
            if range.start > info.size {
                let failure = Failure::late(Class::InvalidRange, short(range, info.size));
                return Err(self.error(failure, Operation::GetObject, key));
            }
            return Ok(Object { bytes: Bytes::new(), info });
        }
        self.call(Operation::GetObject, key, false, |sdk| async move {
            let header = range.as_ref().map(|r| format!("bytes={}-{}", r.start, r.end - 1));
            let request = sdk.get_object().bucket(self.bucket()).key(key).set_range(header);
            let request = request.set_if_match(etag.as_ref().map(|etag| format!("\"{etag}\"")));
            let answer = request.send().await.map_err(failure)?;
            let announced = answer.content_length().and_then(|n| u64::try_from(n).ok());
            if let (Some(most), Some(size)) = (most, announced.filter(|size| Some(*size) > *most)) {
                let what = format!("{size} bytes, where {most} at most were expected");
                return Err(Failure::late(Class::InvalidRange, what));
            }
            let headers = Headers {
                content_type: answer.content_type,
                content_encoding: answer.content_encoding,
                content_language: answer.content_language,
                content_disposition: answer.content_disposition,
                cache_control: answer.cache_control,
                expires: answer.expires_string,
                website_redirect: answer.website_redirect_location,
                metadata: metadata(answer.metadata),
            };
            // "bytes 0-99/1234"
            let total = answer.content_range.as_deref().and_then(|range| range.rsplit('/').next());
            let total = total.and_then(|total| total.parse().ok());
            let size: Option<u64> = total.or(announced);
            let mut info = ObjectInfo {
                size: size.unwrap_or_default(),
                modified: answer.last_modified.map_or(0, |time| time.secs()),
                etag: unquoted(answer.e_tag.as_deref()),
                version_id: version(answer.version_id),
                storage_class: answer.storage_class.map(|class| class.as_str().to_owned()),
                archive: archive(answer.restore.as_deref()),
                locked_until: answer.object_lock_retain_until_date.map(|time| time.secs()),
                headers,
            };
            let mut body = answer.body;
            let expected = announced.and_then(|n| usize::try_from(n).ok());
            // A server that announces nothing may send without end.
            let bound = match range {
                Some(range) if answer.content_range.is_some() => Some(range.end - range.start),
                _ => *most,
            };
            let mut pieces = Vec::new();
            let mut length = 0_usize;
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|error| match below(&error) {
                    Failure::Way { class: Class::Other, what, .. } => {
                        Failure::late(Class::Disconnected, what)
                    }
                    other => other,
                })?;
                length += piece.len();
                if let Some(bound) = bound.filter(|bound| length as u64 > *bound) {
                    let what = format!("more than the {bound} bytes that were expected");
                    return Err(Failure::late(Class::InvalidRange, what));
                }
                pieces.push(piece);
            }
            if size.is_none() {
                info.size = length as u64;
            }
            if expected.is_some_and(|expected| expected != length) {
                let what = format!("{length} of {} bytes came", expected.unwrap_or_default());
                return Err(Failure::late(Class::Disconnected, what));
            }
            let mut bytes = joined(pieces, length);
            if let Some(range) = range {
                let wanted = range.end - range.start;
                if answer.content_range.is_none() {
                    // The server knows no ranges, and sent all of it.
                    info.size = length as u64;
                    let (start, end) = (range.start as usize, range.end as usize);
                    if end > length {
                        return Err(Failure::late(Class::InvalidRange, short(range, info.size)));
                    }
                    bytes = bytes.slice(start..end);
                } else if length as u64 != wanted {
                    return Err(Failure::late(Class::InvalidRange, short(range, info.size)));
                }
            }
            Ok(Object { bytes, info })
        })
        .await
    }

    /// What is known about the object of this key.
    pub async fn head(&self, key: &str) -> S3Result<ObjectInfo> {
        self.call(Operation::HeadObject, key, false, |sdk| async move {
            let request = sdk.head_object().bucket(self.bucket()).key(key);
            let answer = request.send().await.map_err(failure)?;
            let size = answer.content_length().and_then(|n| u64::try_from(n).ok());
            let headers = Headers {
                content_type: answer.content_type,
                content_encoding: answer.content_encoding,
                content_language: answer.content_language,
                content_disposition: answer.content_disposition,
                cache_control: answer.cache_control,
                expires: answer.expires_string,
                website_redirect: answer.website_redirect_location,
                metadata: metadata(answer.metadata),
            };
            let Some(size) = size else {
                return Err(Failure::late(Class::Other, "the answer names no size"));
            };
            Ok(ObjectInfo {
                size,
                modified: answer.last_modified.map_or(0, |time| time.secs()),
                etag: unquoted(answer.e_tag.as_deref()),
                version_id: version(answer.version_id),
                storage_class: answer.storage_class.map(|class| class.as_str().to_owned()),
                archive: archive(answer.restore.as_deref()),
                locked_until: answer.object_lock_retain_until_date.map(|time| time.secs()),
                headers,
            })
        })
        .await
    }
}

/// What `x-amz-restore` says.
fn archive(restore: Option<&str>) -> Archive {
    match restore {
        None => Archive::Untold,
        Some(text) if text.contains("ongoing-request=\"true\"") => Archive::OnItsWay,
        Some(_) => Archive::Back,
    }
}

/// Unversioned buckets call all versions "null".
fn version(id: Option<String>) -> Option<String> {
    id.filter(|id| id != "null")
}

fn metadata(found: Option<std::collections::HashMap<String, String>>) -> BTreeMap<String, String> {
    found.unwrap_or_default().into_iter().collect()
}

fn short(range: &Range<u64>, size: u64) -> String {
    format!("bytes {} to {} of an object of {size}", range.start, range.end)
}

/// All pieces as one; without a copy where there is one.
fn joined(mut pieces: Vec<Bytes>, length: usize) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(length);
    for piece in pieces {
        all.extend_from_slice(&piece);
    }
    all.freeze()
}
