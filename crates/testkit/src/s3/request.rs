//! What a request asks for, read from its method, path and query alone.

use http::{HeaderMap, Method, Uri};

/// Kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum S3Operation {
    /// PUT of an object in one piece.
    Put,
    /// PUT that copies an object within the server.
    Copy,
    /// GET of an object or of a range of it.
    Get,
    /// HEAD of an object.
    Head,
    /// DELETE of one object or version.
    Delete,
    /// POST that deletes many.
    DeleteMany,
    /// A page of a listing of objects.
    List,
    /// A page of a listing of versions.
    ListVersions,
    /// A multipart upload begins.
    CreateUpload,
    /// One part of it.
    UploadPart,
    /// It becomes an object.
    CompleteUpload,
    /// It is given up.
    AbortUpload,
    /// A page of a listing of uploads, or of the parts of one.
    ListUploads,
    /// PUT of a bucket.
    CreateBucket,
    /// HEAD of a bucket.
    HeadBucket,
    /// DELETE of a bucket.
    DeleteBucket,
    /// All buckets.
    ListBuckets,
    /// Retention of an object is read or set.
    Retention,
    /// A cold object is asked for.
    Restore,
    /// Settings of a bucket are read or set (location, versioning, lock).
    Settings,
    /// Anything else.
    Other,
}

/// Method, bucket (empty if there is none), key (empty if it is about the bucket) and query.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) operation: S3Operation,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: Vec<(String, String)>,
}

/// Reads a request. `domain`: under which buckets are host names.
pub(super) fn read(method: &Method, uri: &Uri, headers: &HeaderMap, domain: Option<&str>) -> Asked {
    let query: Vec<_> = uri.query().map_or_else(Vec::new, |query| {
        query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(name, true), decode(value, true))
            })
            .collect()
    });
    // One slash begins the path; what follows it may be a slash of the key.
    let path = decode(uri.path().strip_prefix('/').unwrap_or_default(), false);
    let host = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let of_host = match (host, domain) {
        (Some(host), Some(domain)) => {
            host.strip_suffix(domain).and_then(|bucket| bucket.strip_suffix('.'))
        }
        _ => None,
    };
    let (bucket, key) = match (of_host, path.split_once('/')) {
        (Some(bucket), _) => (bucket.to_owned(), path),
        (None, Some((bucket, key))) => (bucket.to_owned(), key.to_owned()),
        (None, None) => (path, String::new()),
    };
    let asks = |name: &str| query.iter().any(|(of, _)| of == name);
    let operation = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
        ("GET", true, _) => S3Operation::ListBuckets,
        ("HEAD", false, true) => S3Operation::HeadBucket,
        (_, false, true) if asks("location") || asks("versioning") || asks("object-lock") => {
            S3Operation::Settings
        }
        ("PUT", false, true) if query.is_empty() => S3Operation::CreateBucket,
        ("DELETE", false, true) if query.is_empty() => S3Operation::DeleteBucket,
        ("POST", false, true) if asks("delete") => S3Operation::DeleteMany,
        ("GET", false, true) if asks("versions") => S3Operation::ListVersions,
        ("GET", false, true) if asks("uploads") => S3Operation::ListUploads,
        ("GET", false, true) => S3Operation::List,
        (_, false, false) if asks("retention") || asks("legal-hold") => S3Operation::Retention,
        ("POST", false, false) if asks("restore") => S3Operation::Restore,
        ("POST", false, false) if asks("uploads") => S3Operation::CreateUpload,
        ("POST", false, false) if asks("uploadId") => S3Operation::CompleteUpload,
        ("PUT", false, false) if asks("uploadId") => S3Operation::UploadPart,
        ("DELETE", false, false) if asks("uploadId") => S3Operation::AbortUpload,
        ("GET", false, false) if asks("uploadId") => S3Operation::ListUploads,
        ("PUT", false, false) if headers.contains_key("x-amz-copy-source") => S3Operation::Copy,
        ("PUT", false, false) => S3Operation::Put,
        ("GET", false, false) => S3Operation::Get,
        ("HEAD", false, false) => S3Operation::Head,
        ("DELETE", false, false) => S3Operation::Delete,
        _ => S3Operation::Other,
    };
    Asked { operation, bucket, key, query }
}

/// The region a request was signed for.
pub(super) fn signed_region(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    text.split_once("Credential=")?.1.split('/').nth(2)
}

/// Percent-decoded; `+` is a space in a query.
fn decode(text: &str, query: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = text.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, escaped) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 2;
            }
            (b'+', _) if query => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any text.
pub(super) fn matches_pattern(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}
