//! The kinds of requests, and a counter of what went over the wire.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of S3")]
pub enum Operation {
    GetObject,
    PutObject,
    CopyObject,
    HeadObject,
    ListObjects,
    DeleteObject,
    DeleteObjects,
    CreateMultipartUpload,
    UploadPart,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    HeadBucket,
    CreateBucket,
    RestoreObject,
    PutObjectRetention,
}

impl Operation {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::GetObject,
        Self::PutObject,
        Self::CopyObject,
        Self::HeadObject,
        Self::ListObjects,
        Self::DeleteObject,
        Self::DeleteObjects,
        Self::CreateMultipartUpload,
        Self::UploadPart,
        Self::CompleteMultipartUpload,
        Self::AbortMultipartUpload,
        Self::ListMultipartUploads,
        Self::HeadBucket,
        Self::CreateBucket,
        Self::RestoreObject,
        Self::PutObjectRetention,
    ];

    /// Words for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetObject => "get object",
            Self::PutObject => "put object",
            Self::CopyObject => "copy object",
            Self::HeadObject => "look at object",
            Self::ListObjects => "list objects of",
            Self::DeleteObject => "delete object",
            Self::DeleteObjects => "delete objects of",
            Self::CreateMultipartUpload => "start the upload of",
            Self::UploadPart => "upload a part of",
            Self::CompleteMultipartUpload => "complete the upload of",
            Self::AbortMultipartUpload => "give up the upload of",
            Self::ListMultipartUploads => "list unfinished uploads of",
            Self::HeadBucket => "look at bucket",
            Self::CreateBucket => "create bucket",
            Self::RestoreObject => "bring back object",
            Self::PutObjectRetention => "extend the lock of object",
        }
    }

    /// The permission that it needs, as policies write it.
    pub fn action(self) -> &'static str {
        match self {
            Self::GetObject | Self::HeadObject => "s3:GetObject",
            Self::PutObject
            | Self::CopyObject
            | Self::CreateMultipartUpload
            | Self::UploadPart
            | Self::CompleteMultipartUpload => "s3:PutObject",
            Self::ListObjects | Self::HeadBucket => "s3:ListBucket",
            Self::DeleteObject | Self::DeleteObjects => "s3:DeleteObject",
            Self::AbortMultipartUpload => "s3:AbortMultipartUpload",
            Self::ListMultipartUploads => "s3:ListBucketMultipartUploads",
            Self::CreateBucket => "s3:CreateBucket",
            Self::RestoreObject => "s3:RestoreObject",
            Self::PutObjectRetention => "s3:PutObjectRetention",
        }
    }

    /// Whether it is about the bucket and no single object.
    pub(super) fn is_of_bucket(self) -> bool {
        matches!(
            self,
            Self::ListObjects
                | Self::DeleteObjects
                | Self::ListMultipartUploads
                | Self::HeadBucket
                | Self::CreateBucket
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counts requests by kind, repeated ones each time, and bytes of bodies in both directions.
#[derive(Debug, Default)]
pub struct Recorder {
    requests: [AtomicU64; Operation::ALL.len()],
    sent: AtomicU64,
    received: AtomicU64,
}

impl Recorder {
    /// Requests of this kind so far.
    pub fn requests(&self, operation: Operation) -> u64 {
        self.requests.get(operation as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Requests of all kinds so far.
    pub fn total(&self) -> u64 {
        self.requests.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Bytes of bodies that were handed to connections.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of bodies that came from connections.
    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, operation: Operation) {
        if let Some(count) = self.requests.get(operation as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn add_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_counter_of_its_own() {
        let recorder = Recorder::default();
        for (i, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, i);
            recorder.count(operation);
            assert_eq!(recorder.requests(operation), 1);
        }
        assert_eq!(recorder.total(), Operation::ALL.len() as u64);
    }
}
