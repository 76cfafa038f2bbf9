//! What can go wrong with a request, in classes that callers and hints decide on, with the server's
//! own words kept. No secret is ever in here: texts from outside are searched for keys first.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use super::record::Operation;

/// Result of a request.
pub type S3Result<T> = Result<T, S3Error>;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// An option or a local file that it names cannot be used.
    Settings,
    /// No address belongs to the endpoint's name.
    NameNotFound,
    /// Nobody listens there.
    Refused,
    /// No route, or another failure of the network before there was a connection.
    Unreachable,
    /// No answer in time, or no byte moved for too long.
    Timeout,
    /// The certificate is not trusted, or there is no TLS at the other end.
    Tls,
    /// The connection broke, or the answer ended too early.
    Disconnected,
    /// No keys were found, or the server does not know them.
    Credentials,
    /// The server knows the access key, and the secret does not fit.
    Signature,
    /// The clocks here and there differ by too much.
    ClockSkew,
    /// The keys may not do this; [`S3Error::action`] says what they lack.
    AccessDenied,
    /// There is no such bucket.
    NoSuchBucket,
    /// There is no such object.
    NoSuchKey,
    /// The bucket's name is taken.
    BucketExists,
    /// The bucket is in another region, which the server did not name or which did not help.
    WrongRegion,
    /// What answered is not S3.
    WrongEndpoint,
    /// The server asks for fewer requests, and went on doing so.
    SlowDown,
    /// No space or quota left.
    Quota,
    /// The object is archived: it has to be brought back before it can be read.
    ColdObject,
    /// A lock keeps the object from being removed or replaced.
    Locked,
    /// An object of that name is there, or is not the expected one.
    PreconditionFailed,
    /// The server cannot do this.
    NotImplemented,
    /// The server has no such storage class.
    InvalidStorageClass,
    /// The range lies beyond the object's end.
    InvalidRange,
    /// The bytes that arrived are not those that were sent.
    Checksum,
    /// The server failed.
    Server,
    /// Anything else.
    Other,
}

/// How far a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Options, certificates, keys.
    Settings,
    /// Name to addresses.
    Resolve,
    /// TCP, or the way through a proxy.
    Connect,
    /// Certificate and ciphers.
    Tls,
    /// The request was on its way or answered.
    Request,
}

/// The server's answer to a request that failed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// S3's code, such as `NoSuchKey`; missing where there was no body.
    pub code: Option<String>,
    /// The server's words.
    pub message: Option<String>,
    /// For the provider's support.
    pub request_id: Option<String>,
    /// The bucket's region, where the server named it.
    pub region: Option<String>,
    /// The server's clock, seconds since the epoch.
    pub date: Option<i64>,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct S3Error {
    /// What kind of failure.
    pub class: Class,
    /// How far it came.
    pub stage: Stage,
    /// What was asked.
    pub operation: Operation,
    /// Bucket, or bucket and key.
    pub object: String,
    /// What the server said, if it answered.
    pub answer: Option<Box<Answer>>,
    pub(super) cause: Option<Arc<Cause>>,
    /// Whether the server may have done what it was asked this time.
    pub(super) may_be_done: bool,
    /// Whether it may have done so an earlier time, whose answer was lost.
    pub(super) was_repeated: bool,
}

/// A cause below, as text: the types below are not ours, and may hold requests with signatures.
#[derive(Debug)]
pub(super) struct Cause(pub(super) String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}

impl S3Error {
    /// The permission that the operation needs, as policies write it.
    pub fn action(&self) -> &'static str {
        self.operation.action()
    }

    /// S3's code, if the server sent one.
    pub fn code(&self) -> Option<&str> {
        self.answer.as_ref()?.code.as_deref()
    }

    /// Whether the server may have done what it was asked, or did so before and refused to do it
    /// twice.
    pub fn may_have_been_done(&self) -> bool {
        self.may_be_done || self.was_repeated
    }

    /// Whether the server may know a condition such as `If-None-Match`, and not what to do with it.
    pub fn is_refused_condition(&self) -> bool {
        self.class == Class::NotImplemented
            || matches!(self.code(), Some("InvalidArgument" | "InvalidRequest"))
    }

    /// Whether there is no such object. That the bucket is missing is something else.
    pub fn is_no_such_key(&self) -> bool {
        self.class == Class::NoSuchKey
    }
}

impl Class {
    /// In a few words.
    fn words(self) -> &'static str {
        match self {
            Self::Settings => "the settings cannot be used",
            Self::NameNotFound => "no address belongs to the endpoint's name",
            Self::Refused => "the connection was refused",
            Self::Unreachable => "the network does not lead there",
            Self::Timeout => "no answer in time",
            Self::Tls => "the encrypted connection failed",
            Self::Disconnected => "the connection broke",
            Self::Credentials => "no valid access key",
            Self::Signature => "the secret key does not fit the access key",
            Self::ClockSkew => "the clocks here and on the server differ by too much",
            Self::AccessDenied => "access denied",
            Self::NoSuchBucket => "no such bucket",
            Self::NoSuchKey => "no such object",
            Self::BucketExists => "the bucket's name is taken",
            Self::WrongRegion => "the bucket is in another region",
            Self::WrongEndpoint => "what answered is not S3",
            Self::SlowDown => "the server asks for fewer requests",
            Self::Quota => "no space left, or over quota",
            Self::ColdObject => "the object is archived and cannot be read now",
            Self::Locked => "a lock protects the object",
            Self::PreconditionFailed => "an object of this name is there, or has changed",
            Self::NotImplemented => "the server does not support this",
            Self::InvalidStorageClass => "the server has no such storage class",
            Self::InvalidRange => "the range lies beyond the object's end",
            Self::Checksum => "the bytes were changed on their way",
            Self::Server => "the server failed",
            Self::Other => "the request failed",
        }
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.object, self.class.words())?;
        if self.class == Class::AccessDenied {
            write!(f, " (needs {})", self.action())?;
        }
        let Some(answer) = &self.answer else { return Ok(()) };
        write!(f, " (server: ")?;
        if let Some(message) = answer.message.as_deref().filter(|message| !message.is_empty()) {
            write!(f, "{message}, ")?;
        }
        match &answer.code {
            Some(code) => write!(f, "{code}, status {}", answer.status)?,
            None => write!(f, "status {}", answer.status)?,
        }
        if let Some(id) = &answer.request_id {
            write!(f, ", request {id}")?;
        }
        write!(f, ")")
    }
}

impl StdError for S3Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// The class of an answer, from its code or, where there is none, from its status.
pub(super) fn class_of(answer: &Answer, operation: Operation) -> Class {
    let message = answer.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    let Some(code) = answer.code.as_deref() else { return class_of_status(answer, operation) };
    match code {
        "InvalidAccessKeyId"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException" => Class::Credentials,
        "SignatureDoesNotMatch" => Class::Signature,
        "RequestTimeTooSkewed" | "RequestExpired" => Class::ClockSkew,
        "NoSuchBucket" => Class::NoSuchBucket,
        "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" => Class::NoSuchKey,
        "BucketAlreadyExists" | "BucketAlreadyOwnedByYou" => Class::BucketExists,
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "Redirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => Class::WrongRegion,
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "BandwidthLimitExceeded"
        | "ServiceUnavailable"
        | "SlowDownRead"
        | "SlowDownWrite" => Class::SlowDown,
        "QuotaExceeded"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientStorage"
        | "XMinioStorageFull"
        | "EntityTooLargeForQuota"
        | "StorageQuotaExceeded"
        | "InsufficientCapacity" => Class::Quota,
        "InvalidObjectState" => Class::ColdObject,
        "ObjectLocked" | "InvalidRetentionPeriod" => Class::Locked,
        "PreconditionFailed" | "ConditionalRequestConflict" => Class::PreconditionFailed,
        "NotImplemented" | "MethodNotAllowed" | "XNotImplemented" => Class::NotImplemented,
        "InvalidStorageClass" => Class::InvalidStorageClass,
        "InvalidRange" => Class::InvalidRange,
        "BadDigest"
        | "InvalidDigest"
        | "XAmzContentSHA256Mismatch"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256MismatchError" => Class::Checksum,
        "RequestTimeout" => Class::Disconnected,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "InvalidPayer" | "Forbidden"
        | "UnauthorizedAccess" | "Unauthorized"
            if message.contains("worm")
                || message.contains("object lock")
                || message.contains("retention")
                || message.contains("legal hold") =>
        {
            Class::Locked
        }
        "AccessDenied" if message.contains("quota") => Class::Quota,
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "InvalidPayer" | "Forbidden"
        | "UnauthorizedAccess" | "Unauthorized" => Class::AccessDenied,
        "InternalError" => Class::Server,
        _ => match answer.status {
            507 => Class::Quota,
            429 | 503 => Class::SlowDown,
            500.. => Class::Server,
            _ => Class::Other,
        },
    }
}

/// Answers to HEAD have no body, and proxies have bodies of their own.
fn class_of_status(answer: &Answer, operation: Operation) -> Class {
    match answer.status {
        301 | 307 | 308 => Class::WrongRegion,
        400 if answer.region.is_some() => Class::WrongRegion,
        401 | 403 => Class::AccessDenied,
        404 if operation.is_of_bucket() => Class::NoSuchBucket,
        404 => Class::NoSuchKey,
        405 | 501 => Class::NotImplemented,
        408 => Class::Disconnected,
        409 | 412 => Class::PreconditionFailed,
        416 => Class::InvalidRange,
        429 | 503 => Class::SlowDown,
        507 => Class::Quota,
        500.. => Class::Server,
        _ => Class::Other,
    }
}

/// A text from outside without what looks like a key or a signature, and without control
/// characters.
pub(super) fn scrubbed(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(*secret, "…");
    }
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '%');
    let mut clean = String::new();
    let mut rest = text.as_str();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| is_of_token(c) != is_of_token(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        let is_access_key = (16..=128).contains(&run.len())
            && run.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
            && run.bytes().any(|c| c.is_ascii_uppercase());
        let is_signature = clean.ends_with("Signature=") || run.contains("Signature=");
        if is_access_key || is_signature {
            clean.push('…');
            continue;
        }
        for c in run.chars() {
            if c.is_control() { clean.push(' ') } else { clean.push(c) }
        }
    }
    clean.trim().chars().take(1000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str, message: &str) -> Class {
        let answer = Answer {
            status,
            code: (!code.is_empty()).then(|| code.into()),
            message: Some(message.into()),
            ..Answer::default()
        };
        class_of(&answer, Operation::GetObject)
    }

    #[test]
    fn classes_come_from_codes_then_from_the_status() {
        assert_eq!(class(403, "InvalidAccessKeyId", ""), Class::Credentials);
        assert_eq!(class(403, "SignatureDoesNotMatch", ""), Class::Signature);
        assert_eq!(class(403, "RequestTimeTooSkewed", ""), Class::ClockSkew);
        assert_eq!(class(403, "AccessDenied", "Access Denied"), Class::AccessDenied);
        let worm = "Access Denied because object protected by object lock.";
        assert_eq!(class(403, "AccessDenied", worm), Class::Locked);
        assert_eq!(class(400, "ObjectLocked", ""), Class::Locked);
        assert_eq!(class(403, "InvalidObjectState", ""), Class::ColdObject);
        assert_eq!(class(503, "SlowDown", ""), Class::SlowDown);
        assert_eq!(class(503, "", ""), Class::SlowDown);
        assert_eq!(class(503, "Whatever", ""), Class::SlowDown);
        assert_eq!(class(500, "InternalError", ""), Class::Server);
        assert_eq!(class(502, "", ""), Class::Server);
        assert_eq!(class(404, "", ""), Class::NoSuchKey);
        assert_eq!(class(404, "NoSuchBucket", ""), Class::NoSuchBucket);
        assert_eq!(class(301, "", ""), Class::WrongRegion);
        assert_eq!(class(400, "AuthorizationHeaderMalformed", ""), Class::WrongRegion);
        assert_eq!(class(400, "InvalidStorageClass", ""), Class::InvalidStorageClass);
        assert_eq!(class(412, "PreconditionFailed", ""), Class::PreconditionFailed);
        assert_eq!(class(400, "Surprise", ""), Class::Other);
        let answer = Answer { status: 404, ..Answer::default() };
        assert_eq!(class_of(&answer, Operation::HeadBucket), Class::NoSuchBucket);
    }

    #[test]
    fn keys_and_signatures_never_show() {
        let secrets = ["wJalrXUtnFEMI/K7MDENG", "minio"];
        let text = scrubbed(
            "key AKIAIOSFODNN7EXAMPLE, secret wJalrXUtnFEMI/K7MDENG of minio,\n\
             https://h/b?X-Amz-Signature=0a1b2c3d&x=Y, id 4442587FB7D0A2F9 and NoSuchKey",
            &secrets,
        );
        for gone in ["AKIA", "wJal", "minio", "0a1b", "\n"] {
            assert!(!text.contains(gone), "{gone}: {text}");
        }
        assert!(text.contains("https://h/b") && text.contains("NoSuchKey"), "{text}");
    }

    #[test]
    fn messages_name_the_request_the_object_and_the_answer() {
        let answer = Answer {
            status: 403,
            code: Some("AccessDenied".into()),
            message: Some("Access Denied".into()),
            request_id: Some("17".into()),
            ..Answer::default()
        };
        let error = S3Error {
            class: Class::AccessDenied,
            stage: Stage::Request,
            operation: Operation::PutObject,
            object: "b/k".into(),
            answer: Some(Box::new(answer)),
            cause: None,
            may_be_done: false,
            was_repeated: false,
        };
        assert_eq!(
            error.to_string(),
            "put object b/k: access denied (needs s3:PutObject) (server: Access Denied, \
             AccessDenied, status 403, request 17)"
        );
    }
}
