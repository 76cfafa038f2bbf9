//! The S3 protocol on buckets in memory: what Holdfast uses, as AWS documents it. Any key is kept
//! as it is; listings have pages; versions, locks and cold classes are honoured.

mod body;
mod list;
mod lock;
mod read;
mod remove;
mod upload;
mod write;

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::store::{Bucket, Buckets, Store};

/// The server's side of the protocol.
#[derive(Debug, Clone)]
pub(super) struct Memory(pub(super) Arc<Store>);

type Answer<T> = S3Result<S3Response<T>>;

fn answer<T>(output: S3Result<T>) -> Answer<T> {
    output.map(S3Response::new)
}

fn bucket<'a>(buckets: &'a Buckets, name: &str) -> S3Result<&'a Bucket> {
    buckets.all.get(name).ok_or_else(|| s3_error!(NoSuchBucket, "no bucket {name}"))
}

fn bucket_mut<'a>(buckets: &'a mut Buckets, name: &str) -> S3Result<&'a mut Bucket> {
    buckets.all.get_mut(name).ok_or_else(|| s3_error!(NoSuchBucket, "no bucket {name}"))
}

fn no_key(key: &str) -> S3Error {
    s3_error!(NoSuchKey, "no key {key:?}")
}

fn etag(value: &str) -> ETag {
    ETag::Strong(value.to_owned())
}

#[async_trait::async_trait]
impl S3 for Memory {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        let mut buckets = self.0.buckets();
        let lock = req.input.object_lock_enabled_for_bucket.unwrap_or(false);
        if buckets.create(&req.input.bucket, lock, lock) {
            return answer(Ok(CreateBucketOutput::default()));
        }
        Err(s3_error!(BucketAlreadyOwnedByYou))
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        let mut buckets = self.0.buckets();
        if !bucket(&buckets, &req.input.bucket)?.keys.is_empty() {
            return Err(s3_error!(BucketNotEmpty));
        }
        buckets.all.remove(&req.input.bucket);
        answer(Ok(DeleteBucketOutput {}))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        bucket(&self.0.buckets(), &req.input.bucket)?;
        let bucket_region = Some(self.0.region.clone());
        answer(Ok(HeadBucketOutput { bucket_region, ..Default::default() }))
    }

    async fn list_buckets(&self, _: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let buckets = self.0.buckets();
        let all = buckets.all.iter().map(|(name, bucket)| s3s::dto::Bucket {
            creation_date: Some(bucket.created.into()),
            name: Some(name.clone()),
            bucket_region: None,
        });
        answer(Ok(ListBucketsOutput { buckets: Some(all.collect()), ..Default::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        bucket(&self.0.buckets(), &req.input.bucket)?;
        // The oldest region has no name here.
        let named = (self.0.region != "us-east-1").then(|| self.0.region.clone().into());
        answer(Ok(GetBucketLocationOutput { location_constraint: named }))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        answer(lock::versioning(&self.0, &req.input.bucket))
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        answer(lock::set_versioning(&self.0, req.input))
    }

    async fn get_object_lock_configuration(
        &self,
        req: S3Request<GetObjectLockConfigurationInput>,
    ) -> Answer<GetObjectLockConfigurationOutput> {
        answer(lock::configuration(&self.0, &req.input.bucket))
    }

    async fn put_object_lock_configuration(
        &self,
        req: S3Request<PutObjectLockConfigurationInput>,
    ) -> Answer<PutObjectLockConfigurationOutput> {
        answer(lock::set_configuration(&self.0, req.input))
    }

    async fn get_object_retention(
        &self,
        req: S3Request<GetObjectRetentionInput>,
    ) -> Answer<GetObjectRetentionOutput> {
        answer(lock::retention(&self.0, &req.input))
    }

    async fn put_object_retention(
        &self,
        req: S3Request<PutObjectRetentionInput>,
    ) -> Answer<PutObjectRetentionOutput> {
        answer(lock::set_retention(&self.0, req.input))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        answer(write::put(&self.0, req).await)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        answer(write::copy(&self.0, req.input))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        answer(read::get(&self.0, req.input))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        answer(read::head(&self.0, req.input))
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        answer(read::tagging(&self.0, &req.input))
    }

    async fn restore_object(
        &self,
        req: S3Request<RestoreObjectInput>,
    ) -> Answer<RestoreObjectOutput> {
        answer(read::restore(&self.0, &req.input))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        answer(remove::one(&self.0, &req.input))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        answer(remove::many(&self.0, req))
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        answer(list::objects_v1(&self.0, req.input))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        answer(list::objects(&self.0, req.input))
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        answer(list::versions(&self.0, req.input))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        answer(upload::create(&self.0, req.input))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        answer(upload::part(&self.0, req).await)
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        answer(upload::complete(&self.0, req.input))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        answer(upload::abort(&self.0, &req.input))
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        answer(upload::list(&self.0, req.input))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        answer(upload::list_parts(&self.0, req.input))
    }
}
