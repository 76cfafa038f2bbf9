//! Removing objects, one or many at a time.

use std::sync::atomic::Ordering;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use data_encoding::BASE64;
use futures_util::stream::{self, StreamExt};

use super::S3Client;
use super::error::{Answer, Class, S3Error, S3Result};
use super::failure::{Failure, failure};
use super::record::Operation;

/// As many as one request may name.
const BATCH: usize = 1000;
/// Single requests at once; the limiter counts them too.
const AT_ONCE: usize = 64;

impl S3Client {
    /// Removes an object. One that is not there is fine: servers do not tell. In a bucket with
    /// versions a marker covers it, and what it covers stays.
    pub async fn delete(&self, key: &str) -> S3Result<()> {
        let deleted = self.call(Operation::DeleteObject, key, false, |sdk| async move {
            let request = sdk.delete_object().bucket(self.bucket()).key(key);
            request.send().await.map_err(failure).map(|_| ())
        });
        match deleted.await {
            Err(error) if error.is_no_such_key() => Ok(()),
            other => other,
        }
    }

    /// Removes many objects. What is returned was not removed, and why.
    pub async fn delete_many(&self, keys: &[String]) -> S3Result<Vec<(String, S3Error)>> {
        let mut failed = Vec::new();
        for batch in keys.chunks(BATCH) {
            if !self.0.no_bulk_delete.load(Ordering::Relaxed) {
                match self.delete_batch(batch).await {
                    Ok(errors) => {
                        failed.extend(errors);
                        continue;
                    }
                    Err(error) if is_refused(&error) => {
                        self.0.no_bulk_delete.store(true, Ordering::Relaxed);
                    }
                    Err(error) => return Err(error),
                }
            }
            let mut answers = stream::iter(batch)
                .map(|key| async move { (key, self.delete(key).await) })
                .buffer_unordered(AT_ONCE);
            while let Some((key, answer)) = answers.next().await {
                if let Err(error) = answer {
                    failed.push((key.clone(), error));
                }
            }
        }
        Ok(failed)
    }

    async fn delete_batch(&self, keys: &[String]) -> S3Result<Vec<(String, S3Error)>> {
        let errors = self.call(Operation::DeleteObjects, "", false, |sdk| async move {
            let mut all = Delete::builder().quiet(true);
            for key in keys {
                let unusable = |e: &dyn std::fmt::Display| Failure::settings(e.to_string());
                let object = ObjectIdentifier::builder().key(key).build();
                all = all.objects(object.map_err(|e| unusable(&e))?);
            }
            let all = all.build().map_err(|e| Failure::settings(e.to_string()))?;
            // The checksum that every server knows, beside the SDK's.
            let with_md5 = |request: &mut aws_sdk_s3::config::http::HttpRequest| {
                let md5 = request.body().bytes().map(|bytes| BASE64.encode(&md5::compute(bytes).0));
                if let Some(md5) = md5 {
                    request.headers_mut().insert("content-md5", md5);
                }
            };
            let request = sdk.delete_objects().bucket(self.bucket()).delete(all).customize();
            let answer = request.mutate_request(with_md5).send().await.map_err(failure)?;
            Ok(answer.errors.unwrap_or_default())
        });
        let failed = errors.await?.into_iter().map(|error| {
            let key = error.key.unwrap_or_default();
            let answer = Answer {
                status: 200,
                code: error.code,
                message: error.message,
                ..Answer::default()
            };
            let failed = self.error(Failure::Answer(answer), Operation::DeleteObjects, &key);
            (key, failed)
        });
        Ok(failed.filter(|(_, error)| !error.is_no_such_key()).collect())
    }
}

/// The server does not do this by one request.
fn is_refused(error: &S3Error) -> bool {
    error.class == Class::NotImplemented
        || matches!(error.code(), Some("InvalidArgument" | "InvalidRequest" | "MalformedXML"))
}
