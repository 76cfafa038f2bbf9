//! Bodies: read to their end, and compared with what the client said of them.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use s3s::crypto::{Checksum, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::StreamingBlob;
use s3s::{S3Result, TrailingHeaders, s3_error};

/// A whole body. One that ends too early, or has another checksum than was told, is an error.
pub(super) async fn receive(
    body: Option<StreamingBlob>,
    length: Option<i64>,
    headers: &HeaderMap,
    trailing: Option<&TrailingHeaders>,
) -> S3Result<Bytes> {
    let mut bytes = BytesMut::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| s3_error!(IncompleteBody, "{error}"))?;
            bytes.extend_from_slice(&chunk);
        }
    }
    if length.is_some_and(|length| length != bytes.len() as i64) {
        return Err(s3_error!(IncompleteBody));
    }
    check(&bytes, headers)?;
    if let Some(trailing) = trailing {
        trailing.read(|headers| check(&bytes, headers)).transpose()?;
    }
    Ok(bytes.freeze())
}

fn check(bytes: &[u8], headers: &HeaderMap) -> S3Result<()> {
    let told = |name: &str| headers.get(name).map(|value| value.as_bytes());
    let mut wrong = None;
    let mut compare = |name: &'static str, sum: &dyn Fn() -> Vec<u8>| {
        if told(name).is_some_and(|told| told != base64(&sum()).as_bytes()) {
            wrong = Some(name);
        }
    };
    compare("content-md5", &|| Md5::checksum(bytes).as_ref().to_vec());
    compare("x-amz-checksum-crc32", &|| Crc32::checksum(bytes).to_vec());
    compare("x-amz-checksum-crc32c", &|| Crc32c::checksum(bytes).to_vec());
    compare("x-amz-checksum-crc64nvme", &|| Crc64Nvme::checksum(bytes).to_vec());
    compare("x-amz-checksum-sha1", &|| Sha1::checksum(bytes).as_ref().to_vec());
    compare("x-amz-checksum-sha256", &|| Sha256::checksum(bytes).as_ref().to_vec());
    match wrong {
        None => Ok(()),
        Some("content-md5") => Err(s3_error!(BadDigest)),
        Some(name) => Err(s3_error!(BadDigest, "{name} did not match what was received")),
    }
}

/// Standard alphabet, padded.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|i| u32::from(group.get(i).copied().unwrap_or(0)));
        let word = a << 16 | b << 8 | c;
        for digit in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit <= group.len() { letter.into() } else { '=' });
        }
    }
    text
}
