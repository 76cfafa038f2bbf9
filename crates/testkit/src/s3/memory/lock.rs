//! Versions and object lock.

use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::super::object::{Retention, S3Object};
use super::super::store::{Buckets, Store, Version};
use super::write::system_time;
use super::{bucket, bucket_mut, no_key};

pub(super) fn versioning(store: &Store, name: &str) -> S3Result<GetBucketVersioningOutput> {
    let on = bucket(&store.buckets(), name)?.versions;
    let status = on.then(|| BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED));
    Ok(GetBucketVersioningOutput { status, mfa_delete: None })
}

pub(super) fn set_versioning(
    store: &Store,
    input: PutBucketVersioningInput,
) -> S3Result<PutBucketVersioningOutput> {
    let status = input.versioning_configuration.status;
    if status.is_none_or(|status| status.as_str() != BucketVersioningStatus::ENABLED) {
        return Err(s3_error!(NotImplemented));
    }
    bucket_mut(&mut store.buckets(), &input.bucket)?.versions = true;
    Ok(PutBucketVersioningOutput {})
}

pub(super) fn configuration(
    store: &Store,
    name: &str,
) -> S3Result<GetObjectLockConfigurationOutput> {
    let buckets = store.buckets();
    let bucket = bucket(&buckets, name)?;
    if !bucket.lock {
        return Err(s3_error!(ObjectLockConfigurationNotFoundError));
    }
    let rule = bucket.default_retention.map(|(compliance, days)| ObjectLockRule {
        default_retention: Some(DefaultRetention {
            days: i32::try_from(days).ok(),
            mode: Some(ObjectLockRetentionMode::from_static(mode_name(compliance))),
            years: None,
        }),
    });
    Ok(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(ObjectLockConfiguration {
            object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
            rule,
        }),
    })
}

pub(super) fn set_configuration(
    store: &Store,
    input: PutObjectLockConfigurationInput,
) -> S3Result<PutObjectLockConfigurationOutput> {
    let mut buckets = store.buckets();
    let bucket = bucket_mut(&mut buckets, &input.bucket)?;
    if !bucket.versions {
        return Err(s3_error!(InvalidBucketState));
    }
    bucket.lock = true;
    let rule = input.object_lock_configuration.and_then(|of| of.rule?.default_retention);
    bucket.default_retention = rule.and_then(|rule| {
        let days = u64::try_from(rule.days.or(rule.years.map(|years| years * 365))?).ok()?;
        Some((rule.mode.is_some_and(|mode| mode.as_str() == "COMPLIANCE"), days))
    });
    Ok(PutObjectLockConfigurationOutput::default())
}

fn mode_name(compliance: bool) -> &'static str {
    if compliance { "COMPLIANCE" } else { "GOVERNANCE" }
}

fn locked<'a>(
    buckets: &'a mut Buckets,
    name: &str,
    key: &str,
    version: Option<&str>,
) -> S3Result<&'a mut S3Object> {
    let bucket = bucket_mut(buckets, name)?;
    if !bucket.lock {
        return Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"));
    }
    let versions = bucket.keys.get_mut(key).ok_or_else(|| no_key(key))?;
    let found = match version {
        None => versions.last_mut(),
        Some(version) => versions.iter_mut().find(|of| of.id() == Some(version)),
    };
    match found {
        Some(Version::Object(object)) => Ok(object),
        Some(Version::Deleted { .. }) => Err(s3_error!(MethodNotAllowed)),
        None => Err(s3_error!(NoSuchVersion)),
    }
}

pub(super) fn retention(
    store: &Store,
    input: &GetObjectRetentionInput,
) -> S3Result<GetObjectRetentionOutput> {
    let mut buckets = store.buckets();
    let version = input.version_id.as_deref();
    let object = locked(&mut buckets, &input.bucket, &input.key, version)?;
    let Some(retention) = object.retention else {
        return Err(s3_error!(NoSuchObjectLockConfiguration));
    };
    Ok(GetObjectRetentionOutput {
        retention: Some(ObjectLockRetention {
            mode: Some(ObjectLockRetentionMode::from_static(mode_name(retention.compliance))),
            retain_until_date: Some(retention.until.into()),
        }),
    })
}

pub(super) fn set_retention(
    store: &Store,
    input: PutObjectRetentionInput,
) -> S3Result<PutObjectRetentionOutput> {
    let mut buckets = store.buckets();
    let now = buckets.now();
    let version = input.version_id.as_deref();
    let object = locked(&mut buckets, &input.bucket, &input.key, version)?;
    let asked = input.retention.and_then(|retention| {
        Some(Retention {
            compliance: retention.mode?.as_str() == "COMPLIANCE",
            until: system_time(&retention.retain_until_date?),
        })
    });
    let bypass = input.bypass_governance_retention.unwrap_or(false);
    if is_weaker(object.retention, asked, now, bypass) {
        return Err(s3_error!(
            AccessDenied,
            "Access Denied because object protected by object lock."
        ));
    }
    object.retention = asked;
    Ok(PutObjectRetentionOutput::default())
}

/// Whether a lock that holds would be shortened or made softer.
fn is_weaker(
    old: Option<Retention>,
    new: Option<Retention>,
    now: SystemTime,
    bypass: bool,
) -> bool {
    let Some(old) = old.filter(|old| old.until > now && (old.compliance || !bypass)) else {
        return false;
    };
    new.is_none_or(|new| new.until < old.until || (old.compliance && !new.compliance))
}
