//! Multipart uploads.

use std::time::SystemTime;

use bytes::BytesMut;
use s3s::crypto::{Checksum, Md5};
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Result, s3_error};

use super::super::object::S3Object;
use super::super::store::{Store, Upload, hex};
use super::{body, bucket, bucket_mut, etag, write};

/// All parts but the last are at least this big.
const LEAST: usize = 5 << 20;

fn no_upload(id: &str) -> S3Error {
    s3_error!(NoSuchUpload, "no upload {id}")
}

pub(super) fn create(
    store: &Store,
    input: CreateMultipartUploadInput,
) -> S3Result<CreateMultipartUploadOutput> {
    let mut input = input;
    let object = write::properties_of_upload(&mut input)?;
    let mut buckets = store.buckets();
    write::admit(&buckets, &input.bucket, &object)?;
    let (id, started) = (buckets.number("upload"), buckets.now());
    let upload = Upload { key: input.key.clone(), started, object, parts: Default::default() };
    bucket_mut(&mut buckets, &input.bucket)?.uploads.insert(id.clone(), upload);
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        ..Default::default()
    })
}

pub(super) async fn part(
    store: &Store,
    req: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let mut input = req.input;
    let trailing = req.trailing_headers.as_ref();
    let length = input.content_length;
    let content = body::receive(input.body.take(), length, &req.headers, trailing).await?;
    if !(1..=10_000).contains(&input.part_number) {
        return Err(s3_error!(InvalidArgument, "Part number must be 1 to 10000"));
    }
    let sum = hex(Md5::checksum(&content).as_ref());
    let mut buckets = store.buckets();
    let uploads = &mut bucket_mut(&mut buckets, &input.bucket)?.uploads;
    let upload = uploads.get_mut(&input.upload_id).ok_or_else(|| no_upload(&input.upload_id))?;
    upload.parts.insert(input.part_number, (content, sum.clone()));
    Ok(UploadPartOutput {
        e_tag: Some(etag(&sum)),
        checksum_sha256: input.checksum_sha256,
        ..Default::default()
    })
}

pub(super) fn complete(
    store: &Store,
    input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let mut buckets = store.buckets();
    write::may_write(
        &buckets,
        &input.bucket,
        &input.key,
        input.if_match.as_ref(),
        input.if_none_match.as_ref(),
    )?;
    let uploads = &mut bucket_mut(&mut buckets, &input.bucket)?.uploads;
    let upload = uploads.get(&input.upload_id).ok_or_else(|| no_upload(&input.upload_id))?;
    let object = assemble(upload, input.multipart_upload.and_then(|upload| upload.parts))?;
    uploads.remove(&input.upload_id);
    let stored =
        buckets.store(&input.bucket, &input.key, object).ok_or_else(|| s3_error!(NoSuchBucket))?;
    Ok(CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: Some(etag(&stored.etag)),
        version_id: stored.version,
        ..Default::default()
    })
}

fn assemble(upload: &Upload, parts: Option<Vec<CompletedPart>>) -> S3Result<S3Object> {
    let parts = parts.filter(|parts| !parts.is_empty()).ok_or_else(|| s3_error!(MalformedXML))?;
    let (mut content, mut sums, mut before) = (BytesMut::new(), Md5::new(), 0);
    for (at, part) in parts.iter().enumerate() {
        let number = part.part_number.unwrap_or(0);
        if number <= before {
            return Err(s3_error!(InvalidPartOrder));
        }
        before = number;
        let found = upload.parts.get(&number);
        let (bytes, _) = found
            .filter(|(_, sum)| part.e_tag.as_ref().is_some_and(|etag| etag.value() == sum))
            .ok_or_else(|| s3_error!(InvalidPart))?;
        if at + 1 < parts.len() && bytes.len() < LEAST {
            return Err(s3_error!(EntityTooSmall));
        }
        content.extend_from_slice(bytes);
        sums.update(Md5::checksum(bytes).as_ref());
    }
    let mut object = upload.object.clone();
    object.content = content.freeze();
    object.etag = format!("{}-{}", hex(sums.finalize().as_ref()), parts.len());
    Ok(object)
}

pub(super) fn abort(
    store: &Store,
    input: &AbortMultipartUploadInput,
) -> S3Result<AbortMultipartUploadOutput> {
    let mut buckets = store.buckets();
    let uploads = &mut bucket_mut(&mut buckets, &input.bucket)?.uploads;
    uploads.remove(&input.upload_id).ok_or_else(|| no_upload(&input.upload_id))?;
    Ok(AbortMultipartUploadOutput::default())
}

/// A page, in the order of keys, then of uploads.
pub(super) fn list(
    store: &Store,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let buckets = store.buckets();
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let after = match (input.key_marker.as_deref(), input.upload_id_marker.as_deref()) {
        (None, _) => None,
        // Without an upload: behind all of this key.
        (Some(key), id) => Some((key, id.unwrap_or("\u{10ffff}"))),
    };
    let uploads = bucket(&buckets, &input.bucket)?.uploads.iter();
    let mut shown: Vec<_> = uploads
        .map(|(id, upload)| (upload.key.as_str(), id.as_str(), upload.started))
        .filter(|(key, id, _)| key.starts_with(prefix) && Some((*key, *id)) > after)
        .collect();
    shown.sort_unstable();
    let is_truncated = shown.len() > store.page;
    shown.truncate(store.page);
    let last = shown.last().filter(|_| is_truncated);
    Ok(ListMultipartUploadsOutput {
        next_key_marker: last.map(|(key, ..)| (*key).to_owned()),
        next_upload_id_marker: last.map(|(_, id, _)| (*id).to_owned()),
        uploads: Some(shown.into_iter().map(listed).collect()),
        bucket: Some(input.bucket.clone()),
        is_truncated: Some(is_truncated),
        ..Default::default()
    })
}

fn listed((key, id, started): (&str, &str, SystemTime)) -> MultipartUpload {
    MultipartUpload {
        initiated: Some(started.into()),
        key: Some(key.to_owned()),
        upload_id: Some(id.to_owned()),
        ..Default::default()
    }
}

pub(super) fn list_parts(store: &Store, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let buckets = store.buckets();
    let uploads = &bucket(&buckets, &input.bucket)?.uploads;
    let upload = uploads.get(&input.upload_id).ok_or_else(|| no_upload(&input.upload_id))?;
    let part = |(number, (bytes, sum)): (&i32, &(bytes::Bytes, String))| Part {
        e_tag: Some(etag(sum)),
        part_number: Some(*number),
        size: i64::try_from(bytes.len()).ok(),
        ..Default::default()
    };
    Ok(ListPartsOutput {
        parts: Some(upload.parts.iter().map(part).collect()),
        bucket: Some(input.bucket.clone()),
        key: Some(input.key.clone()),
        upload_id: Some(input.upload_id.clone()),
        is_truncated: Some(false),
        ..Default::default()
    })
}
