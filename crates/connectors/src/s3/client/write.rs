//! Storing objects by one request each.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::primitives::{ByteStream, DateTime, DateTimeFormat};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, MetadataDirective, ObjectLockMode, ObjectLockRetention,
    ObjectLockRetentionMode, ServerSideEncryption, StorageClass,
};
use aws_smithy_async::time::TimeSource;
use bytes::Bytes;
use data_encoding::BASE64;

use super::S3Client;
use super::error::{Class, S3Error, S3Result};
use super::failure::{Failure, failure};
use super::http::Fresh;
use super::objects::{Put, Stored, unquoted};
use super::options::Sse;
use super::record::Operation;

impl S3Client {
    /// Stores an object.
    pub async fn put(&self, key: &str, bytes: Bytes, how: &Put) -> S3Result<Stored> {
        loop {
            let sha256 = how.sha256.filter(|_| !self.0.no_sha256.load(Ordering::Relaxed));
            match self.put_with(key, &bytes, how, sha256).await {
                Err(error) if sha256.is_some() && is_refused_checksum(&error) => {
                    self.0.no_sha256.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
    }

    /// As `put`, with this checksum; without one, with the MD5 that every server knows.
    async fn put_with(
        &self,
        key: &str,
        bytes: &Bytes,
        how: &Put,
        sha256: Option<[u8; 32]>,
    ) -> S3Result<Stored> {
        let md5 = sha256.is_none().then(|| BASE64.encode(&md5::compute(bytes).0));
        let (sha256, md5) = (sha256.map(|sum| BASE64.encode(&sum)), &md5);
        let locked = how.lock_days.filter(|_| sha256.is_some());
        let algorithm = locked.map(|_| ChecksumAlgorithm::Sha256);
        let (sha256, algorithm) = (&sha256, &algorithm);
        self.call(Operation::PutObject, key, how.once, |sdk| async move {
            let headers = how.headers.clone();
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let (sse, kms) = self.sse();
            let request = sdk
                .put_object()
                .bucket(self.bucket())
                .key(key)
                .body(ByteStream::from(bytes.clone()))
                .content_length(length)
                .set_content_md5(md5.clone())
                .set_checksum_sha256(sha256.clone())
                // A lock wants the checksum announced, as well as sent.
                .set_checksum_algorithm(algorithm.clone())
                .set_if_none_match(how.only_if_absent.then(|| "*".into()))
                .set_content_type(headers.content_type)
                .set_content_encoding(headers.content_encoding)
                .set_content_language(headers.content_language)
                .set_content_disposition(headers.content_disposition)
                .set_cache_control(headers.cache_control)
                .set_expires(headers.expires.as_deref().and_then(http_date))
                .set_website_redirect_location(headers.website_redirect)
                .set_metadata(Some(headers.metadata.into_iter().collect()))
                .set_storage_class(how.storage_class.as_deref().map(StorageClass::from))
                .set_object_lock_mode(how.lock_days.map(|_| ObjectLockMode::Compliance))
                .set_object_lock_retain_until_date(self.locked_until(how))
                .set_server_side_encryption(sse)
                .set_ssekms_key_id(kms);
            let answer = match how.once {
                false => request.send().await,
                true => {
                    let fresh = |request: &mut aws_sdk_s3::config::http::HttpRequest| {
                        request.add_extension(Fresh);
                    };
                    request.customize().mutate_request(fresh).send().await
                }
            };
            let answer = answer.map_err(failure)?;
            let version_id = answer.version_id;
            Ok(Stored { etag: unquoted(answer.e_tag.as_deref()), version_id })
        })
        .await
    }

    /// Stores other headers with the object of this key and ETag; of another: `PreconditionFailed`.
    /// Its content is copied by the server, which does that up to 5 GB.
    pub async fn replace_headers(&self, key: &str, etag: Option<&str>, how: &Put) -> S3Result<()> {
        let from = format!("{}/{}", self.bucket(), encoded(key));
        let from = &from;
        self.call(Operation::CopyObject, key, false, |sdk| async move {
            let headers = how.headers.clone();
            let (sse, kms) = self.sse();
            let request = sdk
                .copy_object()
                .bucket(self.bucket())
                .key(key)
                .copy_source(from)
                .set_copy_source_if_match(etag.map(|etag| format!("\"{etag}\"")))
                .metadata_directive(MetadataDirective::Replace)
                .set_content_type(headers.content_type)
                .set_content_encoding(headers.content_encoding)
                .set_content_language(headers.content_language)
                .set_content_disposition(headers.content_disposition)
                .set_cache_control(headers.cache_control)
                .set_expires(headers.expires.as_deref().and_then(http_date))
                .set_website_redirect_location(headers.website_redirect)
                .set_metadata(Some(headers.metadata.into_iter().collect()))
                .set_storage_class(how.storage_class.as_deref().map(StorageClass::from))
                .set_server_side_encryption(sse)
                .set_ssekms_key_id(kms);
            request.send().await.map_err(failure).map(|_| ())
        })
        .await
    }

    /// Locks the newest version of an object for `days` from now, as it was locked when it was
    /// stored. A lock that lasts longer is refused to be shortened by every server.
    pub async fn lock_until(&self, key: &str, days: u32) -> S3Result<()> {
        self.call(Operation::PutObjectRetention, key, false, |sdk| async move {
            let retention = ObjectLockRetention::builder()
                .mode(ObjectLockRetentionMode::Compliance)
                .retain_until_date(self.after(days))
                .build();
            let request = sdk.put_object_retention().bucket(self.bucket()).key(key);
            request.retention(retention).send().await.map_err(failure).map(|_| ())
        })
        .await
    }

    /// Until when what is stored now is locked.
    pub(super) fn locked_until(&self, how: &Put) -> Option<DateTime> {
        how.lock_days.map(|days| self.after(days))
    }

    /// This many days from now, by the server's clock.
    fn after(&self, days: u32) -> DateTime {
        let days = Duration::from_secs(u64::from(days) * 24 * 60 * 60);
        let until = self.0.clock.now().checked_add(days).unwrap_or_else(SystemTime::now);
        // Whole seconds: not everybody reads more.
        DateTime::from_secs(DateTime::from(until).secs())
    }

    /// What the server shall encrypt with.
    pub(super) fn sse(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options().sse {
            None => (None, None),
            Some(Sse::S3) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    pub(super) fn bucket(&self) -> &str {
        &self.options().bucket
    }

    /// The error about the object of this key.
    pub(super) fn error(&self, failure: Failure, operation: Operation, key: &str) -> S3Error {
        let object = format!("{}/{key}", self.bucket());
        failure.error(operation, &object, &super::secrets(self.options()))
    }
}

/// Servers without this kind of checksum have many words for it; bytes that came changed have
/// another one.
fn is_refused_checksum(error: &S3Error) -> bool {
    error.class == Class::NotImplemented
        || matches!(error.code(), Some("InvalidArgument" | "InvalidRequest" | "MalformedHeader"))
}

/// A key as part of a URL.
fn encoded(key: &str) -> String {
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                text.push(byte.into());
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// A date as HTTP has it; what is none is left out, since no server would keep it.
pub(super) fn http_date(text: &str) -> Option<DateTime> {
    DateTime::from_str(text, DateTimeFormat::HttpDate).ok()
}
