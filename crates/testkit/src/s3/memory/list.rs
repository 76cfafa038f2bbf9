//! Listings: by prefix and delimiter, in the order of the keys' bytes, page by page.

use std::collections::BTreeMap;
use std::ops::Bound;

use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::super::object::S3Object;
use super::super::store::{Store, Version, hex};
use super::{bucket, etag};

/// What a page of a listing shows.
struct Page<'a, T> {
    entries: Vec<(&'a String, &'a T)>,
    prefixes: Vec<String>,
    /// The last thing of this page (`true`: a common prefix), if there is more behind it.
    more: Option<(bool, String)>,
}

/// One page of `keys` behind `after` (`true`: behind all that begins so).
fn page<'a, T>(
    keys: &'a BTreeMap<String, T>,
    shown: impl Fn(&T) -> bool,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<(bool, &str)>,
    max: usize,
) -> Page<'a, T> {
    let mut page = Page { entries: Vec::new(), prefixes: Vec::new(), more: None };
    let mut last: Option<(bool, String)> = None;
    // What was rolled up is skipped as a whole.
    let mut rolled = after.filter(|(of_prefix, _)| *of_prefix).map(|(_, text)| text.to_owned());
    let start = match after {
        Some((_, text)) if text >= prefix => Bound::Excluded(text),
        _ => Bound::Included(prefix),
    };
    for (key, value) in keys.range::<str, _>((start, Bound::Unbounded)) {
        if !key.starts_with(prefix) {
            break;
        }
        if !shown(value) || rolled.as_ref().is_some_and(|rolled| key.starts_with(rolled)) {
            continue;
        }
        if page.entries.len() + page.prefixes.len() >= max {
            page.more = last;
            return page;
        }
        let rest = &key[prefix.len()..];
        match delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len())) {
            Some(end) => {
                let common = key[..prefix.len() + end].to_owned();
                page.prefixes.push(common.clone());
                rolled = Some(common.clone());
                last = Some((true, common));
            }
            None => {
                page.entries.push((key, value));
                last = Some((false, key.clone()));
            }
        }
    }
    page
}

/// As AWS encodes keys in listings when asked to: like a form.
fn encode(text: &str, encoding: Option<&EncodingType>) -> String {
    if encoding.is_none_or(|encoding| encoding.as_str() != EncodingType::URL) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(byte.into());
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn token(last: &(bool, String)) -> String {
    format!("{}{}", if last.0 { 'p' } else { 'k' }, hex(last.1.as_bytes()))
}

fn read_token(token: &str) -> S3Result<(bool, String)> {
    let wrong = || s3_error!(InvalidArgument, "The continuation token provided is incorrect");
    let digits = token.get(1..).ok_or_else(wrong)?.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    Ok((token.starts_with('p'), text))
}

fn is_shown(versions: &[Version]) -> bool {
    versions.last().is_some_and(|version| version.object().is_some())
}

fn listed(key: &str, object: &S3Object, encoding: Option<&EncodingType>) -> Object {
    let class = object.storage_class.as_deref().unwrap_or("STANDARD");
    Object {
        e_tag: Some(etag(&object.etag)),
        key: Some(encode(key, encoding)),
        last_modified: Some(object.modified.into()),
        size: i64::try_from(object.content.len()).ok(),
        storage_class: Some(class.to_owned().into()),
        ..Default::default()
    }
}

fn page_size(store: &Store, asked: Option<i32>) -> usize {
    usize::try_from(asked.unwrap_or(1000)).unwrap_or(0).min(store.page)
}

fn common(prefixes: &[String], encoding: Option<&EncodingType>) -> Option<Vec<CommonPrefix>> {
    let all = prefixes.iter().map(|prefix| CommonPrefix { prefix: Some(encode(prefix, encoding)) });
    Some(all.collect())
}

pub(super) fn objects(store: &Store, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let buckets = store.buckets();
    let bucket = bucket(&buckets, &input.bucket)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let token_given = input.continuation_token.as_deref().map(read_token).transpose()?;
    let after = match (&token_given, &input.start_after) {
        (Some((of_prefix, text)), _) => Some((*of_prefix, text.as_str())),
        (None, Some(text)) => Some((false, text.as_str())),
        (None, None) => None,
    };
    let max = page_size(store, input.max_keys);
    let page = page(&bucket.keys, |versions| is_shown(versions), prefix, delimiter, after, max);
    let encoding = input.encoding_type.as_ref();
    let contents: Vec<_> = page
        .entries
        .iter()
        .filter_map(|(key, versions)| Some(listed(key, versions.last()?.object()?, encoding)))
        .collect();
    Ok(ListObjectsV2Output {
        name: Some(input.bucket.clone()),
        max_keys: i32::try_from(max).ok(),
        key_count: i32::try_from(contents.len() + page.prefixes.len()).ok(),
        contents: Some(contents),
        common_prefixes: common(&page.prefixes, encoding),
        is_truncated: Some(page.more.is_some()),
        next_continuation_token: page.more.as_ref().map(token),
        continuation_token: input.continuation_token,
        start_after: input.start_after.map(|text| encode(&text, encoding)),
        prefix: Some(encode(prefix, encoding)),
        delimiter: delimiter.map(|text| encode(text, encoding)),
        encoding_type: input.encoding_type.clone(),
        ..Default::default()
    })
}

pub(super) fn objects_v1(store: &Store, input: ListObjectsInput) -> S3Result<ListObjectsOutput> {
    let buckets = store.buckets();
    let bucket = bucket(&buckets, &input.bucket)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    // A marker that is a common prefix stands for all in it.
    let marker = input.marker.as_deref().filter(|marker| !marker.is_empty());
    let after = marker.map(|m| (delimiter.is_some_and(|delimiter| m.ends_with(delimiter)), m));
    let max = page_size(store, input.max_keys);
    let page = page(&bucket.keys, |versions| is_shown(versions), prefix, delimiter, after, max);
    let encoding = input.encoding_type.as_ref();
    let contents: Vec<_> = page
        .entries
        .iter()
        .filter_map(|(key, versions)| Some(listed(key, versions.last()?.object()?, encoding)))
        .collect();
    Ok(ListObjectsOutput {
        name: Some(input.bucket.clone()),
        max_keys: i32::try_from(max).ok(),
        contents: Some(contents),
        common_prefixes: common(&page.prefixes, encoding),
        is_truncated: Some(page.more.is_some()),
        next_marker: page.more.as_ref().map(|(_, text)| encode(text, encoding)),
        marker: input.marker.as_deref().map(|text| encode(text, encoding)),
        prefix: Some(encode(prefix, encoding)),
        delimiter: delimiter.map(|text| encode(text, encoding)),
        encoding_type: input.encoding_type.clone(),
        ..Default::default()
    })
}

/// Versions of one key are not divided between pages: a page is full when it has that many keys,
/// and ends with all versions of the last of them.
pub(super) fn versions(
    store: &Store,
    input: ListObjectVersionsInput,
) -> S3Result<ListObjectVersionsOutput> {
    let buckets = store.buckets();
    let bucket = bucket(&buckets, &input.bucket)?;
    let prefix = input.prefix.as_deref().unwrap_or_default();
    let delimiter = input.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
    let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let after = marker.map(|m| (delimiter.is_some_and(|delimiter| m.ends_with(delimiter)), m));
    let max = page_size(store, input.max_keys);
    let page = page(&bucket.keys, |_| true, prefix, delimiter, after, max);
    let encoding = input.encoding_type.as_ref();
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for (key, of_key) in &page.entries {
        for (at, version) in of_key.iter().enumerate().rev() {
            let is_latest = Some(at + 1 == of_key.len());
            let version_id = Some(version.id().unwrap_or("null").to_owned());
            match version {
                Version::Deleted { modified, .. } => markers.push(DeleteMarkerEntry {
                    is_latest,
                    key: Some(encode(key, encoding)),
                    last_modified: Some((*modified).into()),
                    version_id,
                    ..Default::default()
                }),
                Version::Object(object) => versions.push(ObjectVersion {
                    e_tag: Some(etag(&object.etag)),
                    is_latest,
                    key: Some(encode(key, encoding)),
                    last_modified: Some(object.modified.into()),
                    size: i64::try_from(object.content.len()).ok(),
                    version_id,
                    ..Default::default()
                }),
            }
        }
    }
    Ok(ListObjectVersionsOutput {
        name: Some(input.bucket.clone()),
        versions: Some(versions),
        delete_markers: Some(markers),
        common_prefixes: common(&page.prefixes, encoding),
        is_truncated: Some(page.more.is_some()),
        next_key_marker: page.more.as_ref().map(|(_, text)| encode(text, encoding)),
        key_marker: input.key_marker.as_deref().map(|text| encode(text, encoding)),
        prefix: Some(encode(prefix, encoding)),
        encoding_type: input.encoding_type.clone(),
        ..Default::default()
    })
}
