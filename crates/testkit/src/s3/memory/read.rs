//! Objects that are read, asked about, and fetched from cold storage.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::dto::*;
use s3s::{Body, S3Result, s3_error};

use super::super::object::{S3Object, Thawed};
use super::super::store::{Buckets, Store, Version};
use super::write::{fits, seconds};
use super::{bucket, etag, no_key};

/// The version of that number, or the current one.
fn find<'a>(
    buckets: &'a Buckets,
    name: &str,
    key: &str,
    version: Option<&str>,
) -> S3Result<&'a S3Object> {
    let bucket = bucket(buckets, name)?;
    let Some(version) = version else {
        return buckets.current(name, key).ok_or_else(|| no_key(key));
    };
    let versions = bucket.keys.get(key).map(Vec::as_slice).unwrap_or_default();
    let found = versions.iter().find(|of| of.id().unwrap_or("null") == version);
    match found {
        None => Err(s3_error!(NoSuchVersion)),
        Some(Version::Deleted { .. }) => Err(s3_error!(MethodNotAllowed)),
        Some(Version::Object(object)) => Ok(object),
    }
}

/// The conditions of a GET or HEAD.
fn check(
    object: &S3Object,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
    if_unmodified_since: Option<&Timestamp>,
    customer_key: Option<&String>,
) -> S3Result<()> {
    if if_match.is_some_and(|condition| !fits(condition, object)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if if_none_match.is_some_and(|condition| fits(condition, object)) {
        return Err(s3_error!(NotModified));
    }
    if if_unmodified_since.is_some_and(|time| seconds(time) < seconds(&object.modified.into())) {
        return Err(s3_error!(PreconditionFailed));
    }
    if object.customer_key.as_ref() != customer_key {
        return Err(s3_error!(
            InvalidRequest,
            "The object was stored using a form of Server Side Encryption. The correct parameters \
             must be provided to retrieve the object."
        ));
    }
    Ok(())
}

/// What GET and HEAD tell alike.
macro_rules! describe {
    ($output:ident, $object:expr) => {{
        let object: S3Object = $object;
        $output {
            accept_ranges: Some("bytes".into()),
            cache_control: object.cache_control,
            content_disposition: object.content_disposition,
            content_encoding: object.content_encoding,
            content_language: object.content_language,
            content_type: Some(object.content_type.unwrap_or_else(|| "binary/octet-stream".into())),
            e_tag: Some(etag(&object.etag)),
            expires: object.expires.map(timestamp),
            last_modified: Some(object.modified.into()),
            metadata: Some(object.metadata.into_iter().collect()),
            object_lock_legal_hold_status: object
                .legal_hold
                .then(|| ObjectLockLegalHoldStatus::from_static("ON")),
            object_lock_mode: object.retention.map(|retention| {
                let mode = if retention.compliance { "COMPLIANCE" } else { "GOVERNANCE" };
                ObjectLockMode::from_static(mode)
            }),
            object_lock_retain_until_date: object.retention.map(|r| r.until.into()),
            restore: match object.thawed {
                Thawed::No => None,
                Thawed::Asked => Some("ongoing-request=\"true\"".into()),
                Thawed::Yes => Some(
                    "ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2099 00:00:00 GMT\""
                        .into(),
                ),
            },
            sse_customer_key_md5: object.customer_key,
            server_side_encryption: object.encryption.map(Into::into),
            storage_class: object.storage_class.map(Into::into),
            version_id: object.version,
            website_redirect_location: object.website_redirect,
            ..Default::default()
        }
    }};
}

fn timestamp(seconds: i64) -> Timestamp {
    let since = Duration::from_secs(seconds.try_into().unwrap_or(0));
    (SystemTime::UNIX_EPOCH + since).into()
}

pub(super) fn get(store: &Store, input: GetObjectInput) -> S3Result<GetObjectOutput> {
    let buckets = store.buckets();
    let object = find(&buckets, &input.bucket, &input.key, input.version_id.as_deref())?.clone();
    drop(buckets);
    check(
        &object,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_unmodified_since.as_ref(),
        input.sse_customer_key_md5.as_ref(),
    )?;
    if object.is_cold() {
        return Err(s3_error!(InvalidObjectState));
    }
    let size = object.content.len();
    let range = match &input.range {
        None => None,
        Some(range) => Some(range.check(size as u64)?),
    };
    let content: Bytes = match &range {
        None => object.content.clone(),
        Some(range) => object.content.slice(range.start as usize..range.end as usize),
    };
    let whole = content.len() == size;
    let checksum = object.sha256.clone().filter(|_| whole && input.checksum_mode.is_some());
    let mut output = describe!(GetObjectOutput, object);
    output.content_length = Some(content.len() as i64);
    output.content_range =
        range.map(|range| format!("bytes {}-{}/{size}", range.start, range.end - 1));
    output.body = Some(StreamingBlob::from(Body::from(content)));
    output.checksum_sha256 = checksum;
    Ok(output)
}

pub(super) fn head(store: &Store, input: HeadObjectInput) -> S3Result<HeadObjectOutput> {
    let buckets = store.buckets();
    let object = find(&buckets, &input.bucket, &input.key, input.version_id.as_deref())?.clone();
    drop(buckets);
    check(
        &object,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
        input.if_unmodified_since.as_ref(),
        input.sse_customer_key_md5.as_ref(),
    )?;
    let size = object.content.len() as i64;
    let checksum = object.sha256.clone().filter(|_| input.checksum_mode.is_some());
    let mut output = describe!(HeadObjectOutput, object);
    output.content_length = Some(size);
    output.checksum_sha256 = checksum;
    Ok(output)
}

pub(super) fn tagging(
    store: &Store,
    input: &GetObjectTaggingInput,
) -> S3Result<GetObjectTaggingOutput> {
    let buckets = store.buckets();
    let object = find(&buckets, &input.bucket, &input.key, input.version_id.as_deref())?;
    let text = object.tagging.as_deref().unwrap_or_default();
    let tag = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Tag { key: Some(key.to_owned()), value: Some(value.to_owned()) }
    };
    let tag_set = text.split('&').filter(|pair| !pair.is_empty()).map(tag).collect();
    Ok(GetObjectTaggingOutput { tag_set, version_id: object.version.clone() })
}

pub(super) fn restore(store: &Store, input: &RestoreObjectInput) -> S3Result<RestoreObjectOutput> {
    let mut buckets = store.buckets();
    bucket(&buckets, &input.bucket)?;
    let object =
        buckets.current_mut(&input.bucket, &input.key).ok_or_else(|| no_key(&input.key))?;
    match (object.is_cold(), object.thawed) {
        (_, Thawed::Asked) => return Err(s3_error!(RestoreAlreadyInProgress)),
        (true, _) => object.thawed = Thawed::Asked,
        (false, Thawed::Yes) => {}
        (false, Thawed::No) => return Err(s3_error!(InvalidObjectState)),
    }
    Ok(RestoreObjectOutput::default())
}
