//! Objects that come in one piece, and copies.

use std::time::{Duration, SystemTime};

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::super::object::{Retention, S3Object};
use super::super::store::{Buckets, Store};
use super::{body, bucket, etag, no_key};

/// Whole seconds since 1970.
pub(super) fn seconds(time: &Timestamp) -> i64 {
    let mut text = Vec::new();
    let written = time.format(TimestampFormat::EpochSeconds, &mut text);
    let text = written.ok().and_then(|()| String::from_utf8(text).ok()).unwrap_or_default();
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

pub(super) fn system_time(time: &Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(time).try_into().unwrap_or(0))
}

/// `None` if no lock was asked for.
fn retention(
    mode: Option<ObjectLockMode>,
    until: Option<Timestamp>,
) -> S3Result<Option<Retention>> {
    match (mode, until) {
        (None, None) => Ok(None),
        (Some(mode), Some(until)) => Ok(Some(Retention {
            compliance: mode.as_str() == ObjectLockMode::COMPLIANCE,
            until: system_time(&until),
        })),
        _ => Err(s3_error!(
            InvalidArgument,
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied"
        )),
    }
}

/// The properties of an object, which three kinds of requests name alike.
macro_rules! properties {
    ($input:expr) => {{
        let input = $input;
        let mut object = S3Object::new(bytes::Bytes::new());
        object.metadata = input.metadata.take().unwrap_or_default().into_iter().collect();
        object.content_type = input.content_type.take();
        object.cache_control = input.cache_control.take();
        object.content_disposition = input.content_disposition.take();
        object.content_encoding = input.content_encoding.take();
        object.content_language = input.content_language.take();
        object.expires = input.expires.take().as_ref().map(seconds);
        object.website_redirect = input.website_redirect_location.take();
        object.tagging = input.tagging.take();
        object.storage_class = input
            .storage_class
            .take()
            .map(|class| class.as_str().to_owned())
            .filter(|class| class != StorageClass::STANDARD);
        object.encryption = input.server_side_encryption.take().map(|e| e.as_str().to_owned());
        object.customer_key = input.sse_customer_key_md5.take();
        object.retention =
            retention(input.object_lock_mode.take(), input.object_lock_retain_until_date.take())?;
        object.legal_hold =
            input.object_lock_legal_hold_status.take().is_some_and(|hold| hold.as_str() == "ON");
        object
    }};
}

pub(super) fn properties_of_upload(input: &mut CreateMultipartUploadInput) -> S3Result<S3Object> {
    Ok(properties!(input))
}

/// Whether an object with these properties may come into this bucket.
pub(super) fn admit(buckets: &Buckets, name: &str, object: &S3Object) -> S3Result<()> {
    let bucket = bucket(buckets, name)?;
    if (object.retention.is_some() || object.legal_hold) && !bucket.lock {
        return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
    }
    if object.retention.is_some_and(|retention| retention.until <= buckets.now()) {
        return Err(s3_error!(InvalidArgument, "The retain until date must be in the future!"));
    }
    let size: usize = object.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > 2048 {
        return Err(s3_error!(MetadataTooLarge));
    }
    Ok(())
}

/// Whether the conditions for writing hold.
pub(super) fn may_write(
    buckets: &Buckets,
    bucket: &str,
    key: &str,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let there = buckets.current(bucket, key);
    match (if_none_match, there) {
        (Some(ETagCondition::Any), Some(_)) => return Err(s3_error!(PreconditionFailed)),
        (Some(ETagCondition::ETag(_)), _) => return Err(s3_error!(NotImplemented)),
        _ => {}
    }
    match (if_match, there) {
        (Some(_), None) => Err(no_key(key)),
        (Some(condition), Some(object)) if !fits(condition, object) => {
            Err(s3_error!(PreconditionFailed))
        }
        _ => Ok(()),
    }
}

/// Whether an object is the one that is meant.
pub(super) fn fits(condition: &ETagCondition, object: &S3Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.value() == object.etag,
    }
}

pub(super) async fn put(
    store: &Store,
    req: S3Request<PutObjectInput>,
) -> S3Result<PutObjectOutput> {
    let mut input = req.input;
    // AWS refuses early too.
    bucket(&store.buckets(), &input.bucket)?;
    let trailing = req.trailing_headers.as_ref();
    let length = input.content_length;
    let content = body::receive(input.body.take(), length, &req.headers, trailing).await?;
    let mut object = properties!(&mut input);
    object.content = content;
    object.sha256 = input.checksum_sha256.take();
    let mut buckets = store.buckets();
    admit(&buckets, &input.bucket, &object)?;
    may_write(
        &buckets,
        &input.bucket,
        &input.key,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
    )?;
    let stored =
        buckets.store(&input.bucket, &input.key, object).ok_or_else(|| s3_error!(NoSuchBucket))?;
    Ok(PutObjectOutput {
        e_tag: Some(etag(&stored.etag)),
        version_id: stored.version,
        checksum_sha256: stored.sha256,
        server_side_encryption: stored.encryption.map(Into::into),
        sse_customer_key_md5: stored.customer_key,
        ..Default::default()
    })
}

pub(super) fn copy(store: &Store, input: CopyObjectInput) -> S3Result<CopyObjectOutput> {
    let mut input = input;
    let CopySource::Bucket { bucket: from, key, .. } = input.copy_source.clone() else {
        return Err(s3_error!(NotImplemented));
    };
    let mut buckets = store.buckets();
    bucket(&buckets, &from)?;
    let source = buckets.current(&from, &key).cloned().ok_or_else(|| no_key(&key))?;
    if input.copy_source_if_match.as_ref().is_some_and(|condition| !fits(condition, &source)) {
        return Err(s3_error!(PreconditionFailed));
    }
    if source.is_cold() {
        return Err(s3_error!(InvalidObjectState));
    }
    let replaced = input.metadata_directive.as_ref().is_some_and(|d| d.as_str() == "REPLACE");
    let mut object = properties!(&mut input);
    if !replaced {
        let (class, retention) = (object.storage_class, object.retention);
        object = S3Object { storage_class: class, retention, ..source.clone() };
    }
    object.content = source.content;
    object.etag = source.etag;
    object.sha256 = source.sha256;
    admit(&buckets, &input.bucket, &object)?;
    let stored =
        buckets.store(&input.bucket, &input.key, object).ok_or_else(|| s3_error!(NoSuchBucket))?;
    Ok(CopyObjectOutput {
        copy_object_result: Some(CopyObjectResult {
            e_tag: Some(etag(&stored.etag)),
            last_modified: Some(stored.modified.into()),
            ..Default::default()
        }),
        version_id: stored.version,
        ..Default::default()
    })
}
