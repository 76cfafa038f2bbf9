//! Large objects in parts. Parts may be sent many at a time and in any order; nothing shows until
//! all of them are there. An upload that is dropped is given up, so that its parts cost nothing.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ObjectLockMode, StorageClass};
use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::error::S3Result;
use super::failure::{Failure, failure};
use super::http::Slow;
use super::objects::{Put, Stored, unquoted};
use super::record::Operation;
use super::{S3Client, write::http_date};
use crate::locked;

/// Parts of one object at once; the limiter counts them too.
const AT_ONCE: usize = 4;

/// An object that is sent in parts.
#[derive(Debug)]
pub struct Multipart {
    client: S3Client,
    key: String,
    /// `None` once completed or given up.
    id: Option<String>,
    parts: Mutex<BTreeMap<i32, CompletedPart>>,
}

impl S3Client {
    /// Starts an object that is sent in parts. Of `how`, checksum and `once` say nothing here.
    pub async fn upload(&self, key: &str, how: &Put) -> S3Result<Multipart> {
        let id = self.call(Operation::CreateMultipartUpload, key, false, |sdk| async move {
            let headers = how.headers.clone();
            let (sse, kms) = self.sse();
            let request = sdk
                .create_multipart_upload()
                .bucket(self.bucket())
                .key(key)
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
            let answer = request.send().await.map_err(failure)?;
            let missing = || Failure::late(super::Class::Other, "the upload has no name");
            answer.upload_id.ok_or_else(missing)
        });
        let id = Some(id.await?);
        Ok(Multipart { client: self.clone(), key: key.to_owned(), id, parts: Mutex::default() })
    }

    /// Stores an object in parts of `part` bytes, at least 5 MiB.
    pub async fn put_in_parts(
        &self,
        key: &str,
        bytes: Bytes,
        part: usize,
        how: &Put,
    ) -> S3Result<Stored> {
        let mut upload = self.upload(key, how).await?;
        let part = part.max(5 << 20);
        let (sent, all) = (&upload, &bytes);
        stream::iter((0..all.len()).step_by(part).zip(1..))
            .map(|(start, number)| async move {
                sent.part(number, all.slice(start..all.len().min(start + part))).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        upload.complete(how.only_if_absent).await
    }
}

impl Multipart {
    /// Sends part `number`, from 1. All but the last are at least 5 MiB long.
    pub async fn part(&self, number: i32, bytes: Bytes) -> S3Result<()> {
        let md5 = BASE64.encode(&md5::compute(&bytes).0);
        let (client, key, bytes, md5) = (&self.client, &self.key, &bytes, &md5);
        let etag = client.call(Operation::UploadPart, key, false, |sdk| async move {
            let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
            let request = sdk
                .upload_part()
                .bucket(client.bucket())
                .key(key)
                .set_upload_id(self.id.clone())
                .part_number(number)
                .content_length(length)
                .content_md5(md5)
                .body(ByteStream::from(bytes.clone()));
            Ok(request.send().await.map_err(failure)?.e_tag)
        });
        let etag = etag.await?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(etag).build();
        locked(&self.parts).insert(number, part);
        Ok(())
    }

    /// Makes the object of the parts. It is asked for once: what becomes of an answer that is lost,
    /// the caller finds out. After a refusal it may be called again.
    pub async fn complete(&mut self, only_if_absent: bool) -> S3Result<Stored> {
        let parts: Vec<_> = locked(&self.parts).values().cloned().collect();
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let (client, key, id, parts) = (&self.client, &self.key, &self.id, &parts);
        let operation = Operation::CompleteMultipartUpload;
        let stored = client.call(operation, key, true, |sdk| async move {
            let slow = |request: &mut aws_sdk_s3::config::http::HttpRequest| {
                request.add_extension(Slow);
            };
            let request = sdk
                .complete_multipart_upload()
                .bucket(client.bucket())
                .key(key)
                .set_upload_id(id.clone())
                .set_if_none_match(only_if_absent.then(|| "*".into()))
                .multipart_upload(parts.clone());
            let answer = request.customize().mutate_request(slow).send().await.map_err(failure)?;
            let version_id = answer.version_id;
            Ok(Stored { etag: unquoted(answer.e_tag.as_deref()), version_id })
        });
        let stored = stored.await?;
        self.id = None;
        Ok(stored)
    }

    /// Gives it up: the server removes its parts.
    pub async fn abort(mut self) -> S3Result<()> {
        match self.id.take() {
            Some(id) => abort(&self.client, &self.key, &id).await,
            None => Ok(()),
        }
    }
}

pub(super) async fn abort(client: &S3Client, key: &str, id: &str) -> S3Result<()> {
    let gone = client.call(Operation::AbortMultipartUpload, key, false, |sdk| async move {
        let request = sdk.abort_multipart_upload().bucket(client.bucket()).key(key).upload_id(id);
        request.send().await.map_err(failure).map(|_| ())
    });
    match gone.await {
        Err(error) if error.is_no_such_key() => Ok(()),
        other => other,
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let (client, key) = (self.client.clone(), std::mem::take(&mut self.key));
        self.client.runtime().spawn(async move {
            // Nobody is told; a rule of the bucket may clean up what stays.
            let _ = abort(&client, &key, &id).await;
        });
    }
}
