//! Uploads in parts that were begun and neither completed nor given up: listed and removed, since
//! their parts are stored and paid for until then.

use aws_sdk_s3::types::EncodingType;

use super::error::{Class, S3Result};
use super::failure::{Failure, failure};
use super::list::decoded;
use super::record::Operation;
use super::{S3Client, multipart};

/// An upload that has not become an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The full key that it was to have.
    pub key: String,
    /// When it was begun, by the server's clock, in seconds since the epoch.
    pub begun: i64,
    id: String,
}

/// Where a page of the listing begins: key and upload.
type Markers = (Option<String>, Option<String>);

impl S3Client {
    /// The open uploads of keys that begin with `prefix`.
    pub async fn open_uploads(&self, prefix: &str) -> S3Result<Vec<OpenUpload>> {
        let mut all = Vec::new();
        let mut next: Option<Markers> = Some((None, None));
        while let Some(markers) = next {
            let following = self.uploads_page(prefix, &markers, &mut all).await?;
            if following.as_ref() == Some(&markers) {
                let what = "the server sends the same page of uploads again and again";
                let failure = Failure::late(Class::Other, what);
                return Err(self.error(failure, Operation::ListMultipartUploads, prefix));
            }
            next = following;
        }
        Ok(all)
    }

    /// Removes an upload and its parts. One that is gone is fine.
    pub async fn abort_upload(&self, upload: &OpenUpload) -> S3Result<()> {
        multipart::abort(self, &upload.key, &upload.id).await
    }

    /// Adds the uploads of a page to `all`. Where the next one begins, if there is one.
    async fn uploads_page(
        &self,
        prefix: &str,
        markers: &Markers,
        all: &mut Vec<OpenUpload>,
    ) -> S3Result<Option<Markers>> {
        let page = self.call(Operation::ListMultipartUploads, "", false, |sdk| async move {
            let request = sdk
                .list_multipart_uploads()
                .bucket(self.bucket())
                .set_prefix((!prefix.is_empty()).then(|| prefix.to_owned()))
                .set_key_marker(markers.0.clone())
                .set_upload_id_marker(markers.1.clone())
                .encoding_type(EncodingType::Url);
            let answer = request.send().await.map_err(failure)?;
            // Not every server does so when asked.
            let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
            let decoded = |text: &str| match is_encoded {
                true => decoded(text),
                false => Some(text.to_owned()),
            };
            let mut found = Vec::with_capacity(answer.uploads().len());
            for upload in answer.uploads() {
                let (key, id) = (upload.key().and_then(decoded), upload.upload_id());
                let (Some(key), Some(id), Some(begun)) = (key, id, upload.initiated()) else {
                    let what = "an upload of the listing has no readable key, name or time";
                    return Err(Failure::late(Class::Other, what));
                };
                // A server that ignores the prefix lists what is none of ours.
                if key.starts_with(prefix) {
                    found.push(OpenUpload { key, begun: begun.secs(), id: id.to_owned() });
                }
            }
            if answer.is_truncated() != Some(true) {
                return Ok((found, None));
            }
            let key = answer.next_key_marker().and_then(decoded);
            let id = answer.next_upload_id_marker().map(str::to_owned);
            if key.is_none() {
                let what = "a page of uploads without a way to the next one";
                return Err(Failure::late(Class::Other, what));
            }
            Ok((found, Some((key, id))))
        });
        let (mut found, following) = page.await?;
        all.append(&mut found);
        Ok(following)
    }
}
