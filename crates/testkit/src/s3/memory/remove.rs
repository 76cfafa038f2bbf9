//! Objects and versions that go.

use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::super::store::{Buckets, Store, Version};
use super::bucket_mut;

struct Removed {
    /// Of the mark that was made or removed.
    marker: Option<String>,
    version: Option<String>,
}

/// Removes a version, or what is current. What is not there is gone already.
fn remove(
    buckets: &mut Buckets,
    name: &str,
    key: &str,
    version: Option<&str>,
    bypass: bool,
) -> S3Result<Removed> {
    let now = buckets.now();
    let number = buckets.number("v");
    let bucket = bucket_mut(buckets, name)?;
    let Some(version) = version else {
        if bucket.versions {
            let mark = Version::Deleted { version: number.clone(), modified: now };
            bucket.keys.entry(key.to_owned()).or_default().push(mark);
            return Ok(Removed { marker: Some(number.clone()), version: Some(number) });
        }
        bucket.keys.remove(key);
        return Ok(Removed { marker: None, version: None });
    };
    let Some(versions) = bucket.keys.get_mut(key) else {
        return Ok(Removed { marker: None, version: Some(version.to_owned()) });
    };
    let mut marker = None;
    if let Some(at) = versions.iter().position(|of| of.id().unwrap_or("null") == version) {
        if versions[at].object().is_some_and(|object| object.is_locked(now, bypass)) {
            return Err(s3_error!(
                AccessDenied,
                "Access Denied because object protected by object lock."
            ));
        }
        if versions.remove(at).object().is_none() {
            marker = Some(version.to_owned());
        }
    }
    if versions.is_empty() {
        bucket.keys.remove(key);
    }
    Ok(Removed { marker, version: Some(version.to_owned()) })
}

pub(super) fn one(store: &Store, input: &DeleteObjectInput) -> S3Result<DeleteObjectOutput> {
    let removed = remove(
        &mut store.buckets(),
        &input.bucket,
        &input.key,
        input.version_id.as_deref(),
        input.bypass_governance_retention.unwrap_or(false),
    )?;
    Ok(DeleteObjectOutput {
        delete_marker: removed.marker.is_some().then_some(true),
        version_id: removed.version,
        ..Default::default()
    })
}

pub(super) fn many(
    store: &Store,
    req: S3Request<DeleteObjectsInput>,
) -> S3Result<DeleteObjectsOutput> {
    let has_sum = req
        .headers
        .keys()
        .any(|name| name.as_str() == "content-md5" || name.as_str().starts_with("x-amz-checksum-"));
    if !has_sum {
        return Err(s3_error!(
            InvalidRequest,
            "Missing required header for this request: Content-MD5"
        ));
    }
    let input = req.input;
    if input.delete.objects.len() > 1000 {
        return Err(s3_error!(MalformedXML));
    }
    let mut buckets = store.buckets();
    bucket_mut(&mut buckets, &input.bucket)?;
    let bypass = input.bypass_governance_retention.unwrap_or(false);
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for object in input.delete.objects {
        let version = object.version_id.as_deref();
        match remove(&mut buckets, &input.bucket, &object.key, version, bypass) {
            Ok(removed) => deleted.push(DeletedObject {
                delete_marker: removed.marker.is_some().then_some(true),
                delete_marker_version_id: removed.marker,
                key: Some(object.key),
                version_id: object.version_id,
            }),
            Err(error) => errors.push(failed(&error, object)),
        }
    }
    let quiet = input.delete.quiet.unwrap_or(false);
    Ok(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        ..Default::default()
    })
}

fn failed(error: &S3Error, object: ObjectIdentifier) -> s3s::dto::Error {
    s3s::dto::Error {
        code: Some(error.code().as_str().to_owned()),
        key: Some(object.key),
        message: error.message().map(str::to_owned),
        version_id: object.version_id,
    }
}
