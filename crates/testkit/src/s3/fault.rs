//! What goes wrong on purpose: rules that pick requests, and answers in the form that AWS
//! documents, lost replies, cut bodies and flipped bits.

use std::time::Duration;

use super::log::S3Request;
use super::request::{S3Operation, matches_pattern};

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Fault {
    /// It is refused, and has no effect.
    Refuse(S3Refusal),
    /// The connection is closed before it has an effect.
    CloseBefore,
    /// It takes effect, and the connection is closed instead of an answer.
    CloseAfter,
    /// It takes effect, and so many bytes of the answer's body come before the connection closes.
    Truncate(u64),
    /// It takes effect, and one bit in the middle of the answer's body is flipped.
    FlipBit,
    /// It is served so much later.
    Delay(Duration),
}

/// An error that the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Refusal {
    /// 403
    AccessDenied,
    /// 403
    InvalidAccessKeyId,
    /// 403
    SignatureDoesNotMatch,
    /// 400
    ExpiredToken,
    /// 403: the clocks differ by more than 15 minutes.
    RequestTimeTooSkewed,
    /// 503
    SlowDown,
    /// 503
    ServiceUnavailable,
    /// 500
    InternalError,
    /// 400: the client sent nothing for a while.
    RequestTimeout,
    /// 301: the bucket lives in this region.
    PermanentRedirect(String),
    /// 400: the request was signed for another region than this one.
    WrongRegion(String),
    /// 404
    NoSuchBucket,
    /// 404
    NoSuchKey,
    /// 403, as Ceph and MinIO say that a quota is used up.
    QuotaExceeded,
    /// 507
    InsufficientStorage,
    /// 403: the object is in a cold storage class.
    InvalidObjectState,
    /// 412
    PreconditionFailed,
    /// 501
    NotImplemented,
    /// 405
    MethodNotAllowed,
    /// Any other: status and code.
    Other(u16, &'static str),
}

impl S3Refusal {
    /// Status, code and message.
    fn parts(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::AccessDenied => (403, "AccessDenied", "Access Denied"),
            Self::InvalidAccessKeyId => (
                403,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            Self::SignatureDoesNotMatch => (
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. \
                 Check your key and signing method.",
            ),
            Self::ExpiredToken => (400, "ExpiredToken", "The provided token has expired."),
            Self::RequestTimeTooSkewed => (
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
            Self::SlowDown => (503, "SlowDown", "Please reduce your request rate."),
            Self::ServiceUnavailable => {
                (503, "ServiceUnavailable", "Service is unable to handle request.")
            }
            Self::InternalError => {
                (500, "InternalError", "We encountered an internal error. Please try again.")
            }
            Self::RequestTimeout => (
                400,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to within the \
                 timeout period. Idle connections will be closed.",
            ),
            Self::PermanentRedirect(_) => (
                301,
                "PermanentRedirect",
                "The bucket you are attempting to access must be addressed using the specified \
                 endpoint. Please send all future requests to this endpoint.",
            ),
            Self::WrongRegion(_) => (
                400,
                "AuthorizationHeaderMalformed",
                "The authorization header is malformed; the region is wrong",
            ),
            Self::NoSuchBucket => (404, "NoSuchBucket", "The specified bucket does not exist"),
            Self::NoSuchKey => (404, "NoSuchKey", "The specified key does not exist."),
            Self::QuotaExceeded => (403, "QuotaExceeded", "The quota of the bucket is used up."),
            Self::InsufficientStorage => {
                (507, "InsufficientStorage", "There is no space left for this request.")
            }
            Self::InvalidObjectState => (
                403,
                "InvalidObjectState",
                "The operation is not valid for the object's storage class",
            ),
            Self::PreconditionFailed => (
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            ),
            Self::NotImplemented => (
                501,
                "NotImplemented",
                "A header you provided implies functionality that is not implemented",
            ),
            Self::MethodNotAllowed => (
                405,
                "MethodNotAllowed",
                "The specified method is not allowed against this resource.",
            ),
            Self::Other(status, code) => (*status, code, "Made up by a test."),
        }
    }

    /// HTTP status.
    pub fn status(&self) -> u16 {
        self.parts().0
    }

    /// The region that the answer tells, if it tells one.
    pub(super) fn region(&self) -> Option<&str> {
        match self {
            Self::PermanentRedirect(region) | Self::WrongRegion(region) => Some(region),
            _ => None,
        }
    }

    /// The body of the answer, but for a HEAD.
    pub(super) fn xml(&self, request: &S3Request) -> String {
        let (_, code, message) = self.parts();
        let more = match self {
            Self::PermanentRedirect(region) => format!(
                "<Endpoint>{0}.s3.{region}.amazonaws.com</Endpoint><Bucket>{0}</Bucket>",
                escape(&request.bucket)
            ),
            Self::WrongRegion(region) => format!("<Region>{region}</Region>"),
            Self::NoSuchBucket => format!("<BucketName>{}</BucketName>", escape(&request.bucket)),
            Self::NoSuchKey => format!("<Key>{}</Key>", escape(&request.key)),
            Self::InvalidObjectState => "<StorageClass>GLACIER</StorageClass>".into(),
            Self::SignatureDoesNotMatch | Self::InvalidAccessKeyId => {
                "<AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId>".into()
            }
            _ => String::new(),
        };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
             <Message>{message}</Message>{more}<RequestId>4442587FB7D0A2F9</RequestId>\
             <HostId>made-up</HostId></Error>"
        )
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A fault and which requests meet it: all, until narrowed.
#[derive(Debug, Clone)]
pub struct S3Rule {
    fault: S3Fault,
    operations: Vec<S3Operation>,
    key: Option<String>,
    query: Option<String>,
    skip: u64,
    every: u64,
    left: Option<u64>,
    seen: u64,
}

impl S3Rule {
    /// This fault for every request.
    pub fn new(fault: S3Fault) -> Self {
        Self {
            fault,
            operations: Vec::new(),
            key: None,
            query: None,
            skip: 0,
            every: 1,
            left: None,
            seen: 0,
        }
    }

    /// This answer for every request.
    pub fn refuse(refusal: S3Refusal) -> Self {
        Self::new(S3Fault::Refuse(refusal))
    }

    /// Only requests of this kind; called again, of that kind too.
    pub fn on(mut self, operation: S3Operation) -> Self {
        self.operations.push(operation);
        self
    }

    /// Only keys of this pattern, in which `*` stands for any text.
    pub fn key(mut self, pattern: impl Into<String>) -> Self {
        self.key = Some(pattern.into());
        self
    }

    /// Only requests whose decoded query, written `name=value&…`, contains this.
    pub fn query(mut self, part: impl Into<String>) -> Self {
        self.query = Some(part.into());
        self
    }

    /// Not the first `count` of them.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Only each `n`th of them.
    pub fn every(mut self, n: u64) -> Self {
        self.every = n.max(1);
        self
    }

    /// So many times and no more.
    pub fn times(mut self, count: u64) -> Self {
        self.left = Some(count);
        self
    }

    /// Whether the rule strikes now; counts.
    pub(super) fn strike(&mut self, request: &S3Request) -> Option<S3Fault> {
        let fits = (self.operations.is_empty() || self.operations.contains(&request.operation))
            && self.key.as_ref().is_none_or(|pattern| matches_pattern(pattern, &request.key))
            && self.query.as_ref().is_none_or(|part| request.query_text().contains(part));
        if !fits {
            return None;
        }
        self.seen += 1;
        let due = self.seen > self.skip && (self.seen - self.skip).is_multiple_of(self.every);
        match &mut self.left {
            _ if !due => None,
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(self.fault.clone())
            }
            None => Some(self.fault.clone()),
        }
    }
}
