//! The bucket itself, and objects that have to be brought back from an archive.

use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, GlacierJobParameters, RestoreRequest, Tier,
};

use super::error::{Class, S3Result};
use super::failure::{Failure, failure};
use super::record::Operation;
use super::{S3Client, USUAL_REGION};

impl S3Client {
    /// Looks whether the bucket is there and may be looked at.
    pub async fn head_bucket(&self) -> S3Result<()> {
        self.call(Operation::HeadBucket, "", false, |sdk| async move {
            let request = sdk.head_bucket().bucket(self.bucket());
            request.send().await.map_err(failure).map(|_| ())
        })
        .await
    }

    /// Makes the bucket in the region of the endpoint; with locks, if options ask for them. Fine if
    /// it is there and ours.
    pub async fn create_bucket(&self) -> S3Result<()> {
        let made = self.call(Operation::CreateBucket, "", false, |sdk| async move {
            let region = self.region().filter(|region| region != USUAL_REGION && region != "auto");
            let place = region.map(|region| {
                let region = BucketLocationConstraint::from(region.as_str());
                CreateBucketConfiguration::builder().location_constraint(region).build()
            });
            let request = sdk
                .create_bucket()
                .bucket(self.bucket())
                .set_create_bucket_configuration(place)
                .set_object_lock_enabled_for_bucket(self.options().object_lock.map(|_| true));
            request.send().await.map_err(failure).map(|_| ())
        });
        match made.await {
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(()),
            Err(error) if error.class == Class::BucketExists => {
                // Some say so of one's own as well.
                self.head_bucket().await.map_err(|_| error)
            }
            other => other,
        }
    }

    /// Asks for an archived object to be readable for `days`. It takes minutes to days until it is;
    /// `true` if it is already.
    pub async fn restore_object(&self, key: &str, days: u32) -> S3Result<bool> {
        let days = i32::try_from(days.max(1)).unwrap_or(i32::MAX);
        let asked = self.call(Operation::RestoreObject, key, false, |sdk| async move {
            let tier = GlacierJobParameters::builder().tier(Tier::Standard).build();
            let tier = tier.map_err(|e| Failure::settings(e.to_string()))?;
            let wish = RestoreRequest::builder().days(days).glacier_job_parameters(tier).build();
            let request = sdk.restore_object().bucket(self.bucket()).key(key).restore_request(wish);
            request.send().await.map_err(failure).map(|_| ())
        });
        match asked.await {
            Ok(()) => Ok(false),
            Err(error) if error.code() == Some("RestoreAlreadyInProgress") => Ok(false),
            // It is in no archive.
            Err(error) if error.class == Class::ColdObject => Ok(true),
            Err(error) => Err(error),
        }
    }
}
